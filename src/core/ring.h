/* One io_uring per shard: the only way to the kernel in the loop's steady state, and the seam at which tests replace
 * it.
 *
 * An operation in flight is a `struct op` embedded in the thing that owns it. The owner calls one of the ring_*
 * functions below, which queue an entry; nothing runs until the shard's loop turns. Completions are first all copied
 * out of the kernel's queue and only then handed to their owners, one `done` call per completion, so that nothing runs
 * inside a submission and no `done` can be re-entered. An op must not be freed while `op->in_flight` is true.
 *
 * Results are as the kernel gives them: >= 0 or -errno.
 */
#ifndef CORE_RING_H
#define CORE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct op {
    /* `result` is >= 0 or -errno; `flags` as below. For a multishot op, in_flight stays true while RING_MORE is set. */
    void (*done)(struct op *op, int result, uint32_t flags);
    bool in_flight;
};

/* Bits of `flags`. With RING_BUFFER set, ring_flags_buffer gives the provided buffer that now belongs to the owner. */
#define RING_BUFFER 1u
#define RING_MORE 2u
#define RING_BUFFER_SHIFT 16

static inline unsigned ring_flags_buffer(uint32_t flags)
{
    return flags >> RING_BUFFER_SHIFT;
}

struct ring; /* opaque: liburing stays inside ring.c */

struct ring_settings {
    unsigned entries;         /* submission entries; completions are 8 times as many */
    unsigned receive_buffers; /* power of two */
    unsigned receive_buffer_bytes;
};

/* Counts since the start; read by anyone with relaxed loads. */
struct ring_counters {
    uint64_t enters;
    uint64_t submitted;
    uint64_t completed;
};

/* Creates the ring of the calling thread (SINGLE_ISSUER). On failure returns -errno and puts a one-line reason with its
 * remedy into `reason`, e.g. "kernel.io_uring_disabled is 2: set it to 0 (sysctl -w kernel.io_uring_disabled=0)". */
int ring_new(const struct ring_settings *settings, struct ring **ret_ring, char *reason, size_t reason_size);
void ring_delete(struct ring *ring);

/* Submits what is queued and waits until a completion is there or `timeout_ms` pass (UINT64_MAX: no limit; 0: do not
 * wait). Runs nothing. 0 or -errno; an interrupted wait is 0. */
int ring_enter(struct ring *ring, uint64_t timeout_ms);

/* Runs the `done` of every completion that had come when it was called. Returns their number. */
unsigned ring_run(struct ring *ring);

int ring_descriptor(const struct ring *ring); /* for ring_wake from another shard */
const struct ring_counters *ring_counters(const struct ring *ring);

/* What the kernel can do, for `ringpost check`: one line per feature. Returns the number of lines. */
struct ring_feature {
    const char *name;
    bool present;
    bool required;
};
unsigned ring_features(struct ring_feature *ret_features, unsigned capacity);

/* Sockets */
void ring_accept_multishot(struct ring *ring, struct op *op, int listener);
void ring_connect(struct ring *ring, struct op *op, int fd, const struct sockaddr *address, socklen_t length);
void ring_recv_multishot(struct ring *ring, struct op *op, int fd); /* into provided buffers */
void ring_send(struct ring *ring, struct op *op, int fd, const void *data, size_t length);
void ring_sendmsg(struct ring *ring, struct op *op, int fd, const struct msghdr *message); /* waits for all of it */
void ring_shutdown(struct ring *ring, struct op *op, int fd);
void ring_close(struct ring *ring, struct op *op, int fd);
void ring_poll(struct ring *ring, struct op *op, int fd, unsigned events, bool multishot);

/* Asks for the cancellation of `target`, whose own completion still comes (-ECANCELED, or its real result). */
void ring_cancel(struct ring *ring, struct op *target);

/* Files. Buffers, iovecs and paths live until the completion. `sync` adds RWF_DSYNC. */
void ring_writev(struct ring *ring, struct op *op, int fd, const struct iovec *pieces, unsigned count, uint64_t offset,
                 bool sync);
void ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t length, uint64_t offset);
void ring_fsync(struct ring *ring, struct op *op, int fd, bool data_only);
/* Has the kernel begin to write what is in its cache of this range, which makes nothing durable. length < 4 GiB. */
void ring_write_behind(struct ring *ring, struct op *op, int fd, uint64_t offset, uint64_t length);
void ring_fallocate(struct ring *ring, struct op *op, int fd, uint64_t offset, uint64_t length);
void ring_openat(struct ring *ring, struct op *op, int directory, const char *path, int flags, unsigned mode);
void ring_unlinkat(struct ring *ring, struct op *op, int directory, const char *path);
void ring_renameat(struct ring *ring, struct op *op, int directory, const char *from, const char *to);
void ring_mkdirat(struct ring *ring, struct op *op, int directory, const char *path, unsigned mode);
void ring_madvise(struct ring *ring, struct op *op, void *address, size_t length, int advice); /* below 4 GiB */

/* Wakes the shard that owns the ring `target_descriptor`. Fire and forget. */
void ring_wake(struct ring *ring, int target_descriptor);

/* Provided receive buffers. A buffer that a completion named belongs to its receiver until it is given back. */
void *ring_buffer(const struct ring *ring, unsigned id);

/* A note per buffer, for the owner to chain buffers with. */
struct ring_note {
    uint16_t next;
    uint16_t length;
};
struct ring_note *ring_note(struct ring *ring, unsigned id);

void ring_buffer_release(struct ring *ring, unsigned id);
unsigned ring_buffers_free(const struct ring *ring);

#endif
