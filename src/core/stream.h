/* A TCP connection on the ring: multishot receive into provided buffers, one send in flight, shutdown-join-close.
 *
 * The owner is a driver: one function, `wake`, that is called whenever something changed (input came, a send ended, the
 * connection was made or lost). It looks at the stream's state and acts; completions decide nothing. Received bytes
 * stay in the provided buffers until the driver consumes them, so an idle stream holds no buffer. When a driver leaves
 * more than a few buffers unread the receive is cancelled (back-pressure) and is armed again once it has caught up.
 */
#ifndef CORE_STREAM_H
#define CORE_STREAM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/list.h"
#include "core/ring.h"

struct shard;
struct stream_tls;

#define STREAM_SEND_PIECES 12

struct stream {
    struct shard *shard;
    void (*wake)(struct stream *stream);
    int fd;
    int error; /* first error of receive, send or connect as -errno; 0 while all is well */
    struct op receive;
    struct op send;
    struct op control;     /* connect, shutdown, close: one after the other */
    uint16_t first_buffer; /* chain of unread provided buffers */
    uint16_t last_buffer;
    uint16_t buffers;      /* how many */
    uint16_t first_offset; /* bytes of the first one already consumed */
    bool connected : 1;
    bool eof : 1;    /* the peer sent FIN; unread input may remain */
    bool paused : 1; /* receive cancelled for back-pressure */
    bool closing : 1;
    bool abort : 1;
    bool secured : 1;                      /* the TLS handshake is done: input and output are inside of it */
    struct stream_tls *tls;                /* from the start of a handshake on, see core/stream_tls */
    void (*joined)(struct stream *stream); /* the driver's, or NULL; see stream_close */
    void (*closed)(struct stream *stream);
    struct stream_message *message; /* the send in flight, from the shard's pool */
    size_t unsent;                  /* octets at the end of the last send that the kernel has not taken */
    struct list starved;            /* in the shard's list while it waits for a receive buffer */
    uint64_t received_bytes;
    uint64_t sent_bytes;
};

/* Once per shard, before its first stream, and after its last one. */
void stream_shard_start(struct shard *shard);
void stream_shard_stop(struct shard *shard);

/* Takes over a connected socket and starts to receive. `wake` may be called from the next turn on. */
void stream_open(struct stream *stream, struct shard *shard, int fd, void (*wake)(struct stream *stream));

/* Starts to connect a socket, TCP or AF_UNIX (made here; optional local address); wake is called when connected or
 * error is set. Returns 0 or -errno when no socket could be made or bound (then nothing is in flight and there is
 * nothing to close).
 */
int stream_connect(struct stream *stream, struct shard *shard, const struct sockaddr *remote, socklen_t remote_length,
                   const struct sockaddr *local, socklen_t local_length, void (*wake)(struct stream *stream));

/* The first run of unread input (empty when there is none) and its consumption (n <= that run). After a consume, call
 * stream_input again: more runs may follow. */
struct bytes stream_input(const struct stream *stream);
void stream_consume(struct stream *stream, size_t n);

/* Sends the pieces, in order, wholly. The iovecs are copied, the bytes they point to must live until stream_sending is
 * false again. Must not be called while a send is in flight. count <= STREAM_SEND_PIECES. */
void stream_send(struct stream *stream, const struct iovec *pieces, unsigned count);
bool stream_sending(const struct stream *stream);

/* Shuts the socket down, waits for every operation in flight, closes, then calls `closed`, after which the stream's
 * memory may be freed. `wake` is not called any more. Call once. With `abort` the peer gets a reset. Before the close,
 * when nothing is in flight, `joined` is called: input that had come is still to be read, and `unsent` says how far the
 * last send has got. */
void stream_close(struct stream *stream, bool abort, void (*closed)(struct stream *stream));

#endif
