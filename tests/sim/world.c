#include "sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "sim/real.h"

#define WORLD_FAILED 3 /* exit status */

struct event {
    uint64_t at_ns;
    uint64_t order;
    world_run *run;
    void *context;
    uint64_t argument;
};

struct world world;

static struct event *heap;
static size_t heap_count;
static size_t heap_capacity;
static uint64_t heap_order;

void world_init(uint64_t seed, bool tracing)
{
    world = (struct world){.seed = seed, .tracing = tracing, .faults = true};
    rng_seed(&world.rng, seed);
    heap_count = 0;
    heap_order = 0;
}

void *world_new(size_t bytes)
{
    void *memory = real_calloc(1, bytes);
    CHECK(memory != NULL);
    return memory;
}

/* --- chance --- */

uint64_t world_below(uint64_t bound)
{
    return rng_below(&world.rng, bound);
}

uint64_t world_between(uint64_t least, uint64_t most)
{
    return least + world_below(most - least + 1);
}

bool world_chance(unsigned of_10000)
{
    return world_below(10000) < of_10000;
}

bool world_fault(unsigned of_10000)
{
    return of_10000 != 0 && world.faults && world_chance(of_10000);
}

uint64_t world_latency_ns(uint64_t typical_ns)
{
    uint64_t kind = world_below(100);
    uint64_t most = kind < 80 ? typical_ns : kind < 98 ? typical_ns * 10 : typical_ns * 100;
    return 1 + world_below(most);
}

/* --- events: a heap by time, then by the order in which they were asked for --- */

static bool sooner(const struct event *a, const struct event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

void world_after(uint64_t delay_ns, world_run *run, void *context, uint64_t argument)
{
    if (heap_count == heap_capacity) {
        heap_capacity = heap_capacity * 2 + 1024;
        heap = real_realloc(heap, heap_capacity * sizeof *heap);
        CHECK(heap != NULL);
    }
    struct event event = {world.now_ns + delay_ns, heap_order++, run, context, argument};
    size_t at = heap_count++;
    while (at != 0 && sooner(&event, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = event;
}

uint64_t world_next_ns(void)
{
    return heap_count != 0 ? heap[0].at_ns : UINT64_MAX;
}

void world_run_next(void)
{
    CHECK(heap_count != 0);
    struct event first = heap[0];
    struct event last = heap[--heap_count];
    size_t at = 0;
    for (size_t child = 1; child < heap_count; child = 2 * at + 1) {
        child += child + 1 < heap_count && sooner(&heap[child + 1], &heap[child]);
        if (!sooner(&heap[child], &last)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    world.now_ns = first.at_ns > world.now_ns ? first.at_ns : world.now_ns;
    world.events++;
    world_mix(first.order);
    first.run(first.context, first.argument);
}

/* --- trace --- */

void world_mix(uint64_t value)
{
    uint64_t z = (world.hash ^ value ^ world.now_ns) * UINT64_C(0x9e3779b97f4a7c15);
    world.hash = z ^ (z >> 29);
}

void world_mix_bytes(const void *data, size_t length)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    }
    world_mix(hash);
}

static void print(const char *format, va_list arguments)
{
    char line[1024];
    uint64_t us = world.now_ns / 1000;
    int head = snprintf(line, sizeof line, "%6llu.%06llu ", (unsigned long long)(us / 1000000),
                        (unsigned long long)(us % 1000000));
    vsnprintf(line + head, sizeof line - (size_t)head, format, arguments);
    fprintf(stderr, "%s\n", line);
}

void world_trace(const char *format, ...)
{
    if (world.tracing) {
        va_list arguments;
        va_start(arguments, format);
        print(format, arguments);
        va_end(arguments);
    }
}

void world_fail(const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "seed %llu: at %.6f s: %s\n", (unsigned long long)world.seed, (double)world.now_ns / 1e9, line);
    fflush(stderr);
    real_exit(WORLD_FAILED);
}
