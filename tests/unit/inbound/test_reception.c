/* Messages on their way into the spool: large ones, and what happens when memory or the disk is short. */
#include "inbound/body_store.h"
#include "inbound_fixture.h"

/* A body of lines, deterministic, some of which begin with a (stuffed) dot. Malloc'ed, with the final dot. */
static char *make_body(size_t bytes, size_t *ret_length)
{
    char *body = malloc(bytes + 128);
    size_t length = 0;
    for (unsigned i = 0; length < bytes; i++) {
        length += (size_t)snprintf(body + length, 100, "%sline %u of a body that is long enough to matter %08x\r\n",
                                   i % 7 == 0 ? ".." : "", i, i * 2654435761u);
    }
    memcpy(body + length, ".\r\n", 3);
    *ret_length = length + 3;
    return body;
}

struct comparison {
    unsigned index;
    const char *body;
    size_t length;
    unsigned extents;
    bool equal;
};

static void compare(struct shard *shard, void *context)
{
    struct comparison *comparison = context;
    const struct stored *stored = &shard->spool->stored[comparison->index];
    comparison->extents = stored->extents;
    comparison->equal = stored->length - stored->prologue_length == comparison->length &&
                        memcmp(stored->data + stored->prologue_length, comparison->body, comparison->length) == 0;
}

static unsigned expect_stored(unsigned index, const char *body, size_t length)
{
    struct comparison comparison = {.index = index, .body = body, .length = length};
    fixture_look(0, compare, &comparison);
    assert_true(comparison.equal);
    return comparison.extents;
}

#define FIRST (BODY_FIRST_BYTES - BODY_HEAD_BYTES)
#define CHUNK (BODY_CHUNK_BYTES - BODY_HEAD_BYTES)
#define EXTENT (BODY_EXTENT_CHUNKS * CHUNK)   /* all but */
#define FIRST_EXTENT (EXTENT - CHUNK + FIRST) /* the first one, which begins with a small chunk */

static void test_sizes_around_the_extent(void **state)
{
    (void)state;
    fixture_defaults();
    fixture_start();
    int fd = client_ready();
    static const size_t sizes[] = {
        1, FIRST - 100, FIRST, FIRST + CHUNK, FIRST_EXTENT - 200, FIRST_EXTENT, FIRST_EXTENT + 200, 3 * EXTENT,
    };
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t length;
        char *body = make_body(sizes[i], &length);
        client_send(fd, TRANSACTION);
        client_send_bytes(fd, body, length);
        client_expect(fd, "250 250 354 250");
        unsigned extents = expect_stored(i, body, length);
        assert_int_equal(extents, length <= FIRST_EXTENT ? 0 : 1 + (length - FIRST_EXTENT - 1) / EXTENT);
        free(body);
    }
    close(fd);
    fixture_stop();
}

static void test_large(void **state)
{
    (void)state;
    fixture_defaults();
    fixture_start();
    size_t length;
    char *body = make_body(2u << 20, &length);
    int fd = client_ready();
    client_send(fd, TRANSACTION);
    client_send_bytes(fd, body, length);
    client_send(fd, TRANSACTION BODY);
    client_expect(fd, "250 250 354 250 250 250 354 250");
    assert_int_equal(expect_stored(0, body, length), 8);
    expect_stored(1, BODY, strlen(BODY));
    struct snapshot now = snapshot_of(0);
    assert_in_range(now.extents_in_flight_most, 1, BODY_STORE_EXTENTS_IN_FLIGHT);
    assert_true(now.body_memory_most <= 3 * LIMIT_EXTENT_BYTES + 2 * BODY_CHUNK_BYTES);
    assert_int_equal(now.body_memory, 0);
    assert_int_equal(now.extents_abandoned, 0);
    close(fd);
    free(body);
    fixture_stop();
}

struct sender {
    int fd;
    const char *body;
    size_t length;
};

static void *send_all(void *context)
{
    struct sender *sender = context;
    client_send_bytes(sender->fd, sender->body, sender->length);
    return NULL;
}

/* A disk that stands still: the client is held back, memory stays what it is, and nothing is lost when it goes on. */
static void test_back_pressure(void **state)
{
    (void)state;
    fixture_defaults();
    fixture.listener.timeouts.data_block_ms = 1000; /* waiting for the disk is not the client's fault */
    fixture_start();
    fixture_hold(true);
    int fd = client_ready();
    size_t length;
    char *body = make_body(24u << 20, &length);
    client_send(fd, TRANSACTION);
    client_expect(fd, "250 250 354");
    struct sender sender = {.fd = fd, .body = body, .length = length};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_all, &sender), 0);
    WAIT_FOR(now.extents_written == BODY_STORE_EXTENTS_IN_FLIGHT &&
             now.body_memory > 3 * LIMIT_EXTENT_BYTES - BODY_CHUNK_BYTES);
    uint64_t memory = snapshot_of(0).body_memory;
    pause_ms(1500);
    struct snapshot now = snapshot_of(0);
    assert_int_equal(now.body_memory, memory);
    assert_int_equal(now.extents_written, BODY_STORE_EXTENTS_IN_FLIGHT);
    assert_true(memory < 1u << 20);
    fixture_hold(false);
    client_expect(fd, "250");
    pthread_join(thread, NULL);
    expect_stored(0, body, length);
    close(fd);
    free(body);
    fixture_stop();
}

/* The client's time for the next octets begins when the disk goes on, also when all that it sent has been read by then.
 */
static void test_time_of_the_disk_is_not_the_clients(void **state)
{
    (void)state;
    fixture_defaults();
    fixture.listener.timeouts.data_block_ms = 1000;
    fixture_start();
    fixture_hold(true);
    int fd = client_ready();
    size_t length;
    char *body = make_body(4u << 20, &length);
    /* What its chunks hold before the reception stalls. */
    unsigned chunks = (BODY_STORE_EXTENTS_IN_FLIGHT + 1) * BODY_EXTENT_CHUNKS;
    size_t first = BODY_FIRST_BYTES + (chunks - 1) * BODY_CHUNK_BYTES - chunks * BODY_HEAD_BYTES;
    client_send(fd, TRANSACTION);
    client_expect(fd, "250 250 354");
    client_send_bytes(fd, body, first);
    WAIT_FOR(now.extents_written == BODY_STORE_EXTENTS_IN_FLIGHT &&
             now.body_memory > 3 * LIMIT_EXTENT_BYTES - BODY_CHUNK_BYTES);
    uint64_t memory = snapshot_of(0).body_memory;
    client_send_bytes(fd, body + first, 100);
    WAIT_FOR(now.body_memory > memory);
    pause_ms(1500);
    fixture_hold(false);
    pause_ms(200);
    first += 100;
    client_send_bytes(fd, body + first, length - first);
    client_expect(fd, "250");
    expect_stored(0, body, length);
    close(fd);
    free(body);
    fixture_stop();
}

/* Extents of a message that never comes are given back, those in flight too. */
static void test_abandoned(void **state)
{
    (void)state;
    fixture_defaults();
    fixture_start();
    size_t length;
    char *body = make_body(1u << 20, &length);
    for (unsigned way = 0; way < 3; way++) {
        struct snapshot before = snapshot_of(0);
        fixture_hold(way == 1);
        int fd = client_ready();
        client_send(fd, TRANSACTION);
        if (way == 2) { /* refused for a bare line feed in the end */
            client_send_bytes(fd, body, length - 3);
            client_send(fd, "bare\nline feed\r\n.\r\n");
            client_expect(fd, "250 250 354 550");
            client_send(fd, TRANSACTION BODY);
            client_expect(fd, "250 250 354 250");
        } else {
            client_send_bytes(fd, body, 600000);
            WAIT_FOR(now.extents_written >= before.extents_written + 2);
        }
        client_reset(fd);
        WAIT_FOR(now.sessions == 0);
        assert_int_equal(snapshot_of(0).receptions, way == 1);
        fixture_hold(false);
        WAIT_FOR(now.receptions == 0 && now.extents_abandoned == now.extents_written);
        assert_int_equal(snapshot_of(0).body_memory, 0);
    }
    free(body);
    fixture_stop();
}

/* The pool is for all sessions of a shard: who finds it empty is refused, later and politely, and nobody waits for it.
 */
static void test_pool_exhausted(void **state)
{
    (void)state;
    fixture_defaults();
    fixture.settings.body_memory_bytes_max = 2 * BODY_FIRST_BYTES + 2 * BODY_CHUNK_BYTES;
    fixture_start();
    int slow = client_ready();
    client_send(slow, TRANSACTION "beginning\r\n");
    client_expect(slow, "250 250 354");
    size_t length;
    char *body = make_body(4 * BODY_CHUNK_BYTES, &length);
    int fd = client_ready();
    char line[600];
    for (unsigned i = 0; i < 2; i++) {
        client_send(fd, TRANSACTION);
        client_send_bytes(fd, body, length);
        client_expect(fd, "250 250 354");
        assert_int_equal(client_reply_text(fd, line, sizeof line), 452);
        assert_memory_equal(line, "452 4.3.1 ", 10);
    }
    client_send(fd, TRANSACTION BODY);
    client_expect(fd, "250 250 354 250");
    client_send(slow, "end\r\n.\r\n");
    client_expect(slow, "250");
    close(slow);
    close(fd);
    free(body);
    WAIT_FOR(now.sessions == 0 && now.body_memory == 0);
    assert_int_equal(snapshot_of(0).rejected, 2);
    fixture_stop();
}

static void test_disk_fails_under_an_extent(void **state)
{
    (void)state;
    fixture_defaults();
    fixture_start();
    size_t length;
    char *body = make_body(1u << 20, &length);
    static const struct {
        enum err err;
        const char *codes;
    } cases[] = {{ERR_NO_SPACE, "250 250 354 452"}, {ERR_IO, "250 250 354 451"}, {ERR_OK, "250 250 354 250"}};
    int fd = client_ready();
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture_errors(cases[i].err);
        client_send(fd, TRANSACTION);
        client_send_bytes(fd, body, length);
        client_expect(fd, cases[i].codes);
    }
    expect_stored(0, body, length);
    close(fd);
    free(body);
    fixture_stop();
}

/* The envelope and the table of its recipients grow as far as they have to, and their memory counts. */
static void test_many_recipients(void **state)
{
    (void)state;
    fixture_defaults();
    fixture_start();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com>\r\n");
    client_expect(fd, "250");
    for (unsigned i = 0; i < 1000; i++) {
        char command[64];
        snprintf(command, sizeof command, "RCPT TO:<recipient-%04u@example.org>\r\n", i);
        client_send(fd, command);
        client_expect(fd, "250");
    }
    assert_int_equal(snapshot_of(0).body_memory, 32768 + 8192);
    client_send(fd, "RCPT TO:<one-too-many@example.org>\r\n");
    client_expect(fd, "452");
    client_send(fd, "DATA\r\n" BODY);
    client_expect(fd, "354 250");
    expect_stored(0, BODY, strlen(BODY));
    WAIT_FOR(now.body_memory == 0);
    close(fd);
    fixture_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_around_the_extent),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_time_of_the_disk_is_not_the_clients),
        cmocka_unit_test(test_abandoned),
        cmocka_unit_test(test_pool_exhausted),
        cmocka_unit_test(test_disk_fails_under_an_extent),
        cmocka_unit_test(test_many_recipients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
