/* The sending side of SMTP as a pure machine: reply bytes in, command bytes and events out (RFC 5321, 2920, 1870, 6152,
 * 6531, 9422). It owns no socket, clock or memory and writes no log; see client.c for how it keeps count.
 *
 * How a driver uses it:
 *
 *     smtp_client_init(); connect; then for every piece of input, and after every smtp_client_begin(),
 *     smtp_client_quit() and smtp_client_lost():
 *
 *     for (;;) switch (smtp_client_next(c, &input, &out)) {
 *     WANT_INPUT   flush out, then wait for input. All input was consumed.
 *     WANT_OUTPUT  the same, but call again as soon as out has room: there is more to say.
 *     READY        greeting and EHLO are done: c->capabilities and the limits hold; transactions may begin.
 *     RECIPIENT    c->transaction's recipient c->recipient: c->fate is ACCEPTED, TRANSIENT or PERMANENT.
 *     BODY         all of out so far, then the body of c->transaction, then what later calls append to out: in that
 *                  order onto the wire. This is the moment to begin the next transaction: its envelope then travels in
 *                  the same write, and a warm connection costs one round trip per message.
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
};

enum smtp_client_event {
    SMTP_CLIENT_WANT_INPUT,
    SMTP_CLIENT_WANT_OUTPUT,
    SMTP_CLIENT_READY,
    SMTP_CLIENT_RECIPIENT,
    SMTP_CLIENT_BODY,
    SMTP_CLIENT_DONE,
    SMTP_CLIENT_CLOSED,
};

/* May this transaction go over this connection? Anything but YES: nothing is sent, it remains the driver's. */
enum smtp_client_fit {
    SMTP_CLIENT_FIT_YES,
    SMTP_CLIENT_FIT_TOO_BIG,    /* over the peer's SIZE: permanent, 552 5.3.4 (RFC 1870 6.1) */
    SMTP_CLIENT_FIT_CONVERT,    /* 8-bit body, no 8BITMIME: convert (mail/mime.h), or permanent 5.6.3 (RFC 6152 3) */
    SMTP_CLIENT_FIT_NEEDS_UTF8, /* no SMTPUTF8: permanent 5.6.7 (RFC 6531 3.5) */
    SMTP_CLIENT_FIT_SPLIT,      /* more recipients, or domains among them, than the peer's LIMITS allow (RFC 9422) */
    SMTP_CLIENT_FIT_ADDRESS,    /* an address that is no address; it could have injected a command: permanent 5.1.3 */
};

/* One message to up to LIMIT_TRANSACTION_RECIPIENTS recipients. The driver fills it in and keeps it, and what it points
 * to, unchanged until its DONE. The body may have to live longer: until the driver's own send of it has ended. */
struct smtp_client_transaction {
    struct bytes reverse_path;      /* without angle brackets; empty is the null reverse-path */
    const struct bytes *recipients; /* forward-paths, without angle brackets */
    uint16_t recipients_count;      /* 1..LIMIT_TRANSACTION_RECIPIENTS */
    bool has_8bit;                  /* the body has bytes over 127 */
    bool smtputf8;                  /* the message asked for SMTPUTF8 (also implied by an 8-bit address) */
    uint64_t size_bytes;            /* on the wire; a few octets too many do no harm */
    void *cookie;                   /* the driver's */

    /* The machine's own. */
    uint16_t answered; /* recipients that got a reply */
    uint16_t accepted;
    bool utf8; /* say SMTPUTF8 */
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
    uint32_t begun;          /* transactions so far */
    enum smtp_client_cause cause;

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

#endif
