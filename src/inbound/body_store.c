#include "inbound/body_store.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/check.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define PAGE_BYTES 4096u

static_assert(BODY_EXTENT_CHUNKS <= SPOOL_PIECES_MAX, "a body is one record's pieces");

struct flight {
    struct spool_append append;
    struct body_store *store;
    struct body body;
    uint32_t index; /* of the extent */
    bool busy;
};

struct body_store_large {
    struct flight flights[BODY_STORE_EXTENTS_IN_FLIGHT];
    unsigned in_flight;
    uint32_t count;
    uint32_t capacity;
    struct spool_format_extent *extents; /* payload_bytes 0: not written yet */
};

static struct spool *spool_of(const struct body_store *store)
{
    return store->inbound->shard->spool;
}

void body_store_init(struct body_store *store, struct inbound *inbound, uint64_t *id,
                     void (*changed)(struct body_store *store))
{
    *store = (struct body_store){.inbound = inbound, .id = id, .changed = changed, .err = ERR_OK};
}

bool body_store_in_flight(const struct body_store *store)
{
    return store->large != NULL && store->large->in_flight != 0;
}

bool body_store_stalled(const struct body_store *store)
{
    return store->body.chunks > BODY_EXTENT_CHUNKS;
}

bool body_store_settled(const struct body_store *store)
{
    return !body_store_in_flight(store) && !body_store_stalled(store);
}

static void abandon_extents(struct body_store *store)
{
    struct body_store_large *large = store->large;
    for (uint32_t i = 0; large != NULL && i < large->count; i++) {
        if (large->extents[i].payload_bytes != 0) {
            spool_abandon_extent(spool_of(store), &large->extents[i]);
            large->extents[i].payload_bytes = 0;
        }
    }
}

void body_store_fail(struct body_store *store, enum err err)
{
    if (store->err == ERR_OK) {
        store->err = err;
        body_free(&store->body, &store->inbound->bodies);
        abandon_extents(store);
    }
}

static void free_large(struct body_store *store)
{
    if (store->large != NULL) {
        free(store->large->extents);
        free(store->large);
        store->large = NULL;
    }
}

void body_store_free(struct body_store *store)
{
    CHECK(!body_store_in_flight(store));
    body_free(&store->body, &store->inbound->bodies);
    abandon_extents(store);
    free_large(store);
}

void body_store_keep(struct body_store *store)
{
    free_large(store);
}

uint32_t body_store_extents(const struct body_store *store, const struct spool_format_extent **ret_extents)
{
    if (ret_extents != NULL) {
        *ret_extents = store->large != NULL ? store->large->extents : NULL;
    }
    return store->large != NULL ? store->large->count : 0;
}

void body_store_move(struct body_store *store, struct body_store *from)
{
    body_store_free(store);
    CHECK(!body_store_in_flight(from));
    store->err = from->err;
    store->body = from->body;
    store->large = from->large;
    from->body = (struct body){0};
    from->large = NULL;
}

/* --- extents ------------------------------------------------------------------------------------------------------ */

static bool become_large(struct body_store *store)
{
    if (store->large == NULL) {
        store->large = calloc(1, sizeof *store->large);
    }
    struct body_store_large *large = store->large;
    if (large == NULL || large->count < large->capacity) {
        return large != NULL;
    }
    uint32_t capacity = large->capacity == 0 ? 16 : large->capacity * 2;
    struct spool_format_extent *extents = realloc(large->extents, capacity * sizeof *extents);
    if (extents == NULL) {
        return false;
    }
    large->extents = extents;
    large->capacity = capacity;
    return true;
}

static void advance(struct body_store *store);

static void extent_done(struct spool_append *append, enum err err)
{
    struct flight *flight = CONTAINER_OF(append, struct flight, append);
    struct body_store *store = flight->store;
    struct body_store_large *large = store->large;
    body_free(&flight->body, &store->inbound->bodies);
    flight->busy = false;
    large->in_flight--;
    if (err != ERR_OK) {
        body_store_fail(store, err);
    } else if (store->err != ERR_OK) {
        spool_abandon_extent(spool_of(store), &append->extent);
    } else {
        large->extents[flight->index] = append->extent;
    }
    advance(store);
    store->changed(store);
}

static void append_extent(struct body_store *store)
{
    if (!become_large(store)) {
        body_store_fail(store, ERR_NO_MEMORY);
        return;
    }
    struct body_store_large *large = store->large;
    struct flight *flight = &large->flights[0];
    while (flight->busy) {
        flight++;
    }
    flight->busy = true;
    flight->store = store;
    flight->index = large->count;
    large->extents[large->count++] = (struct spool_format_extent){0};
    large->in_flight++;
    body_cut_extent(&store->body, &flight->body);
    struct iovec pieces[BODY_EXTENT_CHUNKS];
    unsigned count = body_gather(&flight->body, pieces, BODY_EXTENT_CHUNKS);
    flight->append.done = extent_done;
    *store->id = *store->id != 0 ? *store->id : spool_new_id(spool_of(store));
    spool_append_extent(spool_of(store), &flight->append, *store->id, pieces, count);
}

/* Goes on as far as it can without waiting. */
static void advance(struct body_store *store)
{
    while (body_store_stalled(store) &&
           (store->large == NULL || store->large->in_flight < BODY_STORE_EXTENTS_IN_FLIGHT)) {
        append_extent(store);
    }
}

void body_store_append(struct body_store *store, struct bytes piece)
{
    if (store->err != ERR_OK) {
        return;
    }
    if (!body_append(&store->body, &store->inbound->bodies, piece)) {
        body_store_fail(store, ERR_NO_MEMORY);
    }
    advance(store);
}

/* --- reading it again --------------------------------------------------------------------------------------------- */

void body_reader_begin(struct body_reader *reader, struct body_store *store, void (*ready)(struct body_reader *reader))
{
    CHECK(!reader->warm.in_flight && !body_store_in_flight(store));
    *reader = (struct body_reader){.store = store, .ready = ready};
}

static void warm_done(struct op *op, int result, uint32_t flags)
{
    struct body_reader *reader = CONTAINER_OF(op, struct body_reader, warm);
    (void)flags;
    reader->warmed++;
    reader->failed |= result < 0;
    reader->ready(reader);
}

static void warm_next(struct body_reader *reader, struct bytes extent)
{
    uintptr_t begin = (uintptr_t)extent.data & ~(uintptr_t)(PAGE_BYTES - 1);
    uintptr_t end = ((uintptr_t)extent.data + extent.length + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1);
    reader->warm.done = warm_done;
    ring_madvise(reader->store->inbound->shard->ring, &reader->warm, (void *)begin, end - begin, MADV_POPULATE_READ);
}

/* In the extent that the reader stands at. */
static enum body_read next_of_extent(struct body_reader *reader, struct bytes *ret_run)
{
    struct bytes extent = spool_extent(spool_of(reader->store), &reader->store->large->extents[reader->extent]);
    if (reader->warmed == reader->extent) {
        if (!reader->warm.in_flight) {
            warm_next(reader, extent);
        }
        return BODY_READ_WAIT;
    }
    *ret_run = bytes_slice(extent, reader->offset, extent.length - reader->offset);
    return BODY_READ_RUN;
}

enum body_read body_reader_next(struct body_reader *reader, struct bytes *ret_run)
{
    if (reader->failed || reader->store->err != ERR_OK) {
        return BODY_READ_FAILED;
    }
    if (reader->extent < body_store_extents(reader->store, NULL)) {
        return next_of_extent(reader, ret_run);
    }
    if (!reader->in_memory) {
        reader->in_memory = true;
        reader->chunk = reader->store->body.first;
    }
    if (reader->chunk == NULL) {
        return BODY_READ_END;
    }
    *ret_run = bytes_of(reader->chunk->data + reader->offset, reader->chunk->length - reader->offset);
    return BODY_READ_RUN;
}

void body_reader_consume(struct body_reader *reader, size_t bytes)
{
    bool in_extent = reader->extent < body_store_extents(reader->store, NULL);
    size_t length = in_extent ? reader->store->large->extents[reader->extent].payload_bytes : reader->chunk->length;
    CHECK(bytes <= length - reader->offset);
    reader->offset += bytes;
    if (reader->offset < length) {
        return;
    }
    reader->offset = 0;
    if (in_extent) {
        reader->extent++;
    } else {
        reader->chunk = reader->chunk->next;
    }
}
