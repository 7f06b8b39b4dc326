#include "sim/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/map.h"
#include "sim/client.h"
#include "sim/disk.h"
#include "sim/fiber.h"
#include "sim/life.h"
#include "sim/net.h"
#include "sim/oracle.h"
#include "sim/remote.h"
#include "sim/truth.h"
#include "sim/world.h"

#define CUTS_MAX 5
#define SETTLE_MORE_S (12 * 3600) /* beyond the expiry: then nothing may be left */
#define STEPS_MAX 60000000u       /* a run that takes more spins */

static struct run {
    struct life_settings life;
    struct client_settings clients;
    unsigned lives;
    unsigned cuts;
    unsigned clients_left;
    uint64_t trouble_ns; /* how long faults last */
    bool calm;           /* no faults, ever */
} run;

/* --- choices --- */

static void choose_life(void)
{
    run.life.shards = 1 + (unsigned)world_below(4);
    run.life.inbound = run.life.shards > 1 && world_chance(2500) ? 1 + (unsigned)world_below(run.life.shards - 1) : 0;
    run.life.receive_buffers = 64u << world_below(3);
    run.life.connections_max = 1 + (unsigned)world_below(30);
    run.life.recipients_max = 1 + (unsigned)world_below(20);
    run.life.messages_max = 1 + (unsigned)world_below(20);
}

static void choose_run(void)
{
    static const uint32_t sizes[] = {64u << 10, 64u << 10, 128u << 10, 1u << 20};
    run.life.segment_bytes = world_chance(1000) ? sizes[3] : sizes[world_below(3)];
    run.life.batch_bytes = run.life.segment_bytes / 2;
    /* Only in the largest segments is there room for messages of several extents. */
    run.clients.body_bytes_max = run.life.segment_bytes == sizes[3] ? 700u << 10 : run.life.batch_bytes / 3;
    run.clients.relaxed_listener = world_chance(3000);
    run.life.body_memory_kib = 4096;
    run.life.expire_s = world_chance(3000) ? 1800 : 6 * 3600;
    run.life.compaction_bytes = 32u << 20;
    run.calm = world_chance(500);
    run.clients_left = 3 + (unsigned)world_below(world_chance(1000) ? 120 : 22);
    run.trouble_ns = (60 + world_below(1800)) * WORLD_S;
    oracle_set_expire(run.life.expire_s);
    choose_life();
}

static void choose_disk(void)
{
    disk_faults = (struct disk_faults){0};
    if (world_chance(6000)) {
        disk_faults.again = (unsigned)world_below(500);
    }
    if (world_chance(4000)) {
        disk_faults.write_error = (unsigned)world_below(200);
        disk_faults.sync_error = (unsigned)world_below(200);
    }
    if (world_chance(2000)) {
        disk_faults.name_error = (unsigned)world_below(300);
    }
    if (world_chance(3000)) {
        disk_faults.stall = (unsigned)world_below(200);
    }
}

/* --- lives --- */

static void plan_end(void);

static void begin_life(void *context, uint64_t argument)
{
    (void)context;
    (void)argument;
    if (life_state() == LIFE_NONE || life_state() == LIFE_ENDED) {
        run.lives++;
        choose_life();
        choose_disk();
        life_start(&run.life);
        plan_end();
    }
}

static void end_life(void *context, uint64_t argument)
{
    (void)context;
    if (argument != run.lives || life_state() == LIFE_ENDED || !world.faults) {
        return;
    }
    uint64_t how = world_below(10);
    if (how < 3 && life_state() == LIFE_UP) {
        life_stop();
    } else if (how >= 3) {
        run.cuts++;
        life_cut(how < 8);
    }
}

static void fill_disk(void *context, uint64_t argument)
{
    (void)context;
    disk_faults.full = argument != 0 && world.faults;
    world_trace("disk: %s", disk_faults.full ? "full" : "has room");
    if (disk_faults.full) {
        world_after(world_below(120 * WORLD_S), fill_disk, NULL, 0);
    }
}

/* By a count of disk operations, so that every operation is where the power may fail, or at any time. */
static void plan_end(void)
{
    disk_cut_at = 0;
    if (!world.faults || run.calm || run.cuts >= CUTS_MAX) {
        return;
    }
    if (world_chance(6000)) {
        disk_cut_at = disk_operations + 1 + world_below(world_chance(5000) ? 60 : 600);
    }
    world_after(world_below(600 * WORLD_S), end_life, NULL, run.lives);
    if (world_chance(1500)) {
        world_after(world_below(60 * WORLD_S), fill_disk, NULL, 1);
    }
}

static void watch_life(void *context, uint64_t argument)
{
    (void)context;
    (void)argument;
    if (life_state() == LIFE_ENDED) {
        begin_life(NULL, 0);
    }
    world_after(WORLD_S, watch_life, NULL, 0);
}

static void step(void)
{
    if (!fiber_step()) {
        world_fail("nothing will ever happen again");
    }
    if (world.cut) {
        run.cuts++;
        life_cut(world_chance(7500));
    }
}

/* --- the course of a run --- */

static void add_client(void *context, uint64_t argument)
{
    (void)context;
    (void)argument;
    client_start(&run.clients);
    if (--run.clients_left != 0) {
        uint64_t most_ns = world_chance(7000) ? 100 * WORLD_MS : run.trouble_ns / 6;
        world_after(world_below(most_ns), add_client, NULL, 0);
    }
}

static void live_until(uint64_t until_ns)
{
    uint64_t steps = 0;
    while (world.now_ns < until_ns) {
        step();
        if (++steps > STEPS_MAX) {
            world_fail("it spins");
        }
    }
}

/* Faults are over: everything must come to its end. */
static void settle(void)
{
    world.faults = false;
    disk_faults = (struct disk_faults){0};
    disk_cut_at = 0;
    world_trace("run: no more faults");
    uint64_t until_ns = world.now_ns + (run.life.expire_s + SETTLE_MORE_S) * WORLD_S;
    while (world.now_ns < until_ns) {
        live_until(world.now_ns + 30 * WORLD_S);
        remote_settle();
        if (life_state() == LIFE_UP && client_sessions() == 0 && run.clients_left == 0 && oracle_settled() &&
            life_queued() == 0) {
            live_until(world.now_ns + 60 * WORLD_S);
            break;
        }
    }
    oracle_check_end();
    if (life_state() != LIFE_UP || client_sessions() != 0 || life_queued() != 0) {
        world_fail("at the end the server is %sup, %u clients wait, %llu recipients are queued",
                   life_state() == LIFE_UP ? "" : "not ", client_sessions(), (unsigned long long)life_queued());
    }
    life_check_idle();
}

static void stop_and_wait(void)
{
    uint64_t until_ns = world.now_ns + 120 * WORLD_S;
    life_stop();
    while (life_state() != LIFE_ENDED && world.now_ns < until_ns) {
        step();
    }
    if (life_state() != LIFE_ENDED) {
        world_fail("it does not stop");
    }
}

/* Nothing may come back. */
static void start_once_more(void)
{
    choose_life();
    life_start(&run.life);
    uint64_t until_ns = world.now_ns + 60 * WORLD_S;
    while (life_state() != LIFE_UP && world.now_ns < until_ns) {
        step();
    }
    if (life_state() != LIFE_UP || life_queued() != 0) {
        world_fail("after all mail was delivered, a start is %s", life_state() == LIFE_UP ? "busy" : "impossible");
    }
    live_until(world.now_ns + 5 * WORLD_S);
    stop_and_wait();
}

void run_seed(uint64_t seed, const char *root, bool tracing, struct run_result *ret_result)
{
    world_init(seed, tracing);
    map_set_seed(seed);
    disk_init(root);
    life_init(root);
    choose_run();
    world.faults = !run.calm;
    begin_life(NULL, 0);
    watch_life(NULL, 0);
    add_client(NULL, 0);
    live_until(run.trouble_ns);
    settle();
    stop_and_wait();
    run.clients_left = 0;
    start_once_more();
    *ret_result = (struct run_result){
        .hash = world.hash ^ rng_next(&world.rng),
        .events = world.events,
        .virtual_s = world.now_ns / WORLD_S,
        .lives = run.lives,
        .cuts = run.cuts,
        .letters = oracle_letters(),
    };
}
