#include "app/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/check.h"
#include "core/clock.h"

static sigset_t wanted(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

void signals_block(void)
{
    sigset_t set = wanted();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}

enum signals_wish signals_wait(uint64_t timeout_ms)
{
    sigset_t set = wanted();
    uint64_t begin_ms = clock_monotonic_ms();
    int number = -1;
    do { /* an interruption by another signal, or by a debugger, is not the end of the time */
        uint64_t passed_ms = clock_monotonic_ms() - begin_ms;
        uint64_t left_ms = timeout_ms > passed_ms ? timeout_ms - passed_ms : 0;
        struct timespec left = {.tv_sec = (time_t)(left_ms / 1000), .tv_nsec = (long)(left_ms % 1000) * 1000000};
        number = timeout_ms == UINT64_MAX ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &left);
    } while (number < 0 && errno == EINTR);
    return number < 0 ? SIGNALS_NONE : number == SIGHUP ? SIGNALS_RELOAD : SIGNALS_STOP;
}
