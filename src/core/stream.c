/* Streams. What a peer can make us hold: at most the receive buffers that one burst of a multishot receive filled
 * before its cancellation took effect; a stream that leaves more than STREAM_BUFFERS_UNREAD unread is cancelled and
 * armed again when everything is consumed. A stream that found no free buffer waits in the shard's `starved` list,
 * looked at once a turn, because arming a receive again at once would only spin.
 *
 * Closing: nothing is freed before its last completion. stream_close shuts the socket down (so that a blocked send ends
 * and the receive sees its end), waits until receive, send and control are all at rest, closes, and only then reports.
 */
#include "core/stream.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/limits.h"
#include "core/shard.h"
#include "core/stream_private.h"

#define STREAM_BUFFERS_UNREAD 4

static_assert(LIMIT_RECEIVE_BUFFER_BYTES_MAX <= UINT16_MAX, "the notes of full buffers hold their length");

/* --- receive buffers ----------------------------------------------------------------------------------------- */

static void push_buffer(struct stream *stream, unsigned id, unsigned length)
{
    struct ring *ring = stream->shard->ring;
    ring_note(ring, id)->length = (uint16_t)length;
    if (stream->buffers == 0) {
        stream->first_buffer = (uint16_t)id;
        stream->first_offset = 0;
    } else {
        ring_note(ring, stream->last_buffer)->next = (uint16_t)id;
    }
    stream->last_buffer = (uint16_t)id;
    stream->buffers++;
}

static void pop_buffer(struct stream *stream)
{
    unsigned id = stream->first_buffer;
    stream->first_buffer = ring_note(stream->shard->ring, id)->next;
    stream->first_offset = 0;
    stream->buffers--;
    ring_buffer_release(stream->shard->ring, id);
}

static void drop_buffers(struct stream *stream)
{
    while (stream->buffers != 0) {
        pop_buffer(stream);
    }
}

struct bytes stream_raw_input(const struct stream *stream)
{
    if (stream->buffers == 0) {
        return bytes_of("", 0);
    }
    const char *data = ring_buffer(stream->shard->ring, stream->first_buffer);
    size_t length = ring_note(stream->shard->ring, stream->first_buffer)->length;
    return bytes_of(data + stream->first_offset, length - stream->first_offset);
}

struct bytes stream_input(const struct stream *stream)
{
    return stream->tls == NULL ? stream_raw_input(stream) : stream_tls_input(stream);
}

static void arm_receive(struct stream *stream)
{
    stream->paused = false;
    ring_recv_multishot(stream->shard->ring, &stream->receive, stream->fd);
}

void stream_raw_consume(struct stream *stream, size_t n)
{
    CHECK(n <= stream_raw_input(stream).length);
    stream->first_offset = (uint16_t)(stream->first_offset + n);
    if (stream->first_offset == ring_note(stream->shard->ring, stream->first_buffer)->length) {
        pop_buffer(stream);
        if (stream->paused && stream->buffers == 0 && !stream->receive.in_flight && !stream->closing && !stream->eof &&
            stream->error == 0) {
            arm_receive(stream);
        }
    }
}

void stream_consume(struct stream *stream, size_t n)
{
    if (n == 0) {
        return;
    }
    if (stream->tls == NULL) {
        stream_raw_consume(stream, n);
    } else {
        stream_tls_consume(stream, n);
    }
}

/* --- closing ------------------------------------------------------------------------------------------------- */

static size_t unsent(const struct stream *stream)
{
    const struct msghdr *header = &stream->message->header;
    size_t bytes = stream->tls == NULL ? 0 : stream_tls_unsent(stream);
    for (size_t i = 0; i < header->msg_iovlen; i++) {
        bytes += header->msg_iov[i].iov_len;
    }
    return bytes;
}

void stream_give_message(struct stream *stream)
{
    stream->unsent = unsent(stream);
    list_push_front(&stream->shard->message_pool, &stream->message->node);
    stream->message = NULL;
}

static void close_done(struct op *op, int result, uint32_t flags)
{
    struct stream *stream = CONTAINER_OF(op, struct stream, control);
    (void)result;
    (void)flags;
    stream->fd = -1;
    if (stream->tls != NULL) {
        stream_tls_free(stream);
    }
    stream->closed(stream);
}

static void close_when_idle(struct stream *stream)
{
    if (stream->receive.in_flight || stream->send.in_flight || stream->control.in_flight) {
        return;
    }
    if (stream->message != NULL) {
        stream_give_message(stream);
    }
    if (stream->joined != NULL) {
        stream->joined(stream);
    }
    drop_buffers(stream);
    stream->control.done = close_done;
    ring_close(stream->shard->ring, &stream->control, stream->fd);
}

static void shutdown_done(struct op *op, int result, uint32_t flags)
{
    (void)result;
    (void)flags;
    close_when_idle(CONTAINER_OF(op, struct stream, control));
}

void stream_close(struct stream *stream, bool abort, void (*closed)(struct stream *stream))
{
    CHECK(!stream->closing && stream->fd >= 0);
    stream->closing = true;
    stream->closed = closed;
    list_remove(&stream->starved);
    if (stream->tls != NULL && !abort) {
        stream_tls_goodbye(stream);
    }
    if (abort) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        ring_cancel(stream->shard->ring, &stream->receive);
        ring_cancel(stream->shard->ring, &stream->send);
        ring_cancel(stream->shard->ring, &stream->control);
        close_when_idle(stream);
    } else if (!stream->receive.in_flight && !stream->send.in_flight && !stream->control.in_flight) {
        close_when_idle(stream);
    } else if (!stream->control.in_flight) {
        stream->control.done = shutdown_done;
        ring_shutdown(stream->shard->ring, &stream->control, stream->fd);
    } else {
        ring_cancel(stream->shard->ring, &stream->control); /* a connect: its completion goes on from here */
    }
}

/* True when the completion belonged to a stream that is being closed: there is nothing more to do for it. */
static bool closing(struct stream *stream)
{
    if (stream->closing) {
        close_when_idle(stream);
    }
    return stream->closing;
}

/* --- receiving ----------------------------------------------------------------------------------------------- */

void stream_set_error(struct stream *stream, int error)
{
    if (stream->error == 0) {
        stream->error = error;
    }
}

static void after_wake(struct stream *stream)
{
    if (stream->buffers > STREAM_BUFFERS_UNREAD && stream->receive.in_flight && !stream->paused && !stream->closing) {
        stream->paused = true;
        ring_cancel(stream->shard->ring, &stream->receive);
    }
}

void stream_wake(struct stream *stream)
{
    stream->wake(stream);
    after_wake(stream);
}

/* The multishot receive has ended for a reason that is neither EOF nor an error: go on, now or later. A paused stream
 * with unread input is armed by stream_consume and by nobody else, even when it ran out of buffers at the same time. */
static void resume_receive(struct stream *stream, int result)
{
    if (stream->paused && stream->buffers != 0) {
        return;
    }
    if (result == -ENOBUFS) {
        list_push_back(&stream->shard->starved, &stream->starved);
    } else {
        arm_receive(stream);
    }
}

static void receive_done(struct op *op, int result, uint32_t flags)
{
    struct stream *stream = CONTAINER_OF(op, struct stream, receive);
    if (flags & RING_BUFFER) {
        if (stream->closing || result <= 0) {
            ring_buffer_release(stream->shard->ring, ring_flags_buffer(flags));
        } else {
            push_buffer(stream, ring_flags_buffer(flags), (unsigned)result);
            stream->received_bytes += (uint64_t)result;
        }
    }
    if (closing(stream)) {
        return;
    }
    bool ended = !op->in_flight;
    if (result == 0) {
        stream->eof = true;
    } else if (result < 0 && result != -ENOBUFS && result != -EINTR && !(result == -ECANCELED && stream->paused)) {
        stream_set_error(stream, result);
    } else if (ended) {
        resume_receive(stream, result);
        if (result < 0) {
            return;
        }
    }
    if (stream->tls == NULL || stream_tls_received(stream)) {
        stream->wake(stream);
    }
    after_wake(stream); /* also when TLS had nothing for the driver: it may take no more, for lack of room to answer */
}

/* The turn hook. Arms as many as could find a buffer; the rest has its turn in the next ones, which come at once as
 * long as there are buffers (shard.c). Only open streams are in the list. */
static void feed_starved(struct shard_hook *hook)
{
    struct shard *shard = CONTAINER_OF(hook, struct shard, stream_hook);
    for (unsigned room = ring_buffers_free(shard->ring); room != 0 && !list_empty(&shard->starved); room--) {
        struct stream *stream = LIST_OWNER(list_pop_front(&shard->starved), struct stream, starved);
        arm_receive(stream);
    }
    stream_tls_turn(shard);
}

void stream_shard_start(struct shard *shard)
{
    shard_add_hook(shard, &shard->stream_hook, feed_starved);
}

void stream_shard_stop(struct shard *shard)
{
    shard_remove_hook(&shard->stream_hook);
    struct list *node;
    while ((node = list_pop_front(&shard->message_pool)) != NULL) {
        free(LIST_OWNER(node, struct stream_message, node));
    }
}

/* --- sending ------------------------------------------------------------------------------------------------- */

static struct stream_message *take_message(struct shard *shard)
{
    struct list *node = list_pop_front(&shard->message_pool);
    if (node != NULL) {
        return LIST_OWNER(node, struct stream_message, node);
    }
    struct stream_message *message = malloc(sizeof *message);
    CHECK(message != NULL);
    list_init(&message->node);
    return message;
}

static void submit_send(struct stream *stream)
{
    struct msghdr *header = &stream->message->header;
    if (header->msg_iovlen == 1) {
        ring_send(stream->shard->ring, &stream->send, stream->fd, header->msg_iov->iov_base, header->msg_iov->iov_len);
    } else {
        ring_sendmsg(stream->shard->ring, &stream->send, stream->fd, header);
    }
}

/* Drops what was sent from the front of the pieces. */
static void advance_pieces(struct msghdr *header, size_t sent)
{
    while (header->msg_iovlen != 0 && sent >= header->msg_iov->iov_len) {
        sent -= header->msg_iov->iov_len;
        header->msg_iov++;
        header->msg_iovlen--;
    }
    if (header->msg_iovlen != 0) {
        header->msg_iov->iov_base = (char *)header->msg_iov->iov_base + sent;
        header->msg_iov->iov_len -= sent;
    }
}

static void note_sent(struct stream *stream, size_t n)
{
    stream->sent_bytes += n;
    if (stream->tls == NULL) {
        advance_pieces(&stream->message->header, n);
    } else {
        stream_tls_note_sent(stream, n);
    }
}

static void send_done(struct op *op, int result, uint32_t flags)
{
    struct stream *stream = CONTAINER_OF(op, struct stream, send);
    (void)flags;
    if (result > 0) {
        note_sent(stream, (size_t)result);
    }
    if (closing(stream)) {
        return;
    }
    if (stream->tls != NULL) {
        stream_tls_sent(stream, result);
        return;
    }
    if (result > 0 && stream->message->header.msg_iovlen != 0) {
        submit_send(stream);
        return;
    }
    if (result <= 0) {
        stream_set_error(stream, result == 0 ? -EPIPE : result);
    }
    stream_give_message(stream);
    stream_wake(stream);
}

void stream_send(struct stream *stream, const struct iovec *pieces, unsigned count)
{
    CHECK(!stream_sending(stream) && count >= 1 && count <= STREAM_SEND_PIECES && stream->connected);
    struct stream_message *message = take_message(stream->shard);
    unsigned used = 0;
    for (unsigned i = 0; i < count; i++) {
        if (pieces[i].iov_len != 0) {
            message->pieces[used++] = pieces[i];
        }
    }
    CHECK(used != 0);
    message->header = (struct msghdr){.msg_iov = message->pieces, .msg_iovlen = used};
    stream->message = message;
    if (stream->tls == NULL) {
        submit_send(stream);
    } else {
        stream_tls_send(stream);
    }
}

bool stream_sending(const struct stream *stream)
{
    return stream->message != NULL;
}

/* --- opening ------------------------------------------------------------------------------------------------- */

static void stream_init(struct stream *stream, struct shard *shard, int fd, void (*wake)(struct stream *stream))
{
    *stream = (struct stream){
        .shard = shard,
        .wake = wake,
        .fd = fd,
        .receive = {.done = receive_done},
        .send = {.done = send_done},
    };
    list_init(&stream->starved);
}

void stream_open(struct stream *stream, struct shard *shard, int fd, void (*wake)(struct stream *stream))
{
    stream_init(stream, shard, fd, wake);
    stream->connected = true;
    arm_receive(stream);
}

static void connect_done(struct op *op, int result, uint32_t flags)
{
    struct stream *stream = CONTAINER_OF(op, struct stream, control);
    (void)flags;
    if (closing(stream)) {
        return;
    }
    if (result < 0) {
        stream_set_error(stream, result);
    } else {
        stream->connected = true;
        arm_receive(stream);
    }
    stream->wake(stream);
}

int stream_connect(struct stream *stream, struct shard *shard, const struct sockaddr *remote, socklen_t remote_length,
                   const struct sockaddr *local, socklen_t local_length, void (*wake)(struct stream *stream))
{
    int fd = socket(remote->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int on = 1;
    bool tcp = remote->sa_family != AF_UNIX;
    if ((tcp && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) ||
        (local != NULL && (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
                           bind(fd, local, local_length) != 0))) {
        int error = -errno;
        close(fd);
        return error;
    }
    stream_init(stream, shard, fd, wake);
    stream->control.done = connect_done;
    ring_connect(shard->ring, &stream->control, fd, remote, remote_length);
    return 0;
}
