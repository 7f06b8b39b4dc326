/* Between the shard that delivers a message and the one that owns it: borrow, return, outcome.
 *
 *      delivery                                owner
 *      lend_borrow      --- MAIL_BORROW --->   spool_lend: the segments stay as they are
 *      ops.lent         <--- MAIL_LENT -----
 *      ... sends it from the map ...
 *      lend_report      --- MAIL_OUTCOME --->  ops.outcome: journal, bounce
 *      lend_return      --- MAIL_RETURN ---->  spool_return
 *
 * Order between two shards is kept, so an outcome is appended before its message can move. Not so when the message was
 * copied and returned early, as a host was slow (delivery/attempt_copy): it may have moved before the outcome comes,
 * which names it by slot and id. The same mails are used when both are one shard.
 */
#ifndef QUEUE_LEND_H
#define QUEUE_LEND_H

#include "base/err.h"
#include "base/limits.h"
#include "queue/queue.h"
#include "ringpost/spool_format.h"
#include "spool/spool_view.h"

/* Ends without an attempt. */
enum lend_verdict {
    LEND_EXPIRED,
    LEND_REMOVED,  /* by the operator, silently */
    LEND_BOUNCED,  /* by the operator, with a notice to the sender */
    LEND_HELD,     /* not an end: kept until released */
    LEND_RELEASED, /* waits for its turn again */
    LEND_OVERDUE,  /* not delivered by the time that the sender had set (RFC 2852) */
    LEND_DELAYED,  /* not an end: the sender is told that it waits, and the recipient counts as told */
};

/* The attempts of an entry and `more`, as outcomes carry and journal them: with SPOOL_FORMAT_TOLD. */
static inline uint16_t lend_attempts(const struct queue_entry *entry, unsigned more)
{
    return (uint16_t)((entry->attempts + more) | (queue_entry_told(entry) ? SPOOL_FORMAT_TOLD : 0));
}

/* Asks for an entry's message. The answer comes to ops.lent with the same job and generation. */
void lend_borrow(struct queue *queue, const struct queue_entry *entry, uint32_t job, uint32_t generation);

struct lend_answer {
    uint32_t job;
    uint32_t generation;
    uint32_t slot;
    uint8_t spool;
    enum err err; /* not ERR_OK: there is no such message any more, or no memory; nothing is lent */
    struct spool_view view;
};

/* Gives a message back. `corrupt`: it did not verify, and is to be quarantined. */
void lend_return(struct queue *queue, uint8_t spool, uint32_t slot, const struct spool_view *view, bool corrupt);

/* What happened to some recipients of a message: one result for all of them. */
struct lend_result {
    enum spool_format_status status;
    uint32_t next_attempt_s;
    uint16_t reply_code; /* 0: not a reply */
    uint8_t enhanced[3];
    struct bytes text; /* the reply, or why; cut at LIMIT_CLIENT_REPLY_BYTES */
    struct bytes host; /* who said it; may be empty */
    bool unseen;       /* LEND_UNSEEN */
    uint8_t facts;     /* LEND_PEER_HAS_DSN, LEND_FINAL */
};

/* About a delivery, for who asked to hear of it (RFC 3461 5.2, 6.2): */
#define LEND_PEER_HAS_DSN \
    1u                /* the host announced DSN and was told what is wanted: it will tell, we have nothing to say */
#define LEND_ASKED 4u /* who sent it asked to be told of success, for at least one of the recipients */
#define LEND_FINAL 2u /* by LMTP or into a mailbox: "delivered"; else the message was "relayed" */

struct lend_recipient {
    uint16_t recipient;
    uint16_t attempts; /* lend_attempts, this one included */
};

#define LEND_HOST_BYTES 255
#define LEND_RECIPIENTS 30 /* per mail; more go in several */

/* The payload of MAIL_OUTCOME. */
struct lend_outcome {
    uint32_t slot;
    uint32_t id_low;
    uint32_t next_attempt_s;
    uint16_t reply_code;
    uint16_t text_bytes;
    uint8_t host_bytes;
    uint8_t count;
    uint8_t spool;
    uint8_t status; /* enum spool_format_status */
    uint8_t enhanced[3];
    uint8_t verdict; /* enum lend_verdict, of those that gave up; else LEND_ATTEMPTED or LEND_UNSEEN */
    uint8_t facts;   /* LEND_PEER_HAS_DSN, LEND_FINAL, LEND_ASKED; of SPOOL_FORMAT_DELIVERED */
    struct lend_recipient recipients[LEND_RECIPIENTS];
    char tail[LIMIT_CLIENT_REPLY_BYTES + LEND_HOST_BYTES]; /* text, host */
};
#define LEND_ATTEMPTED 255 /* the message was borrowed for it */
#define LEND_UNSEEN 254    /* it was not: DNS or the connection failed before */

static_assert(sizeof(struct lend_outcome) <= LIMIT_MAIL_BYTES, "an outcome is one mail");

/* Reports it for recipients of one message; `of` is the entry of any of them. */
void lend_report(struct queue *queue, const struct queue_entry *of, const struct lend_result *result,
                 const struct lend_recipient *recipients, unsigned count);

/* Reports the verdict on an entry that was not tried. */
void lend_give_up(struct queue *queue, const struct queue_entry *entry, enum lend_verdict verdict);

/* From here to lend_gathered the same verdict on neighbours of one message is one outcome, and so one notice to its
 * sender. Nothing else may be reported in between. */
void lend_gather(struct queue *queue);
void lend_gathered(struct queue *queue);

/* Registers the mails of this file. */
void lend_start(struct queue *queue);
void lend_end(struct queue *queue);

#endif
