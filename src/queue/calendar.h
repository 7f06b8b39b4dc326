/* The calendar of what waits for a time: one list per second, modulo QUEUE_CALENDAR_SLOTS. A list may hold entries of a
 * later round; they stay.
 *
 * An entry stands at the second at which somebody must look at it: its next attempt, or its deadline when that is
 * earlier.
 *
 * Its seconds are those of the wall clock, because next attempts are journaled and outlive a restart, and because a
 * deadline or a hold is a time of day that somebody named. But a wait between two attempts is a length of time, and the
 * wall clock may be set. Set forward, what is due by the new time is walked. Set back, all waits are set back as well,
 * once that is seen, which is not later than the first of them is due: timers run on a clock that nobody sets. What was
 * journaled with the wrong time before a restart shows itself, when its list comes round, by being farther away than
 * the longest wait there is: it is due now.
 */
#ifndef QUEUE_CALENDAR_H
#define QUEUE_CALENDAR_H

#include "queue/queue.h"

void calendar_init(struct queue *queue);

/* Puts an entry that is in no list where it is due; one that is due already comes up in the next second. */
void calendar_insert(struct queue *queue, uint32_t index);

/* Takes the whole list of second `at` (modulo the slots); what is not due goes back by calendar_keep. The counts of
 * deferred entries are the caller's. */
uint32_t calendar_take(struct queue *queue, unsigned at);
void calendar_keep(struct queue *queue, unsigned at, uint32_t index);

/* The slots that have become due since the last call: `each` for every one, at most one round. Then sleeps until the
 * next. */
void calendar_advance(struct queue *queue, void (*each)(struct queue *queue, unsigned at));

/* Is its next attempt due? */
bool calendar_due(const struct queue *queue, const struct queue_entry *entry);

#endif
