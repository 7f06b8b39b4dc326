/* Who gets in, and to which shard. */
#include "inbound_fixture.h"

#include <sys/resource.h>

static void expect_refused(int fd, const char *start)
{
    char line[600];
    assert_int_equal(client_reply_text(fd, line, sizeof line), 421);
    assert_memory_equal(line, start, strlen(start));
    assert_true(client_at_end(fd));
    close(fd);
}

static void test_limit_per_address(void **state)
{
    (void)state;
    fixture_defaults();
    fixture.listener.connections_per_address_max = 2;
    fixture_start();
    int first = client_ready();
    int second = client_ready();
    for (unsigned i = 0; i < 3; i++) {
        expect_refused(client_connect(), "421 4.7.0 ");
    }
    int other = client_connect_from("127.0.0.2", fixture.port);
    client_expect(other, "220");
    close(first);
    WAIT_FOR(now.sessions == 2);
    int third = client_ready();
    expect_refused(client_connect(), "421 4.7.0 ");
    assert_int_equal(snapshot_of(0).refused, 4);
    close(second);
    close(third);
    close(other);
    fixture_stop();
}

static void test_limit_in_total(void **state)
{
    (void)state;
    fixture_defaults();
    fixture.connections_max = 3;
    fixture_start();
    int open[3];
    for (unsigned i = 0; i < 3; i++) {
        open[i] = client_ready();
    }
    expect_refused(client_connect(), "421 4.3.2 ");
    for (unsigned i = 0; i < 3; i++) {
        close(open[i]);
    }
    WAIT_FOR(now.sessions == 0);
    close(client_ready());
    fixture_stop();
}

static void test_limit_of_the_listener(void **state)
{
    (void)state;
    fixture_defaults();
    fixture.listener.connections_max = 1;
    fixture_start();
    int fd = client_ready();
    expect_refused(client_connect(), "421 4.3.2 ");
    close(fd);
    fixture_stop();
}

/* All of them come to shard 0, which hands every second one over. */
static void test_balance(void **state)
{
    (void)state;
    fixture_defaults();
    fixture.shards = 2;
    fixture.own_ports = true;
    fixture_start();
    int open[60];
    for (unsigned i = 0; i < 60; i++) {
        open[i] = client_connect();
    }
    for (unsigned i = 0; i < 60; i++) {
        client_send(open[i], "EHLO client.example\r\n");
        client_expect(open[i], "220 250");
    }
    struct snapshot here = snapshot_of(0);
    struct snapshot there = snapshot_of(1);
    assert_int_equal(here.sessions + there.sessions, 60);
    assert_in_range(there.sessions, 20, 30);
    for (unsigned i = 0; i < 60; i++) {
        client_send(open[i], TRANSACTION BODY "QUIT\r\n");
        client_expect(open[i], "250 250 354 250 221");
        close(open[i]);
    }
    assert_int_equal(snapshot_of(1).accepted, there.sessions);
    fixture_stop();
}

/* Without descriptors connections wait in the backlog; they are served when there are some again. */
static void test_out_of_descriptors(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit few = {.rlim_cur = 300, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0); /* an accept goes by the limit at the time it was armed */
    fixture_defaults();
    fixture_start();
    int clients[4];
    int taken[300];
    unsigned count = 0;
    for (unsigned i = 0; i < 4; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        struct timeval patience = {.tv_sec = 5};
        setsockopt(clients[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    for (unsigned round = 0; round < 5; round++) { /* what starts may still hold one for a moment */
        while ((taken[count] = dup(0)) >= 0) {
            count++;
        }
        pause_ms(50);
    }
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)fixture.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(connect(clients[i], (struct sockaddr *)&to, sizeof to), 0);
    }
    pause_ms(300);
    unsigned sessions = snapshot_of(0).sessions;
    while (count > 0) {
        close(taken[--count]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(sessions, 0);
    for (unsigned i = 0; i < 4; i++) {
        client_expect(clients[i], "220");
        close(clients[i]);
    }
    fixture_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_per_address),     cmocka_unit_test(test_limit_in_total),
        cmocka_unit_test(test_limit_of_the_listener), cmocka_unit_test(test_balance),
        cmocka_unit_test(test_out_of_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
