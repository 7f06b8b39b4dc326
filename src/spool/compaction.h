/* Frees segments that hold little: moves what is still needed from them to the open one, in the background. */
#ifndef SPOOL_COMPACTION_H
#define SPOOL_COMPACTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/wheel.h"
#include "core/ring.h"
#include "spool/index.h"
#include "spool/mover.h"
#include "spool/spool.h"

#define COMPACTION_MOVERS 256
#define COMPACTION_FLIGHT_BYTES (4u << 20) /* of messages being moved: more only for a single one */
#define COMPACTION_TICK_MS 50
#define COMPACTION_SCAN 16384 /* slots looked at per turn */

struct compaction {
    struct timer timer;
    bool wanted; /* something changed that may be worth it */
    bool due;
    bool idle;    /* nothing much was received in the last tick */
    bool burst;   /* space is being made */
    bool carried; /* the victim's graves were tried */
    bool urgent;  /* the disk failed or is full: no rate limit */
    uint32_t kept_segments;
    uint64_t kept_bytes; /* live, in them */
    uint32_t bytes_per_second;
    int64_t budget;    /* bytes */
    uint64_t again_ms; /* when what could not be moved or emptied is tried again; 0: there is nothing */
    uint64_t again_wait_ms;
    uint64_t seen_bytes; /* the writer's appended_bytes at the last tick */
    struct segment *victim;
    uint32_t scan; /* next slot to look at */
    uint32_t moved;
    uint32_t busy;         /* movers at work */
    uint64_t flight_bytes; /* they hold */
    struct mover movers[COMPACTION_MOVERS];
    unsigned hand; /* where a free one is looked for next */
    struct carrier carrier;
};

void compaction_init(struct spool *spool, uint32_t bytes_per_second);
void compaction_free(struct spool *spool);
void compaction_run(struct spool *spool);
bool compaction_idle(const struct spool *spool);

/* What could not be moved, or emptied, is tried again after a while that grows each time, or when a segment is full. */
void compaction_retry(struct spool *spool);
/* The segment is being emptied, or may have become movable. */
void compaction_forget(struct spool *spool, const struct segment *segment);
void compaction_renew(struct spool *spool);

/* A mover or the carrier is ready for more. */
void compaction_finished(struct spool *spool, bool moved, uint64_t bytes);

#endif
