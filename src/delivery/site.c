#include "delivery/site.h"

#include <stdlib.h>

#include "delivery/client_session.h"
#include "delivery/lane.h"
#include "delivery/outcome.h"
#include "delivery/route.h"
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
        delivery_wake(site->delivery);
    }
}

static void site_timer_fired(struct timer *timer)
{
    site_mark(CONTAINER_OF(timer, struct site, timer));
}

static void site_lookup_done(struct mx_lookup *lookup)
{
    struct site *site = CONTAINER_OF(lookup, struct site, lookup);
    site->references++; /* stays until the end of this function: the cause may end its last lane */
    site->resolving = false;
    if (lookup->result->class == MX_HOSTS) {
        site_set_hosts(site, lookup->result);
    } else {
        site->lookup_after_ms = lookup->result->expires_ms;
        if (site->hosts == NULL) { /* else the addresses known so far are better than none */
            struct outcome_cause cause = outcome_of_mx(lookup->result);
            site_failed(site, &cause);
        }
    }
    mx_lookup_release(lookup);
    site_mark(site);
    site_release(site);
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
    list_init(&site->waiting);
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
    struct delivery *delivery = site->delivery;
    CHECK(site->references > 0);
    if (--site->references == 0) {
        wheel_disarm(&delivery->shard->wheel, &site->timer);
        mx_lookup_release(&site->lookup);
        mx_result_release(site->hosts);
        list_remove(&site->dirty);
        list_remove(&site->waiting);
        map_remove(&delivery->sites, site_key(site));
        free(site);
        delivery_offer_connection(delivery); /* which it may have been offered, and now will not use */
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
    site->suspended_until_ms = 0;
    site_mark(site);
}

/* A lane's ready recipients, without those that have expired; without any, the lane leaves the round (and may end). */
static unsigned lane_demand(struct site *site, struct lane *lane)
{
    struct destination *destination = lane->destination;
    destination->out++;
    schedule_expire(site->delivery->queue, destination);
    unsigned ready = destination->ready;
    if (ready == 0) {
        list_remove(&lane->node);
    }
    destination->out--;
    schedule_settle(site->delivery->queue, destination);
    return ready;
}

bool site_suspend(struct site *site, const struct outcome_cause *cause)
{
    struct delivery *delivery = site->delivery;
    size_t length = cause->text.length < SITE_ERROR_BYTES - 1 ? cause->text.length : SITE_ERROR_BYTES - 1;
    memcpy(site->error, cause->text.data, length);
    site->error[length] = '\0';
    if (site->ready != 0) {
        site->no_more_until_ms = delivery->shard->now_ms + SITE_NO_MORE_MS;
        return false;
    }
    if (site->suspended_until_ms > delivery->shard->now_ms) {
        return false; /* several connections failed together: one failure */
    }
    site->failures++;
    uint64_t pause_ms = site_pause_ms(delivery, site->failures);
    site->suspended_until_ms = delivery->shard->now_ms + pause_ms;
    shard_arm(delivery->shard, &site->timer, pause_ms);
    for (struct list *node = site->lanes.next; node != &site->lanes;) {
        struct lane *lane = LIST_OWNER(node, struct lane, node);
        node = node->next;
        schedule_unreachable(delivery->queue, lane->destination, cause->text);
        lane_demand(site, lane); /* what waits longer than it may is given up, in every lane */
    }
    return true;
}

void site_failed(struct site *site, const struct outcome_cause *cause)
{
    if (site_suspend(site, cause) && !list_empty(&site->lanes)) {
        struct list *first = list_pop_front(&site->lanes);
        list_push_back(&site->lanes, first); /* another lane's message is next to learn of it */
        struct lane *lane = LIST_OWNER(first, struct lane, node);
        outcome_fail_some(site->delivery, lane->destination, cause, 1);
    }
}

/* Returns how many recipients are ready, counted up to `enough`. */
static unsigned site_demand(struct site *site, unsigned enough)
{
    unsigned ready = 0;
    for (struct list *node = site->lanes.next; node != &site->lanes && ready < enough;) {
        struct lane *lane = LIST_OWNER(node, struct lane, node);
        node = node->next;
        ready += lane_demand(site, lane);
    }
    return ready;
}

/* A socket in the file system is one host with one address, and needs no DNS. */
static void site_set_unix(struct site *site)
{
    static const struct mx_address address = {.family = AF_UNIX};
    struct mx_host host = {.name = site->route->host, .address_count = 1, .addresses = &address};
    struct mx_result draft = {.class = MX_HOSTS, .expires_ms = UINT64_MAX, .host_count = 1, .hosts = &host};
    struct mx_result *result = mx_result_new(&draft);
    site_set_hosts(site, result);
    mx_result_release(result);
}

static bool site_resolved(struct site *site)
{
    uint64_t now_ms = site->delivery->shard->now_ms;
    if (site->hosts == NULL && route_is_unix(site->route)) {
        site_set_unix(site);
    }
    if (site->route->by_mx || (site->hosts != NULL && site->hosts->expires_ms > now_ms)) {
        return site->hosts != NULL;
    }
    if (!site->resolving && site->lookup_after_ms <= now_ms) {
        site->resolving = true;
        if (mx_lookup_host(&site->lookup, site->delivery->resolver, &site->delivery->settings->mx, site->route->host)) {
            site_lookup_done(&site->lookup);
        }
    }
    return site->hosts != NULL && site->suspended_until_ms <= now_ms;
}

static void site_feed_idle(struct site *site)
{
    while (!list_empty(&site->lanes) && !list_empty(&site->idle)) {
        struct list *node = list_pop_front(&site->idle);
        client_session_work(LIST_OWNER(node, struct client_session, idle));
    }
}

/* Opens connections, as many as there is work for and limits allow. */
static void site_connect(struct site *site)
{
    struct delivery *delivery = site->delivery;
    unsigned limit = site->route->connections_max;
    unsigned wanted = site_demand(site, limit);
    if (site->no_more_until_ms > delivery->shard->now_ms && site->connections != 0) {
        return;
    }
    while (site->connecting < wanted && site->connections < limit) {
        if (delivery->connections >= delivery->settings->connections_max) {
            delivery_wait_for_connection(delivery, site);
            return;
        }
        if (!client_session_open(site)) {
            return;
        }
    }
}

/* When nothing but time stands between the site and more connections, the timer ends the wait. */
static void site_wait(struct site *site)
{
    uint64_t now_ms = site->delivery->shard->now_ms;
    uint64_t until_ms = site->suspended_until_ms > now_ms ? site->suspended_until_ms : site->no_more_until_ms;
    if (!site->route->by_mx && until_ms <= now_ms && !site->resolving && site->hosts == NULL) {
        until_ms = site->lookup_after_ms;
    }
    if (until_ms > now_ms && !list_empty(&site->lanes) && !wheel_armed(&site->timer)) {
        shard_arm(site->delivery->shard, &site->timer, until_ms - now_ms);
    }
}

void site_run(struct site *site)
{
    struct delivery *delivery = site->delivery;
    site->references++; /* stays until the end of this function */
    if (!delivery->stopping && site_demand(site, 1) != 0 && site->suspended_until_ms <= delivery->shard->now_ms &&
        site_resolved(site)) {
        site_feed_idle(site);
        site_connect(site);
    }
    site_wait(site);
    delivery_offer_connection(delivery);
    site_release(site);
}
