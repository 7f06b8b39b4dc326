/* The receiving side of SMTP (RFC 5321) as a pure machine: bytes in, events and reply bytes out. It has no socket,
 * clock, allocation or log, and keeps no bytes of its own, so that an idle session costs sizeof(struct smtp_server).
 *
 * The driver's loop:
 *
 *     for (;;) switch (smtp_server_next(s, &input, &out)) {
 *     WANT_INPUT    everything was consumed: send out, then receive. With s->line_length == 0 the line block is free.
 *     WANT_OUTPUT   less than SMTP_SERVER_OUTPUT_BYTES of room in out: send it first. Nothing was consumed.
 *     WANT_LINE     a command is cut by the end of input: set s->line to a block of config->command_bytes_max bytes.
 *     HELO          already answered; s->helo is the name, s->extended says EHLO.
 *     MAIL          s->mail.path, s->mail.params   \
 *     RCPT          s->rcpt.path                    } answer with smtp_server_accept or smtp_server_refuse before the
 *     DATA          all commands are in            /  next call; at once or later.
 *     BODY          s->piece: store it as it is (wire form, final dot included).
 *     END           the message is whole and well formed: s->dot holds its facts. Answer when it is durable.
 *     DROPPED       the transaction is gone, s->drop says why: forget envelope and body. Already answered.
 *     CLOSE         send out, then close. Final.
 *     }
 *
 * What an event points to lies in the input or in the line block, and stays good until the next call and as long as the
 * driver keeps that memory. Input behind a command whose answer is outstanding stays in *input, untouched.
 *
 * Events are the same however the input is cut, with one exception: of a message that ends in DROPPED, how much came as
 * BODY before the fault was seen depends on the cuts.
 *
 * The envelope: MAIL accepted opens a transaction. It ends with (a) the answer to END, accepting or refusing, (b) a
 * refusal of DATA, (c) DROPPED. In (a) and (b) the driver answered, so there is no DROPPED for it. After each of them
 * the envelope is empty here and must be empty in the driver. HELO comes only while no transaction is open: EHLO inside
 * one gives DROPPED first. */
#ifndef SMTP_SERVER_H
#define SMTP_SERVER_H

#include <assert.h>

#include "base/bytes.h"
#include "mail/address.h"
#include "smtp/dot.h"
#include "smtp/params.h"
#include "smtp/reply.h"

/* Room that next wants in out before it executes a command; an accept or refuse needs REPLY_BYTES_MAX at most. */
#define SMTP_SERVER_OUTPUT_BYTES REPLY_BYTES_MAX

/* Extensions to announce. STARTTLS, AUTH, CHUNKING, SMTPUTF8 and DSN get their bits here when they are built. */
#define SMTP_SERVER_PIPELINING 1u          /* RFC 2920 */
#define SMTP_SERVER_SIZE 2u                /* RFC 1870 */
#define SMTP_SERVER_8BITMIME 4u            /* RFC 6152 */
#define SMTP_SERVER_ENHANCEDSTATUSCODES 8u /* RFC 2034; the codes themselves are always sent */
#define SMTP_SERVER_EXTENSIONS_ALL 15u

/* Shared by all sessions of a listener; must outlive them. */
struct smtp_server_config {
    struct bytes hostname;        /* our name, <= 255 octets */
    uint32_t extensions;          /* SMTP_SERVER_... */
    uint64_t message_bytes_max;   /* 0 = no fixed limit */
    uint32_t recipients_max;      /* per transaction; RFC floor 100 */
    uint32_t command_bytes_max;   /* with CRLF; RFC floor 512 */
    uint32_t text_line_bytes_max; /* with CRLF, stuffed dot not counted */
    uint32_t received_max;        /* this many Received fields are a loop */
    uint32_t errors_max;          /* the errors_max'th error closes; 0 = never. An accepted message resets the count */
};

enum smtp_server_event {
    SMTP_SERVER_WANT_INPUT,
    SMTP_SERVER_WANT_OUTPUT,
    SMTP_SERVER_WANT_LINE,
    SMTP_SERVER_HELO,
    SMTP_SERVER_MAIL,
    SMTP_SERVER_RCPT,
    SMTP_SERVER_DATA,
    SMTP_SERVER_BODY,
    SMTP_SERVER_END,
    SMTP_SERVER_DROPPED,
    SMTP_SERVER_CLOSE,
};

enum smtp_server_drop {
    SMTP_SERVER_DROP_RESET,   /* RSET */
    SMTP_SERVER_DROP_HELO,    /* EHLO or HELO */
    SMTP_SERVER_DROP_CLOSE,   /* QUIT, or the machine closes; CLOSE follows */
    SMTP_SERVER_DROP_CONTENT, /* refused at the final dot; s->refusal says with what */
};

struct smtp_server {
    const struct smtp_server_config *config;
    char *line;           /* lent by the driver, config->command_bytes_max bytes; NULL = none */
    uint32_t line_length; /* octets of an unfinished command in it */
    uint32_t recipients;  /* accepted in this transaction */
    uint32_t errors;
    uint8_t phase;    /* private */
    uint8_t awaiting; /* the event that waits for its answer, 0 = none */
    uint8_t skip;     /* private: discarding the rest of a bad command line */
    uint8_t drop;     /* DROPPED: enum smtp_server_drop */
    uint8_t refusal;  /* DROPPED for content: enum reply_id */
    bool extended;    /* the client said EHLO */
    bool closing;     /* private */
    struct dot dot;   /* BODY, END, DROPPED for content: the message so far */
    union {
        struct bytes helo; /* HELO: the name or literal, validated */
        struct {
            struct address path; /* reverse-path; kind ADDRESS_NULL for "<>" */
            struct params_mail params;
        } mail;
        struct {
            struct address path; /* forward-path; kind ADDRESS_POSTMASTER for "<Postmaster>" */
        } rcpt;
        struct bytes piece; /* BODY */
    };
};

static_assert(sizeof(struct smtp_server) <= 200, "an idle session must stay small");

void smtp_server_init(struct smtp_server *s, const struct smtp_server_config *config);

/* Appends the 220 greeting. */
void smtp_server_greet(struct smtp_server *s, struct buffer *out);

/* Greets with a refusal instead (554, 521; RFC 5321 3.1): from then on everything but QUIT gets 503. */
void smtp_server_greet_refusing(struct smtp_server *s, struct buffer *out, const struct reply *reply);

enum smtp_server_event smtp_server_next(struct smtp_server *s, struct bytes *input, struct buffer *out);

/* Answers the outstanding MAIL, RCPT, DATA (354) or END positively with the catalogue's text, or with one of the
 * driver's (a queue id). */
void smtp_server_accept(struct smtp_server *s, struct buffer *out);
void smtp_server_accept_text(struct smtp_server *s, struct buffer *out, struct bytes text);

/* Answers it negatively (4yz or 5yz). 421 and 521 also close: CLOSE follows, after DROPPED if a transaction is open. */
void smtp_server_refuse(struct smtp_server *s, struct buffer *out, const struct reply *reply);

/* Between transactions, for the driver's timeouts and shutdown: says 421 and closes. next gives DROPPED (if a
 * transaction was open, whatever answer was outstanding) and then CLOSE. */
void smtp_server_stop(struct smtp_server *s, struct buffer *out, const struct reply *reply);

/* A message is being received: after 354 until its final dot. */
bool smtp_server_in_body(const struct smtp_server *s);

/* A transaction is open: MAIL was accepted. */
bool smtp_server_in_transaction(const struct smtp_server *s);

#endif
