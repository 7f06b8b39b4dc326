#include "inbound/guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/memory.h"

static uint64_t machine_available(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "MemAvailable: %llu", &kib) != 1) {
    }
    fclose(file);
    assert_true(kib != 0);
    return kib * 1024;
}

static void what_is_measured_is_what_the_machine_says(void **state)
{
    (void)state;
    struct memory_probe *probe = memory_probe_new();
    assert_non_null(probe);
    uint64_t before = machine_available();
    uint64_t available = memory_probe_available(probe);
    assert_true(available != 0 && available <= before + (before >> 3)); /* a control group may allow less */
    memory_probe_delete(probe);
}

static void it_closes_and_opens_again(void **state)
{
    (void)state;
    struct guard *guard = guard_new(1ull << 50);
    assert_true(guard_short(guard, 1000));
    assert_true(guard_available(guard) < 1ull << 50);
    guard_set_reserve(guard, 1);
    assert_false(guard_short(guard, 1001)); /* a new reserve is measured at once, */
    guard_set_reserve(guard, 1ull << 50);
    assert_true(guard_short(guard, 1002));
    guard_set_reserve(guard, 0);
    assert_false(guard_short(guard, 1003));
    guard_delete(guard);
}

static void it_does_not_flutter(void **state)
{
    (void)state;
    uint64_t available = machine_available();
    struct guard *guard = guard_new(available * 2);
    assert_true(guard_short(guard, 1000));
    guard_set_reserve(guard, available - available / 10); /* enough for this reserve, but not a quarter more */
    assert_true(guard_short(guard, 1001));
    guard_set_reserve(guard, available / 2);
    assert_false(guard_short(guard, 1002));
    guard_delete(guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_measured_is_what_the_machine_says),
        cmocka_unit_test(it_closes_and_opens_again),
        cmocka_unit_test(it_does_not_flutter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
