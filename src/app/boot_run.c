#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "app/boot_control.h"
#include "app/cli.h"
#include "app/control.h"
#include "core/log.h"

#define BOOT_WATCH_MS 500

static sigset_t boot_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

bool boot_signals_block(void)
{
    sigset_t set = boot_signals();
    signal(SIGPIPE, SIG_IGN);
    return pthread_sigmask(SIG_BLOCK, &set, NULL) == 0;
}

static int wait_signal(unsigned timeout_ms)
{
    sigset_t set = boot_signals();
    struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    return sigtimedwait(&set, NULL, &timeout);
}

void boot_watch_stop(struct boot *boot)
{
    (void)boot;
    int signal_number = wait_signal(0);
    if (signal_number == SIGTERM || signal_number == SIGINT) {
        log_line(LOG_WARNING, "stopped at once", "reason=\"second signal\"");
        _exit(CLI_OK);
    }
}

static bool open_control(struct boot *boot)
{
    struct control_settings settings = {.socket = boot->settings->admin.socket, .listen = boot->settings->admin.listen};
    struct control_ops ops;
    char reason[256] = "";
    boot_control_ops(&ops, boot);
    if (control_new(&settings, &ops, &boot->control, reason, sizeof reason) != 0) {
        log_line(LOG_ERROR, "the control interface cannot be opened", "reason=\"%s\"", reason);
        return false;
    }
    return true;
}

int boot_run(struct boot *boot)
{
    bool open = open_control(boot);
    log_line(LOG_INFO, "ready", "shards=%u listeners=%u", boot->mapped->shards, boot->settings->listeners_count);
    while (open) {
        int signal_number = wait_signal(BOOT_WATCH_MS);
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            break;
        }
        if (signal_number == SIGHUP) {
            boot_reload(boot);
        }
    }
    log_line(LOG_INFO, "stopping", NULL);
    atomic_store(&boot->stopping, true);
    if (open) {
        control_delete(boot->control);
    }
    boot_stop(boot);
    log_line(LOG_INFO, "stopped", NULL);
    return open ? CLI_OK : CLI_CONFIG;
}
