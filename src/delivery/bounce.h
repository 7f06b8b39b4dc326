/* The owner's side of an outcome: journaled in the spool, and the sender told when recipients failed for good. */
#ifndef DELIVERY_BOUNCE_H
#define DELIVERY_BOUNCE_H

#include "delivery/delivery.h"

void bounce_init(struct delivery *delivery);

/* queue_ops.outcome: the payload of MAIL_OUTCOME (struct lend_outcome). */
void bounce_outcome(void *context, const void *payload, size_t length);

/* The timer's: tries again what could not be written. */
void bounce_retry(struct timer *timer);

/* Frees what waits; for delivery_delete. */
void bounce_clear(struct delivery *delivery);

#endif
