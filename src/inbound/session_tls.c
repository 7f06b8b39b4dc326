/* TLS of a session: STARTTLS (RFC 3207) and implicit TLS (RFC 8314).
 *
 * What was said in clear text must never be read as if it had been said inside TLS; a man in the middle could have put
 * it there. Three things make sure of that. The machine refuses STARTTLS with input behind it, and so does this file
 * when the input lies in the next receive buffer. From the 220 on, whatever comes is given to the handshake, which it
 * fails. And when TLS stands, all that was said before is forgotten: HELO, who had logged in, for whom a filter spoke.
 */
#include "inbound/session.h"

#include <errno.h>

#include "core/stream_tls.h"

void session_tls_asked(struct server_session *session)
{
    const struct reply *refusal = NULL;
    if (session->stream.buffers > 1) {
        refusal = reply_of(REPLY_TLS_PIPELINED);
    } else if (session->profile->tls_context == NULL || !tls_session_room()) {
        refusal = reply_of(REPLY_TLS_UNAVAILABLE);
    }
    session->starting_tls = refusal == NULL;
    if (refusal == NULL) {
        metric_add(&session_metrics(session)->starttls, 1);
    }
    session_command_answer(session, "starttls", refusal);
}

void session_tls_start(struct server_session *session)
{
    struct tls_context *context = session->profile->tls_context;
    bool early = session->profile->tls == INBOUND_TLS_IMPLICIT || stream_input(&session->stream).length != 0;
    session->starting_tls = false;
    session->stage = SESSION_HANDSHAKE;
    session->phase_ms = session_now_ms(session);
    int error = context == NULL ? -EBUSY
                : early         ? stream_tls_start_implicit(&session->stream, context)
                                : stream_tls_start_server(&session->stream, context);
    if (error != 0 || session->stream.eof) { /* an end that came with STARTTLS wakes nobody again */
        server_session_close(session, false);
    }
}

void session_tls_look(struct server_session *session)
{
    if (session->stream.eof) {
        server_session_close(session, false);
    } else if (session->stream.secured) {
        smtp_server_secured(&session->machine);
        session->helo_length = 0;
        login_identity_give(&session->identity);
        session_proxy_forget(session);
        if (session->profile->tls == INBOUND_TLS_IMPLICIT) {
            server_session_greet(session);
        } else {
            session->stage = SESSION_TALKING;
            session->command_ms = session_now_ms(session);
        }
    }
}

void session_tls_failed(struct server_session *session, const char *reason)
{
    const struct reply reply = {.text = bytes_of_string(reason)};
    session_command_tell(session, "starttls", BYTES(""), &reply);
}

const struct tls_facts *session_tls_facts(const struct server_session *session)
{
    return session->stream.secured ? stream_tls_facts(&session->stream) : NULL;
}
