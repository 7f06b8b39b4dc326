/* Empty segments, ready before the writer needs them: made, emptied and removed in the background, one at a time. */
#ifndef SPOOL_SUPPLY_H
#define SPOOL_SUPPLY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/wheel.h"
#include "core/ring.h"
#include "ringpost/spool_format.h"

#define SUPPLY_NAME_BYTES 24
#define SUPPLY_RETRY_MS 3000 /* after a failure */
#define SUPPLY_PAUSE_MS 4    /* between pieces of zero bytes, when nobody waits */
#define SUPPLY_PIECE_BYTES (256u << 10)
#define SUPPLY_ZERO_BYTES (64u << 10)

struct spool;
struct segment;

enum supply_phase {
    SUPPLY_IDLE,
    SUPPLY_OPEN,
    SUPPLY_ALLOCATE,
    SUPPLY_ZERO,
    SUPPLY_PAUSE, /* waits for the timer between pieces */
    SUPPLY_HEAD,
    SUPPLY_SYNC,
    SUPPLY_RENAME,
    SUPPLY_SYNC_DIRECTORY,
    SUPPLY_EMPTY,   /* the header of a recycled segment */
    SUPPLY_REMOVE,  /* a spare too many */
    SUPPLY_DISCARD, /* the temporary file of one that could not be made */
};

struct supply {
    struct op op;
    struct timer timer;
    enum supply_phase phase;
    struct segment *segment;
    uint64_t offset; /* zeroed so far */
    uint64_t piece;
    bool direct; /* the zero bytes pass the page cache by */
    bool wanted; /* the writer waits for a spare */
    bool failed; /* the last attempt to make one did; retried after SUPPLY_RETRY_MS or when something was emptied */
    bool backing_off;
    uint64_t number; /* of the new header */
    uint64_t epoch;
    uint64_t emptied; /* segments, since the start */
    char temporary[SUPPLY_NAME_BYTES];
    char name[SUPPLY_NAME_BYTES];
    struct iovec pieces[SUPPLY_PIECE_BYTES / SUPPLY_ZERO_BYTES + 1];
    char page[SPOOL_FORMAT_HEADER_BYTES];
};

void supply_init(struct spool *spool);
void supply_free(struct spool *spool);
/* Starts the next piece of work, if any; at the end of every turn. */
void supply_run(struct spool *spool);
static inline bool supply_idle(const struct supply *supply)
{
    return supply->phase == SUPPLY_IDLE || supply->phase == SUPPLY_PAUSE;
}

#endif
