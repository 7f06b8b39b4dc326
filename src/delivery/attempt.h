/* One message on its way to some of its recipients. */
#ifndef DELIVERY_ATTEMPT_H
#define DELIVERY_ATTEMPT_H

#include <sys/mman.h>

#include "base/limits.h"
#include "delivery/delivery.h"
#include "smtp/client.h"
#include "smtp/unstuff.h"
#include "spool/spool_view.h"

#define ATTEMPT_PAGE 4096u

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

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
    struct smtp_client_notify *notify;
    uint32_t one_entry;
    struct bytes one_recipient;
    struct smtp_client_notify one_notify;
    struct smtp_client_transaction transaction;
    uint64_t deliver_by_ms; /* wall clock; 0: no matter */
    char *converted;        /* 7-bit form of the body, or NULL */
    struct bytes body;      /* of `converted`, else empty */
    uint64_t dot_ms;        /* when the body had been sent */
    /* How far the body is sent. */
    unsigned piece;
    size_t piece_done;
    uint64_t left; /* octets of the pieces to send; a chunk ends before the final dot */
    struct unstuff unstuff;
    struct buffer unstuffed; /* a block of the body without stuffed dots; malloc'ed when it has any */
    /* About who took it, for events and notices; set before its outcome. */
    struct bytes tls;      /* "TLSv1.3 TLS_AES_128_GCM_SHA256 verified"; empty: in the clear */
    uint8_t outcome_facts; /* LEND_PEER_HAS_DSN, LEND_FINAL */
    /* attempt_copy.c */
    struct list lent; /* in the delivery's list, longest first, while the message is lent */
    uint64_t lent_ms;
    char *copy; /* what is still needed of the record, which has been returned; or NULL */
    size_t copy_bytes;
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

/* Sets what changes with time; right before it is fitted to a peer. */
void attempt_refresh(struct attempt *attempt);

#endif
