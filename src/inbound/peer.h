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

/* Of a unix socket: no address at all. */
bool peer_is_local(const struct peer *peer);

/* Neither IPv4 nor IPv6 gives the unspecified address. */
struct peer peer_of(const struct sockaddr *address);
bool peer_is_ipv4(const struct peer *peer);

/* 4 or 16 bytes, network order, none of a unix socket; points into the peer. */
struct bytes peer_bytes(const struct peer *peer);

/* "192.0.2.1", "2001:db8::1" or, of a unix socket, ""; in `text`, without a NUL. */
struct bytes peer_text(const struct peer *peer, char text[PEER_TEXT_BYTES]);

#endif
