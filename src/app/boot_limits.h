/* What bounds the process as a whole: descriptors, memory, rates. */
#ifndef APP_BOOT_LIMITS_H
#define APP_BOOT_LIMITS_H

#include "app/boot_private.h"

#define BOOT_LIMITS_RESERVED 1024 /* descriptors for segments, listeners, logs and control */

/* Raises the limit of descriptors and makes boot->admission with all that it lends. False without memory. */
bool boot_limits_start(struct boot *boot);

/* Takes over what a reload changed. */
void boot_limits_reload(struct boot *boot);

/* After the last shard has ended. */
void boot_limits_end(struct boot *boot);

#endif
