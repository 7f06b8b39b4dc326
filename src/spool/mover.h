/* Two small machines for compaction: one moves a message, the other carries the graves of a segment. */
#ifndef SPOOL_MOVER_H
#define SPOOL_MOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "core/ring.h"
#include "spool/index.h"
#include "spool/record.h"
#include "spool/spool.h"

enum mover_phase {
    MOVER_IDLE,
    MOVER_READ,  /* the message's record */
    MOVER_STATE, /* an OUTCOME record */
    MOVER_EXTENT_READ,
    MOVER_EXTENT_WRITE,
    MOVER_WRITE, /* the new record */
};

struct mover {
    struct op op;
    struct spool_append append;
    struct spool *spool;
    enum mover_phase phase;
    uint32_t slot;
    uint64_t id;
    uint64_t bytes; /* moved with this message */
    /* The message's record, as it is on the disk. */
    char *data;
    uint64_t data_bytes;
    uint64_t offset;
    uint64_t epoch;
    int fd;
    struct record_message message;
    /* Piece: an OUTCOME record, or an extent. */
    char *piece;
    uint64_t piece_bytes;
    uint64_t piece_offset;
    uint16_t piece_segment;
    bool piece_valid;
    uint16_t victim; /* SEGMENT_NONE: the message itself moves; else only the states that are in this segment */
    /* The new record's. */
    struct buffer states;
    uint32_t state_count;
    uint16_t recipient; /* next */
    uint32_t extent;    /* next */
    struct index_extent *places;
    struct spool_format_extent *extents;
};

/* Starts moving what a live slot's message has in the segment: the message, with its extents and states; or, when the
 * message is elsewhere, the last outcomes of its recipients. False when it cannot be moved now; else
 * `compaction_finished` is called at the end. */
bool mover_start(struct spool *spool, struct mover *mover, uint32_t slot, uint16_t victim);

struct carrier {
    struct op op;
    struct spool_append append;
    struct spool *spool;
    struct segment *segment; /* NULL: idle */
    char *data;              /* its SEAL */
    uint64_t bytes;
    bool body; /* the length is known, the whole is being read */
    struct spool_format_grave *graves;
    uint32_t count;
    uint32_t done;
};

/* Writes the graves of a FULL and sealed segment without live messages to the open segment; then the segment holds
 * none any more. */
bool carrier_start(struct spool *spool, struct carrier *carrier, struct segment *segment);

#endif
