/* The index at the end of a full segment, so that a restart need not read the segment.
 *
 * Written in the background after the writer has gone on to the next segment: first the SEAL record, then, when that is
 * durable, the trailer in the last 64 bytes that says where it is. A segment without them, or whose SEAL does not
 * verify, is scanned instead; nothing depends on a seal but time. */
#ifndef SPOOL_SEAL_H
#define SPOOL_SEAL_H

#include <stdbool.h>
#include <sys/uio.h>

#include "base/err.h"
#include "core/ring.h"
#include "ringpost/spool_format.h"

struct spool;
struct segment;

struct sealer {
    struct op op;
    struct segment *segment; /* in work */
    bool trailing;
    uint32_t waiting;
    struct spool_format_record record;
    struct spool_format_seal seal;
    struct spool_format_trailer trailer;
    struct iovec pieces[4];
    uint64_t bytes;
};

void seal_init(struct spool *spool);
/* A segment that is FULL is to be sealed with its entries. Suspect ones are not. */
void seal_queue(struct spool *spool, struct segment *segment);
void seal_run(struct spool *spool);
bool seal_idle(const struct spool *spool);

/* Where records end, according to the trailer. ERR_NOT_FOUND: there is none; ERR_CORRUPT: it does not verify. ERR_IO.
 * Blocks. */
enum err seal_find(int fd, uint64_t epoch, uint64_t bytes, uint64_t *ret_offset);

/* Reads the SEAL there. The entries are malloc'ed; each has a position inside the records. ERR_CORRUPT, ERR_IO,
 * ERR_NO_MEMORY. Blocks. */
enum err seal_read(int fd, uint64_t epoch, uint64_t bytes, uint64_t offset, struct spool_format_seal *ret_seal,
                   struct spool_format_entry **ret_entries);

#endif
