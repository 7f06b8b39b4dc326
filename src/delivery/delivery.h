/* Delivery of one shard: destinations get a route, a route leads to a site, a site has connections, and a connection
 * carries attempts.
 *
 *     destination   one recipient domain with what is queued for it (queue/queue.h)
 *     lane          delivery's state for a destination: its route, its DNS lookup, its site
 *     site          where mail goes: the set of MX hosts, or a configured host:port; shared by lanes
 *     connection    one TCP connection to a host of a site (client_session.c)
 *     attempt       one message to some of its recipients on one connection
 *
 * Limits and failures belong to the site. A lane and its site live on one shard, so no limit needs a lock.
 */
#ifndef DELIVERY_DELIVERY_H
#define DELIVERY_DELIVERY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/map.h"
#include "base/slots.h"
#include "core/maildir_quota.h"
#include "core/shard.h"
#include "delivery/plain_hosts.h"
#include "dns/mx.h"
#include "queue/queue.h"
#include "smtp/client.h"

#define DELIVERY_SITES_MAX (1u << 22)
#define DELIVERY_POLICY_BYTES 64 /* of a route's `policy` */
#define DELIVERY_SITE_KEY_BYTES (MX_SITE_BYTES + DELIVERY_POLICY_BYTES + 24)

#define DELIVERY_LOCALS_MAX 100000
#define DELIVERY_LOCAL_JOBS_MAX 1024
#define DELIVERY_JOURNAL_BUCKETS 64
#define DELIVERY_JOB_LOCAL (1u << 31) /* a borrowed message is maildir.c's, not attempt.c's */

struct maildirs;
struct site;
struct tls_context;

enum delivery_tls {
    DELIVERY_TLS_MAY, /* when it is offered and works; whoever is at the other end */
    DELIVERY_TLS_OFF,
    DELIVERY_TLS_REQUIRE, /* never without; whoever is at the other end */
    DELIVERY_TLS_VERIFY,  /* never without, nor with anybody else than the host */
};

struct delivery_route {
    struct bytes domain; /* "example.com", ".example.com" (subdomains), "*"; lower case */
    struct bytes host; /* by_mx: the domain whose MX to use, empty: the recipient's; else the host to connect to, or */
                       /* "unix:/path" */
    bool by_mx;
    bool lmtp;
    enum delivery_tls tls;
    struct tls_context *tls_context; /* NULL: none; then `tls` is as if OFF */
    const char *tls_name;            /* in the certificate, instead of the host's; "" or NULL: the host's */
    struct bytes policy;             /* tells routes with another handling of TLS apart, the same on every shard */
    uint16_t port;
    unsigned connections_max; /* per site; these three are never 0 */
    unsigned messages_per_connection_max;
    unsigned recipients_max; /* per transaction */
};

/* A domain whose mail is put into Maildirs. */
struct delivery_local {
    struct bytes domain;
    const char *maildir; /* "/var/mail/%d/%u" (delivery/maildir_path.h) */
    char subaddress;     /* '\0': none */
    struct maildir_limits quota;
    bool quota_refuses; /* over it for good (5.2.2), not for now (4.2.2) */
};

struct delivery_source {
    struct sockaddr_storage address;
    socklen_t length; /* 0: the kernel chooses */
};

struct delivery_timeouts {
    uint64_t connect_ms;
    uint64_t idle_ms;
    uint64_t message_ms;    /* to send a whole body, whatever progress it makes */
    uint64_t body_rate_min; /* octets a second: how long a body may take beyond phase_ms[BODY]; 0: message_ms alone */
    uint64_t phase_ms[SMTP_CLIENT_PHASE_COUNT];
};

/* Everything pointed to outlives the delivery objects. Changes only by delivery_reload. */
struct delivery_settings {
    struct bytes hostname;               /* in EHLO and in bounces */
    const struct delivery_route *routes; /* one of them is "*" */
    unsigned route_count;
    const struct delivery_local *locals; /* at most DELIVERY_LOCALS_MAX */
    unsigned local_count;
    unsigned local_jobs_max;  /* messages being written into Maildirs; at most DELIVERY_LOCAL_JOBS_MAX */
    unsigned connections_max; /* of this shard */
    unsigned receive_buffers; /* of this shard's ring */
    struct delivery_timeouts timeouts;
    uint64_t copy_after_ms;   /* that a message has been lent */
    uint64_t copy_memory_max; /* of this shard, in bytes; 0: nothing is copied */
    struct delivery_source source_ipv4;
    struct delivery_source source_ipv6;
    struct mx_settings mx;
    bool bounces;
    uint64_t bounce_quote_bytes_max; /* of the original message */
    struct bytes postmaster_domain;  /* where mail to "Postmaster" without a domain goes; empty: the hostname */
    unsigned first_shard;            /* the shards with the delivery role */
    unsigned shard_count;
};

struct delivery {
    struct shard *shard;
    struct queue *queue;
    struct resolver *resolver;
    const struct delivery_settings *settings;
    struct map routes; /* by domain pattern */
    struct map sites;  /* by key */
    struct plain_hosts plain_hosts;
    struct list dirty_sites; /* to be looked at in this turn's hook */
    struct list dirty_lanes;
    struct list waiting_sites; /* for one connection of any site to end: connections_max is reached */
    struct list idle;          /* connections without work, longest first */
    struct shard_hook hook;
    struct timer again;   /* something is dirty: the loop does not sleep */
    struct timer relieve; /* receive buffers are short: not before, sessions are looked at for who keeps them */
    struct list sessions; /* all connections */
    struct timer stop_timer;
    struct slots attempts; /* struct attempt *, with generations: borrowed messages come back late */
    struct list lent;      /* attempts with a message that is lent, longest first */
    struct timer copy_timer;
    uint64_t copied_bytes;
    unsigned connections;
    struct maildirs *maildirs;
    struct list bounce_waiting; /* outcomes that wait for a journal to be free */
    unsigned bounce_waiting_count;
    struct list failed_journals;                     /* to be tried again, in order */
    struct list unsettled[DELIVERY_JOURNAL_BUCKETS]; /* journals of outcomes that end nothing, by their slot */
    struct list followers[DELIVERY_JOURNAL_BUCKETS]; /* later outcomes of the same recipients, which wait for them */
    struct timer journal_timer;
    unsigned journals; /* being committed */
    bool stopping;
    void (*stopped)(void *context);
    void *stopped_context;
};

/* Fills in what the queue needs from delivery. `context` is the struct delivery. */
void delivery_queue_ops(struct queue_ops *ops, struct delivery *delivery);

/* Two steps, because queue and delivery know each other: _new before queue_new, _start after it. NULL without memory.
 */
struct delivery *delivery_new(struct shard *shard, const struct delivery_settings *settings);
void delivery_start(struct delivery *delivery, struct queue *queue, struct resolver *resolver);

/* New attempts stop, those on the wire may finish until `deadline_ms` (shard time); then connections are closed.
 * `stopped` is called once no connection and no journal is left; what was not delivered stays in the spool. */
void delivery_stop(struct delivery *delivery, uint64_t deadline_ms, void (*stopped)(void *context), void *context);
void delivery_delete(struct delivery *delivery);

/* Something is dirty: the hook must run, though nothing else may happen. */
void delivery_wake(struct delivery *delivery);

/* connections_max is reached: the site is told when it may open one; the connection that has been idle longest ends. */
void delivery_wait_for_connection(struct delivery *delivery, struct site *site);

/* A connection may be free for a site that waits for one. */
void delivery_offer_connection(struct delivery *delivery);

/* A connection or a journal has ended: tells whoever waits for the stop. */
void delivery_progress(struct delivery *delivery);

/* Other settings from now on: routes for new lanes, limits and timeouts for all. */
void delivery_reload(struct delivery *delivery, const struct delivery_settings *settings);

#endif
