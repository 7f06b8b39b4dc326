/* A spool: one directory of segments with one writing shard (docs/design/spool.md says why it is as it is).
 *
 *   append    queued, and committed in groups: `done` runs when the bytes are durable (or written, for relaxed ones)
 *   lend      a message's bytes, readable from any thread until returned
 *   outcome   appended like a message; a message whose recipients are all finished is gone, and so are its bytes
 *
 * Everything here is called by the owning shard's thread, but for the functions of spool_view.h.
 * A message is named by {slot, id}: the slot finds it at once, the id tells a late asker that it is another one by now.
 */
#ifndef SPOOL_SPOOL_H
#define SPOOL_SPOOL_H

#include <sys/uio.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/list.h"
#include "core/shard.h"
#include "ringpost/spool_format.h"
#include "spool/spool_view.h"

#define SPOOL_SLOT_NONE UINT32_MAX
#define SPOOL_NUMBER_SHIFT 56
#define SPOOL_PIECES_MAX 24 /* pieces of memory of one record: of a message's body, or of an extent */
#define SPOOL_STATE_TEXT_BYTES LIMIT_CLIENT_REPLY_BYTES
#define SPOOL_STATE_HOST_BYTES 320

struct spool;

static inline unsigned spool_id_number(uint64_t id)
{
    return (unsigned)(id >> SPOOL_NUMBER_SHIFT);
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

/* One recipient's state, as known from its last outcome. */
struct spool_state {
    enum spool_format_status status;
    uint16_t attempts;
    uint32_t next_attempt_s; /* wall clock */
};

/* A message found at the start. Spans and arrays are valid during the call only. */
struct spool_recovered {
    uint32_t slot;
    uint64_t id;
    uint64_t arrival_ms;
    uint64_t body_bytes;
    uint32_t flags;
    uint16_t recipients;
    struct bytes envelope;            /* well formed */
    const struct spool_state *states; /* one per recipient, finished ones included */
};

struct spool_settings {
    const char *root;                     /* the directory that holds the spools; must exist */
    unsigned number;                      /* 0..255: the directory <root>/<number>, created when missing */
    uint32_t segment_bytes;               /* of new segments; 0: LIMIT_SEGMENT_BYTES_DEFAULT */
    uint32_t batch_bytes;                 /* largest batch and record; 0: LIMIT_BATCH_BYTES; at most half a segment */
    unsigned spare_max;                   /* emptied segments to keep; 0: 8 */
    uint32_t compaction_bytes_per_second; /* 0: 32 MiB */
    unsigned outcome_wait_ms; /* outcomes alone wait so long for a message to share their commit; 0: not at all */
    /* Called for each message with a recipient left, from within spool_open. May be NULL. */
    void (*recovered)(void *context, const struct spool_recovered *message);
    void *context;
};

/* Opens the spool, blocking until all of it is known. ERR_LOCKED, ERR_FORMAT, ERR_IO, ERR_NO_SPACE, ERR_NO_MEMORY
 * with a one-line reason that names the file. Damaged records are counted and logged, never an error. */
enum err spool_open(struct shard *shard, const struct spool_settings *settings, struct spool **ret_spool, char *reason,
                    size_t reason_size);

/* Commits what is pending (running the ring until it is), seals the open segment and frees the spool. Nothing may be
 * lent. */
void spool_close(struct spool *spool);

/* --- appending -------------------------------------------------------------------------------------------------- */

/* Embedded in whoever appends; lives until `done`, as do all the bytes it points to. `done` is never called from
 * inside a spool_append_* call. ERR_NO_SPACE: the disk is full; ERR_IO: it failed; ERR_FULL: larger than a record may
 * be; ERR_NO_MEMORY; ERR_NOT_FOUND: an outcome of a message that is gone; ERR_CLOSED. The caller sets done, the rest
 * is the spool's. */
struct spool_append {
    struct list node;
    void (*done)(struct spool_append *append, enum err err);
    /* Results, valid in `done` when ERR_OK. */
    uint32_t slot;                     /* of a message */
    struct spool_format_extent extent; /* of an extent */
    /* private */
    struct spool_format_message message;
    struct iovec pieces[SPOOL_PIECES_MAX + 5];
    uint64_t id;
    uint64_t hash;
    uint32_t payload_bytes;
    uint32_t position;
    uint16_t segment;
    uint16_t piece_count;
    uint16_t entry_count; /* OUTCOME: states */
    uint8_t type;
    bool relaxed;
    bool reserve;
    bool follows;
    bool moved; /* written by compaction */
    bool queued;
    bool counted; /* OUTCOME: in its slot */
    enum err failed;
    const void *states;
    const struct spool_format_extent *extents;
};

/* A new message id; never given twice, also not after a crash. */
uint64_t spool_new_id(struct spool *spool);

struct spool_message {
    uint64_t id; /* from spool_new_id */
    uint64_t arrival_ms;
    uint32_t flags;      /* SPOOL_FORMAT_*; with RELAXED `done` comes after the write */
    uint16_t recipients; /* as many as the envelope names; at least 1 */
    bool reserve;        /* generated here: may use the space kept for outcomes when the disk is full */
    struct bytes envelope;
    struct bytes prologue;
    const struct iovec *body; /* copied; what it points to is not. At most SPOOL_PIECES_MAX */
    unsigned body_pieces;
    const struct spool_format_extent *extents; /* in order; the body's beginning */
    unsigned extent_count;
};
void spool_append_message(struct spool *spool, struct spool_append *append, const struct spool_message *message);

/* A piece of a large body, at most LIMIT_EXTENT_BYTES. Its place comes back in append->extent, to be named by the
 * message or given to spool_abandon_extent. Not synced: the message's commit covers it. */
void spool_append_extent(struct spool *spool, struct spool_append *append, uint64_t id, const struct iovec *pieces,
                         unsigned count);
/* What was written there, in the map, as long as it is not abandoned nor named by a message. To be brought in before it
 * is read, as spool_view.h says. */
struct bytes spool_extent(const struct spool *spool, const struct spool_format_extent *extent);
/* The message will not come: the bytes are garbage now. */
void spool_abandon_extent(struct spool *spool, const struct spool_format_extent *extent);

struct spool_outcome {
    uint16_t recipient; /* index */
    enum spool_format_status status;
    uint16_t attempts;
    uint32_t next_attempt_s;
    uint16_t reply_code;
    uint8_t enhanced[3];
    struct bytes reply; /* cut at SPOOL_STATE_TEXT_BYTES */
    struct bytes host;  /* cut at SPOOL_STATE_HOST_BYTES */
};

/* Room that `count` outcomes need at most. */
#define SPOOL_OUTCOME_BYTES(count)         \
    (sizeof(struct spool_format_outcome) + \
     (count) * (sizeof(struct spool_format_state) + SPOOL_STATE_TEXT_BYTES + SPOOL_STATE_HOST_BYTES + 4))

/* What became of recipients of one message, as one record, encoded into `room` (which lives until `done`). Always
 * durable when `done` says ERR_OK; only then do the message's counts change. A bounce that these outcomes cause is
 * appended (spool_append_message) right before, and `follows` set: the outcomes are committed after it, and not at
 * all when it fails. */
void spool_append_outcomes(struct spool *spool, struct spool_append *append, uint32_t slot, uint64_t id,
                           const struct spool_outcome *outcomes, unsigned count, bool follows, struct buffer *room);

/* --- reading ---------------------------------------------------------------------------------------------------- */

/* The spool's number, and the id of the message in a slot, 0 when there is none. (For the queue, whose entries name a
 * message by its slot: a recipient to deliver keeps the message, so its slot cannot be another's.) */
unsigned spool_number(const struct spool *spool);
uint64_t spool_slot_id(const struct spool *spool, uint32_t slot);

/* Goes through the messages: moves *slot to the first live one at or behind it; false when there is none. */
bool spool_walk(const struct spool *spool, uint32_t *slot, uint64_t *ret_id);

/* Is that message still here? */
bool spool_holds(const struct spool *spool, uint32_t slot, uint64_t id);

/* The slot of an id, by looking at every slot: for the operator. SPOOL_SLOT_NONE when there is no such message. */
uint32_t spool_find(const struct spool *spool, uint64_t id);

/* ERR_NOT_FOUND, ERR_NO_MEMORY, ERR_CORRUPT. */
enum err spool_lend(struct spool *spool, uint32_t slot, uint64_t id, struct spool_view *ret_view);
void spool_return(struct spool *spool, struct spool_view *view);

/* The last outcome of a recipient with its texts, for bounces and display. Blocks for a read of the disk when it is
 * not in memory. `reply` and `host` of the result point into `room` (SPOOL_OUTCOME_BYTES(1) suffices). A recipient
 * that was never tried gives SPOOL_FORMAT_PENDING. */
enum err spool_recipient_state(struct spool *spool, uint32_t slot, uint64_t id, uint16_t recipient, struct buffer *room,
                               struct spool_outcome *ret_outcome);

/* Segments in which damaged records were found are kept for inspection. The operator has seen them: what is still
 * needed in them is moved elsewhere, and they are used again. */
void spool_forget_damage(struct spool *spool);

/* --- state ------------------------------------------------------------------------------------------------------ */

enum spool_intake {
    SPOOL_INTAKE_OPEN,
    SPOOL_INTAKE_FULL,   /* answer MAIL with 452 4.3.1 */
    SPOOL_INTAKE_FAILED, /* answer with 421: the disk failed twice */
};
enum spool_intake spool_intake_state(const struct spool *spool);

struct spool_statistics {
    uint64_t messages;
    uint64_t recipients;
    uint64_t live_bytes;
    uint64_t index_bytes;          /* memory */
    uint64_t quarantined;          /* messages and damaged records, since the start */
    uint64_t quarantined_messages; /* there are now */
    uint32_t segments;             /* files */
    uint32_t spares;
    uint32_t pending; /* appends waiting or in flight */
};
void spool_statistics(const struct spool *spool, struct spool_statistics *ret_statistics);

#endif
