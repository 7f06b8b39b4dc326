/* The driver of an SMTP session. All control flow of a session is in `server_session_drive`: whatever completes
 * (input, a send, the commit, a timer) stores its result and calls it. The machine decides what is said; the driver
 * decides when it may go on:
 *
 *     TALKING     step by step through the machine, until it wants input, or room for replies, or the spool's word
 *     LEAVING     the last reply is said but not yet sent
 *     LINGERING   sent, and our half closed; what the client still sends is thrown away until it closes too. Closing
 *                 with input unread would reset the connection, and the reset may overtake a 250 or a 421
 *     CLOSED      stream_close was called; its completion frees the session
 *
 * Input stays in the stream's receive buffers and is parsed there. The driver stops consuming it (so the stream
 * stops receiving, and the client's window closes) while a commit is under way, while a gate has not answered, while
 * the disk is behind a large body, and while the client does not read its replies. Nothing is queued on a client's
 * behalf but one reply block.
 *
 * One timer per session, armed for the nearest deadline and otherwise left alone: when it fires too early, because
 * the session went on in the meantime, it is armed again. A busy session so touches the wheel a few times an hour.
 */
#include "inbound/server_session.h"

#include <stdlib.h>
#include <unistd.h>

#include "core/crypto.h"
#include "core/stream_tls.h"
#include "inbound/session.h"

/* --- memory of a session --- */

/* What was a password is overwritten. */
static void give_line(struct server_session *session)
{
    if (session->machine.line != NULL && session->secret_line) {
        crypto_wipe(session->machine.line, session->line_bytes);
        session->secret_line = false;
    }
    free(session->machine.line);
    session->machine.line = NULL;
}

static bool take_line(struct server_session *session)
{
    char *line = malloc(session->machine.line_bytes);
    if (line == NULL) {
        server_session_close(session, true);
        return false;
    }
    if (session->machine.line_length != 0) {
        memcpy(line, session->machine.line, session->machine.line_length);
    }
    give_line(session);
    session->machine.line = line;
    session->line_bytes = session->machine.line_bytes;
    return true;
}

/* --- closing --- */

static void closed(struct stream *stream)
{
    struct server_session *session = CONTAINER_OF(stream, struct server_session, stream);
    struct inbound *inbound = session->inbound;
    session_output_free(session);
    session_proxy_free(session);
    give_line(session);
    login_identity_give(&session->identity);
    list_remove(&session->node);
    inbound->session_count--;
    metric_set_to(&inbound->shard->metrics->sessions, inbound->session_count);
    admission_leave(inbound->admission, &session->ticket);
    profile_give(session->profile);
    free(session);
    inbound_settle(inbound);
}

/* A commit that has begun goes on without the session. */
void server_session_close(struct server_session *session, bool abort)
{
    CHECK(session->stage != SESSION_CLOSED);
    session->stage = SESSION_CLOSED;
    session_auth_end(session);
    session_gate_drop(session);
    session_command_drop_reception(session);
    session_filter_free(session);
    list_remove(&session->unsent);
    shard_disarm(session->inbound->shard, &session->timer);
    stream_close(&session->stream, abort, closed);
}

/* --- the driver --- */

/* One event. True when there may be another at once. */
static bool step(struct server_session *session)
{
    struct bytes run = stream_input(&session->stream);
    struct bytes input = run;
    bool more = true;
    session->machine.now_s = session->inbound->shard->wall_ms / 1000;
    enum smtp_server_event event = smtp_server_next(&session->machine, &input, &session->out);
    switch (event) {
    case SMTP_SERVER_WANT_INPUT: more = run.length != 0; break; /* there may be another run behind this one */
    case SMTP_SERVER_WANT_OUTPUT: more = session_output_make_room(session); break;
    case SMTP_SERVER_WANT_LINE: more = take_line(session); break;
    case SMTP_SERVER_CLOSE: session->stage = SESSION_LEAVING; break;
    default: session_command_event(session, event); break;
    }
    uint8_t awaiting = session->machine.awaiting;
    if (session->asking && (awaiting == SMTP_SERVER_MAIL || awaiting == SMTP_SERVER_RCPT)) {
        session->unread = (uint32_t)(run.length - input.length); /* the command may lie in it */
    } else {
        stream_consume(&session->stream, run.length - input.length);
    }
    return more;
}

static bool may_step(const struct server_session *session)
{
    return session->stage == SESSION_TALKING && !session->committing && !session->deciding && !session->asking &&
           !session->starting_tls && session->held_ms == 0 &&
           (session->reception == NULL || !reception_stalled(session->reception));
}

/* When the shard stops: 421 between transactions, and in them once the deadline has passed. */
static void consider_stop(struct server_session *session)
{
    const struct inbound *inbound = session->inbound;
    if (inbound->stopping && session->farewell == NULL && !session->machine.closing &&
        (inbound->overdue || !smtp_server_in_transaction(&session->machine))) {
        session->farewell = reply_of(REPLY_SHUTDOWN);
    }
}

/* Errors cost: they count against the client's rates, and from some number on each takes time. */
static void charge_errors(struct server_session *session)
{
    const struct profile *profile = session->profile;
    struct throttle_client client = session_throttle(session);
    uint32_t errors = session->machine.errors;
    for (; session->errors < errors && session->farewell == NULL; session->errors++) {
        session->farewell = throttle_error(session->inbound, profile, &client);
        if (profile->error_delay_ms != 0 && errors >= profile->error_delay_after) {
            session->held_ms = session_now_ms(session) + profile->error_delay_ms;
        }
    }
    session->errors = errors;
}

/* What has begun, or ended, with one answer. */
static void take_times(struct server_session *session, bool was_in_body, bool was_in_transaction)
{
    const struct smtp_server *machine = &session->machine;
    if (!was_in_body && smtp_server_in_body(machine)) { /* or in a chunk that is only read over */
        session->data_ms = session_now_ms(session);
        session->message_ms = session->message_ms != 0 ? session->message_ms : session->data_ms;
    }
    if (!was_in_transaction && smtp_server_in_transaction(machine)) {
        session->mail_ms = session_now_ms(session);
    }
    if (!smtp_server_in_body(machine) && session->reception == NULL) {
        session->message_ms = 0;
    }
    if (session->errors != machine->errors) {
        charge_errors(session);
    }
}

/* Answers what had to wait for its answer, then goes on. */
static void talk(struct server_session *session)
{
    size_t said = session->out.length;
    uint64_t received = session->stream.received_bytes;
    bool in_body = smtp_server_in_body(&session->machine);
    bool in_transaction = smtp_server_in_transaction(&session->machine);
    bool more = true;
    session_command_answer_end(session);
    session_auth_conclude(session);
    session_gate_conclude(session);
    take_times(session, in_body, in_transaction);
    while (more && may_step(session)) {
        in_body = smtp_server_in_body(&session->machine);
        in_transaction = smtp_server_in_transaction(&session->machine);
        consider_stop(session);
        more = (session->farewell == NULL || session_output_say_farewell(session)) && step(session);
        take_times(session, in_body, in_transaction);
    }
    if (session->stage == SESSION_CLOSED) {
        return;
    }
    if (session->out.length != said) {
        session->command_ms = session_now_ms(session);
    }
    if (received != session->counted_bytes) {
        metric_add(&session_metrics(session)->received_bytes, received - session->counted_bytes);
        session->counted_bytes = received;
        session->data_ms = session_now_ms(session);
    }
    if (session->machine.line_length == 0 && !session->asking) {
        give_line(session);
    }
    if (session->stage == SESSION_TALKING && session->stream.eof && may_step(session) &&
        stream_input(&session->stream).length == 0) {
        session_command_drop_reception(session); /* end of input is QUIT without goodbye; replies still go out */
        session->stage = SESSION_LEAVING;
    }
}

/* Nobody but us wanted the end: the client may still be sending. */
static bool is_cut_short(const struct server_session *session)
{
    const struct smtp_server *machine = &session->machine;
    return session->farewell != NULL || machine->errors >= machine->config->errors_max ||
           stream_input(&session->stream).length != 0;
}

static void leave(struct server_session *session)
{
    if (session->sent != session->out.length || stream_sending(&session->stream)) {
        return;
    }
    /* Inside TLS our end is said by close_notify, which goes out when the stream is closed. */
    if (session->stream.secured && !is_cut_short(session)) {
        server_session_close(session, false);
        return;
    }
    session->stage = SESSION_LINGERING;
    session->phase_ms = session_now_ms(session);
    session->counted_bytes = session->stream.received_bytes;
    if (!session->stream.secured) {
        shutdown(session->stream.fd, SHUT_WR);
    }
}

static void linger(struct server_session *session)
{
    size_t length;
    while ((length = stream_input(&session->stream).length) != 0) {
        stream_consume(&session->stream, length);
    }
    if (session->stream.eof || session->stream.received_bytes - session->counted_bytes > INBOUND_LINGER_BYTES) {
        server_session_close(session, !session->stream.eof);
    }
}

/* While talking. */
static uint64_t command_deadline(const struct server_session *session)
{
    const struct inbound_timeouts *timeouts = &session->profile->timeouts;
    if (session->held_ms != 0) {
        return session->held_ms;
    }
    if (session->login != NULL && session->farewell == NULL) {
        return session->phase_ms + timeouts->auth_ms;
    }
    if (session->farewell != NULL || !may_step(session)) {
        return UINT64_MAX;
    }
    uint64_t step_ms = session->command_ms + timeouts->command_ms;
    uint64_t whole_ms = UINT64_MAX;
    if (session->message_ms != 0) { /* also between chunks */
        whole_ms = session->message_ms + timeouts->message_ms;
    }
    if (smtp_server_in_body(&session->machine)) {
        step_ms = session->data_ms + timeouts->data_block_ms;
    } else if (!smtp_server_in_transaction(&session->machine)) {
        whole_ms = session->began_ms + timeouts->session_ms;
    } else if (session->message_ms == 0) { /* or NOOP behind MAIL would keep it for ever */
        whole_ms = session->mail_ms + timeouts->message_ms;
    }
    return step_ms < whole_ms ? step_ms : whole_ms;
}

/* The nearest moment at which something has to have happened; UINT64_MAX when we wait for ourselves. */
static uint64_t deadline_of(const struct server_session *session)
{
    switch ((enum session_stage)session->stage) {
    case SESSION_PROXY:
    case SESSION_HANDSHAKE: return session->phase_ms + session->profile->timeouts.handshake_ms;
    case SESSION_PAUSING: return session->phase_ms + session->profile->greet_pause_ms;
    case SESSION_TALKING: return command_deadline(session);
    case SESSION_LEAVING: return session->held_ms != 0 ? session->held_ms : UINT64_MAX;
    case SESSION_LINGERING: return session->phase_ms + INBOUND_LINGER_MS;
    case SESSION_CLOSED: break;
    }
    return UINT64_MAX;
}

static void arm_timer(struct server_session *session)
{
    uint64_t deadline = deadline_of(session);
    if (deadline != UINT64_MAX && (!wheel_armed(&session->timer) || deadline < session->timer.expires_ms)) {
        wheel_arm(&session->inbound->shard->wheel, &session->timer, deadline);
    }
}

/* --- before the first command --- */

void server_session_greet(struct server_session *session)
{
    session->stage = SESSION_TALKING;
    session->command_ms = session_now_ms(session);
    session_output_send(session, session->profile->greeting);
}

void server_session_admitted(struct server_session *session)
{
    session->phase_ms = session_now_ms(session);
    if (session->profile->tls == INBOUND_TLS_IMPLICIT && !session->stream.secured) {
        if (session->farewell != NULL) {
            server_session_close(session, false); /* in clear text nobody would understand it */
        } else {
            session_tls_start(session);
        }
    } else if (session->farewell != NULL) {
        session->stage = SESSION_TALKING; /* instead of the greeting */
    } else if (session->profile->greet_pause_ms != 0) {
        session->stage = SESSION_PAUSING;
    } else {
        server_session_greet(session);
    }
}

/* RFC 5321 3.1: who speaks before the greeting is no mail client. */
static void pause_session(struct server_session *session)
{
    static const struct reply too_early = {
        .code = 554, .enhanced = {5, 5, 0}, .text = {"You spoke before the greeting", 29}};
    if (session->stream.eof) {
        server_session_close(session, false);
    } else if (stream_input(&session->stream).length != 0 && session_output_make_room(session)) {
        metric_add(&session_metrics(session)->early_talkers, 1);
        session_command_tell(session, "connect", BYTES(""), &too_early);
        smtp_server_greet_refusing(&session->machine, &session->out, &too_early);
        session->stage = SESSION_TALKING;
    }
}

/* What happens in a stage may be that the next one begins. */
static void begin(struct server_session *session)
{
    if (session->inbound->stopping && session->stage < SESSION_TALKING) {
        server_session_close(session, false);
    }
    if (session->stage == SESSION_PROXY) {
        session_proxy_read(session);
    }
    if (session->stage == SESSION_HANDSHAKE) {
        session_tls_look(session);
    }
    if (session->stage == SESSION_PAUSING) {
        pause_session(session);
    }
}

static void end(struct server_session *session)
{
    if (session->stage == SESSION_LEAVING) {
        leave(session);
    }
    if (session->stage == SESSION_LINGERING) {
        linger(session);
    }
}

void server_session_drive(struct server_session *session)
{
    if (session->stage == SESSION_CLOSED) {
        return;
    }
    if (session->stream.error != 0) {
        if (session->stage == SESSION_HANDSHAKE) {
            session_tls_failed(session, stream_tls_reason(&session->stream));
        }
        server_session_close(session, true);
        return;
    }
    if (session->stage < SESSION_TALKING) {
        begin(session);
    }
    if (session->stage >= SESSION_TALKING && session->stage != SESSION_CLOSED) {
        session_output_take_sent(session);
    }
    if (session->stage == SESSION_TALKING) {
        talk(session);
    }
    if (session->stage == SESSION_TALKING || session->stage == SESSION_LEAVING) {
        session_output_flush(session);
    }
    end(session);
    if (session->stage == SESSION_CLOSED) {
        return;
    }
    if (session->out.length == 0) {
        session_output_give(session);
    }
    if (session->starting_tls && session->out.length == 0 && !stream_sending(&session->stream)) {
        session_tls_start(session);
    }
    arm_timer(session);
}

static void timer_fired(struct timer *timer)
{
    struct server_session *session = CONTAINER_OF(timer, struct server_session, timer);
    if (session_now_ms(session) < deadline_of(session)) {
        arm_timer(session);
        return;
    }
    switch ((enum session_stage)session->stage) {
    case SESSION_HANDSHAKE: session_tls_failed(session, "The handshake took too long"); /* fall through */
    case SESSION_PROXY: server_session_close(session, true); return;
    case SESSION_LINGERING: server_session_close(session, !session->stream.secured); return;
    case SESSION_PAUSING: server_session_greet(session); break;
    default:
        if (session->held_ms == 0) {
            session_auth_end(session);
            session->farewell = reply_of(REPLY_IDLE);
        }
        session->held_ms = 0;
    }
    server_session_drive(session);
}

static void woken(struct stream *stream)
{
    server_session_drive(CONTAINER_OF(stream, struct server_session, stream));
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
        .phase_ms = now,
        .peer = connection->peer,
        .stage = SESSION_PROXY,
    };
    smtp_server_init(&session->machine, &session->profile->smtp);
    session_proxy_judge(session);
    list_init(&session->node);
    list_init(&session->unsent);
    wheel_timer_init(&session->timer, timer_fired);
    list_push_back(&inbound->sessions, &session->node);
    inbound->session_count++;
    metric_set_to(&inbound->shard->metrics->sessions, inbound->session_count);
    stream_open(&session->stream, inbound->shard, connection->fd, woken);
    if (!profile->behind_proxy) {
        server_session_admitted(session);
    } else if (!policy_proxy(profile, &session->peer)) {
        session_proxy_refuse(session);
    }
    if (session->stage != SESSION_CLOSED) {
        arm_timer(session);
    }
}

/* --- all sessions of the shard --- */

void server_session_stop_all(struct inbound *inbound)
{
    for (struct list *node = inbound->sessions.next; node != &inbound->sessions;) {
        struct server_session *session = LIST_OWNER(node, struct server_session, node);
        node = node->next;
        server_session_drive(session);
    }
}

void server_session_abort_all(struct inbound *inbound)
{
    for (struct list *node = inbound->sessions.next; node != &inbound->sessions;) {
        struct server_session *session = LIST_OWNER(node, struct server_session, node);
        node = node->next;
        if (session->stage != SESSION_CLOSED && !session->committing) {
            server_session_close(session, true);
        }
    }
}

void server_session_start(struct inbound *inbound)
{
    list_init(&inbound->sessions);
    session_output_start(inbound);
}
