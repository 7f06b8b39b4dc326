/* The memory guard: no new mail while memory is short, before the machine begins to swap. Shared by all shards. */
#ifndef INBOUND_GUARD_H
#define INBOUND_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#define GUARD_SAMPLE_MS 250       /* between two measurements, at the least */
#define GUARD_RELEASE_PERCENT 125 /* of the reserve has to be available before mail is taken again */

struct guard;

/* `reserve_bytes` 0: never short. NULL without memory. */
struct guard *guard_new(uint64_t reserve_bytes);
void guard_delete(struct guard *guard);
void guard_set_reserve(struct guard *guard, uint64_t reserve_bytes);

/* Is memory short? Measures when the last measurement is old: whoever asks pays, so an idle server has no timer. */
bool guard_short(struct guard *guard, uint64_t now_ms);

/* As of the last measurement, bytes. */
uint64_t guard_available(const struct guard *guard);

#endif
