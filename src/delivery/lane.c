/* From a destination to its site.
 *
 * A configured host needs no DNS here (its site resolves it). By MX, the lane asks for the domain's hosts; the answer
 * names a site, and the site may belong to another shard: then the recipients move there, and are not moved again
 * (destination->adopted), whatever that shard's DNS says, so that a zone in motion cannot make mail circle.
 */
#include "delivery/lane.h"

#include <stdlib.h>

#include "delivery/outcome.h"
#include "delivery/route.h"
#include "delivery/site.h"
#include "queue/enqueue.h"
#include "queue/retry.h"
#include "queue/schedule.h"

#define LANE_TURN 256 /* recipients moved or failed in one turn of the loop */

static void lane_mark(struct lane *lane)
{
    if (list_empty(&lane->dirty)) {
        list_push_back(&lane->delivery->dirty_lanes, &lane->dirty);
        delivery_wake(lane->delivery);
    }
}

static void lane_attach(struct lane *lane, struct site *site, uint64_t expires_ms)
{
    lane->site = site;
    lane->state = LANE_ATTACHED;
    lane->expires_ms = expires_ms;
    lane->failures = 0;
    site->route = lane->route; /* the newest, after a reload */
    site->references++;
    site_add_lane(site, lane);
}

static void lane_detach(struct lane *lane)
{
    list_remove(&lane->node);
    if (lane->site != NULL) {
        struct site *site = lane->site;
        lane->site = NULL;
        site_release(site);
    }
    lane->state = LANE_NEW;
}

/* DNS failed for now: one message is deferred with the reason, the others wait until it is worth asking again. */
static void lane_wait(struct lane *lane, const struct mx_result *result)
{
    struct delivery *delivery = lane->delivery;
    lane->failures++;
    lane->state = LANE_WAITING;
    uint64_t wait_ms = site_pause_ms(delivery, lane->failures);
    if (result->expires_ms > delivery->shard->now_ms + wait_ms) {
        wait_ms = result->expires_ms - delivery->shard->now_ms;
    }
    shard_arm(delivery->shard, &lane->timer, wait_ms);
    struct outcome_cause cause = outcome_of_mx(result);
    schedule_unreachable(delivery->queue, lane->destination, cause.text);
    outcome_fail_some(delivery, lane->destination, &cause, 1);
}

/* So many in one turn of the loop; for the others the answer is asked for again, from the cache. */
static void lane_forward(struct lane *lane, unsigned to_shard)
{
    uint32_t entries[LANE_TURN];
    unsigned moved = 0;
    unsigned count;
    while (moved < LANE_TURN &&
           (count = schedule_take(lane->delivery->queue, lane->destination, entries, LANE_TURN - moved)) != 0) {
        for (unsigned i = 0; i < count; i++) {
            enqueue_forward(lane->delivery->queue, entries[i], to_shard);
        }
        moved += count;
    }
    lane->state = LANE_NEW;
    if (lane->destination->ready != 0) {
        lane_mark(lane);
    }
}

static void lane_resolved(struct lane *lane, struct mx_result *result)
{
    struct delivery *delivery = lane->delivery;
    if (result->class == MX_TEMPORARY) {
        lane_wait(lane, result);
        mx_lookup_release(&lane->lookup);
        return;
    }
    if (result->class != MX_HOSTS) {
        lane->state = LANE_REFUSED; /* the lookup keeps the reason */
        lane_mark(lane);
        return;
    }
    char text[DELIVERY_SITE_KEY_BYTES];
    struct bytes key = bytes_of(text, route_site_key(lane->route, result->site, result->sure, text));
    unsigned shard = route_shard_of_key(delivery, key);
    if (shard != delivery->shard->index && !lane->destination->adopted) {
        mx_lookup_release(&lane->lookup);
        lane_forward(lane, shard);
        return;
    }
    struct site *site = site_get(delivery, key, lane->route);
    if (site == NULL) {
        mx_lookup_release(&lane->lookup);
        lane->state = LANE_WAITING;
        shard_arm(delivery->shard, &lane->timer, 1000);
        return;
    }
    site_set_hosts(site, result);
    lane_attach(lane, site, result->expires_ms);
    mx_lookup_release(&lane->lookup);
}

static void lane_lookup_done(struct mx_lookup *lookup)
{
    struct lane *lane = CONTAINER_OF(lookup, struct lane, lookup);
    struct destination *destination = lane->destination;
    CHECK(lane->state == LANE_RESOLVING);
    destination->out++; /* stays, and the lane with it, whatever becomes of its recipients */
    lane_resolved(lane, lookup->result);
    destination->out--;
    schedule_settle(lane->delivery->queue, destination);
}

static void lane_find_site(struct lane *lane)
{
    struct delivery *delivery = lane->delivery;
    struct bytes domain = destination_domain(lane->destination);
    if (domain.length == 0) {
        domain = delivery->settings->postmaster_domain;
    }
    lane->route = route_find(delivery, domain);
    if (lane->route->by_mx) {
        lane->state = LANE_RESOLVING;
        struct bytes name = lane->route->host.length != 0 ? lane->route->host : domain;
        if (mx_lookup_start(&lane->lookup, delivery->resolver, &delivery->settings->mx, name)) {
            lane_resolved(lane, lane->lookup.result);
        }
        return;
    }
    char text[DELIVERY_SITE_KEY_BYTES];
    struct bytes key = bytes_of(text, route_site_key(lane->route, lane->route->host, true, text));
    struct site *site = site_get(delivery, key, lane->route);
    if (site == NULL) {
        lane->state = LANE_WAITING;
        shard_arm(delivery->shard, &lane->timer, 1000);
        return;
    }
    lane_attach(lane, site, UINT64_MAX);
}

static void lane_forget(struct lane *lane)
{
    mx_lookup_release(&lane->lookup);
    lane->state = LANE_NEW;
}

static void lane_refuse(struct lane *lane)
{
    struct outcome_cause cause = outcome_of_mx(lane->lookup.result);
    schedule_error(lane->delivery->queue, lane->destination, cause.text);
    outcome_fail_some(lane->delivery, lane->destination, &cause, LANE_TURN);
    if (lane->destination->ready != 0) {
        lane_mark(lane);
    } else {
        lane_forget(lane);
    }
}

static void lane_timer_fired(struct timer *timer)
{
    struct lane *lane = CONTAINER_OF(timer, struct lane, timer);
    lane->state = LANE_NEW;
    lane_mark(lane);
}

void lane_reroute(struct lane *lane)
{
    wheel_disarm(&lane->delivery->shard->wheel, &lane->timer);
    mx_lookup_release(&lane->lookup);
    lane_detach(lane);
    lane_mark(lane);
}

static void lane_step(struct lane *lane)
{
    if (lane->state == LANE_ATTACHED && lane->expires_ms <= lane->delivery->shard->now_ms) {
        lane_detach(lane);
    }
    switch (lane->state) {
    case LANE_NEW: lane_find_site(lane); break;
    case LANE_REFUSED: lane_refuse(lane); break;
    case LANE_ATTACHED: site_add_lane(lane->site, lane); break;
    case LANE_RESOLVING:
    case LANE_WAITING: break;
    }
}

void lane_run(struct lane *lane)
{
    struct delivery *delivery = lane->delivery;
    struct destination *destination = lane->destination;
    if (delivery->stopping) {
        return;
    }
    destination->out++;
    schedule_expire(delivery->queue, destination);
    if (destination->ready != 0) {
        lane_step(lane);
    } else if (lane->state == LANE_REFUSED) {
        lane_forget(lane); /* those that come later deserve a new answer */
    }
    destination->out--;
    schedule_settle(delivery->queue, destination);
}

void lane_ready(void *context, struct destination *destination)
{
    struct delivery *delivery = context;
    struct lane *lane = destination->delivery;
    if (lane == NULL) {
        lane = calloc(1, sizeof *lane);
        CHECK(lane != NULL);
        list_init(&lane->node);
        list_init(&lane->dirty);
        lane->delivery = delivery;
        lane->destination = destination;
        mx_lookup_init(&lane->lookup, lane_lookup_done);
        wheel_timer_init(&lane->timer, lane_timer_fired);
        destination->delivery = lane;
    }
    /* Already in its site's round: nothing to do. The common case under load. */
    if (lane->state == LANE_ATTACHED && !list_empty(&lane->node) && lane->expires_ms > delivery->shard->now_ms) {
        site_mark(lane->site);
        return;
    }
    lane_mark(lane);
}

void lane_hurry(void *context, struct destination *destination)
{
    struct lane *lane = destination->delivery;
    (void)context;
    if (lane == NULL) {
        return;
    }
    if (lane->state == LANE_WAITING) {
        lane->state = LANE_NEW;
        wheel_disarm(&lane->delivery->shard->wheel, &lane->timer);
        lane_mark(lane);
    } else if (lane->state == LANE_ATTACHED) {
        lane->site->suspended_until_ms = 0;
        lane->site->no_more_until_ms = 0;
        lane->site->lookup_after_ms = 0;
        site_mark(lane->site);
    }
}

void lane_idle(void *context, struct destination *destination)
{
    struct delivery *delivery = context;
    struct lane *lane = destination->delivery;
    if (lane != NULL) {
        wheel_disarm(&delivery->shard->wheel, &lane->timer);
        mx_lookup_release(&lane->lookup);
        list_remove(&lane->dirty);
        lane_detach(lane);
        free(lane);
        destination->delivery = NULL;
    }
}
