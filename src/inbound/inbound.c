#include "inbound/inbound.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "inbound/listener.h"
#include "inbound/profile.h"
#include "inbound/reception.h"
#include "inbound/server_session.h"
#include "inbound/session.h"

#define SPARE_REPLIES 64
#define SPARE_SMALL_REPLIES 1024

/* --- beginning --- */

/* A connection that another shard accepted. */
static void take_connection(void *context, unsigned from_shard, const void *payload, size_t length)
{
    struct inbound *inbound = context;
    const struct listener_connection *connection = payload;
    (void)from_shard;
    CHECK(length == sizeof *connection && connection->listener < inbound->listeners_count);
    if (inbound->stopping) {
        close(connection->fd);
        admission_leave(inbound->admission, &connection->ticket);
    } else {
        server_session_open(inbound, connection);
    }
}

bool inbound_short_of_buffers(const struct inbound *inbound)
{
    return ring_buffers_free(inbound->shard->ring) < inbound->receive_buffers / 4;
}

static void turn_ended(struct shard_hook *hook)
{
    struct inbound *inbound = CONTAINER_OF(hook, struct inbound, hook);
    if (inbound_short_of_buffers(inbound)) {
        session_names_relieve(inbound);
        session_output_relieve(inbound);
    }
}

static void stop_timer_fired(struct timer *timer);

static struct inbound *new_object(struct shard *shard, struct admission *admission,
                                  const struct inbound_settings *settings)
{
    struct inbound *inbound = calloc(1, sizeof *inbound);
    struct listener *listeners = calloc(settings->listeners_count, sizeof *listeners);
    if (inbound == NULL || listeners == NULL) {
        free(inbound);
        free(listeners);
        return NULL;
    }
    inbound->shard = shard;
    inbound->admission = admission;
    inbound->listeners = listeners;
    inbound->receive_buffers = settings->receive_buffers;
    inbound->recipients = settings->recipients;
    inbound->accounts = settings->accounts;
    inbound->route = settings->route;
    inbound->mailbox = settings->mailbox;
    list_init(&inbound->inquiries);
    body_pool_init(&inbound->bodies, settings->body_memory_bytes_max, &shard->metrics->body_memory_bytes);
    block_pool_init(&inbound->small_replies, INBOUND_REPLY_SMALL_BYTES, SPARE_SMALL_REPLIES);
    block_pool_init(&inbound->replies, INBOUND_REPLY_BLOCK_BYTES, SPARE_REPLIES);
    block_pool_init(&inbound->receptions, reception_bytes(), RECEPTION_SPARE);
    wheel_timer_init(&inbound->stop_timer, stop_timer_fired);
    server_session_start(inbound);
    return inbound;
}

static void free_object(struct inbound *inbound)
{
    for (unsigned i = 0; i < inbound->listeners_count; i++) {
        struct listener *listener = &inbound->listeners[i];
        if (!listener_closed(listener)) {
            close(listener->fd);
        }
        profile_give(listener->profile);
    }
    body_pool_free(&inbound->bodies);
    block_pool_free(&inbound->small_replies);
    block_pool_free(&inbound->replies);
    block_pool_free(&inbound->receptions);
    free(inbound->listeners);
    free(inbound);
}

/* Binds them all before the first one accepts, so that a failure has nothing in flight. */
static int open_listeners(struct inbound *inbound, const struct inbound_settings *settings, char *reason, size_t size)
{
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        const struct inbound_listener_settings *wanted = &settings->listeners[i];
        struct profile *profile = profile_new(wanted);
        int error = profile == NULL ? -ENOMEM : 0;
        if (error == 0) {
            error = listener_open(&inbound->listeners[i], inbound, i, profile, wanted);
        }
        if (error != 0) {
            snprintf(reason, size, "listener %s: %s", wanted->name,
                     error == -EINVAL ? "no such address, user or group" : strerror(-error));
            if (profile != NULL) {
                profile_give(profile);
            }
            return error;
        }
        inbound->listeners_count++;
    }
    return 0;
}

int inbound_new(struct shard *shard, struct admission *admission, const struct inbound_settings *settings,
                struct inbound **ret_inbound, char *reason, size_t reason_size)
{
    CHECK(settings->listeners_count >= 1 && settings->listeners_count <= ADMISSION_LISTENERS_MAX);
    struct inbound *inbound = new_object(shard, admission, settings);
    if (inbound == NULL) {
        snprintf(reason, reason_size, "no memory");
        return -ENOMEM;
    }
    int error = open_listeners(inbound, settings, reason, reason_size);
    if (error != 0) {
        free_object(inbound);
        return error;
    }
    shard_on_mail(shard, MAIL_CONNECTION, take_connection, inbound);
    shard_add_hook(shard, &inbound->hook, turn_ended);
    for (unsigned i = 0; i < inbound->listeners_count; i++) {
        listener_start(&inbound->listeners[i]);
    }
    shard->inbound = inbound;
    *ret_inbound = inbound;
    return 0;
}

/* --- reload --- */

static const struct inbound_listener_settings *find_settings(const struct inbound_settings *settings, struct bytes name)
{
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        if (bytes_equal(bytes_of_string(settings->listeners[i].name), name)) {
            return &settings->listeners[i];
        }
    }
    return NULL;
}

bool inbound_reload(struct inbound *inbound, const struct inbound_settings *settings)
{
    inbound->bodies.bytes_max = settings->body_memory_bytes_max;
    inbound->recipients = settings->recipients;
    inbound->accounts = settings->accounts;
    for (unsigned i = 0; i < inbound->listeners_count; i++) {
        struct listener *listener = &inbound->listeners[i];
        const struct inbound_listener_settings *wanted = find_settings(settings, listener->profile->name);
        if (wanted == NULL) {
            continue;
        }
        struct profile *profile = profile_new(wanted);
        if (profile == NULL) {
            return false;
        }
        profile_give(listener->profile);
        listener->profile = profile;
    }
    return true;
}

/* --- end --- */

static bool all_gone(const struct inbound *inbound)
{
    for (unsigned i = 0; i < inbound->listeners_count; i++) {
        if (!listener_closed(&inbound->listeners[i])) {
            return false;
        }
    }
    return inbound->session_count == 0 && inbound->reception_count == 0 && inbound->question_count == 0;
}

void inbound_settle(struct inbound *inbound)
{
    if (inbound->stopping && !inbound->stopped && all_gone(inbound)) {
        inbound->stopped = true;
        shard_arm(inbound->shard, &inbound->stop_timer, 0); /* not from inside whatever was closed just now */
    }
}

/* First at the deadline, then as often as it takes for the last ones to go. */
static void stop_timer_fired(struct timer *timer)
{
    struct inbound *inbound = CONTAINER_OF(timer, struct inbound, stop_timer);
    if (inbound->stopped) {
        inbound->stop_done(inbound);
        return;
    }
    if (inbound->overdue) {
        server_session_abort_all(inbound);
    } else {
        inbound->overdue = true;
        server_session_stop_all(inbound);
    }
    if (!inbound->stopped) {
        shard_arm(inbound->shard, &inbound->stop_timer, INBOUND_STOP_GRACE_MS);
    }
}

void inbound_stop(struct inbound *inbound, uint64_t deadline_ms, void (*done)(struct inbound *inbound))
{
    CHECK(!inbound->stopping);
    inbound->stopping = true;
    inbound->stop_done = done;
    shard_arm(inbound->shard, &inbound->stop_timer, deadline_ms);
    for (unsigned i = 0; i < inbound->listeners_count; i++) {
        listener_close(&inbound->listeners[i]);
    }
    server_session_stop_all(inbound);
    inbound_settle(inbound);
}

/* When another shard could not start, nobody has stopped us: what we accept with is in the ring's hands still. */
static void close_listeners(struct inbound *inbound)
{
    inbound->stopping = inbound->stopped = true;
    for (unsigned i = 0; i < inbound->listeners_count; i++) {
        listener_close(&inbound->listeners[i]);
        while (!listener_closed(&inbound->listeners[i])) {
            ring_enter(inbound->shard->ring, 10);
            ring_run(inbound->shard->ring);
        }
    }
}

void inbound_delete(struct inbound *inbound)
{
    close_listeners(inbound);
    CHECK(inbound->session_count == 0 && inbound->reception_count == 0);
    inbound->shard->inbound = NULL;
    shard_remove_hook(&inbound->hook);
    shard_disarm(inbound->shard, &inbound->stop_timer);
    shard_disarm(inbound->shard, &inbound->unsent_timer);
    free_object(inbound);
}
