/* A bump allocator with a bound: many small pieces with one lifetime, such as the recipients of a transaction. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* the newest first */
    size_t block_bytes;
    size_t block_used; /* of the newest */
    unsigned block_count;
    unsigned block_max;
};

/* At most `block_max` blocks of `block_bytes` each; the first is allocated when it is first needed. */
void arena_init(struct arena *arena, size_t block_bytes, unsigned block_max);
void arena_free(struct arena *arena);

/* `size` bytes, 8-aligned, undefined contents; NULL when they do not fit a block, at the limit or without memory. */
void *arena_take(struct arena *arena, size_t size);

/* A copy of the span; false when there is no room. */
bool arena_copy(struct arena *arena, struct bytes span, struct bytes *ret_copy);

/* Forgets all pieces. Keeps one block, so that small transactions do not allocate; large ones give theirs back. */
void arena_reset(struct arena *arena);

#endif
