#include "base/arena.h"

#include <stdlib.h>

struct arena_block {
    struct arena_block *older;
    char data[];
};

void arena_init(struct arena *arena, size_t block_bytes, unsigned block_max)
{
    CHECK(block_bytes % 8 == 0 && block_bytes > 0 && block_max > 0);
    *arena = (struct arena){.block_bytes = block_bytes, .block_max = block_max};
}

static bool add_block(struct arena *arena)
{
    if (arena->block_count == arena->block_max) {
        return false;
    }
    struct arena_block *block = malloc(sizeof *block + arena->block_bytes);
    if (!block) {
        return false;
    }
    block->older = arena->blocks;
    arena->blocks = block;
    arena->block_count++;
    arena->block_used = 0;
    return true;
}

void *arena_take(struct arena *arena, size_t size)
{
    if (size > arena->block_bytes) {
        return NULL;
    }
    size = (size + 7) & ~(size_t)7;
    if ((!arena->blocks || size > arena->block_bytes - arena->block_used) && !add_block(arena)) {
        return NULL;
    }
    char *piece = arena->blocks->data + arena->block_used;
    arena->block_used += size;
    return piece;
}

bool arena_copy(struct arena *arena, struct bytes span, struct bytes *ret_copy)
{
    char *copy = arena_take(arena, span.length);
    if (!copy) {
        return false;
    }
    if (span.length != 0) {
        memcpy(copy, span.data, span.length);
    }
    *ret_copy = bytes_of(copy, span.length);
    return true;
}

static void drop_blocks(struct arena *arena, unsigned keep)
{
    while (arena->block_count > keep) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->older;
        free(block);
        arena->block_count--;
    }
    arena->block_used = 0;
}

void arena_reset(struct arena *arena)
{
    drop_blocks(arena, 1);
}

void arena_free(struct arena *arena)
{
    drop_blocks(arena, 0);
}
