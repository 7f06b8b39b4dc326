/* How long the spool's commits take on a disk: the same writes to a file of its own. */
#ifndef APP_DISK_SYNC_H
#define APP_DISK_SYNC_H

#include <stdint.h>

struct disk_sync {
    uint32_t batch_bytes;
    uint32_t batches;
    double seconds;
    double p50_ms;
    double p99_ms;
    double max_ms;
};

#define DISK_SYNC_SIZES 4

/* Makes a file in the directory, allocated and written ahead as a segment is, and appends batches of 4 KiB, 16 KiB,
 * 64 KiB and 1 MiB with RWF_DSYNC, each for a second (one of them at least). The file has no name as long as it exists.
 * 0, or -errno with the step that failed. */
int disk_sync_measure(const char *directory, struct disk_sync ret_results[DISK_SYNC_SIZES], const char **ret_step);

#endif
