#include "queue/manage.h"

#include <stdlib.h>

#include "queue/schedule.h"

struct extent {
    uint32_t oldest_s;
    uint32_t next_attempt_s;
};

static void see(struct extent *extent, const struct queue_entry *entry)
{
    if (extent->oldest_s == 0 || entry->arrival_s < extent->oldest_s) {
        extent->oldest_s = entry->arrival_s;
    }
    if (entry->place == QUEUE_CALENDAR &&
        (extent->next_attempt_s == 0 || entry->next_attempt_s < extent->next_attempt_s)) {
        extent->next_attempt_s = entry->next_attempt_s;
    }
}

void manage_destinations(const struct queue *queue, void (*each)(void *context, const struct manage_destination *),
                         void *context)
{
    struct extent *extents = calloc(queue->destination_slots.begun + 1, sizeof *extents);
    CHECK(extents != NULL);
    for (uint32_t i = 0; i < queue->entries.begun; i++) {
        const struct queue_entry *entry = schedule_entry(queue, i);
        if (entry->place != QUEUE_FREE) {
            see(&extents[entry->destination], entry);
        }
    }
    struct map_cursor cursor = {0};
    const struct destination *destination;
    while ((destination = map_next(&queue->destinations, &cursor)) != NULL) {
        struct manage_destination view = {
            .domain = destination_domain(destination),
            .ready = destination->ready,
            .deferred = destination->deferred,
            .held = destination->held,
            .out = destination->out,
            .oldest_s = extents[destination->index].oldest_s,
            .next_attempt_s = extents[destination->index].next_attempt_s,
            .last_error = destination->last_error,
            .error_s = destination->error_s,
        };
        each(context, &view);
    }
    free(extents);
}

static bool matches(const struct queue *queue, const struct manage_match *match, const struct queue_entry *entry)
{
    if (entry->place == QUEUE_FREE) {
        return false;
    }
    if (match->domain.length != 0 &&
        !bytes_equal_nocase(match->domain, destination_domain(schedule_destination(queue, entry)))) {
        return false;
    }
    return match->message == NULL || match->message(match->context, entry);
}

uint32_t manage_entries(const struct queue *queue, const struct manage_match *match, uint32_t limit,
                        void (*each)(void *context, const struct queue_entry *entry, struct bytes domain),
                        void *context)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < queue->entries.begun; i++) {
        const struct queue_entry *entry = schedule_entry(queue, i);
        if (matches(queue, match, entry) && count++ < limit) {
            each(context, entry, destination_domain(schedule_destination(queue, entry)));
        }
    }
    return count;
}

/* Release means those that are held, the rest means all that are not yet what it asks for. What is ready is to be
 * retried as well: its destination may be waiting for a host to come back. */
static bool applies(const struct queue_entry *entry, enum queue_wish wish)
{
    switch (wish) {
    case QUEUE_RELEASE: return entry->place == QUEUE_PARKED || entry->wish == QUEUE_HOLD;
    case QUEUE_HOLD: return entry->place != QUEUE_PARKED;
    case QUEUE_RETRY: return entry->place != QUEUE_PARKED;
    default: return true;
    }
}

uint32_t manage_act(struct queue *queue, const struct manage_match *match, enum queue_wish wish)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < queue->entries.begun; i++) {
        struct queue_entry *entry = schedule_entry(queue, i);
        if (matches(queue, match, entry) && applies(entry, wish)) {
            if (wish == QUEUE_RETRY) {
                queue->ops.hurry(queue->ops.context, schedule_destination(queue, entry));
            }
            if (wish != QUEUE_RETRY || entry->place != QUEUE_READY) {
                entry->wish = wish & 7;
            }
            count++;
        }
    }
    if (count != 0) {
        schedule_sweep(queue);
    }
    return count;
}
