#include "delivery/plain_hosts.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static unsigned place_of(const struct mx_address *address, uint16_t port)
{
    return (unsigned)(XXH3_64bits_withSeed(address->bytes, sizeof address->bytes, port) % PLAIN_HOSTS_PLACES);
}

void plain_hosts_note(struct plain_hosts *hosts, const struct mx_address *address, uint16_t port, uint64_t now_ms)
{
    unsigned place = place_of(address, port);
    hosts->places[place].address = *address;
    hosts->places[place].port = port;
    hosts->places[place].until_ms = now_ms + PLAIN_HOSTS_MS;
}

bool plain_hosts_has(const struct plain_hosts *hosts, const struct mx_address *address, uint16_t port, uint64_t now_ms)
{
    unsigned place = place_of(address, port);
    return hosts->places[place].until_ms > now_ms && hosts->places[place].port == port &&
           hosts->places[place].address.family == address->family &&
           memcmp(hosts->places[place].address.bytes, address->bytes, sizeof address->bytes) == 0;
}
