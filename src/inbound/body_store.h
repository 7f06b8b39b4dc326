/* The octets of one message, wherever they are: the last ones in memory, and when there are many, those before them as
 * extents in the spool, written while more arrive. */
#ifndef INBOUND_BODY_STORE_H
#define INBOUND_BODY_STORE_H

#include "base/err.h"
#include "inbound/body.h"
#include "inbound/inbound.h"
#include "spool/spool.h"

#define BODY_STORE_EXTENTS_IN_FLIGHT 2

struct body_store_large;

struct body_store {
    struct inbound *inbound;
    uint64_t *id; /* of the message; 0 there: given with the first extent */
    /* An extent was written, or not. May free the store when none is in flight. */
    void (*changed)(struct body_store *store);
    enum err err; /* the message cannot be kept: what there was of it is gone, more is ignored */
    struct body body;
    struct body_store_large *large; /* NULL while it is small */
};

void body_store_init(struct body_store *store, struct inbound *inbound, uint64_t *id,
                     void (*changed)(struct body_store *store));
/* Nothing may be in flight. Extents that belong to it become garbage, unless body_store_keep was called. */
void body_store_free(struct body_store *store);

/* A piece in wire form, copied. Never fails here: store->err says so. */
void body_store_append(struct body_store *store, struct bytes piece);

/* So much waits for the disk that no more may be appended. */
bool body_store_stalled(const struct body_store *store);
bool body_store_in_flight(const struct body_store *store);
/* All that is left of it in memory fits into one record. */
bool body_store_settled(const struct body_store *store);

void body_store_fail(struct body_store *store, enum err err);

/* A message in the spool owns the extents from now on. */
void body_store_keep(struct body_store *store);

/* In order; `ret_extents` may be NULL. Nothing may be in flight. */
uint32_t body_store_extents(const struct body_store *store, const struct spool_format_extent **ret_extents);

/* Takes over what `from` has, which is empty then. Nothing may be in flight in either. */
void body_store_move(struct body_store *store, struct body_store *from);

/* --- reading it again --- */

enum body_read { BODY_READ_RUN, BODY_READ_WAIT, BODY_READ_END, BODY_READ_FAILED };

/* Extents are brought into memory one by one before they are looked at, and `ready` is called when one is there. Not to
 * be freed while warm.in_flight. Nothing may be in flight in the store, nor be appended to it. */
struct body_reader {
    struct body_store *store;
    void (*ready)(struct body_reader *reader);
    struct op warm;
    uint32_t extent;
    uint32_t warmed; /* extents that are there */
    bool in_memory;
    bool failed;
    const struct body_chunk *chunk;
    size_t offset; /* in the extent or chunk */
};

void body_reader_begin(struct body_reader *reader, struct body_store *store, void (*ready)(struct body_reader *reader));
/* The next octets: valid until the store changes. */
enum body_read body_reader_next(struct body_reader *reader, struct bytes *ret_run);
void body_reader_consume(struct body_reader *reader, size_t bytes);

#endif
