/* What an outcome says about each of its recipients, in the two forms that leave the program: a line of the event log,
 * and the notification to the sender. */
#ifndef DELIVERY_NOTICE_H
#define DELIVERY_NOTICE_H

#include "delivery/delivery.h"
#include "queue/lend.h"
#include "spool/spool.h"

/* One recipient. Spans point into the view, the outcome or `room`. */
struct notice {
    struct bytes address;
    struct bytes reply; /* of the host, or our own words */
    struct bytes host;
    uint16_t reply_code; /* 0: nobody replied */
    uint8_t enhanced[3];
    uint16_t attempts;
    char status[16];
    char diagnostic[8 + LIMIT_CLIENT_REPLY_BYTES]; /* code and text: as the remote host said it (RFC 3464 2.3.6) */
    char room[SPOOL_OUTCOME_BYTES(1)];
};

/* Describes the i-th recipient of the outcome. One that expired has the last reply it got before. */
void notice_describe(struct spool *spool, const struct spool_view *view, const struct lend_outcome *what, unsigned i,
                     struct notice *ret_notice);

/* Writes the event: bounce, expiry, removal or deferral. `bounce_id` is the notification's, 0 when there is none. */
void notice_write_event(struct shard *shard, const struct spool_view *view, const struct lend_outcome *what,
                        const struct notice *notice, uint64_t bounce_id);

/* Builds the notification about all recipients of the outcome, in wire form, and its envelope. False when it does not
 * fit. */
bool notice_build(struct delivery *delivery, const struct spool_view *view, const struct lend_outcome *what,
                  struct notice *notices, uint64_t bounce_id, struct buffer *text, struct buffer *envelope);

#endif
