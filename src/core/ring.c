/* The ring itself. Three rules, each learned by measurement or by a hang:
 *
 *  - Wait for one completion, never for several: waiting for N > 1 on a DEFER_TASKRUN ring can sleep for ever.
 *  - Completions are copied out and the queue is advanced before any owner runs, so an owner may submit as much as it
 *    likes without the completion queue overflowing under it, and no owner runs inside a submission.
 *  - Timeouts are an argument of the enter call, not operations: a TIMEOUT entry costs about a microsecond each.
 *
 * user_data is the address of the owner's op. Two small values stand for operations nobody waits for.
 */
#include "core/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"

#define NOBODY 0 /* user_data of cancels and wakes */
#define BUFFER_GROUP 0
#define RUN_BATCH 512

/* Newer than the liburing that Debian 12 has. */
#define FEATURE_RECV_BUNDLE (1u << 14)
#define FEATURE_MIN_TIMEOUT (1u << 15)
#define OPCODE_MSG_RING 40
#define OPCODE_SEND_ZC 47
#define OPCODE_SENDMSG_ZC 48
#define OPCODE_FTRUNCATE 55
#define OPCODE_BIND 56

struct ring {
    struct io_uring uring;
    struct io_uring_buf_ring *buffer_ring;
    char *buffers;
    struct ring_note *notes;
    unsigned buffer_count;
    unsigned buffer_bytes;
    unsigned buffers_free;
    struct ring_counters counters;
};

struct completion {
    struct op *op;
    int result;
    uint32_t flags;
};

static int read_number(const char *path)
{
    char text[16] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    return length > 0 ? (int)strtol(text, NULL, 10) : -1;
}

static void explain(int error, char *reason, size_t size)
{
    int disabled = read_number("/proc/sys/kernel/io_uring_disabled");
    if (error == -EPERM && disabled > 0) {
        snprintf(
            reason, size,
            "io_uring is switched off: kernel.io_uring_disabled is %d (remedy: sysctl -w kernel.io_uring_disabled=0)",
            disabled);
    } else if (error == -EPERM) {
        snprintf(reason, size,
                 "io_uring is forbidden, most likely by a seccomp filter of a container (remedy: allow "
                 "io_uring_setup, io_uring_enter and io_uring_register)");
    } else if (error == -ENOSYS) {
        snprintf(reason, size, "this kernel has no io_uring (remedy: Linux 6.1 or newer)");
    } else if (error == -EINVAL) {
        snprintf(reason, size,
                 "this kernel's io_uring lacks SINGLE_ISSUER or DEFER_TASKRUN (remedy: Linux 6.1 or newer)");
    } else if (error == -ENOMEM) {
        snprintf(reason, size, "not enough lockable memory for a ring (remedy: raise LimitMEMLOCK, see `ulimit -l`)");
    } else {
        snprintf(reason, size, "a ring cannot be made: %s", strerror(-error));
    }
}

static int register_buffers(struct ring *ring, const struct ring_settings *settings)
{
    size_t ring_bytes = settings->receive_buffers * sizeof(struct io_uring_buf);
    size_t data_bytes = (size_t)settings->receive_buffers * settings->receive_buffer_bytes;
    void *descriptors = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *data = mmap(NULL, data_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ring->notes = calloc(settings->receive_buffers, sizeof *ring->notes);
    if (descriptors == MAP_FAILED || data == MAP_FAILED || ring->notes == NULL) {
        return -ENOMEM;
    }
    /* All of them are in use in turn, and a core has not nearly as many translations as they have small pages. */
    madvise(data, data_bytes, MADV_HUGEPAGE);
    ring->buffer_ring = descriptors;
    ring->buffers = data;
    ring->buffer_count = settings->receive_buffers;
    ring->buffer_bytes = settings->receive_buffer_bytes;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)descriptors,
        .ring_entries = settings->receive_buffers,
        .bgid = BUFFER_GROUP,
    };
    int result = io_uring_register_buf_ring(&ring->uring, &registration, 0);
    if (result < 0) {
        return result;
    }
    io_uring_buf_ring_init(ring->buffer_ring);
    for (unsigned id = 0; id < ring->buffer_count; id++) {
        ring_buffer_release(ring, id);
    }
    return 0;
}

int ring_new(const struct ring_settings *settings, struct ring **ret_ring, char *reason, size_t reason_size)
{
    struct ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL) {
        snprintf(reason, reason_size, "no memory");
        return -ENOMEM;
    }
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
        .cq_entries = settings->entries * 8,
    };
    int result = io_uring_queue_init_params(settings->entries, &ring->uring, &params);
    if (result < 0) {
        explain(result, reason, reason_size);
        free(ring);
        return result;
    }
    result = register_buffers(ring, settings);
    if (result < 0) {
        snprintf(reason, reason_size, "receive buffers cannot be registered: %s", strerror(-result));
        ring_delete(ring);
        return result;
    }
    *ret_ring = ring;
    return 0;
}

void ring_delete(struct ring *ring)
{
    io_uring_queue_exit(&ring->uring);
    if (ring->buffers != NULL) {
        munmap(ring->buffers, (size_t)ring->buffer_count * ring->buffer_bytes);
        munmap(ring->buffer_ring, ring->buffer_count * sizeof(struct io_uring_buf));
    }
    free(ring->notes);
    free(ring);
}

int ring_enter(struct ring *ring, uint64_t timeout_ms)
{
    struct io_uring_cqe *cqe = NULL;
    int result;
    ring->counters.enters++;
    if (timeout_ms == 0) {
        result = io_uring_submit_and_get_events(&ring->uring);
    } else {
        struct __kernel_timespec time = {.tv_sec = (int64_t)(timeout_ms / 1000),
                                         .tv_nsec = (int64_t)(timeout_ms % 1000) * 1000000};
        result = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, timeout_ms == UINT64_MAX ? NULL : &time, NULL);
    }
    return result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY ? 0 : result;
}

unsigned ring_run(struct ring *ring)
{
    struct completion batch[RUN_BATCH];
    unsigned left = io_uring_cq_ready(&ring->uring);
    unsigned total = left;
    while (left > 0) {
        unsigned count = 0;
        unsigned head;
        struct io_uring_cqe *cqe;
        io_uring_for_each_cqe(&ring->uring, head, cqe)
        {
            struct op *op = (struct op *)(uintptr_t)cqe->user_data;
            uint32_t flags = (cqe->flags & IORING_CQE_F_BUFFER ? RING_BUFFER : 0) |
                             (cqe->flags & IORING_CQE_F_MORE ? RING_MORE : 0) |
                             (cqe->flags >> IORING_CQE_BUFFER_SHIFT) << RING_BUFFER_SHIFT;
            ring->buffers_free -= flags & RING_BUFFER;
            batch[count++] = (struct completion){.op = op, .result = cqe->res, .flags = flags};
            if (count == RUN_BATCH || count == left) {
                break;
            }
        }
        io_uring_cq_advance(&ring->uring, count);
        left -= count;
        for (unsigned i = 0; i < count; i++) {
            struct op *op = batch[i].op;
            if (op != NULL) {
                op->in_flight = (batch[i].flags & RING_MORE) != 0;
                op->done(op, batch[i].result, batch[i].flags);
            }
        }
    }
    ring->counters.completed += total;
    return total;
}

int ring_descriptor(const struct ring *ring)
{
    return ring->uring.ring_fd;
}

const struct ring_counters *ring_counters(const struct ring *ring)
{
    return &ring->counters;
}

static bool feature_opcode(const struct io_uring_probe *probe, unsigned opcode)
{
    return probe != NULL && opcode <= probe->last_op && (probe->ops[opcode].flags & IO_URING_OP_SUPPORTED) != 0;
}

static bool feature_setup(unsigned flags)
{
    struct io_uring_params params = {.flags = flags};
    struct io_uring uring;
    if (io_uring_queue_init_params(4, &uring, &params) < 0) {
        return false;
    }
    io_uring_queue_exit(&uring);
    return true;
}

unsigned ring_features(struct ring_feature *ret_features, unsigned capacity)
{
    struct io_uring_params params = {0};
    struct io_uring uring;
    bool usable = io_uring_queue_init_params(4, &uring, &params) == 0;
    if (usable) {
        io_uring_queue_exit(&uring);
    }
    struct io_uring_probe *probe = usable ? io_uring_get_probe() : NULL;
    const struct ring_feature all[] = {
        {"io_uring", usable, true},
        {"single issuer, deferred task work (6.1)",
         feature_setup(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN), true},
        {"wake another ring (5.18)", feature_opcode(probe, OPCODE_MSG_RING), true},
        {"timeout as an argument (5.11)", (params.features & IORING_FEAT_EXT_ARG) != 0, true},
        {"no dropped completions (5.5)", (params.features & IORING_FEAT_NODROP) != 0, true},
        {"zero-copy send (6.0)", feature_opcode(probe, OPCODE_SEND_ZC), false},
        {"zero-copy sendmsg (6.1)", feature_opcode(probe, OPCODE_SENDMSG_ZC), false},
        {"receive bundles (6.10)", (params.features & FEATURE_RECV_BUNDLE) != 0, false},
        {"bind and listen (6.11)", feature_opcode(probe, OPCODE_BIND), false},
        {"minimum wait (6.12)", (params.features & FEATURE_MIN_TIMEOUT) != 0, false},
    };
    free(probe);
    unsigned count = sizeof all / sizeof all[0];
    count = count < capacity ? count : capacity;
    memcpy(ret_features, all, count * sizeof all[0]);
    return count;
}

static struct io_uring_sqe *ring_entry(struct ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL) {
        /* Full: hand over what is there. Runs nothing: deferred task work waits for ring_enter. */
        int result = io_uring_submit(&ring->uring);
        CHECK(result >= 0);
        sqe = io_uring_get_sqe(&ring->uring);
        CHECK(sqe != NULL);
    }
    ring->counters.submitted++;
    return sqe;
}

static struct io_uring_sqe *ring_entry_of(struct ring *ring, struct op *op)
{
    CHECK(!op->in_flight);
    op->in_flight = true;
    return ring_entry(ring);
}

static void ring_owned_by(struct io_uring_sqe *sqe, struct op *op)
{
    sqe->user_data = (uint64_t)(uintptr_t)op;
}

void ring_accept_multishot(struct ring *ring, struct op *op, int listener)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    ring_owned_by(sqe, op);
}

void ring_connect(struct ring *ring, struct op *op, int fd, const struct sockaddr *address, socklen_t length)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_connect(sqe, fd, address, length);
    ring_owned_by(sqe, op);
}

void ring_recv_multishot(struct ring *ring, struct op *op, int fd)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    ring_owned_by(sqe, op);
}

void ring_send(struct ring *ring, struct op *op, int fd, const void *data, size_t length)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_send(sqe, fd, data, length, MSG_WAITALL | MSG_NOSIGNAL);
    ring_owned_by(sqe, op);
}

void ring_sendmsg(struct ring *ring, struct op *op, int fd, const struct msghdr *message)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_sendmsg(sqe, fd, message, MSG_WAITALL | MSG_NOSIGNAL);
    ring_owned_by(sqe, op);
}

void ring_shutdown(struct ring *ring, struct op *op, int fd)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_shutdown(sqe, fd, SHUT_RDWR);
    ring_owned_by(sqe, op);
}

void ring_close(struct ring *ring, struct op *op, int fd)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_close(sqe, fd);
    ring_owned_by(sqe, op);
}

void ring_poll(struct ring *ring, struct op *op, int fd, unsigned events, bool multishot)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    if (multishot) {
        io_uring_prep_poll_multishot(sqe, fd, events);
    } else {
        io_uring_prep_poll_add(sqe, fd, events);
    }
    ring_owned_by(sqe, op);
}

void ring_cancel(struct ring *ring, struct op *target)
{
    if (target->in_flight) {
        struct io_uring_sqe *sqe = ring_entry(ring);
        io_uring_prep_cancel(sqe, target, 0);
        sqe->user_data = NOBODY;
    }
}

void ring_writev(struct ring *ring, struct op *op, int fd, const struct iovec *pieces, unsigned count, uint64_t offset,
                 bool sync)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_writev2(sqe, fd, pieces, count, offset, sync ? RWF_DSYNC : 0);
    ring_owned_by(sqe, op);
}

void ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t length, uint64_t offset)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_read(sqe, fd, data, (unsigned)length, offset);
    ring_owned_by(sqe, op);
}

void ring_fsync(struct ring *ring, struct op *op, int fd, bool data_only)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_fsync(sqe, fd, data_only ? IORING_FSYNC_DATASYNC : 0);
    ring_owned_by(sqe, op);
}

void ring_write_behind(struct ring *ring, struct op *op, int fd, uint64_t offset, uint64_t length)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    CHECK(length <= UINT32_MAX);
    io_uring_prep_sync_file_range(sqe, fd, (unsigned)length, offset, SYNC_FILE_RANGE_WRITE);
    ring_owned_by(sqe, op);
}

void ring_fallocate(struct ring *ring, struct op *op, int fd, uint64_t offset, uint64_t length)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    /* Not io_uring_prep_fallocate: its offsets changed their sign between liburing 2.3 and 2.5. */
    io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, fd, (const void *)(uintptr_t)length, 0, offset);
    ring_owned_by(sqe, op);
}

void ring_openat(struct ring *ring, struct op *op, int directory, const char *path, int flags, unsigned mode)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_openat(sqe, directory, path, flags | O_CLOEXEC, (mode_t)mode);
    ring_owned_by(sqe, op);
}

void ring_unlinkat(struct ring *ring, struct op *op, int directory, const char *path)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_unlinkat(sqe, directory, path, 0);
    ring_owned_by(sqe, op);
}

void ring_renameat(struct ring *ring, struct op *op, int directory, const char *from, const char *to)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_renameat(sqe, directory, from, directory, to, 0);
    ring_owned_by(sqe, op);
}

void ring_mkdirat(struct ring *ring, struct op *op, int directory, const char *path, unsigned mode)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    io_uring_prep_mkdirat(sqe, directory, path, (mode_t)mode);
    ring_owned_by(sqe, op);
}

void ring_madvise(struct ring *ring, struct op *op, void *address, size_t length, int advice)
{
    struct io_uring_sqe *sqe = ring_entry_of(ring, op);
    CHECK(length <= UINT32_MAX);
    io_uring_prep_madvise(sqe, address, (uint32_t)length, advice); /* which is all that the kernel takes */
    ring_owned_by(sqe, op);
}

void ring_wake(struct ring *ring, int target_descriptor)
{
    struct io_uring_sqe *sqe = ring_entry(ring);
    io_uring_prep_msg_ring(sqe, target_descriptor, 0, NOBODY, 0);
    sqe->user_data = NOBODY;
}

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
    io_uring_buf_ring_add(ring->buffer_ring, ring_buffer(ring, id), ring->buffer_bytes, (unsigned short)id,
                          io_uring_buf_ring_mask(ring->buffer_count), 0);
    io_uring_buf_ring_advance(ring->buffer_ring, 1);
    ring->buffers_free++;
}

unsigned ring_buffers_free(const struct ring *ring)
{
    return ring->buffers_free;
}
