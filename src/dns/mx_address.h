/* IP addresses of hosts that take mail. */
#ifndef DNS_MX_ADDRESS_H
#define DNS_MX_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/bytes.h"

#define MX_ADDRESS_TEXT_BYTES 46 /* with NUL */

struct mx_address {
    sa_family_t family; /* AF_INET, AF_INET6 */
    uint8_t bytes[16];  /* 4 or 16 used, the others 0 */
};

/* "192.0.2.1" or "2001:db8::1", without brackets or zone; false when it is neither. */
bool mx_address_parse(struct bytes text, struct mx_address *ret_address);

/* An address literal with its brackets: "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 4.1.3); also "[2001:db8::1]".
 */
bool mx_address_parse_literal(struct bytes text, struct mx_address *ret_address);

/* Writes the text with NUL and returns `out`. */
const char *mx_address_text(const struct mx_address *address, char out[MX_ADDRESS_TEXT_BYTES]);

/* Fills in a socket address; returns its length. */
socklen_t mx_address_socket(const struct mx_address *address, uint16_t port, struct sockaddr_storage *ret_socket);

/* IPv4 and its IPv6-mapped form are the same address. */
bool mx_address_equal(const struct mx_address *a, const struct mx_address *b);

/* 127/8, ::1, and the "any" addresses, which connect to the own machine as well. */
bool mx_address_loopback(const struct mx_address *address);

#endif
