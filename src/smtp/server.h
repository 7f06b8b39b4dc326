/* The receiving side of SMTP (RFC 5321) and LMTP (RFC 2033) as a pure machine: bytes in, events and reply bytes out. It
 * has no socket, clock, allocation or log, and keeps no bytes of its own, so that an idle session costs
 * sizeof(struct smtp_server).
 *
 * The driver's loop:
 *
 *     for (;;) switch (smtp_server_next(s, &input, &out)) {
 *     WANT_INPUT    everything was consumed: send out, then receive. With s->line_length == 0 the line block is free.
 *     WANT_OUTPUT   less than SMTP_SERVER_OUTPUT_BYTES of room in out: send it first. Nothing was consumed.
 *     WANT_LINE     a command is cut by the end of input: set s->line to a block of s->line_bytes octets. If there is
 *                   one already it is too small: its first s->line_length octets move along (realloc).
 *     HELO          already answered; s->helo is the name, s->extended says EHLO (or LHLO).
 *     STARTTLS_ASKED  accept says 220 and refuse (454) says no. After accept nothing may be given to next before
 *                   smtp_server_secured: send out, check that nothing was received meanwhile, shake hands, call it.
 *     AUTH_STEP     s->auth: answer with smtp_server_challenge (334), accept (235) or refuse (535, 454).
 *     AUTH_CANCELLED  the client gave up, or spoke nonsense, inside the exchange. Already answered: free the exchange.
 *     XCLIENT_GIVEN s->peer_attributes: accept says 220 and begins again as after the greeting; refuse says no.
 *     XFORWARD_GIVEN  the same, but accept says 250.
 *     MAIL          s->mail.path, s->mail.params   \
 *     RCPT          s->rcpt.path, s->rcpt.params    } answer with smtp_server_accept or smtp_server_refuse before the
 *     DATA          all commands are in            /  next call; at once or later.
 *     BODY          s->piece: store it as it is (wire form, final dot included).
 *     END           the message is whole and well formed: s->dot holds its facts. Answer when it is durable.
 *     DROPPED       the transaction is gone, s->drop says why: forget envelope and body. Already answered.
 *     CLOSE         send out, then close. Final; ends an AUTH exchange too.
 *     }
 *
 * What an event points to lies in the input, in the line block or in static storage, and stays good until the next call
 * and as long as the driver keeps that memory. Input behind a command whose answer is outstanding stays in *input,
 * untouched. After AUTH the line block holds a password: wipe it before it is given back.
 *
 * Events are the same however the input is cut, with two exceptions: of a message that ends in DROPPED, how much came
 * as BODY before the fault was seen depends on the cuts; and STARTTLS with more plaintext behind it in the same input
 * is refused by the machine, without an event (RFC 3207 4.2: whatever a man in the middle put there must not be read
 * inside TLS), while plaintext that comes later is for the driver to see, which reads its stream: it must not start TLS
 * over unread input.
 *
 * BDAT (RFC 3030) gives the same events as DATA. DATA comes once, with s->chunked set, at the first chunk; accept then
 * says nothing, and the text of a refusal must stay good (a catalogue reply does) because it is said behind the chunk,
 * which has to be read first. BODY pieces are brought into wire form: stuffed dots, a missing last CRLF
 * (s->crlf_added) and the final dot come as pieces of their own. END follows LAST. A chunk that fails is read over and
 * ends the transaction, and so do the chunks that were pipelined behind it.
 *
 * What is offered: s->extensions (a copy of the configuration's; the driver may change it for a trusted peer before
 * EHLO), less what makes no sense now (STARTTLS inside TLS, REQUIRETLS outside, AUTH without a mechanism). Commands and
 * parameters of an extension that is not offered are refused as unknown: what is announced is what is enforced.
 *
 * The envelope: MAIL accepted opens a transaction. It ends with (a) the answer to END, accepting or refusing, (b) a
 * refusal of DATA, (c) DROPPED. In (a) and (b) the driver answered, so there is no DROPPED for it. After each of them
 * the envelope is empty here and must be empty in the driver. HELO, STARTTLS, AUTH, XCLIENT and XFORWARD come only
 * while no transaction is open: EHLO inside one gives DROPPED first, the others are out of order. In LMTP the answer to
 * END goes out once for each recipient (RFC 2033 4.2). */
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

/* The longest challenge of smtp_server_challenge, before base64. */
#define SMTP_SERVER_CHALLENGE_BYTES_MAX 720

/* A line of an AUTH exchange, with CRLF (RFC 4954 4). */
#define SMTP_SERVER_AUTH_LINE_BYTES_MAX 12288

/* Extensions to offer. */
#define SMTP_SERVER_PIPELINING 1u          /* RFC 2920 */
#define SMTP_SERVER_SIZE 2u                /* RFC 1870 */
#define SMTP_SERVER_8BITMIME 4u            /* RFC 6152 */
#define SMTP_SERVER_ENHANCEDSTATUSCODES 8u /* RFC 2034; the codes themselves are always sent */
#define SMTP_SERVER_STARTTLS 0x10u         /* RFC 3207 */
#define SMTP_SERVER_AUTH 0x20u             /* RFC 4954 */
#define SMTP_SERVER_CHUNKING 0x40u         /* RFC 3030 */
#define SMTP_SERVER_BINARYMIME 0x80u       /* RFC 3030; only together with CHUNKING */
#define SMTP_SERVER_SMTPUTF8 0x100u        /* RFC 6531; only together with 8BITMIME */
#define SMTP_SERVER_DSN 0x200u             /* RFC 3461 */
#define SMTP_SERVER_LIMITS 0x400u          /* RFC 9422 */
#define SMTP_SERVER_REQUIRETLS 0x800u      /* RFC 8689 */
#define SMTP_SERVER_MT_PRIORITY 0x1000u    /* RFC 6710 */
#define SMTP_SERVER_FUTURERELEASE 0x2000u  /* RFC 4865 */
#define SMTP_SERVER_DELIVERBY 0x4000u      /* RFC 2852 */
#define SMTP_SERVER_XCLIENT 0x8000u        /* smtp/xclient.h */
#define SMTP_SERVER_XFORWARD 0x10000u
#define SMTP_SERVER_EXTENSIONS_BASIC 15u /* the four that need nothing else */

#define SMTP_SERVER_MECHANISMS_BYTES_MAX 200

/* Shared by all sessions of a listener; must outlive them. */
struct smtp_server_config {
    struct bytes hostname;         /* our name, <= 255 octets */
    uint32_t extensions;           /* SMTP_SERVER_... */
    uint64_t message_bytes_max;    /* 0 = no fixed limit */
    uint32_t recipients_max;       /* per transaction; RFC floor 100 */
    uint32_t command_bytes_max;    /* with CRLF; RFC floor 512 */
    uint32_t text_line_bytes_max;  /* with CRLF, stuffed dot not counted */
    uint32_t received_max;         /* this many Received fields are a loop */
    uint32_t errors_max;           /* the errors_max'th error closes; 0 = never. An accepted message resets the count */
    uint32_t mail_max;             /* MAIL commands in a session, one more closes it; 0 = no limit */
    struct bytes mechanisms_clear; /* SASL mechanisms, upper case, one space between two; "" = no AUTH */
    struct bytes mechanisms_secure;      /* the same inside TLS; each <= SMTP_SERVER_MECHANISMS_BYTES_MAX octets */
    uint32_t future_release_seconds_max; /* FUTURERELEASE: 1 to 999999999 */
    uint32_t deliver_by_seconds_min;     /* DELIVERBY: the least BY=n;R; 0 = no limit of ours */
    bool lmtp;                           /* RFC 2033: LHLO in the place of EHLO */
    bool auth_required;                  /* MAIL before AUTH: 530 */
    bool tls_required;                   /* anything but EHLO HELO STARTTLS NOOP QUIT RSET outside TLS: 530 */
};

enum smtp_server_event {
    SMTP_SERVER_WANT_INPUT,
    SMTP_SERVER_WANT_OUTPUT,
    SMTP_SERVER_WANT_LINE,
    SMTP_SERVER_HELO,
    SMTP_SERVER_STARTTLS_ASKED,
    SMTP_SERVER_AUTH_STEP,
    SMTP_SERVER_AUTH_CANCELLED,
    SMTP_SERVER_XCLIENT_GIVEN,
    SMTP_SERVER_XFORWARD_GIVEN,
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
    char *line;           /* lent by the driver, s->line_bytes octets; NULL = none */
    uint32_t line_length; /* octets of an unfinished command in it */
    uint32_t line_bytes;  /* WANT_LINE: how large it has to be */
    uint32_t extensions;  /* offered to this client; the driver may change it before EHLO and before XCLIENT's answer */
    uint32_t recipients;  /* accepted in this transaction */
    uint32_t mails;       /* MAIL commands in this session */
    uint32_t errors;
    uint32_t repeats;       /* private: LMTP replies still to say */
    uint64_t chunk_left;    /* octets of a BDAT chunk still to come */
    uint64_t now_s;         /* kept by the driver when it offers FUTURERELEASE: Unix time */
    uint8_t phase;          /* private */
    uint8_t awaiting;       /* the event that waits for its answer, 0 = none */
    uint8_t skip;           /* private: discarding the rest of a bad command line */
    uint8_t drop;           /* DROPPED: enum smtp_server_drop */
    uint8_t refusal;        /* DROPPED for content: enum reply_id */
    uint8_t chunk;          /* private: what becomes of the chunk's octets */
    bool extended;          /* the client said EHLO (or LHLO) */
    bool secure;            /* inside TLS */
    bool authenticated;     /* AUTH was accepted; the driver may set it (XCLIENT LOGIN=) */
    bool chunked;           /* from DATA to END: the message comes by BDAT */
    bool binary;            /* transaction: BODY=BINARYMIME */
    bool utf8;              /* transaction: SMTPUTF8 */
    bool crlf_added;        /* END: the last CRLF before the final dot is not the client's */
    bool chunk_is_last;     /* private */
    bool chunks_discarding; /* private: a chunk failed, those behind it are read over */
    bool in_exchange;       /* private: the next line is a response of AUTH */
    bool closing;           /* the last reply is said: CLOSE comes next, after DROPPED perhaps */
    struct dot dot;         /* BODY, END, DROPPED for content: the message so far, in wire form */
    union {
        struct bytes helo; /* HELO: the name or literal, validated */
        struct {
            struct bytes mechanism; /* as it is written in the configuration; empty unless first */
            struct bytes response;  /* decoded */
            bool has_response;      /* there is one, perhaps empty; false only for AUTH without an initial response */
            bool first;             /* a new exchange */
        } auth;
        struct bytes peer_attributes; /* validated: read them with xclient_next */
        struct {
            struct address path; /* reverse-path; kind ADDRESS_NULL for "<>" */
            struct params_mail params;
        } mail;
        struct {
            struct address path; /* forward-path; kind ADDRESS_POSTMASTER for "<Postmaster>" */
            struct params_rcpt params;
        } rcpt;
        struct bytes piece; /* BODY */
        struct {
            struct reply reply;
            uint32_t answers;
        } late; /* private: said behind the chunk that is being read over */
                /* private: said behind the chunk that is being read over */
        struct {
            uint16_t code;
            uint8_t enhanced[3];
            uint8_t length;
            char text[74];
        } repeated; /* private: LMTP's answer to END */
    };
};

static_assert(sizeof(struct smtp_server) <= 256, "an idle session must stay small");

void smtp_server_init(struct smtp_server *s, const struct smtp_server_config *config);

/* Appends the 220 greeting. */
void smtp_server_greet(struct smtp_server *s, struct buffer *out);

/* Greets with a refusal instead (554, 521; RFC 5321 3.1): from then on everything but QUIT gets 503. */
void smtp_server_greet_refusing(struct smtp_server *s, struct buffer *out, const struct reply *reply);

enum smtp_server_event smtp_server_next(struct smtp_server *s, struct bytes *input, struct buffer *out);

/* Answers the outstanding event positively with the catalogue's text, with one of the driver's (a queue id), or with a
 * whole 2yz reply (not for DATA). XCLIENT ignores the text. */
void smtp_server_accept(struct smtp_server *s, struct buffer *out);
void smtp_server_accept_text(struct smtp_server *s, struct buffer *out, struct bytes text);
void smtp_server_accept_reply(struct smtp_server *s, struct buffer *out, const struct reply *reply);

/* Answers it negatively (4yz or 5yz). 421 and 521 also close: CLOSE follows, after DROPPED if a transaction is open. */
void smtp_server_refuse(struct smtp_server *s, struct buffer *out, const struct reply *reply);

/* Answers AUTH_STEP with 334 and the challenge (may be empty), <= SMTP_SERVER_CHALLENGE_BYTES_MAX octets before base64.
 */
void smtp_server_challenge(struct smtp_server *s, struct buffer *out, struct bytes challenge);

/* TLS stands: after the accepted STARTTLS_ASKED, or before the greeting (implicit TLS). The session is as after the
 * greeting, whatever was said before is forgotten (RFC 3207 4.2). */
void smtp_server_secured(struct smtp_server *s);

/* For the driver's timeouts and shutdown, between transactions: says 421 and closes. next gives DROPPED (if a
 * transaction was open, whatever answer was outstanding) and then CLOSE. */
void smtp_server_stop(struct smtp_server *s, struct buffer *out, const struct reply *reply);

/* A message is being received: after 354 until its final dot, or the octets of a chunk. */
bool smtp_server_in_body(const struct smtp_server *s);

/* A transaction is open: MAIL was accepted. */
bool smtp_server_in_transaction(const struct smtp_server *s);

#endif
