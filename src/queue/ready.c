#include "queue/ready.h"

void ready_init(struct destination *destination)
{
    for (unsigned band = 0; band < QUEUE_BANDS; band++) {
        destination->ready_first[band] = SLOTS_NONE;
        destination->ready_last[band] = SLOTS_NONE;
    }
}

static struct queue_entry *entry_at(const struct queue *queue, uint32_t index)
{
    return slots_at(&queue->entries, index);
}

uint32_t ready_first(const struct destination *destination)
{
    for (unsigned rank = 0; destination->ready != 0 && rank < QUEUE_BANDS; rank++) {
        uint32_t first = destination->ready_first[ready_band_at(rank)];
        if (first != SLOTS_NONE) {
            return first;
        }
    }
    return SLOTS_NONE;
}

/* An entry with a deadline is looked for in time, wherever in the list it is. */
static void note_deadline(struct destination *destination, const struct queue_entry *entry)
{
    uint32_t deadline_s = queue_entry_deadline_s(entry);
    if (deadline_s != 0 && (destination->deadline_s == 0 || deadline_s < destination->deadline_s)) {
        destination->deadline_s = deadline_s;
    }
}

void ready_append(struct queue *queue, struct destination *destination, uint32_t index)
{
    struct queue_entry *entry = entry_at(queue, index);
    unsigned band = entry->band;
    entry->place = QUEUE_READY;
    entry->next = SLOTS_NONE;
    if (destination->ready_last[band] == SLOTS_NONE) {
        destination->ready_first[band] = index;
    } else {
        entry_at(queue, destination->ready_last[band])->next = index;
    }
    destination->ready_last[band] = index;
    destination->ready++;
    note_deadline(destination, entry);
}

void ready_prepend(struct queue *queue, struct destination *destination, uint32_t index)
{
    struct queue_entry *entry = entry_at(queue, index);
    unsigned band = entry->band;
    entry->place = QUEUE_READY;
    entry->next = destination->ready_first[band];
    destination->ready_first[band] = index;
    if (destination->ready_last[band] == SLOTS_NONE) {
        destination->ready_last[band] = index;
    }
    destination->ready++;
    note_deadline(destination, entry);
}

uint32_t ready_pop(struct queue *queue, struct destination *destination, unsigned band)
{
    uint32_t index = destination->ready_first[band];
    destination->ready_first[band] = entry_at(queue, index)->next;
    if (destination->ready_first[band] == SLOTS_NONE) {
        destination->ready_last[band] = SLOTS_NONE;
    }
    destination->ready--;
    return index;
}

uint32_t ready_take_all(struct queue *queue, struct destination *destination, unsigned band)
{
    uint32_t first = destination->ready_first[band];
    for (uint32_t index = first; index != SLOTS_NONE; index = entry_at(queue, index)->next) {
        destination->ready--;
    }
    destination->ready_first[band] = SLOTS_NONE;
    destination->ready_last[band] = SLOTS_NONE;
    return first;
}
