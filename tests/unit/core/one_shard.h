/* A group of shards under test. The test's own thread is the peer and the judge: it looks into a shard, and acts in it,
 * by shard_call, so that everything of the shard is touched by its own thread alone. */
#ifndef TEST_ONE_SHARD_H
#define TEST_ONE_SHARD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "core/clock.h"
#include "core/shard.h"
#include "core/stream.h"

#define PATIENCE_MS 10000

static inline int one_shard_start(struct shard *shard, void *context)
{
    (void)context;
    stream_shard_start(shard);
    return 0;
}

static inline void one_shard_stop(struct shard *shard, void *context)
{
    (void)context;
    stream_shard_stop(shard);
}

static inline struct shard_group *shards_start(unsigned shards, unsigned buffers, unsigned buffer_bytes)
{
    struct shard_group_settings settings = {
        .shards = shards,
        .ring = {.entries = 256, .receive_buffers = buffers, .receive_buffer_bytes = buffer_bytes},
        .start = one_shard_start,
        .stop = one_shard_stop,
    };
    struct shard_group *group = NULL;
    char reason[256] = "";
    if (shard_group_start(&settings, &group, reason, sizeof reason) != 0) {
        fail_msg("%s", reason);
    }
    return group;
}

static inline void stop_one(struct shard *shard, void *context)
{
    (void)context;
    shard->stopping = true;
}

static inline void shards_stop(struct shard_group *group)
{
    for (unsigned i = 0; i < shard_group_count(group); i++) {
        assert_int_equal(shard_call(group, i, stop_one, NULL), 0);
    }
    shard_group_join(group);
}

static inline void on_shard(struct shard_group *group, void (*run)(struct shard *shard, void *context), void *context)
{
    assert_int_equal(shard_call(group, 0, run, context), 0);
}

/* Something that is looked at in the shard until it is so. */
struct question {
    bool (*ask)(struct shard *shard, void *context);
    void *context;
    bool answer;
};

static inline void ask_question(struct shard *shard, void *context)
{
    struct question *question = context;
    question->answer = question->ask(shard, question->context);
}

static inline bool comes_true_on(struct shard_group *group, unsigned index,
                                 bool (*ask)(struct shard *shard, void *context), void *context)
{
    struct question question = {.ask = ask, .context = context};
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
    do {
        assert_int_equal(shard_call(group, index, ask_question, &question), 0);
        if (question.answer) {
            return true;
        }
        usleep(1000);
    } while (clock_monotonic_ms() < end_ms);
    return false;
}

static inline bool comes_true(struct shard_group *group, bool (*ask)(struct shard *shard, void *context), void *context)
{
    return comes_true_on(group, 0, ask, context);
}

#endif
