/* A listener's settings in the form that sessions use: immutable, shared by all sessions that began under them,
 * gone with the last one. So a reload never changes a rule in the middle of a session. One shard's only: the count
 * needs no atomics. */
#ifndef INBOUND_PROFILE_H
#define INBOUND_PROFILE_H

#include "inbound/inbound.h"
#include "smtp/server.h"

struct profile {
    unsigned references;
    enum inbound_durability durability;
    enum inbound_role role;
    enum inbound_tls tls;
    struct tls_context *tls_context; /* NULL: none */
    unsigned mechanisms_clear;       /* MECHANISM_BITs */
    unsigned mechanisms_secure;
    bool behind_proxy;
    uint8_t proxy_version;
    unsigned connections_max;
    unsigned connections_per_address_max;
    struct inbound_timeouts timeouts;
    struct inbound_checks checks;
    struct inbound_priorities priorities;
    struct rate_limits rates;
    uint64_t greet_pause_ms;
    uint64_t error_delay_ms;
    unsigned error_delay_after;
    struct smtp_server_config smtp;
    struct bytes name;
    struct bytes greeting; /* the whole reply: it is the same for all */
    struct inbound_networks proxy_networks;
    struct inbound_networks xclient_networks;
    struct inbound_networks xforward_networks;
    struct inbound_networks relay_networks;
    struct config_network *networks; /* all of them */
    struct bytes verifier;           /* path, "": none */
    struct inbound_filter *filters;
    unsigned filters_count;
    char text[]; /* what the spans above point to */
};

/* A copy with one reference; NULL without memory. */
struct profile *profile_new(const struct inbound_listener_settings *settings);
struct profile *profile_take(struct profile *profile);
void profile_give(struct profile *profile);

#endif
