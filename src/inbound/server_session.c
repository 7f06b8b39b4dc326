/* The driver of an SMTP session. All control flow of a session is in `drive`: whatever completes (input, a send,
 * the commit, a timer) stores its result and calls it. The machine decides what is said; the driver decides when it
 * may go on:
 *
 *     TALKING     step by step through the machine, until it wants input, or room for replies, or the spool's word
 *     LEAVING     the last reply is said but not yet sent
 *     LINGERING   sent, and our half closed; what the client still sends is thrown away until it closes too. Closing
 *                 with input unread would reset the connection, and the reset may overtake a 250 or a 421
 *     CLOSED      stream_close was called; its completion frees the session
 *
 * Input stays in the stream's receive buffers and is parsed there. The driver stops consuming it (so the stream
 * stops receiving, and the client's window closes) while a commit is under way, while the disk is behind a large
 * body, and while the client does not read its replies. Nothing is queued on a client's behalf but one reply block.
 *
 * Replies of one wake leave in one send. The block is a window: [0, sent) is with the kernel or done, [sent,
 * length) is to follow when that send has ended. It is empty, and given back, whenever everything was sent. Small
 * replies, almost all, are copied out to be sent, so that a thousand sessions that answer at once share one block.
 *
 * One timer per session, armed for the nearest deadline and otherwise left alone: when it fires too early, because
 * the session went on in the meantime, it is armed again. A busy session so touches the wheel a few times an hour.
 * The deadline for reading our replies is the same for all, so these sessions stand in one list in the order of
 * their sends.
 */
#include "inbound/server_session.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "core/stream.h"
#include "inbound/policy.h"
#include "inbound/reception.h"
#include "inbound/session_event.h"

enum stage { TALKING, LEAVING, LINGERING, CLOSED };

struct server_session {
    struct stream stream;
    struct smtp_server machine;
    struct inbound *inbound;
    struct profile *profile;
    struct list node;   /* in inbound->sessions */
    struct list unsent; /* in inbound->unsent while a send is in flight */
    struct timer timer;
    struct reception *reception;  /* from MAIL to the end of the transaction */
    const struct reply *farewell; /* a 421 to be said as soon as there is room for it */
    struct buffer out;
    size_t sent; /* of out */
    void *small; /* what is being sent was copied to here; NULL: it was not */
    uint64_t began_ms;
    uint64_t command_ms; /* when the last command was answered */
    uint64_t message_ms; /* when 354 was said */
    uint64_t data_ms;    /* when the last piece of the message came */
    uint64_t output_ms;  /* when the send in flight began */
    uint64_t linger_ms;
    uint64_t counted_bytes; /* received, as far as the metric knows */
    struct admission_ticket ticket;
    struct peer peer;
    struct policy_client client;
    uint8_t stage;
    bool committing; /* END waits for its answer */
    bool said_farewell;
    uint8_t helo_length;
    char helo[LIMIT_DOMAIN_BYTES];
};

static_assert(sizeof(struct server_session) <= 1024, "an idle session, its stream and its machine included");
static_assert(LIMIT_DOMAIN_BYTES <= UINT8_MAX, "helo_length");
static_assert(INBOUND_REPLY_BLOCK_BYTES >= 2 * REPLY_BYTES_MAX, "the machine goes on while a send is in flight");

static void drive(struct server_session *session);

static uint64_t now_ms(const struct server_session *session)
{
    return session->inbound->shard->now_ms;
}

static struct metric_set *metrics_of(const struct server_session *session)
{
    return session->inbound->shard->metrics;
}

static struct reception_client client_of(const struct server_session *session)
{
    return (struct reception_client){
        .peer = &session->peer,
        .helo = bytes_of(session->helo, session->helo_length),
        .profile = session->profile,
        .extended = session->machine.extended,
    };
}

static void drop_reception(struct server_session *session)
{
    if (session->reception != NULL) {
        reception_release(session->reception);
        session->reception = NULL;
    }
    session->committing = false;
}

/* --- closing --- */

static void give_output(struct server_session *session)
{
    if (session->out.data != NULL) {
        block_pool_give(&session->inbound->replies, session->out.data);
        session->out = (struct buffer){0};
    }
}

static void give_small(struct server_session *session)
{
    if (session->small != NULL) {
        block_pool_give(&session->inbound->small_replies, session->small);
        session->small = NULL;
    }
}

static void give_line(struct server_session *session)
{
    free(session->machine.line);
    session->machine.line = NULL;
}

static void closed(struct stream *stream)
{
    struct server_session *session = CONTAINER_OF(stream, struct server_session, stream);
    struct inbound *inbound = session->inbound;
    give_output(session);
    give_small(session);
    give_line(session);
    list_remove(&session->node);
    inbound->session_count--;
    metric_set_to(&inbound->shard->metrics->sessions, inbound->session_count);
    admission_leave(inbound->admission, &session->ticket);
    profile_give(session->profile);
    free(session);
    inbound_settle(inbound);
}

/* A commit that has begun goes on without the session. */
static void close_session(struct server_session *session, bool abort)
{
    CHECK(session->stage != CLOSED);
    session->stage = CLOSED;
    drop_reception(session);
    list_remove(&session->unsent);
    shard_disarm(session->inbound->shard, &session->timer);
    stream_close(&session->stream, abort, closed);
}

/* --- replies --- */

/* Every reply is counted once, by the line that ends it. 354 has its second half counted, the answer to the dot. */
static void count_replies(struct server_session *session, struct bytes replies)
{
    struct metric_set *metrics = metrics_of(session);
    while (replies.length >= 4) {
        const char *end = memchr(replies.data, '\n', replies.length);
        if (end == NULL) {
            return;
        }
        if (replies.data[3] == ' ' && replies.data[0] != '3') {
            metric_add(&metrics->commands, 1);
            metric_add(&metrics->replies_transient, replies.data[0] == '4');
            metric_add(&metrics->replies_permanent, replies.data[0] == '5');
        }
        bytes_advance(&replies, (size_t)(end - replies.data) + 1);
    }
}

/* One timer for all, at the deadline of the one that waits longest. */
static void watch_unsent(struct inbound *inbound)
{
    if (!list_empty(&inbound->unsent) && !wheel_armed(&inbound->unsent_timer)) {
        const struct server_session *first = LIST_OWNER(inbound->unsent.next, struct server_session, unsent);
        wheel_arm(&inbound->shard->wheel, &inbound->unsent_timer, first->output_ms + INBOUND_OUTPUT_BLOCKED_MS);
    }
}

/* Greetings are sent from the profile, all other replies from the session's block. */
static void send_piece(struct server_session *session, struct bytes piece)
{
    struct iovec iovec = {.iov_base = (void *)(uintptr_t)piece.data, .iov_len = piece.length};
    session->output_ms = now_ms(session);
    list_push_back(&session->inbound->unsent, &session->unsent);
    watch_unsent(session->inbound);
    stream_send(&session->stream, &iovec, 1);
}

/* Moves all of the block out of it, when that is little. */
static bool copy_small(struct server_session *session)
{
    struct buffer *out = &session->out;
    if (session->sent != 0 || out->length > INBOUND_REPLY_SMALL_BYTES) {
        return false;
    }
    session->small = block_pool_take(&session->inbound->small_replies);
    if (session->small != NULL) {
        memcpy(session->small, out->data, out->length);
        out->length = 0;
    }
    return session->small != NULL;
}

static void flush(struct server_session *session)
{
    struct buffer *out = &session->out;
    if (session->sent == out->length || stream_sending(&session->stream)) {
        return;
    }
    struct bytes piece = bytes_of(out->data + session->sent, out->length - session->sent);
    count_replies(session, piece);
    if (copy_small(session)) {
        piece.data = session->small;
    } else {
        session->sent = out->length;
    }
    send_piece(session, piece);
}

/* A send has ended, perhaps. */
static void take_sent(struct server_session *session)
{
    if (stream_sending(&session->stream)) {
        return;
    }
    list_remove(&session->unsent);
    give_small(session);
    if (session->sent == session->out.length) {
        session->sent = session->out.length = 0;
    }
}

/* True when a reply of any size fits. False: a send is in flight whose end will make room. */
static bool make_room(struct server_session *session)
{
    struct buffer *out = &session->out;
    if (out->data == NULL) {
        void *block = block_pool_take(&session->inbound->replies);
        if (block == NULL) {
            close_session(session, true);
            return false;
        }
        *out = buffer_of(block, INBOUND_REPLY_BLOCK_BYTES);
    }
    if (buffer_room(out) >= SMTP_SERVER_OUTPUT_BYTES) {
        return true;
    }
    flush(session);
    return false;
}

static bool say_farewell(struct server_session *session)
{
    if (!session->said_farewell && make_room(session)) {
        smtp_server_stop(&session->machine, &session->out, session->farewell);
        session->said_farewell = true;
    }
    return session->said_farewell;
}

/* --- events of the machine --- */

static bool take_line(struct server_session *session)
{
    session->machine.line = malloc(session->profile->smtp.command_bytes_max);
    if (session->machine.line == NULL) {
        close_session(session, true);
        return false;
    }
    return true;
}

static void on_helo(struct server_session *session)
{
    struct bytes name = session->machine.helo;
    CHECK(name.length <= sizeof session->helo);
    memcpy(session->helo, name.data, name.length);
    session->helo_length = (uint8_t)name.length;
}

static void tell_rejection(const struct server_session *session, const char *phase, const struct reply *reply)
{
    const struct smtp_server *machine = &session->machine;
    session_event_rejection(&(struct session_event){
        .shard = session->inbound->shard,
        .listener = session->profile->name,
        .peer = &session->peer,
        .phase = phase,
        .sender = machine->awaiting == SMTP_SERVER_MAIL ? machine->mail.path.mailbox : BYTES(""),
        .recipient = machine->awaiting == SMTP_SERVER_RCPT ? machine->rcpt.path.mailbox : BYTES(""),
        .reply = reply,
    });
}

/* `refusal` NULL: yes. */
static void answer(struct server_session *session, const char *phase, const struct reply *refusal)
{
    if (refusal == NULL) {
        smtp_server_accept(&session->machine, &session->out);
    } else {
        tell_rejection(session, phase, refusal);
        smtp_server_refuse(&session->machine, &session->out, refusal);
    }
}

static void reception_changed(void *owner)
{
    drive(owner);
}

static void on_mail(struct server_session *session)
{
    const struct reply *refusal = policy_mail(session->inbound);
    if (refusal == NULL && now_ms(session) >= session->began_ms + session->profile->timeouts.session_ms) {
        refusal = reply_of(REPLY_IDLE);
    }
    if (refusal == NULL) {
        struct reception_client client = client_of(session);
        session->reception = reception_begin(session->inbound, &client, &session->machine.mail.path, reception_changed,
                                             session);
        refusal = session->reception == NULL ? reply_of(REPLY_NO_SPACE) : NULL;
    }
    answer(session, "mail", refusal);
}

static void on_rcpt(struct server_session *session)
{
    const struct address *recipient = &session->machine.rcpt.path;
    const struct reply *refusal = policy_recipient(&session->client, recipient);
    if (refusal == NULL) {
        enum err err = reception_add_recipient(session->reception, recipient);
        refusal = err == ERR_OK     ? NULL
                  : err == ERR_FULL ? reply_of(REPLY_TOO_MANY_RECIPIENTS)
                                    : policy_storage_reply(err);
    }
    answer(session, "rcpt", refusal);
}

static void on_data(struct server_session *session)
{
    session->message_ms = session->data_ms = now_ms(session);
    answer(session, "data", NULL);
}

static void on_body(struct server_session *session)
{
    session->data_ms = now_ms(session);
    reception_body(session->reception, session->machine.piece);
}

/* The message's fate is known. */
static void answer_end(struct server_session *session)
{
    enum err err;
    if (!session->committing || !reception_finished(session->reception, &err) || !make_room(session)) {
        return;
    }
    if (err == ERR_OK) {
        char room[64];
        char id[RECEPTION_ID_BYTES];
        struct buffer text = buffer_of(room, sizeof room);
        bool relaxed = session->profile->durability == INBOUND_RELAXED;
        CHECK(buffer_append(&text, relaxed ? BYTES("queued (relaxed durability) as ") : BYTES("queued as ")) &&
              buffer_append_string(&text, reception_id(session->reception, id)));
        smtp_server_accept_text(&session->machine, &session->out, buffer_bytes(&text));
    } else {
        metric_add(&metrics_of(session)->messages_rejected, 1);
        answer(session, "dot", policy_storage_reply(err));
    }
    drop_reception(session);
}

static void on_end(struct server_session *session)
{
    struct reception_client client = client_of(session);
    session->committing = true;
    reception_finish(session->reception, &client, &session->machine.dot);
    answer_end(session);
}

static void on_dropped(struct server_session *session)
{
    drop_reception(session);
    if (session->machine.drop == SMTP_SERVER_DROP_CONTENT) {
        metric_add(&metrics_of(session)->messages_rejected, 1);
        tell_rejection(session, "dot", reply_of((enum reply_id)session->machine.refusal));
    }
}

/* --- the driver --- */

/* One event. True when there may be another at once. */
static bool step(struct server_session *session)
{
    struct bytes run = stream_input(&session->stream);
    struct bytes input = run;
    bool more = true;
    switch (smtp_server_next(&session->machine, &input, &session->out)) {
    case SMTP_SERVER_WANT_INPUT: more = run.length != 0; break; /* there may be another run behind this one */
    case SMTP_SERVER_WANT_OUTPUT: more = make_room(session); break;
    case SMTP_SERVER_WANT_LINE: more = take_line(session); break;
    case SMTP_SERVER_HELO: on_helo(session); break;
    case SMTP_SERVER_MAIL: on_mail(session); break;
    case SMTP_SERVER_RCPT: on_rcpt(session); break;
    case SMTP_SERVER_DATA: on_data(session); break;
    case SMTP_SERVER_BODY: on_body(session); break;
    case SMTP_SERVER_END: on_end(session); break;
    case SMTP_SERVER_DROPPED: on_dropped(session); break;
    case SMTP_SERVER_CLOSE: session->stage = LEAVING; break;
    }
    stream_consume(&session->stream, run.length - input.length);
    return more;
}

static bool may_step(const struct server_session *session)
{
    return session->stage == TALKING && !session->committing &&
           (session->reception == NULL || !reception_stalled(session->reception));
}

/* When the shard stops: 421 between transactions, and in them once the deadline has passed. */
static void consider_stop(struct server_session *session)
{
    const struct inbound *inbound = session->inbound;
    if (inbound->stopping && session->farewell == NULL &&
        (inbound->overdue || !smtp_server_in_transaction(&session->machine))) {
        session->farewell = reply_of(REPLY_SHUTDOWN);
    }
}

static void talk(struct server_session *session)
{
    size_t said = session->out.length;
    uint64_t received = session->stream.received_bytes;
    bool more = true;
    answer_end(session);
    while (more && may_step(session)) {
        consider_stop(session);
        more = (session->farewell == NULL || say_farewell(session)) && step(session);
    }
    if (session->stage == CLOSED) {
        return;
    }
    if (session->out.length != said) {
        session->command_ms = now_ms(session);
    }
    if (received != session->counted_bytes) {
        metric_add(&metrics_of(session)->received_bytes, received - session->counted_bytes);
        session->counted_bytes = received;
        session->data_ms = now_ms(session);
    }
    if (session->machine.line_length == 0) {
        give_line(session);
    }
    if (session->stage == TALKING && session->stream.eof && may_step(session) &&
        stream_input(&session->stream).length == 0) {
        drop_reception(session); /* end of input is QUIT without goodbye; replies still go out */
        session->stage = LEAVING;
    }
}

static void leave(struct server_session *session)
{
    if (session->sent != session->out.length || stream_sending(&session->stream)) {
        return;
    }
    session->stage = LINGERING;
    session->linger_ms = now_ms(session) + INBOUND_LINGER_MS;
    session->counted_bytes = session->stream.received_bytes;
    shutdown(session->stream.fd, SHUT_WR);
}

static void linger(struct server_session *session)
{
    size_t length;
    while ((length = stream_input(&session->stream).length) != 0) {
        stream_consume(&session->stream, length);
    }
    if (session->stream.eof || session->stream.received_bytes - session->counted_bytes > INBOUND_LINGER_BYTES) {
        close_session(session, !session->stream.eof);
    }
}

/* The nearest moment at which something has to have happened; UINT64_MAX when we wait for ourselves. */
static uint64_t deadline_of(const struct server_session *session)
{
    const struct inbound_timeouts *timeouts = &session->profile->timeouts;
    if (session->stage == LINGERING) {
        return session->linger_ms;
    }
    if (session->farewell != NULL || !may_step(session)) {
        return UINT64_MAX;
    }
    uint64_t step_ms = session->command_ms + timeouts->command_ms;
    uint64_t whole_ms = UINT64_MAX;
    if (smtp_server_in_body(&session->machine)) {
        step_ms = session->data_ms + timeouts->data_block_ms;
        whole_ms = session->message_ms + timeouts->message_ms;
    } else if (!smtp_server_in_transaction(&session->machine)) {
        whole_ms = session->began_ms + timeouts->session_ms;
    }
    return step_ms < whole_ms ? step_ms : whole_ms;
}

static void arm_timer(struct server_session *session)
{
    uint64_t deadline = deadline_of(session);
    if (deadline != UINT64_MAX && (!wheel_armed(&session->timer) || deadline < session->timer.expires_ms)) {
        wheel_arm(&session->inbound->shard->wheel, &session->timer, deadline);
    }
}

static void drive(struct server_session *session)
{
    if (session->stage == CLOSED) {
        return;
    }
    if (session->stream.error != 0) {
        close_session(session, true);
        return;
    }
    take_sent(session);
    if (session->stage == TALKING) {
        talk(session);
    }
    if (session->stage == TALKING || session->stage == LEAVING) {
        flush(session);
    }
    if (session->stage == LEAVING) {
        leave(session);
    }
    if (session->stage == LINGERING) {
        linger(session);
    }
    if (session->stage == CLOSED) {
        return;
    }
    if (session->out.length == 0) {
        give_output(session);
    }
    arm_timer(session);
}

static void timer_fired(struct timer *timer)
{
    struct server_session *session = CONTAINER_OF(timer, struct server_session, timer);
    if (now_ms(session) < deadline_of(session)) {
        arm_timer(session);
    } else if (session->stage == LINGERING) {
        close_session(session, true);
    } else {
        session->farewell = reply_of(REPLY_IDLE);
        drive(session);
    }
}

static void woken(struct stream *stream)
{
    drive(CONTAINER_OF(stream, struct server_session, stream));
}

/* --- opening --- */

void server_session_open(struct inbound *inbound, const struct listener_connection *connection)
{
    struct server_session *session = malloc(sizeof *session);
    if (session == NULL) {
        close(connection->fd);
        admission_leave(inbound->admission, &connection->ticket);
        return;
    }
    uint64_t now = inbound->shard->now_ms;
    struct profile *profile = inbound->listeners[connection->listener].profile;
    *session = (struct server_session){
        .inbound = inbound,
        .profile = profile_take(profile),
        .began_ms = now,
        .command_ms = now,
        .ticket = connection->ticket,
        .peer = connection->peer,
        .client = policy_connect(profile, &connection->peer),
        .stage = TALKING,
    };
    smtp_server_init(&session->machine, &session->profile->smtp);
    list_init(&session->node);
    list_init(&session->unsent);
    wheel_timer_init(&session->timer, timer_fired);
    list_push_back(&inbound->sessions, &session->node);
    inbound->session_count++;
    metric_set_to(&inbound->shard->metrics->sessions, inbound->session_count);
    stream_open(&session->stream, inbound->shard, connection->fd, woken);
    send_piece(session, session->profile->greeting);
    arm_timer(session);
}

/* --- all sessions of the shard --- */

void server_session_stop_all(struct inbound *inbound)
{
    for (struct list *node = inbound->sessions.next; node != &inbound->sessions;) {
        struct server_session *session = LIST_OWNER(node, struct server_session, node);
        node = node->next;
        drive(session);
    }
}

void server_session_abort_all(struct inbound *inbound)
{
    for (struct list *node = inbound->sessions.next; node != &inbound->sessions;) {
        struct server_session *session = LIST_OWNER(node, struct server_session, node);
        node = node->next;
        if (session->stage != CLOSED && !session->committing) {
            close_session(session, true);
        }
    }
}

/* Sessions whose send has been in flight for so long; hoarders have unread input. */
static void cut_off(struct inbound *inbound, uint64_t after_ms, bool hoarders_only)
{
    for (struct list *node = inbound->unsent.next; node != &inbound->unsent;) {
        struct server_session *session = LIST_OWNER(node, struct server_session, unsent);
        node = node->next;
        if (inbound->shard->now_ms < session->output_ms + after_ms) {
            return;
        }
        if (!hoarders_only || session->stream.buffers != 0) {
            close_session(session, true);
        }
    }
}

void server_session_relieve(struct inbound *inbound)
{
    cut_off(inbound, INBOUND_OUTPUT_GRACE_MS, true);
    uint64_t again_ms = inbound->shard->now_ms + INBOUND_OUTPUT_GRACE_MS / 4;
    if (!list_empty(&inbound->unsent) && again_ms < inbound->unsent_timer.expires_ms) {
        /* With no buffer left nothing may ever complete: the turn that looks again has to come from a timer. */
        wheel_arm(&inbound->shard->wheel, &inbound->unsent_timer, again_ms);
    }
}

static void unsent_timer_fired(struct timer *timer)
{
    struct inbound *inbound = CONTAINER_OF(timer, struct inbound, unsent_timer);
    cut_off(inbound, INBOUND_OUTPUT_BLOCKED_MS, false);
    watch_unsent(inbound);
}

void server_session_start(struct inbound *inbound)
{
    list_init(&inbound->sessions);
    list_init(&inbound->unsent);
    wheel_timer_init(&inbound->unsent_timer, unsent_timer_fired);
}
