/* Who may connect: limits of open connections in total, per listener and per client address, over all shards, and the
 * choice of the shard that a connection goes to. */
#ifndef INBOUND_ADMISSION_H
#define INBOUND_ADMISSION_H

#include <stdint.h>

#include "base/limits.h"
#include "inbound/peer.h"

#define ADMISSION_LISTENERS_MAX 256
#define ADMISSION_CONNECTIONS_MAX 1000000 /* the largest value of the limit in total */

/* A connection moves when the shard that accepted it holds more sessions than the least loaded one by more than this
 * number and by more than this share of the other's. */
#define ADMISSION_MOVE_SESSIONS 8
#define ADMISSION_MOVE_PERCENT 25

enum admission_verdict {
    ADMISSION_GRANTED,
    ADMISSION_FULL, /* the limit in total, or no memory to count it */
    ADMISSION_LISTENER_FULL,
    ADMISSION_ADDRESS_FULL, /* too many from this client */
};

struct admission_client;
struct guard;
struct rate_table;

/* What a granted connection holds until admission_leave. Plain data: it travels with the connection. */
struct admission_ticket {
    struct admission_client *client;
    uint16_t listener;
    uint16_t shard; /* where the connection is to be served */
};

struct admission;

/* For shards 0..shards-1, listeners 0..listeners-1. NULL without memory. Thread-safe from then on. */
struct admission *admission_new(unsigned shards, unsigned listeners, uint32_t connections_max);
/* Nobody uses it any more. Tickets that were not returned (of connections in the mail at the end) are forgotten. */
void admission_delete(struct admission *admission);

/* A lower limit refuses new connections; it closes none. */
/* Lends the table of rates and the memory guard to everybody who has the admission; either may be NULL. Before shards
 * use it. */
void admission_lend(struct admission *admission, struct rate_table *rates, struct guard *guard);
struct rate_table *admission_rates(const struct admission *admission);
struct guard *admission_guard(const struct admission *admission);

void admission_set_max(struct admission *admission, uint32_t connections_max);

struct admission_request {
    const struct peer *peer;
    unsigned listener;
    unsigned shard; /* that accepted it */
    uint32_t listener_connections_max;
    uint32_t address_connections_max; /* per listener; IPv4 addresses by /32, IPv6 by /64 */
};

/* Sets *ret_ticket when granted. */
enum admission_verdict admission_enter(struct admission *admission, const struct admission_request *request,
                                       struct admission_ticket *ret_ticket);
void admission_leave(struct admission *admission, const struct admission_ticket *ticket);

/* The connection turns out to be another client's (a proxy told): from now on it counts as his. Only ADMISSION_FULL and
 * ADMISSION_ADDRESS_FULL refuse; the ticket then stays as it was. */
enum admission_verdict admission_move(struct admission *admission, const struct peer *peer,
                                      uint32_t address_connections_max, struct admission_ticket *ticket);

/* How many are open now. */
uint32_t admission_connections(struct admission *admission);

#endif
