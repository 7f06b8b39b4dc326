#include "spool/index.h"

#include <stdlib.h>
#include <string.h>

#include "spool/segment.h"

void index_init(struct index *index)
{
    *index = (struct index){.first_free = INDEX_NONE};
}

void index_free(struct index *index)
{
    for (uint32_t i = 0; i < index->side_capacity; i++) {
        free(index->sides[i]);
    }
    for (uint32_t i = 0; i < index->chunk_count; i++) {
        free(index->chunks[i]);
    }
    free(index->sides);
    free(index->free_sides);
    free(index->chunks);
    index_init(index);
}

static bool index_add_chunk(struct index *index)
{
    if (index->chunk_count == index->chunk_capacity) {
        uint32_t capacity = index->chunk_capacity == 0 ? 64 : index->chunk_capacity * 2;
        struct index_slot **chunks = realloc(index->chunks, capacity * sizeof(struct index_slot *));
        if (chunks == NULL) {
            return false;
        }
        index->chunks = chunks;
        index->chunk_capacity = capacity;
    }
    struct index_slot *chunk = malloc(INDEX_CHUNK * sizeof *chunk);
    if (chunk == NULL || index->chunk_count == INDEX_NONE / INDEX_CHUNK) {
        free(chunk);
        return false;
    }
    index->chunks[index->chunk_count++] = chunk;
    return true;
}

static bool index_grow_sides(struct index *index)
{
    uint32_t capacity = index->side_capacity == 0 ? 256 : index->side_capacity * 2;
    struct index_side **sides = realloc(index->sides, capacity * sizeof(struct index_side *));
    if (sides == NULL) {
        return false;
    }
    index->sides = sides;
    uint32_t *free_sides = realloc(index->free_sides, capacity * sizeof *free_sides);
    if (free_sides == NULL) {
        return false;
    }
    index->free_sides = free_sides;
    for (uint32_t i = capacity; i-- > index->side_capacity;) {
        sides[i] = NULL;
        free_sides[index->free_side_count++] = i;
    }
    index->side_capacity = capacity;
    return true;
}

static size_t index_side_bytes(uint32_t recipients, uint32_t extents)
{
    return sizeof(struct index_side) + recipients * sizeof(struct index_recipient) +
           extents * sizeof(struct index_extent);
}

/* The side object is one piece of memory: itself, extents, recipients. */
static bool index_take_side(struct index *index, uint16_t recipients, uint32_t extents, uint32_t *ret_side)
{
    if (index->free_side_count == 0 && !index_grow_sides(index)) {
        return false;
    }
    size_t bytes = index_side_bytes(recipients, extents);
    struct index_side *side = malloc(bytes);
    if (side == NULL) {
        return false;
    }
    memset(side, 0, bytes);
    side->extent_count = extents;
    side->recipient_count = recipients;
    side->extents = (struct index_extent *)(side + 1);
    side->recipients = (struct index_recipient *)(side->extents + extents);
    for (uint32_t i = 0; i < recipients; i++) {
        side->recipients[i].segment = SEGMENT_NONE;
    }
    *ret_side = index->free_sides[--index->free_side_count];
    index->sides[*ret_side] = side;
    index->side_bytes += bytes;
    return true;
}

static uint32_t index_take_slot(struct index *index)
{
    if (index->first_free != INDEX_NONE) {
        uint32_t slot = index->first_free;
        index->first_free = index_at(index, slot)->side;
        return slot;
    }
    if (index->begun == index->chunk_count * INDEX_CHUNK && !index_add_chunk(index)) {
        return INDEX_NONE;
    }
    return index->begun++;
}

uint32_t index_take(struct index *index, uint64_t id, uint16_t recipients, uint32_t extents)
{
    uint32_t side = 0;
    bool with_side = recipients > 1 || extents > 0;
    if (with_side && !index_take_side(index, recipients, extents, &side)) {
        return INDEX_NONE;
    }
    uint32_t slot = index_take_slot(index);
    if (slot == INDEX_NONE) {
        if (with_side) {
            free(index->sides[side]);
            index->sides[side] = NULL;
            index->free_sides[index->free_side_count++] = side;
            index->side_bytes -= index_side_bytes(recipients, extents);
        }
        return INDEX_NONE;
    }
    *index_at(index, slot) = (struct index_slot){
        .flags = INDEX_USED | (with_side ? INDEX_SIDE : 0),
        .id_high = (uint8_t)(id >> 48),
        .id_middle = (uint16_t)(id >> 32),
        .id_low = (uint32_t)id,
        .segment = SEGMENT_NONE,
        .left = recipients,
        .recipients = recipients,
        .where_segment = SEGMENT_NONE,
        .side = side,
    };
    index->used++;
    return slot;
}

void index_give(struct index *index, uint32_t slot)
{
    struct index_slot *at = index_at(index, slot);
    CHECK((at->flags & INDEX_USED) != 0);
    struct index_side *side = index_side_of(index, at);
    if (side != NULL) {
        index->side_bytes -= index_side_bytes(side->recipient_count, side->extent_count);
        index->sides[at->side] = NULL;
        index->free_sides[index->free_side_count++] = at->side;
        free(side);
    }
    at->flags = 0;
    at->side = index->first_free;
    index->first_free = slot;
    index->used--;
}

struct index_slot *index_find(const struct index *index, uint32_t slot, uint64_t id)
{
    if (slot >= index->begun) {
        return NULL;
    }
    struct index_slot *at = index_at(index, slot);
    return (at->flags & INDEX_LIVE) != 0 && index_id(at) == (id & INDEX_ID_MASK) ? at : NULL;
}

struct index_recipient index_recipient_get(const struct index *index, const struct index_slot *at, uint16_t recipient)
{
    CHECK(recipient < at->recipients);
    const struct index_side *side = index_side_of(index, at);
    if (side != NULL) {
        return side->recipients[recipient];
    }
    return (struct index_recipient){
        .offset = at->where_offset, .status = at->where_status, .segment = at->where_segment};
}

void index_recipient_set(struct index *index, struct index_slot *at, uint16_t recipient, struct index_recipient value)
{
    CHECK(recipient < at->recipients);
    struct index_side *side = index_side_of(index, at);
    if (side != NULL) {
        side->recipients[recipient] = value;
        return;
    }
    at->where_offset = value.offset & 0xffffffu;
    at->where_status = value.status & 0xffu;
    at->where_segment = value.segment;
}

uint64_t index_bytes(const struct index *index)
{
    return (uint64_t)index->chunk_count * INDEX_CHUNK * sizeof(struct index_slot) +
           index->chunk_capacity * sizeof(struct index_slot *) + index->side_bytes +
           (uint64_t)index->side_capacity * (sizeof(struct index_side *) + sizeof(uint32_t));
}
