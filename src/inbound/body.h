/* The memory that messages are received into: chunks from one pool per shard, whose size is bounded. A body owns a
 * chain of chunks; bytes are copied into it once, from the receive buffer, and written from it.
 *
 * The first chunk of a body is small. Thousands of clients that each send a few octets and then wait so cost little of
 * the pool, and the first chunk is all that most of the small messages need. */
#ifndef INBOUND_BODY_H
#define INBOUND_BODY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/limits.h"
#include "inbound/block_pool.h"

#define BODY_FIRST_BYTES 2048u        /* of memory, of the first chunk */
#define BODY_CHUNK_BYTES (16u * 1024) /* of all others */
#define BODY_HEAD_BYTES 16u           /* of a chunk, the rest holds the message */
#define BODY_SPARE_CHUNKS 256

/* Chunks that make one extent. */
#define BODY_EXTENT_CHUNKS (LIMIT_EXTENT_BYTES / BODY_CHUNK_BYTES)

struct body_chunk {
    struct body_chunk *next;
    uint32_t length;
    uint32_t capacity;
    char data[];
};

struct body_pool {
    struct block_pool firsts;
    struct block_pool chunks;
    uint64_t bytes_max;
    uint64_t bytes; /* chunks in use and what was reserved */
    _Atomic uint64_t *gauge;
};

struct body {
    struct body_chunk *first;
    struct body_chunk *last;
    unsigned chunks;
    uint64_t bytes;
};

/* `gauge` follows the bytes in use. */
void body_pool_init(struct body_pool *pool, uint64_t bytes_max, _Atomic uint64_t *gauge);
void body_pool_free(struct body_pool *pool);

/* Counts memory that a message needs beside its body (a long envelope) against the pool's bound. False when there is no
 * room. What was reserved must be returned. */
bool body_pool_reserve(struct body_pool *pool, uint64_t bytes);
void body_pool_return(struct body_pool *pool, uint64_t bytes);

/* Copies the piece to the end. False when the pool is exhausted: the body then holds a part of the piece and is
 * good for body_free only. A zeroed struct body is empty. */
bool body_append(struct body *body, struct body_pool *pool, struct bytes piece);

/* Moves the first BODY_EXTENT_CHUNKS chunks, all of them full, into `extent`, which is empty. Only when there are
 * more. */
void body_cut_extent(struct body *body, struct body *extent);

/* One iovec per chunk; `capacity` must suffice. Returns their number. */
unsigned body_gather(const struct body *body, struct iovec *ret_pieces, unsigned capacity);

/* Gives all chunks back; the body is empty then. */
void body_free(struct body *body, struct body_pool *pool);

#endif
