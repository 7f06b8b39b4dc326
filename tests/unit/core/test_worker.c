#include "core/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "unit/core/one_shard.h"

#define SHARDS 3

struct task {
    struct worker_job job;
    struct shard *shard;
    atomic_uint *gate; /* run waits until it is not 0; NULL: no wait */
    unsigned value;
    pthread_t ran_on;
    unsigned runs;
    unsigned ends; /* touched by the shard only */
    bool was_cancelled;
};

static void run_task(struct worker_job *job)
{
    struct task *task = CONTAINER_OF(job, struct task, job);
    while (task->gate != NULL && atomic_load(task->gate) == 0) {
        usleep(500);
    }
    task->ran_on = pthread_self();
    task->value *= 2;
    task->runs++;
}

static pthread_t shard_threads[SHARDS];
static unsigned ended[SHARDS]; /* each touched by its shard only */

static void end_task(struct worker_job *job)
{
    struct task *task = CONTAINER_OF(job, struct task, job);
    assert_true(pthread_equal(pthread_self(), shard_threads[task->shard->index]));
    assert_false(job->submitted);
    task->was_cancelled = job->cancelled;
    task->ends++;
    ended[task->shard->index]++;
}

struct batch {
    struct worker_pool *pool;
    struct task *tasks;
    unsigned count;
    unsigned accepted;
    int error; /* of the first that was refused */
};

static void submit_all(struct shard *shard, void *context)
{
    struct batch *batch = context;
    shard_threads[shard->index] = pthread_self();
    for (unsigned i = 0; i < batch->count; i++) {
        struct task *task = &batch->tasks[i];
        task->shard = shard;
        task->job.run = run_task;
        task->job.done = end_task;
        unsigned before = task->ends;
        int error = worker_submit(batch->pool, shard, &task->job);
        assert_int_equal(task->ends, before); /* never inside the call */
        batch->accepted += error == 0;
        batch->error = batch->error == 0 ? error : batch->error;
    }
}

static bool has_ended(struct shard *shard, void *context)
{
    const unsigned *count = context;
    return ended[shard->index] >= *count;
}

static struct worker_pool *pool_of(unsigned threads, unsigned queue_max)
{
    struct worker_pool *pool = NULL;
    assert_int_equal(worker_pool_new(threads, queue_max, &pool), 0);
    memset(ended, 0, sizeof ended);
    return pool;
}

static void test_jobs_of_all_shards(void **state)
{
    enum { EACH = 500 };
    static struct task tasks[SHARDS][EACH];
    (void)state;
    struct shard_group *group = shards_start(SHARDS, 8, 512);
    struct worker_pool *pool = pool_of(4, EACH * SHARDS);
    for (unsigned i = 0; i < SHARDS; i++) {
        for (unsigned j = 0; j < EACH; j++) {
            tasks[i][j] = (struct task){.value = j};
        }
        struct batch batch = {.pool = pool, .tasks = tasks[i], .count = EACH};
        assert_int_equal(shard_call(group, i, submit_all, &batch), 0);
        assert_int_equal(batch.accepted, EACH);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        unsigned count = EACH;
        assert_true(comes_true_on(group, i, has_ended, &count));
    }
    worker_pool_stop(pool);
    shards_stop(group);
    worker_pool_delete(pool);
    for (unsigned i = 0; i < SHARDS; i++) {
        for (unsigned j = 0; j < EACH; j++) {
            assert_int_equal(tasks[i][j].value, 2 * j);
            assert_int_equal(tasks[i][j].runs, 1);
            assert_int_equal(tasks[i][j].ends, 1);
            assert_false(tasks[i][j].was_cancelled);
            assert_false(pthread_equal(tasks[i][j].ran_on, shard_threads[i]));
        }
    }
}

static void test_a_full_queue_refuses(void **state)
{
    static struct task tasks[20];
    atomic_uint gate = 0;
    (void)state;
    struct shard_group *group = shards_start(1, 8, 512);
    struct worker_pool *pool = pool_of(1, 5);
    memset(tasks, 0, sizeof tasks);
    for (unsigned i = 0; i < 20; i++) {
        tasks[i].gate = &gate;
    }
    struct batch batch = {.pool = pool, .tasks = tasks, .count = 20};
    on_shard(group, submit_all, &batch);
    assert_int_equal(batch.error, -EBUSY);
    assert_in_range(batch.accepted, 5, 6); /* the thread may have taken one already */
    assert_in_range(worker_waiting(pool), 4, 5);
    gate = 1;
    assert_true(comes_true(group, has_ended, &batch.accepted));
    /* And then there is room again. */
    struct batch again = {.pool = pool, .tasks = &tasks[10], .count = 1};
    on_shard(group, submit_all, &again);
    assert_int_equal(again.accepted, 1);
    worker_pool_stop(pool);
    shards_stop(group);
    worker_pool_delete(pool);
}

static void *stop_pool(void *argument)
{
    worker_pool_stop(argument);
    return NULL;
}

/* Those that run end, those that wait are cancelled, all come back; later ones are refused. */
static void test_stop(void **state)
{
    enum { COUNT = 10 };
    static struct task tasks[COUNT + 1];
    atomic_uint gate = 0;
    pthread_t stopper;
    (void)state;
    struct shard_group *group = shards_start(1, 8, 512);
    struct worker_pool *pool = pool_of(2, 100);
    memset(tasks, 0, sizeof tasks);
    for (unsigned i = 0; i < COUNT; i++) {
        tasks[i].gate = &gate;
    }
    struct batch batch = {.pool = pool, .tasks = tasks, .count = COUNT};
    on_shard(group, submit_all, &batch);
    while (worker_waiting(pool) > COUNT - 2) {
        usleep(500);
    }
    assert_int_equal(pthread_create(&stopper, NULL, stop_pool, pool), 0);
    usleep(20000);
    gate = 1;
    pthread_join(stopper, NULL);
    struct batch late = {.pool = pool, .tasks = &tasks[COUNT], .count = 1};
    on_shard(group, submit_all, &late);
    assert_int_equal(late.error, -ESHUTDOWN);
    shards_stop(group);
    worker_pool_delete(pool);
    unsigned cancelled = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(tasks[i].ends, 1);
        assert_int_equal(tasks[i].runs, !tasks[i].was_cancelled);
        cancelled += tasks[i].was_cancelled;
    }
    assert_int_equal(cancelled, COUNT - 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs_of_all_shards),
        cmocka_unit_test(test_a_full_queue_refuses),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
