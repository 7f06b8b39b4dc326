/* Makes an 8-bit or binary message fit for a peer without 8BITMIME or BINARYMIME (RFC 6152 3, RFC 3030 3, RFC 2045 6,
 * RFC 2046 5). */
#ifndef MAIL_MIME_H
#define MAIL_MIME_H

#include "base/bytes.h"

enum {
    MIME_DEPTH_MAX = 16, /* multipart and message/rfc822 inside each other */
};

enum mime_result {
    MIME_CONVERTED,
    MIME_CANNOT, /* 8-bit where no encoding may go (headers, signed parts), or a structure that is not MIME: 5.6.3 */
    MIME_FULL,   /* the result does not fit into the buffer */
};

/* Room that a conversion of a message of so many octets needs at most, unless it has a great many tiny parts. */
static inline size_t mime_capacity(size_t message_bytes)
{
    return message_bytes * 3 + message_bytes / 4 + 4096;
}

/* Appends to `out` the message (wire form: CRLF, dot-stuffed, with its final dot) as an equivalent of octets below 128:
 * text parts become quoted-printable, others base64, and only what has 8-bit octets changes at all. `out` is unchanged
 * unless MIME_CONVERTED. What was DKIM-signed before no longer verifies: convert first, then sign. */
enum mime_result mime_to_7bit(struct bytes message, struct buffer *out);

/* The same for a binary message (RFC 3030 3) without its final dot, where CR, LF and NUL may stand anywhere and lines
 * be of any length. Its dots are stuffed all the same: those that begin it, or follow CRLF. */
enum mime_result mime_binary_to_7bit(struct bytes text, struct buffer *out);

#endif
