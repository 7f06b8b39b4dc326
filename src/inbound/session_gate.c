#include "inbound/session_gate.h"

#include "inbound/session.h"

/* From session->gate on. */
static void go_on(struct server_session *session)
{
    const struct session_gate *gate;
    for (; (gate = &session_gates[session->gate])->ask != NULL; session->gate++) {
        const struct reply *refusal = NULL;
        if ((gate->events >> session->machine.awaiting & 1) == 0) {
            continue;
        }
        switch (gate->ask(session, &refusal)) {
        case SESSION_GATE_OPEN: break;
        case SESSION_GATE_SHUT: session_command_passed(session, refusal); return;
        case SESSION_GATE_WAITING: session->asking = session->waited = true; return;
        }
    }
    session_command_passed(session, NULL);
}

void session_gate_enter(struct server_session *session)
{
    CHECK(!session->asking && !session->asked);
    session->gate = 0;
    session->waited = false;
    go_on(session);
}

void session_gate_answered(struct server_session *session, const struct reply *refusal)
{
    CHECK(session->asking && !session->asked && session->stage == SESSION_TALKING);
    session->asked = true;
    session->refusal = refusal;
    server_session_drive(session);
}

void session_gate_conclude(struct server_session *session)
{
    if (!session->asked || !session_output_make_room(session)) {
        return;
    }
    session->asking = session->asked = false;
    if (session->refusal != NULL) {
        session_command_passed(session, session->refusal);
    } else {
        session->gate++;
        go_on(session);
    }
    if (!session->asking) {
        stream_consume(&session->stream, session->unread);
        session->unread = 0;
    }
}

void session_gate_drop(struct server_session *session)
{
    if (session->asking && !session->asked) {
        session_gates[session->gate].drop(session);
    }
    session->asking = session->asked = false;
}
