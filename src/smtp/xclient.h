/* The attributes of XCLIENT and XFORWARD: what a trusted proxy or filter in front tells about the real client
 * (postfix.org/XCLIENT_README.html, XFORWARD_README.html). */
#ifndef SMTP_XCLIENT_H
#define SMTP_XCLIENT_H

#include "base/bytes.h"

#define XCLIENT_LINE_BYTES_MAX 512 /* of the command, with CRLF */
#define XCLIENT_VALUE_BYTES_MAX 255

enum xclient_name {
    XCLIENT_NAME,
    XCLIENT_ADDR,
    XCLIENT_PORT,
    XCLIENT_PROTO,
    XCLIENT_HELO,
    XCLIENT_LOGIN,    /* XCLIENT only */
    XCLIENT_DESTADDR, /* XCLIENT only */
    XCLIENT_DESTPORT, /* XCLIENT only */
    XCLIENT_IDENT,    /* XFORWARD only */
    XCLIENT_SOURCE,   /* XFORWARD only: LOCAL or REMOTE */
    XCLIENT_NAME_COUNT,
};

struct xclient_attribute {
    uint8_t name;     /* enum xclient_name */
    bool unavailable; /* [UNAVAILABLE] or [TEMPUNAVAIL] */
    struct bytes raw; /* xtext as received, decodes to <= XCLIENT_VALUE_BYTES_MAX printable octets; empty when
                         unavailable. ADDR and DESTADDR: an IPv4 address or "IPV6:" and an IPv6 address (xclient_address
                         reads both); ports: 0 to 65535; PROTO: SMTP, ESMTP or LMTP */
};

/* Whether argument is " "-separated name=value pairs of XCLIENT (or XFORWARD), at least one and none twice, each of the
 * form above. Names in any case. */
bool xclient_valid(struct bytes argument, bool forward);

/* Takes the first attribute off *rest, a valid argument. False when there is none left. */
bool xclient_next(struct bytes *rest, struct xclient_attribute *ret_attribute);

/* Reads the value of ADDR or DESTADDR: 4 or 16 octets. Returns AF_INET or AF_INET6, 0 when it is neither. */
int xclient_address(struct bytes raw, uint8_t ret_address[16]);

#endif
