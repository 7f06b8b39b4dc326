/* Mail routing by DNS: which hosts take mail for a domain, in which order (RFC 5321 5.1, 7505, 2181 10.3).
 *
 *   NXDOMAIN                        MX_NO_DOMAIN   permanent 5.1.2
 *   SERVFAIL, timeout, garbage      MX_TEMPORARY   4.4.3
 *   no MX record                    the domain itself is the one host, preference 0 ("implicit MX")
 *   only "."                        MX_NULL        permanent 5.1.10
 *   MX, none with an address        MX_NO_ROUTE    permanent 5.4.4; MX_TEMPORARY if an address lookup failed. No implicit MX
 *   we are one of the hosts         that preference and all worse ones are dropped; none left: MX_LOOP, permanent 5.4.6
 *   equal preferences               shuffled anew by every lookup
 *
 * The result is one counted, immutable object: delivery holds it while it walks the addresses, whatever happens to
 * the cache meanwhile. It says until when it may be used; there is no second cache here, because a lookup whose DNS
 * answers are all cached costs a few microseconds and gives each caller its own shuffle.
 */
#ifndef DNS_MX_H
#define DNS_MX_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "dns/answer.h"
#include "dns/resolver.h"

#define MX_HOSTS_MAX 32 /* the best ones of a longer list */
#define MX_HOST_ADDRESSES_MAX 16
#define MX_SITE_BYTES 255
#define MX_REASON_BYTES 192
#define MX_ADDRESS_TEXT_BYTES 46 /* an address as text, with NUL */

enum mx_class {
    MX_HOSTS,     /* at least one host with at least one address */
    MX_NULL,      /* the domain says that it takes no mail */
    MX_NO_DOMAIN, /* it does not exist, or the literal is none */
    MX_NO_ROUTE,  /* it exists, but no host of it has an address */
    MX_LOOP,      /* we are the best host for it, and no better one is there */
    MX_TEMPORARY, /* not known now: ask again later */
};

struct mx_address {
    sa_family_t family; /* AF_INET, AF_INET6 */
    uint8_t bytes[16];  /* 4 or 16 used, the others 0 */
};

struct mx_host {
    struct bytes
        name; /* lower case, as the MX record has it (for SNI, policy and events); of a literal "[192.0.2.1]" */
    uint16_t preference;
    bool authentic;                     /* its addresses were DNSSEC-validated */
    uint8_t address_count;              /* 1..MX_HOST_ADDRESSES_MAX */
    const struct mx_address *addresses; /* in the order to try */
};

struct mx_result {
    unsigned references;
    enum mx_class class;
    bool implicit;       /* no MX record: the domain's own addresses */
    bool authentic;      /* the MX answer was DNSSEC-validated */
    uint64_t expires_ms; /* shard time until which this holds; of MX_TEMPORARY: when asking again makes sense */
    struct bytes site;   /* MX_HOSTS: the site key, 1..MX_SITE_BYTES; else empty */
    struct bytes reason; /* not MX_HOSTS: one line for the sender and the log, e.g. "SERVFAIL for MX of example.org" */
    unsigned host_count; /* 0 unless MX_HOSTS */
    const struct mx_host *hosts; /* in the order to try: best preference first */
};

/* Results are made with one reference, the lookup's. All on one shard's thread. */
struct mx_result *mx_result_retain(struct mx_result *result);
void mx_result_release(struct mx_result *result); /* NULL is harmless */

bool mx_permanent(enum mx_class class);            /* MX_NULL, MX_NO_DOMAIN, MX_NO_ROUTE, MX_LOOP */
const char *mx_class_name(enum mx_class class);    /* "null-mx", for events and metrics */
const char *mx_enhanced_code(enum mx_class class); /* "5.1.10"; of MX_HOSTS "2.0.0" */
unsigned mx_reply_code(enum mx_class class); /* 556, 550 or 451, to speak as if a host had said it; of MX_HOSTS 250 */

enum mx_family {
    MX_IPV6_FIRST, /* IPv6 and IPv4 take turns, IPv6 begins */
    MX_IPV4_FIRST,
    MX_IPV6_ONLY, /* A is not even asked for */
    MX_IPV4_ONLY,
};

/* Who we are and how we connect: one object for all lookups of a shard, owned by the caller, alive as long as lookups are. */
struct mx_settings {
    enum mx_family family;
    bool
        loopback_is_remote; /* false: an MX at 127/8, ::1, 0.0.0.0 or :: is ourselves. True only to test on one machine */
    const struct bytes *own_names; /* the names we are known by */
    unsigned own_name_count;
    const struct mx_address *own_addresses; /* the addresses that others reach us at */
    unsigned own_address_count;
};

struct mx_lookup {
    /* Runs from the loop, never inside mx_lookup_*. `result` is set. May release the lookup and start it again. */
    void (*done)(struct mx_lookup *lookup);
    struct mx_result *result; /* NULL while it runs */
    struct mx_work *work;     /* the lookup in progress, or NULL */
};

void mx_lookup_init(struct mx_lookup *lookup, void (*done)(struct mx_lookup *lookup));

/* Routes mail for `domain`: a name, or an address literal "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321 4.1.3).
 * True when everything was cached: `result` is set and `done` will not run. Else false and `done` runs later. */
bool mx_lookup_start(struct resolver *resolver, const struct mx_settings *settings, struct mx_lookup *lookup,
                     struct bytes domain);

/* The addresses of one host that an administrator named: a name, "localhost", an address literal or a bare address. No MX
 * is asked for, and we are not taken out of it: mail to a content filter on this machine is no loop. Site = the host. */
bool mx_lookup_host(struct resolver *resolver, const struct mx_settings *settings, struct mx_lookup *lookup,
                    struct bytes host);

/* Stops a running lookup (`done` will not run) and lets go of a finished one's result. Harmless otherwise. */
void mx_lookup_release(struct mx_lookup *lookup);

/* "192.0.2.1" or "2001:db8::1", without brackets or zone; false when it is neither. */
bool mx_address_parse(struct bytes text, struct mx_address *ret_address);
/* Writes the text with NUL and returns `out`. */
const char *mx_address_text(const struct mx_address *address, char out[MX_ADDRESS_TEXT_BYTES]);
/* Fills in a socket address; returns its length. */
socklen_t mx_address_socket(const struct mx_address *address, uint16_t port, struct sockaddr_storage *ret_socket);
bool mx_address_equal(const struct mx_address *a, const struct mx_address *b);

#endif
