/* The owner's side of the queue: what a shard does with a message that its spool has committed, or has found at the
 * start.
 *
 * The recipients are split by domain; each run of neighbouring recipients of one domain goes, as one mail, to the
 * delivery shard that the domain belongs to. The body stays where it is: a delivery shard borrows it (queue/lend.h).
 */
#ifndef QUEUE_ENQUEUE_H
#define QUEUE_ENQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

struct queue;
struct queue_entry;
struct shard;
struct spool;
struct spool_recovered;

/* Hands a committed message to delivery. `envelope` is the on-disk form (spool/envelope.h), valid for the call. */
void enqueue_message(struct shard *shard, struct spool *spool, uint32_t slot, uint64_t arrival_wall_ms,
                     struct bytes envelope);

/* The same for a message that the spool found at the start, with the states of its recipients. */
void enqueue_recovered(struct queue *queue, unsigned spool_number, const struct spool_recovered *message);

/* Moves an entry that delivery holds (QUEUE_OUT) to another delivery shard: its site belongs there. */
void enqueue_forward(struct queue *queue, uint32_t entry_index, unsigned to_shard);

/* True while so many recipients are queued, on all shards together, that new mail must be answered with 452 4.3.1. They
 * are counted where they wait, which need not be where they came in. */
bool enqueue_full(const struct shard *shard);
/* Three quarters of that: time to take what is urgent only, if there is such a rule. */
bool enqueue_busy(const struct shard *shard);

/* Registers the mails of this file. */
void enqueue_start(struct queue *queue);

#endif
