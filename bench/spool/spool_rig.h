/* A shard without a server on a real ring, with a spool: for the programs of this folder, which drive the spool itself.
 */
#ifndef BENCH_SPOOL_RIG_H
#define BENCH_SPOOL_RIG_H

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/metric.h"
#include "spool/envelope.h"
#include "spool/spool.h"

struct rig {
    struct shard shard;
    struct spool *spool;
};

static inline void rig_die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static inline void rig_turn(struct rig *rig, unsigned wait_ms)
{
    struct shard *shard = &rig->shard;
    if (ring_enter(shard->ring, wait_ms) != 0) {
        rig_die("the ring failed");
    }
    shard->now_ms = clock_monotonic_ms();
    shard->wall_ms = clock_wall_ms();
    ring_run(shard->ring);
    wheel_advance(&shard->wheel, shard->now_ms);
    for (struct list *node = shard->hooks.next, *next; node != &shard->hooks; node = next) {
        next = node->next;
        struct shard_hook *hook = LIST_OWNER(node, struct shard_hook, node);
        hook->run(hook);
    }
}

static inline void rig_open(struct rig *rig, const struct spool_settings *settings)
{
    char reason[256];
    struct ring_settings ring = {.entries = 256, .receive_buffers = 4, .receive_buffer_bytes = 4096};
    *rig = (struct rig){.shard = {.now_ms = clock_monotonic_ms(), .wall_ms = clock_wall_ms()}};
    if (ring_new(&ring, &rig->shard.ring, reason, sizeof reason) != 0) {
        rig_die(reason);
    }
    rig->shard.metrics = metric_set_new();
    rng_seed(&rig->shard.rng, 1);
    wheel_init(&rig->shard.wheel, rig->shard.now_ms);
    list_init(&rig->shard.hooks);
    if (spool_open(&rig->shard, settings, &rig->spool, reason, sizeof reason) != ERR_OK) {
        rig_die(reason);
    }
}

static inline void rig_close(struct rig *rig)
{
    spool_close(rig->spool);
    metric_set_delete(rig->shard.metrics);
    ring_delete(rig->shard.ring);
}

#endif
