/* A few threads for what would hold a shard up: password hashing, signatures.
 *
 * A job runs once on one of the pool's threads; its `done` then runs on the shard that asked, in its loop. The queue is
 * bounded: what does not fit is refused at once, so that a flood of logins costs refusals and not memory or time of
 * those who are already waiting.
 */
#ifndef CORE_WORKER_H
#define CORE_WORKER_H

#include "core/shard.h"

#define WORKER_THREADS_MAX 16
#define WORKER_QUEUE_MAX 65536
#define WORKER_QUEUE_DEFAULT 256

/* Embedded in the thing that owns it. Must not be freed or changed between worker_submit and `done`. */
struct worker_job {
    void (*run)(struct worker_job *job);  /* on a worker thread */
    void (*done)(struct worker_job *job); /* on the shard */
    bool cancelled;                       /* at `done`: the pool stopped before it ran */
    bool submitted;                       /* between worker_submit and `done` */
    struct list node;
    struct shard *shard;
    struct shard_note note;
};

struct worker_pool;

/* 0 or -errno. From a thread that is no shard. */
int worker_pool_new(unsigned threads, unsigned queue_max, struct worker_pool **ret_pool);

/* Takes no more jobs, ends those that wait as cancelled, waits for those that run; every `done` has run or is already
 * on its way to its shard when this returns. While the shards' loops still run, from a thread that is no shard;
 * afterwards worker_submit says -ESHUTDOWN. */
void worker_pool_stop(struct worker_pool *pool);
/* After the stop, and when no shard can submit any more. */
void worker_pool_delete(struct worker_pool *pool);

/* On the shard: 0, -EBUSY when the queue is full, -ESHUTDOWN after the stop. `done` never runs inside this call. */
int worker_submit(struct worker_pool *pool, struct shard *shard, struct worker_job *job);

/* Jobs that wait for a thread now. Any thread. */
unsigned worker_waiting(struct worker_pool *pool);

#endif
