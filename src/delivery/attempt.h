/* One message on its way to some of its recipients. */
#ifndef DELIVERY_ATTEMPT_H
#define DELIVERY_ATTEMPT_H

#include "base/limits.h"
#include "delivery/delivery.h"
#include "smtp/client.h"
#include "spool/spool_view.h"

struct client_session;
struct site;

enum attempt_state {
    ATTEMPT_BORROWING, /* the owner has been asked for the message */
    ATTEMPT_WARMING,   /* its pages are being brought into memory */
    ATTEMPT_READY,     /* `transaction` is complete */
    ATTEMPT_BEGUN,     /* the SMTP machine has it */
};

struct attempt {
    uint32_t index;
    enum attempt_state state;
    struct delivery *delivery;
    struct client_session *session; /* NULL: given up while warming; ends with the last warming */
    struct spool_view view;
    struct op warm;
    unsigned warm_span;
    uint32_t slot;
    uint8_t spool;
    bool recent;
    uint16_t count;           /* recipients */
    uint16_t open;            /* of these, without an outcome */
    uint32_t *entries;        /* in the queue; SLOTS_NONE once the outcome is known */
    struct bytes *recipients; /* addresses, in the map */
    uint32_t one_entry;
    struct bytes one_recipient;
    struct smtp_client_transaction transaction;
    char *converted;   /* 7-bit form of the body, or NULL */
    struct bytes body; /* of `converted`, else empty */
    uint64_t dot_ms;   /* when the body had been sent */
};

/* Takes the site's next message, up to the route's recipients per transaction, and asks for it. NULL when nothing is
 * ready. client_session_attempt_ready or _gone follows. */
struct attempt *attempt_new(struct site *site, struct client_session *session);

/* queue_ops.lent */
void attempt_lent(void *context, const void *payload, size_t length);

/* Ends it: recipients without an outcome go back to the ready list; the message is returned to its owner. */
void attempt_end(struct attempt *attempt);

/* Keeps only the first `count` recipients, the others go back to the ready list. */
void attempt_shrink(struct attempt *attempt, unsigned count);

/* Makes a 7-bit form of the body. False: it can't be done (5.6.3). */
bool attempt_convert(struct attempt *attempt);

/* The pieces of what to send, in order: prologue, body. Piece i of attempt_pieces. */
unsigned attempt_pieces(const struct attempt *attempt);
struct bytes attempt_piece(const struct attempt *attempt, unsigned i);

#endif
