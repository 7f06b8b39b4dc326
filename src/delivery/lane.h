/* Delivery's state for a destination: which route, and once it is known, which site. */
#ifndef DELIVERY_LANE_H
#define DELIVERY_LANE_H

#include "delivery/delivery.h"

struct site;

enum lane_state {
    LANE_NEW,       /* to be routed */
    LANE_RESOLVING, /* waits for DNS */
    LANE_ATTACHED,  /* has its site */
    LANE_WAITING,   /* DNS failed: waits for timer */
    LANE_REFUSED,   /* DNS says never: its ready recipients are being failed */
};

struct lane {
    struct list node;  /* in its site's `lanes` while it has ready recipients, else in none */
    struct list dirty; /* in delivery->dirty_lanes */
    struct delivery *delivery;
    struct destination *destination;
    const struct delivery_route *route;
    struct site *site; /* LANE_ATTACHED */
    struct mx_lookup lookup;
    struct timer timer;
    uint64_t expires_ms; /* when the site has to be asked for anew; UINT64_MAX: never */
    unsigned failures;   /* of DNS, in a row */
    enum lane_state state;
};

/* queue_ops.ready, .hurry and .idle */
void lane_ready(void *context, struct destination *destination);
void lane_hurry(void *context, struct destination *destination);
void lane_idle(void *context, struct destination *destination);

/* Looks for its route and site anew: the configuration has changed. */
void lane_reroute(struct lane *lane);

/* Works on a lane that was marked dirty: routes it, fails what DNS refused. */
void lane_run(struct lane *lane);

#endif
