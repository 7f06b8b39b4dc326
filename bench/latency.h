/* Latencies by a log-linear histogram: 16 steps per power of two, so at most 6 % off. Microseconds. */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

struct latency {
    uint64_t counts[64 * 16];
    uint64_t total;
    uint64_t worst;
};

static inline uint64_t latency_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static inline void latency_add(struct latency *latency, uint64_t us)
{
    unsigned power = us < 16 ? 0 : (unsigned)(59 - __builtin_clzll(us));
    uint64_t step = us < 16 ? us : us >> power & 15;
    latency->counts[(us < 16 ? 0 : power + 1) * 16 + step]++;
    latency->total++;
    latency->worst = us > latency->worst ? us : latency->worst;
}

/* The middle of the step that `per_mille` of all are in or below. */
static inline uint64_t latency_at(const struct latency *latency, unsigned per_mille)
{
    uint64_t left = (latency->total * per_mille + 999) / 1000;
    for (unsigned i = 0; i < sizeof latency->counts / sizeof *latency->counts; i++) {
        if (latency->counts[i] >= left && left != 0) {
            unsigned power = i < 16 ? 0 : i / 16 - 1;
            uint64_t low = i < 16 ? i : (uint64_t)(16 + i % 16) << power;
            return low + ((uint64_t)1 << power) / 2;
        }
        left -= latency->counts[i];
    }
    return latency->worst;
}

#endif
