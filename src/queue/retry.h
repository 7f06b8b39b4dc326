/* When to try again (RFC 5321 4.5.4.1). */
#ifndef QUEUE_RETRY_H
#define QUEUE_RETRY_H

#include <stdint.h>

#include "base/rng.h"
#include "queue/queue.h"

/* The wait in milliseconds after `attempts` (>= 1) failed attempts, with jitter: at least one second. */
uint64_t retry_wait_ms(const struct queue_settings *settings, struct rng *rng, unsigned attempts);

/* No wait is longer. */
uint64_t retry_longest_s(const struct queue_settings *settings);

/* The time of the next attempt in wall seconds; never past the expiry. 0 when the message has expired already. */
uint32_t retry_next_s(const struct queue_settings *settings, struct rng *rng, unsigned attempts, uint32_t now_s,
                      uint32_t arrival_s);

bool retry_expired(const struct queue_settings *settings, uint32_t now_s, uint32_t arrival_s);

#endif
