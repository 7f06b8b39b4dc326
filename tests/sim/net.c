#include "sim/net.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "sim/net_private.h"
#include "sim/real.h"
#include "sim/world.h"

#define WINDOW_BYTES (64u << 10) /* that the network holds for a peer that does not read */

static struct socket *sockets[NET_SOCKETS];

/* --- descriptors --- */

struct socket *net_socket(int fd)
{
    return fd >= NET_DESCRIPTORS && fd < NET_DESCRIPTORS + NET_SOCKETS ? sockets[fd - NET_DESCRIPTORS] : NULL;
}

/* The lowest free number, as the kernel does. */
struct socket *net_socket_new(void)
{
    unsigned at = 0;
    while (at < NET_SOCKETS && sockets[at] != NULL) {
        at++;
    }
    CHECK(at < NET_SOCKETS);
    struct socket *socket = world_new(sizeof *socket);
    socket->fd = (int)(NET_DESCRIPTORS + at);
    socket->open = true;
    sockets[at] = socket;
    return socket;
}

unsigned net_open(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < NET_SOCKETS; i++) {
        count += sockets[i] != NULL;
    }
    return count;
}

/* --- pipes --- */

static void pipe_put(struct pipe *pipe, const void *data, size_t length)
{
    if (pipe->end + length > pipe->capacity) {
        pipe->capacity = (pipe->end + length) * 2;
        pipe->data = real_realloc(pipe->data, pipe->capacity);
        CHECK(pipe->data != NULL);
    }
    memcpy(pipe->data + pipe->end, data, length);
    pipe->end += length;
}

static size_t pipe_length(const struct pipe *pipe)
{
    return pipe->end - pipe->start;
}

static void pipe_skip(struct pipe *pipe, size_t length)
{
    pipe->start += length;
    if (pipe->start == pipe->end) {
        pipe->start = pipe->end = 0;
    }
}

/* --- towards the server --- */

static void pump_receive(struct socket *socket)
{
    while (socket->receive != NULL) {
        struct request *request = socket->receive;
        bool data = pipe_length(&socket->in) != 0;
        if (socket->reset || (!data && socket->in_ended)) {
            socket->receive = NULL;
            request_complete(request, socket->reset ? -ECONNRESET : 0, 0);
        } else if (!data) {
            return;
        } else {
            uint32_t flags = 0;
            size_t n = world_fault(30) ? 0
                                       : request_fill(request, socket->in.data + socket->in.start,
                                                      pipe_length(&socket->in), &flags);
            bool more = n != 0 && !world_fault(100);
            socket->receive = more ? request : NULL;
            if (n != 0) {
                socket->taken += n;
                pipe_skip(&socket->in, n);
            }
            request_complete(request, n != 0 ? (int)n : -ENOBUFS, flags | (more ? RING_MORE : 0));
        }
    }
}

static void arrive(void *context, uint64_t argument);

static void travel(struct socket *socket)
{
    if (!socket->travelling && (pipe_length(&socket->way) != 0 || socket->way_ended)) {
        socket->travelling = true;
        world_after(world_latency_ns(socket->latency_ns), arrive, socket, 0);
    }
}

static void arrive(void *context, uint64_t argument)
{
    struct socket *socket = context;
    (void)argument;
    socket->travelling = false;
    size_t length = pipe_length(&socket->way);
    if (socket->reset) {
        return;
    }
    if (length != 0) {
        size_t n = world_chance(7000) ? length : 1 + (size_t)world_below(length);
        n = socket->piece_max != 0 && n > socket->piece_max ? socket->piece_max : n;
        if (socket->open) {
            pipe_put(&socket->in, socket->way.data + socket->way.start, n);
        }
        pipe_skip(&socket->way, n);
    } else {
        socket->in_ended = true;
        socket->way_ended = false;
    }
    if (socket->open) {
        pump_receive(socket);
    }
    travel(socket);
}

void net_send(struct party *peer, const void *data, size_t length)
{
    if (peer->socket != NULL && length != 0) {
        peer->socket->sent += length;
        peer->socket->piece_max = peer->bytes_max;
        peer->socket->latency_ns = peer->latency_ns;
        pipe_put(&peer->socket->way, data, length);
        travel(peer->socket);
    }
}

uint64_t net_sent(const struct party *peer)
{
    return peer->last->sent;
}

uint64_t net_taken(const struct party *peer)
{
    return peer->last->taken;
}

bool net_over(const struct party *peer)
{
    return !peer->last->open || peer->last->reset;
}

void net_close(struct party *peer)
{
    struct socket *socket = peer->socket;
    if (socket != NULL) {
        peer->socket = NULL;
        socket->peer = NULL;
        socket->way_ended = true;
        travel(socket);
    }
}

static void pump_send(struct socket *socket);
static size_t window(const struct socket *socket);

void net_reset(struct party *peer)
{
    struct socket *socket = peer->socket;
    if (socket != NULL) {
        peer->socket = NULL;
        socket->peer = NULL;
        socket->reset = true;
        socket->in.start = socket->in.end = 0;
        if (socket->open) {
            pump_receive(socket);
            pump_send(socket);
        }
    }
}

/* --- from the server --- */

static void leave(void *context, uint64_t argument);

static void depart(struct socket *socket)
{
    if (!socket->departing && socket->peer != NULL && !socket->peer->deaf &&
        (pipe_length(&socket->out) != 0 || socket->out_ended)) {
        socket->departing = true;
        world_after(world_latency_ns(socket->latency_ns), leave, socket, 0);
    }
}

static void leave(void *context, uint64_t argument)
{
    struct socket *socket = context;
    struct party *peer = socket->peer;
    (void)argument;
    socket->departing = false;
    if (peer == NULL) {
        return;
    }
    size_t length = pipe_length(&socket->out);
    if (length != 0 && !socket->aborted) {
        size_t n = world_chance(7000) ? length : 1 + (size_t)world_below(length);
        n = n < window(socket) ? n : window(socket);
        char *copy = world_new(n);
        memcpy(copy, socket->out.data + socket->out.start, n);
        pipe_skip(&socket->out, n);
        peer->ops->data(peer, copy, n);
        if (socket->open) {
            pump_send(socket);
        }
    } else {
        peer->socket = NULL;
        socket->peer = NULL;
        peer->ops->ended(peer, socket->aborted);
    }
    depart(socket);
}

static void end_send(struct socket *socket, int error)
{
    struct request *request = socket->sending;
    socket->sending = NULL;
    request_complete(request, request->done != 0 ? (int)request->done : error, 0);
}

static size_t window(const struct socket *socket)
{
    return socket->peer != NULL && socket->peer->reads_max != 0 ? socket->peer->reads_max : WINDOW_BYTES;
}

/* One piece of what is being sent; true when all of it is. */
static bool send_piece(struct socket *socket)
{
    struct request *request = socket->sending;
    size_t skip = request->done;
    unsigned i = 0;
    while (i < request->count && skip >= request->pieces[i].iov_len) {
        skip -= request->pieces[i++].iov_len;
    }
    if (i == request->count) {
        return true;
    }
    size_t n = request->pieces[i].iov_len - skip;
    n = n > 1 && world_chance(1000) ? 1 + (size_t)world_below(n) : n;
    n = n < window(socket) ? n : window(socket);
    const char *data = (const char *)request->pieces[i].iov_base + skip;
    world_mix_bytes(data, n);
    if (socket->peer != NULL) {
        pipe_put(&socket->out, data, n);
    }
    request->done += n;
    return false;
}

static void pump_send(struct socket *socket)
{
    while (socket->sending != NULL) {
        if (socket->reset || socket->shut || (socket->peer == NULL && socket->in_ended)) {
            end_send(socket, socket->reset ? -ECONNRESET : -EPIPE);
        } else if (socket->sending->done != 0 && world_fault(20)) {
            end_send(socket, 0); /* short */
        } else if (pipe_length(&socket->out) >= window(socket)) {
            break;
        } else if (send_piece(socket)) {
            end_send(socket, 0);
        }
    }
    depart(socket);
}

static void send_due(void *context, uint64_t argument)
{
    struct socket *socket = context;
    (void)argument;
    if (socket->open) {
        pump_send(socket);
    }
}

/* The server's end is gone. What it sent still arrives, unless it was aborted. */
void net_close_socket(struct socket *socket)
{
    CHECK(socket->open);
    sockets[socket->fd - NET_DESCRIPTORS] = NULL;
    socket->open = false;
    socket->aborted = socket->linger || pipe_length(&socket->in) != 0;
    socket->out_ended = true;
    for (unsigned i = 0; i < socket->backlog_count; i++) {
        net_close_socket(socket->backlog[i]);
    }
    socket->backlog_count = 0;
    depart(socket);
}

void net_shut(struct socket *socket, bool both)
{
    socket->shut = true;
    socket->out_ended = true;
    if (both) {
        socket->in_ended = true;
        pump_receive(socket);
    }
    pump_send(socket);
}

/* --- connections of clients --- */

static void greet(void *context, uint64_t argument)
{
    struct party *peer = context;
    (void)argument;
    if (peer->socket != NULL) {
        peer->ops->connected(peer);
    }
}

static void pump_accept(struct socket *listener)
{
    while (listener->accepting != NULL && listener->backlog_count != 0) {
        struct request *request = listener->accepting;
        if (world_fault(200)) {
            static const int errors[] = {-EMFILE, -ECONNABORTED, -ENOMEM, -EINTR};
            listener->accepting = NULL;
            request_complete(request, errors[world_below(4)], 0);
            return;
        }
        struct socket *socket = listener->backlog[0];
        listener->backlog_count--;
        memmove(listener->backlog, listener->backlog + 1, listener->backlog_count * sizeof socket);
        bool more = !world_fault(500);
        listener->accepting = more ? request : NULL;
        if (socket->peer != NULL) {
            world_after(world_latency_ns(socket->latency_ns), greet, socket->peer, 0);
        }
        request_complete(request, socket->fd, more ? RING_MORE : 0);
    }
}

bool net_connect(struct party *peer, unsigned port)
{
    struct socket *listeners[NET_SOCKETS];
    unsigned count = 0;
    for (unsigned i = 0; i < NET_SOCKETS; i++) {
        if (sockets[i] != NULL && sockets[i]->listening && sockets[i]->port == port &&
            sockets[i]->backlog_count < NET_BACKLOG) {
            listeners[count++] = sockets[i];
        }
    }
    if (count == 0) {
        return false;
    }
    struct socket *listener = listeners[world_below(count)];
    struct socket *socket = net_socket_new();
    socket->peer = peer;
    socket->ipv4 = peer->ipv4;
    socket->port = (unsigned)world_between(1024, 65535);
    socket->latency_ns = peer->latency_ns;
    peer->socket = peer->last = socket;
    listener->backlog[listener->backlog_count++] = socket;
    pump_accept(listener);
    return true;
}

/* --- connections of the server --- */

static void connect_due(void *context, uint64_t argument)
{
    struct socket *socket = context;
    (void)argument;
    if (!socket->open || socket->connecting == NULL) {
        return;
    }
    int error = 0;
    struct party *peer = net_remote(socket->ipv4, socket->port, &error);
    if (peer == NULL && error == 0) {
        return;
    }
    struct request *request = socket->connecting;
    socket->connecting = NULL;
    if (peer == NULL) {
        world_trace("net: a connection to %08x fails: %d", socket->ipv4, error);
    }
    if (peer != NULL) {
        socket->peer = peer;
        socket->latency_ns = peer->latency_ns;
        peer->socket = peer->last = socket;
        world_after(world_latency_ns(peer->latency_ns), greet, peer, 0);
    }
    request_complete(request, error, 0);
}

/* --- the ring's side --- */

static void begin_connect(struct socket *socket, struct request *request)
{
    const struct sockaddr_in *address = (const struct sockaddr_in *)&request->address;
    CHECK(address->sin_family == AF_INET);
    socket->ipv4 = ntohl(address->sin_addr.s_addr);
    socket->port = ntohs(address->sin_port);
    socket->connecting = request;
    world_after(world_latency_ns(WORLD_MS), connect_due, socket, 0);
}

static void poll_ready(void *context, uint64_t argument)
{
    struct socket *socket = context;
    (void)argument;
    struct request *request = socket->polling;
    if (request != NULL && socket->count != 0) {
        socket->polling = NULL;
        request_complete(request, 1 /* POLLIN */, 0);
    }
}

void net_notify(struct socket *socket)
{
    world_after(world_latency_ns(5 * WORLD_US), poll_ready, socket, 0);
}

void net_submit(struct request *request)
{
    struct socket *socket = net_socket(request->fd);
    if (socket == NULL) {
        world_fail("operation %d on descriptor %d, which is not open", request->kind, request->fd);
    }
    switch (request->kind) {
    case REQUEST_ACCEPT:
        socket->accepting = request;
        pump_accept(socket);
        break;
    case REQUEST_CONNECT: begin_connect(socket, request); break;
    case REQUEST_RECV:
        CHECK(socket->receive == NULL);
        socket->receive = request;
        pump_receive(socket);
        break;
    case REQUEST_SEND:
        CHECK(socket->sending == NULL);
        socket->sending = request;
        world_after(world_latency_ns(20 * WORLD_US), send_due, socket, 0);
        break;
    case REQUEST_SHUTDOWN:
        net_shut(socket, true);
        request_complete(request, 0, 0);
        break;
    case REQUEST_CLOSE:
        if (socket->receive != NULL || socket->sending != NULL || socket->connecting != NULL) {
            world_fail("descriptor %d is closed under an operation", request->fd);
        }
        net_close_socket(socket);
        request_complete(request, 0, 0);
        break;
    case REQUEST_POLL:
        socket->polling = request;
        net_notify(socket);
        break;
    default: CHECK(false);
    }
}

static void cancel_slot(struct request **slot, struct request *request)
{
    if (*slot == request) {
        *slot = NULL;
        request_complete(request, request->done != 0 ? (int)request->done : -ECANCELED, 0);
    }
}

void net_cancel(struct request *request)
{
    struct socket *socket = net_socket(request->fd);
    CHECK(socket != NULL);
    cancel_slot(&socket->accepting, request);
    cancel_slot(&socket->connecting, request);
    cancel_slot(&socket->receive, request);
    cancel_slot(&socket->sending, request);
    cancel_slot(&socket->polling, request);
}

static void vanish(void *context, uint64_t argument)
{
    struct socket *socket = context;
    struct party *peer = socket->peer;
    (void)argument;
    if (peer != NULL) {
        peer->socket = NULL;
        socket->peer = NULL;
        peer->ops->ended(peer, true);
    }
}

void net_cut(void)
{
    for (unsigned i = 0; i < NET_SOCKETS; i++) {
        struct socket *socket = sockets[i];
        if (socket != NULL) {
            sockets[i] = NULL;
            socket->open = false;
            socket->accepting = socket->connecting = socket->receive = socket->sending = socket->polling = NULL;
            socket->aborted = true;
            world_after(world_latency_ns(WORLD_MS), vanish, socket, 0);
        }
    }
}
