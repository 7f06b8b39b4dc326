#include "inbound/peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct peer peer_of(const struct sockaddr *address)
{
    struct peer peer = {.address = {0}};
    if (address->sa_family == AF_INET) {
        memcpy(peer.address, mapped, sizeof mapped);
        memcpy(peer.address + 12, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        memcpy(peer.address, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
    }
    return peer;
}

bool peer_is_ipv4(const struct peer *peer)
{
    return memcmp(peer->address, mapped, sizeof mapped) == 0;
}

struct bytes peer_bytes(const struct peer *peer)
{
    return peer_is_ipv4(peer) ? bytes_of(peer->address + 12, 4) : bytes_of(peer->address, 16);
}

struct bytes peer_text(const struct peer *peer, char text[PEER_TEXT_BYTES])
{
    static_assert(PEER_TEXT_BYTES == INET6_ADDRSTRLEN, "room for both");
    int family = peer_is_ipv4(peer) ? AF_INET : AF_INET6;
    CHECK(inet_ntop(family, peer_bytes(peer).data, text, PEER_TEXT_BYTES) != NULL);
    return bytes_of_string(text);
}
