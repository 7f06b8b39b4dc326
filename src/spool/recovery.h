/* What a start finds on the disk becomes the spool in memory. Blocks; reads with pread, so that a bad sector is an
 * error and not a signal. */
#ifndef SPOOL_RECOVERY_H
#define SPOOL_RECOVERY_H

#include "base/err.h"
#include "spool/rollcall.h"
#include "spool/spool.h"

/* Reads all segments of the open directory, calls settings->recovered for every message with a recipient left, and
 * leaves the segments as SPARE or FULL; no segment is open. */
enum err recovery_run(struct spool *spool, const struct spool_settings *settings, char *reason, size_t reason_size);

#endif
