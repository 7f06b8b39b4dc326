#include "delivery/verdict.h"

#include "queue/lend.h"
#include "queue/schedule.h"

static struct bytes host_name(const struct client_session *session)
{
    return session->hosts->hosts[session->host].name;
}

/* --- words --------------------------------------------------------------------------------------------------- */

static const char *lost_text(const struct client_session *session, enum smtp_client_phase phase)
{
    static const char *const timed_out[SMTP_CLIENT_PHASE_COUNT] = {
        [SMTP_CLIENT_PHASE_GREETING] = "timed out waiting for the greeting",
        [SMTP_CLIENT_PHASE_EHLO] = "timed out waiting for the reply to EHLO",
        [SMTP_CLIENT_PHASE_TLS] = "timed out in the TLS handshake",
        [SMTP_CLIENT_PHASE_MAIL] = "timed out waiting for the reply to MAIL",
        [SMTP_CLIENT_PHASE_RCPT] = "timed out waiting for the reply to RCPT",
        [SMTP_CLIENT_PHASE_DATA] = "timed out waiting for the reply to DATA",
        [SMTP_CLIENT_PHASE_BODY] = "timed out sending the message",
        [SMTP_CLIENT_PHASE_DOT] = "timed out waiting for the reply to the final dot; the message may arrive twice",
    };
    static const char *const lost[SMTP_CLIENT_PHASE_COUNT] = {
        [SMTP_CLIENT_PHASE_GREETING] = "lost the connection before the greeting",
        [SMTP_CLIENT_PHASE_EHLO] = "lost the connection after EHLO",
        [SMTP_CLIENT_PHASE_TLS] = "lost the connection in the TLS handshake",
        [SMTP_CLIENT_PHASE_MAIL] = "lost the connection after MAIL",
        [SMTP_CLIENT_PHASE_RCPT] = "lost the connection after RCPT",
        [SMTP_CLIENT_PHASE_DATA] = "lost the connection after DATA",
        [SMTP_CLIENT_PHASE_BODY] = "lost the connection while sending the message",
        [SMTP_CLIENT_PHASE_DOT] = "lost the connection after the final dot; the message may arrive twice",
    };
    if (session->client.cause == SMTP_CLIENT_CAUSE_PROTOCOL && phase != SMTP_CLIENT_PHASE_DOT) {
        return "the remote host said what nothing had asked for";
    }
    const char *text = (session->timed_out ? timed_out : lost)[phase];
    return text != NULL ? text : "lost the connection";
}

static struct outcome_cause cause_of_reply(const struct client_session *session)
{
    bool permanent = session->client.fate == SMTP_CLIENT_PERMANENT;
    return outcome_of_reply(session->client.reply, permanent, host_name(session));
}

struct outcome_cause verdict_of_end(const struct client_session *session)
{
    const struct smtp_client *client = &session->client;
    if (client->reply != NULL && client->reply->code != 0 && client->cause != SMTP_CLIENT_CAUSE_LOST) {
        return outcome_of_reply(client->reply, false, host_name(session));
    }
    struct outcome_cause cause;
    if (!session->connected) {
        cause = outcome_local(false, 4, 1,
                              session->timed_out ? "connection timed out" : strerrordesc_np(-session->stream.error));
    } else if (client->cause == SMTP_CLIENT_CAUSE_NO_TLS) {
        cause = outcome_local(false, 7, 4, "TLS is required, and the remote host does not offer it");
    } else if (session->tls_problem[0] != '\0') {
        cause = outcome_local(false, 7, 5, session->tls_problem);
    } else {
        cause = outcome_local(false, 4, 2, lost_text(session, session->last_phase));
    }
    cause.host = host_name(session);
    return cause;
}

/* --- transactions -------------------------------------------------------------------------------------------- */

/* Who answered, and how it was connected: for the event, and for who tells the sender. */
static struct attempt *answered_attempt(struct client_session *session)
{
    struct attempt *attempt = session->client.transaction->cookie;
    attempt->tls = bytes_of_string(session->tls);
    attempt->outcome_facts = (uint8_t)(((session->client.capabilities & SMTP_CLIENT_DSN) != 0 ? LEND_PEER_HAS_DSN : 0) |
                                       (session->site->route->lmtp ? LEND_FINAL : 0));
    return attempt;
}

/* Said before it had all of the message: it cannot have it. */
static void doubt_early_delivery(struct client_session *session)
{
    if (session->client.fate == SMTP_CLIENT_DELIVERED && !session->dot_sent) {
        session->client.fate = SMTP_CLIENT_TRANSIENT;
    }
}

static void note_delivered(struct client_session *session, const struct attempt *attempt)
{
    struct delivery *delivery = session->delivery;
    session->delivered++;
    histogram_record(&delivery->shard->metrics->remote_latency, (delivery->shard->now_ms - attempt->dot_ms) * 1000);
}

void verdict_done(struct client_session *session)
{
    struct smtp_client *client = &session->client;
    struct attempt *attempt = answered_attempt(session);
    doubt_early_delivery(session);
    enum smtp_client_phase phase = client->phase;
    if (phase == SMTP_CLIENT_PHASE_DOT && !session->dot_sent) {
        phase = SMTP_CLIENT_PHASE_BODY; /* the machine does not know how far we have come with it */
    }
    if (client->cause == SMTP_CLIENT_CAUSE_NONE) {
        session->useful = true;
        session->site->failures = 0;
    }
    struct outcome_cause cause = client->reply->code != 0 ? cause_of_reply(session)
                                                          : outcome_local(false, 4, 2, lost_text(session, phase));
    cause.host = host_name(session);
    switch (client->fate) {
    case SMTP_CLIENT_DELIVERED:
        note_delivered(session, attempt);
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

void verdict_final(struct client_session *session)
{
    struct smtp_client *client = &session->client;
    struct attempt *attempt = answered_attempt(session);
    doubt_early_delivery(session);
    if (client->fate == SMTP_CLIENT_DELIVERED) {
        outcome_recipient_delivered(attempt, client->recipient, client->reply, host_name(session));
        return;
    }
    struct outcome_cause cause = cause_of_reply(session);
    outcome_recipient(attempt, client->recipient, &cause);
}

void verdict_recipient(struct client_session *session)
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
    struct outcome_cause cause = cause_of_reply(session);
    outcome_recipient(attempt, client->recipient, &cause);
}
