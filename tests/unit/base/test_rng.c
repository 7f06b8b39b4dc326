#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The reference implementations of splitmix64 and xoshiro256** give these for seed 0. */
static void test_known_answers(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 0);
    assert_true(rng.state[0] == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(rng.state[1] == UINT64_C(0x6e789e6aa1b965f4));
    assert_true(rng.state[2] == UINT64_C(0x06c45d188009454f));
    assert_true(rng.state[3] == UINT64_C(0xf88bb8a8724c81ec));
    rng.state[0] = 1;
    rng.state[1] = 2;
    rng.state[2] = 3;
    rng.state[3] = 4;
    static const uint64_t expected[] = {11520, 0, 1509978240, 1215971899390074240};
    for (unsigned i = 0; i < 4; i++) {
        assert_true(rng_next(&rng) == expected[i]);
    }
}

static void test_below_stays_below_and_is_even(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 42);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(rng_below(&rng, 1), 0);
    }
    unsigned counts[7] = {0};
    for (unsigned i = 0; i < 70000; i++) {
        uint64_t value = rng_below(&rng, 7);
        assert_true(value < 7);
        counts[value]++;
    }
    for (unsigned i = 0; i < 7; i++) {
        assert_in_range(counts[i], 9500, 10500);
    }
}

/* With a bound of 3 * 2^62 a plain product would give every multiple of three twice as often as the others. */
static void test_below_is_unbiased_for_large_bounds(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 43);
    const uint64_t bound = UINT64_C(3) << 62;
    unsigned multiples = 0;
    for (unsigned i = 0; i < 30000; i++) {
        multiples += rng_below(&rng, bound) % 3 == 0;
    }
    assert_in_range(multiples, 9500, 10500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_below_stays_below_and_is_even),
        cmocka_unit_test(test_below_is_unbiased_for_large_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
