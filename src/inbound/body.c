#include "inbound/body.h"

#include "base/check.h"
#include "core/metric.h"

static_assert(sizeof(struct body_chunk) == BODY_HEAD_BYTES, "the pool counts what it takes");
static_assert(BODY_EXTENT_CHUNKS * BODY_CHUNK_BYTES <= LIMIT_EXTENT_BYTES, "the spool takes no larger extent");

static void count(struct body_pool *pool, uint64_t bytes)
{
    pool->bytes = bytes;
    metric_set_to(pool->gauge, bytes);
}

void body_pool_init(struct body_pool *pool, uint64_t bytes_max, _Atomic uint64_t *gauge)
{
    *pool = (struct body_pool){.bytes_max = bytes_max, .gauge = gauge};
    block_pool_init(&pool->firsts, BODY_FIRST_BYTES, BODY_SPARE_CHUNKS);
    block_pool_init(&pool->chunks, BODY_CHUNK_BYTES, BODY_SPARE_CHUNKS);
}

void body_pool_free(struct body_pool *pool)
{
    CHECK(pool->bytes == 0);
    block_pool_free(&pool->firsts);
    block_pool_free(&pool->chunks);
}

bool body_pool_reserve(struct body_pool *pool, uint64_t bytes)
{
    if (pool->bytes > pool->bytes_max || bytes > pool->bytes_max - pool->bytes) {
        return false;
    }
    count(pool, pool->bytes + bytes);
    return true;
}

void body_pool_return(struct body_pool *pool, uint64_t bytes)
{
    CHECK(bytes <= pool->bytes);
    count(pool, pool->bytes - bytes);
}

static bool add_chunk(struct body *body, struct body_pool *pool)
{
    struct block_pool *blocks = body->chunks == 0 ? &pool->firsts : &pool->chunks;
    if (!body_pool_reserve(pool, blocks->block_bytes)) {
        return false;
    }
    struct body_chunk *chunk = block_pool_take(blocks);
    if (chunk == NULL) {
        body_pool_return(pool, blocks->block_bytes);
        return false;
    }
    chunk->next = NULL;
    chunk->length = 0;
    chunk->capacity = (uint32_t)blocks->block_bytes - BODY_HEAD_BYTES;
    if (body->last == NULL) {
        body->first = chunk;
    } else {
        body->last->next = chunk;
    }
    body->last = chunk;
    body->chunks++;
    return true;
}

static void give_chunk(struct body_pool *pool, struct body_chunk *chunk)
{
    struct block_pool *blocks = chunk->capacity == BODY_FIRST_BYTES - BODY_HEAD_BYTES ? &pool->firsts : &pool->chunks;
    body_pool_return(pool, blocks->block_bytes);
    block_pool_give(blocks, chunk);
}

bool body_append(struct body *body, struct body_pool *pool, struct bytes piece)
{
    while (piece.length != 0) {
        if ((body->last == NULL || body->last->length == body->last->capacity) && !add_chunk(body, pool)) {
            return false;
        }
        struct body_chunk *chunk = body->last;
        size_t room = chunk->capacity - chunk->length;
        size_t length = piece.length < room ? piece.length : room;
        memcpy(chunk->data + chunk->length, piece.data, length);
        chunk->length += (uint32_t)length;
        body->bytes += length;
        bytes_advance(&piece, length);
    }
    return true;
}

void body_cut_extent(struct body *body, struct body *extent)
{
    CHECK(body->chunks > BODY_EXTENT_CHUNKS && extent->chunks == 0);
    extent->first = body->first;
    for (unsigned i = 0; i < BODY_EXTENT_CHUNKS; i++) {
        extent->last = body->first;
        extent->bytes += body->first->length;
        body->first = body->first->next;
    }
    extent->last->next = NULL;
    extent->chunks = BODY_EXTENT_CHUNKS;
    body->chunks -= extent->chunks;
    body->bytes -= extent->bytes;
}

unsigned body_gather(const struct body *body, struct iovec *ret_pieces, unsigned capacity)
{
    CHECK(body->chunks <= capacity);
    unsigned used = 0;
    for (struct body_chunk *chunk = body->first; chunk != NULL; chunk = chunk->next) {
        ret_pieces[used++] = (struct iovec){.iov_base = chunk->data, .iov_len = chunk->length};
    }
    return used;
}

void body_free(struct body *body, struct body_pool *pool)
{
    while (body->first != NULL) {
        struct body_chunk *chunk = body->first;
        body->first = chunk->next;
        give_chunk(pool, chunk);
    }
    *body = (struct body){0};
}
