#include "core/shard.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/limits.h"
#include "base/rng.h"
#include "support/loopback.h"
#include "unit/core/one_shard.h"

#define BUFFERS 4
#define BUFFER_BYTES 512

/* --- starting ------------------------------------------------------------------------------------------------- */

static _Atomic unsigned starts;
static _Atomic unsigned stops;

static int start_but_not_the_second(struct shard *shard, void *context)
{
    starts++;
    return shard->index == 1 && context != NULL ? -EACCES : 0;
}

static void count_stop(struct shard *shard, void *context)
{
    (void)shard;
    (void)context;
    stops++;
}

static void test_a_failed_start_names_its_cause_and_leaves_nothing(void **state)
{
    (void)state;
    unsigned before = loopback_descriptors();
    char reason[256] = "";
    struct shard_group *group = NULL;
    struct shard_group_settings settings = {
        .shards = 3,
        .ring = {.entries = 16, .receive_buffers = BUFFERS, .receive_buffer_bytes = BUFFER_BYTES},
        .start = start_but_not_the_second,
        .stop = count_stop,
        .context = &before,
    };
    assert_int_equal(shard_group_start(&settings, &group, reason, sizeof reason), -EACCES);
    assert_string_equal(reason, "shard 1: Permission denied");
    assert_null(group);
    assert_int_equal(starts, 3);
    assert_int_equal(stops, 2); /* those that had started */
    settings.ring.receive_buffers = 3;
    assert_int_equal(shard_group_start(&settings, &group, reason, sizeof reason), -EINVAL);
    assert_non_null(strstr(reason, "receive buffers"));
    assert_int_equal(starts, 3);
    assert_int_equal(loopback_descriptors(), before);
}

/* As many descriptors as the limit leaves: sometimes the ring is refused, sometimes what comes before it. */
static void test_a_start_without_descriptors(void **state)
{
    (void)state;
    unsigned before = loopback_descriptors();
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct shard_group_settings settings = {
        .shards = 2,
        .ring = {.entries = 16, .receive_buffers = BUFFERS, .receive_buffer_bytes = BUFFER_BYTES},
    };
    for (unsigned left = 0; left < 3; left++) {
        int next = dup(0);
        struct rlimit few = {.rlim_cur = (rlim_t)next + left, .rlim_max = old.rlim_max};
        close(next);
        char reason[256] = "";
        struct shard_group *group = NULL;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        int result = shard_group_start(&settings, &group, reason, sizeof reason);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(result, -EMFILE);
        assert_non_null(strstr(reason, "Too many open files"));
        assert_int_equal(loopback_descriptors(), before);
    }
}

static void test_at_least_one_core(void **state)
{
    (void)state;
    assert_in_range(shard_usable_cores(), 1, LIMIT_SHARDS);
}

/* --- mail ----------------------------------------------------------------------------------------------------- */

/* Every shard sends to every shard, itself included, `count` letters: a number that says what else must be in it. */
struct letters {
    struct shard *shard;
    struct shard_hook hook;
    unsigned shards;
    unsigned count;
    unsigned burst; /* letters per turn and peer */
    unsigned sent;
    uint32_t received[LIMIT_SHARDS];
    unsigned wrong;
};

static size_t write_letter(uint32_t number, unsigned from, unsigned char *out)
{
    size_t length = 8 + (number * 37u + from * 11u) % (LIMIT_MAIL_BYTES - 8);
    memset(out, (int)(number + from), length);
    memcpy(out, &number, sizeof number);
    return length;
}

static void letter_came(void *context, unsigned from, const void *payload, size_t length)
{
    struct letters *letters = context;
    unsigned char expected[LIMIT_MAIL_BYTES];
    size_t expected_length = write_letter(letters->received[from]++, from, expected);
    letters->wrong += length != expected_length || memcmp(payload, expected, length) != 0;
}

static void post_letters(struct shard_hook *hook)
{
    struct letters *letters = CONTAINER_OF(hook, struct letters, hook);
    unsigned char letter[LIMIT_MAIL_BYTES];
    for (unsigned i = 0; i < letters->burst && letters->sent < letters->count; i++) {
        size_t length = write_letter(letters->sent++, letters->shard->index, letter);
        for (unsigned to = 0; to < letters->shards; to++) {
            shard_post(letters->shard, to, MAIL_CONTROL, letter, length);
        }
    }
    if (letters->sent == letters->count) {
        shard_remove_hook(hook);
    } else { /* nothing else keeps the loop turning */
        ring_wake(letters->shard->ring, ring_descriptor(letters->shard->ring));
    }
}

static void begin_letters(struct shard *shard, void *context)
{
    struct letters *letters = &((struct letters *)context)[shard->index];
    letters->shard = shard;
    shard_add_hook(shard, &letters->hook, post_letters);
}

static void take_letters(struct shard *shard, void *context)
{
    shard_on_mail(shard, MAIL_CONTROL, letter_came, &((struct letters *)context)[shard->index]);
}

static bool has_all_letters(struct shard *shard, void *context)
{
    const struct letters *letters = &((struct letters *)context)[shard->index];
    for (unsigned from = 0; from < letters->shards; from++) {
        if (letters->received[from] != letters->count) {
            return false;
        }
    }
    return letters->wrong == 0;
}

static void check_letters(unsigned shards, unsigned count, unsigned burst, bool overflows)
{
    static struct letters letters[4];
    struct shard_group *group = shards_start(shards, BUFFERS, BUFFER_BYTES);
    memset(letters, 0, sizeof letters);
    for (unsigned i = 0; i < shards; i++) {
        letters[i] = (struct letters){.shards = shards, .count = count, .burst = burst};
        assert_int_equal(shard_call(group, i, take_letters, letters), 0);
    }
    for (unsigned i = 0; i < shards; i++) {
        assert_int_equal(shard_call(group, i, begin_letters, letters), 0);
    }
    uint64_t deferred = 0;
    for (unsigned i = 0; i < shards; i++) {
        assert_true(comes_true_on(group, i, has_all_letters, letters));
        deferred += atomic_load(&shard_group_member(group, i)->metrics->mail_deferred);
    }
    assert_true(!overflows || deferred > 0);
    shards_stop(group);
}

/* Each writes to its own struct in every turn: on a line that it shared with the next one, both would slow down. */
static void test_shards_share_no_cache_line(void **state)
{
    (void)state;
    struct shard_group *group = shards_start(3, BUFFERS, BUFFER_BYTES);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal((uintptr_t)shard_group_member(group, i) % 128, 0);
    }
    assert_true((char *)shard_group_member(group, 1) - (char *)shard_group_member(group, 0) >=
                (ptrdiff_t)sizeof(struct shard));
    shards_stop(group);
}

static void test_mail_comes_once_and_in_order(void **state)
{
    (void)state;
    for (unsigned shards = 1; shards <= 4; shards++) {
        check_letters(shards, 20000, 10, false);
        check_letters(shards, 5000, 5000, true); /* a mailbox holds about a thousand of them */
    }
}

static _Atomic bool hang;
static _Atomic unsigned tries;

static void hang_on(struct shard *shard, void *context)
{
    (void)shard;
    (void)context;
    while (atomic_load(&hang)) {
    }
}

static void *hang_from_thread(void *group)
{
    assert_int_equal(shard_call(group, 0, hang_on, NULL), 0);
    return NULL;
}

static void count_try(struct shard *shard, void *context)
{
    (void)shard;
    (void)context;
    atomic_fetch_add(&tries, 1);
}

static void test_a_hung_shard_is_given_up(void **state)
{
    (void)state;
    pthread_t thread;
    struct shard_group *group = shards_start(1, BUFFERS, BUFFER_BYTES);
    assert_int_equal(shard_try(group, 0, count_try, NULL, PATIENCE_MS), 0);
    assert_int_equal(tries, 1);
    atomic_store(&hang, true);
    assert_int_equal(pthread_create(&thread, NULL, hang_from_thread, group), 0);
    int result = 0;
    while ((result = shard_try(group, 0, count_try, NULL, 50)) == 0) { /* until the thread's call runs */
    }
    assert_int_equal(result, -ETIMEDOUT);
    unsigned before = atomic_load(&tries);
    atomic_store(&hang, false);
    pthread_join(thread, NULL);
    assert_int_equal(shard_call(group, 0, count_try, NULL), 0);
    assert_int_equal(tries, before + 1); /* what was given up has not run */
    shards_stop(group);
}

static _Atomic unsigned last_words;

static void last_word_came(void *context, unsigned from, const void *payload, size_t length)
{
    (void)context;
    (void)from;
    assert_true(length == 3 && memcmp(payload, "bye", 3) == 0);
    last_words++;
}

static void take_last_words(struct shard *shard, void *context)
{
    shard_on_mail(shard, MAIL_CONTROL, last_word_came, context);
}

static void say_it_and_stop(struct shard *shard, void *context)
{
    (void)context;
    shard_post(shard, 1, MAIL_CONTROL, "bye", 3);
    shard->stopping = true;
}

static bool has_last_word(struct shard *shard, void *context)
{
    (void)shard;
    (void)context;
    return last_words == 1;
}

static void test_mail_of_the_last_turn_is_delivered(void **state)
{
    (void)state;
    struct shard_group *group = shards_start(2, BUFFERS, BUFFER_BYTES);
    assert_int_equal(shard_call(group, 1, take_last_words, NULL), 0);
    assert_int_equal(shard_call(group, 0, say_it_and_stop, NULL), 0);
    assert_true(comes_true_on(group, 1, has_last_word, NULL));
    assert_int_equal(shard_call(group, 1, stop_one, NULL), 0);
    shard_group_join(group);
}

/* Shard 0 throws a ball and waits until it comes back, for a while or not at all. Shard 1 throws it back, and is then
 * busy for a few turns before it sleeps: so the next ball comes while it sleeps, or while it works, or between its last
 * look at its mail and its sleep. One missed wake-up and the game stands still; nobody else touches the two shards. */
struct game {
    struct shard *shard;
    struct shard_hook hook;
    struct rng rng;
    unsigned busy_turns;
    unsigned left;
    _Atomic bool over;
};

static void be_busy(struct game *game, unsigned us_max)
{
    uint64_t end_ns = clock_monotonic_ns() + rng_below(&game->rng, us_max * 1000u + 1);
    while (clock_monotonic_ns() < end_ns) {
    }
}

static void ball_came(void *context, unsigned from, const void *payload, size_t length)
{
    struct game *game = context;
    if (game->left-- == 0) {
        game->over = true;
        return;
    }
    if (from == 1) {
        be_busy(game, 50);
    } else {
        game->busy_turns = 1 + (unsigned)rng_below(&game->rng, 3);
    }
    shard_post(game->shard, from, MAIL_CONTROL, payload, length);
}

static void busy_hook(struct shard_hook *hook)
{
    struct game *game = CONTAINER_OF(hook, struct game, hook);
    if (game->busy_turns != 0) {
        be_busy(game, 20);
        if (--game->busy_turns != 0) {
            ring_wake(game->shard->ring, ring_descriptor(game->shard->ring));
        }
    }
}

static void join_game(struct shard *shard, void *context)
{
    struct game *game = &((struct game *)context)[shard->index];
    game->shard = shard;
    rng_seed(&game->rng, shard->index);
    shard_on_mail(shard, MAIL_CONTROL, ball_came, game);
    shard_add_hook(shard, &game->hook, busy_hook);
}

static void throw_first(struct shard *shard, void *context)
{
    (void)context;
    shard_post(shard, 1, MAIL_CONTROL, "", 0);
}

static void test_a_sleeper_is_always_woken(void **state)
{
    (void)state;
    static struct game game[2];
    game[0] = (struct game){.left = 10000};
    game[1] = (struct game){.left = UINT32_MAX};
    struct shard_group *group = shards_start(2, BUFFERS, BUFFER_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(shard_call(group, i, join_game, game), 0);
    }
    on_shard(group, throw_first, NULL);
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (!game[0].over && clock_monotonic_ms() < end_ms) {
        usleep(1000);
    }
    assert_true(game[0].over);
    shards_stop(group);
}

/* Self-mail that was posted before mail is taken is handled in the same turn, before the hooks. */
struct diary {
    struct shard_hook hook;
    unsigned came;
    unsigned came_before_hook;
    unsigned hooks;
};

static void diary_mail(void *context, unsigned from, const void *payload, size_t length)
{
    (void)from;
    (void)payload;
    (void)length;
    ((struct diary *)context)->came++;
}

static void diary_hook(struct shard_hook *hook)
{
    struct diary *diary = CONTAINER_OF(hook, struct diary, hook);
    diary->came_before_hook = diary->came;
    diary->hooks++;
    shard_remove_hook(hook);
}

static void write_diary(struct shard *shard, void *context)
{
    struct diary *diary = context;
    shard_on_mail(shard, MAIL_CONTROL, diary_mail, diary);
    shard_add_hook(shard, &diary->hook, diary_hook);
    shard_post(shard, shard->index, MAIL_CONTROL, "", 0);
}

static bool diary_is_full(struct shard *shard, void *context)
{
    (void)shard;
    return ((struct diary *)context)->hooks != 0;
}

static void test_mail_to_oneself_and_hooks(void **state)
{
    (void)state;
    struct diary diary = {0};
    struct shard_group *group = shards_start(1, BUFFERS, BUFFER_BYTES);
    on_shard(group, write_diary, &diary);
    assert_true(comes_true(group, diary_is_full, &diary));
    shards_stop(group);
    assert_int_equal(diary.came, 1);
    assert_int_equal(diary.came_before_hook, 1);
    assert_int_equal(diary.hooks, 1);
}

/* --- calls ---------------------------------------------------------------------------------------------------- */

#define CALLERS 4
#define CALLS 1500

struct tally {
    struct shard_group *group;
    uint64_t counts[2]; /* touched by that shard alone */
};

static void count_call(struct shard *shard, void *context)
{
    ((struct tally *)context)->counts[shard->index]++;
}

static void *call_often(void *argument)
{
    struct tally *tally = argument;
    for (unsigned i = 0; i < CALLS; i++) {
        if (shard_call(tally->group, i % 2, count_call, tally) != 0) {
            return tally;
        }
    }
    return NULL;
}

static void test_calls_from_many_threads(void **state)
{
    (void)state;
    struct tally tally = {.group = shards_start(2, BUFFERS, BUFFER_BYTES)};
    pthread_t threads[CALLERS];
    void *failed;
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &tally), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    shards_stop(tally.group);
    assert_int_equal(tally.counts[0], CALLERS * CALLS / 2);
    assert_int_equal(tally.counts[1], CALLERS * CALLS / 2);
}

static void *call_until_the_end(void *argument)
{
    struct tally *tally = argument;
    int result;
    while ((result = shard_call(tally->group, 0, count_call, tally)) == 0) {
    }
    return result == -ESHUTDOWN ? NULL : tally;
}

/* The loop ends while others are calling: every call either ran or says so. */
static void test_calls_across_the_end(void **state)
{
    (void)state;
    struct tally tally = {.group = shards_start(2, BUFFERS, BUFFER_BYTES)};
    pthread_t threads[CALLERS];
    void *failed;
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, call_until_the_end, &tally), 0);
    }
    usleep(20000);
    assert_int_equal(shard_call(tally.group, 0, stop_one, NULL), 0);
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(shard_call(tally.group, 0, count_call, &tally), -ESHUTDOWN);
    assert_int_equal(shard_call(tally.group, 1, stop_one, NULL), 0);
    shard_group_join(tally.group);
}

/* --- timers and rest ------------------------------------------------------------------------------------------ */

struct alarm {
    struct timer timer;
    struct shard *shard;
    uint64_t armed_ms;
    uint64_t fired_ms;
    uint64_t enters; /* while it was waiting */
};

static void alarm_fired(struct timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);
    alarm->fired_ms = clock_monotonic_ms();
    alarm->enters = ring_counters(alarm->shard->ring)->enters - alarm->enters;
}

static void set_alarm(struct shard *shard, void *context)
{
    struct alarm *alarm = context;
    alarm->shard = shard;
    wheel_timer_init(&alarm->timer, alarm_fired);
    alarm->armed_ms = shard->now_ms;
    alarm->enters = ring_counters(shard->ring)->enters;
    shard_arm(shard, &alarm->timer, 250);
}

static uint64_t cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* A timer, and otherwise nothing: the loop wakes up for it, not before (the wheel may need a few stops on the way). */
static void test_an_idle_shard_sleeps_until_its_timer(void **state)
{
    (void)state;
    struct alarm alarm = {0};
    struct shard_group *group = shards_start(2, BUFFERS, BUFFER_BYTES);
    uint64_t before_us = cpu_us();
    on_shard(group, set_alarm, &alarm);
    usleep(600000);
    uint64_t used_us = cpu_us() - before_us;
    shards_stop(group);
    assert_in_range(alarm.fired_ms - alarm.armed_ms, 250, 500);
    assert_in_range(alarm.enters, 1, 8);
    assert_in_range(used_us, 0, 60000);
}

/* --- after a burst ----------------------------------------------------------------------------------------------- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* their allocators keep what is free */

#define BURST_BLOCKS 8192
#define BURST_BYTES 4096

static void burst(struct shard *shard, void *context)
{
    char **blocks = context;
    (void)shard;
    for (unsigned i = 0; i < BURST_BLOCKS; i++) {
        blocks[i] = malloc(BURST_BYTES);
        assert_non_null(blocks[i]);
        memset(blocks[i], (int)i, BURST_BYTES);
    }
}

static void give_back(struct shard *shard, void *context)
{
    char **blocks = context;
    (void)shard;
    for (unsigned i = 0; i < BURST_BLOCKS; i++) {
        free(blocks[i]);
    }
}

static void do_nothing(struct shard *shard, void *context)
{
    (void)shard;
    (void)context;
}

static size_t resident_bytes(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_true(file != NULL && fscanf(file, "%*u %zu", &pages) == 1);
    fclose(file);
    return pages * 4096;
}

/* What a burst has left free goes back to the system, although nobody asks for memory any more. */
static void test_a_shard_that_rests_gives_memory_back(void **state)
{
    (void)state;
    static char *blocks[BURST_BLOCKS];
    struct shard_group *group = shards_start(1, BUFFERS, BUFFER_BYTES);
    assert_true(shard_group_member(group, 0)->has_arena);
    on_shard(group, burst, blocks);
    size_t most = resident_bytes();
    on_shard(group, give_back, blocks);
    for (unsigned i = 0; i < 100; i++) {
        on_shard(group, do_nothing, NULL);
    }
    uint64_t end_ms = clock_monotonic_ms() + 30000;
    size_t wanted = most - BURST_BLOCKS / 4 * 3 * BURST_BYTES;
    while (resident_bytes() > wanted && clock_monotonic_ms() < end_ms) {
        usleep(100000);
    }
    size_t left = resident_bytes();
    shards_stop(group);
    assert_in_range(left, 0, wanted);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failed_start_names_its_cause_and_leaves_nothing),
        cmocka_unit_test(test_a_start_without_descriptors),
        cmocka_unit_test(test_at_least_one_core),
        cmocka_unit_test(test_shards_share_no_cache_line),
        cmocka_unit_test(test_mail_comes_once_and_in_order),
        cmocka_unit_test(test_a_hung_shard_is_given_up),
        cmocka_unit_test(test_mail_of_the_last_turn_is_delivered),
        cmocka_unit_test(test_a_sleeper_is_always_woken),
        cmocka_unit_test(test_mail_to_oneself_and_hooks),
        cmocka_unit_test(test_calls_from_many_threads),
        cmocka_unit_test(test_calls_across_the_end),
        cmocka_unit_test(test_an_idle_shard_sleeps_until_its_timer),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(test_a_shard_that_rests_gives_memory_back),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
