/* Accepting. The accept is multishot: one submission, a completion per connection. It ends on an error, and what
 * follows depends on whose fault that was: a connection that was gone before we had it costs nothing, so accept
 * again at once; no descriptors or no memory is our own shortage, and trying again at once would only spin, so wait
 * a little. Meanwhile connections stay in the kernel's backlog.
 *
 * A refused connection gets its 421 by one non-blocking send and is closed at once: it never becomes a session.
 */
#include "inbound/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "core/log.h"
#include "inbound/listener_unix.h"
#include "inbound/server_session.h"
#include "inbound/throttle.h"
#include "smtp/reply.h"

static const struct reply too_many_from_address = {
    .code = 421, .enhanced = {4, 7, 0}, .text = {"Too many connections from your address", 38}};

static const struct reply *reply_to(enum admission_verdict verdict)
{
    return verdict == ADMISSION_ADDRESS_FULL ? &too_many_from_address : reply_of(REPLY_OVERLOAD);
}

static void refuse(struct listener *listener, int fd, const struct reply *reply)
{
    char text[REPLY_BYTES_MAX];
    struct buffer out = buffer_of(text, sizeof text);
    CHECK(reply_append(&out, reply));
    ssize_t sent = send(fd, out.data, out.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent; /* a courtesy */
    close(fd);
    metric_add(&listener->inbound->shard->metrics->connections_refused, 1);
}

/* Asks for admission, and hands the connection to the session or to the shard that has fewer of them. */
static void admit(struct listener *listener, int fd)
{
    struct inbound *inbound = listener->inbound;
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &length) != 0) {
        close(fd); /* it is gone already */
        return;
    }
    struct listener_connection connection = {
        .fd = fd, .listener = listener->index, .peer = peer_of((const struct sockaddr *)&address)};
    bool local = peer_is_local(&connection.peer);
    bool several = local || listener->profile->behind_proxy; /* clients have this address */
    struct admission_request request = {
        .peer = &connection.peer,
        .listener = listener->index,
        .shard = inbound->shard->index,
        .listener_connections_max = listener->profile->connections_max,
        .address_connections_max = several ? listener->profile->connections_max
                                           : listener->profile->connections_per_address_max,
    };
    const struct throttle_client client = {.peer = local ? NULL : &connection.peer, .listener = listener->index};
    const struct reply *refusal = listener->profile->behind_proxy /* whose header will say who it is */
                                      ? NULL
                                      : throttle_connection(inbound, listener->profile, &client);
    if (refusal != NULL) {
        refuse(listener, fd, refusal);
        return;
    }
    enum admission_verdict verdict = admission_enter(inbound->admission, &request, &connection.ticket);
    if (verdict != ADMISSION_GRANTED) {
        refuse(listener, fd, reply_to(verdict));
        return;
    }
    metric_add(&inbound->shard->metrics->connections_accepted, 1);
    if (connection.ticket.shard == inbound->shard->index) {
        server_session_open(inbound, &connection);
    } else {
        shard_post(inbound->shard, connection.ticket.shard, MAIL_CONNECTION, &connection, sizeof connection);
    }
}

static void pause_accepting(struct listener *listener, int error)
{
    struct shard *shard = listener->inbound->shard;
    shard_arm(shard, &listener->pause, LISTENER_PAUSE_MS);
    if (shard->now_ms >= listener->logged_ms + LISTENER_LOG_MS) {
        listener->logged_ms = shard->now_ms;
        log_line(LOG_WARNING, "cannot accept connections for now", "listener=%.*s error=\"%s\"",
                 (int)listener->profile->name.length, listener->profile->name.data, strerror(-error));
    }
}

static void finish_close(struct listener *listener)
{
    listener_unix_remove(listener->fd);
    close(listener->fd);
    listener->fd = -1;
    inbound_settle(listener->inbound);
}

static void accept_done(struct op *op, int result, uint32_t flags)
{
    struct listener *listener = CONTAINER_OF(op, struct listener, accept);
    (void)flags;
    bool closing = listener->inbound->stopping;
    if (result >= 0 && closing) {
        close(result);
    } else if (result >= 0) {
        admit(listener, result);
    }
    if (op->in_flight) {
        return;
    }
    if (closing) {
        finish_close(listener);
    } else if (result >= 0 || result == -ECONNABORTED || result == -EINTR || result == -EPROTO) {
        listener_start(listener);
    } else {
        pause_accepting(listener, result);
    }
}

void listener_start(struct listener *listener)
{
    if (listener->fd < 0) {
        return;
    }
    ring_accept_multishot(listener->inbound->shard->ring, &listener->accept, listener->fd);
}

static void pause_ended(struct timer *timer)
{
    listener_start(CONTAINER_OF(timer, struct listener, pause));
}

/* Accepted sockets inherit TCP_NODELAY and the size of the send buffer. Left alone, the kernel lets a client that sends
 * commands and reads no replies grow that buffer to megabytes. */
static int bind_tcp(int fd, const struct config_endpoint *endpoint)
{
    const struct sockaddr *address = (const struct sockaddr *)&endpoint->address;
    int on = 1;
    bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
              setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
              (address->sa_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0) &&
              bind(fd, address, endpoint->length) == 0;
    return ok ? 0 : -errno;
}

static int bind_and_listen(int fd, const struct inbound_listener_settings *settings)
{
    int send_buffer = LISTENER_SEND_BUFFER_BYTES;
    const struct config_endpoint *endpoint = &settings->endpoint;
    int error = endpoint->address.ss_family != AF_UNIX
                    ? bind_tcp(fd, endpoint)
                    : listener_unix_bind(fd, endpoint, settings->socket_mode, settings->socket_owner);
    if (error == 0 && (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer) != 0 ||
                       listen(fd, LISTENER_BACKLOG) != 0)) {
        error = -errno;
    }
    return error;
}

int listener_open(struct listener *listener, struct inbound *inbound, unsigned index, struct profile *profile,
                  const struct inbound_listener_settings *settings)
{
    *listener = (struct listener){.inbound = inbound, .profile = profile, .index = index, .fd = -1};
    listener->accept.done = accept_done;
    wheel_timer_init(&listener->pause, pause_ended);
    if (settings->endpoint.address.ss_family == AF_UNIX && inbound->shard->index != 0) {
        return 0; /* a file has one socket: the first shard accepts for all */
    }
    int fd = socket(settings->endpoint.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int error = bind_and_listen(fd, settings);
    if (error != 0) {
        close(fd);
        return error;
    }
    listener->fd = fd;
    return 0;
}

void listener_close(struct listener *listener)
{
    if (listener->fd < 0) {
        return;
    }
    shard_disarm(listener->inbound->shard, &listener->pause);
    if (listener->accept.in_flight) {
        ring_cancel(listener->inbound->shard->ring, &listener->accept);
    } else {
        finish_close(listener);
    }
}

bool listener_closed(const struct listener *listener)
{
    return listener->fd < 0;
}

unsigned listener_port(const struct listener *listener)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    CHECK(getsockname(listener->fd, (struct sockaddr *)&address, &length) == 0);
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)&address;
    return ntohs(address.ss_family == AF_INET ? ipv4->sin_port : ipv6->sin6_port);
}
