/* A slab of objects of one size, each named by a 32-bit index. Objects never move and cost nothing beyond their size:
 * a free one holds the index of the next free one. Chunks are allocated when first needed and never given back. */
#ifndef BASE_SLOTS_H
#define BASE_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

#define SLOTS_CHUNK_BITS 12
#define SLOTS_CHUNK (1u << SLOTS_CHUNK_BITS) /* objects per chunk */
#define SLOTS_NONE UINT32_MAX                /* no object's index */

struct slots {
    uint32_t size;       /* bytes per object */
    uint32_t max;        /* objects */
    uint32_t used;       /* objects taken now */
    uint32_t begun;      /* indices below this one were taken at least once */
    uint32_t first_free; /* a chain through free objects */
    char **chunks;
    uint32_t **generations; /* per chunk; NULL when not wanted */
};

/* At most `max` objects of `size` bytes (a multiple of 4). With `generations` every index carries a count
 * of its takes, so that a name {index, generation} of an object that is gone is recognised (4 bytes per object).
 * False without memory. */
bool slots_init(struct slots *slots, size_t size, uint32_t max, bool generations);

/* Frees the chunks, with whatever lives in them. */
void slots_free(struct slots *slots);

/* An object, aligned to 16, 8 or 4 as its size is, contents undefined. NULL, with *ret_index untouched, at `max` or
 * without memory. */
void *slots_take(struct slots *slots, uint32_t *ret_index);
void slots_give(struct slots *slots, uint32_t index);

/* The object of an index that slots_take gave. */
static inline void *slots_at(const struct slots *slots, uint32_t index)
{
    CHECK(index < slots->begun);
    return slots->chunks[index >> SLOTS_CHUNK_BITS] + (size_t)(index % SLOTS_CHUNK) * slots->size;
}

/* Only with generations. The generation of a taken object (odd), and the object that was named by both, or NULL when it
 * was given back since, or never existed. */
uint32_t slots_generation(const struct slots *slots, uint32_t index);
void *slots_find(const struct slots *slots, uint32_t index, uint32_t generation);

#endif
