/* Copies of messages whose hosts are slow.
 *
 * A message is sent from the spool's map, and as long as it is lent its segments cannot be used again, however little
 * of them is still needed. Most are lent for milliseconds. A host that takes its time (a reply may take ten minutes,
 * and each recipient has one) would keep 64 MiB of the disk with each connection. So what has been lent for
 * `copy_after_ms` and is not being sent right now is copied into memory, up to `copy_memory_max` in all, and the
 * segments go back. What is being sent cannot be: the kernel reads it from the map. There `body_rate_min` is the bound
 * (client_session.c).
 */
#ifndef DELIVERY_ATTEMPT_COPY_H
#define DELIVERY_ATTEMPT_COPY_H

#include "delivery/attempt.h"

#define ATTEMPT_COPY_BYTES_MAX (256u << 10) /* of one message: a larger one stays where it is until it is sent */

void attempt_copy_start(struct delivery *delivery);
void attempt_copy_stop(struct delivery *delivery);

/* Its message has come: from now on it is looked after. */
void attempt_copy_watch(struct attempt *attempt);

/* It is over: its copy, if any, is freed. */
void attempt_copy_forget(struct attempt *attempt);

#endif
