/* TLS sessions on streams.
 *
 * Input: a receive completion puts its buffer into the chain as ever; what can be decrypted of it then goes into the
 * session's block, and that is what the driver sees. As long as the driver leaves plaintext unread, nothing more is
 * decrypted, the chain grows, and the stream's own back-pressure works as it does without TLS.
 *
 * Output: a driver's send is encrypted piece by piece, each time as far as the session's one block goes, and its end is
 * reported when the last octet of ciphertext is with the kernel. The library has things to say by itself too (the
 * handshake, answers to key updates, alerts): they are put behind what stands in the block, and when the block is
 * nearly full the library gets no more input that it could answer. So a peer that never reads makes us hold one block;
 * and when nothing of the driver's is in it, so that the driver does not know of it, the session ends.
 *
 * While a driver consumes input it may come out that the session has ended or failed. The driver must be woken for it,
 * but not from within its own call; such streams wait in the shard's list until the end of the turn.
 */
#include "core/stream_tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "core/clock.h"
#include "core/shard.h"
#include "core/stream_private.h"
#include "core/tls_session.h"

struct stream_tls {
    struct tls_session session;
    struct stream *stream;
    struct list later; /* in the shard's list of streams to wake */
    uint64_t start_ns;
    bool counted; /* the handshake's end is in the metrics */
};

static struct metric_set *metrics(const struct stream_tls *tls)
{
    return tls->stream->shard->metrics;
}

/* --- from and to the session -------------------------------------------------------------------------------------- */

static size_t pull(struct tls_session *session, void *data, size_t length)
{
    struct stream *stream = CONTAINER_OF(session, struct stream_tls, session)->stream;
    size_t done = 0;
    while (done < length) {
        struct bytes input = stream_raw_input(stream);
        if (input.length == 0) {
            break;
        }
        size_t n = input.length < length - done ? input.length : length - done;
        memcpy((char *)data + done, input.data, n);
        done += n;
        stream_raw_consume(stream, n);
    }
    return done;
}

static void flush(struct stream *stream)
{
    struct bytes output = tls_session_output(&stream->tls->session);
    if (output.length != 0 && !stream->send.in_flight && !stream->closing) {
        ring_send(stream->shard->ring, &stream->send, stream->fd, output.data, output.length);
    }
}

static void count(struct stream_tls *tls, _Atomic uint64_t *counter)
{
    tls->counted = true;
    metric_add(counter, 1);
}

/* What the session's phase means for the stream. True when the driver does not know it yet. */
static bool reflect(struct stream *stream)
{
    struct stream_tls *tls = stream->tls;
    const struct tls_session *session = &tls->session;
    bool news = false;
    if (!stream->secured && (session->phase == TLS_PHASE_OPEN || session->phase == TLS_PHASE_ENDED)) {
        stream->secured = true;
        news = true;
        count(tls, session->facts.resumed ? &metrics(tls)->tls_resumed : &metrics(tls)->tls_handshakes);
        histogram_record(&metrics(tls)->tls_handshake_time, (clock_monotonic_ns() - tls->start_ns) / 1000);
    }
    if (session->phase == TLS_PHASE_ENDED && !stream->eof) {
        stream->eof = true;
        news = true;
    }
    if (session->phase == TLS_PHASE_FAILED && stream->error == 0) {
        stream_set_error(stream, session->error);
        news = true;
    }
    if (!tls->counted && (stream->error != 0 || stream->eof)) {
        count(tls, &metrics(tls)->tls_failures);
    }
    return news;
}

/* After the end, whatever it was, received octets mean nothing and must not keep the ring's buffers. */
static void drop_raw(struct stream *stream)
{
    struct bytes input;
    while ((input = stream_raw_input(stream)).length != 0) {
        stream_raw_consume(stream, input.length);
    }
}

/* With nothing of the driver's under way, the block is full of answers of the library's alone: to some hundreds of key
 * updates, none of which the peer has read. No driver waits for that to end, and no deadline looks at it, while what
 * the peer goes on sending stays in the ring's buffers. */
static bool is_deaf(const struct stream *stream)
{
    const struct tls_session *session = &stream->tls->session;
    return session->phase == TLS_PHASE_OPEN && stream->message == NULL && tls_session_choked(session) &&
           tls_session_input(session).length == 0 && stream_raw_input(stream).length != 0;
}

static bool advance(struct stream *stream)
{
    struct tls_session *session = &stream->tls->session;
    tls_session_advance(session);
    if (is_deaf(stream)) {
        tls_session_give_up(session, "the peer asks for answers and reads none");
    }
    flush(stream);
    if (session->phase >= TLS_PHASE_ENDED) {
        drop_raw(stream);
    }
    return reflect(stream);
}

bool stream_tls_received(struct stream *stream)
{
    bool news = advance(stream);
    return news || stream->error != 0 || stream->eof || stream_tls_input(stream).length != 0;
}

struct bytes stream_tls_input(const struct stream *stream)
{
    return tls_session_input(&stream->tls->session);
}

void stream_tls_consume(struct stream *stream, size_t n)
{
    tls_session_consume(&stream->tls->session, n);
    if (stream_tls_input(stream).length == 0 && advance(stream) && !stream->closing) {
        list_remove(&stream->tls->later);
        list_push_back(&stream->shard->later, &stream->tls->later);
    }
}

void stream_tls_turn(struct shard *shard)
{
    struct list *node;
    while ((node = list_pop_front(&shard->later)) != NULL) {
        stream_wake(LIST_OWNER(node, struct stream_tls, later)->stream);
    }
}

/* --- sending --------------------------------------------------------------------------------------------------------
 */

/* Encrypts what fits. False when that is not possible any more. */
static bool encrypt(struct stream *stream)
{
    struct msghdr *header = &stream->message->header;
    int error = tls_session_write(&stream->tls->session, &header->msg_iov, &header->msg_iovlen);
    if (error != 0) {
        stream_set_error(stream, error);
    }
    return error == 0;
}

/* A driver that sends into a session which has failed meanwhile learns it as with a lost connection: from `error`, once
 * it is woken. */
void stream_tls_send(struct stream *stream)
{
    CHECK(stream->secured);
    if (encrypt(stream)) {
        flush(stream);
    } else {
        stream_give_message(stream);
        list_remove(&stream->tls->later);
        list_push_back(&stream->shard->later, &stream->tls->later);
    }
}

void stream_tls_note_sent(struct stream *stream, size_t n)
{
    tls_session_sent(&stream->tls->session, n);
}

size_t stream_tls_unsent(const struct stream *stream)
{
    return tls_session_unsent(&stream->tls->session);
}

void stream_tls_sent(struct stream *stream, int result)
{
    struct tls_session *session = &stream->tls->session;
    bool sending = stream->message != NULL;
    bool good = result > 0;
    if (good) {
        good = !sending || encrypt(stream);
    } else {
        stream_set_error(stream, result == 0 ? -EPIPE : result);
    }
    if (good && tls_session_output(session).length != 0) {
        flush(stream);
        return;
    }
    if (sending) {
        stream_give_message(stream);
    }
    bool news = !good || sending;
    if (good && stream_raw_input(stream).length != 0) {
        news |= stream_tls_received(stream); /* it was held back for lack of room */
    }
    if (news) {
        stream_wake(stream);
    }
}

/* --- beginning and end ----------------------------------------------------------------------------------------------
 */

static struct stream_tls *new (struct stream *stream)
{
    CHECK(stream->tls == NULL && stream->connected && !stream->closing && !stream_sending(stream));
    struct stream_tls *tls = calloc(1, sizeof *tls);
    if (tls != NULL) {
        tls->stream = stream;
        list_init(&tls->later);
    }
    return tls;
}

static int begin(struct stream *stream, struct stream_tls *tls, int error)
{
    if (error != 0) {
        free(tls);
        return error;
    }
    tls->start_ns = clock_monotonic_ns();
    stream->tls = tls;
    metric_add(&metrics(tls)->tls_sessions, 1);
    if (advance(stream)) {
        list_push_back(&stream->shard->later, &tls->later);
    }
    return 0;
}

int stream_tls_start_implicit(struct stream *stream, struct tls_context *context)
{
    struct stream_tls *tls = new (stream);
    return tls == NULL ? -ENOMEM : begin(stream, tls, tls_session_init_server(&tls->session, context, pull));
}

int stream_tls_start_server(struct stream *stream, struct tls_context *context)
{
    return stream->buffers != 0 ? -EPROTO : stream_tls_start_implicit(stream, context);
}

int stream_tls_start_client(struct stream *stream, struct tls_context *context, const char *name,
                            enum tls_verify verify)
{
    if (stream->buffers != 0) {
        return -EPROTO;
    }
    struct stream_tls *tls = new (stream);
    return tls == NULL ? -ENOMEM
                       : begin(stream, tls, tls_session_init_client(&tls->session, context, name, verify, pull));
}

void stream_tls_goodbye(struct stream *stream)
{
    struct stream_tls *tls = stream->tls;
    list_remove(&tls->later);
    if (stream->error == 0 && !stream->send.in_flight && stream->message == NULL) {
        tls_session_goodbye(&tls->session);
        struct bytes output = tls_session_output(&tls->session);
        if (output.length != 0) {
            ring_send(stream->shard->ring, &stream->send, stream->fd, output.data, output.length);
        }
    }
}

void stream_tls_free(struct stream *stream)
{
    struct stream_tls *tls = stream->tls;
    stream->tls = NULL;
    list_remove(&tls->later);
    metric_subtract(&stream->shard->metrics->tls_sessions, 1);
    if (!tls->counted) {
        metric_add(&stream->shard->metrics->tls_failures, 1);
    }
    tls_session_free(&tls->session);
    free(tls);
}

const struct tls_facts *stream_tls_facts(const struct stream *stream)
{
    return &stream->tls->session.facts;
}

const char *stream_tls_reason(const struct stream *stream)
{
    const struct tls_session *session = &stream->tls->session;
    if (session->reason != NULL) {
        return session->reason;
    }
    return !stream->secured && stream->eof ? "the peer closed the connection during the handshake" : "";
}
