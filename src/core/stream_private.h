/* Between core/stream and core/stream_tls: what a secured stream does instead, and what it does it with. */
#ifndef CORE_STREAM_PRIVATE_H
#define CORE_STREAM_PRIVATE_H

#include "core/stream.h"

struct stream_message {
    struct list node;
    struct msghdr header;
    struct iovec pieces[STREAM_SEND_PIECES];
};

/* The socket's side of a stream: what has been received as it came, and one send. */
struct bytes stream_raw_input(const struct stream *stream);
void stream_raw_consume(struct stream *stream, size_t n);
void stream_set_error(struct stream *stream, int error);
void stream_give_message(struct stream *stream);
/* Calls `wake`, then looks at back-pressure. */
void stream_wake(struct stream *stream);

/* The secured side. True when there is something new for the driver. */
bool stream_tls_received(struct stream *stream);
struct bytes stream_tls_input(const struct stream *stream);
void stream_tls_consume(struct stream *stream, size_t n);
void stream_tls_send(struct stream *stream);
/* The kernel has taken n octets of ciphertext. */
void stream_tls_note_sent(struct stream *stream, size_t n);
/* A send has ended, and the stream is not being closed. */
void stream_tls_sent(struct stream *stream, int result);
/* Octets of plaintext that were encrypted, but whose records the kernel has not taken wholly. */
size_t stream_tls_unsent(const struct stream *stream);
/* The driver closes: says goodbye if it can. */
void stream_tls_goodbye(struct stream *stream);
/* Everything is at rest. */
void stream_tls_free(struct stream *stream);
/* Once a turn: wakes drivers whose stream changed while they were consuming. */
void stream_tls_turn(struct shard *shard);

#endif
