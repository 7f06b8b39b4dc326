/* Limits over all shards, and where a connection goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>

#include "inbound/admission.h"

static struct peer peer_named(const char *text)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1) {
        return peer_of((struct sockaddr *)&ipv4);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &ipv6.sin6_addr), 1);
    return peer_of((struct sockaddr *)&ipv6);
}

static enum admission_verdict enter(struct admission *admission, const char *address, unsigned listener,
                                    struct admission_ticket *ret_ticket)
{
    struct peer peer = peer_named(address);
    return admission_enter(admission,
                           &(struct admission_request){.peer = &peer,
                                                       .listener = listener,
                                                       .shard = 0,
                                                       .listener_connections_max = 6,
                                                       .address_connections_max = 2},
                           ret_ticket);
}

static void test_clients(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1, 2, 100);
    struct admission_ticket tickets[8];
    static const struct {
        const char *address;
        unsigned listener;
        enum admission_verdict verdict;
    } steps[] = {
        {"192.0.2.1", 0, ADMISSION_GRANTED},
        {"::ffff:192.0.2.1", 0, ADMISSION_GRANTED}, /* the same client, by a dual-stack socket */
        {"192.0.2.1", 0, ADMISSION_ADDRESS_FULL},
        {"192.0.2.2", 0, ADMISSION_GRANTED},
        {"2001:db8:0:1::1", 0, ADMISSION_GRANTED},
        {"2001:db8:0:1:ffff::2", 0, ADMISSION_GRANTED}, /* the same /64 */
        {"2001:db8:0:1::3", 0, ADMISSION_ADDRESS_FULL},
        {"2001:db8:0:2::1", 0, ADMISSION_GRANTED},
        {"192.0.2.3", 0, ADMISSION_LISTENER_FULL},
        {"192.0.2.1", 1, ADMISSION_GRANTED}, /* a limit per listener */
    };
    unsigned granted = 0;
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        enum admission_verdict verdict = enter(admission, steps[i].address, steps[i].listener, &tickets[granted]);
        assert_int_equal(verdict, steps[i].verdict);
        granted += verdict == ADMISSION_GRANTED;
    }
    assert_int_equal(admission_connections(admission), 7);
    admission_leave(admission, &tickets[0]);
    assert_int_equal(enter(admission, "192.0.2.1", 0, &tickets[0]), ADMISSION_GRANTED);
    for (unsigned i = 0; i < granted; i++) {
        admission_leave(admission, &tickets[i]);
    }
    assert_int_equal(admission_connections(admission), 0);
    admission_delete(admission);
}

static void test_total(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1, 1, 2);
    struct admission_ticket tickets[3];
    assert_int_equal(enter(admission, "192.0.2.1", 0, &tickets[0]), ADMISSION_GRANTED);
    assert_int_equal(enter(admission, "192.0.2.2", 0, &tickets[1]), ADMISSION_GRANTED);
    assert_int_equal(enter(admission, "192.0.2.3", 0, &tickets[2]), ADMISSION_FULL);
    admission_set_max(admission, 3);
    assert_int_equal(enter(admission, "192.0.2.3", 0, &tickets[2]), ADMISSION_GRANTED);
    admission_set_max(admission, 1);
    admission_leave(admission, &tickets[0]);
    assert_int_equal(enter(admission, "192.0.2.1", 0, &tickets[0]), ADMISSION_FULL);
    admission_delete(admission); /* with two still in: forgotten */
}

/* Shard 0 accepts all: the others get theirs, and small differences move nothing. */
static void test_balance(void **state)
{
    (void)state;
    struct admission *admission = admission_new(3, 1, 1000);
    unsigned per_shard[3] = {0};
    struct peer peer = peer_named("192.0.2.1");
    struct admission_request request = {
        .peer = &peer, .listener_connections_max = 1000, .address_connections_max = 1000};
    struct admission_ticket tickets[300];
    for (unsigned i = 0; i < 300; i++) {
        assert_int_equal(admission_enter(admission, &request, &tickets[i]), ADMISSION_GRANTED);
        per_shard[tickets[i].shard]++;
        assert_true(i >= ADMISSION_MOVE_SESSIONS || per_shard[0] == i + 1);
    }
    for (unsigned i = 1; i < 3; i++) {
        assert_true(per_shard[i] <= per_shard[0] &&
                    per_shard[0] * 100 <= per_shard[i] * (100 + ADMISSION_MOVE_PERCENT + 3));
    }
    for (unsigned i = 0; i < 300; i++) {
        admission_leave(admission, &tickets[i]);
    }
    assert_int_equal(admission_enter(admission, &request, &tickets[0]), ADMISSION_GRANTED);
    assert_int_equal(tickets[0].shard, 0);
    admission_delete(admission);
}

static void test_move(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1, 1, 100);
    struct admission_ticket tickets[3];
    struct peer behind = peer_named("198.51.100.7");
    assert_int_equal(enter(admission, "192.0.2.1", 0, &tickets[0]), ADMISSION_GRANTED);
    assert_int_equal(enter(admission, "192.0.2.1", 0, &tickets[1]), ADMISSION_GRANTED);
    assert_int_equal(enter(admission, "192.0.2.1", 0, &tickets[2]), ADMISSION_ADDRESS_FULL);
    assert_int_equal(admission_move(admission, &behind, 1, &tickets[0]), ADMISSION_GRANTED);
    assert_int_equal(enter(admission, "192.0.2.1", 0, &tickets[2]), ADMISSION_GRANTED); /* the proxy has room again */
    assert_int_equal(admission_move(admission, &behind, 1, &tickets[1]), ADMISSION_ADDRESS_FULL);
    assert_int_equal(admission_connections(admission), 3);
    for (unsigned i = 0; i < 3; i++) {
        admission_leave(admission, &tickets[i]);
    }
    assert_int_equal(admission_connections(admission), 0);
    admission_delete(admission);
}

static void *come_and_go(void *context)
{
    struct admission *admission = context;
    for (unsigned i = 0; i < 20000; i++) {
        struct admission_ticket ticket;
        if (enter(admission, "192.0.2.1", 0, &ticket) == ADMISSION_GRANTED) {
            admission_leave(admission, &ticket);
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1, 1, 100);
    pthread_t threads[3];
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, admission), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(admission_connections(admission), 0);
    admission_delete(admission);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients), cmocka_unit_test(test_total),   cmocka_unit_test(test_balance),
        cmocka_unit_test(test_move),    cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
