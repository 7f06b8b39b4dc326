/* One list, one lock, a few threads.
 *
 * A job takes milliseconds, so a lock that is held for a few instructions is nothing beside it, and a list serves in
 * the order of arrival whoever came first. The way back is the shard's own: shard_tell puts the answer into its loop as
 * if it were a completion, so nothing of the asker is ever touched by two threads at once.
 *
 * The threads run at a lower priority than the shards, which are pinned to the same cores: a storm of logins slows
 * logins down, not mail.
 */
#include "core/worker.h"

#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORKER_NICE 5

struct worker_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list waiting; /* of struct worker_job */
    unsigned waiting_count;
    unsigned queue_max;
    unsigned threads_count;
    bool stopping;
    bool joined;
    pthread_t threads[WORKER_THREADS_MAX];
};

static void job_told(struct shard_note *note)
{
    struct worker_job *job = CONTAINER_OF(note, struct worker_job, note);
    job->submitted = false;
    job->done(job);
}

/* The shard outlives the pool's jobs: it is not asked to end before the pool has stopped. */
static void give_back(struct worker_job *job)
{
    job->note.run = job_told;
    CHECK(shard_tell(job->shard, &job->note) == 0);
}

static struct worker_job *take(struct worker_pool *pool)
{
    struct list *node = list_pop_front(&pool->waiting);
    if (node == NULL) {
        return NULL;
    }
    pool->waiting_count--;
    return LIST_OWNER(node, struct worker_job, node);
}

/* A job opens nothing and binds nothing. Capabilities belong to threads, so each drops its own. */
static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    syscall(SYS_capset, &header, none);
}

static void *worker_main(void *argument)
{
    struct worker_pool *pool = argument;
    drop_capabilities();
    pthread_setname_np(pthread_self(), "worker");
    setpriority(PRIO_PROCESS, (id_t)gettid(), WORKER_NICE); /* of this thread, on Linux */
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct worker_job *job = take(pool);
        if (job != NULL) {
            job->cancelled = pool->stopping;
            pthread_mutex_unlock(&pool->lock);
            if (!job->cancelled) {
                job->run(job);
            }
            give_back(job);
            pthread_mutex_lock(&pool->lock);
        } else if (pool->stopping) {
            break;
        } else {
            pthread_cond_wait(&pool->work, &pool->lock);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int worker_pool_new(unsigned threads, unsigned queue_max, struct worker_pool **ret_pool)
{
    CHECK(threads >= 1 && threads <= WORKER_THREADS_MAX && queue_max >= 1 && queue_max <= WORKER_QUEUE_MAX);
    struct worker_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        return -ENOMEM;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    list_init(&pool->waiting);
    pool->queue_max = queue_max;
    int error = 0;
    while (pool->threads_count < threads && error == 0) {
        error = pthread_create(&pool->threads[pool->threads_count], NULL, worker_main, pool);
        pool->threads_count += error == 0;
    }
    if (error != 0) {
        worker_pool_stop(pool);
        worker_pool_delete(pool);
        return -error;
    }
    *ret_pool = pool;
    return 0;
}

void worker_pool_stop(struct worker_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->threads_count && !pool->joined; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pool->joined = true;
}

void worker_pool_delete(struct worker_pool *pool)
{
    CHECK(pool->joined && list_empty(&pool->waiting));
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work);
    free(pool);
}

int worker_submit(struct worker_pool *pool, struct shard *shard, struct worker_job *job)
{
    CHECK(!job->submitted && job->run != NULL && job->done != NULL);
    pthread_mutex_lock(&pool->lock);
    int error = pool->stopping ? -ESHUTDOWN : pool->waiting_count >= pool->queue_max ? -EBUSY : 0;
    if (error == 0) {
        job->shard = shard;
        job->cancelled = false;
        job->submitted = true;
        list_push_back(&pool->waiting, &job->node);
        pool->waiting_count++;
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    return error;
}

unsigned worker_waiting(struct worker_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    unsigned waiting = pool->waiting_count;
    pthread_mutex_unlock(&pool->lock);
    return waiting;
}
