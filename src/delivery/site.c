#include "delivery/site.h"

#include <stdlib.h>

#include "delivery/client_session.h"
#include "delivery/lane.h"
#include "delivery/outcome.h"
#include "queue/schedule.h"

#define SITE_PAUSE_FIRST_MS 5000u
#define SITE_PAUSE_MAX_MS 300000u
#define SITE_NO_MORE_MS 10000u /* after a refused connection beside working ones */

static struct bytes site_key(const struct site *site)
{
    return bytes_of(site->key, site->key_length);
}

uint64_t site_pause_ms(const struct delivery *delivery, unsigned failures)
{
    const struct queue_settings *settings = &delivery->queue->settings;
    unsigned doublings = failures <= 8 ? failures - 1 : 7;
    uint64_t pause_ms = (uint64_t)SITE_PAUSE_FIRST_MS << doublings;
    uint64_t retry_ms =
        settings->retry_ms[failures <= settings->retry_count ? failures - 1 : settings->retry_count - 1];
    pause_ms = pause_ms < SITE_PAUSE_MAX_MS ? pause_ms : SITE_PAUSE_MAX_MS;
    return pause_ms < retry_ms ? pause_ms : retry_ms;
}

void site_mark(struct site *site)
{
    if (list_empty(&site->dirty)) {
        list_push_back(&site->delivery->dirty_sites, &site->dirty);
    }
}

static void site_timer_fired(struct timer *timer)
{
    site_mark(CONTAINER_OF(timer, struct site, timer));
}

static void site_lookup_done(struct mx_lookup *lookup)
{
    struct site *site = CONTAINER_OF(lookup, struct site, lookup);
    site->resolving = false;
    if (lookup->result->class == MX_HOSTS) {
        site_set_hosts(site, lookup->result);
    } else {
        struct outcome_cause cause = outcome_of_mx(lookup->result);
        site_failed(site, &cause);
    }
    mx_lookup_release(lookup);
    site_mark(site);
}

struct site *site_get(struct delivery *delivery, struct bytes key, const struct delivery_route *route)
{
    struct site *site = map_find(&delivery->sites, key);
    if (site != NULL) {
        return site;
    }
    site = calloc(1, sizeof *site + key.length);
    if (site == NULL) {
        return NULL;
    }
    site->delivery = delivery;
    site->route = route;
    site->key_length = (uint16_t)key.length;
    memcpy(site->key, key.data, key.length);
    list_init(&site->dirty);
    list_init(&site->lanes);
    list_init(&site->idle);
    mx_lookup_init(&site->lookup, site_lookup_done);
    wheel_timer_init(&site->timer, site_timer_fired);
    if (!map_insert(&delivery->sites, site_key(site), site)) {
        free(site);
        return NULL;
    }
    return site;
}

void site_release(struct site *site)
{
    CHECK(site->references > 0);
    if (--site->references == 0) {
        wheel_disarm(&site->delivery->shard->wheel, &site->timer);
        mx_lookup_release(&site->lookup);
        mx_result_release(site->hosts);
        list_remove(&site->dirty);
        map_remove(&site->delivery->sites, site_key(site));
        free(site);
    }
}

void site_set_hosts(struct site *site, struct mx_result *hosts)
{
    mx_result_retain(hosts);
    mx_result_release(site->hosts);
    site->hosts = hosts;
}

void site_add_lane(struct site *site, struct lane *lane)
{
    if (list_empty(&lane->node)) {
        list_push_back(&site->lanes, &lane->node);
    }
    site_mark(site);
}

void site_connected(struct site *site)
{
    site->failures = 0;
    site->suspended_until_ms = 0;
    site_mark(site);
}

void site_failed(struct site *site, const struct outcome_cause *cause)
{
    struct delivery *delivery = site->delivery;
    size_t length = cause->text.length < SITE_ERROR_BYTES - 1 ? cause->text.length : SITE_ERROR_BYTES - 1;
    memcpy(site->error, cause->text.data, length);
    site->error[length] = '\0';
    if (site->ready != 0) {
        site->no_more_until_ms = delivery->shard->now_ms + SITE_NO_MORE_MS;
        return;
    }
    if (site->suspended_until_ms > delivery->shard->now_ms) {
        return; /* several connections failed together: one failure */
    }
    site->failures++;
    uint64_t pause_ms = site_pause_ms(delivery, site->failures);
    site->suspended_until_ms = delivery->shard->now_ms + pause_ms;
    shard_arm(delivery->shard, &site->timer, pause_ms);
    for (struct list *node = site->lanes.next; node != &site->lanes; node = node->next) {
        schedule_error(delivery->queue, LIST_OWNER(node, struct lane, node)->destination, cause->text);
    }
    if (!list_empty(&site->lanes)) {
        struct lane *lane = LIST_OWNER(site->lanes.next, struct lane, node);
        outcome_fail_some(delivery, lane->destination, cause, 1);
    }
}

/* Drops lanes without ready recipients; expired ones are given up. Returns how many recipients are ready, counted up to
 * `enough`. */
static unsigned site_demand(struct site *site, unsigned enough)
{
    unsigned ready = 0;
    for (struct list *node = site->lanes.next; node != &site->lanes && ready < enough;) {
        struct lane *lane = LIST_OWNER(node, struct lane, node);
        struct destination *destination = lane->destination;
        node = node->next;
        destination->out++;
        schedule_expire(site->delivery->queue, destination);
        ready += destination->ready;
        if (destination->ready == 0) {
            list_remove(&lane->node);
        }
        destination->out--;
        schedule_settle(site->delivery->queue, destination);
    }
    return ready;
}

static bool site_resolved(struct site *site)
{
    if (site->route->by_mx || (site->hosts != NULL && site->hosts->expires_ms > site->delivery->shard->now_ms)) {
        return site->hosts != NULL;
    }
    if (!site->resolving) {
        site->resolving = true;
        if (mx_lookup_host(&site->lookup, site->delivery->resolver, &site->delivery->settings->mx, site->route->host)) {
            site_lookup_done(&site->lookup);
        }
    }
    return site->hosts != NULL && site->suspended_until_ms <= site->delivery->shard->now_ms;
}

static void site_feed_idle(struct site *site)
{
    while (!list_empty(&site->lanes) && !list_empty(&site->idle)) {
        struct list *node = list_pop_front(&site->idle);
        client_session_work(LIST_OWNER(node, struct client_session, idle));
    }
}

void site_run(struct site *site)
{
    struct delivery *delivery = site->delivery;
    site->references++; /* stays until the end of this function */
    uint64_t now_ms = delivery->shard->now_ms;
    unsigned limit = site->route->connections_max;
    if (!delivery->stopping && site_demand(site, limit + 1) != 0 && site->suspended_until_ms <= now_ms &&
        site_resolved(site)) {
        site_feed_idle(site);
        unsigned wanted = site_demand(site, limit);
        while (site->connecting < wanted && site->connections < limit && site->no_more_until_ms <= now_ms &&
               delivery->connections < delivery->settings->connections_max) {
            if (!client_session_open(site)) {
                break;
            }
        }
    }
    if (site->suspended_until_ms > now_ms && !list_empty(&site->lanes) && !wheel_armed(&site->timer)) {
        shard_arm(delivery->shard, &site->timer, site->suspended_until_ms - now_ms);
    }
    site_release(site);
}
