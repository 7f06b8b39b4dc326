/* Rates: how much a client may do per time, counted over all shards, for its address, its network, its account and the
 * listener. One fixed table holds all of it, so that memory does not depend on how many addresses a stranger has. */
#ifndef INBOUND_RATE_H
#define INBOUND_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "core/metric.h"
#include "inbound/peer.h"

#define RATE_ENTRIES_MIN 1024
#define RATE_ENTRIES_DEFAULT 262144 /* 16 bytes each */
#define RATE_ENTRIES_MAX (1u << 26)

enum rate_scope {
    RATE_ADDRESS, /* IPv4 /32, IPv6 /128 */
    RATE_NETWORK, /* IPv4 /24, IPv6 /64: what one customer of a provider usually has */
    RATE_ACCOUNT, /* of AUTH; not looked at without one */
    RATE_LISTENER,
    RATE_SCOPES,
};

enum rate_kind { RATE_CONNECTIONS, RATE_MESSAGES, RATE_RECIPIENTS, RATE_BYTES, RATE_ERRORS, RATE_KINDS };

/* `count` in a period, all of them at once if need be: a full bucket. 0: no limit. */
struct rate_limits {
    struct config_rate of[RATE_SCOPES][RATE_KINDS];
};

struct rate_subject {
    const struct peer *peer; /* NULL: no address, as on a unix socket */
    struct bytes account;    /* "" before AUTH */
    unsigned listener;
    struct metric_set *metrics; /* of the calling shard */
};

struct rate_refusal {
    enum rate_scope scope;
    uint32_t wait_s; /* until it would be granted; at least 1 */
};

struct rate_table;

/* Room for at least `entries` busy clients. NULL without memory. Thread-safe from then on. */
struct rate_table *rate_table_new(uint32_t entries);
void rate_table_delete(struct rate_table *table);

/* Takes `units` from the buckets of all scopes, or from none of them and says which one refused. */
bool rate_take(struct rate_table *table, const struct rate_limits *limits, enum rate_kind kind,
               const struct rate_subject *subject, uint64_t units, struct rate_refusal *ret_refusal);

/* Takes what was used already, though it may be more than there is: the debt has to be waited for. */
void rate_charge(struct rate_table *table, const struct rate_limits *limits, enum rate_kind kind,
                 const struct rate_subject *subject, uint64_t units);

/* Only looks: is there anything left? */
bool rate_left(struct rate_table *table, const struct rate_limits *limits, enum rate_kind kind,
               const struct rate_subject *subject, struct rate_refusal *ret_refusal);

/* "address", "network", "account", "listener"; "connections", ... */
const char *rate_scope_name(enum rate_scope scope);
const char *rate_kind_name(enum rate_kind kind);

#endif
