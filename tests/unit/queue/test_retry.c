#include "queue/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct queue_settings settings = {
    .retry_ms = {60000, 120000, 14400000},
    .retry_count = 3,
    .jitter_percent = 20,
    .expire_ms = 345600000,
};

static void check_spread(unsigned attempts, uint64_t wait_ms)
{
    struct rng rng;
    rng_seed(&rng, attempts);
    uint64_t spread_ms = wait_ms / 5;
    uint64_t lowest = UINT64_MAX;
    uint64_t highest = 0;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t ms = retry_wait_ms(&settings, &rng, attempts);
        lowest = ms < lowest ? ms : lowest;
        highest = ms > highest ? ms : highest;
    }
    assert_in_range(lowest, wait_ms - spread_ms, wait_ms - spread_ms + spread_ms / 20);
    assert_in_range(highest, wait_ms + spread_ms - spread_ms / 20, wait_ms + spread_ms);
}

static void test_waits_follow_the_table_and_are_spread(void **state)
{
    (void)state;
    check_spread(1, 60000);
    check_spread(2, 120000);
    check_spread(3, 14400000);
    check_spread(4, 14400000); /* the last one repeats */
    check_spread(255, 14400000);
}

static void test_never_less_than_a_second(void **state)
{
    (void)state;
    struct queue_settings fast = {.retry_ms = {1}, .retry_count = 1, .jitter_percent = 100, .expire_ms = 1000000};
    struct rng rng;
    rng_seed(&rng, 3);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(retry_wait_ms(&fast, &rng, 1), 1000);
        assert_int_equal(retry_next_s(&fast, &rng, 1, 5000, 4900), 5001);
    }
}

static void test_no_wait_goes_past_the_expiry(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 4);
    uint32_t arrival_s = 1800000000;
    uint32_t expires_s = arrival_s + 345600;
    for (uint32_t now_s = arrival_s; now_s < expires_s; now_s += 997) {
        uint32_t next_s = retry_next_s(&settings, &rng, 3, now_s, arrival_s);
        assert_in_range(next_s, now_s + 1, expires_s);
        assert_true(next_s == expires_s || next_s - now_s >= 11520);
    }
    assert_int_equal(retry_next_s(&settings, &rng, 3, expires_s - 1, arrival_s), expires_s);
    assert_int_equal(retry_next_s(&settings, &rng, 3, expires_s, arrival_s), 0);
    assert_int_equal(retry_next_s(&settings, &rng, 3, expires_s + 100000, arrival_s), 0);
}

/* An expiry between two seconds: the attempt at its second must not be tried again in the same second. */
static void test_an_expiry_that_is_no_whole_second(void **state)
{
    (void)state;
    struct queue_settings odd = settings;
    struct rng rng;
    rng_seed(&rng, 5);
    odd.expire_ms = 10500;
    for (uint32_t now_s = 1000; now_s < 1020; now_s++) {
        uint32_t next_s = retry_next_s(&odd, &rng, 1, now_s, 1000);
        assert_true(retry_expired(&odd, now_s, 1000) ? next_s == 0 : next_s > now_s);
    }
}

static void test_expiry(void **state)
{
    (void)state;
    assert_false(retry_expired(&settings, 1000, 1000));
    assert_false(retry_expired(&settings, 1000 + 345599, 1000));
    assert_true(retry_expired(&settings, 1000 + 345600, 1000));
    assert_true(retry_expired(&settings, UINT32_MAX, 1000));
    assert_false(retry_expired(&settings, 999, 1000)); /* the clock was set back */
    assert_false(retry_expired(&settings, 0, UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_follow_the_table_and_are_spread),
        cmocka_unit_test(test_never_less_than_a_second),
        cmocka_unit_test(test_no_wait_goes_past_the_expiry),
        cmocka_unit_test(test_an_expiry_that_is_no_whole_second),
        cmocka_unit_test(test_expiry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
