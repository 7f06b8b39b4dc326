/* The sending side of SMTP and LMTP as a pure machine: reply bytes in, command bytes and events out (RFC 5321, 2033,
 * 2920, 1870, 6152, 6531, 3030, 3207, 3461, 4954 5, 6710, 8689, 2852, 9422). It owns no socket, clock or memory and
 * writes no log; see client.c for how it keeps count.
 *
 * How a driver uses it:
 *
 *     smtp_client_init(); connect; then for every piece of input, and after every smtp_client_begin(),
 *     smtp_client_secured(), smtp_client_quit() and smtp_client_lost():
 *
 *     for (;;) switch (smtp_client_next(c, &input, &out)) {
 *     WANT_INPUT   flush out, then wait for input. All input was consumed.
 *     WANT_OUTPUT  the same, but call again as soon as out has room: there is more to say.
 *     START_TLS    the peer waits for a TLS handshake, and all input was consumed. Do it, then smtp_client_secured();
 * or smtp_client_lost(). Nothing else in between. READY        greeting and EHLO are done: c->capabilities and the
 * limits hold; transactions may begin. RECIPIENT    c->transaction's recipient c->recipient: c->fate is ACCEPTED,
 * TRANSIENT or PERMANENT. BODY         all of out so far, then the body of c->transaction, then what later calls append
 * to out: in that order onto the wire. This is the moment to begin the next transaction: its envelope then travels in
 *                  the same write, and a warm connection costs one round trip per message. With transaction->chunked
 *                  the body goes without stuffed dots and without a final dot: chunk_bytes octets (RFC 3030).
 *     FINAL        LMTP only: the verdict c->fate on recipient c->recipient of c->transaction. DONE follows the last.
 *     DONE         c->transaction is the driver's again. c->fate is the verdict on its recipients that were not
 *                  refused by a RECIPIENT event before (smtp_client_refused() tells which were).
 *     CLOSED       nothing more will happen, no transaction is left; c->cause says why. Close the connection.
 *     }
 *
 * UNSENT: the driver bounds how often it tries again at once, some peers end every connection.
 *
 * With every RECIPIENT and DONE, c->reply is the reply that decided (code 0: there was none) and c->phase the phase
 * it belongs to. Both are valid until the next call.
 */
#ifndef SMTP_CLIENT_H
#define SMTP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/limits.h"
#include "smtp/client_reply.h"

enum smtp_client_capability {
    SMTP_CLIENT_ESMTP = 1 << 0, /* EHLO was understood */
    SMTP_CLIENT_PIPELINING = 1 << 1,
    SMTP_CLIENT_SIZE = 1 << 2,
    SMTP_CLIENT_8BITMIME = 1 << 3,
    SMTP_CLIENT_SMTPUTF8 = 1 << 4,
    SMTP_CLIENT_DSN = 1 << 5,
    SMTP_CLIENT_CHUNKING = 1 << 6,
    SMTP_CLIENT_STARTTLS = 1 << 7,
    SMTP_CLIENT_ENHANCED_STATUS_CODES = 1 << 8,
    SMTP_CLIENT_AUTH = 1 << 9,
    SMTP_CLIENT_BINARYMIME = 1 << 10,
    SMTP_CLIENT_REQUIRETLS = 1 << 11,
    SMTP_CLIENT_MT_PRIORITY = 1 << 12,
    SMTP_CLIENT_DELIVERBY = 1 << 13,
};

/* What becomes of a connection on which the peer offers STARTTLS, or does not. */
enum smtp_client_tls {
    SMTP_CLIENT_TLS_OFF,     /* it goes on in the clear */
    SMTP_CLIENT_TLS_MAY,     /* TLS when it is offered, else in the clear */
    SMTP_CLIENT_TLS_REQUIRE, /* TLS, or the connection ends */
};

/* What is being waited for: the index of a driver's table of timeouts (RFC 5321 4.5.3.2). */
enum smtp_client_phase {
    SMTP_CLIENT_PHASE_IDLE, /* nothing is due from the peer */
    SMTP_CLIENT_PHASE_GREETING,
    SMTP_CLIENT_PHASE_EHLO,
    SMTP_CLIENT_PHASE_MAIL, /* RSET too */
    SMTP_CLIENT_PHASE_RCPT,
    SMTP_CLIENT_PHASE_DATA,
    SMTP_CLIENT_PHASE_BODY, /* never returned by the machine: the driver's own while its send of a body is in flight */
    SMTP_CLIENT_PHASE_DOT,
    SMTP_CLIENT_PHASE_QUIT,
    SMTP_CLIENT_PHASE_TLS, /* STARTTLS; the driver's own while the handshake runs */
    SMTP_CLIENT_PHASE_COUNT,
};

enum smtp_client_fate {
    SMTP_CLIENT_ACCEPTED,  /* of one recipient: the verdict comes with DONE */
    SMTP_CLIENT_DELIVERED, /* 2yz to the final dot: the peer is responsible now */
    SMTP_CLIENT_TRANSIENT, /* try again later */
    SMTP_CLIENT_PERMANENT,
    SMTP_CLIENT_UNSENT,  /* the connection ended before the dot, for no fault of the message: try again at once */
    SMTP_CLIENT_UNKNOWN, /* the connection ended between the dot and its reply: try again later, may be a duplicate */
};

enum smtp_client_cause {
    SMTP_CLIENT_CAUSE_NONE,     /* still open */
    SMTP_CLIENT_CAUSE_QUIT,     /* in good order */
    SMTP_CLIENT_CAUSE_REFUSED,  /* greeting, EHLO, HELO or RSET got a 4yz or 5yz: c->reply, c->phase */
    SMTP_CLIENT_CAUSE_SHUTDOWN, /* 421 to anything later */
    SMTP_CLIENT_CAUSE_PROTOCOL, /* not SMTP, or a reply that nothing asked for */
    SMTP_CLIENT_CAUSE_LOST,     /* smtp_client_lost() */
    SMTP_CLIENT_CAUSE_NO_TLS,   /* STARTTLS was refused (c->reply), or it is required and not offered (code 0) */
};

enum smtp_client_event {
    SMTP_CLIENT_WANT_INPUT,
    SMTP_CLIENT_WANT_OUTPUT,
    SMTP_CLIENT_READY,
    SMTP_CLIENT_RECIPIENT,
    SMTP_CLIENT_BODY,
    SMTP_CLIENT_DONE,
    SMTP_CLIENT_CLOSED,
    SMTP_CLIENT_START_TLS,
    SMTP_CLIENT_FINAL,
};

/* May this transaction go over this connection? Anything but YES: nothing is sent, it remains the driver's. */
enum smtp_client_fit {
    SMTP_CLIENT_FIT_YES,
    SMTP_CLIENT_FIT_TOO_BIG, /* over the peer's SIZE: permanent, 552 5.3.4 (RFC 1870 6.1) */
    SMTP_CLIENT_FIT_CONVERT, /* 8-bit body, no 8BITMIME; or binary, no CHUNKING with BINARYMIME: convert (mail/mime.h),
                                or permanent 5.6.3 (RFC 6152 3, RFC 3030 3) */
    SMTP_CLIENT_FIT_NEEDS_UTF8, /* no SMTPUTF8: permanent 5.6.7 (RFC 6531 3.5) */
    SMTP_CLIENT_FIT_SPLIT,      /* more recipients, or domains among them, than the peer's LIMITS allow (RFC 9422) */
    SMTP_CLIENT_FIT_ADDRESS,    /* an address that is no address; it could have injected a command: permanent 5.1.3 */
    SMTP_CLIENT_FIT_NEEDS_TLS,  /* REQUIRETLS, and we do not know whom we talk to: permanent 5.7.10 (RFC 8689 4.2.1) */
    SMTP_CLIENT_FIT_NEEDS_REQUIRETLS, /* ... or the peer would pass it on without: permanent 5.7.30 */
    SMTP_CLIENT_FIT_TOO_LATE,         /* to be delivered by a time that the peer does not keep: permanent 5.4.7 */
    SMTP_CLIENT_FIT_COUNT,
};

/* What the sender wants to hear about a recipient (RFC 3461 4.1, 4.2). */
#define SMTP_CLIENT_NOTIFY_NEVER 1u
#define SMTP_CLIENT_NOTIFY_SUCCESS 2u
#define SMTP_CLIENT_NOTIFY_FAILURE 4u
#define SMTP_CLIENT_NOTIFY_DELAY 8u

struct smtp_client_notify {
    uint8_t notify;                  /* SMTP_CLIENT_NOTIFY_...; 0: not given */
    struct bytes original_recipient; /* ORCPT, the xtext as it was received; empty: not given */
};

/* Parameters of MAIL that only go to peers that know them. Zeroes: not given. Texts are xtext as it was received; one
 * that is too long or could not have come by SMTP is left out. */
struct smtp_client_parameters {
    bool smtputf8;            /* the message asked for SMTPUTF8 (also implied by an 8-bit address) */
    bool require_tls;         /* REQUIRETLS (RFC 8689); a null reverse-path does without where it must */
    bool has_priority;        /* MT-PRIORITY (RFC 6710) */
    int8_t priority;          /* -9..9 */
    char ret;                 /* RET: 'F', 'H' or 0 */
    char by_mode;             /* DELIVERBY (RFC 2852): 'N', 'R' or 0 */
    bool by_trace;            /* ... with T */
    int64_t by_s;             /* seconds from now, at most 999999999 either way */
    struct bytes envelope_id; /* ENVID */
    struct bytes auth;        /* AUTH= (RFC 4954 5) */
};

/* One message to up to LIMIT_TRANSACTION_RECIPIENTS recipients. The driver fills it in and keeps it, and what it points
 * to, unchanged until its DONE. The body may have to live longer: until the driver's own send of it has ended. */
struct smtp_client_transaction {
    struct bytes reverse_path;               /* without angle brackets; empty is the null reverse-path */
    const struct bytes *recipients;          /* forward-paths, without angle brackets */
    uint16_t recipients_count;               /* 1..LIMIT_TRANSACTION_RECIPIENTS */
    bool has_8bit;                           /* the body has bytes over 127 */
    bool binary;                             /* it is BODY=BINARYMIME: only BDAT may carry it */
    uint64_t size_bytes;                     /* on the wire; a few octets too many do no harm */
    uint64_t chunk_bytes;                    /* binary: exactly what goes behind the BDAT */
    const struct smtp_client_notify *notify; /* one for each recipient; NULL: nothing was asked for */
    struct smtp_client_parameters parameters;
    void *cookie; /* the driver's */

    /* The machine's own. */
    uint16_t answered; /* recipients that got a reply */
    uint16_t accepted;
    uint16_t finals; /* LMTP: of these, with a verdict */
    uint16_t final_next;
    bool any_delivered;
    bool utf8;    /* say SMTPUTF8 */
    bool chunked; /* by BDAT */
    uint64_t refused[(LIMIT_TRANSACTION_RECIPIENTS + 63) / 64];
};

enum { SMTP_CLIENT_EXPECTED_MAX = 8 };

struct smtp_client {
    /* For the driver to read. */
    uint32_t capabilities;   /* enum smtp_client_capability */
    uint64_t size_limit;     /* bytes; 0: none announced */
    uint32_t mail_max;       /* transactions on this connection; 0: no limit */
    uint32_t recipients_max; /* per transaction, never above LIMIT_TRANSACTION_RECIPIENTS */
    uint32_t domains_max;    /* recipient domains per transaction; 0: no limit */
    uint32_t by_s_min;       /* what DELIVERBY announced; 0: none */
    uint32_t begun;          /* transactions so far */
    uint32_t replies;        /* complete ones so far: progress, unlike single octets */
    enum smtp_client_cause cause;
    bool secure; /* past a TLS handshake */

    /* About the event just returned. */
    struct smtp_client_transaction *transaction;
    struct smtp_client_reply *reply;
    uint16_t recipient;
    bool excess; /* RECIPIENT: refused only because this transaction has too many; another may begin at once */
    enum smtp_client_fate fate;
    enum smtp_client_phase phase;

    /* The machine's own. */
    struct bytes helo_name;
    struct smtp_client_transaction *sent;     /* its dot is on the wire, the reply is not in */
    struct smtp_client_transaction *envelope; /* its MAIL, RCPT, DATA are being said */
    struct smtp_client_transaction *waiting;  /* begun, not started */
    struct {
        uint8_t kind;
        uint8_t count;
    } expected[SMTP_CLIENT_EXPECTED_MAX]; /* replies due, oldest first, equal neighbours counted */
    uint8_t expected_count;
    uint8_t say; /* the next command to write */
    uint16_t say_recipient;
    bool may_pipeline;
    bool lmtp;
    bool trusted;     /* ... with the host that we were sent to: fit for REQUIRETLS */
    bool handshaking; /* START_TLS was returned */
    enum smtp_client_tls tls;
    bool ready;
    bool reset_due;       /* the peer holds an envelope that went nowhere: RSET before the next MAIL */
    bool lone_dot_due;    /* DATA was let in for nobody: end it with no message */
    bool orphan_accepted; /* ... but the peer thinks that there is a recipient */
    bool quitting;
    bool dot_sent;                  /* smtp_client_lost() */
    enum smtp_client_fate end_fate; /* of `end_of`, which got the reply that ended the connection */
    enum smtp_client_phase end_phase;
    struct smtp_client_transaction *end_of;
};

static_assert(sizeof(struct smtp_client) <= 512, "one per connection");

/* `helo_name`: our host name or address literal, CHECKed to be printable and without spaces; it and `reply` outlive the
 * machine. `may_pipeline` false: one command at a time, whatever the peer announces. */
void smtp_client_init(struct smtp_client *c, struct bytes helo_name, bool may_pipeline,
                      struct smtp_client_reply *reply);

/* To be called right after init: LHLO in place of EHLO, and one verdict per recipient (RFC 2033). */
void smtp_client_use_lmtp(struct smtp_client *c);
/* To be called right after init; without it TLS_OFF. */
void smtp_client_use_tls(struct smtp_client *c, enum smtp_client_tls tls);

/* The handshake that START_TLS asked for has succeeded: all that the peer said before is forgotten (RFC 3207 4.2).
 * `trusted`: its certificate was verified for a name that nobody could have forged on the way. */
void smtp_client_secured(struct smtp_client *c, bool trusted);

/* A transaction may be handed over now: after READY, at most two at a time, not past LIMITS MAILMAX or quit. */
bool smtp_client_can_begin(const struct smtp_client *c);

/* True when there is no transaction and never can be another: time to quit. */
bool smtp_client_spent(const struct smtp_client *c);

enum smtp_client_fit smtp_client_fit(const struct smtp_client *c, const struct smtp_client_transaction *transaction);

/* Hands over a transaction that fits (CHECKed: can_begin and fit). Sets its machine-owned fields. */
void smtp_client_begin(struct smtp_client *c, struct smtp_client_transaction *transaction);

/* Says QUIT as soon as all transactions are done. Nothing can begin any more. */
void smtp_client_quit(struct smtp_client *c);

/* The connection is gone (EOF, reset) or given up (timeout). First let next() consume what had arrived. `dot_sent`:
 * may the final dot of the last BODY have reached the kernel? When in doubt, true. Then next() gives the DONEs. */
void smtp_client_lost(struct smtp_client *c, bool dot_sent);

/* Runs to the next event. Every command is appended to `out` whole; its capacity is at least
 * LIMIT_CLIENT_COMMAND_BYTES (CHECKed). */
enum smtp_client_event smtp_client_next(struct smtp_client *c, struct bytes *input, struct buffer *out);

/* What the peer owes us next, and so which timeout applies. */
enum smtp_client_phase smtp_client_phase(const struct smtp_client *c);

/* Was recipient i refused by a RECIPIENT event? */
bool smtp_client_refused(const struct smtp_client_transaction *transaction, uint16_t i);

/* Short names for logs; never NULL. */
const char *smtp_client_phase_name(enum smtp_client_phase phase);
const char *smtp_client_fate_name(enum smtp_client_fate fate);
const char *smtp_client_cause_name(enum smtp_client_cause cause);
const char *smtp_client_fit_name(enum smtp_client_fit fit);

#endif
