/* Sessions that wait for a mail filter, which does what a script says: what becomes of memory and of the spool when
 * messages are written anew, and when the filter, the client or the disk fails in the middle of it. What filters are
 * told and may ask for is in tests/e2e/test_milter.py. */
#include <sys/un.h>

#include "inbound_fixture.h"

#define SOCKET_PATH "/tmp/ringpost-test-filter"
#define SCRIPT_MAX 64

struct answer {
    const char *data; /* a packet without its length; NULL: close */
    size_t length;
};

/* The answers to the end of the message; everything else is to go on. */
static struct answer script[SCRIPT_MAX];
static unsigned script_length;
static _Atomic char silent_at; /* the letter of a step that is not answered yet */
static _Atomic uint64_t body_bytes;
static _Atomic unsigned data_steps;
static int filter_listener;
static pthread_t filter_thread;
static char path[64];

static bool read_all(int fd, void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t got = recv(fd, (char *)data + done, length - done, 0);
        if (got <= 0) {
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

static bool say(int fd, const char *data, size_t length)
{
    uint32_t head = htonl((uint32_t)length);
    return send(fd, &head, sizeof head, MSG_NOSIGNAL | MSG_MORE) == sizeof head &&
           send(fd, data, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static bool play_script(int fd)
{
    for (unsigned i = 0; i < script_length; i++) {
        if (script[i].data == NULL || !say(fd, script[i].data, script[i].length)) {
            return false;
        }
    }
    return true;
}

static bool answer(int fd)
{
    static char data[1 << 17];
    uint32_t length;
    if (!read_all(fd, &length, sizeof length)) {
        return false;
    }
    length = ntohl(length);
    assert_true(length >= 1 && length <= sizeof data);
    if (!read_all(fd, data, length)) {
        return false;
    }
    switch (data[0]) {
    case 'O': return say(fd, "O\0\0\0\6\0\0\1\377\0\0\0\0", 13);
    case 'D':
    case 'A': return true;
    case 'Q': return false;
    case 'B': body_bytes += length - 1; return say(fd, "c", 1);
    case 'T':
        data_steps++;
        while (silent_at == 'T') {
            pause_ms(1);
        }
        return say(fd, "c", 1);
    case 'M':
        while (silent_at == 'M') {
            pause_ms(1);
        }
        return say(fd, "c", 1);
    case 'E':
        while (silent_at == 'E') {
            pause_ms(1);
        }
        return play_script(fd);
    default: return say(fd, "c", 1);
    }
}

static void *run_filter(void *context)
{
    int fd;
    (void)context;
    while ((fd = accept(filter_listener, NULL, NULL)) >= 0) {
        while (answer(fd)) {
        }
        close(fd);
    }
    return NULL;
}

static struct inbound_filter filter;

static void set_up(enum inbound_filter_failure failure)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    fixture_defaults();
    snprintf(path, sizeof path, SOCKET_PATH "-%d", (int)getpid());
    unlink(path);
    memcpy(address.sun_path, path, strlen(path));
    filter = (struct inbound_filter){
        .name = "f", .failure = failure, .connect_ms = 5000, .command_ms = 5000, .content_ms = 5000};
    filter.endpoint.length = sizeof address;
    memcpy(&filter.endpoint.address, &address, sizeof address);
    filter_listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(filter_listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(filter_listener, 128), 0);
    assert_int_equal(pthread_create(&filter_thread, NULL, run_filter, NULL), 0);
    fixture.listener.filters = &filter;
    fixture.listener.filters_count = 1;
    script_length = 0;
    silent_at = 0;
    body_bytes = data_steps = 0;
    fixture_start();
}

static void then(const char *data, size_t length)
{
    script[script_length++] = (struct answer){data, length};
}

#define THEN(literal) then("" literal, sizeof(literal) - 1)

static void end_filter(void)
{
    shutdown(filter_listener, SHUT_RDWR);
    pthread_join(filter_thread, NULL);
    close(filter_listener);
    unlink(path);
}

static void tear_down(void)
{
    WAIT_FOR(now.sessions == 0 && now.receptions == 0 && now.body_memory == 0);
    fixture_stop();
    end_filter();
}

/* Lines, some of which begin with a stuffed dot; with the final dot. Malloc'ed. */
static char *make_body(size_t bytes, size_t *ret_length)
{
    char *body = malloc(bytes + 128);
    size_t length = 0;
    for (unsigned i = 0; length < bytes; i++) {
        length += (size_t)snprintf(body + length, 100, "%sline %u of a body %08x\r\n", i % 7 == 0 ? ".." : "", i,
                                   i * 2654435761u);
    }
    memcpy(body + length, ".\r\n", 3);
    *ret_length = length + 3;
    return body;
}

static void send_message(int fd, const char *body, size_t length)
{
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    client_expect(fd, "250 250 354");
    client_send(fd, "Subject: one\r\n\r\n");
    client_send_bytes(fd, body, length);
}

struct look {
    const char *body;
    size_t length;
    bool same;
};

/* The one message: our field, the new one, the old ones, and that body. */
static void look_at_stored(struct shard *shard, void *context)
{
    struct look *look = context;
    const struct stored *stored = &shard->spool->stored[0];
    static const char header[] = "\r\nSubject: one\r\nX-A: b\r\n\r\n";
    size_t header_length = sizeof header - 1;
    look->same = stored->length > look->length + header_length && memcmp(stored->data, "Received: ", 10) == 0 &&
                 memcmp(stored->data + stored->length - look->length, look->body, look->length) == 0 &&
                 memcmp(stored->data + stored->length - look->length - header_length, header, header_length) == 0;
}

static void test_written_anew(void **state)
{
    (void)state;
    static const size_t sizes[] = {100, 300000, 3u << 20};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        set_up(INBOUND_FILTER_TEMPFAIL);
        THEN("hX-A\0b\0");
        THEN("c");
        size_t length;
        char *body = make_body(sizes[i], &length);
        int fd = client_ready();
        send_message(fd, body, length);
        client_expect(fd, "250");
        struct look look = {.body = body, .length = length};
        fixture_look(0, look_at_stored, &look);
        assert_true(look.same);
        struct snapshot now = snapshot_of(0);
        assert_int_equal(now.stored, 1);
        assert_int_equal(now.extents_abandoned * 2, now.extents_written); /* the first ones */
        assert_true(now.body_memory_most <= 8 * LIMIT_EXTENT_BYTES);
        close(fd);
        free(body);
        tear_down();
    }
}

/* A new body that breaks off, after much of it was written: nothing is left of either, though the filter may fail. */
static void test_lost_amid_a_new_body(void **state)
{
    (void)state;
    static char piece[65000];
    set_up(INBOUND_FILTER_ACCEPT);
    piece[0] = 'b';
    for (size_t i = 1; i < sizeof piece; i++) {
        piece[i] = "0123456789\r\n"[(i - 1) % 12];
    }
    for (unsigned i = 0; i < 30; i++) {
        then(piece, 1 + 12 * 5000);
    }
    then(NULL, 0);
    size_t length;
    char *body = make_body(1u << 20, &length);
    int fd = client_ready();
    send_message(fd, body, length);
    client_expect(fd, "451");
    WAIT_FOR(now.extents_abandoned == now.extents_written && now.extents_written >= 8);
    assert_int_equal(snapshot_of(0).stored, 0);
    close(fd);
    free(body);
    tear_down();
}

/* The disk stands still while the new body flows: the filter is held back, not kept in memory. */
static void test_back_pressure(void **state)
{
    (void)state;
    static char piece[65000];
    set_up(INBOUND_FILTER_TEMPFAIL);
    piece[0] = 'b';
    memset(piece + 1, 'x', sizeof piece - 1);
    for (size_t i = 1; i + 1 < sizeof piece; i += 100) {
        memcpy(piece + i, "\r\n", 2);
    }
    for (unsigned i = 0; i < SCRIPT_MAX - 1; i++) {
        then(piece, 64901);
    }
    THEN("c");
    int fd = client_ready();
    fixture_hold(true);
    send_message(fd, "body\r\n.\r\n", 9);
    WAIT_FOR(now.extents_written == 2);
    pause_ms(300);
    struct snapshot now = snapshot_of(0);
    assert_int_equal(now.extents_written, 2);
    assert_true(now.body_memory <= 5 * LIMIT_EXTENT_BYTES);
    fixture_hold(false);
    client_expect(fd, "250");
    assert_int_equal(snapshot_of(0).stored, 1);
    close(fd);
    tear_down();
}

static void test_the_disk_fails(void **state)
{
    (void)state;
    set_up(INBOUND_FILTER_TEMPFAIL);
    THEN("hX-A\0b\0");
    THEN("c");
    size_t length;
    char *body = make_body(1u << 20, &length);
    int fd = client_ready();
    silent_at = 'E';
    send_message(fd, body, length);
    WAIT_FOR(body_bytes > 900000);
    fixture_errors(ERR_IO); /* from now on: what is written a second time */
    silent_at = 0;
    client_expect(fd, "451");
    struct snapshot now = snapshot_of(0);
    assert_true(now.stored == 0 && now.extents_abandoned >= 4);
    close(fd);
    free(body);
    tear_down();
}

static void test_the_client_leaves(void **state)
{
    (void)state;
    set_up(INBOUND_FILTER_TEMPFAIL);
    silent_at = 'E';
    size_t length;
    char *body = make_body(600000, &length);
    int fd = client_ready();
    send_message(fd, body, length);
    WAIT_FOR(body_bytes > 500000);
    client_reset(fd);
    WAIT_FOR(now.sessions == 0);
    struct snapshot now = snapshot_of(0);
    assert_int_equal(now.extents_abandoned, now.extents_written);
    silent_at = 0;
    free(body);
    tear_down();
}

/* However long a filter takes at DATA: it keeps no receive buffer from others. */
static void test_data_that_waits_holds_no_receive_buffer(void **state)
{
    (void)state;
    set_up(INBOUND_FILTER_TEMPFAIL);
    THEN("c");
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n");
    client_expect(fd, "250 250");
    unsigned buffers = snapshot_of(0).buffers_free;
    silent_at = 'T';
    client_send(fd, "DATA\r\n");
    WAIT_FOR(data_steps == 1);
    WAIT_FOR(now.buffers_free == buffers);
    silent_at = 0;
    client_expect(fd, "354");
    client_send(fd, BODY);
    client_expect(fd, "250");
    close(fd);
    tear_down();
}

/* A filter that never answers does not hold up a stop beyond its deadline. */
static void test_a_stop(void **state)
{
    (void)state;
    set_up(INBOUND_FILTER_TEMPFAIL);
    silent_at = 'E';
    int fd = client_ready();
    send_message(fd, "body\r\n.\r\n", 9);
    WAIT_FOR(body_bytes == 6);
    fixture_stop_after(200);
    fixture_join();
    silent_at = 0;
    close(fd);
    end_filter();
}

static void set_memory(struct shard *shard, void *bytes)
{
    shard->inbound->bodies.bytes_max = *(uint64_t *)bytes;
}

static void test_memory_is_short(void **state)
{
    (void)state;
    set_up(INBOUND_FILTER_TEMPFAIL);
    THEN("hX-A\0b\0");
    THEN("c");
    uint64_t shares[] = {40000, 100000, 200000};
    int fd = client_ready();
    for (unsigned i = 0; i < sizeof shares / sizeof *shares; i++) {
        fixture_look(0, set_memory, &shares[i]);
        send_message(fd, "body\r\n.\r\n", 9);
        client_expect(fd, "452");
    }
    uint64_t enough = 1u << 20;
    fixture_look(0, set_memory, &enough);
    send_message(fd, "body\r\n.\r\n", 9);
    client_expect(fd, "250");
    close(fd);
    tear_down();
}

/* Each that waits keeps the buffer that its command lies in: with a filter that answers nobody they would keep all. */
static void test_buffers_are_short(void **state)
{
    (void)state;
    set_up(INBOUND_FILTER_TEMPFAIL);
    fixture_stop();
    filter.command_ms = filter.connect_ms = 600000;
    fixture.receive_buffers = 64;
    fixture_start();
    silent_at = 'M';
    int fds[56];
    for (unsigned i = 0; i < 56; i++) {
        fds[i] = client_ready();
        client_send(fds[i], "MAIL FROM:<a@b.example>\r\n");
    }
    client_expect(fds[0], "451");
    WAIT_FOR(now.buffers_free >= 64 / 4);
    for (unsigned i = 0; i < 56; i++) {
        client_reset(fds[i]);
    }
    silent_at = 0;
    WAIT_FOR(now.sessions == 0 && now.buffers_free == 64);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_anew),
        cmocka_unit_test(test_lost_amid_a_new_body),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_the_disk_fails),
        cmocka_unit_test(test_the_client_leaves),
        cmocka_unit_test(test_data_that_waits_holds_no_receive_buffer),
        cmocka_unit_test(test_a_stop),
        cmocka_unit_test(test_memory_is_short),
        cmocka_unit_test(test_buffers_are_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
