/* What a durable record changes in memory: the one place where messages begin, change, move and end, for the writer's
 * completions and for recovery alike. Applied strictly in the order of the records. */
#ifndef SPOOL_LEDGER_H
#define SPOOL_LEDGER_H

#include "spool/index.h"
#include "spool/segment.h"
#include "spool/spool.h"

/* The slot's message is durable at that place. Its side object's extents are set already, and counted as live. */
void ledger_message(struct spool *spool, uint32_t slot, struct segment *segment, uint64_t offset, uint64_t bytes);

/* An outcome of a recipient is durable at that place (segment NULL: in the message's own states). What comes after a
 * final status is ignored. Returns true when that was the last recipient: the message is gone and its slot given
 * back. */
bool ledger_outcome(struct spool *spool, uint32_t slot, uint16_t recipient, uint8_t status, struct segment *segment,
                    uint64_t offset);

/* The message is not to be delivered, and kept. */
void ledger_quarantine(struct spool *spool, struct index_slot *at);

/* A newer copy of the message is durable at that place, with its states; `extents` replaces the side object's (same
 * number). The old copy is garbage. */
void ledger_moved(struct spool *spool, uint32_t slot, struct segment *segment, uint64_t offset, uint64_t bytes,
                  const struct index_extent *extents);

/* The recipient's last outcome is durable at a newer place as well: the old one is garbage. */
void ledger_state_moved(struct spool *spool, uint32_t slot, uint16_t recipient, struct segment *segment,
                        uint64_t offset);

/* An extent is durable, its message not yet; and the end of that state. */
void ledger_extent(struct spool *spool, struct segment *segment, uint32_t payload_bytes);
void ledger_extent_used(struct spool *spool, struct segment *segment);
void ledger_extent_abandoned(struct spool *spool, struct segment *segment, uint32_t payload_bytes);

#endif
