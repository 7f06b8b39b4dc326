/* core/clock.h by the world's time. */
#include "core/clock.h"

#include "sim/world.h"

#define CLOCK_MONOTONIC_BEGIN_MS UINT64_C(5000)
#define CLOCK_WALL_BEGIN_MS UINT64_C(1780000000000)

uint64_t clock_monotonic_ns(void)
{
    return world.now_ns + CLOCK_MONOTONIC_BEGIN_MS * WORLD_MS;
}

uint64_t clock_monotonic_ms(void)
{
    return clock_monotonic_ns() / WORLD_MS;
}

uint64_t clock_wall_ms(void)
{
    return world.now_ns / WORLD_MS + CLOCK_WALL_BEGIN_MS;
}
