/* Hosts whose TLS is broken: they offer STARTTLS, and then it does not work. Where a route says that TLS may be used,
 * such a host gets its mail in the clear, and this table keeps each message from costing it two connections.
 *
 * It has a fixed size. A host that has been displaced is only tried once more. */
#ifndef DELIVERY_PLAIN_HOSTS_H
#define DELIVERY_PLAIN_HOSTS_H

#include "dns/mx_address.h"

#define PLAIN_HOSTS_PLACES 1024
#define PLAIN_HOSTS_MS (10u * 60 * 1000) /* then its TLS gets another chance */

struct plain_hosts {
    struct {
        struct mx_address address;
        uint16_t port;
        uint64_t until_ms; /* 0: free */
    } places[PLAIN_HOSTS_PLACES];
};

void plain_hosts_note(struct plain_hosts *hosts, const struct mx_address *address, uint16_t port, uint64_t now_ms);
bool plain_hosts_has(const struct plain_hosts *hosts, const struct mx_address *address, uint16_t port, uint64_t now_ms);

#endif
