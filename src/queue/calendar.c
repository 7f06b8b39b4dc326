#include "queue/calendar.h"

#include "queue/retry.h"
#include "queue/schedule.h"

#define STEP_MS 2000 /* a smaller jump of the wall clock is nobody's wait */

void calendar_init(struct queue *queue)
{
    for (unsigned i = 0; i < QUEUE_CALENDAR_SLOTS; i++) {
        queue->calendar[i] = SLOTS_NONE;
    }
    queue->calendar_clock_ms = (int64_t)(queue->shard->wall_ms - queue->shard->now_ms);
    wheel_timer_init(&queue->calendar_timer, schedule_calendar_due);
}

static uint32_t due_s(const struct queue_entry *entry)
{
    uint32_t deadline_s = queue_entry_deadline_s(entry);
    return deadline_s != 0 && deadline_s < entry->next_attempt_s ? deadline_s : entry->next_attempt_s;
}

/* Wakes up for that second, but at least once a round, unless it is going to be earlier anyway. */
static void arm(struct queue *queue, uint32_t second)
{
    uint32_t now_s = queue_now_s(queue);
    uint32_t ahead_s = second > now_s ? second - now_s : 0;
    uint64_t after_ms = (ahead_s < QUEUE_CALENDAR_SLOTS ? ahead_s : QUEUE_CALENDAR_SLOTS) * UINT64_C(1000);
    if (!wheel_armed(&queue->calendar_timer) || queue->calendar_timer.expires_ms > queue->shard->now_ms + after_ms) {
        shard_arm(queue->shard, &queue->calendar_timer, after_ms != 0 ? after_ms : 1);
    }
}

/* The next second with a list; at most one round away. */
static uint32_t next_second(const struct queue *queue)
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

static void link_at(struct queue *queue, unsigned at, uint32_t index)
{
    schedule_entry(queue, index)->next = queue->calendar[at];
    queue->calendar[at] = index;
    queue->calendar_used[at / 64] |= 1ull << (at % 64);
}

static void link_due(struct queue *queue, uint32_t index)
{
    uint32_t second = due_s(schedule_entry(queue, index));
    if (second <= queue->calendar_swept_s) {
        second = queue->calendar_swept_s + 1;
    }
    link_at(queue, second % QUEUE_CALENDAR_SLOTS, index);
    arm(queue, second);
}

/* The wall clock went back: so do the waits between attempts. What was never tried waits for a time of day. */
static void set_back(struct queue *queue, uint32_t step_s)
{
    uint32_t all = SLOTS_NONE;
    for (unsigned at = 0; at < QUEUE_CALENDAR_SLOTS; at++) {
        uint32_t index = calendar_take(queue, at);
        while (index != SLOTS_NONE) {
            struct queue_entry *entry = schedule_entry(queue, index);
            uint32_t next = entry->next;
            entry->next = all;
            all = index;
            index = next;
        }
    }
    while (all != SLOTS_NONE) {
        struct queue_entry *entry = schedule_entry(queue, all);
        uint32_t next = entry->next;
        if (entry->attempts != 0) {
            entry->next_attempt_s = entry->next_attempt_s > step_s ? entry->next_attempt_s - step_s : 1;
        }
        link_due(queue, all);
        all = next;
    }
}

static void follow_clock(struct queue *queue)
{
    uint32_t now_s = queue_now_s(queue);
    int64_t clock_ms = (int64_t)(queue->shard->wall_ms - queue->shard->now_ms);
    int64_t back_ms = queue->calendar_clock_ms - clock_ms;
    queue->calendar_clock_ms = clock_ms;
    if (queue->deferred == 0 || now_s < queue->calendar_swept_s) {
        queue->calendar_swept_s = now_s;
    }
    if (back_ms >= STEP_MS && queue->deferred != 0) {
        int64_t back_s = back_ms / 1000;
        set_back(queue, back_s < UINT32_MAX ? (uint32_t)back_s : UINT32_MAX);
    }
}

void calendar_insert(struct queue *queue, uint32_t index)
{
    struct queue_entry *entry = schedule_entry(queue, index);
    follow_clock(queue);
    if (entry->next_attempt_s <= queue->calendar_swept_s) {
        entry->next_attempt_s = queue->calendar_swept_s + 1;
    }
    entry->place = QUEUE_CALENDAR;
    link_due(queue, index);
}

uint32_t calendar_take(struct queue *queue, unsigned at)
{
    uint32_t first = queue->calendar[at];
    queue->calendar[at] = SLOTS_NONE;
    queue->calendar_used[at / 64] &= ~(1ull << (at % 64));
    return first;
}

void calendar_keep(struct queue *queue, unsigned at, uint32_t index)
{
    link_at(queue, at, index);
}

bool calendar_due(const struct queue *queue, const struct queue_entry *entry)
{
    uint32_t now_s = queue_now_s(queue);
    return entry->next_attempt_s <= now_s ||
           (entry->attempts != 0 && entry->next_attempt_s > now_s + retry_longest_s(&queue->settings));
}

void calendar_advance(struct queue *queue, void (*each)(struct queue *queue, unsigned at))
{
    follow_clock(queue);
    uint32_t now_s = queue_now_s(queue);
    uint32_t from_s = queue->calendar_swept_s;
    if (now_s > from_s) {
        queue->calendar_swept_s = now_s;
        uint32_t seconds = now_s - from_s < QUEUE_CALENDAR_SLOTS ? now_s - from_s : QUEUE_CALENDAR_SLOTS;
        for (uint32_t i = 0; i < seconds; i++) {
            each(queue, (now_s - i) % QUEUE_CALENDAR_SLOTS);
        }
    }
    if (queue->deferred != 0) {
        arm(queue, next_second(queue));
    }
}
