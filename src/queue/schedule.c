/* Entries move between four places:
 *
 *      add, due                  take                     defer
 *   ---------------> READY ----------------> OUT -----------------------> CALENDAR
 *                      ^                      |  \ finish                     |
 *                      +--------return--------+   +-> gone                    |
 *                      +------------------------due---------------------------+
 *
 * and PARKED, for what the operator holds. Lists are singly linked by 32-bit indices, so an entry in the middle of one
 * cannot be taken out: what the operator wants is written on it as a wish, and carried out when a walk comes by
 * (schedule_sweep, schedule_take, the calendar).
 *
 * The calendar has one list per second, modulo QUEUE_CALENDAR_SLOTS. A list may hold entries of a later round; they
 * stay.
 *
 * Its seconds are those of the wall clock, because next attempts are journaled and outlive a restart; and the wall
 * clock may be set. Forward, all that is due by the new time is walked. Back, the calendar follows at once (the seconds
 * that come again have empty lists), and what was written with the wrong time shows itself, when its list comes round,
 * by being farther away than the longest wait there is: it is due now.
 */
#include "queue/schedule.h"

#include <stdlib.h>

#include "queue/lend.h"
#include "queue/retry.h"

struct queue_entry *schedule_entry(const struct queue *queue, uint32_t index)
{
    return slots_at(&queue->entries, index);
}

static struct destination *destination_at(const struct queue *queue, uint32_t index)
{
    return *(struct destination **)slots_at(&queue->destination_slots, index);
}

struct destination *schedule_destination(const struct queue *queue, const struct queue_entry *entry)
{
    return destination_at(queue, entry->destination);
}

/* --- destinations -------------------------------------------------------------------------------------------- */

static struct destination *destination_make(struct queue *queue, struct bytes domain)
{
    struct destination *destination = calloc(1, sizeof *destination + domain.length);
    uint32_t index = 0;
    struct destination **place = slots_take(&queue->destination_slots, &index);
    CHECK(destination != NULL && place != NULL);
    *place = destination;
    destination->index = index;
    destination->ready_first = SLOTS_NONE;
    destination->ready_last = SLOTS_NONE;
    destination->length = (uint16_t)domain.length;
    memcpy(destination->domain, domain.data, domain.length);
    CHECK(map_insert(&queue->destinations, destination_domain(destination), destination));
    return destination;
}

static void destination_free(struct queue *queue, struct destination *destination)
{
    map_remove(&queue->destinations, destination_domain(destination));
    slots_give(&queue->destination_slots, destination->index);
    free(destination->last_error);
    free(destination);
}

void schedule_settle(struct queue *queue, struct destination *destination)
{
    if (destination->ready + destination->deferred + destination->held + destination->out == 0) {
        queue->ops.idle(queue->ops.context, destination);
        CHECK(destination->delivery == NULL);
        destination_free(queue, destination);
    }
}

void schedule_error(struct queue *queue, struct destination *destination, struct bytes text)
{
    size_t length = text.length < QUEUE_ERROR_BYTES - 1 ? text.length : QUEUE_ERROR_BYTES - 1;
    if (destination->last_error == NULL) {
        destination->last_error = malloc(QUEUE_ERROR_BYTES);
        CHECK(destination->last_error != NULL);
    }
    memcpy(destination->last_error, text.data, length);
    destination->last_error[length] = '\0';
    destination->error_s = queue_now_s(queue);
}

void schedule_clear(struct queue *queue)
{
    struct map_cursor cursor = {0};
    struct destination *destination;
    while ((destination = map_next(&queue->destinations, &cursor)) != NULL) {
        queue->ops.idle(queue->ops.context, destination);
        destination_free(queue, destination);
    }
}

/* --- ready lists --------------------------------------------------------------------------------------------- */

static void ready_append(struct queue *queue, struct destination *destination, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    entry->place = QUEUE_READY;
    entry->next = SLOTS_NONE;
    if (destination->ready_last == SLOTS_NONE) {
        destination->ready_first = index;
    } else {
        schedule_entry(queue, destination->ready_last)->next = index;
    }
    destination->ready_last = index;
    destination->ready++;
}

static void ready_prepend(struct queue *queue, struct destination *destination, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    entry->place = QUEUE_READY;
    entry->next = destination->ready_first;
    destination->ready_first = index;
    if (destination->ready_last == SLOTS_NONE) {
        destination->ready_last = index;
    }
    destination->ready++;
}

static uint32_t ready_pop(struct queue *queue, struct destination *destination)
{
    uint32_t index = destination->ready_first;
    destination->ready_first = schedule_entry(queue, index)->next;
    if (destination->ready_first == SLOTS_NONE) {
        destination->ready_last = SLOTS_NONE;
    }
    destination->ready--;
    return index;
}

/* --- the calendar -------------------------------------------------------------------------------------------- */

/* Wakes up for that second, but at least once a round, unless it is going to be earlier anyway. */
static void calendar_arm(struct queue *queue, uint32_t second)
{
    uint32_t now_s = queue_now_s(queue);
    uint32_t ahead_s = second > now_s ? second - now_s : 0;
    uint64_t after_ms = (ahead_s < QUEUE_CALENDAR_SLOTS ? ahead_s : QUEUE_CALENDAR_SLOTS) * UINT64_C(1000);
    if (!wheel_armed(&queue->calendar_timer) || queue->calendar_timer.expires_ms > queue->shard->now_ms + after_ms) {
        shard_arm(queue->shard, &queue->calendar_timer, after_ms != 0 ? after_ms : 1);
    }
}

/* The next second with a list; at most one round away. */
static uint32_t calendar_next(const struct queue *queue)
{
    uint32_t second = queue->calendar_swept_s + 1;
    unsigned steps = 1;
    while (steps < QUEUE_CALENDAR_SLOTS &&
           (queue->calendar_used[second % QUEUE_CALENDAR_SLOTS / 64] >> (second % 64) & 1) == 0) {
        second++;
        steps++;
    }
    return second;
}

static void calendar_follow_clock(struct queue *queue)
{
    uint32_t now_s = queue_now_s(queue);
    if (queue->deferred == 0 || now_s < queue->calendar_swept_s) {
        queue->calendar_swept_s = now_s;
    }
}

static void calendar_insert(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    calendar_follow_clock(queue);
    if (entry->next_attempt_s <= queue->calendar_swept_s) {
        entry->next_attempt_s = queue->calendar_swept_s + 1;
    }
    uint32_t at = entry->next_attempt_s % QUEUE_CALENDAR_SLOTS;
    entry->place = QUEUE_CALENDAR;
    entry->next = queue->calendar[at];
    queue->calendar[at] = index;
    queue->calendar_used[at / 64] |= 1ull << (at % 64);
    queue->deferred++;
    schedule_destination(queue, entry)->deferred++;
    calendar_arm(queue, entry->next_attempt_s);
}

/* --- putting entries where they belong ----------------------------------------------------------------------- */

static void entry_free(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    struct destination *destination = schedule_destination(queue, entry);
    entry->place = QUEUE_FREE;
    slots_give(&queue->entries, index);
    metric_subtract(&queue->shard->metrics->queued_recipients, 1);
    schedule_settle(queue, destination);
}

/* Ends an entry that is in no list, without an attempt. */
static void entry_give_up(struct queue *queue, uint32_t index, enum lend_verdict verdict)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    lend_give_up(queue, entry, verdict);
    entry_free(queue, index);
}

static void entry_park(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    entry->place = QUEUE_PARKED;
    entry->wish = QUEUE_NO_WISH;
    schedule_destination(queue, entry)->held++;
    lend_give_up(queue, entry, LEND_HELD);
}

static void entry_ready(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    struct destination *destination = schedule_destination(queue, entry);
    entry->next_attempt_s = 0;
    /* Oldest first, so that expiry, which looks at the head, finds them in order. */
    const struct queue_entry *head = schedule_peek(queue, destination);
    if (head != NULL && entry->arrival_s < head->arrival_s) {
        ready_prepend(queue, destination, index);
    } else {
        ready_append(queue, destination, index);
    }
    queue->ops.ready(queue->ops.context, destination);
}

/* Carries out the wish of an entry that is in no list; false when it has none that takes it away from its place. */
static bool entry_obey(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    enum queue_wish wish = entry->wish;
    entry->wish = QUEUE_NO_WISH;
    switch (wish) {
    case QUEUE_HOLD: entry_park(queue, index); return true;
    case QUEUE_REMOVE: entry_give_up(queue, index, LEND_REMOVED); return true;
    case QUEUE_BOUNCE: entry_give_up(queue, index, LEND_BOUNCED); return true;
    case QUEUE_RELEASE:
    case QUEUE_RETRY:
    case QUEUE_NO_WISH: break;
    }
    return false;
}

void schedule_add(struct queue *queue, struct bytes domain, const struct schedule_item *item, unsigned count)
{
    struct destination *destination = map_find(&queue->destinations, domain);
    if (destination == NULL) {
        destination = destination_make(queue, domain);
    }
    bool ready = false;
    for (unsigned i = 0; i < count; i++) {
        uint32_t index = 0;
        struct queue_entry *entry = slots_take(&queue->entries, &index);
        CHECK(entry != NULL);
        *entry = (struct queue_entry){
            .slot = item->slot,
            .id_low = item->id_low,
            .next_attempt_s = item->next_attempt_s,
            .arrival_s = item->arrival_s,
            .destination = destination->index & ((1u << 26) - 1),
            .recipient = (uint16_t)(item->recipient + i),
            .spool = item->spool,
            .attempts = item->attempts,
        };
        metric_add(&queue->shard->metrics->queued_recipients, 1);
        if (item->held) {
            entry->place = QUEUE_PARKED;
            destination->held++;
        } else if (item->next_attempt_s > queue_now_s(queue)) {
            calendar_insert(queue, index);
        } else {
            ready_append(queue, destination, index);
            ready = true;
        }
    }
    if (ready) {
        queue->ops.ready(queue->ops.context, destination);
    }
}

/* --- taking and giving back ---------------------------------------------------------------------------------- */

const struct queue_entry *schedule_peek(const struct queue *queue, const struct destination *destination)
{
    return destination->ready_first == SLOTS_NONE ? NULL : schedule_entry(queue, destination->ready_first);
}

static bool same_message(const struct queue_entry *a, const struct queue_entry *b)
{
    return a->slot == b->slot && a->spool == b->spool;
}

unsigned schedule_take(struct queue *queue, struct destination *destination, uint32_t *ret_entries, unsigned max)
{
    unsigned count = 0;
    destination->out++; /* keeps it while entries are given up */
    while (count < max && destination->ready_first != SLOTS_NONE) {
        struct queue_entry *entry = schedule_entry(queue, destination->ready_first);
        if (count != 0 && !same_message(entry, schedule_entry(queue, ret_entries[0]))) {
            break;
        }
        uint32_t index = ready_pop(queue, destination);
        if (entry->wish != QUEUE_NO_WISH && entry_obey(queue, index)) {
            continue;
        }
        if (retry_expired(&queue->settings, queue_now_s(queue), entry->arrival_s)) {
            entry_give_up(queue, index, LEND_EXPIRED);
            continue;
        }
        entry->place = QUEUE_OUT;
        destination->out++;
        ret_entries[count++] = index;
    }
    destination->out--;
    schedule_settle(queue, destination);
    return count;
}

void schedule_expire(struct queue *queue, struct destination *destination)
{
    destination->out++;
    while (destination->ready_first != SLOTS_NONE &&
           retry_expired(&queue->settings, queue_now_s(queue),
                         schedule_entry(queue, destination->ready_first)->arrival_s)) {
        entry_give_up(queue, ready_pop(queue, destination), LEND_EXPIRED);
    }
    destination->out--;
    schedule_settle(queue, destination);
}

static struct queue_entry *entry_back(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    CHECK(entry->place == QUEUE_OUT);
    schedule_destination(queue, entry)->out--;
    return entry;
}

void schedule_finish(struct queue *queue, uint32_t index)
{
    entry_back(queue, index);
    entry_free(queue, index);
}

void schedule_defer(struct queue *queue, uint32_t index, uint32_t next_attempt_s)
{
    struct queue_entry *entry = entry_back(queue, index);
    if (entry->attempts < UINT8_MAX) {
        entry->attempts++;
    }
    entry->next_attempt_s = next_attempt_s;
    bool now = entry->wish == QUEUE_RETRY || entry->wish == QUEUE_RELEASE;
    if (entry_obey(queue, index)) {
        return;
    }
    if (now || next_attempt_s <= queue_now_s(queue)) {
        entry_ready(queue, index);
    } else {
        calendar_insert(queue, index);
    }
}

void schedule_return(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = entry_back(queue, index);
    struct destination *destination = schedule_destination(queue, entry);
    if (!entry_obey(queue, index)) {
        ready_prepend(queue, destination, index);
        queue->ops.ready(queue->ops.context, destination);
    }
}

/* --- walks --------------------------------------------------------------------------------------------------- */

/* Takes the whole list of a second and deals its entries out again: what is due becomes ready, wishes are carried out.
 */
static void calendar_walk(struct queue *queue, uint32_t at, uint32_t now_s)
{
    uint64_t farthest_s = now_s + retry_longest_s(&queue->settings);
    uint32_t index = queue->calendar[at];
    queue->calendar[at] = SLOTS_NONE;
    queue->calendar_used[at / 64] &= ~(1ull << (at % 64));
    uint32_t kept = SLOTS_NONE;
    while (index != SLOTS_NONE) {
        struct queue_entry *entry = schedule_entry(queue, index);
        uint32_t next = entry->next;
        bool now = entry->wish == QUEUE_RETRY || entry->next_attempt_s <= now_s || entry->next_attempt_s > farthest_s;
        if (!now && (entry->wish == QUEUE_NO_WISH || entry->wish == QUEUE_RELEASE)) {
            entry->wish = QUEUE_NO_WISH;
            entry->next = kept;
            kept = index;
        } else {
            queue->deferred--;
            struct destination *destination = schedule_destination(queue, entry);
            destination->deferred--;
            destination->out++;
            if (!entry_obey(queue, index)) {
                entry_ready(queue, index);
            }
            destination->out--;
            schedule_settle(queue, destination);
        }
        index = next;
    }
    queue->calendar[at] = kept;
    if (kept != SLOTS_NONE) {
        queue->calendar_used[at / 64] |= 1ull << (at % 64);
    }
}

void schedule_calendar_due(struct timer *timer)
{
    struct queue *queue = CONTAINER_OF(timer, struct queue, calendar_timer);
    calendar_follow_clock(queue);
    uint32_t now_s = queue_now_s(queue);
    uint32_t from_s = queue->calendar_swept_s;
    if (now_s > from_s) {
        queue->calendar_swept_s = now_s;
        uint32_t seconds = now_s - from_s < QUEUE_CALENDAR_SLOTS ? now_s - from_s : QUEUE_CALENDAR_SLOTS;
        for (uint32_t i = 0; i < seconds; i++) {
            calendar_walk(queue, (now_s - i) % QUEUE_CALENDAR_SLOTS, now_s);
        }
    }
    if (queue->deferred != 0) {
        calendar_arm(queue, calendar_next(queue));
    }
}

static void ready_walk(struct queue *queue, struct destination *destination)
{
    uint32_t index = destination->ready_first;
    destination->ready_first = SLOTS_NONE;
    destination->ready_last = SLOTS_NONE;
    destination->ready = 0;
    destination->out++;
    while (index != SLOTS_NONE) {
        uint32_t next = schedule_entry(queue, index)->next;
        if (!entry_obey(queue, index)) {
            ready_append(queue, destination, index);
        }
        index = next;
    }
    destination->out--;
    if (destination->ready != 0) {
        queue->ops.ready(queue->ops.context, destination);
    }
    schedule_settle(queue, destination);
}

static void parked_walk(struct queue *queue)
{
    for (uint32_t index = 0; index < queue->entries.begun; index++) {
        struct queue_entry *entry = schedule_entry(queue, index);
        if (entry->place != QUEUE_PARKED || entry->wish == QUEUE_NO_WISH) {
            continue;
        }
        struct destination *destination = schedule_destination(queue, entry);
        destination->held--;
        destination->out++;
        if (!entry_obey(queue, index)) {
            lend_give_up(queue, entry, LEND_RELEASED);
            entry_ready(queue, index);
        }
        destination->out--;
        schedule_settle(queue, destination);
    }
}

void schedule_sweep(struct queue *queue)
{
    for (unsigned at = 0; at < QUEUE_CALENDAR_SLOTS; at++) {
        if (queue->calendar[at] != SLOTS_NONE) {
            calendar_walk(queue, at, queue_now_s(queue));
        }
    }
    struct map_cursor cursor = {0};
    struct destination *destination;
    while ((destination = map_next(&queue->destinations, &cursor)) != NULL) {
        if (destination->ready != 0) {
            ready_walk(queue, destination);
        }
    }
    parked_walk(queue);
}
