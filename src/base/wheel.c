/* Why a hierarchy, and why it never fires early
 *
 * A server arms a timer for every reply it waits for and disarms almost all of them; what must be cheap is arming and
 * disarming, not firing. A slot is a list, so both are a few pointer writes, whatever the number of timers.
 *
 * Level l counts time in granules of 256^l ms. A timer lives on the lowest level whose window of 256 granules, counted
 * from the granule that now lies in, reaches its expiry:
 *
 *     level 0   [ now .. now + 255 ms ]                    one slot = 1 ms: everything in it is due together
 *     level 1        next 255 slots of 256 ms  (65 s)
 *     level 2             next 255 slots of 65.5 s (4.6 h)
 *     level 3                  next 255 slots of 4.66 h (49 days)
 *
 * The windows wrap around their 256 slots, so a slot stands for one granule at any time. Above level 0 the slot of the
 * current granule is empty: what falls into it belongs to a lower level. When time comes to the start of an occupied
 * slot, its timers are placed again (cascade) and land on a lower level, so that at the end every one of them fires
 * from level 0, on its millisecond. An expiry beyond level 3's window waits in the farthest slot of level 3 and is
 * placed again from there, as often as it takes.
 *
 * A bit per slot says whether it is occupied. wheel_advance goes from one occupied slot's start to the next instead of
 * through every millisecond: a gap of an hour costs what the timers in it cost. Disarming the last timer of a slot
 * clears its bit; the slot is known from the address of its list head, the only neighbour a last node has.
 *
 * wheel_advance first moves all that is due to one list and the time to its end, and only then fires. So a fired
 * function sees a wheel in its final state: a timer that it arms for now or earlier waits for the next advance (no
 * endless loop), and one that it disarms is taken out of that list, due or not.
 */
#include "base/wheel.h"

#define SLOT_BITS 8
#define SLOT_MASK (WHEEL_SLOTS - 1)

_Static_assert(WHEEL_SLOTS == 1 << SLOT_BITS, "a slot number is a byte");

void wheel_init(struct wheel *wheel, uint64_t now_ms)
{
    *wheel = (struct wheel){.now_ms = now_ms};
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            list_init(&wheel->slots[level][slot]);
        }
    }
}

void wheel_timer_init(struct timer *timer, void (*fired)(struct timer *timer))
{
    list_init(&timer->node);
    timer->expires_ms = 0;
    timer->fired = fired;
}

bool wheel_armed(const struct timer *timer)
{
    return !list_empty(&timer->node);
}

static uint64_t granule_of(uint64_t ms, unsigned level)
{
    return ms >> (level * SLOT_BITS);
}

static void mark(struct wheel *wheel, unsigned level, unsigned slot, bool occupied)
{
    uint64_t bit = UINT64_C(1) << (slot % 64);
    if (occupied) {
        wheel->occupied[level][slot / 64] |= bit;
    } else {
        wheel->occupied[level][slot / 64] &= ~bit;
    }
}

static void place(struct wheel *wheel, struct timer *timer)
{
    uint64_t due = timer->expires_ms > wheel->now_ms ? timer->expires_ms : wheel->now_ms;
    unsigned level = 0;
    while (level < WHEEL_LEVELS - 1 && granule_of(due, level) - granule_of(wheel->now_ms, level) >= WHEEL_SLOTS) {
        level++;
    }
    uint64_t current = granule_of(wheel->now_ms, level);
    uint64_t ahead = granule_of(due, level) - current;
    if (ahead >= WHEEL_SLOTS) {
        ahead = WHEEL_SLOTS - 1;
    }
    unsigned slot = (unsigned)((current + ahead) & SLOT_MASK);
    list_push_back(&wheel->slots[level][slot], &timer->node);
    mark(wheel, level, slot, true);
}

void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t expires_ms)
{
    wheel_disarm(wheel, timer);
    timer->expires_ms = expires_ms;
    place(wheel, timer);
    wheel->armed++;
}

void wheel_disarm(struct wheel *wheel, struct timer *timer)
{
    if (!wheel_armed(timer)) {
        return;
    }
    struct list *neighbour = timer->node.next;
    bool last = neighbour == timer->node.prev; /* then it is the head of the list */
    list_remove(&timer->node);
    wheel->armed--;
    uintptr_t offset = (uintptr_t)neighbour - (uintptr_t)wheel->slots;
    if (last && offset < sizeof wheel->slots) { /* else it was the list of those that are firing */
        unsigned index = (unsigned)(offset / sizeof *neighbour);
        mark(wheel, index / WHEEL_SLOTS, index % WHEEL_SLOTS, false);
    }
}

/* How many slots after `from`, going round, the first occupied one is; WHEEL_SLOTS when there is none. */
static unsigned slots_until_occupied(const uint64_t *occupied, unsigned from)
{
    const unsigned words = WHEEL_SLOTS / 64;
    for (unsigned i = 0; i <= words; i++) {
        unsigned word = (from / 64 + i) % words;
        uint64_t bits = occupied[word];
        if (i == 0) {
            bits &= UINT64_MAX << (from % 64);
        } else if (i == words) {
            bits &= ~(UINT64_MAX << (from % 64));
        }
        if (bits != 0) {
            unsigned slot = word * 64 + (unsigned)__builtin_ctzll(bits);
            return (slot - from) & SLOT_MASK;
        }
    }
    return WHEEL_SLOTS;
}

uint64_t wheel_next_ms(const struct wheel *wheel)
{
    uint64_t next = UINT64_MAX;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t current = granule_of(wheel->now_ms, level);
        unsigned ahead = slots_until_occupied(wheel->occupied[level], (unsigned)(current & SLOT_MASK));
        if (ahead < WHEEL_SLOTS) {
            uint64_t start = (current + ahead) << (level * SLOT_BITS);
            next = start < next ? start : next;
        }
    }
    return next;
}

/* Empties the slot of the current granule. */
static void take_slot(struct wheel *wheel, unsigned level, struct list *ret_timers)
{
    unsigned slot = (unsigned)(granule_of(wheel->now_ms, level) & SLOT_MASK);
    list_splice(ret_timers, &wheel->slots[level][slot]);
    mark(wheel, level, slot, false);
}

/* Moves every timer that is due at `now_ms` to `due`, in the order of their expiry. */
static void collect_due(struct wheel *wheel, uint64_t now_ms, struct list *due)
{
    for (uint64_t next = wheel_next_ms(wheel); next <= now_ms && next != UINT64_MAX; next = wheel_next_ms(wheel)) {
        wheel->now_ms = next;
        for (unsigned level = WHEEL_LEVELS - 1; level > 0; level--) {
            struct list cascading;
            list_init(&cascading);
            take_slot(wheel, level, &cascading);
            for (struct list *node = list_pop_front(&cascading); node; node = list_pop_front(&cascading)) {
                place(wheel, LIST_OWNER(node, struct timer, node));
            }
        }
        take_slot(wheel, 0, due);
    }
    wheel->now_ms = now_ms;
}

void wheel_advance(struct wheel *wheel, uint64_t now_ms)
{
    CHECK(now_ms >= wheel->now_ms);
    struct list due;
    list_init(&due);
    collect_due(wheel, now_ms, &due);
    for (struct list *node = list_pop_front(&due); node; node = list_pop_front(&due)) {
        wheel->armed--;
        struct timer *timer = LIST_OWNER(node, struct timer, node);
        timer->fired(timer); /* may free the timer */
    }
}
