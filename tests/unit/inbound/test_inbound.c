/* Stopping and reloading. */
#include "inbound_fixture.h"

static unsigned stopped(void)
{
    return atomic_load(&fixture.stopped);
}

static void expect_farewell(int fd)
{
    char line[600];
    assert_int_equal(client_reply_text(fd, line, sizeof line), 421);
    assert_memory_equal(line, "421 4.3.2 ", 10);
    assert_true(client_at_end(fd));
    close(fd);
}

static void test_stop_when_idle(void **state)
{
    (void)state;
    fixture_defaults();
    fixture.shards = 2;
    fixture_start();
    uint64_t began_ms = clock_ms();
    fixture_stop_after(60000);
    fixture_join();
    assert_int_equal(stopped(), 2);
    assert_true(clock_ms() - began_ms < 2000);
}

/* Between transactions: 421 at once. In one: it may be finished, and is answered; then 421. */
static void test_stop_lets_transactions_finish(void **state)
{
    (void)state;
    fixture_defaults();
    fixture_start();
    int idle = client_ready();
    int busy = client_ready();
    client_send(busy, TRANSACTION "begin\r\n");
    client_expect(busy, "250 250 354");
    fixture_stop_after(60000);
    expect_farewell(idle);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)fixture.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    WAIT_FOR(now.sessions == 1);
    int late = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&to, sizeof to), -1);
    close(late);
    client_send(busy, "end\r\n.\r\n" TRANSACTION);
    client_expect(busy, "250");
    assert_int_equal(stopped(), 0);
    expect_farewell(busy);
    fixture_join();
    assert_int_equal(stopped(), 1);
}

static void test_stop_at_the_deadline(void **state)
{
    (void)state;
    fixture_defaults();
    fixture_start();
    int body = client_ready();
    client_send(body, TRANSACTION "begin\r\n");
    client_expect(body, "250 250 354");
    int mail = client_ready();
    client_send(mail, "MAIL FROM:<a@example.com>\r\n");
    client_expect(mail, "250");
    uint64_t began_ms = clock_ms();
    fixture_stop_after(300);
    expect_farewell(body);
    expect_farewell(mail);
    assert_in_range(clock_ms() - began_ms, 290, 2000);
    fixture_join();
    assert_int_equal(stopped(), 1);
}

/* A commit under way is answered, however late it is; and a client that does not listen cannot hold us up. */
static void test_stop_waits_for_commits(void **state)
{
    (void)state;
    fixture_defaults();
    fixture_start();
    fixture_hold(true);
    int fd = client_ready();
    client_send(fd, TRANSACTION BODY);
    client_expect(fd, "250 250 354");
    int gone = client_ready();
    client_send(gone, TRANSACTION BODY);
    client_expect(gone, "250 250 354");
    client_reset(gone);
    int deaf = client_ready();
    fixture_stop_after(100);
    pause_ms(1500);
    struct snapshot now = snapshot_of(0);
    assert_int_equal(now.receptions, 2);
    assert_int_equal(stopped(), 0);
    fixture_hold(false);
    client_expect(fd, "250");
    expect_farewell(fd);
    fixture_join();
    assert_int_equal(stopped(), 1);
    close(deaf);
}

static void reload(struct shard *shard, void *context)
{
    const struct inbound_listener_settings *listener = context;
    struct inbound_settings settings = {
        .listeners = listener, .listeners_count = 1, .body_memory_bytes_max = 1u << 20, .receive_buffers = 256};
    assert_true(inbound_reload(shard->inbound, &settings));
}

static void test_reload(void **state)
{
    (void)state;
    fixture_defaults();
    fixture_start();
    int old = client_ready();
    struct inbound_listener_settings other = fixture.listener;
    char hostname[] = "new.example.com";
    other.hostname = hostname;
    other.relay_networks.count = 0;
    fixture_look(0, reload, &other);
    memset(hostname, 'x', sizeof hostname - 1); /* it keeps its own copy */
    other.name = "another";
    fixture_look(0, reload, &other); /* not a listener that is running */
    char line[600];
    int new = client_connect();
    client_reply_text(new, line, sizeof line);
    assert_string_equal(line, "220 new.example.com ESMTP test\r\n");
    client_send(new, "EHLO client.example\r\n" TRANSACTION);
    client_expect(new, "250 250 550 554");
    client_send(old, TRANSACTION BODY);
    client_expect(old, "250 250 354 250");
    close(old);
    close(new);
    fixture_stop();
}

static int start_twice(struct shard *shard, void *context)
{
    char *reason = context;
    shard->spool = calloc(1, sizeof *shard->spool);
    stream_shard_start(shard);
    int taken = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    CHECK(bind(taken, (struct sockaddr *)&address, length) == 0 && listen(taken, 1) == 0);
    CHECK(getsockname(taken, (struct sockaddr *)&address, &length) == 0);
    struct inbound_listener_settings listener = fixture.listener;
    memcpy(&listener.endpoint.address, &address, length);
    listener.endpoint.length = length;
    struct inbound_settings settings = fixture.settings;
    settings.listeners = &listener;
    struct inbound *inbound = NULL;
    int error = inbound_new(shard, fixture.admission, &settings, &inbound, reason, 200);
    close(taken);
    stream_shard_stop(shard);
    free(shard->spool);
    return error;
}

static void test_address_in_use(void **state)
{
    (void)state;
    fixture_defaults();
    char why[200] = "";
    char reason[256] = "";
    fixture.admission = admission_new(1, 1, 10);
    struct shard_group_settings settings = {
        .shards = 1,
        .ring = {.entries = 64, .receive_buffers = 64, .receive_buffer_bytes = 4096},
        .start = start_twice,
        .context = why,
    };
    assert_int_equal(shard_group_start(&settings, &fixture.group, reason, sizeof reason), -EADDRINUSE);
    assert_string_equal(why, "listener smtp: Address already in use");
    admission_delete(fixture.admission);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_when_idle),
        cmocka_unit_test(test_stop_lets_transactions_finish),
        cmocka_unit_test(test_stop_at_the_deadline),
        cmocka_unit_test(test_stop_waits_for_commits),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_address_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
