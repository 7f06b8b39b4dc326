/* What the machine's events lead to: the rule that is asked, the envelope and the body, the answer. */
#include "inbound/session.h"

static struct reception_client client_of(const struct server_session *session)
{
    return (struct reception_client){
        .peer = &session->peer,
        .helo = bytes_of(session->helo, session->helo_length),
        .profile = session->profile,
        .extended = session->machine.extended,
    };
}

void session_command_drop_reception(struct server_session *session)
{
    if (session->reception != NULL) {
        reception_release(session->reception);
        session->reception = NULL;
    }
    session->committing = false;
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
    server_session_drive(owner);
}

static void on_mail(struct server_session *session)
{
    const struct reply *refusal = policy_mail(session->inbound);
    if (refusal == NULL && session_now_ms(session) >= session->began_ms + session->profile->timeouts.session_ms) {
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
    session->message_ms = session->data_ms = session_now_ms(session);
    answer(session, "data", NULL);
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
        char room[64];
        char id[RECEPTION_ID_BYTES];
        struct buffer text = buffer_of(room, sizeof room);
        bool relaxed = session->profile->durability == INBOUND_RELAXED;
        CHECK(buffer_append(&text, relaxed ? BYTES("queued (relaxed durability) as ") : BYTES("queued as ")) &&
              buffer_append_string(&text, reception_id(session->reception, id)));
        smtp_server_accept_text(&session->machine, &session->out, buffer_bytes(&text));
    } else {
        metric_add(&session_metrics(session)->messages_rejected, 1);
        answer(session, "dot", policy_storage_reply(err));
    }
    session_command_drop_reception(session);
}

static void on_end(struct server_session *session)
{
    struct reception_client client = client_of(session);
    session->committing = true;
    reception_finish(session->reception, &client, &session->machine.dot);
    session_command_answer_end(session);
}

static void on_dropped(struct server_session *session)
{
    session_command_drop_reception(session);
    if (session->machine.drop == SMTP_SERVER_DROP_CONTENT) {
        metric_add(&session_metrics(session)->messages_rejected, 1);
        tell_rejection(session, "dot", reply_of((enum reply_id)session->machine.refusal));
    }
}

void session_command_event(struct server_session *session, enum smtp_server_event event)
{
    switch (event) {
    case SMTP_SERVER_HELO: on_helo(session); break;
    case SMTP_SERVER_MAIL: on_mail(session); break;
    case SMTP_SERVER_RCPT: on_rcpt(session); break;
    case SMTP_SERVER_DATA: on_data(session); break;
    case SMTP_SERVER_BODY: on_body(session); break;
    case SMTP_SERVER_END: on_end(session); break;
    case SMTP_SERVER_DROPPED: on_dropped(session); break;
    default: break;
    }
}
