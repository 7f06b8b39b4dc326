/* A question to the program that knows OAuth tokens: one connection to its unix socket, one line out, one line back.
 *
 * It has a life of its own, because a connection is closed in its own time: the session may go first, and then the
 * question only waits for its end. */
#include "inbound/session.h"

#include <stdlib.h>
#include <sys/un.h>

#include "core/crypto.h"

struct session_question {
    struct stream stream;
    struct inbound *inbound;
    struct server_session *session; /* NULL: nobody waits for the answer */
    struct timer timer;
    struct sockaddr_un address; /* the ring looks at it when the turn ends */
    bool asked;
    struct buffer request;
    size_t answer_length;
    char answer[VERIFIER_ANSWER_BYTES_MAX];
};

static void free_question(struct session_question *question)
{
    crypto_wipe(question->request.data, question->request.capacity);
    free(question->request.data);
    free(question);
}

static void closed(struct stream *stream)
{
    struct session_question *question = CONTAINER_OF(stream, struct session_question, stream);
    struct inbound *inbound = question->inbound;
    inbound->question_count--;
    free_question(question);
    inbound_settle(inbound);
}

static struct server_session *let_go(struct session_question *question)
{
    struct server_session *session = question->session;
    session->question = NULL;
    question->session = NULL;
    shard_disarm(question->inbound->shard, &question->timer);
    return session;
}

/* The line lies in the question, which is there until the shard's next turn at least. */
static void finish(struct session_question *question, struct bytes line)
{
    struct server_session *session = let_go(question);
    char answer[VERIFIER_ANSWER_BYTES_MAX];
    memcpy(answer, line.data, line.length);
    stream_close(&question->stream, true, closed);
    session_auth_answered(session, bytes_of(answer, line.length));
}

/* True when the answer has ended, well or not. */
static bool read_answer(struct session_question *question, struct bytes *ret_line)
{
    struct bytes input;
    *ret_line = BYTES("");
    while ((input = stream_input(&question->stream)).length != 0) {
        size_t room = sizeof question->answer - question->answer_length;
        size_t length = input.length < room ? input.length : room;
        memcpy(question->answer + question->answer_length, input.data, length);
        question->answer_length += length;
        stream_consume(&question->stream, length);
        const char *end = memchr(question->answer, '\n', question->answer_length);
        if (end != NULL) {
            *ret_line = bytes_of(question->answer, (size_t)(end - question->answer));
            return true;
        }
        if (question->answer_length == sizeof question->answer) {
            return true;
        }
    }
    return question->stream.eof || question->stream.error != 0;
}

static void woken(struct stream *stream)
{
    struct session_question *question = CONTAINER_OF(stream, struct session_question, stream);
    struct bytes line;
    if (question->session == NULL) {
        return;
    }
    if (stream->connected && stream->error == 0 && !question->asked) {
        struct iovec piece = {.iov_base = question->request.data, .iov_len = question->request.length};
        question->asked = true;
        stream_send(stream, &piece, 1);
    }
    if (read_answer(question, &line)) {
        finish(question, line);
    }
}

static void timer_fired(struct timer *timer)
{
    finish(CONTAINER_OF(timer, struct session_question, timer), BYTES(""));
}

static struct session_question *new_question(struct server_session *session)
{
    struct session_question *question = calloc(1, sizeof *question);
    char *request = malloc(VERIFIER_REQUEST_BYTES_MAX);
    if (question == NULL || request == NULL) {
        free(question);
        free(request);
        return NULL;
    }
    question->inbound = session->inbound;
    question->session = session;
    question->request = buffer_of(request, VERIFIER_REQUEST_BYTES_MAX);
    wheel_timer_init(&question->timer, timer_fired);
    return question;
}

bool session_question_ask(struct server_session *session)
{
    struct bytes path = session->profile->verifier;
    struct shard *shard = session->inbound->shard;
    if (path.length == 0 || path.length >= sizeof((struct sockaddr_un *)0)->sun_path) {
        return false;
    }
    struct session_question *question = new_question(session);
    if (question == NULL) {
        return false;
    }
    question->address.sun_family = AF_UNIX;
    memcpy(question->address.sun_path, path.data, path.length);
    const struct sockaddr *address = (const struct sockaddr *)&question->address;
    if (!login_question(session->login, &question->request) ||
        stream_connect(&question->stream, shard, address, sizeof question->address, NULL, 0, woken) != 0) {
        free_question(question);
        return false;
    }
    session->question = question;
    session->inbound->question_count++;
    shard_arm(shard, &question->timer, session->profile->timeouts.verifier_ms);
    return true;
}

void session_question_drop(struct server_session *session)
{
    if (session->question != NULL) {
        struct session_question *question = session->question;
        let_go(question);
        stream_close(&question->stream, true, closed);
    }
}
