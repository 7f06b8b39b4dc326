/* The simulated world: virtual time, one source of chance, events, and a trace.
 *
 * Everything that happens in a run follows from its seed: time passes only when nobody has anything to do, every choice
 * is drawn from `world.rng`, and nothing asks the real machine. So a run can be had again, exactly, by its seed; its
 * `hash` covers every event, every result of an operation and every byte that left the server.
 *
 * A run is a process of its own (test_sim.c forks), so what the world allocates is never given back.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

#define WORLD_US UINT64_C(1000)
#define WORLD_MS UINT64_C(1000000)
#define WORLD_S UINT64_C(1000000000)

typedef void world_run(void *context, uint64_t argument);

struct world {
    uint64_t seed;
    uint64_t now_ns; /* both clocks of the server show it, each with an offset */
    uint64_t hash;
    uint64_t events;
    struct rng rng;
    bool tracing;
    bool faults; /* later on everything works, so that a run can come to its end */
    bool cut;    /* the power has failed: nobody runs any more */
};
extern struct world world;

void world_init(uint64_t seed, bool tracing);

/* Zeroed; never given back. Not counted as the server's. */
void *world_new(size_t bytes);

uint64_t world_below(uint64_t bound);
uint64_t world_between(uint64_t least, uint64_t most);
bool world_chance(unsigned of_10000);
/* A fault: never once faults are over. */
bool world_fault(unsigned of_10000);
/* Mostly short, sometimes long, rarely very long. */
uint64_t world_latency_ns(uint64_t typical_ns);

/* `run(context, argument)` after that time. */
void world_after(uint64_t delay_ns, world_run *run, void *context, uint64_t argument);
/* Time of the next event; UINT64_MAX: none. */
uint64_t world_next_ns(void);
/* Runs the next event. */
void world_run_next(void);

void world_mix(uint64_t value);
void world_mix_bytes(const void *data, size_t length);
void world_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Something that must not happen has happened: says so and ends the run's process. */
_Noreturn void world_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
