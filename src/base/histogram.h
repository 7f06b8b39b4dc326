/* Log-linear histograms: 8 linear steps per power of two, so a bucket is at most 12.5 % wide; 0 to 2^42 (as
 * microseconds: 50 days; larger values count in the last bucket). Single writer, lock-free readers. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_STEPS 8
#define HISTOGRAM_BUCKETS (40 * HISTOGRAM_STEPS)

struct histogram {
    _Atomic uint64_t count;
    _Atomic uint64_t sum;
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *histogram, uint64_t value);
/* The first value that is above the bucket. */
uint64_t histogram_bucket_end(unsigned bucket);
/* The end of the bucket that holds the given quantile (0..1); 0 when nothing was recorded. */
uint64_t histogram_quantile(const struct histogram *histogram, double quantile);

#endif
