/* A hierarchical timer wheel: arming and disarming cost a few instructions, whatever the number of timers.
 *
 * Time is a monotonic count of milliseconds that the owner passes in. Timers never fire early; they fire in the first
 * wheel_advance at or after their millisecond, in the order of their expiry.
 */
#ifndef BASE_WHEEL_H
#define BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define WHEEL_LEVELS 4
#define WHEEL_SLOTS 256

struct timer {
    struct list node;
    uint64_t expires_ms;
    void (*fired)(struct timer *timer);
};

struct wheel {
    uint64_t now_ms;
    uint32_t armed;
    uint64_t occupied[WHEEL_LEVELS][WHEEL_SLOTS / 64]; /* which slots hold a timer */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel, uint64_t now_ms);

/* Before a timer is first armed. `fired` runs inside wheel_advance, with the timer already disarmed. */
void wheel_timer_init(struct timer *timer, void (*fired)(struct timer *timer));

/* (Re)arms: fires at the first wheel_advance whose now_ms >= expires_ms. A time in the past fires at the
 * next advance. */
void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t expires_ms);

/* Harmless when it is not armed. */
void wheel_disarm(struct wheel *wheel, struct timer *timer);

bool wheel_armed(const struct timer *timer);

/* Fires everything due. Fired functions may arm and disarm any timer, their own included. */
void wheel_advance(struct wheel *wheel, uint64_t now_ms);

/* A time at or before the next expiry at which wheel_advance should be called; UINT64_MAX when nothing is armed. */
uint64_t wheel_next_ms(const struct wheel *wheel);

#endif
