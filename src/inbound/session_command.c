/* What the machine's events lead to: the rule that is asked, the envelope and the body, the answer. */
#include "inbound/session.h"

struct reception_client session_command_client(const struct server_session *session)
{
    const struct session_trace *trace = session->trace;
    struct bytes helo = bytes_of(session->helo, session->helo_length);
    bool known = session_authenticated(session);
    return (struct reception_client){
        .peer = &session->peer,
        .helo = helo,
        .profile = session->profile,
        .extended = session->machine.extended,
        .trusted = session->client.may_relay || known,
        .tls = session_tls_facts(session),
        .account = session_user(session),
        .tenant = known ? session->identity.account->tenant : BYTES(""),
        .trace_peer = trace != NULL && trace->has_peer ? &trace->peer : &session->peer,
        .trace_helo = trace != NULL && trace->helo_length != 0 ? bytes_of(trace->helo, trace->helo_length) : helo,
    };
}

void session_command_drop_reception(struct server_session *session)
{
    if (session->reception != NULL) {
        reception_release(session->reception);
        session->reception = NULL;
        session_filter_forget(session);
        session_proxy_forget(session);
    }
    session->committing = false;
    session->message_ms = 0;
}

static void on_helo(struct server_session *session)
{
    struct bytes name = session->machine.helo;
    CHECK(name.length <= sizeof session->helo);
    memcpy(session->helo, name.data, name.length);
    session->helo_length = (uint8_t)name.length;
    session->helos++;
}

void session_command_tell(const struct server_session *session, const char *phase, struct bytes user,
                          const struct reply *reply)
{
    const struct smtp_server *machine = &session->machine;
    const struct session_trace *trace = session->trace;
    session_event_rejection(&(struct session_event){
        .shard = session->inbound->shard,
        .listener = session->profile->name,
        .peer = trace != NULL && trace->has_peer ? &trace->peer : &session->peer,
        .phase = phase,
        .user = user,
        .sender = machine->awaiting == SMTP_SERVER_MAIL ? machine->mail.path.mailbox
                  : session->reception != NULL          ? reception_sender(session->reception)
                                                        : BYTES(""),
        .recipient = machine->awaiting == SMTP_SERVER_RCPT ? machine->rcpt.path.mailbox : BYTES(""),
        .reply = reply,
    });
}

void session_command_answer(struct server_session *session, const char *phase, const struct reply *refusal)
{
    if (refusal == NULL) {
        smtp_server_accept(&session->machine, &session->out);
    } else {
        session_command_tell(session, phase, session_user(session), refusal);
        smtp_server_refuse(&session->machine, &session->out, refusal);
    }
}

static void reception_changed(void *owner)
{
    struct server_session *session = owner;
    session->data_ms = session_now_ms(session); /* until now it may have been the disk that kept the client waiting */
    session_filter_look(session);
    server_session_drive(session);
}

/* RFC 6710 4.1: the priority is lowered, and the client told so: the new one, a space, words. */
static const struct reply priority_lowered = {
    .code = 250, .enhanced = {2, 3, 6}, .text = {"0 is the priority that this message has here", 44}};

/* What is given counts from those who are trusted; from others unless it is positive. */
static int priority_of(const struct server_session *session)
{
    int priority = session->machine.mail.params.priority;
    bool trusted = session->client.may_relay || session_authenticated(session);
    return priority > 0 && !trusted ? 0 : priority;
}

static const struct reply *refusal_of_mail(struct server_session *session)
{
    const struct reply *refusal = session_auth_renew(session);
    struct throttle_client client = session_throttle(session);
    if (refusal == NULL) {
        refusal = policy_mail(session->inbound);
    }
    if (refusal == NULL && session_now_ms(session) >= session->began_ms + session->profile->timeouts.session_ms) {
        refusal = reply_of(REPLY_IDLE);
    }
    if (refusal == NULL && session_authenticated(session)) {
        refusal = policy_sender(&session->identity, &session->machine.mail.path);
    }
    if (refusal == NULL) {
        refusal = policy_priority(session->inbound, session->profile, priority_of(session),
                                  session->machine.mail.params.size);
    }
    return refusal != NULL ? refusal : throttle_message(session->inbound, session->profile, &client);
}

static void mail_passed(struct server_session *session, const struct reply *refusal)
{
    const struct params_mail *params = &session->machine.mail.params;
    bool lowered = false;
    if (refusal == NULL && session->waited) {
        refusal = policy_mail(session->inbound);
    }
    if (refusal == NULL) {
        struct reception_client client = session_command_client(session);
        session->priority = (int8_t)priority_of(session);
        session->size = params->size;
        lowered = session->priority != params->priority;
        session->reception = reception_begin(session->inbound, &client, &session->machine.mail.path, params,
                                             reception_changed, session);
        refusal = session->reception == NULL ? reply_of(REPLY_NO_SPACE) : NULL;
    }
    if (refusal == NULL && lowered) {
        smtp_server_accept_reply(&session->machine, &session->out, &priority_lowered);
    } else {
        session_command_answer(session, "mail", refusal);
    }
}

static const struct reply *refusal_of_rcpt(struct server_session *session)
{
    return policy_recipient(session->inbound, &session->client, session_authenticated(session),
                            &session->machine.rcpt.path, &session->found);
}

static void rcpt_passed(struct server_session *session, const struct reply *refusal)
{
    const struct address *recipient = &session->machine.rcpt.path;
    if (refusal == NULL && session->waited) {
        refusal = refusal_of_rcpt(session); /* the table may be another one by now */
    }
    if (refusal == NULL) {
        enum err err = reception_add_recipient(session->reception, recipient, &session->machine.rcpt.params,
                                               &session->found);
        refusal = err == ERR_OK     ? NULL
                  : err == ERR_FULL ? reply_of(REPLY_TOO_MANY_RECIPIENTS)
                                    : policy_storage_reply(err);
    }
    session_command_answer(session, "rcpt", refusal);
}

static void data_passed(struct server_session *session, const struct reply *refusal)
{
    session_command_answer(session, "data", refusal);
    if (refusal != NULL) {
        session_command_drop_reception(session);
    }
}

static void on_body(struct server_session *session)
{
    session->data_ms = session_now_ms(session);
    reception_body(session->reception, session->machine.piece);
}

/* The message's fate is known. */
void session_command_answer_end(struct server_session *session)
{
    enum err err;
    if (!session->committing || !reception_finished(session->reception, &err) || !session_output_make_room(session)) {
        return;
    }
    if (err == ERR_OK) {
        session_filter_accepted(session);
        char room[64];
        char id[RECEPTION_ID_BYTES];
        struct buffer text = buffer_of(room, sizeof room);
        bool relaxed = session->profile->durability == INBOUND_RELAXED;
        CHECK(buffer_append(&text, relaxed ? BYTES("queued (relaxed durability) as ") : BYTES("queued as ")) &&
              buffer_append_string(&text, reception_id(session->reception, id)));
        smtp_server_accept_text(&session->machine, &session->out, buffer_bytes(&text));
    } else {
        metric_add(&session_metrics(session)->messages_rejected, 1);
        session_command_answer(session, "dot", policy_storage_reply(err));
    }
    session_command_drop_reception(session);
}

static void end_passed(struct server_session *session, const struct reply *refusal)
{
    if (refusal == NULL && session_filter_discards(session)) {
        smtp_server_accept(&session->machine, &session->out);
        session_command_drop_reception(session);
        return;
    }
    if (refusal != NULL) {
        metric_add(&session_metrics(session)->messages_rejected, 1);
        session_command_answer(session, "dot", refusal);
        session_command_drop_reception(session);
        return;
    }
    struct reception_client client = session_command_client(session);
    session->committing = true;
    reception_finish(session->reception, &client, &session->machine);
    session_command_answer_end(session);
}

void session_command_passed(struct server_session *session, const struct reply *refusal)
{
    switch (session->machine.awaiting) {
    case SMTP_SERVER_MAIL: mail_passed(session, refusal); break;
    case SMTP_SERVER_RCPT: rcpt_passed(session, refusal); break;
    case SMTP_SERVER_DATA: data_passed(session, refusal); break;
    case SMTP_SERVER_END: end_passed(session, refusal); break;
    default: CHECK(false);
    }
}

/* What costs nothing to know comes first: who is refused for it is not worth a question. */
static void pass(struct server_session *session, const struct reply *refusal)
{
    if (refusal != NULL) {
        session_command_passed(session, refusal);
    } else {
        session_gate_enter(session);
    }
}

static void on_mail(struct server_session *session)
{
    pass(session, refusal_of_mail(session));
}

static void on_rcpt(struct server_session *session)
{
    struct throttle_client client = session_throttle(session);
    const struct reply *refusal = refusal_of_rcpt(session);
    pass(session, refusal != NULL ? refusal : throttle_recipient(session->inbound, session->profile, &client));
}

static void on_end(struct server_session *session)
{
    struct throttle_client payer = session_throttle(session);
    uint64_t bytes = dot_message_bytes(&session->machine.dot);
    throttle_bytes(session->inbound, session->profile, &payer, bytes);
    pass(session, policy_priority_size(session->profile, session->priority, bytes));
}

static void on_dropped(struct server_session *session)
{
    if (session->machine.drop == SMTP_SERVER_DROP_CONTENT) {
        metric_add(&session_metrics(session)->messages_rejected, 1);
        session_command_tell(session, "dot", session_user(session), reply_of((enum reply_id)session->machine.refusal));
    }
    session_command_drop_reception(session);
}

void session_command_event(struct server_session *session, enum smtp_server_event event)
{
    switch (event) {
    case SMTP_SERVER_HELO: on_helo(session); break;
    case SMTP_SERVER_STARTTLS_ASKED: session_tls_asked(session); break;
    case SMTP_SERVER_AUTH_STEP: session_auth_step(session); break;
    case SMTP_SERVER_AUTH_CANCELLED: session_auth_end(session); break;
    case SMTP_SERVER_XCLIENT_GIVEN: session_proxy_xclient(session); break;
    case SMTP_SERVER_XFORWARD_GIVEN: session_proxy_xforward(session); break;
    case SMTP_SERVER_MAIL: on_mail(session); break;
    case SMTP_SERVER_RCPT: on_rcpt(session); break;
    case SMTP_SERVER_DATA: pass(session, NULL); break;
    case SMTP_SERVER_BODY: on_body(session); break;
    case SMTP_SERVER_END: on_end(session); break;
    case SMTP_SERVER_DROPPED: on_dropped(session); break;
    default: break;
    }
}
