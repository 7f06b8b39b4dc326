#include "sim/life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/boot.h"
#include "app/boot_private.h"
#include "app/signals.h"
#include "base/check.h"
#include "core/log.h"
#include "core/stream.h"
#include "queue/enqueue.h"
#include "sim/disk.h"
#include "sim/fiber.h"
#include "sim/net.h"
#include "sim/oracle.h"
#include "sim/remote.h"
#include "sim/truth.h"
#include "sim/world.h"

static struct life_settings settings;
static enum life_state state;
static char root_path[128];
static struct fiber *fiber; /* of the main thread */
static struct boot *boot;
static bool stop_wanted;
static struct settings *loaded;

void life_init(const char *root)
{
    snprintf(root_path, sizeof root_path, "%s", root);
}

enum life_state life_state(void)
{
    return state;
}

/* --- configuration --- */

static void write_configuration(const char *path)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fprintf(file,
            "hostname = \"mx.ringpost.sim\";\n"
            "shards = { count = %u; inbound = %u; delivery = %u; pin = false; };\n"
            "spool = { path = \"%s/spool\"; segment_bytes = \"16M\"; spare_segments_max = 4; "
            "compaction_rate = \"%llu\"; };\n",
            settings.shards, settings.inbound, settings.inbound != 0 ? settings.shards - settings.inbound : 0,
            root_path, (unsigned long long)settings.compaction_bytes);
    fprintf(
        file,
        "listeners = ( { name = \"a\"; address = \"127.0.0.1\"; port = %d; relay_networks = ( \"10.0.0.0/8\" ); },\n"
        "  { name = \"b\"; address = \"127.0.0.1\"; port = %d; relay_networks = ( \"10.0.0.0/8\" ); "
        "durability = \"relaxed\"; } );\n",
        LIFE_PORT, LIFE_PORT_RELAXED);
    fprintf(file,
            "limits = { receive_buffers = %u; receive_buffer_bytes = 1024; ring_entries = 256; "
            "body_memory_max = \"%uK\"; };\n"
            "delivery = { connections_max = %u; messages_per_connection_max = %u; "
            "recipients_per_transaction_max = %u; copy_after = \"2s\"; copy_memory_max = \"20K\"; };\n",
            settings.receive_buffers, settings.body_memory_kib, settings.connections_max, settings.messages_max,
            settings.recipients_max);
    fprintf(file,
            "retry = { schedule = ( \"1m\", \"2m\", \"5m\", \"10m\" ); expire = \"%llus\"; };\n"
            "bounce = { quote_bytes_max = \"2K\"; };\n"
            "admin = { listen = \"off\"; socket = \"\"; };\n"
            "events = { path = \"\"; };\n"
            "log = { level = \"%s\"; };\n"
            "stop_timeout = \"30s\";\n"
            "sandbox = \"off\";\n",
            (unsigned long long)settings.expire_s, world.tracing ? "debug" : "error");
    fclose(file);
}

static void report(void *context, const char *message)
{
    (void)context;
    world_fail("the simulator's configuration is wrong: %s", message);
}

/* --- what the program's main thread asks --- */

void signals_block(void)
{
}

/* The simulated disk loses what was not durable, but it damages nothing. (When a write has failed, what it was to make
 * durable may be missing in the middle, and is rightly told.) */
static void check_damage(void)
{
    for (unsigned number = 0; number < QUEUE_SPOOLS; number++) {
        struct spool_statistics statistics = {0};
        if (boot->spools[number] != NULL) {
            spool_statistics(boot->spools[number], &statistics);
        }
        if (statistics.quarantined != 0 && disk_failures == 0) {
            world_fail("spool %u finds %llu damaged records, but nothing was damaged", number,
                       (unsigned long long)statistics.quarantined);
        }
    }
}

/* The main thread comes here once everything has been started. */
enum signals_wish signals_wait(uint64_t timeout_ms)
{
    if (timeout_ms == 0) {
        return SIGNALS_NONE; /* it looks for a second signal while it stops */
    }
    if (state == LIFE_STARTING) {
        truth_started();
        check_damage();
        state = LIFE_UP;
        world_trace("life: up, with %u shards", settings.shards);
    }
    uint64_t until_ns = timeout_ms > UINT32_MAX ? UINT64_MAX : world.now_ns + timeout_ms * WORLD_MS;
    while (!stop_wanted && world.now_ns < until_ns) {
        fiber_sleep(until_ns);
    }
    if (!stop_wanted) {
        return SIGNALS_NONE;
    }
    world_trace("life: stopping");
    state = LIFE_STOPPING;
    return SIGNALS_STOP;
}

int __real_boot_run(struct boot *booted);
int __wrap_boot_run(struct boot *booted);
int __wrap_boot_run(struct boot *booted)
{
    boot = booted;
    int code = __real_boot_run(booted);
    boot = NULL;
    return code;
}

enum err __real_spool_open(struct shard *shard, const struct spool_settings *from, struct spool **ret_spool,
                           char *reason, size_t reason_size);
enum err __wrap_spool_open(struct shard *shard, const struct spool_settings *from, struct spool **ret_spool,
                           char *reason, size_t reason_size);
enum err __wrap_spool_open(struct shard *shard, const struct spool_settings *from, struct spool **ret_spool,
                           char *reason, size_t reason_size)
{
    struct spool_settings small = *from;
    small.segment_bytes = settings.segment_bytes;
    small.batch_bytes = settings.batch_bytes;
    return __real_spool_open(shard, &small, ret_spool, reason, reason_size);
}

void __real_enqueue_recovered(struct queue *queue, unsigned number, const struct spool_recovered *message);
void __wrap_enqueue_recovered(struct queue *queue, unsigned number, const struct spool_recovered *message);
void __wrap_enqueue_recovered(struct queue *queue, unsigned number, const struct spool_recovered *message)
{
    truth_recovered(number, message);
    __real_enqueue_recovered(queue, number, message);
}

/* The last thing that a shard's end does. */
void __real_stream_shard_stop(struct shard *shard);
void __wrap_stream_shard_stop(struct shard *shard);
void __wrap_stream_shard_stop(struct shard *shard)
{
    __real_stream_shard_stop(shard);
    if (wheel_next_ms(&shard->wheel) != UINT64_MAX) {
        world_fail("a timer of shard %u is still armed at its end", shard->index);
    }
}

/* --- beginning and end --- */

static void forget(void)
{
    fiber_forget_all();
    request_forget_all();
    life_forget_blocks();
    boot = NULL;
}

static void check_leaks(void)
{
    if (net_open() != 0) {
        world_fail("%u sockets are open after a stop", net_open());
    }
    if (disk_open() != 0) {
        world_fail("%u files are open after a stop", disk_open());
    }
    if (life_blocks() != 0) {
        world_fail("%u blocks of memory or maps were not given back by a stop", life_blocks());
    }
}

static void *run_boot(void *argument)
{
    (void)argument;
    int code = boot_serve(loaded);
    if (!stop_wanted) {
        world_trace("life: cannot start, exit code %d", code);
        life_exit(code);
    }
    state = LIFE_ENDED;
    world_trace("life: stopped");
    truth_cut(); /* what a failed write left in the page cache may be found by the next start, or not */
    check_leaks();
    return NULL;
}

void life_start(const struct life_settings *wanted)
{
    char path[160];
    CHECK(state == LIFE_NONE || state == LIFE_ENDED);
    forget();
    settings = *wanted;
    snprintf(path, sizeof path, "%s/conf", root_path);
    write_configuration(path);
    loaded = settings_load(path, report, NULL);
    CHECK(loaded != NULL);
    truth_starting();
    stop_wanted = false;
    state = LIFE_STARTING;
    world_trace("life: starting with %u shards, %u of them inbound", settings.shards, settings.inbound);
    fiber = fiber_new(run_boot, NULL);
}

void life_stop(void)
{
    CHECK(state == LIFE_UP);
    stop_wanted = true;
    fiber_wake(fiber);
}

void life_cut(bool power)
{
    world_trace("life: %s", power ? "POWER CUT" : "killed");
    state = LIFE_ENDED;
    remote_settle();
    net_cut();
    disk_cut(power);
    forget();
    remote_settle();
    oracle_cut();
    truth_cut();
    world.cut = false;
}

static void die(void *context, uint64_t argument)
{
    (void)context;
    (void)argument;
    if (state != LIFE_ENDED && state != LIFE_NONE) {
        life_cut(false);
    }
}

void life_exit(int status)
{
    world_trace("life: the process ends with status %d", status);
    world_after(0, die, NULL, 0);
    fiber_stop();
}

/* --- looking inside --- */

uint64_t life_queued(void)
{
    uint64_t queued = 0;
    for (unsigned i = 0; boot != NULL && i < settings.shards; i++) {
        queued += shard_group_member(boot->group, i)->metrics->queued_recipients;
    }
    return queued;
}

void life_check_idle(void)
{
    check_damage();
    for (unsigned number = 0; number < QUEUE_SPOOLS; number++) {
        struct spool_statistics statistics;
        if (boot->spools[number] == NULL) {
            continue;
        }
        spool_statistics(boot->spools[number], &statistics);
        if (statistics.messages != 0 || statistics.recipients != 0 || statistics.live_bytes != 0 ||
            statistics.pending != 0) {
            world_fail("spool %u holds %llu messages, %llu recipients, %llu live bytes when all mail is gone", number,
                       (unsigned long long)statistics.messages, (unsigned long long)statistics.recipients,
                       (unsigned long long)statistics.live_bytes);
        }
    }
    for (unsigned i = 0; i < settings.shards; i++) {
        const struct metric_set *metrics = shard_group_member(boot->group, i)->metrics;
        if (metrics->queued_messages != 0 || metrics->spool_live_bytes != 0 || metrics->outbound_open > 100000) {
            world_fail("shard %u counts %llu messages, %llu live bytes when all mail is gone", i,
                       (unsigned long long)metrics->queued_messages, (unsigned long long)metrics->spool_live_bytes);
        }
    }
}
