#include "app/signals.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <unistd.h>

#include "core/clock.h"

static void test_each_signal_is_taken_once(void **state)
{
    (void)state;
    signals_block();
    kill(getpid(), SIGHUP);
    assert_int_equal(signals_wait(1000), SIGNALS_RELOAD);
    kill(getpid(), SIGTERM);
    assert_int_equal(signals_wait(UINT64_MAX), SIGNALS_STOP);
    kill(getpid(), SIGINT);
    assert_int_equal(signals_wait(0), SIGNALS_STOP);
    assert_int_equal(signals_wait(0), SIGNALS_NONE);
    kill(getpid(), SIGPIPE); /* must not end us */
    uint64_t begin_ms = clock_monotonic_ms();
    assert_int_equal(signals_wait(30), SIGNALS_NONE);
    assert_true(clock_monotonic_ms() - begin_ms >= 29);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_signal_is_taken_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
