/* The main thread between start and stop: signals, the control interface, the watchdog.
 *
 * The watchdog is fed only when every shard's loop has come round within the interval, so a hung loop restarts the
 * service; what was acknowledged is in the spool. A second SIGTERM exits at once for the same reason: it loses nothing.
 */
#include <stdlib.h>
#include <unistd.h>

#include "app/boot_control.h"
#include "app/cli.h"
#include "app/control.h"
#include "app/notify.h"
#include "app/signals.h"
#include "core/log.h"
#include "core/worker.h"
#include "inbound/accounts.h"

#define BOOT_STATUS_MS 10000
#define BOOT_FILES_MS 10000 /* how soon a new certificate is noticed */
#define BOOT_TRIM_MS 2000   /* after the start, what recovery needed and nobody needs again goes back to the system */
#define BOOT_ANSWER_MS 2000 /* a loop that does not come round for so long is hung */

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

void boot_run_watch(struct boot *boot)
{
    (void)boot;
    notify_watchdog();
    if (signals_wait(0) == SIGNALS_STOP) {
        log_line(LOG_WARNING, "stopped at once", "reason=\"second signal\"");
        _exit(CLI_OK);
    }
}

static void feed_watchdog(struct boot *boot)
{
    for (unsigned i = 0; i < boot->mapped->shards; i++) {
        if (!shard_answers(boot->group, i, BOOT_ANSWER_MS)) {
            log_line(LOG_ERROR, "a shard does not answer", "shard=%u ms=%u", i, BOOT_ANSWER_MS);
            return;
        }
    }
    notify_watchdog();
}

static uint64_t counted(const struct boot *boot, size_t offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < boot->mapped->shards; i++) {
        const char *metrics = (const char *)shard_group_member(boot->group, i)->metrics;
        sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)(metrics + offset), memory_order_relaxed);
    }
    return sum;
}

static void show_status(const struct boot *boot)
{
    notify_status("%llu accepted, %llu delivered, %llu recipients queued",
                  (unsigned long long)counted(boot, offsetof(struct metric_set, messages_accepted)),
                  (unsigned long long)counted(boot, offsetof(struct metric_set, recipients_delivered)),
                  (unsigned long long)counted(boot, offsetof(struct metric_set, queued_recipients)));
}

static void trim(struct shard *shard, void *context)
{
    (void)context;
    shard_trim(shard);
}

static void serve(struct boot *boot)
{
    uint64_t watchdog_ms = notify_watchdog_ms();
    uint64_t wait_ms = watchdog_ms != 0 ? watchdog_ms : notify_wanted() ? BOOT_STATUS_MS : UINT64_MAX;
    wait_ms = wait_ms < BOOT_FILES_MS ? wait_ms : BOOT_FILES_MS;
    bool trimmed = false;
    for (;;) {
        switch (signals_wait(trimmed || wait_ms < BOOT_TRIM_MS ? wait_ms : BOOT_TRIM_MS)) {
        case SIGNALS_STOP: return;
        case SIGNALS_RELOAD:
            notify_reloading();
            boot_reload(boot);
            notify_ready();
            break;
        case SIGNALS_NONE:
            if (!trimmed) {
                boot_on_shards(boot, trim, NULL);
                trimmed = true;
            }
            if (watchdog_ms != 0) {
                feed_watchdog(boot);
            }
            show_status(boot);
            boot_reload_files(boot);
            break;
        }
    }
}

int boot_run(struct boot *boot)
{
    bool open = open_control(boot);
    if (open) {
        log_line(LOG_INFO, "ready", "shards=%u listeners=%u", boot->mapped->shards, boot->settings->listeners_count);
        notify_ready();
        serve(boot);
        notify_stopping();
    }
    log_line(LOG_INFO, "stopping", NULL);
    atomic_store(&boot->stopping, true);
    boot_stop(boot);
    accounts_stop(boot->accounts);
    if (boot->file_workers != NULL) {
        worker_pool_stop(boot->file_workers);
    }
    if (open) {
        control_delete(boot->control);
    }
    boot_shards_join(boot);
    log_line(LOG_INFO, "stopped", NULL);
    return open ? CLI_OK : CLI_CONFIG;
}
