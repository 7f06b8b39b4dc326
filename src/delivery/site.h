/* Where mail goes: a set of hosts that take it for one or many domains, the connections to them, and the limits that
 * hold for all of them together. */
#ifndef DELIVERY_SITE_H
#define DELIVERY_SITE_H

#include "delivery/delivery.h"

struct client_session;
struct lane;
struct outcome_cause;

#define SITE_ERROR_BYTES 256

struct site {
    struct list dirty;   /* in delivery->dirty_sites */
    struct list waiting; /* in delivery->waiting_sites: too many connections are open, of all sites together */
    struct delivery *delivery;
    const struct delivery_route *route;
    struct mx_lookup lookup; /* of a configured host */
    bool resolving;
    uint64_t lookup_after_ms; /* the host could not be found: not asked for before */
    struct mx_result *hosts;  /* retained; NULL: not known yet */
    struct list lanes;        /* those with ready recipients; each gets one message in turn */
    struct list idle;         /* connections that wait for work */
    unsigned references;      /* lanes attached */
    unsigned connections;
    unsigned connecting;         /* of these, not ready yet */
    unsigned ready;              /* of these, past EHLO */
    unsigned failures;           /* in a row, of connections that came to nothing */
    uint64_t suspended_until_ms; /* no attempts before */
    uint64_t no_more_until_ms;   /* no further connections before: the host refused one while it served others */
    struct timer timer;          /* ends a suspension */
    char error[SITE_ERROR_BYTES];
    uint16_t key_length;
    char key[];
};

/* The site of that key, made when there is none. NULL at DELIVERY_SITES_MAX. */
struct site *site_get(struct delivery *delivery, struct bytes key, const struct delivery_route *route);

/* One lane or connection less; the last one frees it. */
void site_release(struct site *site);

/* The hosts to use from now on. */
void site_set_hosts(struct site *site, struct mx_result *hosts);

/* A lane has ready recipients. */
void site_add_lane(struct site *site, struct lane *lane);

/* To be looked at in this turn. */
void site_mark(struct site *site);

/* Gives work to idle connections and opens new ones, as limits allow. */
void site_run(struct site *site);

/* A connection is up and past EHLO. */
void site_connected(struct site *site);

/* All addresses of all hosts have been tried: suspends the site, and defers (or fails, when the cause is permanent) one
 * message with that cause; unless other connections work, then there are just not more of them for a while. */
void site_failed(struct site *site, const struct outcome_cause *cause);

/* A connection ended before it was of any use, though it got past EHLO: no more of them for a while. False when other
 * connections work, or the site is suspended already. */
bool site_suspend(struct site *site, const struct outcome_cause *cause);

/* The n-th pause in a row: 5 s, doubling, to at most 5 min and never longer than the retry schedule's n-th wait. */
uint64_t site_pause_ms(const struct delivery *delivery, unsigned failures);

#endif
