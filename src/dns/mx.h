/* Mail routing by DNS: which hosts take mail for a domain, in which order (RFC 5321 5.1, 7505, 2181 10.3).
 *
 *   NXDOMAIN                        MX_NO_DOMAIN   permanent 5.1.2
 *   SERVFAIL, timeout, garbage      MX_TEMPORARY   4.4.3
 *   no MX record                    the domain itself is the one host, preference 0 ("implicit MX")
 *   only "."                        MX_NULL        permanent 5.1.10
 *   MX, none with an address        MX_NO_ROUTE    permanent 5.4.4; MX_TEMPORARY if an address lookup failed. No
 * implicit MX we are one of the hosts         that preference and all worse ones are dropped; none left: MX_LOOP,
 * permanent 5.4.6 equal preferences               shuffled anew by every lookup
 *
 * A result says until when it may be used. There is no second cache for results: a lookup whose DNS answers are all
 * cached costs a few microseconds, and gives each caller its own shuffle.
 */
#ifndef DNS_MX_H
#define DNS_MX_H

#include <stdbool.h>

#include "base/bytes.h"
#include "dns/mx_address.h"
#include "dns/mx_result.h"
#include "dns/mx_site.h"
#include "dns/resolver.h"

#define MX_HOSTS_MAX 32 /* the best ones of a longer list */
#define MX_HOST_ADDRESSES_MAX 16
#define MX_REASON_BYTES 384

bool mx_permanent(enum mx_class class);            /* MX_NULL, MX_NO_DOMAIN, MX_NO_ROUTE, MX_LOOP */
const char *mx_class_name(enum mx_class class);    /* "null-mx", for events and metrics */
const char *mx_enhanced_code(enum mx_class class); /* "5.1.10"; of MX_HOSTS "2.0.0" */
unsigned mx_reply_code(enum mx_class class);       /* 556, 550, 554 or 451, as if a host had said it; of MX_HOSTS 250 */

enum mx_family {
    MX_IPV6_FIRST, /* IPv6 and IPv4 take turns, IPv6 begins */
    MX_IPV4_FIRST,
    MX_IPV6_ONLY, /* A is not even asked for */
    MX_IPV4_ONLY,
};

/* Who we are and how we connect: one object for all lookups of a shard, owned by the caller, alive as long as lookups
 * are. */
struct mx_settings {
    enum mx_family family;
    bool loopback_is_remote; /* false: an MX at 127/8, ::1, 0.0.0.0 or :: is ourselves. True to test on one machine */
    const struct bytes *own_names; /* the names we are known by */
    unsigned own_name_count;
    const struct mx_address *own_addresses; /* the addresses that others reach us at */
    unsigned own_address_count;
};

struct mx_lookup {
    /* Runs from the loop, never inside mx_lookup_*; `result` is set. May release the lookup and start it again. */
    void (*done)(struct mx_lookup *lookup);
    struct mx_result *result; /* the lookup's reference; NULL while it runs. To keep it longer: mx_result_retain */
    struct mx_work *work;     /* the lookup in progress, or NULL */
};

void mx_lookup_init(struct mx_lookup *lookup, void (*done)(struct mx_lookup *lookup));

/* Routes mail for `domain`: a name, or an address literal "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321 4.1.3).
 * True when everything was cached: `result` is set and `done` will not run. Else false, and `done` runs later. */
bool mx_lookup_start(struct mx_lookup *lookup, struct resolver *resolver, const struct mx_settings *settings,
                     struct bytes domain);

/* The addresses of one host that an administrator named: a name, "localhost", an address with or without brackets. No
 * MX is asked for, and we are not taken out: mail to a content filter on this machine is no loop. Every failure is
 * MX_TEMPORARY: a typo in a configuration must not bounce the queue. Site = the host. */
bool mx_lookup_host(struct mx_lookup *lookup, struct resolver *resolver, const struct mx_settings *settings,
                    struct bytes host);

/* Stops a running lookup (`done` will not run) and lets go of a finished one's result. Harmless otherwise. */
void mx_lookup_release(struct mx_lookup *lookup);

#endif
