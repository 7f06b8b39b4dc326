/* The parts of a spool, for the files of this folder only. Each part is in the header of the file that works on it. */
#ifndef SPOOL_SPOOL_PRIVATE_H
#define SPOOL_SPOOL_PRIVATE_H

#include <stdio.h>

#include "core/log.h"
#include "spool/compaction.h"
#include "spool/index.h"
#include "spool/seal.h"
#include "spool/segment.h"
#include "spool/spool.h"
#include "spool/supply.h"
#include "spool/writer.h"

#define SPOOL_PATH_BYTES 512
#define SPOOL_RESERVE 2        /* spares that intake may not use */
#define SPOOL_BLOCK_BYTES 4096 /* of file systems and pages */
#define SPOOL_SAY_MS 10000     /* between two lines in the log about whether new mail is taken */

struct spool {
    struct shard *shard;
    unsigned number;
    uint32_t segment_bytes;
    uint32_t batch_bytes;
    unsigned spare_max;
    int directory;
    int lock;
    char path[SPOOL_PATH_BYTES];
    struct shard_hook hook;
    bool hooked;
    bool stopping; /* no new background work */
    bool closing;  /* no new appends */
    bool look;     /* a segment may have become empty */
    struct segment_table segments;
    struct index index;
    struct writer writer;
    struct sealer sealer;
    struct supply supply;
    struct compaction compaction;
    uint64_t next_sequence;
    uint64_t next_id; /* without the spool's number */
    uint64_t next_segment;
    uint32_t next_file;
    uint64_t messages;
    uint64_t recipients;
    uint64_t live_bytes;
    uint64_t quarantined;          /* records and messages, since the start */
    uint64_t quarantined_messages; /* there are */
    uint64_t suspects;             /* segments that a write failed on */
    unsigned failures;             /* of writes and syncs */
    bool intake_full;
    /* What the gauges hold of ours. */
    uint64_t shown_segments;
    uint64_t shown_live_bytes;
    uint64_t shown_intake;
    enum spool_intake said_intake; /* in the log */
    uint64_t said_intake_ms;       /* 0: never */
    uint64_t shown_quarantined;
    uint64_t shown_suspects;
};

/* metrics is NULL in tests */
#define SPOOL_COUNT(spool, field, n) \
    ((spool)->shard->metrics != NULL ? metric_add(&(spool)->shard->metrics->field, (n)) : (void)0)

/* What the disk holds of the segment is unknown from here on. */
static inline void spool_suspect(struct spool *spool, struct segment *segment)
{
    spool->suspects += !segment->suspect;
    segment->suspect = true;
}

static inline struct segment *spool_segment(const struct spool *spool, uint16_t index)
{
    CHECK(index < spool->segments.capacity && spool->segments.at[index] != NULL);
    return spool->segments.at[index];
}

#endif
