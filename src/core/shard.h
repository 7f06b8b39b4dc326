/* A shard: one pinned thread with its own ring, timers, memory arena and mailboxes. It shares no mutable memory with
 * another shard but the mailboxes.
 *
 * One turn of the loop: submit and wait for one completion -> run completions -> take mail -> advance the wheel -> run
 * the turn hooks (spool writer flush and the like) -> publish mail and wake sleeping peers.
 */
#ifndef CORE_SHARD_H
#define CORE_SHARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/rng.h"
#include "base/wheel.h"
#include "core/mailbox.h"
#include "core/metric.h"
#include "core/ring.h"

struct shard_group;
struct worker_pool;

/* Something that another thread wants run on a shard, without waiting for it; embedded in its owner. */
struct shard_note {
    struct list node;
    void (*run)(struct shard_note *note);
};

/* A function that runs once at the end of every turn. */
struct shard_hook {
    struct list node;
    void (*run)(struct shard_hook *hook);
};

typedef void shard_mail_handler(void *context, unsigned from_shard, const void *payload, size_t length);

struct shard {
    unsigned index;
    struct shard_group *group;
    struct ring *ring;
    struct wheel wheel;
    struct rng rng;
    uint64_t now_ms;  /* monotonic, refreshed once a turn */
    uint64_t wall_ms; /* since 1970, refreshed once a turn */
    struct metric_set *metrics;
    bool stopping; /* the loop ends after this turn */
    struct list hooks;
    /* The layers' per-shard objects, set at boot by app, each read only by its layer and those above it. */
    struct spool *spool;
    struct queue *queue;
    struct inbound *inbound;
    struct delivery *delivery;
    struct resolver *resolver;
    struct event_log *events;
    struct worker_pool *file_workers; /* one of all shards, for what a ring cannot do with files; NULL: none */
    unsigned arena;                   /* jemalloc's number of this shard's arena; valid when has_arena */
    bool has_arena;
    void *context; /* of the group's settings, for whoever put the layers together */
    struct {
        shard_mail_handler *run;
        void *context;
    } mail[MAIL_KINDS];
    struct shard_private *private; /* the loop's own: mailboxes, calls */
    struct shard_hook stream_hook;
    struct list message_pool; /* core/stream: spare send descriptors */
    struct list starved;      /* core/stream: streams that found no receive buffer */
    struct list later;        /* core/stream_tls: streams whose driver is woken at the end of the turn */
};

struct shard_group_settings {
    unsigned shards;
    bool pin; /* bind shard i to the i-th usable core */
    struct ring_settings ring;
    /* Runs in the shard's own thread after its ring exists, before the loop; 0 or -errno ends the whole start. */
    int (*start)(struct shard *shard, void *context);
    /* Runs in the shard's own thread after the loop. */
    void (*stop)(struct shard *shard, void *context);
    void *context;
};

/* Creates the group and starts its threads; returns once every shard's `start` has succeeded, or -errno with a one-line
 * reason after having stopped those that were started. */
int shard_group_start(const struct shard_group_settings *settings, struct shard_group **ret_group, char *reason,
                      size_t reason_size);
unsigned shard_group_count(const struct shard_group *group);
struct shard *shard_group_member(struct shard_group *group, unsigned index);
/* Have all threads ended? shard_group_join does not wait then. */
bool shard_group_ended(const struct shard_group *group);
/* Waits for all threads (each ends when its own `stopping` is set by code that runs on it), then frees the group. */
void shard_group_join(struct shard_group *group);

/* The number of cores this process may use: affinity mask and cgroup quota. At least 1. */
unsigned shard_usable_cores(void);

void shard_on_mail(struct shard *shard, enum mail_kind kind, shard_mail_handler *run, void *context);

/* Copies a message towards shard `to`; `to` may be this shard (it is then handled later in this turn). Never blocks and
 * never fails: when the mailbox is full the message waits in a deferred list. Order per pair is kept. */
void shard_post(struct shard *shard, unsigned to, enum mail_kind kind, const void *payload, size_t length);

/* From a thread that is no shard: runs `call(shard, context)` on the shard and returns when it has run; 0, or
 * -ESHUTDOWN when the shard's loop has ended. For control only. */
int shard_call(struct shard_group *group, unsigned index, void (*call)(struct shard *shard, void *context),
               void *context);

/* The same, but gives up with -ETIMEDOUT, and `call` will not run, when the shard has not begun it within `timeout_ms`.
 */
int shard_try(struct shard_group *group, unsigned index, void (*call)(struct shard *shard, void *context),
              void *context, unsigned timeout_ms);

/* From any thread: `note->run` runs once in the shard's loop, soon, before any shard_call that is made later. Must not
 * be used again before. 0, or -ESHUTDOWN when the loop has ended: it never runs then. */
int shard_tell(struct shard *shard, struct shard_note *note);

/* The same without anything to run: has the loop come round within `timeout_ms`? For the watchdog. */
bool shard_answers(struct shard_group *group, unsigned index, unsigned timeout_ms);

/* Gives memory that is free but still held for later back to the system. On the shard's own thread. */
void shard_trim(struct shard *shard);

void shard_add_hook(struct shard *shard, struct shard_hook *hook, void (*run)(struct shard_hook *hook));
void shard_remove_hook(struct shard_hook *hook);

/* Timers on the shard's wheel, relative to now. */
static inline void shard_arm(struct shard *shard, struct timer *timer, uint64_t after_ms)
{
    wheel_arm(&shard->wheel, timer, shard->now_ms + after_ms);
}
static inline void shard_disarm(struct shard *shard, struct timer *timer)
{
    wheel_disarm(&shard->wheel, timer);
}

#endif
