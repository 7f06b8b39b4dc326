/* What an operator can choose about listeners, and about the TLS and AUTH that they share; a part of settings.h. */
#ifndef APP_SETTINGS_LISTENER_H
#define APP_SETTINGS_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "inbound/inbound.h"
#include "inbound/rate.h"

#define SETTINGS_LISTENERS_MAX 64
#define SETTINGS_CERTIFICATES_MAX 1000

enum settings_role { SETTINGS_RELAY, SETTINGS_MX, SETTINGS_SUBMISSION };
enum settings_protocol { SETTINGS_SMTP, SETTINGS_LMTP };
enum settings_durability { SETTINGS_SYNC, SETTINGS_RELAXED };
enum settings_tls_mode { SETTINGS_TLS_AUTO, SETTINGS_TLS_OFF, SETTINGS_TLS_STARTTLS, SETTINGS_TLS_IMPLICIT };
enum settings_client_certificates {
    SETTINGS_CLIENT_CERTIFICATES_OFF,
    SETTINGS_CLIENT_CERTIFICATES_ASK,
    SETTINGS_CLIENT_CERTIFICATES_REQUIRE,
};
enum settings_proxy { SETTINGS_PROXY_OFF, SETTINGS_PROXY_V1, SETTINGS_PROXY_V2 };
enum settings_tls_version { SETTINGS_TLS_1_2, SETTINGS_TLS_1_3 };

/* Bits of settings_listener.extensions and .auth: 1 << one of these. AUTO stands for the defaults of the role and is
 * gone after loading. */
enum settings_extension {
    SETTINGS_EXTENSION_AUTO,
    SETTINGS_PIPELINING,
    SETTINGS_SIZE,
    SETTINGS_8BITMIME,
    SETTINGS_ENHANCEDSTATUSCODES,
    SETTINGS_CHUNKING,
    SETTINGS_BINARYMIME,
    SETTINGS_SMTPUTF8,
    SETTINGS_DSN,
    SETTINGS_EXTENSION_LIMITS,
    SETTINGS_REQUIRETLS,
    SETTINGS_MT_PRIORITY,
    SETTINGS_FUTURERELEASE,
    SETTINGS_DELIVERBY,
    SETTINGS_EXTENSIONS,
};
enum settings_mechanism {
    SETTINGS_MECHANISM_AUTO,
    SETTINGS_PLAIN,
    SETTINGS_LOGIN,
    SETTINGS_SCRAM_SHA_256,
    SETTINGS_SCRAM_SHA_256_PLUS,
    SETTINGS_XOAUTH2,
    SETTINGS_OAUTHBEARER,
    SETTINGS_EXTERNAL,
    SETTINGS_MECHANISMS,
};

enum settings_null_mx { SETTINGS_NULL_MX_AUTO, SETTINGS_NULL_MX_REFUSE, SETTINGS_NULL_MX_ACCEPT };
enum settings_unknown { SETTINGS_UNKNOWN_ACCEPT, SETTINGS_UNKNOWN_REFUSE };

struct settings_certificate {
    const char *certificate;  /* PEM file: the certificate, then its chain */
    const char *key;          /* PEM file; "": in the same file */
    const char *server_names; /* with a space between two; "": all that have no other */
};

struct settings_listener_timeouts {
    uint64_t command_ms;    /* for a whole command line, however it trickles in */
    uint64_t data_block_ms; /* without any byte of a message */
    uint64_t message_ms;    /* from 354 to the final dot */
    uint64_t session_ms;    /* then 421 at the next transaction's begin */
};

/* What becomes of domains of which DNS says something. */
struct settings_listener_dns_checks {
    unsigned null_mx;            /* enum settings_null_mx; AUTO is gone after loading */
    unsigned unknown_senders;    /* enum settings_unknown */
    unsigned unknown_recipients; /* the same */
    uint64_t timeout_ms;         /* then it has said nothing */
};

/* MT-PRIORITY: -9 to 9, and 0 where none is given. */
struct settings_listener_priorities {
    int min;                 /* less is refused */
    int min_busy;            /* and less than this while the queue is nearly full */
    uint64_t low_bytes_max;  /* of messages below 0; 0: as all others */
    uint64_t high_bytes_max; /* of messages above 0, the same */
};

struct settings_listener {
    const char *name;                /* unique; "" in the file: "address:port" */
    struct config_endpoint endpoint; /* of `address` and `port`, or of the unix socket's path */
    const char *address;             /* as written; "unix:/path" */
    unsigned port;
    const char *socket_mode;                   /* of a unix socket, octal */
    const char *socket_owner;                  /* "user", "user:group" or "" */
    unsigned role;                             /* enum settings_role */
    unsigned protocol;                         /* enum settings_protocol */
    unsigned durability;                       /* enum settings_durability */
    const char *hostname;                      /* in greeting, EHLO and Received; never "" after loading */
    const char *banner;                        /* text after the hostname in the greeting */
    unsigned extensions;                       /* bits of enum settings_extension */
    unsigned tls;                              /* enum settings_tls_mode, never AUTO after loading */
    bool tls_required;                         /* 530 to everything before STARTTLS */
    struct settings_certificate *certificates; /* none after loading: it has no TLS */
    unsigned certificates_count;
    unsigned client_certificates;   /* enum settings_client_certificates */
    const char *client_authorities; /* PEM file with those that sign them */
    unsigned auth;                  /* bits of enum settings_mechanism */
    bool auth_without_tls;
    unsigned proxy;                        /* enum settings_proxy: every connection begins with its header */
    struct config_network *proxy_networks; /* those that may connect then */
    unsigned proxy_networks_count;
    struct config_network *xclient_networks;
    unsigned xclient_networks_count;
    struct config_network *xforward_networks;
    unsigned xforward_networks_count;
    uint64_t message_bytes_max;
    unsigned recipients_max;
    unsigned messages_max;        /* transactions of one session; 0: any number */
    unsigned text_line_bytes_max; /* with CRLF */
    unsigned command_bytes_max;   /* with CRLF */
    unsigned received_max;        /* Received headers; more is a loop */
    unsigned errors_max;          /* in one session, then 421 */
    unsigned connections_max;
    unsigned connections_per_address_max;
    uint64_t hold_max_ms;                  /* FUTURERELEASE */
    struct config_network *relay_networks; /* clients that may send to anywhere */
    unsigned relay_networks_count;
    struct settings_listener_timeouts timeouts;
    struct settings_listener_dns_checks dns_checks;
    struct settings_listener_priorities priorities;
    struct rate_limits rates;
    uint64_t greet_pause_ms; /* a client that speaks before the greeting is refused */
    uint64_t error_delay_ms; /* of each reply that refuses, from error_delay_after on */
    unsigned error_delay_after;
    const char *milters;            /* names, a space between two, in the order in which they are asked */
    struct inbound_filter *filters; /* the same, after loading */
    unsigned filters_count;
};

/* Shared by all listeners. */
struct settings_tls {
    struct settings_certificate *certificates; /* of listeners that have none of their own */
    unsigned certificates_count;
    unsigned sessions_max; /* TLS sessions, all listeners together */
    uint64_t handshake_timeout_ms;
    uint64_t ticket_rotation_ms;
    unsigned min_version; /* enum settings_tls_version */
};

/* Whoever guesses passwords waits: sasl/lockout. */
struct settings_lockout {
    unsigned account_failures; /* then the account is locked, except where it logged in before */
    unsigned address_failures; /* IPv4 address or IPv6 /64 */
    uint64_t time_ms;          /* of the first lock; doubles each time, up to: */
    uint64_t time_max_ms;
    uint64_t forget_ms; /* without a failure, then all is forgotten */
    uint64_t delay_ms;  /* of the first refusal; doubles each time, up to: */
    uint64_t delay_max_ms;
    unsigned entries; /* accounts, addresses and pairs remembered, each */
};

struct settings_auth {
    const char *passwords; /* file; "": none */
    const char *verifier;  /* unix socket that is asked about OAuth tokens; "": none */
    uint64_t verifier_timeout_ms;
    uint64_t timeout_ms;  /* from AUTH to its end */
    uint64_t remember_ms; /* a right password is known again without hashing; 0: never */
    unsigned workers;     /* threads that hash passwords; 0: "auto" */
    unsigned waiting_max; /* logins that wait for one; then 454 */
    struct settings_lockout lockout;
};

extern const struct config_key settings_listener_keys[];
extern const struct config_key settings_listener_tls_keys[];
extern const struct config_key settings_listener_auth_keys[];

struct settings;

/* Fills in what depends on other keys: the endpoint, the name, what "auto" means for the role. Reports what does not
 * fit. */
void settings_listener_complete(struct settings *settings, unsigned i);
/* Reports every contradiction within the listener. */
void settings_listener_check(const struct settings *settings, unsigned i);

#endif
