#include "core/event_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"

/* A shard with an event log in a directory of its own. */
struct bench {
    char path[PATH_MAX];
    struct event_log_settings settings;
    struct shard_group *group;
    unsigned first; /* number of the next event */
    unsigned count; /* how many to write */
};

static int start_shard(struct shard *shard, void *context)
{
    struct bench *bench = context;
    struct event_log *log = NULL;
    char reason[256];
    return event_log_new(shard, &bench->settings, &log, reason, sizeof reason);
}

static void stop_shard(struct shard *shard, void *context)
{
    (void)context;
    event_log_delete(shard->events);
}

static void start(struct bench *bench)
{
    char reason[256] = "";
    struct shard_group_settings settings = {
        .shards = 1,
        .ring = {.entries = 64, .receive_buffers = 64, .receive_buffer_bytes = 1024},
        .start = start_shard,
        .stop = stop_shard,
        .context = bench,
    };
    bench->settings.path = bench->path;
    if (shard_group_start(&settings, &bench->group, reason, sizeof reason) != 0) {
        fail_msg("%s", reason);
    }
}

static void end_shard(struct shard *shard, void *context)
{
    (void)context;
    shard->stopping = true;
}

static void stop(struct bench *bench)
{
    shard_call(bench->group, 0, end_shard, NULL);
    shard_group_join(bench->group);
    bench->group = NULL;
}

static void write_events(struct shard *shard, void *context)
{
    struct bench *bench = context;
    for (unsigned i = 0; i < bench->count; i++) {
        event_log_write(shard,
                        &(struct event){.type = EVENT_DELIVERY, .attempts = bench->first++, .arrival_ms = UINT64_MAX});
    }
}

static void call_write(struct bench *bench, unsigned count)
{
    bench->count = count;
    shard_call(bench->group, 0, write_events, bench);
}

static uint64_t lost(struct bench *bench)
{
    return atomic_load(&shard_group_member(bench->group, 0)->metrics->events_lost);
}

static uint64_t written(struct bench *bench)
{
    return atomic_load(&shard_group_member(bench->group, 0)->metrics->events_written);
}

/* Waits until that many events are either written or lost. */
static void settle(struct bench *bench, uint64_t events)
{
    for (unsigned i = 0; i < 500 && lost(bench) + written(bench) < events; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    assert_int_equal(lost(bench) + written(bench), events);
}

/* The numbers in a file, which must rise by one from *first on; unreadable lines are counted. Leaves what is next
 * there. */
static void read_numbers(struct bench *bench, const char *name, unsigned *first, unsigned *ret_unreadable)
{
    char path[PATH_MAX + 64];
    char line[4096];
    *ret_unreadable = 0;
    snprintf(path, sizeof path, "%s/%s", bench->path, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        const char *number = strstr(line, "\"attempts\":");
        if (number == NULL || line[0] != '{' || strstr(line, "}\n") == NULL) {
            (*ret_unreadable)++;
            continue;
        }
        assert_int_equal(strtoul(number + 11, NULL, 10), *first);
        (*first)++;
    }
    fclose(file);
}

static int setup(void **state)
{
    static struct bench bench;
    const char *parent = getenv("TMPDIR");
    bench = (struct bench){
        .settings = {.rotate_bytes = 1u << 30, .keep_files = 3, .types = ~0u, .fsync_interval_ms = 50}};
    snprintf(bench.path, sizeof bench.path, "%s/test_event_log.XXXXXX", parent != NULL ? parent : "/tmp");
    *state = &bench;
    return mkdtemp(bench.path) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    char path[PATH_MAX + 300];
    DIR *directory = opendir(bench->path);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", bench->path, entry->d_name);
        unlink(path);
    }
    closedir(directory);
    return rmdir(bench->path);
}

static void test_a_single_event_comes_soon(void **state)
{
    struct bench *bench = *state;
    unsigned first = 0;
    unsigned unreadable = 0;
    start(bench);
    call_write(bench, 1);
    settle(bench, 1);
    read_numbers(bench, "events-0.jsonl", &first, &unreadable);
    assert_int_equal(first, 1);
    assert_int_equal(unreadable, 0);
    stop(bench);
}

static void count_entries(struct shard *shard, void *context)
{
    *(uint64_t *)context = ring_counters(shard->ring)->submitted;
}

/* Ring entries for a megabyte of lines, written in twelve pieces, and no sync. */
static uint64_t entries_of_a_megabyte(struct bench *bench, uint64_t fsync_interval_ms)
{
    uint64_t entries = 0;
    bench->settings.fsync_interval_ms = fsync_interval_ms;
    start(bench);
    for (unsigned i = 1; i <= 12; i++) {
        call_write(bench, 500);
        settle(bench, i * 500);
    }
    shard_call(bench->group, 0, count_entries, &entries);
    stop(bench);
    return entries;
}

/* What is written is on its way to the disk before it is synced, unless that is left to the kernel. */
static void test_written_behind(void **state)
{
    struct bench *bench = *state;
    uint64_t without = entries_of_a_megabyte(bench, 0);
    uint64_t with = entries_of_a_megabyte(bench, 3600000);
    assert_in_range(with - without, 2, 4);
}

static void test_stop_writes_the_rest(void **state)
{
    struct bench *bench = *state;
    unsigned first = 0;
    unsigned unreadable = 0;
    start(bench);
    call_write(bench, 100);
    stop(bench);
    start(bench); /* and a new start goes on behind it */
    call_write(bench, 50);
    stop(bench);
    read_numbers(bench, "events-0.jsonl", &first, &unreadable);
    assert_int_equal(first, 150);
    assert_int_equal(unreadable, 0);
}

static void test_only_wanted_types(void **state)
{
    struct bench *bench = *state;
    bench->settings.types = ~(1u << EVENT_DELIVERY);
    start(bench);
    call_write(bench, 3);
    assert_false(event_log_wants(shard_group_member(bench->group, 0), EVENT_DELIVERY));
    assert_true(event_log_wants(shard_group_member(bench->group, 0), EVENT_BOUNCE));
    stop(bench);
    unsigned first = 0;
    unsigned unreadable = 0;
    read_numbers(bench, "events-0.jsonl", &first, &unreadable);
    assert_int_equal(first, 0);
}

static void test_rotation_loses_nothing_and_keeps_so_many(void **state)
{
    struct bench *bench = *state;
    unsigned unreadable = 0;
    struct stat status;
    char path[PATH_MAX + 64];
    bench->settings.rotate_bytes = 100000;
    start(bench);
    for (unsigned i = 1; i <= 60; i++) {
        call_write(bench, 50);
        settle(bench, 50 * i);
    }
    stop(bench);
    /* Where the oldest that was kept begins is not fixed; from there on nothing is missing. */
    snprintf(path, sizeof path, "%s/events-0.jsonl.3", bench->path);
    FILE *file = fopen(path, "r");
    char line[4096];
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    unsigned first = (unsigned)strtoul(strstr(line, "\"attempts\":") + 11, NULL, 10);
    assert_true(first > 0);
    static const char *const names[] = {"events-0.jsonl.3", "events-0.jsonl.2", "events-0.jsonl.1", "events-0.jsonl"};
    for (unsigned i = 0; i < 4; i++) {
        read_numbers(bench, names[i], &first, &unreadable);
        assert_int_equal(unreadable, 0);
        snprintf(path, sizeof path, "%s/%s", bench->path, names[i]);
        assert_int_equal(stat(path, &status), 0);
        assert_true(i == 3 || (status.st_size >= 100000 && status.st_size < 200000));
    }
    assert_int_equal(first, 3000);
    snprintf(path, sizeof path, "%s/events-0.jsonl.4", bench->path);
    assert_int_equal(access(path, F_OK), -1);
}

static void make_file(struct bench *bench, const char *name)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", bench->path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

/* A thousand files that move up while lines are written: each line is in one of them, in order. */
static void test_rotation_of_many_files_loses_nothing(void **state)
{
    struct bench *bench = *state;
    char name[64];
    unsigned first = 0;
    unsigned unreadable = 0;
    bench->settings.rotate_bytes = 100000;
    bench->settings.keep_files = 1000;
    for (unsigned i = 1; i <= 1000; i++) {
        snprintf(name, sizeof name, "events-0.jsonl.%u", i);
        make_file(bench, name);
    }
    start(bench);
    for (unsigned i = 1; i <= 20; i++) {
        call_write(bench, 250);
        settle(bench, 250 * i);
    }
    stop(bench);
    for (int i = 100; i >= 1; i--) {
        snprintf(name, sizeof name, "events-0.jsonl.%d", i);
        read_numbers(bench, name, &first, &unreadable);
    }
    read_numbers(bench, "events-0.jsonl", &first, &unreadable);
    assert_int_equal(unreadable, 0);
    assert_int_equal(first, 5000);
}

/* A crash in the middle of a rotation: one number is free. What is older stays. */
static void test_rotation_goes_on_after_a_crash(void **state)
{
    struct bench *bench = *state;
    static const char *const there[] = {"events-0.jsonl.0", "events-0.jsonl.1", "events-0.jsonl.3"};
    static const char *const then[] = {"events-0.jsonl.1", "events-0.jsonl.2", "events-0.jsonl.3"};
    char path[PATH_MAX + 64];
    struct stat status;
    ino_t inodes[3];
    for (unsigned i = 0; i < 3; i++) {
        make_file(bench, there[i]);
        snprintf(path, sizeof path, "%s/%s", bench->path, there[i]);
        assert_int_equal(stat(path, &status), 0);
        inodes[i] = status.st_ino;
    }
    start(bench);
    stop(bench);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", bench->path, then[i]);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_ino, inodes[i]);
    }
    snprintf(path, sizeof path, "%s/events-0.jsonl.0", bench->path);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_full_disk_loses_and_counts(void **state)
{
    struct bench *bench = *state;
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/events-0.jsonl", bench->path);
    assert_int_equal(symlink("/dev/full", path), 0);
    start(bench);
    call_write(bench, 10);
    settle(bench, 10);
    assert_int_equal(lost(bench), 10);
    stop(bench);
}

static void test_more_than_the_buffers_hold_is_lost_and_counted(void **state)
{
    struct bench *bench = *state;
    unsigned first = 0;
    unsigned unreadable = 0;
    int said[2];
    char text[4096] = "";
    assert_int_equal(pipe2(said, O_NONBLOCK), 0);
    int real_stderr = dup(STDERR_FILENO);
    log_set_level(LOG_WARNING);
    start(bench);
    dup2(said[1], STDERR_FILENO);
    call_write(bench, 200000); /* in one turn */
    settle(bench, 200000);
    dup2(real_stderr, STDERR_FILENO);
    log_set_level(LOG_ERROR);
    assert_true(read(said[0], text, sizeof text - 1) > 0);
    const char *line = strstr(text, "msg=\"events are lost\"");
    assert_non_null(line);
    assert_non_null(strstr(line, "error=\"more of them than the disk takes\""));
    assert_null(strstr(line + 5, "msg=\"events are lost\"")); /* once a minute */
    close(real_stderr);
    close(said[0]);
    close(said[1]);
    assert_true(lost(bench) > 0 && written(bench) > 500);
    uint64_t kept = written(bench);
    stop(bench);
    read_numbers(bench, "events-0.jsonl", &first, &unreadable);
    assert_int_equal(first, kept);
    assert_int_equal(unreadable, 0);
}

/* As many as one commit ends, when an operator deletes the queue. */
static void test_what_comes_at_once_is_kept(void **state)
{
    struct bench *bench = *state;
    unsigned first = 0;
    unsigned unreadable = 0;
    start(bench);
    for (unsigned i = 1; i <= 3; i++) {
        call_write(bench, 30000);
        settle(bench, 30000 * i);
    }
    assert_int_equal(lost(bench), 0);
    stop(bench);
    read_numbers(bench, "events-0.jsonl", &first, &unreadable);
    assert_int_equal(first, 90000);
    assert_int_equal(unreadable, 0);
}

/* A limit on the file's size stands for a disk that gets full in the middle of a line. */
static void test_torn_line_spoils_no_other(void **state)
{
    struct bench *bench = *state;
    unsigned first = 0;
    unsigned unreadable = 0;
    struct rlimit before;
    char path[PATH_MAX + 64];
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    start(bench);
    struct rlimit small = {.rlim_cur = 1000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    call_write(bench, 10);
    settle(bench, 10);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    unsigned good = (unsigned)written(bench);
    assert_true(good > 0 && good < 10);
    bench->first = good;
    call_write(bench, 5);
    settle(bench, 15);
    stop(bench);
    read_numbers(bench, "events-0.jsonl", &first, &unreadable);
    assert_int_equal(first, good + 5);
    assert_int_equal(unreadable, 1);
    /* The same after a crash: the file ends in half a line when it is opened. */
    snprintf(path, sizeof path, "%s/events-0.jsonl", bench->path);
    FILE *file = fopen(path, "a");
    fputs("{\"half\":", file);
    fclose(file);
    start(bench);
    call_write(bench, 5);
    stop(bench);
    first = 0;
    read_numbers(bench, "events-0.jsonl", &first, &unreadable);
    assert_int_equal(first, good + 10);
    assert_int_equal(unreadable, 2);
}

static void test_directory_that_cannot_be_made(void **state)
{
    struct bench *bench = *state;
    struct event_log *log = NULL;
    struct shard shard = {.index = 0};
    char reason[256] = "";
    struct event_log_settings settings = bench->settings;
    settings.path = "/proc/no-such/events";
    assert_int_equal(event_log_new(&shard, &settings, &log, reason, sizeof reason), -ENOENT);
    assert_string_equal(reason, "event log /proc/no-such/events: No such file or directory");
    assert_null(shard.events);
    event_log_write(&shard, &(struct event){.type = EVENT_DELIVERY}); /* without a log: nothing */
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_single_event_comes_soon, setup, teardown),
        cmocka_unit_test_setup_teardown(test_written_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_writes_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_wanted_types, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_loses_nothing_and_keeps_so_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_of_many_files_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_goes_on_after_a_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_loses_and_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_than_the_buffers_hold_is_lost_and_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_comes_at_once_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn_line_spoils_no_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directory_that_cannot_be_made, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
