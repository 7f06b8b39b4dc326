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

bool peer_is_local(const struct peer *peer)
{
    static const uint8_t none[16];
    return memcmp(peer->address, none, sizeof none) == 0;
}

struct bytes peer_bytes(const struct peer *peer)
{
    if (peer_is_local(peer)) {
        return BYTES("");
    }
    return peer_is_ipv4(peer) ? bytes_of(peer->address + 12, 4) : bytes_of(peer->address, 16);
}

/* By hand for IPv4: the library's goes through printf, and this is done for every message. */
struct bytes peer_text(const struct peer *peer, char text[PEER_TEXT_BYTES])
{
    static_assert(PEER_TEXT_BYTES == INET6_ADDRSTRLEN, "room for both");
    if (peer_is_local(peer)) {
        return BYTES("");
    }
    if (!peer_is_ipv4(peer)) {
        CHECK(inet_ntop(AF_INET6, peer->address, text, PEER_TEXT_BYTES) != NULL);
        return bytes_of_string(text);
    }
    struct buffer out = buffer_of(text, PEER_TEXT_BYTES);
    for (unsigned i = 12; i < 16; i++) {
        CHECK((i == 12 || buffer_append(&out, BYTES("."))) && buffer_append_number(&out, peer->address[i]));
    }
    return buffer_bytes(&out);
}
