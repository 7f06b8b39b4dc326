/* Receiving mail: the per-shard object of this layer, and its settings as plain data.
 *
 *   listener -> admission -> server_session -> smtp/server (pure)
 *                                 |-> policy      may this client send to there?
 *                                 '-> reception   envelope and body on their way into the spool
 *
 * Everything runs on the shard's own thread, but for `struct admission`, which all shards share.
 */
#ifndef INBOUND_INBOUND_H
#define INBOUND_INBOUND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "core/config.h"
#include "core/maildir_quota.h"
#include "core/shard.h"
#include "inbound/admission.h"
#include "inbound/block_pool.h"
#include "inbound/body.h"
#include "inbound/rate.h"
#include "mail/address.h"

struct accounts;
struct recipients;
struct tls_context;

#define INBOUND_REPLY_BLOCK_BYTES 4096
#define INBOUND_REPLY_SMALL_BYTES 256   /* replies that fit do not hold a whole block while they are sent */
#define INBOUND_OUTPUT_BLOCKED_MS 60000 /* a client that does not read its replies for so long is cut off */
#define INBOUND_OUTPUT_GRACE_MS 1000    /* and sooner than that when receive buffers are short */
#define INBOUND_LINGER_MS 2000          /* after our last reply we wait so long for the client to close */
#define INBOUND_LINGER_BYTES (256u * 1024)
#define INBOUND_STOP_GRACE_MS 1000 /* for the 421s to leave after the deadline of a stop */

enum inbound_durability { INBOUND_SYNC, INBOUND_RELAXED };

/* Whose mail a listener takes. */
enum inbound_role {
    INBOUND_RELAY,      /* to anywhere from relay_networks; to own domains from everybody */
    INBOUND_MX,         /* to own domains from everybody */
    INBOUND_SUBMISSION, /* to anywhere from those who have authenticated, as themselves */
};

enum inbound_tls { INBOUND_TLS_OFF, INBOUND_TLS_STARTTLS, INBOUND_TLS_IMPLICIT };

struct inbound_networks {
    const struct config_network *items;
    unsigned count;
};

struct inbound_timeouts {
    uint64_t handshake_ms;  /* of TLS, and as long for a PROXY header */
    uint64_t auth_ms;       /* from AUTH to its end */
    uint64_t verifier_ms;   /* for its answer about a token */
    uint64_t command_ms;    /* for a whole command line, however it trickles in */
    uint64_t data_block_ms; /* without any byte of a message */
    uint64_t message_ms;    /* from 354 to the final dot; from MAIL to DATA */
    uint64_t session_ms;    /* then 421 between transactions */
    uint64_t lookup_ms;     /* for what DNS says about a domain; then it is as if it had said nothing */
};

/* What DNS is asked about the domains of MAIL and RCPT that are not ours: what is refused for it. */
struct inbound_checks {
    bool null_mx;            /* RFC 7505: 550 5.7.27 at MAIL, 556 5.1.10 at RCPT */
    bool unknown_senders;    /* 550 5.1.8 */
    bool unknown_recipients; /* 550 5.1.2 */
};

/* RFC 6710: which priorities are taken, -9 to 9, and how large such messages may be. */
struct inbound_priorities {
    int min;                 /* 550 5.7.15 below */
    int min_busy;            /* 450 4.7.15 below, while the queue is nearly full */
    uint64_t low_bytes_max;  /* below 0: 552 5.7.16 above; 0: no limit of its own */
    uint64_t high_bytes_max; /* above 0, the same */
};

/* How mail to a domain goes out from here. */
struct inbound_route {
    struct bytes mx_of; /* the domain whose MX records say whether it can go anywhere; "": a configured host says so */
    bool general;       /* the route of all domains that have no other */
};

#define INBOUND_FILTERS_MAX 8 /* of one listener */
#define INBOUND_FILTER_NAME_BYTES 64

/* When a filter cannot be asked. */
enum inbound_filter_failure { INBOUND_FILTER_TEMPFAIL, INBOUND_FILTER_ACCEPT, INBOUND_FILTER_REJECT };

/* A mail filter, asked by the milter protocol. */
struct inbound_filter {
    char name[INBOUND_FILTER_NAME_BYTES];
    struct config_endpoint endpoint;
    enum inbound_filter_failure failure;
    uint64_t connect_ms; /* until it has answered with its options */
    uint64_t command_ms; /* for the answer to one step */
    uint64_t content_ms; /* for a sign of life after the end of the message */
};

struct inbound_listener_settings {
    const char *name;
    struct config_endpoint endpoint;
    enum inbound_durability durability;
    const char *hostname; /* in greeting, EHLO and Received */
    const char *banner;   /* text after the hostname in the greeting */
    uint64_t message_bytes_max;
    unsigned recipients_max;
    unsigned text_line_bytes_max; /* with CRLF */
    unsigned command_bytes_max;   /* with CRLF */
    unsigned received_max;
    unsigned errors_max;
    unsigned connections_max;
    unsigned connections_per_address_max;
    enum inbound_role role;
    bool lmtp;
    const char *socket_mode;  /* of a unix socket, octal */
    const char *socket_owner; /* "user", "user:group" or "" */
    uint32_t extensions; /* SMTP_SERVER_..., without STARTTLS, AUTH, XCLIENT, XFORWARD: those follow from the rest */
    unsigned mail_max;   /* transactions of a session, 0: any number */
    uint32_t hold_s_max;
    enum inbound_tls tls;
    struct tls_context *tls_context; /* a reference is taken */
    bool tls_required;
    unsigned mechanisms; /* MECHANISM_BITs, for sessions inside TLS and, with auth_in_clear, for all */
    bool auth_in_clear;
    const char *verifier; /* unix socket that knows OAuth tokens, or "" */
    unsigned proxy;       /* version of the PROXY header that every connection begins with; 0: none */
    struct inbound_networks proxy_networks;
    struct inbound_networks xclient_networks;
    struct inbound_networks xforward_networks;
    struct inbound_networks relay_networks;
    struct inbound_timeouts timeouts;
    struct inbound_checks checks;
    struct inbound_priorities priorities;
    struct rate_limits rates;
    uint64_t greet_pause_ms;              /* before the greeting; who speaks meanwhile is refused */
    uint64_t error_delay_ms;              /* before each refusal, */
    unsigned error_delay_after;           /* from so many errors of a session on */
    const struct inbound_filter *filters; /* in this order; copied */
    unsigned filters_count;
};

/* Where mail for a mailbox of ours is put. */
struct inbound_mailbox {
    struct maildir_limits quota;
    bool refuses; /* over the quota for good: 552, not 452 */
    char directory[MAILDIR_QUOTA_PATH_BYTES];
};

struct inbound_settings {
    const struct inbound_listener_settings *listeners; /* at least one, at most ADMISSION_LISTENERS_MAX */
    unsigned listeners_count;
    uint64_t body_memory_bytes_max;      /* of this shard */
    unsigned receive_buffers;            /* of this shard's ring */
    const struct recipients *recipients; /* own domains, mailboxes and aliases; NULL: none. Not copied */
    struct accounts *accounts;           /* NULL: nobody can authenticate. Not copied */
    /* The way of a domain in lower case; its text is good until the shard's next turn. NULL: by the domain's own MX. */
    struct inbound_route (*route)(const struct shard *shard, struct bytes domain);
    /* True, and the mailbox, when that address of ours has one with a quota. NULL: none has. */
    bool (*mailbox)(const struct shard *shard, const struct address *address, struct inbound_mailbox *ret_mailbox);
};

struct listener;

struct inbound {
    struct shard *shard;
    struct admission *admission;
    struct listener *listeners;
    unsigned listeners_count;
    struct body_pool bodies;
    struct block_pool small_replies; /* INBOUND_REPLY_SMALL_BYTES each */
    struct block_pool replies;       /* INBOUND_REPLY_BLOCK_BYTES each */
    struct block_pool receptions;
    struct list sessions;
    unsigned session_count;
    unsigned reception_count;  /* with those whose session is gone */
    unsigned question_count;   /* to the verifier, to filters and about quotas, likewise */
    uint64_t filter_warned_ms; /* when a failing filter was last said in the log */
    struct list inquiries;     /* to DNS, of sessions that wait for them */
    struct list unsent;        /* sessions with a send in flight, the longest waiting one first */
    struct timer unsent_timer;
    uint64_t relieve_after_ms; /* not before, all sessions are looked at for what keeps receive buffers */
    unsigned receive_buffers;
    const struct recipients *recipients; /* as of the last reload; NULL: no own domains */
    struct accounts *accounts;
    struct inbound_route (*route)(const struct shard *shard, struct bytes domain);
    bool (*mailbox)(const struct shard *shard, const struct address *address, struct inbound_mailbox *ret_mailbox);
    struct shard_hook hook;
    bool stopping;
    bool overdue; /* the stop's deadline has passed */
    bool stopped;
    struct timer stop_timer;
    void (*stop_done)(struct inbound *inbound);
};

/* Opens the listeners of this shard and sets shard->inbound. shard->spool must be set, shard->queue before the first
 * message. Copies the settings. 0, or -errno with a one-line reason that names the listener. */
int inbound_new(struct shard *shard, struct admission *admission, const struct inbound_settings *settings,
                struct inbound **ret_inbound, char *reason, size_t reason_size);

/* New settings for connections that are accepted from now on; those that are open keep theirs, but ask the new table of
 * recipients: nothing looks at the old one when this returns. Listeners are matched by name; listeners that came, went
 * or moved to another address need a restart and are left as they are here. False without memory: some listeners may
 * have the new settings then. */
bool inbound_reload(struct inbound *inbound, const struct inbound_settings *settings);

/* Closes the listeners and says 421 to every session that is between transactions; the others may finish theirs within
 * `deadline_ms`. A message whose commit has begun always gets its answer. Calls `done` once when nothing is left, never
 * from inside this function. */
void inbound_stop(struct inbound *inbound, uint64_t deadline_ms, void (*done)(struct inbound *inbound));

/* Only after `done`. */
void inbound_delete(struct inbound *inbound);

/* For this layer: something was closed; is that the end of a stop? */
void inbound_settle(struct inbound *inbound);

/* For this layer: receive buffers are so short that nobody should keep one who does not have to. */
bool inbound_short_of_buffers(const struct inbound *inbound);

#endif
