/* How much memory this process could still get before the machine, or the control group that it runs in, begins to swap
 * or to kill. */
#ifndef CORE_MEMORY_H
#define CORE_MEMORY_H

#include <stdint.h>

struct memory_probe; /* open files of /proc and /sys; may be asked by any thread */

/* Finds out what bounds this process. NULL without memory or without /proc. */
struct memory_probe *memory_probe_new(void);
void memory_probe_delete(struct memory_probe *probe);

/* Bytes, by the tightest of the bounds; what the page cache holds counts as available. UINT64_MAX when nothing could be
 * read. Takes some 20 microseconds. */
uint64_t memory_probe_available(const struct memory_probe *probe);

#endif
