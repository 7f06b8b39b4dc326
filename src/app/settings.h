/* Everything an operator can choose, as plain data: read once from the configuration file, checked, never changed
 * after.
 *
 * A reload makes a second one and compares (settings_diff). Units: `_ms` milliseconds, `_bytes` bytes, the rest counts.
 * Strings and lists belong to the settings and live until settings_free. What each key means to an operator, and why
 * its default is what it is, stands in deploy/ringpost.conf; the table of keys is settings_keys.c.
 */
#ifndef APP_SETTINGS_H
#define APP_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "app/settings_listener.h"
#include "base/limits.h"
#include "core/config.h"
#include "core/log.h"
#include "inbound/rate.h"
#include "inbound/recipients.h"

#define SETTINGS_MILTERS_MAX 64
#define SETTINGS_ROUTES_MAX 100000
#define SETTINGS_MAILDIR_BYTES 512
#define SETTINGS_RETRIES_MAX 64 /* steps of the retry schedule */

/* With `inbound` and `delivery` 0 there are `count` shards with both roles; else shards [0, inbound) have listeners,
 * spool and the rest, [inbound, inbound + delivery), only deliver. After loading none of this is "auto". */
struct settings_shards {
    unsigned count; /* the number of shards in all */
    unsigned inbound;
    unsigned delivery;
    bool pin;
};

struct settings_spool {
    const char *path;
    uint64_t segment_bytes;
    unsigned spare_segments_max;    /* emptied segments kept for reuse; more are deleted */
    uint64_t compaction_rate_bytes; /* per second and shard */
};

struct settings_limits {
    unsigned connections_max;       /* inbound, all listeners and shards together */
    uint64_t body_memory_bytes_max; /* per shard: messages being received */
    unsigned receive_buffers;       /* per shard, a power of two */
    unsigned receive_buffer_bytes;
    unsigned ring_entries;          /* per shard, a power of two */
    unsigned queued_recipients_max; /* in all; then 452 */
    unsigned rate_entries;          /* of the table of rates */
    uint64_t memory_reserve_bytes;  /* with less than this available to us, no new mail; 0: not looked at */
};

/* A domain of ours. */
enum settings_over_quota { SETTINGS_OVER_QUOTA_DEFER, SETTINGS_OVER_QUOTA_REFUSE };

struct settings_domain {
    const char *name;       /* lower case */
    const char *mailboxes;  /* a file, or "": whoever it is has a mailbox */
    const char *aliases;    /* a file, or "" */
    const char *subaddress; /* the character between user and detail, or "" */
    const char *deliver;    /* as written */
    uint64_t quota_bytes;   /* of each Maildir; 0: none */
    unsigned quota_messages;
    unsigned over_quota; /* enum settings_over_quota */
    const char *maildir; /* of `deliver`: the path with %d and %u, or "": by the routes */
};

struct settings_milter_timeouts {
    uint64_t connect_ms; /* until it has said what it wants */
    uint64_t command_ms;
    uint64_t content_ms; /* for a sign of life after the end of the message */
};

/* A mail filter, asked by the milter protocol. */
struct settings_milter {
    const char *name;
    const char *socket;      /* as written */
    unsigned default_action; /* enum inbound_filter_failure */
    struct settings_milter_timeouts timeouts;
};

enum settings_next_hop {
    SETTINGS_HOP_MX,   /* the MX hosts of `host`, or of the recipient's domain when `host` is "" */
    SETTINGS_HOP_HOST, /* this host's addresses (a name, or an address literal without brackets) */
    SETTINGS_HOP_LMTP, /* the same by LMTP; or a socket: "unix:/path" */
};

enum settings_route_tls { SETTINGS_ROUTE_MAY, SETTINGS_ROUTE_OFF, SETTINGS_ROUTE_REQUIRE, SETTINGS_ROUTE_VERIFY };

struct settings_route {
    const char *domain;   /* lower case: "example.com" itself, ".example.com" its subdomains, "*" all the rest */
    const char *next_hop; /* as written */
    enum settings_next_hop hop;
    const char *host; /* lower case */
    unsigned port;
    unsigned tls;         /* enum settings_route_tls */
    const char *tls_name; /* "": the host's */
    const char *tls_ca;   /* file; "": the system's */
    /* per destination; 0 in the file: delivery's */
    unsigned connections_max;
    unsigned messages_per_connection_max;
    unsigned recipients_per_transaction_max;
};

struct settings_delivery_timeouts {
    uint64_t connect_ms;
    uint64_t greeting_ms;
    uint64_t ehlo_ms;
    uint64_t tls_ms;  /* the reply to STARTTLS, and then the handshake */
    uint64_t mail_ms; /* RSET too */
    uint64_t rcpt_ms;
    uint64_t data_ms;    /* DATA to 354 */
    uint64_t body_ms;    /* without progress in sending the message */
    uint64_t message_ms; /* all of the message */
    uint64_t dot_ms;     /* final dot to its reply */
    uint64_t quit_ms;
};

struct settings_delivery {
    const char *hostname;     /* in EHLO; never "" after loading */
    unsigned connections_max; /* in all */
    unsigned connections_per_destination_max;
    unsigned messages_per_connection_max;
    unsigned recipients_per_transaction_max;
    unsigned maildir_writes_max; /* in all */
    uint64_t idle_timeout_ms;    /* a warm connection without mail is kept this long */
    uint64_t body_rate_min;      /* octets a second that a host must take; 0: any */
    uint64_t copy_after_ms;      /* of a message on its way: then it is copied, */
    uint64_t copy_memory_max;    /* while the copies in all are no more than this */
    bool prefer_ipv6;
    bool loopback_is_remote;                  /* a host of a domain at 127.0.0.1 is not us */
    struct config_endpoint *source_addresses; /* bound to before connecting: at most one of each family */
    unsigned source_addresses_count;
    struct settings_delivery_timeouts timeouts;
};

/* The wait after the n-th failed attempt is schedule_ms[min(n, schedule_ms_count) - 1], +- jitter. */
struct settings_retry {
    uint64_t *schedule_ms; /* never empty after loading: made of initial, factor and max unless written out */
    unsigned schedule_ms_count;
    uint64_t initial_ms;
    double factor;
    uint64_t max_ms;
    unsigned jitter_percent;
    uint64_t expire_ms;
};

struct settings_bounce {
    bool enabled;
    uint64_t delay_warning_ms; /* 0: never */
    uint64_t quote_bytes_max;  /* of the original message */
};

struct settings_dns {
    struct config_endpoint *servers; /* none: those of /etc/resolv.conf */
    unsigned servers_count;
    uint64_t timeout_ms; /* of one try */
    unsigned tries;
    unsigned cache_entries_max; /* per shard */
};

struct settings_admin {
    struct config_endpoint listen; /* length 0: off */
    const char *socket;            /* "": off */
};

/* Bit of an event in settings_events.types; also the order of the types in include/ringpost/event.h. */
enum settings_event {
    SETTINGS_EVENT_RECEPTION,
    SETTINGS_EVENT_DELIVERY,
    SETTINGS_EVENT_DEFERRAL,
    SETTINGS_EVENT_BOUNCE,
    SETTINGS_EVENT_EXPIRY,
    SETTINGS_EVENT_REJECTION,
    SETTINGS_EVENT_REMOVAL,
    SETTINGS_EVENT_FILTER,
    SETTINGS_EVENTS,
};

struct settings_events {
    const char *path; /* directory; "": no event log */
    uint64_t rotate_bytes;
    unsigned keep_files;        /* rotated ones per shard */
    uint64_t fsync_interval_ms; /* 0: left to the kernel */
    unsigned types;             /* bits: 1 << enum settings_event */
};

struct settings_log {
    unsigned level; /* enum log_level */
};

struct settings {
    const char *path;     /* of the file */
    const char *hostname; /* never "" after loading */
    struct settings_shards shards;
    struct settings_spool spool;
    struct settings_listener *listeners; /* at least one */
    unsigned listeners_count;
    struct settings_tls tls;
    struct settings_auth auth;
    struct settings_limits limits;
    struct settings_route *routes; /* by falling specificity; the last one is always "*" */
    unsigned routes_count;
    struct settings_domain *domains;
    unsigned domains_count;
    struct settings_milter *milters;
    unsigned milters_count;
    struct recipients *recipients; /* who is there: what the domains' files say */
    struct settings_delivery delivery;
    struct settings_retry retry;
    struct settings_bounce bounce;
    struct settings_dns dns;
    struct settings_admin admin;
    struct settings_events events;
    struct settings_log log;
    uint64_t stop_timeout_ms;
    const char *user;      /* whom root becomes; "": stays */
    unsigned sandbox;      /* enum sandbox_mode */
    struct config *config; /* owns all of the above */
};

extern const struct config_key settings_keys[];
extern const struct config_key settings_rates_keys[]; /* of struct rate_limits */

/* Reads and checks a configuration file. On failure NULL, every error having been reported, one line each. */
struct settings *settings_load(const char *path, config_report *report, void *context);
void settings_free(struct settings *settings);

/* What a reload would change. Calls `change` once per key with its path ("listeners[smtp].errors_max", "spool.path"),
 * whether it needs a restart, and both values as the file would write them. Returns how many need a restart: with any,
 * nothing of the new settings may be applied except by the restart. */
typedef void settings_change(void *context, const char *path, bool restart, const char *from, const char *to);
unsigned settings_diff(const struct settings *old, const struct settings *new, settings_change *change, void *context);

/* The effective configuration, in the file's syntax. */
void settings_print(const struct settings *settings, FILE *out);

#endif
