#include "inbound/session.h"

/* Alone in its file, so that a test can put others in its place. */
const struct session_gate session_gates[] = {
    {SESSION_GATE_MAIL | SESSION_GATE_RCPT, session_names_ask, session_names_drop},
    {SESSION_GATE_RCPT, session_quota_ask, session_quota_drop},
    {SESSION_GATE_MAIL | SESSION_GATE_RCPT | SESSION_GATE_DATA | SESSION_GATE_END, session_filter_ask,
     session_filter_drop},
    {0, NULL, NULL},
};
