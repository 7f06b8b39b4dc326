/* The trace field that every hop prepends (RFC 5321 4.4). */
#ifndef MAIL_RECEIVED_H
#define MAIL_RECEIVED_H

#include "base/bytes.h"
#include "base/limits.h"

#define RECEIVED_BYTES_MAX 1536 /* with the longest valid names */

struct received {
    struct bytes helo;         /* the client's EHLO or HELO argument, already validated */
    struct bytes peer_address; /* "192.0.2.1" or "2001:db8::1", from the connection; empty for a local socket */
    struct bytes host;         /* our name */
    struct bytes protocol;     /* "ESMTP", "SMTP", later "ESMTPS", ... (RFC 3848) */
    struct bytes id;           /* queue id */
    struct bytes recipient;    /* "local@domain" when the message has exactly one recipient, else empty */
    int64_t time_unix_s;
};

/* Appends the whole field with its CRLFs, folded so that no line passes 998 octets. False when the room does not
 * suffice (never with RECEIVED_BYTES_MAX and names within their limits). */
bool received_append(struct buffer *out, const struct received *received);

#endif
