/* What an outcome says about its recipients, in the two forms that leave the program: a line of the event log, and the
 * notification to the sender (RFC 3461, 3464).
 *
 * Who is told: of a failure whoever did not forbid it (NOTIFY=NEVER, or a NOTIFY without FAILURE); of a delay who asked
 * for it, or, with DELIVERBY, who did not ask for anything; of a success who asked for it, unless the host that took
 * the message has DSN and so tells her itself. All recipients of an outcome that are to be told of are in one
 * notification, which is one message at one moment; what happens to the others at another moment, or otherwise, has its
 * own.
 *
 * A notification about a message with the null sender is never made (RFC 5321 4.5.5, 3.6.3).
 */
#ifndef DELIVERY_NOTICE_H
#define DELIVERY_NOTICE_H

#include "delivery/delivery.h"
#include "queue/lend.h"
#include "spool/spool.h"

#define NOTICE_WHOLE_BYTES_MAX (2u << 20) /* a larger original is not returned whole, whatever the settings say */

/* One that was given up before an attempt, or waits, is known by the last reply it got: puts that into the outcome. */
void notice_recall(struct spool *spool, uint64_t id, struct lend_outcome *what);

/* Could a notification be due? Without a look at the message. */
bool notice_possible(const struct lend_outcome *what);

/* Of `possible` ones: is it, for at least one recipient? The view has been read. */
bool notice_wanted(const struct spool_view *view, const struct lend_outcome *what);

/* May the original be returned whole? Then all of it must be in memory for notice_build. Needs no reading. */
bool notice_whole(const struct delivery *delivery, const struct spool_view *view, const struct lend_outcome *what);

/* Writes the events of all recipients: bounce, expiry, removal or deferral. `bounce_id` is the notification's, 0 when
 * there is none. */
void notice_write_events(struct shard *shard, const struct spool_view *view, const struct lend_outcome *what,
                         uint64_t bounce_id);

/* Builds the notification, in wire form, and its envelope, into buffers with room for it (malloc'ed, the caller's), and
 * says which flags its message has (SPOOL_FORMAT_...). */
void notice_build(struct delivery *delivery, const struct spool_view *view, const struct lend_outcome *what,
                  uint64_t bounce_id, struct buffer *ret_text, struct buffer *ret_envelope, uint32_t *ret_flags);

#endif
