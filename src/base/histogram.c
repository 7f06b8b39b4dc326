/* A value below 8 has a bucket of its own. Any other has its highest bit at e >= 3, and the three bits below it choose
 * one of 8 equal steps of [2^e, 2^(e+1)): bucket (e - 2) * 8 + step. No table, no floating point, no loop. */
#include "base/histogram.h"

#define STEP_BITS 3

_Static_assert(1 << STEP_BITS == HISTOGRAM_STEPS, "steps per power of two");

static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS) {
        return (unsigned)value;
    }
    unsigned exponent = 63 - (unsigned)__builtin_clzll(value);
    unsigned step = (unsigned)(value >> (exponent - STEP_BITS)) & (HISTOGRAM_STEPS - 1);
    unsigned bucket = (exponent - STEP_BITS + 1) * HISTOGRAM_STEPS + step;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

uint64_t histogram_bucket_end(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS) {
        return bucket + 1;
    }
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    return (uint64_t)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS + 1) << shift;
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* There is one writer, so no locked instruction is needed. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, load(counter) + n, memory_order_relaxed);
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    add(&histogram->buckets[bucket_of(value)], 1);
    add(&histogram->sum, value);
    add(&histogram->count, 1);
}

uint64_t histogram_quantile(const struct histogram *histogram, double quantile)
{
    /* The total of the buckets as read here: `count` may be a moment older or newer. */
    uint64_t seen[HISTOGRAM_BUCKETS];
    uint64_t total = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen[i] = load(&histogram->buckets[i]);
        total += seen[i];
    }
    double rank = quantile * (double)total;
    uint64_t below = 0;
    unsigned last = HISTOGRAM_BUCKETS;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += seen[i];
        if (seen[i] != 0) {
            last = i;
            if ((double)below >= rank) {
                break;
            }
        }
    }
    return last < HISTOGRAM_BUCKETS ? histogram_bucket_end(last) : 0;
}
