/* Delivery status notifications: what the sender is told when mail is late or lost, or, when she asked for it, has
 * arrived (RFC 3461, 3464, 6522, 6533, 3834). */
#ifndef MAIL_DSN_H
#define MAIL_DSN_H

#include "base/bytes.h"
#include "base/err.h"

enum {
    DSN_HEADER_BYTES_MAX = 16 * 1024, /* quoted of the original's header; then it stops at the end of a line */
    DSN_BOUNDARY_BYTES_MAX = 60,
};

enum dsn_action {
    DSN_FAILED,    /* refused for good */
    DSN_EXPIRED,   /* given up after too long a time: Action "failed" as well, in other words */
    DSN_OVERDUE,   /* given up at the time that the sender had set (RFC 2852): "failed" */
    DSN_DELAYED,   /* still being tried */
    DSN_DELIVERED, /* in its mailbox */
    DSN_RELAYED,   /* passed on to a host that will not tell what becomes of it */
};

struct dsn_recipient {
    struct bytes address;            /* the forward-path, without angle brackets */
    struct bytes original_recipient; /* ORCPT, "rfc822;user@example", its xtext decoded; may be empty */
    enum dsn_action action;
    struct bytes status;     /* "5.1.1" */
    struct bytes remote_mta; /* host name that said `diagnostic`; may be empty */
    struct bytes diagnostic; /* its reply, "550 5.1.1 no such user"; may be empty: nobody replied */
    struct bytes reason;     /* in our words, for when nobody did: "connection timed out"; may be empty */
    int64_t last_attempt_s;  /* 0: there was none */
    int64_t retry_until_s;   /* of DSN_DELAYED; 0: not said */
};

struct dsn {
    struct bytes reporting_mta; /* our host name */
    struct bytes sender;        /* the original reverse-path, never empty: a null sender gets no notification */
    struct bytes envelope_id;   /* ENVID, its xtext decoded; may be empty */
    struct bytes queue_id;      /* as our logs have it */
    int64_t arrival_s;          /* unix seconds, here and below */
    int64_t now_s;
    /* All reported on. They are of one kind: failures, delays, or successes. */
    const struct dsn_recipient *recipients;
    size_t recipients_count;
    struct bytes header; /* the original message in wire form, or its beginning; read up to the end of its header */
    /* Instead of the header: all of the original in wire form, in pieces. NULL: the header only. */
    const struct bytes *whole;
    size_t whole_count;
    bool whole_is_8bit;
    bool utf8; /* the original was internationalised (RFC 6531): characters beyond ASCII stay what they are */
    struct bytes boundary; /* unique: letters, digits, '.', '_', '-', '='; also makes the Message-ID */
};

/* Appends the notification in wire form: CRLF, dot-stuffed, final dot included; without control octets but CRLF and
 * tab, lines of at most 998 octets, whatever the original or a remote reply contained. Seven-bit, unless `utf8` (then
 * well-formed UTF-8 and to be sent with SMTPUTF8) or whole_is_8bit. What `whole` contains is quoted as it is.
 * ERR_FULL when it does not fit (out is unchanged); fewer recipients at a time, or no `whole`, help. */
enum err dsn_build(const struct dsn *dsn, struct buffer *out);

#endif
