/* Two buffers: one is filled with lines while the other one is being written. One operation is in flight at a time;
 * what it was (`step`) says what comes next: a short write is followed by its rest. Everything else is decided in one
 * place, at the end of the turn (continue_work).
 *
 * A rotation calls the full file .0 and opens a new one, so that lines are held up by two operations, however many old
 * files there are. Those move up one by one between the writes, from the first missing number down: a crash leaves at
 * most one number free, and the next start goes on from there.
 *
 * What happens in one turn may be far more than what a disk takes meanwhile: an operator who deletes all of the queue
 * writes ten thousand lines with each commit. So a buffer grows with what comes, to a limit, and shrinks when it is
 * written.
 *
 * What has been written is sent to the disk as it comes, in small pieces. Otherwise a sync would find the lines of some
 * seconds, tens of megabytes, and the syncs of the spool, which mail waits for, would queue behind them.
 *
 * A line can be torn by a full disk or a crash. The next write then begins with a line feed, for which every buffer
 * keeps its first byte free, so that only the torn line is unreadable.
 */
#include "core/event_log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "core/log.h"

#define BUFFER_BYTES (256u << 10)
#define BUFFER_BYTES_MAX (16u << 20) /* for a moment; more is lost */
#define FLUSH_BYTES (64u << 10)      /* so much is written at once, */
#define FLUSH_MS 100                 /* or what there is after so long */
#define BEHIND_BYTES (256u << 10)    /* so much is sent to the disk at once, between two syncs */
#define PAGE_BYTES 4096u
#define FAILED_ROTATION_MS 60000
#define COMPLAIN_MS 60000 /* log at most one line per this time */
#define NAME_BYTES 48

static_assert(FLUSH_BYTES + EVENT_LINE_BYTES <= BUFFER_BYTES, "a flush is due before a buffer is full");

#define CURRENT (-1) /* number of the file without one */

enum step { IDLE, WRITE, BEHIND, SYNC, RENAME, OPEN, SHIFT };

struct half {
    char *data; /* lines from data[1] on */
    size_t capacity;
    size_t length;
    uint64_t lines;
};

struct event_log {
    struct shard *shard;
    struct event_log_settings settings;
    char *path;
    int directory;
    int fd;
    struct half halves[2];
    unsigned filling;
    bool flush_due;
    bool sync_due;
    bool torn; /* the file does not end with a line feed */
    bool unsynced;
    struct op op;
    enum step step;
    struct iovec piece; /* what is still to be written of the other half */
    uint64_t file_bytes;
    uint64_t behind_bytes;    /* of the file, were sent to the disk, or are being */
    uint64_t rotate_after_ms; /* not before: the last try failed */
    uint64_t complain_after_ms;
    int files;    /* .1 to .files exist */
    int shifting; /* the next one to move up; CURRENT: none */
    char from[NAME_BYTES];
    char to[NAME_BYTES];
    struct timer flush_timer;
    struct timer sync_timer;
    struct shard_hook hook;
};

static void count_lost(const struct event_log *log, uint64_t lines)
{
    if (log->shard->metrics != NULL) {
        metric_add(&log->shard->metrics->events_lost, lines);
    }
}

static void count_written(const struct event_log *log, uint64_t lines)
{
    if (log->shard->metrics != NULL) {
        metric_add(&log->shard->metrics->events_written, lines);
    }
}

static void complain(struct event_log *log, const char *what, const char *why)
{
    if (log->shard->now_ms >= log->complain_after_ms) {
        log->complain_after_ms = log->shard->now_ms + COMPLAIN_MS;
        log_line(LOG_WARNING, what, "shard=%u path=%s error=\"%s\"", log->shard->index, log->path, why);
    }
}

static void name_of(const struct event_log *log, int number, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, number == CURRENT ? "events-%u.jsonl" : "events-%u.jsonl.%d", log->shard->index, number);
}

/* --- lines ----------------------------------------------------------------------------------------------------------
 */

bool event_log_wants(const struct shard *shard, enum event_type type)
{
    return shard->events != NULL && (shard->events->settings.types >> type & 1) != 0;
}

static bool resize(struct half *half, size_t capacity)
{
    char *data = capacity <= BUFFER_BYTES_MAX ? realloc(half->data, capacity) : NULL;
    if (data != NULL) {
        half->data = data;
        half->capacity = capacity;
    }
    return data != NULL;
}

/* Appends the line to the buffer that is not being written. */
static bool append(struct half *half, const struct event *event, const struct shard *shard)
{
    for (;;) {
        struct buffer out = {.data = half->data, .length = half->length + 1, .capacity = half->capacity};
        if (event_format(&out, event, shard->index, shard->wall_ms)) {
            half->length = out.length - 1;
            half->lines++;
            return true;
        }
        if (!resize(half, 2 * half->capacity)) {
            return false;
        }
    }
}

void event_log_write(struct shard *shard, const struct event *event)
{
    if (!event_log_wants(shard, event->type)) {
        return;
    }
    struct event_log *log = shard->events;
    struct half *half = &log->halves[log->filling];
    if (half->length == 0) {
        shard_arm(shard, &log->flush_timer, FLUSH_MS);
    }
    if (!append(half, event, shard)) {
        count_lost(log, 1);
        complain(log, "events are lost", "more of them than the disk takes");
    }
}

/* --- the file -------------------------------------------------------------------------------------------------------
 */

static void write_piece(struct event_log *log)
{
    log->step = WRITE;
    ring_writev(log->shard->ring, &log->op, log->fd, &log->piece, 1, log->file_bytes, false);
}

static void begin_write(struct event_log *log)
{
    const struct half *half = &log->halves[log->filling];
    unsigned skip = log->torn ? 0 : 1;
    half->data[0] = '\n';
    log->piece = (struct iovec){.iov_base = half->data + skip, .iov_len = half->length + 1 - skip};
    log->filling = !log->filling;
    log->flush_due = false;
    shard_disarm(log->shard, &log->flush_timer);
    write_piece(log);
}

/* The other half is written, or its rest is given up. */
static void end_write(struct event_log *log)
{
    struct half *half = &log->halves[!log->filling];
    uint64_t lost = 0;
    for (size_t i = 0; i < log->piece.iov_len; i++) {
        const char *rest = log->piece.iov_base;
        lost += rest[i] == '\n' && rest + i != half->data; /* the one in front is no line's */
    }
    count_lost(log, lost);
    count_written(log, half->lines - lost);
    half->length = 0;
    half->lines = 0;
    if (half->capacity > BUFFER_BYTES) {
        resize(half, BUFFER_BYTES);
    }
    if (!log->unsynced && log->settings.fsync_interval_ms != 0) {
        shard_arm(log->shard, &log->sync_timer, log->settings.fsync_interval_ms);
    }
    log->unsynced = true;
}

static void written(struct event_log *log, int result)
{
    if (result > 0) {
        size_t length = (size_t)result;
        char *data = log->piece.iov_base;
        log->torn = data[length - 1] != '\n';
        log->piece = (struct iovec){.iov_base = data + length, .iov_len = log->piece.iov_len - length};
        log->file_bytes += length;
        if (log->piece.iov_len != 0) {
            write_piece(log);
            return;
        }
    } else {
        complain(log, "events are lost", strerror(result < 0 ? -result : ENOSPC));
    }
    end_write(log);
}

static void begin_sync(struct event_log *log)
{
    log->unsynced = false;
    log->sync_due = false;
    shard_disarm(log->shard, &log->sync_timer);
    log->step = SYNC;
    ring_fsync(log->shard->ring, &log->op, log->fd, true);
}

/* All whole pages that have been written: the last one is still being filled. */
static void begin_behind(struct event_log *log)
{
    uint64_t end = log->file_bytes / PAGE_BYTES * PAGE_BYTES;
    uint64_t begin = log->behind_bytes;
    log->behind_bytes = end;
    log->step = BEHIND;
    ring_write_behind(log->shard->ring, &log->op, log->fd, begin, end - begin);
}

/* Renames a file to the next higher number. */
static void rename_up(struct event_log *log, int number, enum step step)
{
    name_of(log, number, log->from);
    name_of(log, number + 1, log->to);
    log->step = step;
    ring_renameat(log->shard->ring, &log->op, log->directory, log->from, log->to);
}

/* The oldest one is overwritten when there are as many as are to be kept. */
static void begin_shift(struct event_log *log)
{
    int keep = (int)log->settings.keep_files;
    log->shifting = log->files < keep ? log->files : keep - 1;
}

static void fail_rotation(struct event_log *log, int error)
{
    complain(log, "event log cannot be rotated", strerror(error));
    log->rotate_after_ms = log->shard->now_ms + FAILED_ROTATION_MS;
}

static void renamed(struct event_log *log, int result)
{
    if (result < 0 && result != -ENOENT) {
        fail_rotation(log, -result);
    } else {
        log->step = OPEN;
        ring_openat(log->shard->ring, &log->op, log->directory, log->from, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                    0640);
    }
}

static void opened(struct event_log *log, int result)
{
    if (result < 0) { /* the renamed file goes on growing */
        fail_rotation(log, -result);
        return;
    }
    close(log->fd);
    log->fd = result;
    log->file_bytes = 0;
    log->behind_bytes = 0;
    log->torn = false;
    begin_shift(log);
}

/* A file that is missing was taken by the operator. After an error the current file grows until this one could move. */
static void shifted(struct event_log *log, int result)
{
    if (result < 0 && result != -ENOENT) {
        fail_rotation(log, -result);
    } else if (log->shifting-- == 0 && log->files < (int)log->settings.keep_files) {
        log->files++;
    }
}

static void step_done(struct op *op, int result, uint32_t flags)
{
    struct event_log *log = CONTAINER_OF(op, struct event_log, op);
    enum step step = log->step;
    (void)flags;
    log->step = IDLE;
    switch (step) {
    case WRITE: written(log, result); break;
    case RENAME: renamed(log, result); break;
    case OPEN: opened(log, result); break;
    case SHIFT: shifted(log, result); break;
    case BEHIND: break; /* a sync will say so when it cannot be written */
    case SYNC:
        if (result < 0) {
            complain(log, "event log cannot be synced", strerror(-result));
        }
        break;
    case IDLE: CHECK(step != IDLE);
    }
}

/* Starts what is due, if nothing is in flight. */
static void continue_work(struct event_log *log)
{
    const struct half *half = &log->halves[log->filling];
    bool may_rotate = log->shard->now_ms >= log->rotate_after_ms;
    bool full = log->file_bytes >= log->settings.rotate_bytes && may_rotate && log->shifting == CURRENT;
    if (log->step != IDLE) {
        return;
    }
    if (log->unsynced && (log->sync_due || (full && log->settings.fsync_interval_ms != 0))) {
        begin_sync(log);
    } else if (full) {
        log->unsynced = false;
        rename_up(log, CURRENT, RENAME);
    } else if (log->settings.fsync_interval_ms != 0 && log->file_bytes - log->behind_bytes >= BEHIND_BYTES) {
        begin_behind(log);
    } else if (half->length >= FLUSH_BYTES || (half->length != 0 && log->flush_due)) {
        begin_write(log);
    } else if (log->shifting != CURRENT && may_rotate) {
        rename_up(log, log->shifting, SHIFT);
    }
}

static void run_hook(struct shard_hook *hook)
{
    continue_work(CONTAINER_OF(hook, struct event_log, hook));
}

static void flush_fired(struct timer *timer)
{
    CONTAINER_OF(timer, struct event_log, flush_timer)->flush_due = true;
}

static void sync_fired(struct timer *timer)
{
    CONTAINER_OF(timer, struct event_log, sync_timer)->sync_due = true;
}

/* --- opening and closing --------------------------------------------------------------------------------------------
 */

static int make_directories(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755); /* whether it is there now shows below */
        *slash = '/';
    }
    return mkdir(path, 0750) == 0 || errno == EEXIST ? 0 : -errno;
}

static bool exists(const struct event_log *log, int number)
{
    char name[NAME_BYTES];
    name_of(log, number, name);
    return faccessat(log->directory, name, F_OK, 0) == 0;
}

/* How many rotated files there are without a gap, and whether a rotation was cut short. */
static void find_files(struct event_log *log)
{
    while (log->files < (int)log->settings.keep_files && exists(log, log->files + 1)) {
        log->files++;
    }
    if (exists(log, 0)) {
        begin_shift(log);
    }
}

/* Opens the directory and the file; finds out where the file ends, and how. */
static int open_file(struct event_log *log)
{
    struct stat status;
    char name[NAME_BYTES];
    char last = '\n';
    int error = make_directories(log->path);
    if (error != 0) {
        return error;
    }
    log->directory = open(log->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->directory < 0) {
        return -errno;
    }
    name_of(log, CURRENT, name);
    log->fd = openat(log->directory, name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (log->fd < 0 || fstat(log->fd, &status) != 0) {
        return -errno;
    }
    log->file_bytes = (uint64_t)status.st_size;
    log->behind_bytes = log->file_bytes / PAGE_BYTES * PAGE_BYTES;
    log->torn = status.st_size != 0 && pread(log->fd, &last, 1, status.st_size - 1) == 1 && last != '\n';
    return 0;
}

static void free_log(struct event_log *log)
{
    if (log->fd >= 0) {
        close(log->fd);
    }
    if (log->directory >= 0) {
        close(log->directory);
    }
    free(log->halves[0].data);
    free(log->halves[1].data);
    free(log->path);
    free(log);
}

int event_log_new(struct shard *shard, const struct event_log_settings *settings, struct event_log **ret_log,
                  char *reason, size_t reason_size)
{
    struct event_log *log = calloc(1, sizeof *log);
    CHECK(log != NULL);
    log->shard = shard;
    log->directory = -1;
    log->fd = -1;
    log->shifting = CURRENT;
    log->op.done = step_done;
    log->path = strdup(settings->path);
    CHECK(log->path != NULL && resize(&log->halves[0], BUFFER_BYTES) && resize(&log->halves[1], BUFFER_BYTES));
    int error = open_file(log);
    if (error != 0) {
        snprintf(reason, reason_size, "event log %s: %s", settings->path, strerror(-error));
        free_log(log);
        return error;
    }
    event_log_change(log, settings);
    find_files(log);
    wheel_timer_init(&log->flush_timer, flush_fired);
    wheel_timer_init(&log->sync_timer, sync_fired);
    shard_add_hook(shard, &log->hook, run_hook);
    shard->events = log;
    *ret_log = log;
    return 0;
}

void event_log_change(struct event_log *log, const struct event_log_settings *settings)
{
    CHECK(settings->keep_files >= 1 && settings->rotate_bytes != 0);
    log->settings = *settings;
    log->settings.path = log->path;
}

void event_log_delete(struct event_log *log)
{
    struct half *half = NULL;
    shard_disarm(log->shard, &log->flush_timer);
    log->settings.rotate_bytes = UINT64_MAX;
    do {
        while (log->step != IDLE) {
            CHECK(ring_enter(log->shard->ring, UINT64_MAX) == 0);
            ring_run(log->shard->ring);
        }
        half = &log->halves[log->filling];
        log->flush_due = true;
        continue_work(log);
    } while (log->step != IDLE || half->length != 0 ||
             (log->shifting != CURRENT && log->shard->now_ms >= log->rotate_after_ms));
    shard_disarm(log->shard, &log->sync_timer);
    if (log->settings.fsync_interval_ms != 0) {
        fdatasync(log->fd);
    }
    shard_remove_hook(&log->hook);
    log->shard->events = NULL;
    free_log(log);
}
