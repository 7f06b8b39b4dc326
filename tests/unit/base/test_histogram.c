#include "base/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static unsigned bucket_of(uint64_t value)
{
    struct histogram histogram = {0};
    histogram_record(&histogram, value);
    assert_int_equal(histogram.count, 1);
    assert_true(histogram.sum == value);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram.buckets[i] != 0) {
            return i;
        }
    }
    fail();
    return 0;
}

static void check_value(uint64_t value)
{
    unsigned bucket = bucket_of(value);
    assert_true(value < histogram_bucket_end(bucket));
    assert_true(bucket == 0 || value >= histogram_bucket_end(bucket - 1));
}

static void test_every_value_is_inside_its_bucket(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 3000; value++) {
        check_value(value);
    }
    for (unsigned exponent = 4; exponent < 42; exponent++) {
        uint64_t power = UINT64_C(1) << exponent;
        check_value(power - 1);
        check_value(power);
        check_value(power + power / 8 - 1);
        check_value(power + power / 8);
    }
}

static void test_buckets_are_narrow(void **state)
{
    (void)state;
    for (unsigned i = HISTOGRAM_STEPS; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t start = histogram_bucket_end(i - 1);
        assert_true((histogram_bucket_end(i) - start) * HISTOGRAM_STEPS <= start);
    }
    assert_true(histogram_bucket_end(HISTOGRAM_BUCKETS - 1) == UINT64_C(1) << 42);
}

static void test_huge_values_count_in_the_last_bucket(void **state)
{
    (void)state;
    assert_int_equal(bucket_of((UINT64_C(1) << 42) - 1), HISTOGRAM_BUCKETS - 1);
    assert_int_equal(bucket_of(UINT64_C(1) << 42), HISTOGRAM_BUCKETS - 1);
    assert_int_equal(bucket_of(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void test_quantiles(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    assert_int_equal(histogram_quantile(&histogram, 0.5), 0);
    for (unsigned i = 0; i < 98; i++) {
        histogram_record(&histogram, 3);
    }
    histogram_record(&histogram, 1000);
    histogram_record(&histogram, 1000000);
    assert_int_equal(histogram_quantile(&histogram, 0), 4);
    assert_int_equal(histogram_quantile(&histogram, 0.5), 4);
    assert_int_equal(histogram_quantile(&histogram, 0.98), 4);
    assert_int_equal(histogram_quantile(&histogram, 0.99), 1024);
    assert_int_equal(histogram_quantile(&histogram, 1), 1048576);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_value_is_inside_its_bucket),
        cmocka_unit_test(test_buckets_are_narrow),
        cmocka_unit_test(test_huge_values_count_in_the_last_bucket),
        cmocka_unit_test(test_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
