/* The trace field that every hop prepends (RFC 5321 4.4). */
#ifndef MAIL_RECEIVED_H
#define MAIL_RECEIVED_H

#include "base/bytes.h"
#include "base/limits.h"

#define RECEIVED_BYTES_MAX 1664 /* with the longest valid names */
#define RECEIVED_TLS_BYTES_MAX 96

struct received {
    struct bytes helo;         /* the client's EHLO or HELO argument, already validated */
    struct bytes peer_address; /* "192.0.2.1" or "2001:db8::1", from the connection; empty for a local socket */
    struct bytes host;         /* our name */
    struct bytes tls;          /* "TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128 bits)", or "" */
    struct bytes protocol;     /* received_protocol */
    struct bytes id;           /* queue id */
    struct bytes recipient;    /* "local@domain" when the message has exactly one recipient, else empty */
    bool has_priority;
    int8_t priority; /* MT-PRIORITY (RFC 6710 7) */
    int64_t time_unix_s;
};

/* What `with` says: the registered names of RFC 3848, RFC 6531 4.3 and RFC 2033, by what the session was. */
struct received_session {
    bool extended; /* EHLO or LHLO; without it the rest has no name of its own */
    bool lmtp;
    bool utf8; /* SMTPUTF8 was asked for */
    bool secure;
    bool authenticated;
};
struct bytes received_protocol(const struct received_session *session);

/* Appends the whole field with its CRLFs, folded so that no line passes 998 octets. False when the room does not
 * suffice (never with RECEIVED_BYTES_MAX and names within their limits). */
bool received_append(struct buffer *out, const struct received *received);

#endif
