/* Spare memory blocks of one size, kept by a shard so that the steady state allocates nothing. */
#ifndef INBOUND_BLOCK_POOL_H
#define INBOUND_BLOCK_POOL_H

#include <stddef.h>

struct block_pool {
    size_t block_bytes;
    unsigned spare_max; /* more than these go back to the allocator */
    unsigned spare;
    unsigned taken;
    void *first_spare; /* a chain through the blocks' first words */
};

/* block_bytes: at least a pointer's size. Allocates nothing yet. */
void block_pool_init(struct block_pool *pool, size_t block_bytes, unsigned spare_max);

/* All blocks must have been given back. */
void block_pool_free(struct block_pool *pool);

/* A block with undefined contents, the one that was given back last if there is one; NULL without memory. */
void *block_pool_take(struct block_pool *pool);
void block_pool_give(struct block_pool *pool, void *block);

#endif
