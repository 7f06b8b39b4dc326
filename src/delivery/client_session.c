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
 * TLS comes between two EHLOs of the machine. Where the route only says that TLS may be, a host at which it does not
 * work is called again at once, and for a while, in the clear (RFC 7435): on a new connection, because nobody knows
 * what the failed one is in the middle of.
 *
 * Deadlines: a reply has to be complete in its phase's time, however its octets drip in. Only the body goes on while it
 * makes progress, but not for ever: a host that reads an octet now and then would keep the message from being given up,
 * and its sender from hearing of it.
 *
 * What a host says while our send is in flight stays in the ring's receive buffers. One that reads nothing and talks
 * keeps up to five of them; when they are short (delivery.c) that ends the connection. When we give up on a host that
 * has had a whole body and does not read what follows it, its answer is among them, and it is heard.
 *
 * Ends: a connection that cannot be made, or is refused in its greeting, goes on with the next address of the site.
 * Later losses end the session. The machine then says what became of each transaction, after the stream has been
 * joined, because until then the kernel may still read the message from the map.
 */
#include "delivery/client_session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "core/stream_tls.h"
#include "delivery/attempt_body.h"
#include "delivery/fitting.h"
#include "delivery/lane.h"
#include "delivery/route.h"
#include "delivery/verdict.h"

#define CLIENT_SESSION_LAST_WORDS_MS 1000 /* to read what a host said before it broke off */
#define CLIENT_SESSION_HOARD_GRACE_MS 1000
#define CLIENT_SESSION_BODY_PIECES 2 /* per write, each of up to LIMIT_EXTENT_BYTES: progress is seen this often */

static void client_session_drive(struct client_session *session);
static bool connect_next(struct client_session *session);
static bool connect_here(struct client_session *session);

/* --- deadlines ----------------------------------------------------------------------------------------------- */

static void set_deadline(struct client_session *session, uint64_t after_ms)
{
    session->deadline_ms = session->delivery->shard->now_ms + after_ms;
    /* Re-armed when it fires early: a busy connection costs the wheel nothing per message. */
    if (!wheel_armed(&session->timer) || session->timer.expires_ms > session->deadline_ms) {
        wheel_arm(&session->delivery->shard->wheel, &session->timer, session->deadline_ms);
    }
}

/* To send what is being sent: as long as it takes at the lowest rate that is borne, and never longer than the time for
 * a whole message. */
static uint64_t time_left_ms(const struct client_session *session)
{
    const struct delivery_timeouts *timeouts = &session->delivery->settings->timeouts;
    uint64_t allowed_ms = timeouts->message_ms;
    if (timeouts->body_rate_min != 0) {
        uint64_t slow_ms = session->write_bytes * 1000 / timeouts->body_rate_min;
        slow_ms += timeouts->phase_ms[SMTP_CLIENT_PHASE_BODY];
        allowed_ms = allowed_ms < slow_ms ? allowed_ms : slow_ms;
    }
    uint64_t end_ms = session->write_ms + allowed_ms;
    uint64_t now_ms = session->delivery->shard->now_ms;
    return end_ms > now_ms ? end_ms - now_ms : 0;
}

/* From the moment that something else is waited for. */
static void update_deadline(struct client_session *session)
{
    const struct delivery_timeouts *timeouts = &session->delivery->settings->timeouts;
    enum smtp_client_phase phase = smtp_client_phase(&session->client);
    if (session->sending != NULL || stream_sending(&session->stream)) {
        phase = SMTP_CLIENT_PHASE_BODY;
    } else if (phase == session->waiting_phase && session->client.replies == session->waiting_replies &&
               !(phase == SMTP_CLIENT_PHASE_IDLE && session->next != NULL)) {
        return; /* but an idle connection whose message is on its way is no longer idle */
    }
    session->waiting_phase = phase;
    session->waiting_replies = session->client.replies;
    uint64_t after_ms = phase == SMTP_CLIENT_PHASE_IDLE ? timeouts->idle_ms : timeouts->phase_ms[phase];
    if (phase == SMTP_CLIENT_PHASE_BODY) {
        uint64_t left_ms = time_left_ms(session);
        after_ms = after_ms < left_ms ? after_ms : left_ms;
    }
    set_deadline(session, after_ms);
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

/* A host that greets us, and then ends every connection, would be called again at once and for ever. */
static void end_useless(struct client_session *session)
{
    struct outcome_cause cause = verdict_of_end(session);
    session->ready = false; /* it does not count as one that works */
    session->site->ready--;
    session->site->connecting++;
    if (session->client.begun != 0) {
        site_suspend(session->site, &cause); /* its message has been deferred already */
    } else {
        site_failed(session->site, &cause);
    }
}

/* Opportunistic: what TLS cannot do shall not be worse than if it had not been offered. */
static bool retry_in_clear(struct client_session *session)
{
    struct delivery *delivery = session->delivery;
    if (!session->tls_failed || session->tls_mode != SMTP_CLIENT_TLS_MAY) {
        return false;
    }
    if (session->tls_host_failed) {
        const struct mx_host *host = &session->hosts->hosts[session->host];
        plain_hosts_note(&delivery->plain_hosts, &host->addresses[session->address], session->site->route->port,
                         delivery->shard->now_ms);
    }
    session->in_clear = true;
    session->tls_short = !session->tls_host_failed;
    return connect_here(session);
}

/* Once a send has ended, or been ended. */
static void note_sent(struct client_session *session)
{
    session->dot_sent = session->dot_sent && session->stream.unsent <= session->behind_dot;
}

/* Nothing reads the messages any more, and what the host has said is still there. Had it all of a message, then its
 * answer counts, whatever it left unread behind it; or it would get the message again. */
static void session_joined(struct stream *stream)
{
    struct client_session *session = CONTAINER_OF(stream, struct client_session, stream);
    session->sending = NULL;
    note_sent(session);
    bool more = session->dot_sent && !session->handshaking;
    while (more && smtp_client_phase(&session->client) == SMTP_CLIENT_PHASE_DOT) {
        struct bytes input = stream_input(stream);
        size_t before = input.length;
        session->out.length = 0; /* nobody will hear it */
        enum smtp_client_event event = smtp_client_next(&session->client, &input, &session->out);
        stream_consume(stream, before - input.length);
        if (event == SMTP_CLIENT_FINAL) {
            verdict_final(session);
        } else if (event == SMTP_CLIENT_DONE) {
            verdict_done(session);
        } else {
            more = event == SMTP_CLIENT_WANT_INPUT && stream_input(stream).length != 0;
        }
    }
}

/* The machine gives every transaction its fate. */
static void session_closed(struct stream *stream)
{
    struct client_session *session = CONTAINER_OF(stream, struct client_session, stream);
    struct bytes nothing = bytes_of("", 0);
    if (session->connected) {
        smtp_client_lost(&session->client, session->dot_sent);
        for (;;) {
            session->out.length = 0;
            enum smtp_client_event event = smtp_client_next(&session->client, &nothing, &session->out);
            if (event == SMTP_CLIENT_DONE) {
                verdict_done(session);
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
        struct outcome_cause cause = verdict_of_end(session);
        if (retry_in_clear(session) || connect_next(session)) {
            return;
        }
        site_failed(session->site, &cause);
    } else if (!session->useful && !session->quitting && !session->delivery->stopping) {
        end_useless(session);
    }
    session_free(session);
}

/* The connection ends between our STARTTLS and a handshake that has succeeded, or is refused it. */
static void note_tls_failure(struct client_session *session)
{
    bool refused = session->client.cause == SMTP_CLIENT_CAUSE_NO_TLS && session->client.reply->code != 0;
    if (!session->connected || (!refused && session->last_phase != SMTP_CLIENT_PHASE_TLS)) {
        return;
    }
    session->tls_failed = true;
    session->tls_host_failed = session->tls_host_failed || session->tls_problem[0] == '\0';
    metric_add(&session->delivery->shard->metrics->outbound_tls_failures, 1);
    const char *reason = session->stream.tls != NULL ? stream_tls_reason(&session->stream) : "";
    if (session->tls_problem[0] == '\0' && reason[0] != '\0') {
        snprintf(session->tls_problem, sizeof session->tls_problem, "TLS with the remote host failed: %s", reason);
    }
}

static void session_close(struct client_session *session, bool abort)
{
    if (!session->closing) {
        session->closing = true;
        session->last_phase = smtp_client_phase(&session->client);
        note_tls_failure(session);
        leave_idle(session);
        wheel_disarm(&session->delivery->shard->wheel, &session->timer);
        session->stream.joined = session_joined;
        stream_close(&session->stream, abort, session_closed);
    }
}

/* While a send is in flight nothing is parsed. A host that takes what it is sent has the reply to come read at once. */
bool client_session_hoards(const struct client_session *session)
{
    return !session->closing && session->connected && session->stream.buffers != 0 &&
           stream_sending(&session->stream) &&
           session->delivery->shard->now_ms >= session->send_ms + CLIENT_SESSION_HOARD_GRACE_MS;
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
               session->sent_before != session->stream.sent_bytes && time_left_ms(session) != 0) {
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

static socklen_t remote_address(struct client_session *session, const struct mx_address *address)
{
    const struct delivery_route *route = session->site->route;
    if (address->family != AF_UNIX) {
        return mx_address_socket(address, route->port, &session->remote);
    }
    struct sockaddr_un *name = (struct sockaddr_un *)(void *)&session->remote;
    struct bytes path = bytes_slice(route->host, 5, route->host.length - 5); /* behind "unix:" */
    CHECK(path.length < sizeof name->sun_path);
    memset(name, 0, sizeof *name);
    name->sun_family = AF_UNIX;
    memcpy(name->sun_path, path.data, path.length);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.length + 1);
}

static enum smtp_client_tls choose_tls(struct client_session *session, const struct mx_address *address)
{
    const struct delivery *delivery = session->delivery;
    const struct delivery_route *route = session->site->route;
    if (route->tls_context == NULL || route->tls == DELIVERY_TLS_OFF) {
        return SMTP_CLIENT_TLS_OFF;
    }
    if (route->tls != DELIVERY_TLS_MAY) {
        return SMTP_CLIENT_TLS_REQUIRE;
    }
    bool plain = address->family == AF_UNIX ||
                 plain_hosts_has(&delivery->plain_hosts, address, route->port, delivery->shard->now_ms);
    if (!session->in_clear) {
        session->tls_short = !plain && !tls_session_room();
    }
    return plain || session->in_clear || session->tls_short ? SMTP_CLIENT_TLS_OFF : SMTP_CLIENT_TLS_MAY;
}

static bool connect_here(struct client_session *session)
{
    struct delivery *delivery = session->delivery;
    const struct delivery_settings *settings = delivery->settings;
    const struct mx_address *address = &session->hosts->hosts[session->host].addresses[session->address];
    socklen_t length = remote_address(session, address);
    static const struct delivery_source no_source;
    const struct delivery_source *source = address->family == AF_INET6  ? &settings->source_ipv6
                                           : address->family == AF_INET ? &settings->source_ipv4
                                                                        : &no_source;
    session->connected = false;
    session->closing = false;
    session->timed_out = false;
    session->dot_sent = false;
    session->tls_failed = false;
    session->tls_host_failed = false;
    session->handshaking = false;
    session->broken = false;
    session->tls[0] = '\0';
    session->tls_problem[0] = '\0';
    session->waiting_phase = SMTP_CLIENT_PHASE_COUNT;
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
    session->tls_mode = choose_tls(session, address);
    smtp_client_use_tls(&session->client, session->tls_mode);
    if (session->site->route->lmtp) {
        smtp_client_use_lmtp(&session->client);
    }
    set_deadline(session, settings->timeouts.connect_ms);
    return true;
}

/* Tries the addresses behind the current one; false when none is left. */
static bool connect_next(struct client_session *session)
{
    while (next_address(session)) {
        session->in_clear = false;
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
    struct outcome_cause cause = verdict_of_end(session);
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

static void begin_next(struct client_session *session)
{
    if (session->next != NULL && session->next->state == ATTEMPT_READY && smtp_client_can_begin(&session->client) &&
        fitting_next(session)) {
        session->next->state = ATTEMPT_BEGUN;
        smtp_client_begin(&session->client, &session->next->transaction);
        session->next = NULL;
        ask_for_work(session);
    }
}

/* --- sending ------------------------------------------------------------------------------------------------- */

/* Writes what is due: `out` up to the split, some of the body, and behind the body's end the rest of `out`. */
static void send_more(struct client_session *session)
{
    struct iovec pieces[STREAM_SEND_PIECES];
    unsigned count = 0;
    size_t bytes = 0;
    struct attempt *attempt = session->sending;
    size_t behind = 0;              /* the part of `out` that has been sent, or goes before the body */
    session->behind_dot = SIZE_MAX; /* the last body was sent before, if there was one */
    if (attempt == NULL || !session->body_begun) {
        session->write_ms = session->delivery->shard->now_ms;
        session->write_bytes = attempt != NULL ? attempt->transaction.size_bytes : 0;
    }
    if (attempt != NULL) {
        behind = session->split;
        if (!session->body_begun && session->split != 0) {
            pieces[count++] = (struct iovec){.iov_base = session->out.data, .iov_len = session->split};
        }
        session->body_begun = true;
        count += attempt_body_next(attempt, pieces + count, CLIENT_SESSION_BODY_PIECES);
    }
    if (attempt == NULL || attempt_body_ended(attempt)) {
        if (attempt != NULL) {
            attempt->dot_ms = session->delivery->shard->now_ms;
            session->sending = NULL;
            session->dot_sent = true;
            session->behind_dot = session->out.length - behind;
        }
        if (session->out.length > behind) {
            pieces[count++] = (struct iovec){.iov_base = session->out.data + behind,
                                             .iov_len = session->out.length - behind};
        }
        session->out_in_flight = count != 0;
    }
    for (unsigned i = 0; i < count; i++) {
        bytes += pieces[i].iov_len;
    }
    if (bytes != 0) {
        metric_add(&session->delivery->shard->metrics->outbound_sends, 1);
        metric_add(&session->delivery->shard->metrics->outbound_bytes, bytes);
        session->sent_before = session->stream.sent_bytes;
        session->send_ms = session->delivery->shard->now_ms;
        stream_send(&session->stream, pieces, count);
    }
}

/* --- the driver ---------------------------------------------------------------------------------------------- */

static void session_ready(struct client_session *session)
{
    session->ready = true;
    session->site->connecting--;
    session->site->ready++;
    site_connected(session->site);
}

/* The name that the certificate must have, and that the host shall know it is called by (SNI); none for an address. */
static const char *tls_name(const struct client_session *session, char room[LIMIT_DOMAIN_BYTES + 1])
{
    const struct delivery_route *route = session->site->route;
    if (route->tls_name != NULL && route->tls_name[0] != '\0') {
        return route->tls_name;
    }
    struct bytes name = session->hosts->hosts[session->host].name;
    struct mx_address literal;
    bool is_name = name.length <= LIMIT_DOMAIN_BYTES && !mx_address_parse(name, &literal) && name.data[0] != '[';
    snprintf(room, LIMIT_DOMAIN_BYTES + 1, "%.*s", is_name ? (int)name.length : 0, name.data);
    return room;
}

/* The peer has said 220. */
static void start_tls(struct client_session *session)
{
    char room[LIMIT_DOMAIN_BYTES + 1];
    const struct delivery_route *route = session->site->route;
    const char *name = tls_name(session, room);
    bool verify = route->tls == DELIVERY_TLS_VERIFY;
    int error = verify && name[0] == '\0' ? -EDESTADDRREQ
                                          : stream_tls_start_client(&session->stream, route->tls_context, name,
                                                                    verify ? TLS_VERIFY_NAME : TLS_VERIFY_NONE);
    if (error != 0) {
        snprintf(session->tls_problem, sizeof session->tls_problem, "TLS cannot be started: %s",
                 error == -EBUSY          ? "too many TLS sessions here"
                 : error == -EDESTADDRREQ ? "an address has no name to verify"
                                          : strerrordesc_np(-error));
        session_close(session, true);
        return;
    }
    session->handshaking = true;
    update_deadline(session);
}

/* Is whom we talk to sure? A host's name that DNS gave counts only when nobody could have changed it on the way (RFC
 * 8689 4.2.1). All domains of a site are equally sure of its hosts (route_site_key). */
static bool is_trusted(const struct client_session *session, const struct tls_facts *facts)
{
    const struct mx_result *hosts = session->hosts;
    return facts->verified && (!session->site->route->by_mx || hosts->sure);
}

/* True when the handshake is over and the conversation goes on. */
static bool handshake_ended(struct client_session *session)
{
    struct metric_set *metrics = session->delivery->shard->metrics;
    if (session->stream.error != 0 || session->stream.eof) {
        session_close(session, session->stream.error != 0);
        return false;
    }
    if (!session->stream.secured) {
        return false;
    }
    const struct tls_facts *facts = stream_tls_facts(&session->stream);
    snprintf(session->tls, sizeof session->tls, "%s %s %s", facts->version, facts->cipher,
             facts->verified ? "verified" : "unverified");
    metric_add(&metrics->outbound_tls, 1);
    metric_add(&metrics->outbound_tls_verified, facts->verified);
    session->handshaking = false;
    smtp_client_secured(&session->client, is_trusted(session, facts));
    return true;
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

/* False without memory for it: then the connection ends, because the peer waits for a body. */
static bool start_body(struct client_session *session)
{
    session->sending = session->client.transaction->cookie;
    session->body_begun = false;
    session->split = session->out.length;
    session->dot_sent = false;
    if (attempt_body_rewind(session->sending) != ERR_OK) {
        session->sending = NULL;
        session_close(session, true);
        return false;
    }
    return true;
}

/* Runs the machine over what came. False when there is nothing more to do for now: the session is being closed, or a
 * handshake has begun. */
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
        case SMTP_CLIENT_START_TLS: start_tls(session); return false;
        case SMTP_CLIENT_RECIPIENT: verdict_recipient(session); break;
        case SMTP_CLIENT_FINAL: verdict_final(session); break;
        case SMTP_CLIENT_BODY:
            if (!start_body(session)) {
                return false;
            }
            begin_next(session);
            say_more(session);
            return true;
        case SMTP_CLIENT_DONE: verdict_done(session); break;
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
    if (!session->broken) {
        session->broken = true;
        set_deadline(session, CLIENT_SESSION_LAST_WORDS_MS);
    }
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
    note_sent(session);
    if (session->handshaking && !handshake_ended(session)) {
        return;
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
