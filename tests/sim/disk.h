/* The simulated disk: real files in a directory of memory, and beside them a model of what a power cut would leave.
 *
 *   write            in memory only: its 512-byte sectors are dirty
 *   write with sync  its own range is durable
 *   fsync            all of the file, or the names in the directory
 *   failed sync      some dirty sectors became durable, the others did not, and all count as clean from then on, as on
 *                    Linux: another fsync says that all is well, and makes nothing durable
 *   power cut        every dirty sector is kept or lost by itself, also of writes that were in flight; of the names
 * that were changed since the directory was synced the first so many are kept
 *
 * The server reads its files by the kernel's own calls and maps; it writes through here: by its ring, or by one of the
 * wrapped calls at the end of disk_calls.c.
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "sim/request.h"

#define DISK_SECTOR 512

struct disk_file {
    ino_t inode;
    int fd; /* of ours */
    uint64_t size;
    char *durable;
    unsigned char *dirty; /* by sector */
    uint64_t allocated;
    uint64_t parsed; /* truth.c: records up to here are known */
    uint64_t epoch;
    uint64_t old_epoch; /* when this life began and there were records; 0: there were none */
    bool broken;        /* a write or a sync failed: what is durable is not known */
    bool gone;
};

/* How often what goes wrong, of 10000. */
struct disk_faults {
    unsigned write_error;
    unsigned sync_error;
    unsigned again;      /* EINTR, EAGAIN, short writes */
    unsigned name_error; /* open, rename, unlink, directory sync */
    unsigned stall;      /* a slow operation */
    bool full;           /* nothing more can be allocated */
};
extern struct disk_faults disk_faults;

/* Counts operations that changed something, and stops the world (world.cut) at that one; 0: never. */
extern uint64_t disk_operations;
extern uint64_t disk_failures; /* writes and syncs that failed so far */
extern uint64_t disk_cut_at;

/* Everything lives below `root`, an empty directory. */
void disk_init(const char *root);

uint64_t disk_latency_ns(const struct request *request);
/* Carries a ring's operation out. */
int disk_run(struct request *request);
/* The server is being told of it. */
void disk_told(const struct request *request);

/* The end of a life: closes and unmaps what the server had open. With `power`, what was not durable is lost. */
void disk_cut(bool power);

/* Descriptors and maps of the server's. */
unsigned disk_open(void);
void disk_opened(int fd);
void disk_closed(int fd);

/* All files that are there. */
void disk_each(void (*run)(struct disk_file *file));
/* Is all of that range durable? */
bool disk_clean(const struct disk_file *file, uint64_t begin, uint64_t end);

/* For disk_calls.c: what the server does without a ring. 0 or -errno. */
int disk_sync(int fd);
/* With sync; or the length. */
int disk_write(int fd, const struct iovec *pieces, unsigned count, uint64_t offset);
int disk_rename(int directory, const char *from, const char *to);
int disk_unlink(int directory, const char *name);
int disk_make_directory(const char *path, unsigned mode);
void disk_step(void);

#endif
