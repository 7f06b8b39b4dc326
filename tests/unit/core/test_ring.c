#include "core/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "core/clock.h"
#include "support/loopback.h"

#define ENTRIES 64
#define BUFFERS 4
#define BUFFER_BYTES 1024
#define PATIENCE_MS 5000

/* An op that remembers what came. */
struct probe {
    struct op op;
    unsigned calls;
    int result;
    uint32_t flags;
    int results[16]; /* the first ones */
};

static void probe_done(struct op *op, int result, uint32_t flags)
{
    struct probe *probe = CONTAINER_OF(op, struct probe, op);
    if (probe->calls < sizeof probe->results / sizeof *probe->results) {
        probe->results[probe->calls] = result;
    }
    probe->calls++;
    probe->result = result;
    probe->flags = flags;
}

#define PROBE ((struct probe){.op = {.done = probe_done}})

static struct ring *make_ring(unsigned entries)
{
    struct ring_settings settings = {
        .entries = entries,
        .receive_buffers = BUFFERS,
        .receive_buffer_bytes = BUFFER_BYTES,
    };
    struct ring *ring = NULL;
    char reason[200] = "";
    if (ring_new(&settings, &ring, reason, sizeof reason) != 0) {
        fail_msg("%s", reason);
    }
    return ring;
}

static void turn_until(struct ring *ring, const struct probe *probe, unsigned calls)
{
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (probe->calls < calls && clock_monotonic_ms() < end_ms) {
        assert_int_equal(ring_enter(ring, 100), 0);
        ring_run(ring);
    }
    assert_int_equal(probe->calls, calls);
}

static int finish(struct ring *ring, struct probe *probe)
{
    assert_true(probe->op.in_flight);
    turn_until(ring, probe, 1);
    assert_false(probe->op.in_flight);
    return probe->result;
}

/* --- starting ------------------------------------------------------------------------------------------------- */

static void test_features_name_what_is_required(void **state)
{
    (void)state;
    struct ring_feature features[32];
    unsigned count = ring_features(features, 32);
    unsigned required = 0;
    assert_in_range(count, 5, 31);
    for (unsigned i = 0; i < count; i++) {
        assert_non_null(features[i].name);
        required += features[i].required;
        assert_true(features[i].present || !features[i].required);
    }
    assert_in_range(required, 3, count);
    assert_int_equal(ring_features(features, 2), 2);
}

static void test_a_refused_ring_says_why_and_leaves_nothing(void **state)
{
    (void)state;
    unsigned before = loopback_descriptors();
    struct ring_settings settings = {.entries = 8, .receive_buffers = 3, .receive_buffer_bytes = 512};
    struct ring *ring = NULL;
    char reason[200] = "";
    assert_int_equal(ring_new(&settings, &ring, reason, sizeof reason), -EINVAL);
    assert_non_null(strstr(reason, "receive buffers"));
    assert_null(ring);

    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = old.rlim_max};
    settings.receive_buffers = 4;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int result = ring_new(&settings, &ring, reason, sizeof reason);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(result, -EMFILE);
    assert_non_null(strstr(reason, "Too many open files"));
    assert_int_equal(loopback_descriptors(), before);
}

/* --- waiting -------------------------------------------------------------------------------------------------- */

static void test_waits_as_long_as_it_was_told(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    uint64_t start_ms = clock_monotonic_ms();
    assert_int_equal(ring_enter(ring, 0), 0);
    assert_in_range(clock_monotonic_ms() - start_ms, 0, 40);
    assert_int_equal(ring_enter(ring, 60), 0);
    assert_in_range(clock_monotonic_ms() - start_ms, 59, 1000);
    assert_int_equal(ring_run(ring), 0);
    assert_int_equal(ring_counters(ring)->enters, 2);
    ring_delete(ring);
}

static void *wake_later(void *argument)
{
    const int *target = argument;
    struct ring *ring = make_ring(8);
    usleep(50000);
    ring_wake(ring, *target);
    assert_int_equal(ring_enter(ring, 0), 0);
    ring_enter(ring, 0);
    ring_run(ring);
    ring_delete(ring);
    return NULL;
}

static void test_another_ring_ends_the_sleep(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    int descriptor = ring_descriptor(ring);
    pthread_t thread;
    uint64_t start_ms = clock_monotonic_ms();
    assert_int_equal(pthread_create(&thread, NULL, wake_later, &descriptor), 0);
    assert_int_equal(ring_enter(ring, PATIENCE_MS), 0);
    assert_in_range(clock_monotonic_ms() - start_ms, 45, PATIENCE_MS - 1000);
    assert_int_equal(ring_run(ring), 1); /* owned by nobody */
    pthread_join(thread, NULL);
    ring_delete(ring);
}

/* --- files ---------------------------------------------------------------------------------------------------- */

static int scratch_directory(char path[40])
{
    snprintf(path, 40, "/tmp/test_ring.XXXXXX");
    assert_non_null(mkdtemp(path));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void test_a_file_from_creation_to_removal(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    char path[40];
    int directory = scratch_directory(path);
    struct probe probe = PROBE;
    ring_openat(ring, &probe.op, directory, "a", O_RDWR | O_CREAT, 0600);
    int fd = finish(ring, &probe);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

    struct iovec pieces[] = {
        {.iov_base = (char[]){"one "}, .iov_len = 4},
        {.iov_base = (char[]){""}, .iov_len = 0},
        {.iov_base = (char[]){"two"}, .iov_len = 3},
    };
    for (unsigned sync = 0; sync < 2; sync++) {
        probe = PROBE;
        ring_writev(ring, &probe.op, fd, pieces, 3, 7 * sync, sync != 0);
        assert_int_equal(finish(ring, &probe), 7);
    }
    char text[32] = "";
    probe = PROBE;
    ring_read(ring, &probe.op, fd, text, sizeof text, 0);
    assert_int_equal(finish(ring, &probe), 14);
    assert_memory_equal(text, "one twoone two", 14);
    probe = PROBE;
    ring_read(ring, &probe.op, fd, text, sizeof text, 14);
    assert_int_equal(finish(ring, &probe), 0);

    probe = PROBE;
    ring_fallocate(ring, &probe.op, fd, 0, 100000);
    assert_int_equal(finish(ring, &probe), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 100000);
    probe = PROBE;
    ring_write_behind(ring, &probe.op, fd, 0, 4096);
    assert_int_equal(finish(ring, &probe), 0);
    for (unsigned data_only = 0; data_only < 2; data_only++) {
        probe = PROBE;
        ring_fsync(ring, &probe.op, fd, data_only != 0);
        assert_int_equal(finish(ring, &probe), 0);
    }
    probe = PROBE;
    ring_renameat(ring, &probe.op, directory, "a", "b");
    assert_int_equal(finish(ring, &probe), 0);
    probe = PROBE;
    ring_unlinkat(ring, &probe.op, directory, "b");
    assert_int_equal(finish(ring, &probe), 0);
    probe = PROBE;
    ring_close(ring, &probe.op, fd);
    assert_int_equal(finish(ring, &probe), 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    close(directory);
    assert_int_equal(rmdir(path), 0);
    ring_delete(ring);
}

/* Kilobytes of a mapped page that the kernel has not written to the disk yet. */
static unsigned dirty_kilobytes(const void *page)
{
    char line[512];
    char start[32];
    unsigned dirty = 0;
    bool here = false;
    snprintf(start, sizeof start, "%lx-", (unsigned long)(uintptr_t)page);
    FILE *file = fopen("/proc/self/smaps", "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned number;
        here = line[0] >= 'A' && line[0] <= 'Z' ? here : strncmp(line, start, strlen(start)) == 0;
        if (here &&
            (sscanf(line, "Private_Dirty: %u", &number) == 1 || sscanf(line, "Shared_Dirty: %u", &number) == 1)) {
            dirty += number;
        }
    }
    fclose(file);
    return dirty;
}

/* What a 250 rests on: with `sync` the bytes are on the disk when the completion comes; without it they are not yet. */
static void test_a_synced_write_is_on_the_disk(void **state)
{
    (void)state;
    char path[40];
    int directory = scratch_directory(path);
    struct statfs system;
    assert_int_equal(fstatfs(directory, &system), 0);
    int fd = openat(directory, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(unlinkat(directory, "a", 0), 0);
    close(directory);
    assert_int_equal(rmdir(path), 0);
    if (system.f_type == TMPFS_MAGIC) {
        close(fd);
        skip(); /* it has no disk: every page is dirty */
    }
    struct ring *ring = make_ring(ENTRIES);
    static char data[4096] = "mail";
    struct iovec piece = {.iov_base = data, .iov_len = sizeof data};
    for (unsigned sync = 0; sync < 2; sync++) {
        struct probe probe = PROBE;
        ring_writev(ring, &probe.op, fd, &piece, 1, 0, sync != 0);
        assert_int_equal(finish(ring, &probe), sizeof data);
        volatile char *page = mmap(NULL, sizeof data, PROT_READ, MAP_SHARED, fd, 0);
        assert_int_equal(page[0], 'm');
        assert_int_equal(dirty_kilobytes((const void *)(uintptr_t)page), sync ? 0 : 4);
        munmap((void *)(uintptr_t)page, sizeof data);
    }
    close(fd);
    ring_delete(ring);
}

static void test_failures_come_as_results(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    char byte = 'x';
    struct iovec piece = {.iov_base = &byte, .iov_len = 1};
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(full >= 0);
    struct probe probe = PROBE;
    ring_openat(ring, &probe.op, AT_FDCWD, "/nowhere/at/all", O_RDONLY, 0);
    assert_int_equal(finish(ring, &probe), -ENOENT);
    probe = PROBE;
    ring_writev(ring, &probe.op, full, &piece, 1, 0, true);
    assert_int_equal(finish(ring, &probe), -ENOSPC);
    probe = PROBE;
    ring_read(ring, &probe.op, full, &byte, 1, 0);
    assert_int_equal(finish(ring, &probe), -EBADF);
    probe = PROBE;
    ring_close(ring, &probe.op, 9999);
    assert_int_equal(finish(ring, &probe), -EBADF);
    close(full);
    ring_delete(ring);
}

static void test_pages_are_brought_in(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    const size_t length = 64 * 4096;
    int fd = memfd_create("pages", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)length), 0);
    char *map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    struct probe probe = PROBE;
    ring_madvise(ring, &probe.op, map, length, 22 /* MADV_POPULATE_READ */);
    assert_int_equal(finish(ring, &probe), 0);
    assert_int_equal(map[length - 1], 0);
    munmap(map, length);
    probe = PROBE;
    ring_madvise(ring, &probe.op, map, length, 22);
    assert_int_equal(finish(ring, &probe), -ENOMEM);
    close(fd);
    ring_delete(ring);
}

/* --- polling and cancelling ----------------------------------------------------------------------------------- */

static void test_poll_once_and_many_times(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    int ends[2];
    char byte;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct probe once = PROBE;
    struct probe many = PROBE;
    ring_poll(ring, &once.op, ends[0], POLLIN, false);
    ring_poll(ring, &many.op, ends[0], POLLIN, true);
    ring_enter(ring, 0);
    assert_int_equal(ring_run(ring), 0);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(write(ends[1], "x", 1), 1);
        turn_until(ring, &many, i);
        assert_true(many.op.in_flight);
        assert_int_equal(many.flags & RING_MORE, RING_MORE);
        assert_int_equal(read(ends[0], &byte, 1), 1);
    }
    assert_int_equal(once.calls, 1);
    assert_int_equal(once.result & POLLIN, POLLIN);
    assert_false(once.op.in_flight);
    ring_cancel(ring, &once.op); /* not in flight: nothing happens */
    ring_cancel(ring, &many.op);
    turn_until(ring, &many, 4);
    assert_int_equal(many.result, -ECANCELED);
    assert_false(many.op.in_flight);
    close(ends[0]);
    close(ends[1]);
    ring_delete(ring);
}

/* Order in the queue: a cancel never reaches what was queued behind it. */
static void test_cancel_spares_what_comes_after_it(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct probe probe = PROBE;
    ring_poll(ring, &probe.op, ends[0], POLLIN, false);
    ring_enter(ring, 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    ring_enter(ring, 1000); /* its completion is there, not yet run */
    ring_cancel(ring, &probe.op);
    assert_int_equal(ring_run(ring), 1);
    assert_int_equal(probe.result & POLLIN, POLLIN);
    assert_int_equal(read(ends[0], &probe.results, 1), 1);
    ring_poll(ring, &probe.op, ends[0], POLLIN, false);
    ring_enter(ring, 0);
    ring_run(ring);
    assert_int_equal(probe.calls, 1);
    assert_true(probe.op.in_flight);
    assert_int_equal(write(ends[1], "x", 1), 1);
    turn_until(ring, &probe, 2);
    assert_int_equal(probe.result & POLLIN, POLLIN);
    close(ends[0]);
    close(ends[1]);
    ring_delete(ring);
}

/* --- sockets -------------------------------------------------------------------------------------------------- */

struct acceptor {
    struct op op;
    unsigned count;
    int last;
    int sockets[8];
};

static void accepted(struct op *op, int result, uint32_t flags)
{
    struct acceptor *acceptor = CONTAINER_OF(op, struct acceptor, op);
    (void)flags;
    acceptor->last = result;
    if (result >= 0) {
        acceptor->sockets[acceptor->count++] = result;
    }
}

static void test_one_accept_takes_many(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    struct sockaddr_in address;
    int listener = loopback_listen(&address);
    struct acceptor acceptor = {.op = {.done = accepted}};
    int clients[3];
    ring_accept_multishot(ring, &acceptor.op, listener);
    for (unsigned i = 0; i < 3; i++) {
        clients[i] = loopback_connect(&address);
        for (unsigned turns = 0; acceptor.count != i + 1 && turns < 50; turns++) {
            ring_enter(ring, 100);
            ring_run(ring);
        }
        assert_int_equal(acceptor.count, i + 1);
        assert_true(acceptor.op.in_flight);
        assert_int_equal(fcntl(acceptor.sockets[i], F_GETFD), FD_CLOEXEC);
    }
    ring_cancel(ring, &acceptor.op);
    while (acceptor.op.in_flight) {
        assert_int_equal(ring_enter(ring, PATIENCE_MS), 0);
        ring_run(ring);
    }
    assert_int_equal(acceptor.last, -ECANCELED);
    for (unsigned i = 0; i < 3; i++) {
        close(clients[i]);
        close(acceptor.sockets[i]);
    }
    close(listener);
    ring_delete(ring);
}

static void test_connect_made_and_refused(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    struct sockaddr_in address;
    int listener = loopback_listen(&address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct probe probe = PROBE;
    ring_connect(ring, &probe.op, fd, (struct sockaddr *)&address, sizeof address);
    assert_int_equal(finish(ring, &probe), 0);
    probe = PROBE;
    ring_shutdown(ring, &probe.op, fd);
    assert_int_equal(finish(ring, &probe), 0);
    int peer = loopback_accept(listener);
    char byte;
    assert_int_equal(recv(peer, &byte, 1, 0), 0);
    close(peer);
    close(fd);
    close(listener);
    address = loopback_nobody();
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    probe = PROBE;
    ring_connect(ring, &probe.op, fd, (struct sockaddr *)&address, sizeof address);
    assert_int_equal(finish(ring, &probe), -ECONNREFUSED);
    close(fd);
    ring_delete(ring);
}

struct receiver {
    struct op op;
    struct ring *ring;
    unsigned held[BUFFERS];
    unsigned holding;
    size_t bytes;
    unsigned starvations;
    bool ended;
    bool wrong;
};

static void received(struct op *op, int result, uint32_t flags)
{
    struct receiver *receiver = CONTAINER_OF(op, struct receiver, op);
    if (flags & RING_BUFFER) {
        const unsigned char *data = ring_buffer(receiver->ring, ring_flags_buffer(flags));
        for (int i = 0; i < result; i++) {
            receiver->wrong |= data[i] != (unsigned char)((receiver->bytes + (size_t)i) % 251);
        }
        receiver->held[receiver->holding++] = ring_flags_buffer(flags);
        receiver->bytes += (size_t)result;
    }
    receiver->starvations += result == -ENOBUFS;
    receiver->ended |= result == 0;
}

static void test_receive_uses_up_and_returns_the_buffers(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    int ends[2];
    loopback_pair(ends);
    static unsigned char sent[10 * BUFFER_BYTES];
    for (size_t i = 0; i < sizeof sent; i++) {
        sent[i] = (unsigned char)(i % 251);
    }
    assert_int_equal(ring_buffers_free(ring), BUFFERS);
    assert_true(loopback_write(ends[0], sent, sizeof sent));
    shutdown(ends[0], SHUT_WR);
    struct receiver receiver = {.op = {.done = received}, .ring = ring};
    for (unsigned turns = 0; !receiver.ended && turns < 200; turns++) {
        if (!receiver.op.in_flight) {
            ring_recv_multishot(ring, &receiver.op, ends[1]);
        }
        assert_int_equal(ring_enter(ring, 100), 0);
        ring_run(ring);
        assert_int_equal(ring_buffers_free(ring), BUFFERS - receiver.holding);
        while (!receiver.op.in_flight && receiver.holding != 0) {
            ring_buffer_release(ring, receiver.held[--receiver.holding]);
        }
    }
    assert_true(receiver.ended);
    assert_false(receiver.wrong);
    assert_int_equal(receiver.bytes, sizeof sent);
    assert_in_range(receiver.starvations, 1, 3);
    assert_int_equal(ring_buffers_free(ring), BUFFERS);
    close(ends[0]);
    close(ends[1]);
    ring_delete(ring);
}

static void test_a_send_waits_for_the_last_byte(void **state)
{
    (void)state;
    struct ring *ring = make_ring(ENTRIES);
    enum { BYTES = 4 << 20 };
    char *data = malloc(BYTES);
    char *copy = malloc(BYTES);
    assert_true(data != NULL && copy != NULL);
    for (size_t i = 0; i < BYTES; i++) {
        data[i] = (char)(i * 7 + i / 4099);
    }
    int ends[2];
    loopback_pair(ends);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    struct iovec pieces[] = {{.iov_base = data, .iov_len = 1000}, {.iov_base = data + 1000, .iov_len = BYTES - 1000}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    for (unsigned way = 0; way < 2; way++) {
        struct probe probe = PROBE;
        if (way == 0) {
            ring_send(ring, &probe.op, ends[0], data, BYTES);
        } else {
            ring_sendmsg(ring, &probe.op, ends[0], &message);
        }
        size_t got = 0;
        while (got < BYTES) {
            ring_enter(ring, 1);
            ring_run(ring);
            ssize_t n = recv(ends[1], copy + got, BYTES - got, 0);
            got += n > 0 ? (size_t)n : 0;
            assert_true(probe.calls == 0 || probe.result == BYTES);
        }
        turn_until(ring, &probe, 1);
        assert_int_equal(probe.result, BYTES);
        assert_memory_equal(copy, data, BYTES);
        memset(copy, 0, BYTES);
    }
    close(ends[1]);
    struct probe probe = PROBE;
    ring_send(ring, &probe.op, ends[0], data, BYTES);
    int result = finish(ring, &probe); /* a reset, not a signal; what went before it counts */
    assert_true(result == -EPIPE || result == -ECONNRESET || result < BYTES);
    close(ends[0]);
    free(data);
    free(copy);
    ring_delete(ring);
}

/* --- limits --------------------------------------------------------------------------------------------------- */

#define MANY 3000

/* Each done submits another op, up to the number that is wanted. */
struct chain {
    struct op op;
    struct ring *ring;
    int fd;
    unsigned left;
    char byte;
};

static unsigned chain_completions;

static void chain_done(struct op *op, int result, uint32_t flags)
{
    struct chain *chain = CONTAINER_OF(op, struct chain, op);
    (void)flags;
    chain_completions += result == 1;
    if (chain->left-- != 0) {
        ring_read(chain->ring, &chain->op, chain->fd, &chain->byte, 1, 0);
    }
}

/* Eight entries, 64 completions: 3000 operations at once, and as many again from inside their completions. */
static void test_more_operations_than_entries(void **state)
{
    (void)state;
    struct ring *ring = make_ring(8);
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct chain *chains = calloc(MANY, sizeof *chains);
    assert_non_null(chains);
    chain_completions = 0;
    for (unsigned i = 0; i < MANY; i++) {
        chains[i] = (struct chain){.op = {.done = chain_done}, .ring = ring, .fd = fd, .left = 1};
        ring_read(ring, &chains[i].op, fd, &chains[i].byte, 1, 0);
    }
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (chain_completions < 2 * MANY && clock_monotonic_ms() < end_ms) {
        assert_int_equal(ring_enter(ring, 100), 0);
        ring_run(ring);
    }
    assert_int_equal(chain_completions, 2 * MANY);
    assert_int_equal(ring_counters(ring)->submitted, 2 * MANY);
    assert_int_equal(ring_counters(ring)->completed, 2 * MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_false(chains[i].op.in_flight);
    }
    free(chains);
    close(fd);
    ring_delete(ring);
}

static void test_an_op_in_flight_is_not_armed_again(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        struct ring *ring = make_ring(8);
        struct probe probe = PROBE;
        ring_poll(ring, &probe.op, STDERR_FILENO, POLLIN, false);
        ring_poll(ring, &probe.op, STDERR_FILENO, POLLIN, false);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features_name_what_is_required),
        cmocka_unit_test(test_a_refused_ring_says_why_and_leaves_nothing),
        cmocka_unit_test(test_waits_as_long_as_it_was_told),
        cmocka_unit_test(test_another_ring_ends_the_sleep),
        cmocka_unit_test(test_a_file_from_creation_to_removal),
        cmocka_unit_test(test_a_synced_write_is_on_the_disk),
        cmocka_unit_test(test_failures_come_as_results),
        cmocka_unit_test(test_pages_are_brought_in),
        cmocka_unit_test(test_poll_once_and_many_times),
        cmocka_unit_test(test_cancel_spares_what_comes_after_it),
        cmocka_unit_test(test_one_accept_takes_many),
        cmocka_unit_test(test_connect_made_and_refused),
        cmocka_unit_test(test_receive_uses_up_and_returns_the_buffers),
        cmocka_unit_test(test_a_send_waits_for_the_last_byte),
        cmocka_unit_test(test_more_operations_than_entries),
        cmocka_unit_test(test_an_op_in_flight_is_not_armed_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
