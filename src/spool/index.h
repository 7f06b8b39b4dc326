/* The index: what memory knows about each queued message. It decides how many messages a machine can queue, so a
 * message with one recipient costs 28 bytes; one with more recipients, or with extents, has a side object as well.
 *
 * A slot never moves while its message lives. The id (56 bits, without the spool's number) is in the slot as well and
 * tells a late asker that the slot has a new tenant.
 */
#ifndef SPOOL_INDEX_H
#define SPOOL_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "ringpost/spool_format.h"

#define INDEX_NONE UINT32_MAX
#define INDEX_CHUNK_BITS 13
#define INDEX_CHUNK (1u << INDEX_CHUNK_BITS)
#define INDEX_ID_MASK ((UINT64_C(1) << 56) - 1)

/* Flags of a slot. */
#define INDEX_USED 1u        /* taken */
#define INDEX_LIVE 2u        /* its message is durable */
#define INDEX_SIDE 4u        /* `where` is the number of a side object */
#define INDEX_QUARANTINED 8u /* kept, not delivered */
#define INDEX_MOVING 16u     /* compaction is at it */
#define INDEX_CHANGED 32u    /* an outcome came while it was */

struct index_slot {
    uint32_t offset : 24; /* of the record / 64 */
    uint32_t flags : 8;
    uint32_t length : 24; /* of the record / 64 */
    uint32_t id_high : 8;
    uint32_t id_low;
    uint16_t id_middle;
    uint16_t segment;
    uint16_t writing; /* outcomes that are not durable yet */
    uint16_t left;    /* recipients */
    uint16_t recipients;
    uint16_t where_segment; /* of the last outcome of the only recipient; SEGMENT_NONE: in the message's states */
    union {
        struct {
            uint32_t where_offset : 24;
            uint32_t where_status : 8;
        };
        uint32_t side; /* free slot: the next free one */
    };
};
static_assert(sizeof(struct index_slot) == 28, "28 MB for a million messages");

/* Where the last outcome of a recipient is. */
struct index_recipient {
    uint32_t offset : 24; /* of the OUTCOME record / 64 */
    uint32_t status : 8;  /* enum spool_format_status */
    uint16_t segment;     /* SEGMENT_NONE: nowhere yet, or in the message's states */
};

struct index_extent {
    uint32_t offset; /* of the record / 64 */
    uint32_t payload_bytes;
    uint16_t segment; /* SEGMENT_NONE: lost */
};

struct index_side {
    uint32_t extent_count;
    uint32_t recipient_count;
    struct index_recipient *recipients;
    struct index_extent *extents;
};

struct index {
    struct index_slot **chunks;
    uint32_t chunk_count;
    uint32_t chunk_capacity;
    uint32_t begun; /* slots below were taken at least once */
    uint32_t first_free;
    uint32_t used;
    struct index_side **sides;
    uint32_t side_capacity;
    uint32_t *free_sides;
    uint32_t free_side_count;
    uint64_t side_bytes;
};

void index_init(struct index *index);
void index_free(struct index *index);

/* A slot with everything zero but flags (INDEX_USED, and INDEX_SIDE when it needs one), id and recipients, and no last
 * outcome. INDEX_NONE without memory. */
uint32_t index_take(struct index *index, uint64_t id, uint16_t recipients, uint32_t extents);
void index_give(struct index *index, uint32_t slot);

static inline struct index_slot *index_at(const struct index *index, uint32_t slot)
{
    CHECK(slot < index->begun);
    return &index->chunks[slot >> INDEX_CHUNK_BITS][slot % INDEX_CHUNK];
}

static inline uint64_t index_id(const struct index_slot *at)
{
    return (uint64_t)at->id_high << 48 | (uint64_t)at->id_middle << 32 | at->id_low;
}

/* The live slot of that id (with or without the spool's number), or NULL. */
struct index_slot *index_find(const struct index *index, uint32_t slot, uint64_t id);

static inline struct index_side *index_side_of(const struct index *index, const struct index_slot *at)
{
    return (at->flags & INDEX_SIDE) != 0 ? index->sides[at->side] : NULL;
}

struct index_recipient index_recipient_get(const struct index *index, const struct index_slot *at, uint16_t recipient);
void index_recipient_set(struct index *index, struct index_slot *at, uint16_t recipient, struct index_recipient value);

/* Memory in bytes. */
uint64_t index_bytes(const struct index *index);

#endif
