/* Delivery status notifications: what the sender is told when mail is late or lost (RFC 3461, 3464, 6522, 3834). */
#ifndef MAIL_DSN_H
#define MAIL_DSN_H

#include "base/bytes.h"
#include "base/err.h"

enum {
    DSN_HEADER_BYTES_MAX = 16 * 1024, /* quoted of the original's header; then it stops at the end of a line */
    DSN_BOUNDARY_BYTES_MAX = 60,
};

enum dsn_action {
    DSN_FAILED,  /* refused for good */
    DSN_EXPIRED, /* given up after too long a time: Action "failed" as well, in other words */
    DSN_DELAYED, /* still being tried */
};

struct dsn_recipient {
    struct bytes address;            /* the forward-path, without angle brackets */
    struct bytes original_recipient; /* ORCPT as given, "rfc822;user@example"; may be empty */
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
    struct bytes envelope_id;   /* ENVID; may be empty */
    struct bytes queue_id;      /* as our logs have it */
    int64_t arrival_s;          /* unix seconds, here and below */
    int64_t now_s;
    const struct dsn_recipient *recipients; /* all reported on; their actions are either all DELAYED or none is */
    size_t recipients_count;
    struct bytes header;   /* the original message in wire form, or its beginning; read up to the end of its header */
    struct bytes boundary; /* unique: letters, digits, '.', '_', '-', '='; also makes the Message-ID */
};

/* Appends the notification in wire form: CRLF, dot-stuffed, final dot included; seven-bit, without control octets but
 * CRLF and tab, lines of at most 998 octets, whatever the original or a remote reply contained.
 * ERR_FULL when it does not fit (out is unchanged); fewer recipients at a time help. */
enum err dsn_build(const struct dsn *dsn, struct buffer *out);

#endif
