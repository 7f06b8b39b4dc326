#include "inbound/guard.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/memory.h"

struct guard {
    struct memory_probe *probe; /* NULL: nothing can be measured here */
    _Atomic uint64_t reserve_bytes;
    _Atomic uint64_t available_bytes;
    _Atomic uint64_t next_ms; /* of the next measurement */
    _Atomic bool is_short;
};

struct guard *guard_new(uint64_t reserve_bytes)
{
    struct guard *guard = calloc(1, sizeof *guard);
    if (guard == NULL) {
        return NULL;
    }
    guard->probe = memory_probe_new();
    atomic_init(&guard->reserve_bytes, reserve_bytes);
    atomic_init(&guard->available_bytes, UINT64_MAX);
    return guard;
}

void guard_delete(struct guard *guard)
{
    if (guard->probe != NULL) {
        memory_probe_delete(guard->probe);
    }
    free(guard);
}

void guard_set_reserve(struct guard *guard, uint64_t reserve_bytes)
{
    atomic_store(&guard->reserve_bytes, reserve_bytes);
    atomic_store(&guard->next_ms, 0);
    if (reserve_bytes == 0) {
        atomic_store(&guard->is_short, false);
    }
}

static void measure(struct guard *guard)
{
    uint64_t reserve = atomic_load(&guard->reserve_bytes);
    uint64_t available = guard->probe != NULL ? memory_probe_available(guard->probe) : UINT64_MAX;
    bool was_short = atomic_load(&guard->is_short);
    bool is_short = available < (was_short ? reserve / 100 * GUARD_RELEASE_PERCENT : reserve);
    atomic_store(&guard->available_bytes, available);
    if (is_short != atomic_exchange(&guard->is_short, is_short)) {
        log_line(is_short ? LOG_ERROR : LOG_INFO,
                 is_short ? "memory is short: no new mail" : "there is memory again: mail is taken",
                 "available_bytes=%llu reserve_bytes=%llu", (unsigned long long)available, (unsigned long long)reserve);
    }
}

bool guard_short(struct guard *guard, uint64_t now_ms)
{
    uint64_t next_ms = atomic_load_explicit(&guard->next_ms, memory_order_relaxed);
    if (now_ms >= next_ms && atomic_load_explicit(&guard->reserve_bytes, memory_order_relaxed) != 0 &&
        atomic_compare_exchange_strong(&guard->next_ms, &next_ms, now_ms + GUARD_SAMPLE_MS)) {
        measure(guard);
    }
    return atomic_load_explicit(&guard->is_short, memory_order_relaxed);
}

uint64_t guard_available(const struct guard *guard)
{
    return atomic_load(&guard->available_bytes);
}
