/* The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt): the header with which a load balancer tells
 * who the real client is. Pure and without state: give it what has been received so far, from the first octet of the
 * connection on, until it has seen the whole header. A listener either requires the header or does not look for it. */
#ifndef SMTP_PROXY_H
#define SMTP_PROXY_H

#include "base/bytes.h"

#define PROXY_V1_BYTES_MAX 107
#define PROXY_V2_HEAD_BYTES 16
#define PROXY_BYTES_MAX 1024 /* longest header taken: addresses are at most 216 octets, the rest are TLVs */

enum proxy_result {
    PROXY_NEED_MORE, /* a beginning of a header: < PROXY_BYTES_MAX octets */
    PROXY_DONE,      /* source and destination are known */
    PROXY_LOCAL,     /* v2 LOCAL: the proxy itself speaks (health check): use the connection's own addresses */
    PROXY_UNKNOWN,   /* v1 UNKNOWN, v2 UNSPEC or AF_UNIX: no address that means anything here; as LOCAL */
    PROXY_BAD,       /* not a header, a version or command that is not known, or longer than the bounds: close */
};

struct proxy_address {
    uint8_t octets[16]; /* IPv4: the first 4 */
    uint16_t port;      /* host order */
};

struct proxy_header {
    size_t length; /* octets of the header; what follows is the client's */
    uint8_t version;
    uint8_t family; /* DONE: 4 or 6; otherwise 0 */
    struct proxy_address source;
    struct proxy_address destination;
};

/* *ret_header is set with DONE, LOCAL and UNKNOWN only. The result does not depend on how much is behind the header. */
enum proxy_result proxy_parse(struct bytes input, struct proxy_header *ret_header);

#endif
