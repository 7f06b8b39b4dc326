/* Messages that do not verify: they leave the queue, and stay in the spool until the operator ends them. */
#ifndef SPOOL_QUARANTINE_H
#define SPOOL_QUARANTINE_H

#include "spool/spool.h"

/* The message does not verify: it leaves the queue at once; its bytes stay where they are. Logged with file and offset,
 * counted, and remembered across restarts. */
void spool_quarantine(struct spool *spool, uint32_t slot, uint64_t id, const char *why);

#define SPOOL_QUARANTINE_SENDER_BYTES 256

struct spool_quarantined {
    uint64_t id;
    char file[32]; /* <number>/<file> below the spool's root */
    uint64_t offset;
    uint64_t bytes;                             /* of the record */
    uint16_t recipients;                        /* that are left */
    bool readable;                              /* the envelope verifies */
    uint64_t arrival_ms;                        /* this and the sender only then */
    char sender[SPOOL_QUARANTINE_SENDER_BYTES]; /* cut */
};

/* Goes through them: finds the first at or behind *slot and sets *slot to the one after it. False when there is none.
 * Blocks for a read of the disk. */
bool spool_quarantine_next(struct spool *spool, uint32_t *slot, struct spool_quarantined *ret_item);

/* Ends one for good: all its recipients are REMOVED, each with a removal event once that is durable, and its bytes are
 * garbage. ERR_NOT_FOUND: no such message in quarantine; ERR_NO_MEMORY; ERR_FULL. Blocks for a read of the disk. */
enum err spool_quarantine_drop(struct spool *spool, uint64_t id);

/* Damaged records that are no message of ours any more: how many there are, in how many segments, which are kept for
 * them (spool_forget_damage). */
void spool_quarantine_damage(const struct spool *spool, uint32_t *ret_records, uint32_t *ret_segments);

#endif
