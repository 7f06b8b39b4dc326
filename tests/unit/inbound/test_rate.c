#include "inbound/rate.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"

static struct metric_set *metrics;

static struct peer ipv4(unsigned number)
{
    struct peer peer = {.address = {[10] = 0xff, [11] = 0xff}};
    for (unsigned i = 0; i < 4; i++) {
        peer.address[12 + i] = (uint8_t)(number >> (24 - 8 * i));
    }
    return peer;
}

static struct rate_subject subject(const struct peer *peer)
{
    return (struct rate_subject){.peer = peer, .account = BYTES(""), .listener = 1, .metrics = metrics};
}

/* How many of `tries` single units are granted. */
static unsigned granted(struct rate_table *table, const struct rate_limits *limits, enum rate_kind kind,
                        struct rate_subject who, unsigned tries)
{
    unsigned count = 0;
    struct rate_refusal refusal;
    for (unsigned i = 0; i < tries; i++) {
        count += rate_take(table, limits, kind, &who, 1, &refusal);
    }
    return count;
}

static void a_full_bucket_and_not_one_more(void **state)
{
    (void)state;
    struct rate_table *table = rate_table_new(RATE_ENTRIES_MIN);
    struct rate_limits limits = {.of[RATE_ADDRESS][RATE_MESSAGES] = {10, 3600000}};
    struct peer one = ipv4(0x0a000001);
    struct peer other = ipv4(0x0a000002);
    assert_int_equal(granted(table, &limits, RATE_MESSAGES, subject(&one), 20), 10);
    assert_int_equal(granted(table, &limits, RATE_MESSAGES, subject(&other), 20), 10);
    assert_int_equal(granted(table, &limits, RATE_RECIPIENTS, subject(&one), 20), 20); /* no limit */
    struct rate_refusal refusal = {0};
    struct rate_subject who = subject(&one);
    assert_false(rate_left(table, &limits, RATE_MESSAGES, &who, &refusal));
    assert_int_equal(refusal.scope, RATE_ADDRESS);
    assert_in_range(refusal.wait_s, 355, 361); /* a tenth of an hour */
    rate_table_delete(table);
}

static void it_fills_again_at_the_rate(void **state)
{
    (void)state;
    struct rate_table *table = rate_table_new(RATE_ENTRIES_MIN);
    struct rate_limits limits = {.of[RATE_ADDRESS][RATE_MESSAGES] = {1000, 1000}};
    struct peer one = ipv4(0x0a000001);
    assert_in_range(granted(table, &limits, RATE_MESSAGES, subject(&one), 3000), 1000, 1200);
    uint64_t until_ms = clock_monotonic_ms() + 200;
    uint64_t began_ms = clock_monotonic_ms();
    unsigned count = 0;
    while (clock_monotonic_ms() < until_ms) {
        count += granted(table, &limits, RATE_MESSAGES, subject(&one), 10);
    }
    assert_in_range(count, 150, clock_monotonic_ms() - began_ms + 50);
    rate_table_delete(table);
}

static void networks_accounts_and_listeners_count_together(void **state)
{
    (void)state;
    struct rate_table *table = rate_table_new(RATE_ENTRIES_MIN);
    struct rate_limits limits = {.of = {[RATE_NETWORK][RATE_CONNECTIONS] = {5, 3600000},
                                        [RATE_ACCOUNT][RATE_MESSAGES] = {3, 3600000},
                                        [RATE_LISTENER][RATE_ERRORS] = {2, 3600000}}};
    unsigned connections = 0;
    unsigned messages = 0;
    unsigned errors = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct peer peer = ipv4(0x0a000100 + i);
        struct rate_subject who = subject(&peer);
        connections += granted(table, &limits, RATE_CONNECTIONS, who, 1);
        who.account = BYTES("ann");
        messages += granted(table, &limits, RATE_MESSAGES, who, 1);
        errors += granted(table, &limits, RATE_ERRORS, who, 1);
    }
    assert_int_equal(connections, 5);
    assert_int_equal(messages, 3);
    assert_int_equal(errors, 2);
    struct peer next = ipv4(0x0a000201);
    assert_int_equal(granted(table, &limits, RATE_CONNECTIONS, subject(&next), 1), 1);
    struct peer v6[2] = {{.address = {0x20, 1, 0xd, 0xb8, [15] = 1}}, {.address = {0x20, 1, 0xd, 0xb8, [15] = 2}}};
    assert_int_equal(granted(table, &limits, RATE_CONNECTIONS, subject(&v6[0]), 9), 5);
    assert_int_equal(granted(table, &limits, RATE_CONNECTIONS, subject(&v6[1]), 9), 0); /* the same /64 */
    rate_table_delete(table);
}

static void a_refusal_takes_nothing_from_the_others(void **state)
{
    (void)state;
    struct rate_table *table = rate_table_new(RATE_ENTRIES_MIN);
    struct rate_limits limits = {
        .of = {[RATE_ADDRESS][RATE_MESSAGES] = {100, 3600000}, [RATE_ACCOUNT][RATE_MESSAGES] = {1, 3600000}}};
    struct peer peer = ipv4(0x0a000001);
    struct rate_subject ann = subject(&peer);
    ann.account = BYTES("ann");
    assert_int_equal(granted(table, &limits, RATE_MESSAGES, ann, 50), 1);
    assert_int_equal(granted(table, &limits, RATE_MESSAGES, subject(&peer), 200), 99);
    rate_table_delete(table);
}

static void a_debt_has_to_be_waited_for(void **state)
{
    (void)state;
    struct rate_table *table = rate_table_new(RATE_ENTRIES_MIN);
    struct rate_limits limits = {.of[RATE_ADDRESS][RATE_BYTES] = {1u << 20, 60000}};
    struct peer peer = ipv4(0x0a000001);
    struct rate_subject who = subject(&peer);
    struct rate_refusal refusal = {0};
    assert_true(rate_left(table, &limits, RATE_BYTES, &who, &refusal));
    rate_charge(table, &limits, RATE_BYTES, &who, 3u << 20);
    assert_false(rate_left(table, &limits, RATE_BYTES, &who, &refusal));
    assert_in_range(refusal.wait_s, 118, 121);
    rate_charge(table, &limits, RATE_BYTES, &who, UINT64_MAX); /* no overflow */
    assert_false(rate_left(table, &limits, RATE_BYTES, &who, &refusal));
    rate_table_delete(table);
}

/* A million strangers with one connection each neither cost memory nor free the one who is over his limit. */
static void strangers_do_not_free_the_offender(void **state)
{
    (void)state;
    struct rate_table *table = rate_table_new(RATE_ENTRIES_MIN);
    struct rate_limits limits = {.of[RATE_ADDRESS][RATE_CONNECTIONS] = {100, 3600000}};
    struct peer offender = ipv4(0xc0000201);
    assert_int_equal(granted(table, &limits, RATE_CONNECTIONS, subject(&offender), 200), 100);
    uint64_t before = atomic_load(&metrics->rate_evictions);
    for (unsigned i = 0; i < 1000000; i++) {
        struct peer stranger = ipv4(0x0a000000 + i);
        assert_int_equal(granted(table, &limits, RATE_CONNECTIONS, subject(&stranger), 1), 1);
    }
    assert_true(atomic_load(&metrics->rate_evictions) > before); /* and the operator can see it */
    assert_int_equal(granted(table, &limits, RATE_CONNECTIONS, subject(&offender), 10), 0);
    rate_table_delete(table);
}

struct contender {
    struct rate_table *table;
    unsigned granted;
};

static void *contend(void *argument)
{
    struct contender *contender = argument;
    struct metric_set *own = metric_set_new();
    struct rate_limits limits = {.of[RATE_ADDRESS][RATE_MESSAGES] = {1000, 3600000}};
    struct peer peer = ipv4(0x0a000001);
    struct rate_subject who = {.peer = &peer, .account = BYTES(""), .metrics = own};
    contender->granted = granted(contender->table, &limits, RATE_MESSAGES, who, 5000);
    metric_set_delete(own);
    return NULL;
}

static void shards_share_the_limit(void **state)
{
    (void)state;
    struct rate_table *table = rate_table_new(RATE_ENTRIES_MIN);
    struct contender contenders[4];
    pthread_t threads[4];
    unsigned sum = 0;
    for (unsigned i = 0; i < 4; i++) {
        contenders[i] = (struct contender){.table = table};
        assert_int_equal(pthread_create(&threads[i], NULL, contend, &contenders[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        sum += contenders[i].granted;
    }
    assert_in_range(sum, 1000, 1004); /* one look of each thread may come between a look and its taking */
    rate_table_delete(table);
}

static int setup(void **state)
{
    (void)state;
    metrics = metric_set_new();
    return metrics == NULL;
}

static int teardown(void **state)
{
    (void)state;
    metric_set_delete(metrics);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_bucket_and_not_one_more),
        cmocka_unit_test(it_fills_again_at_the_rate),
        cmocka_unit_test(networks_accounts_and_listeners_count_together),
        cmocka_unit_test(a_refusal_takes_nothing_from_the_others),
        cmocka_unit_test(a_debt_has_to_be_waited_for),
        cmocka_unit_test(strangers_do_not_free_the_offender),
        cmocka_unit_test(shards_share_the_limit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
