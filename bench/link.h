/* The load tools' connections, all of them on one io_uring: an accept and receives that go on by themselves, into one
 * ring of buffers that all share, and one send in flight for each connection, of everything that was said since the
 * last.
 *
 *     link_begin, link_listen         once
 *     link_open                       for each socket; it receives from now on
 *     for (;;) {
 *         link_wait                   enters the kernel
 *         while (link_next_ready)     connections of which there is news: look at link_input, ended and sent
 *     }
 *     link_say                        copies; goes out with the next link_wait
 *     link_close                      what was said is sent first; links.released is called when the kernel has let go
 *
 * A program that includes this has one such ring. */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "latency.h"

#define LINK_ENTRIES 1024u
#define LINK_BUFFERS 1024u /* a power of two */
#define LINK_BUFFER_BYTES 16384u
#define LINK_NONE UINT16_MAX
#define LINK_FOREVER UINT64_MAX
#define LINK_PATIENCE_US \
    200000u /* a signal just before the ring is entered, or while it submits, does not end the wait */

/* Low bits of an operation's user data; a link is aligned to more. */
enum link_operation { LINK_RECEIVE, LINK_SEND, LINK_ACCEPT, LINK_OPERATIONS = 3 };

struct link_output {
    char *data;
    size_t length;
    size_t room;
};

struct link {
    int fd;
    bool receiving;
    bool sending;
    bool shut;
    bool closing;
    bool listed_ready;
    bool listed_waiting;
    bool ended;           /* nothing will come any more: the peer's end, or an error */
    bool failed;          /* nothing can be sent any more */
    uint16_t first, last; /* buffers that came and were not consumed */
    uint64_t said;        /* octets, since it was opened */
    uint64_t sent;        /* of them, how many the kernel has taken */
    uint64_t sent_us;     /* when the last send that ended was begun; when it ended if it was a long one */
    uint64_t going_us;
    struct link_output going; /* belongs to the kernel while `sending` */
    struct link_output next;
    struct link *next_ready;
    struct link *next_waiting;
};

static struct {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    char *memory;
    struct {
        uint32_t offset, length;
        uint16_t next;
    } pieces[LINK_BUFFERS];
    struct link *ready_first, *ready_last;
    struct link *waiting;
    int listener;
    bool let_go; /* of a connection, in this turn: the program may have nothing left to wait for */
    void (*accepted)(int fd);
    void (*released)(struct link *link);
} links = {.listener = -1};

static inline void link_die(const char *what, int error)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(error));
    exit(2);
}

static inline void link_begin(void)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                     .cq_entries = 8 * LINK_ENTRIES};
    int error = io_uring_queue_init_params(LINK_ENTRIES, &links.ring, &params);
    if (error < 0) {
        link_die("io_uring_setup", -error);
    }
    void *ring = aligned_alloc(4096, LINK_BUFFERS * sizeof(struct io_uring_buf));
    links.memory = aligned_alloc(4096, (size_t)LINK_BUFFERS * LINK_BUFFER_BYTES);
    if (ring == NULL || links.memory == NULL) {
        link_die("buffers", ENOMEM);
    }
    links.buffers = ring;
    struct io_uring_buf_reg registration = {.ring_addr = (uint64_t)(uintptr_t)ring, .ring_entries = LINK_BUFFERS};
    error = io_uring_register_buf_ring(&links.ring, &registration, 0);
    if (error < 0) {
        link_die("io_uring_register_buf_ring", -error);
    }
    io_uring_buf_ring_init(links.buffers);
    for (unsigned i = 0; i < LINK_BUFFERS; i++) {
        io_uring_buf_ring_add(links.buffers, links.memory + (size_t)i * LINK_BUFFER_BYTES, LINK_BUFFER_BYTES,
                              (unsigned short)i, io_uring_buf_ring_mask(LINK_BUFFERS), (int)i);
    }
    io_uring_buf_ring_advance(links.buffers, LINK_BUFFERS);
}

static inline struct io_uring_sqe *link_entry(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&links.ring);
    if (sqe == NULL) {
        io_uring_submit(&links.ring);
        sqe = io_uring_get_sqe(&links.ring);
    }
    return sqe;
}

static inline void link_accept(void)
{
    struct io_uring_sqe *sqe = link_entry();
    io_uring_prep_multishot_accept(sqe, links.listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, LINK_ACCEPT);
}

static inline void link_listen(int listener)
{
    links.listener = listener;
    link_accept();
}

/* --- lists --- */

static inline void link_has_news(struct link *link)
{
    if (!link->listed_ready) {
        link->listed_ready = true;
        link->next_ready = NULL;
        *(links.ready_first == NULL ? &links.ready_first : &links.ready_last->next_ready) = link;
        links.ready_last = link;
    }
}

/* There is something to start for it before the kernel is entered. */
static inline void link_wants_turn(struct link *link)
{
    if (!link->listed_waiting) {
        link->listed_waiting = true;
        link->next_waiting = links.waiting;
        links.waiting = link;
    }
}

static inline struct link *link_next_ready(void)
{
    struct link *link;
    do {
        link = links.ready_first;
        if (link == NULL) {
            return NULL;
        }
        links.ready_first = link->next_ready;
        link->listed_ready = false;
    } while (link->closing);
    return link;
}

/* --- one connection --- */

static inline void link_open(struct link *link, int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *link = (struct link){.fd = fd, .first = LINK_NONE, .last = LINK_NONE};
    link_wants_turn(link);
}

/* What came and was not consumed, as far as it lies in one piece; NULL: nothing. */
static inline const char *link_input(const struct link *link, size_t *ret_length)
{
    if (link->first == LINK_NONE) {
        return NULL;
    }
    *ret_length = links.pieces[link->first].length;
    return links.memory + (size_t)link->first * LINK_BUFFER_BYTES + links.pieces[link->first].offset;
}

static inline void link_return_buffer(uint16_t number)
{
    io_uring_buf_ring_add(links.buffers, links.memory + (size_t)number * LINK_BUFFER_BYTES, LINK_BUFFER_BYTES, number,
                          io_uring_buf_ring_mask(LINK_BUFFERS), 0);
    io_uring_buf_ring_advance(links.buffers, 1);
}

/* Of the piece that link_input gave. */
static inline void link_consume(struct link *link, size_t length)
{
    uint16_t number = link->first;
    links.pieces[number].offset += (uint32_t)length;
    links.pieces[number].length -= (uint32_t)length;
    if (links.pieces[number].length == 0) {
        link->first = links.pieces[number].next;
        link_return_buffer(number);
    }
}

static inline void link_say(struct link *link, const void *data, size_t length)
{
    struct link_output *next = &link->next;
    if (next->room - next->length < length) {
        next->room = 2 * (next->length + length) + 512;
        next->data = realloc(next->data, next->room);
        if (next->data == NULL) {
            link_die("realloc", ENOMEM);
        }
    }
    memcpy(next->data + next->length, data, length);
    next->length += length;
    link->said += length;
    link_wants_turn(link);
}

static inline void link_close(struct link *link)
{
    while (link->first != LINK_NONE) {
        link_consume(link, links.pieces[link->first].length);
    }
    link->closing = true;
    link_wants_turn(link);
}

/* --- the ring's turn --- */

static inline void link_start_receive(struct link *link)
{
    struct io_uring_sqe *sqe = link_entry();
    io_uring_prep_recv_multishot(sqe, link->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)link | LINK_RECEIVE);
    link->receiving = true;
}

static inline void link_start_send(struct link *link, uint64_t now_us)
{
    struct link_output sent = link->going;
    link->going = link->next;
    link->next = (struct link_output){.data = sent.data, .room = sent.room};
    link->going_us = now_us;
    struct io_uring_sqe *sqe = link_entry();
    io_uring_prep_send(sqe, link->fd, link->going.data, link->going.length, MSG_WAITALL | MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)link | LINK_SEND);
    link->sending = true;
}

/* One that is closing: shuts down, waits until nothing is in flight, and goes. */
static inline void link_leave(struct link *link)
{
    if (link->sending || link->receiving) {
        if (!link->sending && !link->shut) {
            link->shut = true;
            shutdown(link->fd, SHUT_RDWR);
        }
        return;
    }
    if (link->listed_ready) { /* link_next_ready passes over it first */
        link_wants_turn(link);
        return;
    }
    close(link->fd);
    free(link->going.data);
    free(link->next.data);
    links.let_go = true;
    links.released(link);
}

static inline void link_start_all(void)
{
    uint64_t now_us = links.waiting != NULL ? latency_now_us() : 0;
    struct link *link = links.waiting;
    links.waiting = NULL;
    while (link != NULL) {
        struct link *next = link->next_waiting;
        link->listed_waiting = false;
        if (link->next.length != 0 && !link->sending && !link->failed) {
            link_start_send(link, now_us);
        }
        if (link->closing) {
            link_leave(link);
        } else if (!link->receiving && !link->ended) {
            link_start_receive(link);
        }
        link = next;
    }
}

static inline void link_received(struct link *link, int result, unsigned flags)
{
    link->receiving = (flags & IORING_CQE_F_MORE) != 0;
    if (result > 0) {
        uint16_t number = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
        if (link->closing) {
            link_return_buffer(number);
        } else {
            links.pieces[number].offset = 0;
            links.pieces[number].length = (uint32_t)result;
            links.pieces[number].next = LINK_NONE;
            *(link->first == LINK_NONE ? &link->first : &links.pieces[link->last].next) = number;
            link->last = number;
        }
    } else if (result != -ENOBUFS) {
        link->ended = true;
    }
    if (!link->receiving) {
        link_wants_turn(link);
    }
    link_has_news(link);
}

static inline void link_was_sent(struct link *link, int result)
{
    link->sending = false;
    link->sent += result > 0 ? (size_t)result : 0;
    link->sent_us = link->going.length > 65536 ? latency_now_us() : link->going_us;
    if (result < 0 || (size_t)result < link->going.length) {
        link->ended = link->failed = true;
    }
    if (link->next.length != 0 || link->closing) {
        link_wants_turn(link);
    }
    link_has_news(link);
}

static inline void link_complete(const struct io_uring_cqe *cqe)
{
    enum link_operation operation = (enum link_operation)(cqe->user_data & LINK_OPERATIONS);
    struct link *link = (struct link *)(uintptr_t)(cqe->user_data & ~(uint64_t)LINK_OPERATIONS); // NOLINT
    if (operation == LINK_ACCEPT) {
        if (cqe->res >= 0) {
            links.accepted(cqe->res);
        }
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
            link_accept();
        }
    } else if (operation == LINK_SEND) {
        link_was_sent(link, cqe->res);
    } else {
        link_received(link, cqe->res, cqe->flags);
    }
}

/* Starts what was asked for and waits until something has happened, but no longer than so many microseconds; or for a
 * signal. */
static inline void link_wait(uint64_t timeout_us)
{
    struct io_uring_cqe *cqe = NULL;
    links.let_go = false;
    link_start_all();
    if (links.ready_first != NULL || links.waiting != NULL || links.let_go) {
        timeout_us = 0;
    }
    timeout_us = timeout_us < LINK_PATIENCE_US ? timeout_us : LINK_PATIENCE_US;
    struct __kernel_timespec time = {.tv_sec = (int64_t)(timeout_us / 1000000),
                                     .tv_nsec = (int64_t)(timeout_us % 1000000 * 1000)};
    int error = io_uring_submit_and_wait_timeout(&links.ring, &cqe, 1, &time, NULL);
    if (error < 0 && error != -EINTR && error != -ETIME && error != -EAGAIN && error != -EBUSY) {
        link_die("io_uring_enter", -error);
    }
    unsigned head;
    unsigned count = 0;
    io_uring_for_each_cqe(&links.ring, head, cqe)
    {
        link_complete(cqe);
        count++;
    }
    io_uring_cq_advance(&links.ring, count);
}

#endif
