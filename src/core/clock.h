/* The two clocks, in one place so that tests can replace them. */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include <stdint.h>

uint64_t clock_monotonic_ns(void);
uint64_t clock_monotonic_ms(void);
uint64_t clock_wall_ms(void); /* since 1970-01-01 UTC */

#endif
