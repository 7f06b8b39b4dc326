/* What has to be asked before MAIL, RCPT, DATA or the end of data is answered, by something that may take its time:
 * DNS, a program beside us.
 *
 *   the machine's event -> what costs nothing to know -> gate 0 -> gate 1 -> ... -> session_command_passed -> the reply
 *                             (policy, rates)
 *
 * A gate that knows at once is passed at once, inside the same call. One that has to wait says so and later calls
 * session_gate_answered; until then the session is at rest: it reads nothing, so that MAIL and RCPT, which the
 * machine's spans point into, stay where they are, and so does what was pipelined behind. The gate has a timer of its
 * own for that: a session that waits for a gate has no other deadline. When the session goes first, or is cut off,
 * `drop` is called, and after that the gate must not call back. */
#ifndef INBOUND_SESSION_GATE_H
#define INBOUND_SESSION_GATE_H

#include "smtp/server.h"

#define SESSION_GATE_MAIL (1u << SMTP_SERVER_MAIL)
#define SESSION_GATE_RCPT (1u << SMTP_SERVER_RCPT)
#define SESSION_GATE_DATA (1u << SMTP_SERVER_DATA)
#define SESSION_GATE_END (1u << SMTP_SERVER_END)

enum session_gate_answer {
    SESSION_GATE_OPEN,
    SESSION_GATE_SHUT,    /* *ret_refusal says with what */
    SESSION_GATE_WAITING, /* session_gate_answered follows, or drop */
};

struct server_session;

struct session_gate {
    uint32_t events; /* SESSION_GATE_...: at which it stands */
    /* About session->machine's outstanding event (`awaiting`). */
    enum session_gate_answer (*ask)(struct server_session *session, const struct reply **ret_refusal);
    /* Stop waiting. Called only while the gate does. */
    void (*drop)(struct server_session *session);
};

/* In this order, up to one without `ask`. */
extern const struct session_gate session_gates[];

/* The outstanding event has no reply yet: through the gates that stand at it. */
void session_gate_enter(struct server_session *session);

/* The gate that the session waits at says yes (NULL) or no. From the loop, never from inside `ask` or `drop`. The reply
 * must stay good until the gate is asked again or the session has gone: a reply may have to wait for room. */
void session_gate_answered(struct server_session *session, const struct reply *refusal);

/* For the driver: goes on if there is an answer; and gives up waiting. */
void session_gate_conclude(struct server_session *session);
void session_gate_drop(struct server_session *session);

#endif
