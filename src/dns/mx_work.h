/* A lookup in progress: the hosts that mx.c found, their addresses, and the verdict. Private to mx.c and mx_work.c. */
#ifndef DNS_MX_WORK_H
#define DNS_MX_WORK_H

#include "dns/mx.h"

enum { MX_WORK_IPV6, MX_WORK_IPV4, MX_WORK_FAMILIES };

/* The addresses of one family of one host. */
struct mx_work_family {
    struct resolver_ask ask;
    struct mx_work_target *target;
    uint8_t aliases; /* CNAMEs followed so far */
    uint8_t count;
    struct mx_address addresses[MX_HOST_ADDRESSES_MAX];
};

struct mx_work_target {
    struct mx_work *work;
    const char *cause; /* an address question failed for this; NULL: none did */
    uint16_t preference;
    bool own;       /* it is ourselves */
    bool missing;   /* NXDOMAIN */
    bool authentic; /* every address answer was validated */
    uint8_t name_length;
    char name[ANSWER_NAME_BYTES];
    struct mx_work_family families[MX_WORK_FAMILIES];
};

struct mx_work {
    struct mx_lookup *lookup;
    struct resolver *resolver;
    const struct mx_settings *settings;
    struct resolver_ask ask; /* the MX question */
    uint8_t aliases;
    bool named;    /* mx_lookup_host: an administrator's choice */
    bool implicit; /* no MX record */
    bool sure;     /* as in the result */
    uint64_t expires_ms;
    unsigned pending; /* address questions */
    unsigned target_count;
    struct mx_work_target *targets; /* by preference, in the order to try */
    size_t site_length;
    char site[MX_SITE_BYTES];
    size_t name_length;
    char name[ANSWER_NAME_BYTES]; /* the domain, lower case */
};

void mx_work_delete(struct mx_work *work);

/* Makes room for `count` targets, 1..MX_HOSTS_MAX. */
void mx_work_targets(struct mx_work *work, unsigned count);
void mx_work_target_set(struct mx_work *work, unsigned index, uint16_t preference, struct bytes name);
/* An address known without asking. */
void mx_work_target_address(struct mx_work *work, unsigned index, const struct mx_address *address);

/* Asks for the addresses of all targets. Without any question left open this ends the lookup. */
void mx_work_addresses(struct mx_work *work);
/* The verdict, from the addresses that are there. */
void mx_work_conclude(struct mx_work *work);

/* Ends the lookup: its result is set, the work is gone. The reason is "cause text", with the domain in place of the '%'
 * in the text; cause may be NULL. */
void mx_work_fail(struct mx_work *work, enum mx_class class, const char *cause, const char *text);

/* An answer may end in the middle of a CNAME chain: asks on, at most ANSWER_ALIASES_MAX aliases far, until one does
 * not. `answer` is what resolver_ask or its `done` gave; NULL when `ask` waits. */
const struct answer *mx_work_follow(struct mx_work *work, struct resolver_ask *ask, const struct answer *answer,
                                    enum answer_type type, uint8_t *aliases);

void mx_work_limit_expiry(struct mx_work *work, uint64_t expires_ms);

#endif
