/* The group commit: everything that is appended in one turn of the loop, or while a sync is in flight, becomes one
 * write. */
#ifndef SPOOL_WRITER_H
#define SPOOL_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "base/wheel.h"
#include "core/ring.h"
#include "spool/spool.h"

#define WRITER_PIECES 1024     /* IOV_MAX */
#define WRITER_RELAXED_MS 1000 /* relaxed messages are synced at the latest after this */

enum writer_phase {
    WRITER_IDLE,
    WRITER_WRITE,
    WRITER_SYNC,  /* of what was just written and relaxed writes before it */
    WRITER_FLUSH, /* sync without a write */
};

struct writer {
    struct op op;
    enum writer_phase phase;
    struct segment *open; /* NULL: the next append takes a spare */
    bool open_reserve;    /* it is one of the spares that intake may not use */
    bool synced;          /* the batch must be durable */
    bool previous_failed; /* the append before the next one in order failed */
    bool flush_due;
    struct list pending;
    struct list batch;
    uint32_t pending_count;
    uint32_t batch_count;
    uint32_t batch_messages;
    uint32_t batch_entries;
    uint64_t first_sequence;   /* of the batch */
    uint64_t durable_sequence; /* everything below is durable */
    uint64_t size;             /* of the batch's records */
    uint64_t written;
    uint64_t batch_intake; /* bytes of messages in the batch that compaction did not move */
    uint64_t started_ns;
    uint64_t appended_bytes; /* by others than compaction, since the start */
    struct timer timer;
    unsigned outcome_wait_ms;  /* see writer_waits */
    uint64_t waiting_since_ms; /* when the oldest of those that are pending came */
    struct timer company;      /* ends the wait */
    unsigned piece_first;
    unsigned piece_count;
    struct iovec pieces[WRITER_PIECES];
    char *memory; /* per record: zero bytes that end the one before, and its header */
};

/* False without memory. */
bool writer_init(struct spool *spool);
void writer_free(struct spool *spool);

/* Queues an append whose type, id, flags and pieces are set. */
void writer_queue(struct spool *spool, struct spool_append *append);

/* Starts the next batch when none is in flight; at the end of every turn. */
void writer_run(struct spool *spool);

/* Nothing pending, nothing in flight, nothing written that is not synced. */
bool writer_idle(const struct spool *spool);

/* Closes the open segment for appends, to be sealed. It must be synced. */
void writer_retire(struct spool *spool);

#endif
