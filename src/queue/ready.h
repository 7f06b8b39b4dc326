/* The ready lists of a destination: one per band of priorities, each first in, first out. Entries of a better band go
 * first (RFC 6710 5); the bands are few, so that finding the next entry costs nothing. */
#ifndef QUEUE_READY_H
#define QUEUE_READY_H

#include "queue/queue.h"

/* The band of an MT-PRIORITY value, -9..9; that of 0 is 0, so that an entry that says nothing is right. */
static inline unsigned ready_band(int priority)
{
    return priority >= 4 ? QUEUE_BAND_URGENT : priority > 0 ? QUEUE_BAND_HIGH : priority < 0 ? QUEUE_BAND_LOW : 0;
}

void ready_init(struct destination *destination);

/* The next entry to take; SLOTS_NONE when none is ready. */
uint32_t ready_first(const struct destination *destination);

void ready_append(struct queue *queue, struct destination *destination, uint32_t index);
void ready_prepend(struct queue *queue, struct destination *destination, uint32_t index);

/* Takes the first entry of a band; there is one. */
uint32_t ready_pop(struct queue *queue, struct destination *destination, unsigned band);

/* Takes all entries of a band: the first of a chain by `next`. Their place is still QUEUE_READY. */
uint32_t ready_take_all(struct queue *queue, struct destination *destination, unsigned band);

/* The order in which bands are served: 0 is the best. */
static inline unsigned ready_band_at(unsigned rank)
{
    static const unsigned char order[QUEUE_BANDS] = {QUEUE_BAND_URGENT, QUEUE_BAND_HIGH, QUEUE_BAND_NORMAL,
                                                     QUEUE_BAND_LOW};
    return order[rank];
}

#endif
