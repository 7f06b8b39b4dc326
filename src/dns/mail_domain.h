/* What a domain's MX records alone say about mail to it, for a host that has to decide while a client waits for its
 * reply. Which hosts take the mail, and whether any can be reached, is dns/mx's business, and costs more questions.
 *
 * These questions can be done without: they take at most half of the resolver's, so that strangers who make us ask
 * about as many names as they like never hold up the mail that is to be delivered. */
#ifndef DNS_MAIL_DOMAIN_H
#define DNS_MAIL_DOMAIN_H

#include "dns/resolver.h"

enum mail_domain_answer {
    MAIL_DOMAIN_OPEN,    /* it has hosts for mail, or may have an implicit one */
    MAIL_DOMAIN_NULL_MX, /* RFC 7505: it takes no mail, and sends none */
    MAIL_DOMAIN_MISSING, /* NXDOMAIN */
    MAIL_DOMAIN_UNKNOWN, /* SERVFAIL, timeout, garbage, too many questions: nothing was said about it */
};

/* One question, embedded in its asker. */
struct mail_domain {
    struct resolver_ask ask;
    struct resolver *resolver;
    uint8_t aliases;
    /* Runs from the loop, never inside mail_domain_ask. When it is entered, the object may be used again or go. */
    void (*done)(struct mail_domain *domain, enum mail_domain_answer answer);
};

void mail_domain_init(struct mail_domain *domain, void (*done)(struct mail_domain *, enum mail_domain_answer));

/* `name`: a domain in ASCII; another is MAIL_DOMAIN_UNKNOWN. True when the answer is known at once: then `done` does
 * not run. */
bool mail_domain_ask(struct mail_domain *domain, struct resolver *resolver, struct bytes name,
                     enum mail_domain_answer *ret_answer);

/* `done` will not run. Harmless when nothing was asked. */
void mail_domain_cancel(struct mail_domain *domain);

#endif
