/* What DNS says about the domain of a sender or recipient that is not ours: that it takes no mail (a null MX, RFC
 * 7505), or that it does not exist.
 *
 * Only what was said counts. A name server that fails, does not answer in time or has too many questions already
 * refuses nobody: the mail goes on as if it had not been asked, and the delivery finds out in its own time. The same
 * when receive buffers are short, because a session that waits here keeps one.
 *
 * Not asked about: own domains, address literals, the null sender, names that are not ASCII, recipients whose mail goes
 * to a configured host (it decides, and may know names that DNS does not), senders for whom a host is configured.
 */
#include "inbound/session.h"

#include <stdlib.h>

#include "base/limits.h"
#include "dns/mail_domain.h"

struct session_inquiry {
    struct mail_domain domain;
    struct timer timer;
    struct list node; /* in inbound->inquiries */
    struct server_session *session;
};

/* --- what it means ------------------------------------------------------------------------------------------------ */

static const struct reply *refusal_of(const struct server_session *session, enum mail_domain_answer answer)
{
    const struct inbound_checks *checks = &session->profile->checks;
    bool mail = session->machine.awaiting == SMTP_SERVER_MAIL;
    if (answer == MAIL_DOMAIN_NULL_MX && checks->null_mx) {
        return reply_of(mail ? REPLY_NULL_MX_SENDER : REPLY_NULL_MX_RECIPIENT);
    }
    if (answer == MAIL_DOMAIN_MISSING && (mail ? checks->unknown_senders : checks->unknown_recipients)) {
        return reply_of(mail ? REPLY_UNKNOWN_SENDER_DOMAIN : REPLY_UNKNOWN_DOMAIN);
    }
    return NULL;
}

/* --- whom to ask about -------------------------------------------------------------------------------------------- */

static const struct address *address_of(const struct server_session *session)
{
    const struct inbound_checks *checks = &session->profile->checks;
    if (session->machine.awaiting == SMTP_SERVER_MAIL) {
        return checks->null_mx || checks->unknown_senders ? &session->machine.mail.path : NULL;
    }
    bool foreign = session->found.verdict == RECIPIENTS_FOREIGN;
    return foreign && (checks->null_mx || checks->unknown_recipients) ? &session->machine.rcpt.path : NULL;
}

/* The name whose MX records count, or "". `room` is for the domain in lower case. */
static struct bytes name_of(const struct server_session *session, const struct address *address,
                            char room[LIMIT_DOMAIN_BYTES])
{
    const struct inbound *inbound = session->inbound;
    struct bytes domain = address_domain(address);
    if (address->kind != ADDRESS_DOMAIN || domain.length > LIMIT_DOMAIN_BYTES ||
        (inbound->recipients != NULL && recipients_own_domain(inbound->recipients, domain))) {
        return BYTES("");
    }
    for (size_t i = 0; i < domain.length; i++) {
        room[i] = bytes_ascii_lower(domain.data[i]);
    }
    domain.data = room;
    if (inbound->route == NULL) {
        return domain;
    }
    struct inbound_route route = inbound->route(inbound->shard, domain);
    if (session->machine.awaiting == SMTP_SERVER_MAIL) {
        return route.mx_of.length != 0 || route.general ? domain : BYTES("");
    }
    return route.mx_of;
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

static void end(struct session_inquiry *inquiry)
{
    struct server_session *session = inquiry->session;
    mail_domain_cancel(&inquiry->domain);
    shard_disarm(session->inbound->shard, &inquiry->timer);
    list_remove(&inquiry->node);
    session->inquiry = NULL;
    free(inquiry);
}

static void answered(struct mail_domain *domain, enum mail_domain_answer answer)
{
    struct session_inquiry *inquiry = CONTAINER_OF(domain, struct session_inquiry, domain);
    struct server_session *session = inquiry->session;
    end(inquiry);
    session_gate_answered(session, refusal_of(session, answer));
}

static void timer_fired(struct timer *timer)
{
    answered(&CONTAINER_OF(timer, struct session_inquiry, timer)->domain, MAIL_DOMAIN_UNKNOWN);
}

static struct session_inquiry *new_inquiry(struct server_session *session)
{
    struct session_inquiry *inquiry = malloc(sizeof *inquiry);
    if (inquiry != NULL) {
        mail_domain_init(&inquiry->domain, answered);
        wheel_timer_init(&inquiry->timer, timer_fired);
        list_init(&inquiry->node);
        inquiry->session = session;
    }
    return inquiry;
}

enum session_gate_answer session_names_ask(struct server_session *session, const struct reply **ret_refusal)
{
    char room[LIMIT_DOMAIN_BYTES];
    struct inbound *inbound = session->inbound;
    struct resolver *resolver = inbound->shard->resolver;
    const struct address *address = address_of(session);
    struct bytes name = address != NULL && resolver != NULL ? name_of(session, address, room) : BYTES("");
    struct session_inquiry *inquiry = name.length != 0 ? new_inquiry(session) : NULL;
    enum mail_domain_answer answer;
    if (inquiry == NULL) {
        return SESSION_GATE_OPEN;
    }
    session->inquiry = inquiry;
    if (!mail_domain_ask(&inquiry->domain, resolver, name, &answer)) {
        if (!inbound_short_of_buffers(inbound)) {
            list_push_back(&inbound->inquiries, &inquiry->node);
            shard_arm(inbound->shard, &inquiry->timer, session->profile->timeouts.lookup_ms);
            return SESSION_GATE_WAITING;
        }
        answer = MAIL_DOMAIN_UNKNOWN;
    }
    end(inquiry);
    *ret_refusal = refusal_of(session, answer);
    return *ret_refusal == NULL ? SESSION_GATE_OPEN : SESSION_GATE_SHUT;
}

void session_names_drop(struct server_session *session)
{
    end(session->inquiry);
}

/* Whoever asks meanwhile does not wait, so this comes to an end. */
void session_names_relieve(struct inbound *inbound)
{
    while (inbound_short_of_buffers(inbound) && !list_empty(&inbound->inquiries)) {
        struct session_inquiry *inquiry = LIST_OWNER(inbound->inquiries.next, struct session_inquiry, node);
        answered(&inquiry->domain, MAIL_DOMAIN_UNKNOWN);
    }
}
