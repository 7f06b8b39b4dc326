/* Is there room in the recipient's mailbox? Asked at RCPT, so that what will not fit stays with its sender: the size of
 * the message as far as MAIL said it, else whether there is any room at all.
 *
 * Of mailboxes that are reached by their own address only. What an alias comes to may have room elsewhere, and the
 * delivery asks again anyway: this is a courtesy, and when it takes too long the recipient is taken.
 *
 * A question has a life of its own, because nobody can take it back from the worker. */
#include "inbound/session.h"

#include <stdlib.h>

struct session_usage {
    struct maildir_quota quota;
    struct timer timer;
    struct inbound *inbound;
    struct server_session *session; /* NULL: nobody waits for the answer */
    bool refuses;
};

static const struct reply *refusal_of(const struct session_usage *usage)
{
    return !usage->quota.over ? NULL : reply_of(usage->refuses ? REPLY_MAILBOX_FULL : REPLY_MAILBOX_FULL_NOW);
}

static struct server_session *let_go(struct session_usage *usage)
{
    struct server_session *session = usage->session;
    shard_disarm(usage->inbound->shard, &usage->timer);
    session->usage = NULL;
    usage->session = NULL;
    return session;
}

static void answered(struct maildir_quota *quota)
{
    struct session_usage *usage = CONTAINER_OF(quota, struct session_usage, quota);
    struct inbound *inbound = usage->inbound;
    const struct reply *refusal = refusal_of(usage);
    struct server_session *session = usage->session != NULL ? let_go(usage) : NULL;
    free(usage);
    inbound->question_count--;
    if (session != NULL) {
        session_gate_answered(session, refusal);
    }
    inbound_settle(inbound);
}

static void timer_fired(struct timer *timer)
{
    session_gate_answered(let_go(CONTAINER_OF(timer, struct session_usage, timer)), NULL);
}

enum session_gate_answer session_quota_ask(struct server_session *session, const struct reply **ret_refusal)
{
    struct inbound *inbound = session->inbound;
    struct inbound_mailbox mailbox;
    (void)ret_refusal;
    if (inbound->mailbox == NULL || session->found.verdict != RECIPIENTS_MAILBOX ||
        !inbound->mailbox(inbound->shard, &session->machine.rcpt.path, &mailbox)) {
        return SESSION_GATE_OPEN;
    }
    struct session_usage *usage = calloc(1, sizeof *usage);
    if (usage == NULL) {
        return SESSION_GATE_OPEN;
    }
    usage->inbound = inbound;
    usage->session = session;
    usage->refuses = mailbox.refuses;
    usage->quota.limits = mailbox.quota;
    usage->quota.bytes = session->size;
    usage->quota.done = answered;
    memcpy(usage->quota.directory, mailbox.directory, sizeof mailbox.directory);
    wheel_timer_init(&usage->timer, timer_fired);
    if (!maildir_quota_ask(&usage->quota, inbound->shard)) {
        free(usage);
        return SESSION_GATE_OPEN;
    }
    session->usage = usage;
    inbound->question_count++;
    shard_arm(inbound->shard, &usage->timer, session->profile->timeouts.lookup_ms);
    return SESSION_GATE_WAITING;
}

void session_quota_drop(struct server_session *session)
{
    let_go(session->usage);
}
