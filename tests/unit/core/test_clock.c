#include "core/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

static void test_monotonic_goes_on(void **state)
{
    (void)state;
    uint64_t start_ns = clock_monotonic_ns();
    uint64_t start_ms = clock_monotonic_ms();
    assert_true(start_ms >= start_ns / 1000000);
    assert_true(start_ms - start_ns / 1000000 < 10000);
    nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    assert_true(clock_monotonic_ns() - start_ns >= 3000000);
    assert_true(clock_monotonic_ms() > start_ms);
}

static void test_wall_counts_from_1970(void **state)
{
    (void)state;
    uint64_t before = (uint64_t)time(NULL);
    uint64_t wall_ms = clock_wall_ms();
    assert_true(wall_ms / 1000 >= before);
    assert_true(wall_ms / 1000 - before < 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic_goes_on),
        cmocka_unit_test(test_wall_counts_from_1970),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
