#include "delivery/delivery.h"

#include <stdlib.h>

#include "delivery/attempt.h"
#include "delivery/attempt_copy.h"
#include "delivery/bounce.h"
#include "delivery/client_session.h"
#include "delivery/lane.h"
#include "delivery/maildir.h"
#include "delivery/route.h"
#include "delivery/site.h"
#include "queue/lend.h"
#include "queue/schedule.h"

#define DELIVERY_ATTEMPTS_MAX (1u << 20)
#define DELIVERY_RELIEVE_MS 250 /* while receive buffers are short, sessions are looked at so often */

static unsigned shard_of(void *context, struct bytes domain)
{
    return route_shard(context, domain);
}

/* A local destination never becomes a lane. */
static void destination_ready(void *context, struct destination *destination)
{
    struct delivery *delivery = context;
    bool local = destination->delivery != NULL ? destination->local : maildir_serves(delivery->maildirs, destination);
    if (local) {
        maildir_ready(delivery->maildirs, destination);
    } else {
        lane_ready(context, destination);
    }
}

static void destination_hurry(void *context, struct destination *destination)
{
    if (!destination->local) {
        lane_hurry(context, destination);
    }
}

static void destination_idle(void *context, struct destination *destination)
{
    struct delivery *delivery = context;
    if (destination->local) {
        maildir_idle(delivery->maildirs, destination);
    } else {
        lane_idle(context, destination);
    }
}

static void message_lent(void *context, const void *payload, size_t length)
{
    struct delivery *delivery = context;
    const struct lend_answer *answer = payload;
    if ((answer->job & DELIVERY_JOB_LOCAL) != 0) {
        maildir_lent(delivery->maildirs, payload, length);
    } else {
        attempt_lent(context, payload, length);
    }
}

void delivery_queue_ops(struct queue_ops *ops, struct delivery *delivery)
{
    *ops = (struct queue_ops){
        .shard_of = shard_of,
        .ready = destination_ready,
        .hurry = destination_hurry,
        .idle = destination_idle,
        .outcome = bounce_outcome,
        .lent = message_lent,
        .context = delivery,
    };
}

/* Once a turn: what became ready, was answered by DNS or lost a connection in it. Marked again meanwhile: next turn. */
static void run_dirty(struct delivery *delivery)
{
    struct list lanes;
    struct list sites;
    struct list *node;
    list_init(&lanes);
    list_init(&sites);
    list_splice(&lanes, &delivery->dirty_lanes);
    while ((node = list_pop_front(&lanes)) != NULL) {
        lane_run(LIST_OWNER(node, struct lane, dirty));
    }
    list_splice(&sites, &delivery->dirty_sites);
    while ((node = list_pop_front(&sites)) != NULL) {
        site_run(LIST_OWNER(node, struct site, dirty));
    }
    maildir_run(delivery->maildirs);
}

void delivery_wake(struct delivery *delivery)
{
    if (!wheel_armed(&delivery->again)) {
        shard_arm(delivery->shard, &delivery->again, 0);
    }
}

void delivery_wait_for_connection(struct delivery *delivery, struct site *site)
{
    if (list_empty(&site->waiting)) {
        list_push_back(&delivery->waiting_sites, &site->waiting);
        if (!list_empty(&delivery->idle)) {
            client_session_quit(LIST_OWNER(delivery->idle.next, struct client_session, resting));
        }
    }
}

void delivery_offer_connection(struct delivery *delivery)
{
    if (delivery->connections < delivery->settings->connections_max && !list_empty(&delivery->waiting_sites)) {
        site_mark(LIST_OWNER(list_pop_front(&delivery->waiting_sites), struct site, waiting));
    }
}

/* With no buffer left nothing may ever complete: the turn that looks again comes from the timer. */
static void relieve(struct delivery *delivery)
{
    bool is_short = ring_buffers_free(delivery->shard->ring) < delivery->settings->receive_buffers / 4;
    if (!is_short || wheel_armed(&delivery->relieve)) {
        return;
    }
    shard_arm(delivery->shard, &delivery->relieve, DELIVERY_RELIEVE_MS);
    for (struct list *node = delivery->sessions.next; node != &delivery->sessions;) {
        struct client_session *session = LIST_OWNER(node, struct client_session, all);
        node = node->next;
        if (client_session_hoards(session)) {
            client_session_abort(session);
        }
    }
}

static void hook_run(struct shard_hook *hook)
{
    struct delivery *delivery = CONTAINER_OF(hook, struct delivery, hook);
    run_dirty(delivery);
    relieve(delivery);
}

static void again_fired(struct timer *timer)
{
    (void)timer; /* it only ends the sleep: the hook runs every turn */
}

static void stop_deadline(struct timer *timer)
{
    struct delivery *delivery = CONTAINER_OF(timer, struct delivery, stop_timer);
    for (struct list *node = delivery->sessions.next; node != &delivery->sessions; node = node->next) {
        client_session_abort(LIST_OWNER(node, struct client_session, all));
    }
}

struct delivery *delivery_new(struct shard *shard, const struct delivery_settings *settings)
{
    struct delivery *delivery = calloc(1, sizeof *delivery);
    if (delivery == NULL) {
        return NULL;
    }
    delivery->shard = shard;
    delivery->settings = settings;
    map_init(&delivery->sites, DELIVERY_SITES_MAX);
    list_init(&delivery->dirty_sites);
    list_init(&delivery->dirty_lanes);
    list_init(&delivery->waiting_sites);
    list_init(&delivery->idle);
    list_init(&delivery->sessions);
    bounce_init(delivery);
    attempt_copy_start(delivery);
    wheel_timer_init(&delivery->again, again_fired);
    wheel_timer_init(&delivery->relieve, again_fired);
    wheel_timer_init(&delivery->stop_timer, stop_deadline);
    delivery->maildirs = maildir_new(delivery);
    if (delivery->maildirs == NULL ||
        !slots_init(&delivery->attempts, sizeof(struct attempt), DELIVERY_ATTEMPTS_MAX, true)) {
        free(delivery);
        return NULL;
    }
    route_index(delivery);
    shard->delivery = delivery;
    return delivery;
}

void delivery_start(struct delivery *delivery, struct queue *queue, struct resolver *resolver)
{
    delivery->queue = queue;
    delivery->resolver = resolver;
    shard_add_hook(delivery->shard, &delivery->hook, hook_run);
}

void delivery_progress(struct delivery *delivery)
{
    if (delivery->stopping && delivery->connections == 0 && delivery->journals == 0 &&
        maildir_running(delivery->maildirs) == 0 && delivery->stopped != NULL) {
        void (*stopped)(void *context) = delivery->stopped;
        delivery->stopped = NULL;
        wheel_disarm(&delivery->shard->wheel, &delivery->stop_timer);
        stopped(delivery->stopped_context);
    }
}

void delivery_stop(struct delivery *delivery, uint64_t deadline_ms, void (*stopped)(void *context), void *context)
{
    delivery->stopping = true;
    delivery->stopped = stopped;
    delivery->stopped_context = context;
    wheel_arm(&delivery->shard->wheel, &delivery->stop_timer, deadline_ms);
    for (struct list *node = delivery->sessions.next; node != &delivery->sessions;) {
        struct client_session *session = LIST_OWNER(node, struct client_session, all);
        node = node->next;
        if (session->ready) {
            client_session_quit(session);
        } else {
            client_session_abort(session); /* nothing is on it yet */
        }
    }
    delivery_progress(delivery);
}

void delivery_delete(struct delivery *delivery)
{
    CHECK(delivery->connections == 0);
    wheel_disarm(&delivery->shard->wheel, &delivery->again);
    wheel_disarm(&delivery->shard->wheel, &delivery->relieve);
    wheel_disarm(&delivery->shard->wheel, &delivery->stop_timer);
    wheel_disarm(&delivery->shard->wheel, &delivery->journal_timer);
    attempt_copy_stop(delivery);
    if (delivery->queue != NULL) {
        shard_remove_hook(&delivery->hook);
    }
    bounce_clear(delivery);
    maildir_delete(delivery->maildirs);
    map_free(&delivery->routes);
    map_free(&delivery->sites);
    slots_free(&delivery->attempts);
    free(delivery);
}

void delivery_reload(struct delivery *delivery, const struct delivery_settings *settings)
{
    delivery->settings = settings;
    route_index(delivery);
    maildir_index(delivery->maildirs);
    struct map_cursor cursor = {0};
    struct destination *destination;
    while ((destination = map_next(&delivery->queue->destinations, &cursor)) != NULL) {
        if (destination->delivery != NULL && maildir_serves(delivery->maildirs, destination) != destination->local) {
            destination_idle(delivery, destination);
            destination_ready(delivery, destination);
        } else if (destination->delivery != NULL && !destination->local) {
            lane_reroute(destination->delivery);
        }
    }
}
