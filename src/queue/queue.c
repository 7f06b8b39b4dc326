#include "queue/queue.h"

#include <stdlib.h>

#include "queue/calendar.h"
#include "queue/enqueue.h"
#include "queue/lend.h"
#include "queue/schedule.h"

struct queue *queue_new(struct shard *shard, const struct queue_settings *settings, const struct queue_ops *ops,
                        const uint8_t *spool_shard)
{
    CHECK(settings->retry_count >= 1 && settings->retry_count <= QUEUE_RETRY_STEPS);
    struct queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL) {
        return NULL;
    }
    queue->shard = shard;
    queue->settings = *settings;
    queue->ops = *ops;
    queue->spool_shard = spool_shard;
    map_init(&queue->destinations, QUEUE_DESTINATIONS_MAX);
    calendar_init(queue);
    wheel_timer_init(&queue->deadline_timer, schedule_deadline_due);
    if (!slots_init(&queue->entries, sizeof(struct queue_entry), QUEUE_ENTRIES_MAX, false) ||
        !slots_init(&queue->destination_slots, sizeof(struct destination *), QUEUE_DESTINATIONS_MAX, false)) {
        queue_delete(queue);
        return NULL;
    }
    shard->queue = queue;
    enqueue_start(queue);
    lend_start(queue);
    return queue;
}

void queue_delete(struct queue *queue)
{
    schedule_clear(queue);
    wheel_disarm(&queue->shard->wheel, &queue->calendar_timer);
    wheel_disarm(&queue->shard->wheel, &queue->deadline_timer);
    map_free(&queue->destinations);
    slots_free(&queue->entries);
    slots_free(&queue->destination_slots);
    lend_end(queue);
    free(queue);
}

void queue_add_spool(struct queue *queue, unsigned number, struct spool *spool)
{
    CHECK(number < QUEUE_SPOOLS && queue->spools[number] == NULL && queue->spool_shard[number] == queue->shard->index);
    queue->spools[number] = spool;
}
