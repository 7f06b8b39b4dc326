/* The delivery side of the queue: entries, the destinations they are ready at, and the calendar of retries. */
#ifndef QUEUE_SCHEDULE_H
#define QUEUE_SCHEDULE_H

#include "queue/queue.h"

/* A recipient, as it comes from its owner. */
struct schedule_item {
    uint32_t slot;
    uint32_t id_low;
    uint32_t arrival_s;
    uint32_t next_attempt_s; /* 0: now */
    uint16_t recipient;
    uint8_t spool;
    uint8_t attempts;
    uint8_t band;        /* enum queue_band */
    bool ends;           /* as in struct queue_entry */
    bool held;           /* by the operator */
    uint32_t deadline_s; /* 0: none, and with `ends` the sender was told */
};

/* Adds `count` recipients: item, and those at the positions behind item->recipient. */
void schedule_add(struct queue *queue, struct bytes domain, const struct schedule_item *item, unsigned count);

/* Takes the first ready entry and the ready ones right behind it that belong to the same message, `max` in all. Those
 * whose deadline has passed are given up instead; those that have expired are taken: what comes now is their last
 * attempt. Returns how many indices it wrote; when it returns 0 the destination may be gone (ops.idle has been called).
 */
unsigned schedule_take(struct queue *queue, struct destination *destination, uint32_t *ret_entries, unsigned max);

/* The first ready entry without taking it, or NULL. */
const struct queue_entry *schedule_peek(const struct queue *queue, const struct destination *destination);

struct queue_entry *schedule_entry(const struct queue *queue, uint32_t index);
struct destination *schedule_destination(const struct queue *queue, const struct queue_entry *entry);

/* What becomes of a taken entry: gone; tried again at a time; back to the head of the ready list, not counted as tried.
 */
void schedule_finish(struct queue *queue, uint32_t index);
void schedule_defer(struct queue *queue, uint32_t index, uint32_t next_attempt_s);
void schedule_return(struct queue *queue, uint32_t index);

/* Gives up the entries at the heads of the ready lists that had expired when the destination could not be reached last.
 */
void schedule_expire(struct queue *queue, struct destination *destination);

/* To be called after having kept a destination by counting up its `out`: drops it when nothing is left in it. */
void schedule_settle(struct queue *queue, struct destination *destination);

/* Remembers why mail to the destination waits: of an attempt, or of all, when it cannot be reached. */
void schedule_error(struct queue *queue, struct destination *destination, struct bytes text);
void schedule_unreachable(struct queue *queue, struct destination *destination, struct bytes text);

/* Carries out wishes that were set on entries in lists. */
void schedule_sweep(struct queue *queue);

/* The timer's: moves what is due to the ready lists. */
void schedule_calendar_due(struct timer *timer);

/* The timer's: carries out the deadlines of what is ready. */
void schedule_deadline_due(struct timer *timer);

/* Frees all destinations. */
void schedule_clear(struct queue *queue);

#endif
