/* The domains of the simulated world and the hosts that take their mail. */
#ifndef SIM_NAMES_H
#define SIM_NAMES_H

#include <stdbool.h>
#include <stdint.h>

enum domain_kind {
    DOMAIN_PLAIN,   /* MX records that lead to hosts that work, mostly */
    DOMAIN_SENDERS, /* where notifications go: its hosts may be slow and broken, but never refuse for good */
    DOMAIN_DIRECT,  /* no MX: the domain's own address */
    DOMAIN_DEAD,    /* nobody ever answers there */
    DOMAIN_NONE,    /* does not exist */
    DOMAIN_NULL,    /* RFC 7505 */
    DOMAIN_FAILS,   /* SERVFAIL for ever */
};

struct domain {
    const char *name;
    enum domain_kind kind;
    uint8_t hosts[3]; /* numbers of hosts; 0: none */
};

#define NAMES_HOST_ADDRESS 0xc6120000u /* 198.18.0.0 and the host's number */

extern const struct domain names_domains[];
extern const unsigned names_domain_count;

/* NULL: no such domain. */
const struct domain *names_find(const char *name, unsigned length);
/* "mx3.hosts.sim" is host 3; 0: no host. */
unsigned names_host(const char *name, unsigned length);
/* Does mail to there fail for good at once? */
bool names_fails(const struct domain *domain);

#endif
