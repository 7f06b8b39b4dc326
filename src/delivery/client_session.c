/* The driver of an outbound connection. All control flow is in client_session_drive: completions, timers and other
 * shards' answers store their result and call it.
 *
 * What goes out in one write, in this order:
 *
 *     out[0..split)   commands so far                 e.g. nothing, on a warm connection
 *     pieces          prologue and body of `sending`  straight from the spool's map, final dot included
 *     out[split..)    what the machine said next      MAIL, RCPT, DATA of the next message
 *
 * so a message costs one send and one round trip on a warm connection. Input is parsed only while no send is in flight:
 * the ring goes on receiving into its own buffers meanwhile, so the peer's writes never block on ours.
 *
 * Ends: a connection that cannot be made, or is refused in its greeting, goes on with the next address of the site.
 * Later losses end the session. The machine then says what became of each transaction, after the stream has been
 * joined, because until then the kernel may still read the message from the map.
 */
#include "delivery/client_session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "delivery/lane.h"
#include "delivery/outcome.h"
#include "queue/schedule.h"

#define CLIENT_SESSION_LAST_WORDS_MS 1000 /* to read what a host said before it broke off */
#define CLIENT_SESSION_BODY_PIECES 2      /* per write, each of up to LIMIT_EXTENT_BYTES: progress is seen this often */

static void client_session_drive(struct client_session *session);
static bool connect_next(struct client_session *session);

static struct bytes host_name(const struct client_session *session)
{
    return session->hosts->hosts[session->host].name;
}

/* --- deadlines ----------------------------------------------------------------------------------------------- */

static void set_deadline(struct client_session *session, uint64_t after_ms)
{
    session->deadline_ms = session->delivery->shard->now_ms + after_ms;
    /* Re-armed when it fires early: a busy connection costs the wheel nothing per message. */
    if (!wheel_armed(&session->timer) || session->timer.expires_ms > session->deadline_ms) {
        wheel_arm(&session->delivery->shard->wheel, &session->timer, session->deadline_ms);
    }
}

static void update_deadline(struct client_session *session)
{
    const struct delivery_timeouts *timeouts = &session->delivery->settings->timeouts;
    enum smtp_client_phase phase = smtp_client_phase(&session->client);
    if (session->sending != NULL || stream_sending(&session->stream)) {
        phase = SMTP_CLIENT_PHASE_BODY;
    }
    set_deadline(session, phase == SMTP_CLIENT_PHASE_IDLE ? timeouts->idle_ms : timeouts->phase_ms[phase]);
}

/* --- ending -------------------------------------------------------------------------------------------------- */

static void leave_idle(struct client_session *session)
{
    list_remove(&session->idle);
    list_remove(&session->resting);
}

static void session_free(struct client_session *session)
{
    struct site *site = session->site;
    struct delivery *delivery = session->delivery;
    wheel_disarm(&delivery->shard->wheel, &session->timer);
    leave_idle(session);
    list_remove(&session->all);
    mx_result_release(session->hosts);
    site->connections--;
    site->ready -= session->ready;
    site->connecting -= !session->ready;
    delivery->connections--;
    metric_subtract(&delivery->shard->metrics->outbound_open, 1);
    free(session);
    delivery_offer_connection(delivery); /* before this site's next one */
    site_mark(site);
    site_release(site);
    delivery_progress(delivery);
}

static struct outcome_cause cause_of_end(const struct client_session *session, const char *what)
{
    const struct smtp_client *client = &session->client;
    if (client->reply != NULL && client->reply->code != 0 && client->cause != SMTP_CLIENT_CAUSE_LOST) {
        return outcome_of_reply(client->reply, false, host_name(session));
    }
    struct outcome_cause cause = outcome_local(false, 4, session->connected ? 2 : 1, what);
    cause.host = host_name(session);
    return cause;
}

static const char *lost_text(const struct client_session *session, enum smtp_client_phase phase)
{
    static const char *const timed_out[SMTP_CLIENT_PHASE_COUNT] = {
        [SMTP_CLIENT_PHASE_GREETING] = "timed out waiting for the greeting",
        [SMTP_CLIENT_PHASE_EHLO] = "timed out waiting for the reply to EHLO",
        [SMTP_CLIENT_PHASE_MAIL] = "timed out waiting for the reply to MAIL",
        [SMTP_CLIENT_PHASE_RCPT] = "timed out waiting for the reply to RCPT",
        [SMTP_CLIENT_PHASE_DATA] = "timed out waiting for the reply to DATA",
        [SMTP_CLIENT_PHASE_BODY] = "timed out sending the message",
        [SMTP_CLIENT_PHASE_DOT] = "timed out waiting for the reply to the final dot; the message may arrive twice",
    };
    static const char *const lost[SMTP_CLIENT_PHASE_COUNT] = {
        [SMTP_CLIENT_PHASE_GREETING] = "lost the connection before the greeting",
        [SMTP_CLIENT_PHASE_EHLO] = "lost the connection after EHLO",
        [SMTP_CLIENT_PHASE_MAIL] = "lost the connection after MAIL",
        [SMTP_CLIENT_PHASE_RCPT] = "lost the connection after RCPT",
        [SMTP_CLIENT_PHASE_DATA] = "lost the connection after DATA",
        [SMTP_CLIENT_PHASE_BODY] = "lost the connection while sending the message",
        [SMTP_CLIENT_PHASE_DOT] = "lost the connection after the final dot; the message may arrive twice",
    };
    const char *text = (session->timed_out ? timed_out : lost)[phase];
    return text != NULL ? text : "lost the connection";
}

/* What the machine says of a transaction that it is done with. */
static void transaction_done(struct client_session *session)
{
    struct smtp_client *client = &session->client;
    struct attempt *attempt = client->transaction->cookie;
    if (client->fate == SMTP_CLIENT_DELIVERED && !session->dot_sent) {
        client->fate = SMTP_CLIENT_TRANSIENT; /* said before it had all of the message: it cannot have it */
    }
    bool replied = client->reply->code != 0;
    enum smtp_client_phase phase = client->phase;
    if (phase == SMTP_CLIENT_PHASE_DOT && !session->dot_sent) {
        phase = SMTP_CLIENT_PHASE_BODY; /* the machine does not know how far we have come with it */
    }
    if (client->cause == SMTP_CLIENT_CAUSE_NONE) {
        session->useful = true;
        session->site->failures = 0;
    }
    struct outcome_cause cause = replied ? outcome_of_reply(client->reply, client->fate == SMTP_CLIENT_PERMANENT,
                                                            host_name(session))
                                         : outcome_local(false, 4, 2, lost_text(session, phase));
    cause.host = host_name(session);
    switch (client->fate) {
    case SMTP_CLIENT_DELIVERED:
        session->delivered++;
        histogram_record(&session->delivery->shard->metrics->remote_latency,
                         (session->delivery->shard->now_ms - attempt->dot_ms) * 1000);
        outcome_delivered(attempt, client->reply, host_name(session));
        break;
    case SMTP_CLIENT_UNSENT:
        /* Another connection may do better at once, if this one has shown that the site takes mail. */
        if (session->delivered != 0) {
            outcome_return(attempt);
            break;
        }
        outcome_failed(attempt, &cause);
        break;
    case SMTP_CLIENT_TRANSIENT:
    case SMTP_CLIENT_PERMANENT:
    case SMTP_CLIENT_UNKNOWN:
    case SMTP_CLIENT_ACCEPTED: outcome_failed(attempt, &cause); break;
    }
    attempt_end(attempt);
}

static void recipient_answered(struct client_session *session)
{
    struct smtp_client *client = &session->client;
    struct attempt *attempt = client->transaction->cookie;
    if (client->fate == SMTP_CLIENT_ACCEPTED) {
        return;
    }
    if (client->excess) {
        /* Too many at once: they may come again right away, if some got through. */
        uint32_t entry = attempt->entries[client->recipient];
        if (client->transaction->accepted != 0) {
            attempt->entries[client->recipient] = SLOTS_NONE;
            attempt->open--;
            schedule_return(session->delivery->queue, entry);
            return;
        }
    }
    struct outcome_cause cause = outcome_of_reply(client->reply, client->fate == SMTP_CLIENT_PERMANENT,
                                                  host_name(session));
    outcome_recipient(attempt, client->recipient, &cause);
}

static const char *why_not_ready(const struct client_session *session)
{
    if (!session->connected) {
        return session->timed_out ? "connection timed out" : strerrordesc_np(-session->stream.error);
    }
    return lost_text(session, session->last_phase);
}

/* A host that greets us, and then ends every connection, would be called again at once and for ever. */
static void end_useless(struct client_session *session)
{
    struct outcome_cause cause = cause_of_end(session, why_not_ready(session));
    session->ready = false; /* it does not count as one that works */
    session->site->ready--;
    session->site->connecting++;
    if (session->client.begun != 0) {
        site_suspend(session->site, &cause); /* its message has been deferred already */
    } else {
        site_failed(session->site, &cause);
    }
}

/* The stream is joined: nothing reads the messages any more. The machine gives every transaction its fate. */
static void session_closed(struct stream *stream)
{
    struct client_session *session = CONTAINER_OF(stream, struct client_session, stream);
    struct bytes nothing = bytes_of("", 0);
    session->sending = NULL;
    if (session->connected) {
        smtp_client_lost(&session->client, session->dot_sent);
        for (;;) {
            session->out.length = 0;
            enum smtp_client_event event = smtp_client_next(&session->client, &nothing, &session->out);
            if (event == SMTP_CLIENT_DONE) {
                transaction_done(session);
            } else if (event == SMTP_CLIENT_RECIPIENT) {
                recipient_answered(session);
            } else if (event == SMTP_CLIENT_CLOSED) {
                break;
            }
        }
    }
    if (session->next != NULL) {
        attempt_end(session->next);
        session->next = NULL;
    }
    if (!session->ready && !session->delivery->stopping) {
        struct outcome_cause cause = cause_of_end(session, why_not_ready(session));
        if (connect_next(session)) {
            return;
        }
        site_failed(session->site, &cause);
    } else if (!session->useful && !session->quitting && !session->delivery->stopping) {
        end_useless(session);
    }
    session_free(session);
}

static void session_close(struct client_session *session, bool abort)
{
    if (!session->closing) {
        session->closing = true;
        session->last_phase = smtp_client_phase(&session->client);
        leave_idle(session);
        wheel_disarm(&session->delivery->shard->wheel, &session->timer);
        stream_close(&session->stream, abort, session_closed);
    }
}

void client_session_abort(struct client_session *session)
{
    session_close(session, true);
}

static void timer_fired(struct timer *timer)
{
    struct client_session *session = CONTAINER_OF(timer, struct client_session, timer);
    uint64_t now_ms = session->delivery->shard->now_ms;
    if (now_ms < session->deadline_ms) {
        wheel_arm(&session->delivery->shard->wheel, &session->timer, session->deadline_ms);
    } else if (session->connected && session->stream.error != 0 && !stream_sending(&session->stream)) {
        session_close(session, true);
    } else if (session->connected && stream_sending(&session->stream) &&
               session->sent_before != session->stream.sent_bytes) {
        session->sent_before = session->stream.sent_bytes;
        update_deadline(session);
    } else if (session->ready && smtp_client_phase(&session->client) == SMTP_CLIENT_PHASE_IDLE &&
               session->next == NULL && !stream_sending(&session->stream)) {
        client_session_quit(session);
    } else {
        session->timed_out = true;
        session_close(session, true);
    }
}

/* --- connecting ---------------------------------------------------------------------------------------------- */

static void session_wake(struct stream *stream)
{
    struct client_session *session = CONTAINER_OF(stream, struct client_session, stream);
    struct metric_set *metrics = session->delivery->shard->metrics;
    if (!session->connected && stream->connected) {
        session->connected = true;
        histogram_record(&metrics->connect_latency, (session->delivery->shard->now_ms - session->connect_ms) * 1000);
        metric_add(&metrics->outbound_connections, 1);
        update_deadline(session);
        return;
    }
    if (!session->connected) {
        metric_add(&metrics->outbound_connect_failures, 1);
        session_close(session, false);
        return;
    }
    metric_add(&metrics->outbound_receives, stream->received_bytes != session->received_before);
    session->received_before = stream->received_bytes;
    client_session_drive(session);
}

/* Steps to the next address; false after the last. */
static bool next_address(struct client_session *session)
{
    const struct mx_host *host = &session->hosts->hosts[session->host];
    if (++session->address < host->address_count) {
        return true;
    }
    session->address = 0;
    return ++session->host < session->hosts->host_count;
}

static bool connect_here(struct client_session *session)
{
    struct delivery *delivery = session->delivery;
    const struct delivery_settings *settings = delivery->settings;
    const struct mx_address *address = &session->hosts->hosts[session->host].addresses[session->address];
    socklen_t length = mx_address_socket(address, session->site->route->port, &session->remote);
    const struct delivery_source *source = address->family == AF_INET6 ? &settings->source_ipv6
                                                                       : &settings->source_ipv4;
    session->connected = false;
    session->closing = false;
    session->timed_out = false;
    session->dot_sent = false;
    session->connect_ms = delivery->shard->now_ms;
    session->out.length = 0;
    int error = stream_connect(&session->stream, delivery->shard, (const struct sockaddr *)&session->remote, length,
                               source->length != 0 ? (const struct sockaddr *)&source->address : NULL, source->length,
                               session_wake);
    if (error != 0) {
        session->stream.error = error;
        return false;
    }
    smtp_client_init(&session->client, settings->hostname, true, &session->reply);
    set_deadline(session, settings->timeouts.connect_ms);
    return true;
}

/* Tries the addresses behind the current one; false when none is left. */
static bool connect_next(struct client_session *session)
{
    while (next_address(session)) {
        if (connect_here(session)) {
            return true;
        }
    }
    session->host = session->hosts->host_count - 1; /* for the texts */
    return false;
}

bool client_session_open(struct site *site)
{
    struct delivery *delivery = site->delivery;
    struct client_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return false;
    }
    list_init(&session->idle);
    list_init(&session->resting);
    list_init(&session->all);
    list_push_back(&delivery->sessions, &session->all);
    session->site = site;
    session->delivery = delivery;
    session->hosts = mx_result_retain(site->hosts);
    session->out = buffer_of(session->out_bytes, sizeof session->out_bytes);
    wheel_timer_init(&session->timer, timer_fired);
    site->references++;
    site->connections++;
    site->connecting++;
    delivery->connections++;
    metric_add(&delivery->shard->metrics->outbound_open, 1);
    if (connect_here(session) || connect_next(session)) {
        return true;
    }
    struct outcome_cause cause = cause_of_end(session, why_not_ready(session));
    site_failed(site, &cause);
    session_free(session);
    return false;
}

/* --- work ---------------------------------------------------------------------------------------------------- */

/* Asks for the next message while the current one is on its way, so that its envelope can travel with that one's body.
 * Not when an idle connection could have it at once. */
static void ask_for_work(struct client_session *session)
{
    bool idle = smtp_client_phase(&session->client) == SMTP_CLIENT_PHASE_IDLE;
    if (session->next == NULL && session->ready && !session->closing && !session->quitting &&
        !session->delivery->stopping &&
        (session->client.mail_max == 0 || session->client.begun < session->client.mail_max) &&
        (idle || list_empty(&session->site->idle)) && !list_empty(&session->site->lanes) &&
        session->site->suspended_until_ms <= session->delivery->shard->now_ms &&
        session->client.begun < session->site->route->messages_per_connection_max) {
        session->next = attempt_new(session->site, session);
    }
}

void client_session_work(struct client_session *session)
{
    leave_idle(session);
    client_session_drive(session);
}

void client_session_attempt_gone(struct client_session *session)
{
    session->next = NULL;
    client_session_drive(session);
}

void client_session_attempt_ready(struct client_session *session)
{
    client_session_drive(session);
}

void client_session_quit(struct client_session *session)
{
    leave_idle(session);
    if (session->ready && !session->closing && !session->quitting) {
        session->quitting = true;
        smtp_client_quit(&session->client);
        client_session_drive(session);
    }
}

/* How many of the recipients share the first one's domain from the start, at most `domains` domains. */
static unsigned recipients_within(const struct attempt *attempt, unsigned recipients_max, unsigned domains_max)
{
    unsigned count = 0;
    unsigned domains = 0;
    struct bytes last = bytes_of("", 0);
    while (count < attempt->count && count < recipients_max) {
        struct bytes address = attempt->recipients[count];
        const char *at = memrchr(address.data, '@', address.length);
        size_t skip = at == NULL ? address.length : (size_t)(at - address.data);
        struct bytes domain = bytes_slice(address, skip, address.length - skip);
        if (count == 0 || !bytes_equal_nocase(domain, last)) {
            domains++;
        }
        if (domains_max != 0 && domains > domains_max) {
            break;
        }
        last = domain;
        count++;
    }
    return count != 0 ? count : 1;
}

/* Ends the next attempt without sending it. */
static void refuse_next(struct client_session *session, uint16_t code, uint8_t subject, uint8_t detail,
                        const char *text)
{
    struct outcome_cause cause = outcome_local(true, subject, detail, text);
    cause.reply_code = code;
    outcome_failed(session->next, &cause);
    attempt_end(session->next);
    session->next = NULL;
}

/* Makes the next attempt fit the peer, or ends it. True when it may begin. */
static bool fit_next(struct client_session *session)
{
    struct attempt *attempt = session->next;
    switch (smtp_client_fit(&session->client, &attempt->transaction)) {
    case SMTP_CLIENT_FIT_YES: return true;
    case SMTP_CLIENT_FIT_TOO_BIG:
        refuse_next(session, 0, 3, 4, "the message is larger than the remote host accepts");
        return false;
    case SMTP_CLIENT_FIT_CONVERT:
        if (attempt_convert(attempt)) {
            return fit_next(session);
        }
        refuse_next(session, 0, 6, 3, "the message is 8-bit, the remote host is not, and it cannot be converted");
        return false;
    case SMTP_CLIENT_FIT_NEEDS_UTF8:
        refuse_next(session, 0, 6, 7, "the remote host does not support internationalised addresses");
        return false;
    case SMTP_CLIENT_FIT_NEEDS_TLS:
        refuse_next(session, 0, 7, 10, "the message requires TLS, and the remote host's identity is not verified");
        return false;
    case SMTP_CLIENT_FIT_NEEDS_REQUIRETLS:
        refuse_next(session, 0, 7, 30, "the message requires TLS, and the remote host does not support REQUIRETLS");
        return false;
    case SMTP_CLIENT_FIT_TOO_LATE:
        refuse_next(session, 0, 4, 7, "the remote host does not promise delivery in the time that is left");
        return false;
    case SMTP_CLIENT_FIT_SPLIT:
        attempt_shrink(attempt,
                       recipients_within(attempt, session->client.recipients_max, session->client.domains_max));
        return fit_next(session);
    case SMTP_CLIENT_FIT_ADDRESS:
        if (attempt->count > 1) {
            attempt_shrink(attempt, 1);
            return fit_next(session);
        }
        refuse_next(session, 0, 1, 3, "not a valid address");
        return false;
    case SMTP_CLIENT_FIT_COUNT: break;
    }
    return false;
}

static void begin_next(struct client_session *session)
{
    if (session->next != NULL && session->next->state == ATTEMPT_READY && smtp_client_can_begin(&session->client) &&
        fit_next(session)) {
        session->next->state = ATTEMPT_BEGUN;
        smtp_client_begin(&session->client, &session->next->transaction);
        session->next = NULL;
        ask_for_work(session);
    }
}

/* --- sending ------------------------------------------------------------------------------------------------- */

/* Writes what is due; false when there is nothing. */
static bool send_more(struct client_session *session)
{
    struct iovec pieces[STREAM_SEND_PIECES];
    unsigned count = 0;
    struct attempt *attempt = session->sending;
    size_t bytes = 0;
    if (attempt != NULL) {
        if (session->piece == 0 && session->split != 0) {
            pieces[count++] = (struct iovec){.iov_base = session->out.data, .iov_len = session->split};
        }
        unsigned total = attempt_pieces(attempt);
        for (unsigned i = 0; session->piece < total && i < CLIENT_SESSION_BODY_PIECES; i++) {
            struct bytes piece = attempt_piece(attempt, session->piece++);
            pieces[count++] = (struct iovec){.iov_base = (char *)(uintptr_t)piece.data, .iov_len = piece.length};
        }
        if (session->piece < total) {
            goto send;
        }
        attempt->dot_ms = session->delivery->shard->now_ms;
        session->sending = NULL;
        session->dot_sent = true;
    } else {
        session->split = 0;
    }
    if (session->out.length > session->split) {
        pieces[count++] = (struct iovec){.iov_base = session->out.data + session->split,
                                         .iov_len = session->out.length - session->split};
    }
    session->out_in_flight = true;
    if (count == 0) {
        session->out_in_flight = false;
        return false;
    }
send:
    for (unsigned i = 0; i < count; i++) {
        bytes += pieces[i].iov_len;
    }
    metric_add(&session->delivery->shard->metrics->outbound_sends, 1);
    metric_add(&session->delivery->shard->metrics->outbound_bytes, bytes);
    session->sent_before = session->stream.sent_bytes;
    stream_send(&session->stream, pieces, count);
    return true;
}

/* --- the driver ---------------------------------------------------------------------------------------------- */

static void session_ready(struct client_session *session)
{
    session->ready = true;
    session->site->connecting--;
    session->site->ready++;
    site_connected(session->site);
}

/* Nothing to say, nothing to hear: waits among the idle ones. */
static void rest(struct client_session *session)
{
    if (session->ready && session->next == NULL && smtp_client_can_begin(&session->client) &&
        smtp_client_phase(&session->client) == SMTP_CLIENT_PHASE_IDLE) {
        bool wanted_elsewhere = list_empty(&session->site->lanes) && !list_empty(&session->delivery->waiting_sites);
        if (session->delivery->stopping || wanted_elsewhere ||
            session->client.begun >= session->site->route->messages_per_connection_max) {
            client_session_quit(session);
            return;
        }
        session->useful = true;
        if (list_empty(&session->idle)) {
            list_push_front(&session->site->idle, &session->idle);
            list_push_back(&session->delivery->idle, &session->resting);
            if (!list_empty(&session->site->lanes)) {
                site_mark(session->site);
            }
        }
    } else if (session->ready && smtp_client_spent(&session->client)) {
        client_session_quit(session);
    }
}

/* Only the machine's own words may follow a body in the same write; the peer's wait until it is sent. */
static void say_more(struct client_session *session)
{
    struct bytes nothing = bytes_of("", 0);
    enum smtp_client_event event = smtp_client_next(&session->client, &nothing, &session->out);
    CHECK(event == SMTP_CLIENT_WANT_INPUT || event == SMTP_CLIENT_WANT_OUTPUT);
}

/* Runs the machine over what came. False when the session is being closed. */
static bool converse(struct client_session *session)
{
    for (;;) {
        struct bytes input = stream_input(&session->stream);
        size_t before = input.length;
        enum smtp_client_event event = smtp_client_next(&session->client, &input, &session->out);
        stream_consume(&session->stream, before - input.length);
        switch (event) {
        case SMTP_CLIENT_WANT_INPUT:
            if (stream_input(&session->stream).length == 0) {
                return true;
            }
            break;
        case SMTP_CLIENT_WANT_OUTPUT: return true;
        case SMTP_CLIENT_READY: session_ready(session); break;
        case SMTP_CLIENT_RECIPIENT: recipient_answered(session); break;
        case SMTP_CLIENT_BODY:
            session->sending = session->client.transaction->cookie;
            session->piece = 0;
            session->split = session->out.length;
            session->dot_sent = false;
            begin_next(session);
            say_more(session);
            return true;
        case SMTP_CLIENT_DONE: transaction_done(session); break;
        case SMTP_CLIENT_START_TLS: /* never asked for */
        case SMTP_CLIENT_FINAL:
        case SMTP_CLIENT_CLOSED: session_close(session, false); return false;
        }
    }
}

/* A host that refuses a message within its body says so and closes. Our send may learn of it before the refusal has
 * been read, which would be lost with the connection, and the message tried again and again. */
static bool last_words(struct client_session *session)
{
    if (session->stream.error == 0 || session->stream.eof || !session->stream.receive.in_flight) {
        return false;
    }
    set_deadline(session, CLIENT_SESSION_LAST_WORDS_MS);
    return true;
}

static void client_session_drive(struct client_session *session)
{
    if (session->closing || !session->connected) {
        return;
    }
    if (stream_sending(&session->stream)) {
        return; /* called again when the send has ended */
    }
    if (session->out_in_flight) {
        session->out_in_flight = false;
        session->out.length = 0;
        session->split = 0;
    }
    if (session->sending != NULL && session->stream.error == 0) {
        send_more(session);
        update_deadline(session);
        return;
    }
    session->sending = NULL;
    if (session->stream.error == 0) {
        begin_next(session);
    }
    if (!converse(session)) {
        return;
    }
    if (last_words(session)) {
        return;
    }
    if (session->stream.error != 0 || session->stream.eof) {
        session_close(session, session->stream.error != 0);
        return;
    }
    ask_for_work(session);
    begin_next(session);
    send_more(session);
    update_deadline(session);
    if (!stream_sending(&session->stream)) {
        rest(session);
    }
}
