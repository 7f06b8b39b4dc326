/* Every reply that ringpost gives, each situation once, and how a reply is written (RFC 5321 4.2, RFC 2034). */
#ifndef SMTP_REPLY_H
#define SMTP_REPLY_H

#include "base/bytes.h"

#define REPLY_BYTES_MAX 1024 /* reply_append never writes more */

struct reply {
    uint16_t code;
    uint8_t enhanced[3]; /* class, subject, detail (RFC 3463); class 0 = none, as in the greeting and after EHLO */
    struct bytes text;   /* lines separated by '\n', none at the end; anything but printable ASCII is written as '?' */
};

enum reply_id {
    REPLY_OK,
    REPLY_SENDER_OK,
    REPLY_RECIPIENT_OK,
    REPLY_START_DATA,
    REPLY_QUEUED,
    REPLY_HELP,
    REPLY_VRFY,
    REPLY_BYE,
    REPLY_OVERLOAD,
    REPLY_SHUTDOWN,
    REPLY_IDLE,
    REPLY_TOO_MANY_ERRORS,
    REPLY_NOT_SMTP,
    REPLY_BAD_LINE,
    REPLY_LINE_TOO_LONG,
    REPLY_UNKNOWN_VERB,
    REPLY_NOT_IMPLEMENTED,
    REPLY_BAD_ARGUMENT,
    REPLY_BAD_SENDER,
    REPLY_BAD_RECIPIENT,
    REPLY_BAD_SEQUENCE,
    REPLY_NO_RECIPIENTS,
    REPLY_UNKNOWN_PARAMETER,
    REPLY_NO_UTF8,
    REPLY_TOO_MANY_RECIPIENTS,
    REPLY_TOO_BIG,
    REPLY_PRIORITY_LOW,
    REPLY_PRIORITY_LOW_NOW,
    REPLY_PRIORITY_TOO_BIG,
    REPLY_BARE_LINE_END,
    REPLY_BAD_CONTENT,
    REPLY_LOOP,
    REPLY_NO_SERVICE,
    REPLY_RELAY_DENIED,
    REPLY_UNKNOWN_USER,
    REPLY_MAILBOX_FULL,
    REPLY_MAILBOX_FULL_NOW,
    REPLY_UNKNOWN_DOMAIN,
    REPLY_UNKNOWN_SENDER_DOMAIN,
    REPLY_NULL_MX_SENDER,
    REPLY_NULL_MX_RECIPIENT,
    REPLY_RECIPIENT_POLICY,
    REPLY_NO_SPACE,
    REPLY_SPOOL_ERROR,
    REPLY_BUSY,
    REPLY_TLS_REQUIRED,
    REPLY_GO_AHEAD,
    REPLY_TLS_UNAVAILABLE,
    REPLY_TLS_PIPELINED,
    REPLY_AUTHENTICATED,
    REPLY_AUTH_REQUIRED,
    REPLY_AUTH_FAILED,
    REPLY_AUTH_UNAVAILABLE,
    REPLY_AUTH_MECHANISM,
    REPLY_AUTH_ABORTED,
    REPLY_AUTH_TOO_LONG,
    REPLY_BAD_BASE64,
    REPLY_BAD_CHUNK,
    REPLY_NOT_AUTHORISED,
    REPLY_DELIVER_BY,
    REPLY_TOO_MANY_MAILS,
    REPLY_COUNT,
};

/* The catalogue's entry. Static storage. */
const struct reply *reply_of(enum reply_id id);

/* Writes the reply: same code on every line, each line <= 512 octets (longer text is cut), 7-bit, CRLF. All or nothing:
 * false when the room does not suffice; REPLY_BYTES_MAX always suffices (more lines are cut). */
bool reply_append(struct buffer *out, const struct reply *reply);

/* The same with another text. */
bool reply_append_text(struct buffer *out, const struct reply *reply, struct bytes text);

#endif
