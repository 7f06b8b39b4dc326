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
 * Expiry ends what has failed since then: in an attempt of its own, or with all others because their destination could
 * not be reached. Time alone ends nothing, as it passes without attempts when the server was
 * down, the clock was set, or the operator held everything. What he holds does not age.
 *
 * A deadline holds wherever an entry waits: in the calendar it stands at its deadline when that comes first; of what is
 * ready, each destination knows the earliest, and one timer looks through the lists of those whose time has come. An
 * entry that is out is looked at when it comes back. What the operator holds has no deadline and does not expire.
 */
#include "queue/schedule.h"

#include <stdlib.h>

#include "queue/calendar.h"
#include "queue/lend.h"
#include "queue/ready.h"
#include "queue/retry.h"

#define DEADLINE_WAIT_MS 2000      /* between two looks through ready lists */
#define DEADLINE_WAIT_MS_MAX 60000 /* the wall clock may be set */

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
    ready_init(destination);
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

void schedule_unreachable(struct queue *queue, struct destination *destination, struct bytes text)
{
    schedule_error(queue, destination, text);
    destination->unreachable_s = queue_now_s(queue);
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

static void deadline_arm(struct queue *queue, uint32_t deadline_s)
{
    uint32_t now_s = queue_now_s(queue);
    uint64_t after_ms = deadline_s > now_s ? (deadline_s - now_s) * UINT64_C(1000) : 0;
    after_ms = after_ms < DEADLINE_WAIT_MS ? DEADLINE_WAIT_MS : after_ms;
    after_ms = after_ms > DEADLINE_WAIT_MS_MAX ? DEADLINE_WAIT_MS_MAX : after_ms;
    if (!wheel_armed(&queue->deadline_timer) || queue->deadline_timer.expires_ms > queue->shard->now_ms + after_ms) {
        shard_arm(queue->shard, &queue->deadline_timer, after_ms);
    }
}

/* Something has become ready. */
static void announce(struct queue *queue, struct destination *destination)
{
    if (destination->deadline_s != 0) {
        deadline_arm(queue, destination->deadline_s);
    }
    queue->ops.ready(queue->ops.context, destination);
}

static void calendar_add(struct queue *queue, uint32_t index)
{
    queue->deferred++;
    schedule_destination(queue, schedule_entry(queue, index))->deferred++;
    calendar_insert(queue, index);
}

/* Ends an entry that is in no list, without an attempt. */
static void entry_give_up(struct queue *queue, uint32_t index, enum lend_verdict verdict)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    lend_give_up(queue, entry, verdict);
    entry_free(queue, index);
}

static bool deadline_passed(const struct queue *queue, const struct queue_entry *entry)
{
    return entry->deadline != 0 && queue_entry_deadline_s(entry) <= queue_now_s(queue);
}

/* Does what a deadline that has passed asks for, to an entry that is in no list; false when that leaves it waiting. */
static bool entry_overdue(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    if (!deadline_passed(queue, entry)) {
        return false;
    }
    if (entry->ends) {
        entry_give_up(queue, index, LEND_OVERDUE);
        return true;
    }
    queue_entry_set_deadline(entry, 0, true);
    lend_give_up(queue, entry, LEND_DELAYED);
    return false;
}

static void entry_park(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    entry->place = QUEUE_PARKED;
    entry->wish = QUEUE_NO_WISH;
    entry->next_attempt_s = queue_now_s(queue); /* since when */
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
    announce(queue, destination);
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
            .destination = destination->index & (QUEUE_DESTINATIONS_MAX - 1),
            .band = item->band & (QUEUE_BANDS - 1u),
            .recipient = (uint16_t)(item->recipient + i),
            .spool = item->spool,
            .attempts = item->attempts,
        };
        queue_entry_set_deadline(entry, item->deadline_s, item->ends);
        metric_add(&queue->shard->metrics->queued_recipients, 1);
        if (item->held) {
            entry->place = QUEUE_PARKED;
            destination->held++;
        } else if (item->next_attempt_s > queue_now_s(queue)) {
            calendar_add(queue, index);
        } else {
            ready_append(queue, destination, index);
            ready = true;
        }
    }
    if (ready) {
        announce(queue, destination);
    }
}

/* --- taking and giving back ---------------------------------------------------------------------------------- */

const struct queue_entry *schedule_peek(const struct queue *queue, const struct destination *destination)
{
    uint32_t first = ready_first(destination);
    return first == SLOTS_NONE ? NULL : schedule_entry(queue, first);
}

unsigned schedule_take(struct queue *queue, struct destination *destination, uint32_t *ret_entries, unsigned max)
{
    unsigned count = 0;
    destination->out++; /* keeps it while entries are given up */
    uint32_t index;
    while (count < max && (index = ready_first(destination)) != SLOTS_NONE) {
        struct queue_entry *entry = schedule_entry(queue, index);
        if (count != 0 && !queue_entry_same_message(entry, schedule_entry(queue, ret_entries[0]))) {
            break;
        }
        ready_pop(queue, destination, entry->band);
        if (entry->wish != QUEUE_NO_WISH && entry_obey(queue, index)) {
            continue;
        }
        if (entry_overdue(queue, index)) {
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
    lend_gather(queue);
    for (unsigned band = 0; band < QUEUE_BANDS; band++) {
        while (destination->ready_first[band] != SLOTS_NONE &&
               retry_expired(&queue->settings, destination->unreachable_s,
                             schedule_entry(queue, destination->ready_first[band])->arrival_s)) {
            entry_give_up(queue, ready_pop(queue, destination, band), LEND_EXPIRED);
        }
    }
    lend_gathered(queue);
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
    if (entry_obey(queue, index) || entry_overdue(queue, index)) {
        return;
    }
    if (now || next_attempt_s <= queue_now_s(queue)) {
        entry_ready(queue, index);
    } else {
        calendar_add(queue, index);
    }
}

void schedule_return(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = entry_back(queue, index);
    struct destination *destination = schedule_destination(queue, entry);
    if (!entry_obey(queue, index) && !entry_overdue(queue, index)) {
        ready_prepend(queue, destination, index);
        announce(queue, destination);
    }
}

/* --- walks --------------------------------------------------------------------------------------------------- */

/* An entry of the calendar that is due, has a wish or is past its deadline: to where it belongs now. */
static void calendar_leave(struct queue *queue, uint32_t index, bool due)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    struct destination *destination = schedule_destination(queue, entry);
    queue->deferred--;
    destination->deferred--;
    destination->out++;
    if (!entry_obey(queue, index) && !entry_overdue(queue, index)) {
        if (due) {
            entry_ready(queue, index);
        } else {
            calendar_add(queue, index);
        }
    }
    destination->out--;
    schedule_settle(queue, destination);
}

/* Takes the whole list of a second and deals its entries out again. */
static void calendar_walk(struct queue *queue, unsigned at)
{
    uint32_t index = calendar_take(queue, at);
    while (index != SLOTS_NONE) {
        struct queue_entry *entry = schedule_entry(queue, index);
        uint32_t next = entry->next;
        bool due = entry->wish == QUEUE_RETRY || calendar_due(queue, entry);
        if (entry->wish == QUEUE_RELEASE) {
            entry->wish = QUEUE_NO_WISH; /* it is not held */
        }
        if (due || entry->wish != QUEUE_NO_WISH || deadline_passed(queue, entry)) {
            calendar_leave(queue, index, due);
        } else {
            calendar_keep(queue, at, index);
        }
        index = next;
    }
}

void schedule_calendar_due(struct timer *timer)
{
    calendar_advance(CONTAINER_OF(timer, struct queue, calendar_timer), calendar_walk);
}

/* Carries out the wishes and deadlines of what is ready at a destination. */
static void ready_walk(struct queue *queue, struct destination *destination)
{
    destination->out++;
    destination->deadline_s = 0;
    for (unsigned band = 0; band < QUEUE_BANDS; band++) {
        uint32_t index = ready_take_all(queue, destination, band);
        while (index != SLOTS_NONE) {
            struct queue_entry *entry = schedule_entry(queue, index);
            uint32_t next = entry->next;
            if (!entry_obey(queue, index) && !entry_overdue(queue, index)) {
                ready_append(queue, destination, index);
            }
            index = next;
        }
    }
    destination->out--;
    if (destination->ready != 0) {
        announce(queue, destination);
    }
    schedule_settle(queue, destination);
}

void schedule_deadline_due(struct timer *timer)
{
    struct queue *queue = CONTAINER_OF(timer, struct queue, deadline_timer);
    uint32_t now_s = queue_now_s(queue);
    uint32_t earliest_s = 0;
    struct map_cursor cursor = {0};
    struct destination *destination;
    while ((destination = map_next(&queue->destinations, &cursor)) != NULL) {
        destination->out++;
        if (destination->deadline_s != 0 && destination->deadline_s <= now_s) {
            ready_walk(queue, destination);
        }
        uint32_t deadline_s = destination->ready != 0 ? destination->deadline_s : 0;
        destination->deadline_s = deadline_s;
        if (deadline_s != 0 && (earliest_s == 0 || deadline_s < earliest_s)) {
            earliest_s = deadline_s;
        }
        destination->out--;
        schedule_settle(queue, destination);
    }
    if (earliest_s != 0) {
        deadline_arm(queue, earliest_s);
    }
}

/* The time that it was held is not held against it. */
static void entry_rejuvenate(const struct queue *queue, struct queue_entry *entry)
{
    uint32_t now_s = queue_now_s(queue);
    if (entry->next_attempt_s != 0 && entry->next_attempt_s >= entry->arrival_s && entry->next_attempt_s < now_s) {
        entry->arrival_s += now_s - entry->next_attempt_s;
    }
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
        if (!entry_obey(queue, index) && !entry_overdue(queue, index)) {
            lend_give_up(queue, entry, LEND_RELEASED);
            entry_rejuvenate(queue, entry);
            entry_ready(queue, index);
        }
        destination->out--;
        schedule_settle(queue, destination);
    }
}

void schedule_sweep(struct queue *queue)
{
    lend_gather(queue);
    calendar_advance(queue, calendar_walk);
    for (unsigned at = 0; at < QUEUE_CALENDAR_SLOTS; at++) {
        if (queue->calendar[at] != SLOTS_NONE) {
            calendar_walk(queue, at);
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
    lend_gathered(queue);
}
