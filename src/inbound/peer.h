/* The address of a client, in one form for both families: IPv4 mapped into IPv6, as configuration keeps networks. */
#ifndef INBOUND_PEER_H
#define INBOUND_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/bytes.h"

#define PEER_TEXT_BYTES 46 /* INET6_ADDRSTRLEN */

struct peer {
    uint8_t address[16];
};

/* Neither IPv4 nor IPv6 gives the unspecified address. */
struct peer peer_of(const struct sockaddr *address);
bool peer_is_ipv4(const struct peer *peer);

/* 4 or 16 bytes, network order; points into the peer. */
struct bytes peer_bytes(const struct peer *peer);

/* "192.0.2.1" or "2001:db8::1", in `text`; without a NUL. */
struct bytes peer_text(const struct peer *peer, char text[PEER_TEXT_BYTES]);

#endif
