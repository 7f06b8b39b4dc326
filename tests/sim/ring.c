/* core/ring.h without a kernel. Entries wait in the ring until it is entered, as they do in the real one; then each
 * goes to the simulated network (net.c) or disk (disk.c), which complete it when they like. */
#include "core/ring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "sim/disk.h"
#include "sim/fiber.h"
#include "sim/life.h"
#include "sim/net.h"
#include "sim/request.h"
#include "sim/world.h"

#define RINGS_MAX 64
#define READY_MAX 65536

struct completion {
    struct op *op;
    int result;
    uint32_t flags;
};

struct ring {
    unsigned id;
    struct fiber *owner;
    struct request *queued; /* not yet submitted, the last one first */
    struct request *active;
    int wakes[64]; /* rings to wake */
    unsigned wake_count;
    struct op *cancels[4096]; /* asked for, not yet submitted */
    unsigned cancel_count;
    struct completion ready[READY_MAX];
    unsigned ready_first;
    unsigned ready_end;
    char *buffers;
    struct ring_note *notes;
    uint16_t *free_ids;
    unsigned buffer_count;
    unsigned buffer_bytes;
    unsigned buffers_free;
    struct ring_counters counters;
};

static struct ring *rings[RINGS_MAX];
static unsigned ring_count;

int ring_new(const struct ring_settings *settings, struct ring **ret_ring, char *reason, size_t reason_size)
{
    (void)reason;
    (void)reason_size;
    CHECK(ring_count < RINGS_MAX);
    struct ring *ring = world_new(sizeof *ring);
    ring->id = ring_count;
    ring->owner = fiber_current();
    ring->buffer_count = settings->receive_buffers;
    ring->buffer_bytes = settings->receive_buffer_bytes;
    ring->buffers = world_new((size_t)ring->buffer_count * ring->buffer_bytes);
    ring->notes = world_new(ring->buffer_count * sizeof *ring->notes);
    ring->free_ids = world_new(ring->buffer_count * sizeof *ring->free_ids);
    for (unsigned id = 0; id < ring->buffer_count; id++) {
        ring_buffer_release(ring, id);
    }
    rings[ring_count++] = ring;
    *ret_ring = ring;
    return 0;
}

void ring_delete(struct ring *ring)
{
    bool orderly = life_state() == LIFE_STOPPING; /* a start that failed ends with the process */
    if (orderly && ring->buffers_free != ring->buffer_count) {
        world_fail("%u receive buffers of a ring were never given back", ring->buffer_count - ring->buffers_free);
    }
    for (struct request *request = ring->active; request != NULL; request = request->next) {
        if (orderly && request->kind != REQUEST_POLL) {
            world_fail("a ring ends with an operation of kind %d in flight", request->kind);
        }
        request->ring = NULL;
    }
    rings[ring->id] = NULL;
}

void request_forget_all(void)
{
    for (unsigned i = 0; i < ring_count; i++) {
        struct request *request = rings[i] != NULL ? rings[i]->active : NULL;
        for (; request != NULL; request = request->next) {
            request->ring = NULL;
        }
        rings[i] = NULL;
    }
    ring_count = 0;
}

void request_each_unwritten(void (*run)(const struct request *request))
{
    for (unsigned i = 0; i < ring_count; i++) {
        struct request *request = rings[i] != NULL ? rings[i]->active : NULL;
        for (; request != NULL; request = request->next) {
            if (request->kind == REQUEST_WRITE && !request->executed) {
                run(request);
            }
        }
    }
}

/* --- completions --- */

static void post(struct ring *ring, struct op *op, int result, uint32_t flags)
{
    CHECK(ring->ready_end < READY_MAX);
    ring->ready[ring->ready_end++] = (struct completion){op, result, flags};
    fiber_wake(ring->owner);
}

void request_complete(struct request *request, int result, uint32_t flags)
{
    struct ring *ring = request->ring;
    CHECK(ring != NULL);
    world_mix((uint64_t)(unsigned)result << 8 | (unsigned)request->kind);
    post(ring, request->op, result, flags);
    if ((flags & RING_MORE) == 0) {
        struct request **link = &ring->active;
        while (*link != request) {
            link = &(*link)->next;
        }
        *link = request->next;
        request->ring = NULL;
    }
}

size_t request_fill(struct request *request, const void *data, size_t length, uint32_t *ret_flags)
{
    struct ring *ring = request->ring;
    if (ring->buffers_free == 0) {
        return 0;
    }
    unsigned id = ring->free_ids[--ring->buffers_free];
    size_t n = length < ring->buffer_bytes ? length : ring->buffer_bytes;
    memcpy(ring->buffers + (size_t)id * ring->buffer_bytes, data, n);
    *ret_flags = RING_BUFFER | id << RING_BUFFER_SHIFT;
    return n;
}

unsigned ring_run(struct ring *ring)
{
    unsigned end = ring->ready_end;
    unsigned total = end - ring->ready_first;
    while (ring->ready_first < end) {
        struct completion completion = ring->ready[ring->ready_first++];
        if (completion.op != NULL) {
            completion.op->in_flight = (completion.flags & RING_MORE) != 0;
            completion.op->done(completion.op, completion.result, completion.flags);
        }
    }
    if (ring->ready_first == ring->ready_end) {
        ring->ready_first = ring->ready_end = 0;
    }
    ring->counters.completed += total;
    return total;
}

/* --- submission --- */

static void file_told(void *context, uint64_t argument)
{
    struct request *request = context;
    (void)argument;
    if (request->ring != NULL) {
        int result = request->result;
        disk_told(request);
        request_complete(request, result, 0);
    }
}

static void file_due(void *context, uint64_t argument)
{
    struct request *request = context;
    (void)argument;
    if (request->ring != NULL) {
        request->result = disk_run(request);
        request->executed = true;
        world_after(world_latency_ns(20 * WORLD_US), file_told, request, 0);
    }
}

static void submit(struct request *request)
{
    request->next = request->ring->active;
    request->ring->active = request;
    if (request->kind < REQUEST_WRITE) {
        net_submit(request);
    } else {
        world_after(disk_latency_ns(request), file_due, request, 0);
    }
}

static void ring_woken(void *context, uint64_t argument)
{
    (void)context;
    if (rings[argument] != NULL) {
        post(rings[argument], NULL, 0, 0);
    }
}

/* In the order in which they were queued. */
static void submit_all(struct ring *ring)
{
    struct request *ordered = NULL;
    while (ring->queued != NULL) {
        struct request *request = ring->queued;
        ring->queued = request->next;
        request->next = ordered;
        ordered = request;
    }
    while (ordered != NULL) {
        struct request *request = ordered;
        ordered = request->next;
        submit(request);
    }
    for (unsigned i = 0; i < ring->cancel_count; i++) {
        struct request *request = ring->active;
        while (request != NULL && request->op != ring->cancels[i]) {
            request = request->next;
        }
        if (request != NULL && request->kind < REQUEST_WRITE) {
            net_cancel(request);
        }
        post(ring, NULL, 0, 0);
    }
    ring->cancel_count = 0;
    for (unsigned i = 0; i < ring->wake_count; i++) {
        world_after(world_latency_ns(5 * WORLD_US), ring_woken, NULL, (uint64_t)ring->wakes[i]);
        post(ring, NULL, 0, 0);
    }
    ring->wake_count = 0;
}

int ring_enter(struct ring *ring, uint64_t timeout_ms)
{
    ring->owner = fiber_current(); /* its thread's last look at it comes from another one */
    ring->counters.enters++;
    submit_all(ring);
    uint64_t until_ns = timeout_ms > UINT64_MAX / WORLD_MS / 2 ? UINT64_MAX : world.now_ns + timeout_ms * WORLD_MS;
    if (timeout_ms == 0 || ring->ready_end != ring->ready_first) {
        fiber_sleep(world.now_ns);
        return 0;
    }
    while (ring->ready_end == ring->ready_first && world.now_ns < until_ns) {
        fiber_sleep(until_ns);
    }
    return 0;
}

static struct request *queue(struct ring *ring, struct op *op, enum request_kind kind, int fd)
{
    CHECK(!op->in_flight);
    op->in_flight = true;
    struct request *request = world_new(sizeof *request);
    *request = (struct request){.next = ring->queued, .ring = ring, .op = op, .kind = kind, .fd = fd};
    ring->queued = request;
    ring->counters.submitted++;
    return request;
}

int ring_descriptor(const struct ring *ring)
{
    return (int)ring->id;
}

const struct ring_counters *ring_counters(const struct ring *ring)
{
    return &ring->counters;
}

unsigned ring_features(struct ring_feature *ret_features, unsigned capacity)
{
    (void)ret_features;
    (void)capacity;
    return 0;
}

void ring_accept_multishot(struct ring *ring, struct op *op, int listener)
{
    queue(ring, op, REQUEST_ACCEPT, listener);
}

void ring_connect(struct ring *ring, struct op *op, int fd, const struct sockaddr *address, socklen_t length)
{
    memcpy(&queue(ring, op, REQUEST_CONNECT, fd)->address, address, length);
}

void ring_recv_multishot(struct ring *ring, struct op *op, int fd)
{
    queue(ring, op, REQUEST_RECV, fd);
}

void ring_send(struct ring *ring, struct op *op, int fd, const void *data, size_t length)
{
    struct request *request = queue(ring, op, REQUEST_SEND, fd);
    request->piece = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    request->pieces = &request->piece;
    request->count = 1;
}

void ring_sendmsg(struct ring *ring, struct op *op, int fd, const struct msghdr *message)
{
    struct request *request = queue(ring, op, REQUEST_SEND, fd);
    request->pieces = message->msg_iov;
    request->count = (unsigned)message->msg_iovlen;
}

void ring_shutdown(struct ring *ring, struct op *op, int fd)
{
    queue(ring, op, REQUEST_SHUTDOWN, fd);
}

void ring_close(struct ring *ring, struct op *op, int fd)
{
    queue(ring, op, REQUEST_CLOSE, fd);
}

void ring_poll(struct ring *ring, struct op *op, int fd, unsigned events, bool multishot)
{
    (void)events;
    CHECK(!multishot);
    queue(ring, op, REQUEST_POLL, fd);
}

void ring_cancel(struct ring *ring, struct op *target)
{
    if (target->in_flight) {
        CHECK(ring->cancel_count < sizeof ring->cancels / sizeof ring->cancels[0]);
        ring->cancels[ring->cancel_count++] = target;
    }
}

void ring_writev(struct ring *ring, struct op *op, int fd, const struct iovec *pieces, unsigned count, uint64_t offset,
                 bool sync)
{
    struct request *request = queue(ring, op, REQUEST_WRITE, fd);
    request->pieces = pieces;
    request->count = count;
    request->offset = offset;
    request->sync = sync;
}

void ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t length, uint64_t offset)
{
    struct request *request = queue(ring, op, REQUEST_READ, fd);
    request->data = data;
    request->length = length;
    request->offset = offset;
}

void ring_fsync(struct ring *ring, struct op *op, int fd, bool data_only)
{
    (void)data_only;
    queue(ring, op, REQUEST_SYNC, fd);
}

void ring_write_behind(struct ring *ring, struct op *op, int fd, uint64_t offset, uint64_t length)
{
    (void)offset;
    (void)length;
    queue(ring, op, REQUEST_SYNC, fd); /* which is more; only the event log does it, and it is off */
}

void ring_fallocate(struct ring *ring, struct op *op, int fd, uint64_t offset, uint64_t length)
{
    struct request *request = queue(ring, op, REQUEST_ALLOCATE, fd);
    request->offset = offset;
    request->length = length;
}

void ring_openat(struct ring *ring, struct op *op, int directory, const char *path, int flags, unsigned mode)
{
    (void)mode;
    struct request *request = queue(ring, op, REQUEST_OPEN, directory);
    request->path = path;
    request->flags = flags;
}

void ring_unlinkat(struct ring *ring, struct op *op, int directory, const char *path)
{
    queue(ring, op, REQUEST_UNLINK, directory)->path = path;
}

void ring_renameat(struct ring *ring, struct op *op, int directory, const char *from, const char *to)
{
    struct request *request = queue(ring, op, REQUEST_RENAME, directory);
    request->path = from;
    request->to = to;
}

void ring_mkdirat(struct ring *ring, struct op *op, int directory, const char *path, unsigned mode)
{
    struct request *request = queue(ring, op, REQUEST_MAKE_DIRECTORY, directory);
    request->path = path; /* absolute, whoever calls */
    request->flags = (int)mode;
}

void ring_madvise(struct ring *ring, struct op *op, void *address, size_t length, int advice)
{
    (void)advice;
    struct request *request = queue(ring, op, REQUEST_ADVISE, -1);
    request->data = address;
    request->length = length;
}

void ring_wake(struct ring *ring, int target_descriptor)
{
    CHECK(ring->wake_count < sizeof ring->wakes / sizeof ring->wakes[0]);
    ring->wakes[ring->wake_count++] = target_descriptor;
}

/* --- provided buffers --- */

void *ring_buffer(const struct ring *ring, unsigned id)
{
    CHECK(id < ring->buffer_count);
    return ring->buffers + (size_t)id * ring->buffer_bytes;
}

struct ring_note *ring_note(struct ring *ring, unsigned id)
{
    CHECK(id < ring->buffer_count);
    return &ring->notes[id];
}

void ring_buffer_release(struct ring *ring, unsigned id)
{
    CHECK(id < ring->buffer_count && ring->buffers_free < ring->buffer_count);
    memset(ring->buffers + (size_t)id * ring->buffer_bytes, 0xee, 64); /* whoever still reads it will notice */
    ring->free_ids[ring->buffers_free++] = (uint16_t)id;
}

unsigned ring_buffers_free(const struct ring *ring)
{
    return ring->buffers_free;
}
