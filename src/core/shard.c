/* The loop of a shard, its mail, and the group that starts and joins them.
 *
 * Waking a sleeper without a lock and without a lost wake-up:
 *
 *   consumer                                   producer
 *   sleeping = 1                               publish tail
 *   look at every mailbox once more            if (sleeping && exchange(sleeping, 0))  MSG_RING
 *   enter the kernel
 *
 * Either the consumer's second look sees the new tail, or the producer's exchange sees sleeping == 1: both stores
 * cannot miss each other. So a busy peer is never interrupted and a sleeping one costs one ring entry, however many
 * messages it gets.
 *
 * Threads that are no shard (the control thread) use shard_call: a list under a mutex and an eventfd that the ring
 * polls.
 */
#include "core/shard.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/limits.h"
#include "core/clock.h"

/* jemalloc's, absent from sanitizer builds. */
extern int mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length) __attribute__((weak));

#define LINE_BYTES 128 /* two cache lines: processors fetch them in pairs */
#define SHARD_REST_MS 5000
#define SHARD_REST_TURNS 64

struct deferred {
    struct list node;
    enum mail_kind kind;
    size_t length;
    char payload[];
};

struct call {
    struct list node;
    void (*run)(struct shard *shard, void *context);
    void *context;
    bool begun;
    bool finished;
    pthread_cond_t wake;
};

struct shard_private {
    _Alignas(LINE_BYTES) _Atomic int sleeping;               /* written by whoever wakes it */
    _Alignas(LINE_BYTES) struct list deferred[LIMIT_SHARDS]; /* mail that found its mailbox full, per peer */
    struct op call_poll;
    int call_event;
    pthread_mutex_t call_lock;
    struct list calls;
    struct list notes;    /* shard_tell; under call_lock */
    bool ended;           /* no calls are taken any more; under call_lock */
    uint64_t pings_asked; /* shard_answers; under call_lock */
    uint64_t pings_answered;
    pthread_cond_t pinged;
    struct shard *shard;
    struct timer rest;
    uint32_t turns; /* since memory was given back, or `rest` was armed */
};

/* A shard writes to its struct all the time: no part of it may lie in a cache line with a part of the next one. */
struct place {
    _Alignas(LINE_BYTES) struct shard shard;
};

struct shard_group {
    struct shard_group_settings settings;
    struct place places[LIMIT_SHARDS];
    pthread_t threads[LIMIT_SHARDS];
    struct mailbox *mailboxes[LIMIT_SHARDS][LIMIT_SHARDS]; /* [from][to] */
    unsigned running;
    _Atomic unsigned ended; /* threads */
    pthread_mutex_t lock;
    pthread_cond_t started;
    unsigned reported;
    bool released; /* every shard has started (or failed): enter the loop */
    int error;
    char reason[256];
};

static struct mailbox *mailbox_between(struct shard_group *group, unsigned from, unsigned to)
{
    return group->mailboxes[from][to];
}

/* --- mail ---------------------------------------------------------------------------------------------------- */

void shard_on_mail(struct shard *shard, enum mail_kind kind, shard_mail_handler *run, void *context)
{
    CHECK(kind > MAIL_NONE && kind < MAIL_KINDS && shard->mail[kind].run == NULL);
    shard->mail[kind].run = run;
    shard->mail[kind].context = context;
}

void shard_post(struct shard *shard, unsigned to, enum mail_kind kind, const void *payload, size_t length)
{
    CHECK(to < shard->group->settings.shards && length <= LIMIT_MAIL_BYTES);
    struct list *waiting = &shard->private->deferred[to];
    if (list_empty(waiting) && mailbox_put(mailbox_between(shard->group, shard->index, to), kind, payload, length)) {
        return;
    }
    struct deferred *deferred = malloc(sizeof *deferred + length);
    CHECK(deferred != NULL);
    deferred->kind = kind;
    deferred->length = length;
    memcpy(deferred->payload, payload, length);
    list_push_back(waiting, &deferred->node);
    metric_add(&shard->metrics->mail_deferred, 1);
}

static void retry_deferred(struct shard *shard, unsigned to)
{
    struct list *waiting = &shard->private->deferred[to];
    while (!list_empty(waiting)) {
        struct deferred *first = LIST_OWNER(waiting->next, struct deferred, node);
        struct mailbox *mailbox = mailbox_between(shard->group, shard->index, to);
        if (!mailbox_put(mailbox, first->kind, first->payload, first->length)) {
            return;
        }
        list_remove(&first->node);
        free(first);
    }
}

static void publish_mail(struct shard *shard)
{
    for (unsigned to = 0; to < shard->group->settings.shards; to++) {
        retry_deferred(shard, to);
        if (mailbox_publish(mailbox_between(shard->group, shard->index, to)) && to != shard->index) {
            struct shard *peer = &shard->group->places[to].shard;
            if (atomic_load(&peer->private->sleeping) != 0 && atomic_exchange(&peer->private->sleeping, 0) != 0) {
                ring_wake(shard->ring, ring_descriptor(peer->ring));
            }
        }
    }
}

static bool mail_pending(const struct shard *shard)
{
    for (unsigned peer = 0; peer < shard->group->settings.shards; peer++) {
        if (mailbox_pending(mailbox_between(shard->group, peer, shard->index))) {
            return true;
        }
    }
    return false;
}

/* Mail waits for room in a busy peer's mailbox: look again soon, but do not spin. */
static bool mail_deferred(const struct shard *shard)
{
    for (unsigned peer = 0; peer < shard->group->settings.shards; peer++) {
        if (!list_empty(&shard->private->deferred[peer])) {
            return true;
        }
    }
    return false;
}

static void take_mail(struct shard *shard)
{
    mailbox_publish(mailbox_between(shard->group, shard->index, shard->index));
    for (unsigned from = 0; from < shard->group->settings.shards; from++) {
        struct mailbox *mailbox = mailbox_between(shard->group, from, shard->index);
        enum mail_kind kind;
        size_t length;
        const void *payload;
        while ((payload = mailbox_next(mailbox, &kind, &length)) != NULL) {
            CHECK(kind < MAIL_KINDS && shard->mail[kind].run != NULL);
            shard->mail[kind].run(shard->mail[kind].context, from, payload, length);
        }
        mailbox_release(mailbox);
    }
}

/* --- calls from other threads -------------------------------------------------------------------------------- */

static void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static struct timespec time_after(unsigned ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t nanoseconds = (uint64_t)until.tv_nsec + ms % 1000 * UINT64_C(1000000);
    until.tv_sec += (time_t)(ms / 1000 + nanoseconds / 1000000000);
    until.tv_nsec = (long)(nanoseconds % 1000000000);
    return until;
}

/* Waits until the call has run. `until` NULL: however long it takes; else a call that has not begun by then is taken
 * back. Under the lock. */
static int await_call(struct shard_private *private, struct call *call, const struct timespec *until)
{
    bool late = false;
    while (!call->finished && !(late && !call->begun)) {
        if (until == NULL || late) {
            pthread_cond_wait(&call->wake, &private->call_lock);
        } else {
            late = pthread_cond_timedwait(&call->wake, &private->call_lock, until) == ETIMEDOUT;
        }
    }
    list_remove(&call->node);
    return call->finished ? 0 : -ETIMEDOUT;
}

static int make_call(struct shard_group *group, unsigned index, void (*run)(struct shard *shard, void *context),
                     void *context, const struct timespec *until)
{
    CHECK(index < group->settings.shards);
    struct shard_private *private = group->places[index].shard.private;
    struct call call = {.run = run, .context = context};
    condition_init(&call.wake);
    list_init(&call.node);
    pthread_mutex_lock(&private->call_lock);
    int result = private->ended ? -ESHUTDOWN : 0;
    if (result == 0) {
        list_push_back(&private->calls, &call.node);
        uint64_t one = 1;
        CHECK(write(private->call_event, &one, sizeof one) == (ssize_t)sizeof one);
        result = await_call(private, &call, until);
    }
    pthread_mutex_unlock(&private->call_lock);
    pthread_cond_destroy(&call.wake);
    return result;
}

int shard_call(struct shard_group *group, unsigned index, void (*run)(struct shard *shard, void *context),
               void *context)
{
    return make_call(group, index, run, context, NULL);
}

int shard_try(struct shard_group *group, unsigned index, void (*run)(struct shard *shard, void *context), void *context,
              unsigned timeout_ms)
{
    struct timespec until = time_after(timeout_ms);
    return make_call(group, index, run, context, &until);
}

bool shard_answers(struct shard_group *group, unsigned index, unsigned timeout_ms)
{
    CHECK(index < group->settings.shards);
    struct shard_private *private = group->places[index].shard.private;
    struct timespec until = time_after(timeout_ms);
    pthread_mutex_lock(&private->call_lock);
    uint64_t mine = ++private->pings_asked;
    uint64_t one = 1;
    bool waiting = !private->ended && write(private->call_event, &one, sizeof one) == (ssize_t)sizeof one;
    while (waiting && private->pings_answered < mine) {
        waiting = pthread_cond_timedwait(&private->pinged, &private->call_lock, &until) == 0;
    }
    bool answered = private->pings_answered >= mine;
    pthread_mutex_unlock(&private->call_lock);
    return answered;
}

int shard_tell(struct shard *shard, struct shard_note *note)
{
    struct shard_private *private = shard->private;
    pthread_mutex_lock(&private->call_lock);
    bool ended = private->ended;
    if (!ended) {
        bool first = list_empty(&private->notes);
        list_push_back(&private->notes, &note->node);
        uint64_t one = 1;
        CHECK(!first || write(private->call_event, &one, sizeof one) == (ssize_t)sizeof one);
    }
    pthread_mutex_unlock(&private->call_lock);
    return ended ? -ESHUTDOWN : 0;
}

/* Under the lock, which is open while a note runs. Those that come meanwhile have an event of their own. */
static void run_notes(struct shard_private *private)
{
    struct list notes;
    list_init(&notes);
    list_splice(&notes, &private->notes);
    struct list *node;
    while ((node = list_pop_front(&notes)) != NULL) {
        pthread_mutex_unlock(&private->call_lock);
        struct shard_note *note = LIST_OWNER(node, struct shard_note, node);
        note->run(note);
        pthread_mutex_lock(&private->call_lock);
    }
}

static void run_calls(struct shard *shard)
{
    struct shard_private *private = shard->private;
    pthread_mutex_lock(&private->call_lock);
    run_notes(private);
    private->pings_answered = private->pings_asked;
    pthread_cond_broadcast(&private->pinged);
    struct list calls; /* those that come meanwhile wait for the next turn */
    list_init(&calls);
    list_splice(&calls, &private->calls);
    struct list *node;
    while ((node = list_pop_front(&calls)) != NULL) {
        struct call *call = LIST_OWNER(node, struct call, node);
        call->begun = true;
        pthread_mutex_unlock(&private->call_lock);
        call->run(shard, call->context);
        pthread_mutex_lock(&private->call_lock);
        call->finished = true;
        pthread_cond_signal(&call->wake);
    }
    pthread_mutex_unlock(&private->call_lock);
}

static void call_polled(struct op *op, int result, uint32_t flags)
{
    struct shard_private *private = CONTAINER_OF(op, struct shard_private, call_poll);
    (void)result;
    (void)flags;
    uint64_t count;
    ssize_t length = read(private->call_event, &count, sizeof count);
    (void)length; /* loop_turn runs the calls */
}

/* --- the loop ------------------------------------------------------------------------------------------------ */

static void refresh_clock(struct shard *shard)
{
    shard->now_ms = clock_monotonic_ms();
    shard->wall_ms = clock_wall_ms();
}

static uint64_t sleep_time(struct shard *shard)
{
    if (!list_empty(&shard->later) || (!list_empty(&shard->starved) && ring_buffers_free(shard->ring) != 0)) {
        return 0; /* the next turn sees to them */
    }
    uint64_t next_ms = wheel_next_ms(&shard->wheel);
    if (next_ms == UINT64_MAX) {
        return UINT64_MAX;
    }
    uint64_t now_ms = clock_monotonic_ms();
    return next_ms > now_ms ? next_ms - now_ms : 0;
}

/* The allocator gives free memory back while it is asked for more: a shard that falls silent would keep what its last
 * burst needed. */
static void rested(struct timer *timer)
{
    struct shard_private *private = CONTAINER_OF(timer, struct shard_private, rest);
    struct shard *shard = private->shard;
    if (private->turns < SHARD_REST_TURNS) {
        shard_trim(shard);
    } else {
        wheel_arm(&shard->wheel, timer, shard->now_ms + SHARD_REST_MS);
    }
    private->turns = 0;
}

/* Few turns are no burst, and a shard that does nothing is not to be woken for this. */
static void note_turn(struct shard *shard)
{
    struct shard_private *private = shard->private;
    if (++private->turns >= SHARD_REST_TURNS && !wheel_armed(&private->rest)) {
        private->turns = 0; /* from here on */
        wheel_arm(&shard->wheel, &private->rest, shard->now_ms + SHARD_REST_MS);
    }
}

static void loop_turn(struct shard *shard)
{
    struct shard_private *private = shard->private;
    publish_mail(shard);
    uint64_t timeout_ms = sleep_time(shard);
    atomic_store(&private->sleeping, 1);
    if (mail_pending(shard)) {
        timeout_ms = 0;
    } else if (timeout_ms > 1 && mail_deferred(shard)) {
        timeout_ms = 1;
    }
    int error = ring_enter(shard->ring, timeout_ms);
    CHECK(error == 0);
    atomic_store_explicit(&private->sleeping, 0, memory_order_relaxed);
    refresh_clock(shard);
    ring_run(shard->ring);
    if (!private->call_poll.in_flight) {
        ring_poll(shard->ring, &private->call_poll, private->call_event, POLLIN, false);
        run_calls(shard);
    }
    take_mail(shard);
    note_turn(shard);
    wheel_advance(&shard->wheel, shard->now_ms);
    for (struct list *node = shard->hooks.next; node != &shard->hooks;) {
        struct shard_hook *hook = LIST_OWNER(node, struct shard_hook, node);
        node = node->next;
        hook->run(hook);
    }
}

/* The usable cores, in order; returns how many. */
static unsigned usable_cores(size_t *ret_cores, unsigned capacity)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return 0;
    }
    unsigned count = 0;
    for (size_t core = 0; core < CPU_SETSIZE && count < capacity; core++) {
        if (CPU_ISSET(core, &set)) {
            ret_cores[count++] = core;
        }
    }
    return count;
}

/* The cgroup's CPU quota in whole cores, rounded up; 0 when there is none. */
static unsigned quota_cores(void)
{
    long quota = -1;
    long period = 100000;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file != NULL) {
        if (fscanf(file, "%ld %ld", &quota, &period) != 2) {
            quota = -1;
        }
        fclose(file);
    }
    return quota > 0 && period > 0 ? (unsigned)((quota + period - 1) / period) : 0;
}

unsigned shard_usable_cores(void)
{
    size_t cores[LIMIT_SHARDS];
    unsigned count = usable_cores(cores, LIMIT_SHARDS);
    unsigned quota = quota_cores();
    count = quota != 0 && quota < count ? quota : count;
    return count != 0 ? count : 1;
}

static void pin(const struct shard *shard)
{
    size_t cores[LIMIT_SHARDS];
    unsigned count = usable_cores(cores, LIMIT_SHARDS);
    if (count != 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cores[shard->index % count], &set);
        sched_setaffinity(0, sizeof set, &set);
    }
}

static void own_arena(struct shard *shard)
{
    size_t size = sizeof shard->arena;
    shard->has_arena = mallctl != NULL && mallctl("arenas.create", &shard->arena, &size, NULL, 0) == 0 &&
                       mallctl("thread.arena", NULL, NULL, &shard->arena, sizeof shard->arena) == 0;
}

void shard_trim(struct shard *shard)
{
    char name[48];
    snprintf(name, sizeof name, "arena.%u.purge", shard->arena);
    if (shard->has_arena) {
        mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
        mallctl(name, NULL, NULL, NULL, 0);
    }
}

/* The first failure is the one that is told. */
static void group_fail(struct shard_group *group, int error, const char *reason)
{
    if (group->error == 0) {
        group->error = error;
        snprintf(group->reason, sizeof group->reason, "%s", reason);
    }
}

/* Reports this shard's start and waits until all have reported, so that mail finds every peer's ring. */
static bool report_start(struct shard_group *group, int error, const char *reason)
{
    pthread_mutex_lock(&group->lock);
    if (error != 0) {
        group_fail(group, error, reason);
    }
    group->reported++;
    pthread_cond_broadcast(&group->started);
    while (!group->released) {
        pthread_cond_wait(&group->started, &group->lock);
    }
    bool go = group->error == 0;
    pthread_mutex_unlock(&group->lock);
    return go;
}

static int shard_prepare(struct shard *shard, char *reason, size_t reason_size)
{
    struct shard_group *group = shard->group;
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        seed = clock_monotonic_ns() ^ shard->index;
    }
    rng_seed(&shard->rng, seed);
    refresh_clock(shard);
    wheel_init(&shard->wheel, shard->now_ms);
    int error = ring_new(&group->settings.ring, &shard->ring, reason, reason_size);
    if (error != 0) {
        return error;
    }
    struct shard_private *private = shard->private;
    private->call_poll.done = call_polled;
    ring_poll(shard->ring, &private->call_poll, private->call_event, POLLIN, false);
    error = group->settings.start == NULL ? 0 : group->settings.start(shard, group->settings.context);
    if (error != 0) {
        snprintf(reason, reason_size, "shard %u: %s", shard->index, strerror(-error));
    }
    return error;
}

static void end_calls(struct shard *shard)
{
    pthread_mutex_lock(&shard->private->call_lock);
    shard->private->ended = true;
    pthread_mutex_unlock(&shard->private->call_lock);
    run_calls(shard);
}

static void *shard_main(void *argument)
{
    struct shard *shard = argument;
    struct shard_group *group = shard->group;
    char reason[200] = "";
    char name[16];
    snprintf(name, sizeof name, "shard-%u", shard->index);
    pthread_setname_np(pthread_self(), name);
    if (group->settings.pin) {
        pin(shard);
    }
    own_arena(shard);
    int error = shard_prepare(shard, reason, sizeof reason);
    if (report_start(group, error, reason)) {
        while (!shard->stopping) {
            loop_turn(shard);
        }
        wheel_disarm(&shard->wheel, &shard->private->rest);
        publish_mail(shard); /* of the last turn, and the wakes for it */
        CHECK(ring_enter(shard->ring, 0) == 0);
    }
    end_calls(shard);
    if (error == 0 && group->settings.stop != NULL) {
        group->settings.stop(shard, group->settings.context);
    }
    atomic_fetch_add(&group->ended, 1);
    return NULL;
}

/* --- the group ----------------------------------------------------------------------------------------------- */

/* 0 or -errno; shard_free takes what was made. */
static int shard_init(struct shard_group *group, unsigned index)
{
    struct shard *shard = &group->places[index].shard;
    shard->index = index;
    shard->group = group;
    shard->context = group->settings.context;
    list_init(&shard->hooks);
    list_init(&shard->message_pool);
    list_init(&shard->starved);
    list_init(&shard->later);
    shard->metrics = metric_set_new();
    shard->private = aligned_alloc(LINE_BYTES, sizeof *shard->private);
    if (shard->metrics == NULL || shard->private == NULL) {
        free(shard->private);
        shard->private = NULL;
        return -ENOMEM;
    }
    memset(shard->private, 0, sizeof *shard->private);
    shard->private->shard = shard;
    wheel_timer_init(&shard->private->rest, rested);
    list_init(&shard->private->calls);
    list_init(&shard->private->notes);
    pthread_mutex_init(&shard->private->call_lock, NULL);
    condition_init(&shard->private->pinged);
    shard->private->call_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = shard->private->call_event < 0 ? -errno : 0;
    for (unsigned peer = 0; peer < group->settings.shards; peer++) {
        list_init(&shard->private->deferred[peer]);
        group->mailboxes[index][peer] = mailbox_new();
        error = group->mailboxes[index][peer] == NULL ? -ENOMEM : error;
    }
    return error;
}

static void shard_free(struct shard_group *group, unsigned index)
{
    struct shard *shard = &group->places[index].shard;
    struct list *node;
    metric_set_delete(shard->metrics);
    if (shard->private == NULL) {
        return;
    }
    for (unsigned peer = 0; peer < group->settings.shards; peer++) {
        while ((node = list_pop_front(&shard->private->deferred[peer])) != NULL) {
            free(LIST_OWNER(node, struct deferred, node));
        }
        mailbox_delete(group->mailboxes[index][peer]);
    }
    if (shard->ring != NULL) {
        ring_delete(shard->ring);
    }
    close(shard->private->call_event);
    pthread_mutex_destroy(&shard->private->call_lock);
    pthread_cond_destroy(&shard->private->pinged);
    free(shard->private);
}

/* Makes the shards and starts the threads of as many as it can. */
static int group_create(struct shard_group *group)
{
    int error = 0;
    for (unsigned i = 0; i < group->settings.shards && error == 0; i++) {
        error = shard_init(group, i);
    }
    while (group->running < group->settings.shards && error == 0) {
        error = -pthread_create(&group->threads[group->running], NULL, shard_main,
                                &group->places[group->running].shard);
        group->running += error == 0;
    }
    return error;
}

int shard_group_start(const struct shard_group_settings *settings, struct shard_group **ret_group, char *reason,
                      size_t reason_size)
{
    CHECK(settings->shards >= 1 && settings->shards <= LIMIT_SHARDS);
    struct shard_group *group = aligned_alloc(LINE_BYTES, sizeof *group);
    if (group == NULL) {
        snprintf(reason, reason_size, "no memory");
        return -ENOMEM;
    }
    memset(group, 0, sizeof *group);
    group->settings = *settings;
    pthread_mutex_init(&group->lock, NULL);
    pthread_cond_init(&group->started, NULL);
    int error = group_create(group);
    pthread_mutex_lock(&group->lock);
    if (error != 0) {
        group_fail(group, error, strerror(-error));
    }
    while (group->reported < group->running) {
        pthread_cond_wait(&group->started, &group->lock);
    }
    group->released = true;
    pthread_cond_broadcast(&group->started);
    error = group->error;
    snprintf(reason, reason_size, "%s", group->reason);
    pthread_mutex_unlock(&group->lock);
    if (error != 0) {
        shard_group_join(group);
        return error;
    }
    *ret_group = group;
    return 0;
}

unsigned shard_group_count(const struct shard_group *group)
{
    return group->settings.shards;
}

struct shard *shard_group_member(struct shard_group *group, unsigned index)
{
    CHECK(index < group->settings.shards);
    return &group->places[index].shard;
}

bool shard_group_ended(const struct shard_group *group)
{
    return atomic_load(&group->ended) == group->running;
}

void shard_group_join(struct shard_group *group)
{
    for (unsigned i = 0; i < group->running; i++) {
        pthread_join(group->threads[i], NULL);
    }
    for (unsigned i = 0; i < group->settings.shards; i++) {
        shard_free(group, i);
    }
    pthread_mutex_destroy(&group->lock);
    pthread_cond_destroy(&group->started);
    free(group);
}

void shard_add_hook(struct shard *shard, struct shard_hook *hook, void (*run)(struct shard_hook *hook))
{
    hook->run = run;
    list_push_back(&shard->hooks, &hook->node);
}

void shard_remove_hook(struct shard_hook *hook)
{
    list_remove(&hook->node);
}
