/* Single values of the configuration: from text, and back into the text that the file would have. */
#ifndef CORE_CONFIG_VALUE_H
#define CORE_CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "core/config.h"

/* Parsers: the whole text or false, nothing is guessed. */
bool config_value_size(const char *text, uint64_t *ret_bytes);
bool config_value_duration(const char *text, uint64_t *ret_ms);
/* "100/1m", "50M/1h": a number of 1 to 2^40, with a size's unit or none, and a duration of 1 second to 31 days; "off".
 */
bool config_value_rate(const char *text, struct config_rate *ret_rate);
/* "192.0.2.1:25", "[2001:db8::1]:25"; without a port ("2001:db8::1" too) the port is `port`. */
bool config_value_endpoint(const char *text, unsigned port, struct config_endpoint *ret_endpoint);
/* Refuses an address with bits behind the prefix; *ret_network is then the network that was probably meant. */
bool config_value_network(const char *text, struct config_network *ret_network);
/* A host or domain name in ASCII: labels of letters, digits, '-' and '_', at most 255 octets, no final dot. */
bool config_value_hostname(const char *text);

unsigned config_value_port(const struct config_endpoint *endpoint);
/* Is the address in one of the networks? IPv4 and IPv4-mapped IPv6 are the same. */
bool config_value_network_contains(const struct config_network *networks, unsigned count,
                                   const struct sockaddr *address);

/* Append the text, without quotes. */
void config_value_put_size(struct buffer *out, uint64_t size_bytes);
void config_value_put_duration(struct buffer *out, uint64_t duration_ms);
void config_value_put_rate(struct buffer *out, const struct config_rate *rate);
void config_value_put_endpoint(struct buffer *out, const struct config_endpoint *endpoint); /* "off" for none */
void config_value_put_network(struct buffer *out, const struct config_network *network);
/* Appends a whole value of the key, as the file would have it: quotes, lists and all. Cut off when there is no room. */
void config_value_put(struct buffer *out, const struct config_key *key, const void *group);

#endif
