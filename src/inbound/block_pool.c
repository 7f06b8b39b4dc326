#include "inbound/block_pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static void *next_of(const void *block)
{
    void *next;
    memcpy(&next, block, sizeof next);
    return next;
}

void block_pool_init(struct block_pool *pool, size_t block_bytes, unsigned spare_max)
{
    CHECK(block_bytes >= sizeof(void *));
    *pool = (struct block_pool){.block_bytes = block_bytes, .spare_max = spare_max};
}

void block_pool_free(struct block_pool *pool)
{
    CHECK(pool->taken == 0);
    while (pool->first_spare != NULL) {
        void *block = pool->first_spare;
        pool->first_spare = next_of(block);
        free(block);
    }
    pool->spare = 0;
}

void *block_pool_take(struct block_pool *pool)
{
    void *block = pool->first_spare;
    if (block != NULL) {
        pool->first_spare = next_of(block);
        pool->spare--;
    } else {
        block = malloc(pool->block_bytes);
    }
    if (block != NULL) {
        pool->taken++;
    }
    return block;
}

void block_pool_give(struct block_pool *pool, void *block)
{
    CHECK(pool->taken > 0);
    pool->taken--;
    if (pool->spare == pool->spare_max) {
        free(block);
        return;
    }
    memcpy(block, &pool->first_spare, sizeof pool->first_spare);
    pool->first_spare = block;
    pool->spare++;
}
