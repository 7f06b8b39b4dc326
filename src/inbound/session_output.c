/* Replies of a session on their way to the client.
 *
 * Replies of one wake leave in one send. The block is a window: [0, sent) is with the kernel or done, [sent,
 * length) is to follow when that send has ended. It is empty, and given back, whenever everything was sent. Small
 * replies, almost all, are copied out to be sent, so that a thousand sessions that answer at once share one block.
 *
 * The deadline for reading our replies is the same for all, so these sessions stand in one list in the order of
 * their sends.
 */
#include "inbound/session.h"
#include "inbound/session_filter.h"

/* --- blocks --- */

void session_output_give(struct server_session *session)
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

void session_output_free(struct server_session *session)
{
    session_output_give(session);
    give_small(session);
}

/* --- sending --- */

/* Every reply is counted once, by the line that ends it. 354 has its second half counted, the answer to the dot. */
static void count_replies(struct server_session *session, struct bytes replies)
{
    struct metric_set *metrics = session_metrics(session);
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
void session_output_send(struct server_session *session, struct bytes piece)
{
    struct iovec iovec = {.iov_base = (void *)(uintptr_t)piece.data, .iov_len = piece.length};
    session->output_ms = session_now_ms(session);
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

void session_output_flush(struct server_session *session)
{
    struct buffer *out = &session->out;
    if (session->sent == out->length || session->held_ms != 0 || stream_sending(&session->stream)) {
        return;
    }
    struct bytes piece = bytes_of(out->data + session->sent, out->length - session->sent);
    count_replies(session, piece);
    if (copy_small(session)) {
        piece.data = session->small;
    } else {
        session->sent = out->length;
    }
    session_output_send(session, piece);
}

/* A send has ended, perhaps. */
void session_output_take_sent(struct server_session *session)
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
bool session_output_make_room(struct server_session *session)
{
    struct buffer *out = &session->out;
    if (out->data == NULL) {
        void *block = block_pool_take(&session->inbound->replies);
        if (block == NULL) {
            server_session_close(session, true);
            return false;
        }
        *out = buffer_of(block, INBOUND_REPLY_BLOCK_BYTES);
    }
    if (buffer_room(out) >= SMTP_SERVER_OUTPUT_BYTES) {
        return true;
    }
    session_output_flush(session);
    return false;
}

bool session_output_say_farewell(struct server_session *session)
{
    if (!session->said_farewell && session_output_make_room(session)) {
        smtp_server_stop(&session->machine, &session->out, session->farewell);
        session->said_farewell = true;
    }
    return session->said_farewell;
}

/* --- clients that do not read --- */

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
            server_session_close(session, true);
        }
    }
}

/* Reads nothing because of us: its refusals are held back, or somebody decides about its login, behind which nothing
 * may be pipelined. */
static bool kept_waiting(const struct server_session *session)
{
    return session->stage == SESSION_TALKING && session->stream.buffers != 0 &&
           (session->held_ms != 0 || session->deciding);
}

/* Of these the ones that have been refused too often at once, the others after the grace. Who waits for a mail filter
 * is answered without it. */
static void cut_off_waiting(struct inbound *inbound)
{
    for (struct list *node = inbound->sessions.next; node != &inbound->sessions;) {
        struct server_session *session = LIST_OWNER(node, struct server_session, node);
        node = node->next;
        bool ripe = session->held_ms != 0 || inbound->shard->now_ms >= session->phase_ms + INBOUND_OUTPUT_GRACE_MS;
        if (kept_waiting(session) && ripe) {
            server_session_close(session, true);
        } else if (session->stream.buffers != 0) {
            session_filter_hurry(session);
        }
    }
}

void session_output_relieve(struct inbound *inbound)
{
    uint64_t now_ms = inbound->shard->now_ms;
    struct timer *timer = &inbound->unsent_timer;
    cut_off(inbound, INBOUND_OUTPUT_GRACE_MS, true);
    if (now_ms >= inbound->relieve_after_ms) { /* to look at all sessions is not for every turn */
        inbound->relieve_after_ms = now_ms + INBOUND_OUTPUT_GRACE_MS / 4;
        cut_off_waiting(inbound);
    }
    if (!wheel_armed(timer) || inbound->relieve_after_ms < timer->expires_ms) {
        /* With no buffer left nothing may ever complete: the turn that looks again has to come from a timer. */
        wheel_arm(&inbound->shard->wheel, timer, inbound->relieve_after_ms);
    }
}

static void unsent_timer_fired(struct timer *timer)
{
    struct inbound *inbound = CONTAINER_OF(timer, struct inbound, unsent_timer);
    cut_off(inbound, INBOUND_OUTPUT_BLOCKED_MS, false);
    watch_unsent(inbound);
}

void session_output_start(struct inbound *inbound)
{
    list_init(&inbound->unsent);
    wheel_timer_init(&inbound->unsent_timer, unsent_timer_fired);
}
