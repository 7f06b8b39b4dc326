/* What mail routing found: one counted, immutable object. Delivery holds it while it walks the addresses, whatever
 * happens to the DNS cache meanwhile. */
#ifndef DNS_MX_RESULT_H
#define DNS_MX_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "dns/mx_address.h"

enum mx_class {
    MX_HOSTS,     /* at least one host with at least one address */
    MX_NULL,      /* the domain says that it takes no mail */
    MX_NO_DOMAIN, /* it does not exist, or is no domain */
    MX_NO_ROUTE,  /* it exists, but no host of it has an address */
    MX_LOOP,      /* we are the best host for it, and no better one is there */
    MX_TEMPORARY, /* not known now: ask again later */
};

struct mx_host {
    struct bytes name; /* lower case, as the MX record has it (for SNI, policy, events); of a literal "[192.0.2.1]",
                        * "[ipv6:2001:db8::1]" */
    uint16_t preference;
    bool authentic;                     /* its addresses were DNSSEC-validated */
    unsigned address_count;             /* 1..MX_HOST_ADDRESSES_MAX */
    const struct mx_address *addresses; /* in the order to try */
};

struct mx_result {
    unsigned references;
    enum mx_class class;
    bool sure;                   /* nobody can have put in other hosts: the MX answer was DNSSEC-validated, or there is
                                    none and the host is the domain itself, not what a CNAME leads to */
    uint64_t expires_ms;         /* shard time until which this holds; a failure: when asking again makes sense */
    struct bytes site;           /* MX_HOSTS: the site key, 1..MX_SITE_BYTES; else empty */
    struct bytes reason;         /* not MX_HOSTS: one line for sender and log: "SERVFAIL for MX of example.org" */
    unsigned host_count;         /* 0 unless MX_HOSTS */
    const struct mx_host *hosts; /* in the order to try: best preference first */
};

/* A copy of everything the draft points to, in one block, with one reference. */
struct mx_result *mx_result_new(const struct mx_result *draft);

/* On one shard's thread. */
struct mx_result *mx_result_retain(struct mx_result *result);
void mx_result_release(struct mx_result *result); /* NULL is harmless */

#endif
