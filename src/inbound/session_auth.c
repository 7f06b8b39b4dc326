/* AUTH (RFC 4954): inbound/login decides, this says so.
 *
 * A decision may take a while: a password is hashed by a worker, a token is asked about over a socket, a refusal is
 * held back. The session waits for it like for a commit: it reads nothing, and its reply waits for room in the output.
 */
#include "inbound/session.h"

#include "core/crypto.h"

static const struct reply ended = {
    .code = 421, .enhanced = {4, 7, 0}, .text = {"Your account has changed, authenticate again", 44}};
static const struct reply malformed = {.code = 501, .enhanced = {5, 5, 2}, .text = {"Cannot decode that response", 27}};

/* By enum mechanism: {refused, accepted}. */
#define COUNTERS(mechanism)                                                                                 \
    {                                                                                                       \
        offsetof(struct metric_set, mechanism##_refused), offsetof(struct metric_set, mechanism##_accepted) \
    }
static const size_t counters[MECHANISMS][2] = {
    [MECHANISM_SCRAM_SHA_256_PLUS] = COUNTERS(auth_scram_sha_256_plus),
    [MECHANISM_SCRAM_SHA_256] = COUNTERS(auth_scram_sha_256),
    [MECHANISM_OAUTHBEARER] = COUNTERS(auth_oauthbearer),
    [MECHANISM_XOAUTH2] = COUNTERS(auth_xoauth2),
    [MECHANISM_PLAIN] = COUNTERS(auth_plain),
    [MECHANISM_LOGIN] = COUNTERS(auth_login),
    [MECHANISM_EXTERNAL] = COUNTERS(auth_external),
};

static void count(struct server_session *session, bool accepted)
{
    char *metrics = (char *)session_metrics(session);
    metric_add((_Atomic uint64_t *)(void *)(metrics + counters[session->mechanism][accepted]), 1);
}

static unsigned offered(const struct server_session *session)
{
    return session->machine.secure ? session->profile->mechanisms_secure : session->profile->mechanisms_clear;
}

static void resume(void *context);

static struct login *new_login(struct server_session *session)
{
    struct login_setup setup = {
        .shard = session->inbound->shard,
        .accounts = session->inbound->accounts,
        .peer = session->peer,
        .offered = offered(session),
        .resume = resume,
        .context = session,
    };
    const struct tls_facts *tls = session_tls_facts(session);
    if (tls != NULL) {
        setup.exporter = bytes_of(tls->exporter, tls->exporter_bytes);
        setup.end_point = bytes_of(tls->server_end_point, tls->server_end_point_bytes);
        setup.fingerprint = bytes_of(tls->peer_fingerprint, tls->peer_certificate ? sizeof tls->peer_fingerprint : 0);
        setup.certificate_verified = tls->verified;
        setup.certificate_name = bytes_of_string(tls->peer_name);
    }
    return session->inbound->accounts != NULL ? login_new(&setup) : NULL;
}

void session_auth_end(struct server_session *session)
{
    session_question_drop(session);
    if (session->login != NULL) {
        login_delete(session->login);
        session->login = NULL;
    }
    session->deciding = session->decided = false;
}

static void say_done(struct server_session *session)
{
    session->identity = login_take(session->login);
    count(session, true);
    session_auth_end(session);
    smtp_server_accept(&session->machine, &session->out);
}

static void say_refused(struct server_session *session)
{
    static const enum reply_id replies[] = {
        [LOGIN_REPLY_BAD] = REPLY_AUTH_FAILED, [LOGIN_REPLY_LATER] = REPLY_AUTH_UNAVAILABLE};
    enum login_reply which = login_reply(session->login);
    const struct reply *reply = which == LOGIN_REPLY_MALFORMED ? &malformed : reply_of(replies[which]);
    count(session, false);
    session_command_tell(session, "auth", login_name(session->login), reply);
    session_auth_end(session);
    smtp_server_refuse(&session->machine, &session->out, reply);
}

void session_auth_conclude(struct server_session *session)
{
    if (!session->decided || !session_output_make_room(session)) {
        return;
    }
    session->deciding = session->decided = false;
    switch ((enum login_event)session->login_event) {
    case LOGIN_CHALLENGE:
        smtp_server_challenge(&session->machine, &session->out, login_challenge(session->login));
        break;
    case LOGIN_DONE: say_done(session); break;
    default: say_refused(session); break;
    }
}

static void take(struct server_session *session, enum login_event event)
{
    session->deciding = true;
    if (event == LOGIN_ASK && !session_question_ask(session)) {
        event = login_answer(session->login, BYTES(""));
    }
    session->decided = event != LOGIN_WAIT && event != LOGIN_ASK;
    session->login_event = (uint8_t)event;
}

static void resume(void *context)
{
    struct server_session *session = context;
    take(session, login_resumed(session->login));
    server_session_drive(session);
}

void session_auth_answered(struct server_session *session, struct bytes line)
{
    take(session, login_answer(session->login, line));
    server_session_drive(session);
}

void session_auth_step(struct server_session *session)
{
    const struct smtp_server *machine = &session->machine;
    session->secret_line = true;
    if (!machine->auth.first) {
        take(session, login_respond(session->login, machine->auth.response));
        session_auth_conclude(session);
        return;
    }
    session->login = new_login(session);
    if (session->login == NULL) {
        session_command_answer(session, "auth", reply_of(REPLY_AUTH_UNAVAILABLE));
        return;
    }
    session->phase_ms = session_now_ms(session);
    session->mechanism = (uint8_t)mechanism_find(machine->auth.mechanism);
    take(session, login_begin(session->login, session->mechanism, machine->auth.has_response, machine->auth.response));
    session_auth_conclude(session);
}

const struct reply *session_auth_renew(struct server_session *session)
{
    bool good = !session_authenticated(session) || login_identity_renew(&session->identity, session->inbound->accounts);
    return good ? NULL : &ended;
}
