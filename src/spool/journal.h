/* What became of recipients, as bytes: the items of OUTCOME records and of a moved message's `states`. */
#ifndef SPOOL_JOURNAL_H
#define SPOOL_JOURNAL_H

#include "base/bytes.h"
#include "ringpost/spool_format.h"

struct journal_item {
    struct spool_format_state state; /* sizes included */
    struct bytes text;
    struct bytes host;
};

static inline bool journal_final(uint8_t status)
{
    return status >= SPOOL_FORMAT_DELIVERED;
}

/* Appends one item (its sizes are taken from text and host); all or nothing. */
bool journal_add(struct buffer *out, const struct journal_item *item);

struct journal_iterator {
    struct bytes rest;
    bool bad;
};

static inline struct journal_iterator journal_iterate(struct bytes items)
{
    return (struct journal_iterator){.rest = items};
}

/* False at the end, or, with `bad` set, at something that is not well formed. */
bool journal_next(struct journal_iterator *iterator, struct journal_item *ret_item);

/* The items of an OUTCOME's payload; an iterator with `bad` set when it is too short. */
struct journal_iterator journal_outcome(struct bytes payload, struct spool_format_outcome *ret_outcome);

/* The last item about that recipient. */
bool journal_find(struct journal_iterator iterator, uint16_t recipient, struct journal_item *ret_item);

#endif
