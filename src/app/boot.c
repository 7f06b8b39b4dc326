/* Putting the server together, and taking it apart without losing anything.
 *
 * Start: each shard, in its own thread, makes delivery, queue, resolver, event log, its spools (what they find goes
 * into the queues) and last its listeners. Spool number i belongs to inbound shard i; directories that are left over
 * from a start with more shards are dealt out to those that exist.
 *
 * Stop, in steps that every shard has taken before the next one begins, because a message's owner and its deliverer
 * need each other: no new mail -> connections finish -> mail between shards settles -> loops end, spools are sealed.
 */
#include "app/boot.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "app/boot_limits.h"
#include "app/boot_listener.h"
#include "app/boot_private.h"
#include "app/cli.h"
#include "app/notify.h"
#include "app/sandbox.h"
#include "app/signals.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/stream.h"
#include "core/tls.h"
#include "core/worker.h"
#include "inbound/accounts.h"
#include "queue/enqueue.h"

#define BOOT_SETTLED_ROUNDS 4 /* quiet looks in a row before mail between shards counts as settled */
#define BOOT_ROUND_MS 2
#define BOOT_FILE_WORKERS 2
#define BOOT_OUTCOME_WAIT_MS 5 /* about the sync of a slow disk */
#define BOOT_COMPACTION_MAX UINT32_MAX

/* --- start of one shard -------------------------------------------------------------------------------------- */

struct recovery {
    struct shard *shard;
    unsigned number;
    uint64_t messages;
};

static void recovered(void *context, const struct spool_recovered *message)
{
    struct recovery *recovery = context;
    enqueue_recovered(recovery->shard->queue, recovery->number, message);
    recovery->messages++;
}

static int open_spool(struct boot *boot, struct shard *shard, unsigned number)
{
    const struct settings_spool *from = &boot->settings->spool;
    struct recovery recovery = {.shard = shard, .number = number};
    uint64_t rate = from->compaction_rate_bytes;
    struct spool_settings settings = {
        .root = from->path,
        .number = number,
        .segment_bytes = (uint32_t)from->segment_bytes,
        .spare_max = from->spare_segments_max,
        .compaction_bytes_per_second = (uint32_t)(rate < BOOT_COMPACTION_MAX ? rate : BOOT_COMPACTION_MAX),
        .outcome_wait_ms = BOOT_OUTCOME_WAIT_MS,
        .recovered = recovered,
        .context = &recovery,
    };
    struct spool *spool = NULL;
    char reason[256] = "";
    uint64_t begin_ms = clock_monotonic_ms();
    enum err err = spool_open(shard, &settings, &spool, reason, sizeof reason);
    if (err != ERR_OK) {
        char quoted[512];
        log_line(LOG_ERROR, "the spool cannot be opened", "spool=%s/%u error=%s reason=%s", from->path, number,
                 err_name(err), log_quote(bytes_of_string(reason), quoted, sizeof quoted));
        return err == ERR_NO_MEMORY ? -ENOMEM : err == ERR_LOCKED ? -EBUSY : -EIO;
    }
    queue_add_spool(shard->queue, number, spool);
    boot->spools[number] = spool;
    if (number == shard->index) {
        shard->spool = spool;
    }
    log_line(LOG_INFO, "spool opened", "spool=%s/%u shard=%u messages=%llu ms=%llu", from->path, number, shard->index,
             (unsigned long long)recovery.messages, (unsigned long long)(clock_monotonic_ms() - begin_ms));
    return 0;
}

static int start_inbound(struct boot *boot, struct shard *shard)
{
    char reason[256] = "";
    for (unsigned number = 0; number < QUEUE_SPOOLS; number++) {
        if (boot->spool_wanted[number] && boot->spool_shard[number] == shard->index) {
            int error = open_spool(boot, shard, number);
            if (error != 0) {
                return error;
            }
        }
    }
    struct inbound *inbound = NULL;
    int error = inbound_new(shard, boot->admission, &boot->mapped->inbound, &inbound, reason, sizeof reason);
    if (error != 0) {
        log_line(LOG_ERROR, "cannot listen", "reason=\"%s\"", reason);
    }
    return error;
}

static int start_shard(struct shard *shard, void *context)
{
    struct boot *boot = context;
    struct boot_settings *mapped = boot->mapped;
    char reason[256] = "";
    stream_shard_start(shard);
    struct delivery *delivery = delivery_new(shard, &mapped->delivery);
    if (delivery == NULL) {
        return -ENOMEM;
    }
    struct queue_ops ops;
    delivery_queue_ops(&ops, delivery);
    struct queue *queue = queue_new(shard, &mapped->queue, &ops, boot->spool_shard);
    if (queue == NULL) {
        return -ENOMEM;
    }
    struct resolver *resolver = NULL;
    int error = resolver_new(shard, &mapped->resolver, &resolver, reason, sizeof reason);
    if (error != 0) {
        log_line(LOG_ERROR, "the resolver cannot be started", "reason=\"%s\"", reason);
        return error;
    }
    shard->resolver = resolver;
    shard->file_workers = boot->file_workers;
    delivery_start(delivery, queue, resolver);
    if (mapped->events.path[0] != '\0') {
        struct event_log *events = NULL;
        error = event_log_new(shard, &mapped->events, &events, reason, sizeof reason);
        if (error != 0) {
            log_line(LOG_ERROR, "the event log cannot be opened", "reason=\"%s\"", reason);
            return error;
        }
    }
    return shard->index < mapped->inbound_shards ? start_inbound(boot, shard) : 0;
}

/* --- end of one shard ---------------------------------------------------------------------------------------- */

static void resolver_gone(void *context)
{
    bool *gone = context;
    *gone = true;
}

static void end_shard(struct shard *shard, void *context)
{
    struct boot *boot = context;
    if (shard->inbound != NULL) {
        inbound_delete(shard->inbound);
    }
    queue_delete(shard->queue);
    delivery_delete(shard->delivery);
    bool gone = false;
    resolver_close(shard->resolver, resolver_gone, &gone);
    while (!gone) {
        ring_enter(shard->ring, 10);
        ring_run(shard->ring);
    }
    for (unsigned number = 0; number < QUEUE_SPOOLS; number++) {
        if (boot->spools[number] != NULL && boot->spool_shard[number] == shard->index) {
            spool_close(boot->spools[number]);
        }
    }
    if (shard->events != NULL) {
        event_log_delete(shard->events);
    }
    stream_shard_stop(shard);
}

/* --- stopping ------------------------------------------------------------------------------------------------ */

static void inbound_stopped(struct inbound *inbound)
{
    struct boot *boot = inbound->shard->context;
    atomic_fetch_add(&boot->stopped, 1);
}

static void stop_inbound(struct shard *shard, void *context)
{
    struct boot *boot = context;
    if (shard->inbound == NULL) {
        atomic_fetch_add(&boot->stopped, 1);
        return;
    }
    uint64_t now_ms = clock_monotonic_ms();
    inbound_stop(shard->inbound, boot->deadline_ms > now_ms ? boot->deadline_ms - now_ms : 0, inbound_stopped);
}

static void delivery_stopped(void *context)
{
    struct boot *boot = context;
    atomic_fetch_add(&boot->stopped, 1);
}

static void stop_delivery(struct shard *shard, void *context)
{
    struct boot *boot = context;
    delivery_stop(shard->delivery, boot->deadline_ms, delivery_stopped, boot);
}

static void look_busy(struct shard *shard, void *context)
{
    bool *busy = context;
    *busy |= shard->delivery->journals != 0 || shard->delivery->attempts.used != 0;
}

static void end_loop(struct shard *shard, void *context)
{
    (void)context;
    shard->stopping = true;
}

static void pause_ms(unsigned ms)
{
    struct timespec time = {.tv_nsec = (long)ms * 1000000};
    nanosleep(&time, NULL);
}

void boot_on_shards(struct boot *boot, void (*call)(struct shard *shard, void *context), void *context)
{
    for (unsigned i = 0; i < boot->mapped->shards; i++) {
        shard_call(boot->group, i, call, context);
    }
}

/* Between two looks at whether the shards have come so far; the control thread's watchdog is fed meanwhile. Beyond the
 * deadline and `grace_ms` the process ends: the kernel still works for us, on a disk that does not answer. What it
 * holds must not be freed; and a process that ends here loses what a crash would: nothing that was promised. */
static void wait_for_shards(struct boot *boot, uint64_t grace_ms, const char *reason)
{
    boot_run_watch(boot);
    if (clock_monotonic_ms() > boot->deadline_ms + grace_ms) {
        log_line(LOG_ERROR, "stopped without an answer from the disk", "reason=\"%s\"", reason);
        _exit(CLI_FAILED);
    }
    pause_ms(BOOT_ROUND_MS);
}

/* Takes every shard through one step of the stop. */
static void stop_step(struct boot *boot, void (*step)(struct shard *shard, void *context), const char *reason)
{
    atomic_store(&boot->stopped, 0);
    boot_on_shards(boot, step, boot);
    while (atomic_load(&boot->stopped) < boot->mapped->shards) {
        wait_for_shards(boot, BOOT_SETTLE_MS, reason);
    }
}

static void settle(struct boot *boot)
{
    for (unsigned quiet = 0; quiet < BOOT_SETTLED_ROUNDS;) {
        bool busy = false;
        boot_on_shards(boot, look_busy, &busy);
        quiet = busy ? 0 : quiet + 1;
        wait_for_shards(boot, BOOT_SETTLE_MS, "outcomes are still being written");
    }
}

void boot_stop(struct boot *boot)
{
    boot->deadline_ms = clock_monotonic_ms() + boot->settings->stop_timeout_ms;
    stop_step(boot, stop_inbound, "messages are still being written");
    stop_step(boot, stop_delivery, "outcomes or mailboxes are still being written");
    settle(boot);
}

void boot_shards_join(struct boot *boot)
{
    boot_on_shards(boot, end_loop, NULL);
    while (!shard_group_ended(boot->group)) {
        wait_for_shards(boot, BOOT_CLOSE_MS, "spools and event logs are still being closed");
    }
    shard_group_join(boot->group);
}

/* --- the whole ----------------------------------------------------------------------------------------------- */

/* Spools 0 to n - 1 are written by the n inbound shards; others that exist are dealt out. */
static bool deal_spools(struct boot *boot)
{
    const char *path = boot->settings->spool.path;
    unsigned shards = boot->mapped->inbound_shards;
    int error = file_make_directories(path, 0750);
    if (error != 0) {
        log_line(LOG_ERROR, "the spool directory cannot be made", "path=%s error=\"%s\"", path, strerror(-error));
        return false;
    }
    DIR *directory = opendir(path);
    if (directory == NULL) {
        log_line(LOG_ERROR, "the spool directory cannot be read", "path=%s error=\"%s\"", path, strerror(errno));
        return false;
    }
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        uint64_t number = 0;
        if (bytes_parse_number(bytes_of_string(entry->d_name), &number) && number < QUEUE_SPOOLS) {
            boot->spool_wanted[number] = true;
        }
    }
    closedir(directory);
    for (unsigned number = 0; number < QUEUE_SPOOLS; number++) {
        boot->spool_shard[number] = (uint8_t)(number % shards);
        boot->spool_wanted[number] |= number < shards;
    }
    return true;
}

bool boot_file_workers(struct boot *boot, const struct settings *settings)
{
    bool needed = false;
    for (unsigned i = 0; i < settings->domains_count; i++) {
        needed |= settings->domains[i].quota_bytes != 0 || settings->domains[i].quota_messages != 0;
    }
    if (!needed || boot->file_workers != NULL) {
        return true;
    }
    int error = worker_pool_new(BOOT_FILE_WORKERS, WORKER_QUEUE_MAX, &boot->file_workers);
    if (error != 0) {
        log_line(LOG_ERROR, "workers for quotas cannot be started", "error=\"%s\"", strerror(-error));
    }
    return error == 0;
}

static bool start_accounts(struct boot *boot)
{
    const struct accounts_settings settings = boot_listener_accounts(boot->settings);
    int error = accounts_new(&settings, &boot->accounts);
    if (error != 0) {
        log_line(LOG_ERROR, "accounts cannot be set up", "error=\"%s\"", strerror(-error));
        return false;
    }
    boot->mapped->inbound.accounts = boot->accounts;
    return boot_reload_start(boot);
}

static bool start(struct boot *boot)
{
    char reason[256] = "";
    struct shard_group_settings settings = {
        .shards = boot->mapped->shards,
        .pin = boot->settings->shards.pin,
        .ring = boot->mapped->ring,
        .start = start_shard,
        .stop = end_shard,
        .context = boot,
    };
    int error = shard_group_start(&settings, &boot->group, reason, sizeof reason);
    if (error != 0) {
        log_line(LOG_ERROR, "the server cannot be started", "reason=\"%s\"", reason);
    }
    return error == 0;
}

static void drop_capabilities(struct shard *shard, void *context)
{
    (void)shard;
    (void)context;
    sandbox_drop_capabilities();
}

static bool seal(struct boot *boot)
{
    boot_on_shards(boot, drop_capabilities, NULL);
    return sandbox_seal(boot->settings, &boot->sandbox);
}

int boot_serve(const struct settings *settings)
{
    struct boot boot = {.settings = settings};
    log_set_level(settings->log.level);
    signals_block();
    notify_init();
    if (!sandbox_enter(settings, &boot.sandbox) || tls_library_init() != 0) {
        return CLI_CONFIG;
    }
    boot.mapped = boot_reload_map(settings); /* with what TLS needs */
    if (boot.mapped == NULL || !deal_spools(&boot) || !sandbox_close_files(settings, &boot.sandbox)) {
        return CLI_CONFIG;
    }
    if (!start_accounts(&boot) || !boot_file_workers(&boot, settings) || !boot_limits_start(&boot) || !start(&boot)) {
        return CLI_CONFIG;
    }
    if (!seal(&boot)) {
        return CLI_CONFIG;
    }
    int code = boot_run(&boot);
    boot_limits_end(&boot);
    accounts_delete(boot.accounts);
    if (boot.file_workers != NULL) {
        worker_pool_delete(boot.file_workers);
    }
    boot_reload_free(&boot);
    sandbox_end(&boot.sandbox);
    return code;
}
