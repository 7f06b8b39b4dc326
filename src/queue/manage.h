/* The operator's view of the queue, and what she can do to it. Everything here runs on the delivery shard. */
#ifndef QUEUE_MANAGE_H
#define QUEUE_MANAGE_H

#include "queue/queue.h"

/* One destination, as it is now. */
struct manage_destination {
    struct bytes domain;
    uint32_t ready;
    uint32_t deferred;
    uint32_t held;
    uint32_t out;            /* in delivery */
    uint32_t oldest_s;       /* arrival of the oldest recipient; wall seconds */
    uint32_t next_attempt_s; /* of the deferred ones; 0: none is */
    const char *last_error;  /* NULL: none */
    uint32_t error_s;
};

/* Calls `each` for every destination. One pass over all entries: a few milliseconds for a million. */
void manage_destinations(const struct queue *queue, void (*each)(void *context, const struct manage_destination *),
                         void *context);

/* Which entries: all criteria that are set must hold. */
struct manage_match {
    struct bytes domain; /* empty: any */
    /* Is this message meant? NULL: any. */
    bool (*message)(void *context, const struct queue_entry *entry);
    void *context;
};

/* Calls `each` for up to `limit` entries. Returns how many match in all. */
uint32_t manage_entries(const struct queue *queue, const struct manage_match *match, uint32_t limit,
                        void (*each)(void *context, const struct queue_entry *entry, struct bytes domain),
                        void *context);

/* Carries out a wish on all entries that match; those in delivery get it when their attempt has ended. Returns how
 * many. */
uint32_t manage_act(struct queue *queue, const struct manage_match *match, enum queue_wish wish);

#endif
