/* An SMTP session, for the files that drive it only: server_session.c (control flow), session_output.c (replies),
 * session_command.c (what the machine's events lead to), session_gate.c (what is asked before it is answered),
 * session_tls.c, session_auth.c, session_proxy.c. */
#ifndef INBOUND_SESSION_H
#define INBOUND_SESSION_H

#include "base/check.h"
#include "core/stream.h"
#include "inbound/policy.h"
#include "inbound/reception.h"
#include "inbound/server_session.h"
#include "inbound/session_event.h"
#include "inbound/session_filter.h"
#include "inbound/session_gate.h"
#include "inbound/throttle.h"

enum session_stage {
    SESSION_PROXY,     /* a PROXY header comes first */
    SESSION_HANDSHAKE, /* of TLS */
    SESSION_PAUSING,   /* before the greeting */
    SESSION_TALKING,
    SESSION_LEAVING,
    SESSION_LINGERING,
    SESSION_CLOSED,
};

/* For whom a trusted filter in front says that it speaks (XFORWARD): until the end of the transaction. */
struct session_trace {
    struct peer peer;
    bool has_peer;
    uint8_t helo_length;
    char helo[LIMIT_DOMAIN_BYTES];
};

struct server_session {
    struct stream stream;
    struct smtp_server machine;
    struct inbound *inbound;
    struct profile *profile;
    struct list node;   /* in inbound->sessions */
    struct list unsent; /* in inbound->unsent while a send is in flight */
    struct timer timer;
    struct reception *reception;  /* from MAIL to the end of the transaction */
    const struct reply *farewell; /* a 421 to be said as soon as there is room for it */
    struct buffer out;
    size_t sent; /* of out */
    void *small; /* what is being sent was copied to here; NULL: it was not */
    uint64_t began_ms;
    uint64_t command_ms;    /* when the last command was answered */
    uint64_t mail_ms;       /* when the transaction began */
    uint64_t message_ms;    /* when 354 was said, or the first chunk came; 0: no message */
    uint64_t data_ms;       /* when the last piece of the message came */
    uint64_t output_ms;     /* when the send in flight began */
    uint64_t phase_ms;      /* when the stage, or the AUTH under way, began */
    uint64_t held_ms;       /* until then nothing is said and nothing read: refusals cost time */
    uint64_t counted_bytes; /* received, as far as the metric knows */
    struct admission_ticket ticket;
    struct peer peer;
    struct policy_client client;
    uint8_t stage;     /* enum session_stage */
    bool committing;   /* END waits for its answer */
    bool deciding;     /* AUTH waits for a worker, the verifier, or room to say what was decided */
    bool decided;      /* session->login_event is to be said */
    bool asking;       /* a command waits at session->gate */
    bool asked;        /* session->refusal is the gate's answer */
    bool waited;       /* for a gate, whatever was known before */
    uint8_t gate;      /* of session_gates */
    bool starting_tls; /* 220 is said; TLS begins when it is sent */
    int8_t priority;   /* of the transaction (RFC 6710), as it is here */
    bool secret_line;  /* the line block had a response of AUTH in it */
    bool said_farewell;
    uint8_t login_event;               /* enum login_event */
    uint8_t mechanism;                 /* of the AUTH under way */
    uint32_t errors;                   /* as counted by the rates */
    struct login *login;               /* AUTH under way */
    struct session_question *question; /* to the verifier */
    struct session_inquiry *inquiry;   /* to DNS */
    struct session_usage *usage;       /* the question about a quota */
    uint64_t size;                     /* what MAIL says about the message's, 0 without */
    struct login_identity identity;
    struct session_trace *trace;
    struct session_filters *filters; /* NULL: none asked yet */
    uint32_t helos;                  /* EHLO and HELO commands accepted */
    char *proxy_header;              /* as far as it has come, when it comes in pieces */
    uint16_t proxy_length;
    uint32_t line_bytes; /* of the line block */
    uint32_t unread;     /* octets of the input that the command which waits came in */
    const struct reply *refusal;
    struct recipients_answer found; /* who the recipient of RCPT is; for this turn */
    uint8_t helo_length;
    char helo[LIMIT_DOMAIN_BYTES];
};

static_assert(sizeof(struct server_session) <= 1024, "an idle session, its stream and its machine included");
static_assert(LIMIT_DOMAIN_BYTES <= UINT8_MAX, "helo_length");
static_assert(INBOUND_REPLY_BLOCK_BYTES >= 2 * REPLY_BYTES_MAX, "the machine goes on while a send is in flight");

static inline uint64_t session_now_ms(const struct server_session *session)
{
    return session->inbound->shard->now_ms;
}

static inline struct metric_set *session_metrics(const struct server_session *session)
{
    return session->inbound->shard->metrics;
}

/* server_session.c: acts on whatever has changed. */
void server_session_drive(struct server_session *session);
/* Its completion frees the session. A commit that has begun goes on without it. */
void server_session_close(struct server_session *session, bool abort);

/* Of AUTH, or "". */
static inline struct bytes session_user(const struct server_session *session)
{
    return session->identity.account != NULL ? session->identity.account->name : BYTES("");
}

static inline bool session_authenticated(const struct server_session *session)
{
    return session->identity.account != NULL;
}

/* For whom it speaks; of a unix socket NULL. */
static inline struct throttle_client session_throttle(const struct server_session *session)
{
    return (struct throttle_client){
        .peer = peer_is_local(&session->peer) ? NULL : &session->peer,
        .account = session_user(session),
        .listener = session->ticket.listener,
    };
}

/* server_session.c: what comes before the first command: a PROXY header is read or not needed, TLS stands or is not
 * needed yet; the greeting is said, or the pause before it begins. */
void server_session_admitted(struct server_session *session);
void server_session_greet(struct server_session *session);

/* session_tls.c: STARTTLS was asked for; TLS begins now (or the session ends); has the handshake ended? */
void session_tls_asked(struct server_session *session);
void session_tls_start(struct server_session *session);
void session_tls_look(struct server_session *session);
void session_tls_failed(struct server_session *session, const char *reason);
/* NULL in clear text. */
const struct tls_facts *session_tls_facts(const struct server_session *session);

/* session_auth.c: the next response; says what was decided meanwhile, if there is room; the exchange is over, whatever
 * became of it. */
void session_auth_step(struct server_session *session);
void session_auth_conclude(struct server_session *session);
void session_auth_end(struct server_session *session);
/* NULL, or the 421 that ends the session: the account is not what it was at AUTH. Spans of the identity end here. */
const struct reply *session_auth_renew(struct server_session *session);
/* session_question.c: asks the verifier; session_auth_answered is called with its line, "" when there is none. */
bool session_question_ask(struct server_session *session);
void session_question_drop(struct server_session *session);
void session_auth_answered(struct server_session *session, struct bytes line);

/* session_names.c: the gate that asks DNS about the domains of MAIL and RCPT; lets all go on who wait there. */
enum session_gate_answer session_names_ask(struct server_session *session, const struct reply **ret_refusal);
void session_names_drop(struct server_session *session);
void session_names_relieve(struct inbound *inbound);

/* session_quota.c: the gate that asks about the quota of a mailbox of ours. */
enum session_gate_answer session_quota_ask(struct server_session *session, const struct reply **ret_refusal);
void session_quota_drop(struct server_session *session);

/* session_proxy.c: whom it is from decides what it may; the PROXY header, as far as it has come; XCLIENT; XFORWARD. */
void session_proxy_judge(struct server_session *session);
void session_proxy_refuse(struct server_session *session);
void session_proxy_read(struct server_session *session);
void session_proxy_xclient(struct server_session *session);
void session_proxy_xforward(struct server_session *session);
/* What XFORWARD said; that and the header. */
void session_proxy_forget(struct server_session *session);
void session_proxy_free(struct server_session *session);

/* session_command.c: one event of the machine each, but for the three that only move bytes. */
void session_command_event(struct server_session *session, enum smtp_server_event event);
/* MAIL, RCPT, DATA or END is through all gates, or one of them has refused it. */
void session_command_passed(struct server_session *session, const struct reply *refusal);
/* Answers the outstanding event: yes when `refusal` is NULL, else no, for the event log in that phase. */
void session_command_answer(struct server_session *session, const char *phase, const struct reply *refusal);
void session_command_tell(const struct server_session *session, const char *phase, struct bytes user,
                          const struct reply *reply);
/* Answers END when the message's fate is known. */
void session_command_answer_end(struct server_session *session);
/* Who it is; spans live in the session. */
struct reception_client session_command_client(const struct server_session *session);
/* The transaction is over, whatever became of it. */
void session_command_drop_reception(struct server_session *session);

/* session_output.c: sends what was said. */
void session_output_flush(struct server_session *session);
/* From memory that outlives the send (the greeting). */
void session_output_send(struct server_session *session, struct bytes piece);
/* A send has ended, perhaps. */
void session_output_take_sent(struct server_session *session);
/* True when a reply of any size fits. False: a send is in flight whose end will make room, or the session is closed. */
bool session_output_make_room(struct server_session *session);
/* Says session->farewell once; true when it is said. */
bool session_output_say_farewell(struct server_session *session);
/* Gives the blocks back: the reply block; that and the one that is being sent. */
void session_output_give(struct server_session *session);
void session_output_free(struct server_session *session);
/* Cuts off sessions whose unread input keeps receive buffers that others need: their client reads nothing, or has sent
 * more although we keep it waiting. At the end of a turn in which buffers are short. */
void session_output_relieve(struct inbound *inbound);

/* Once, before the first session of a shard. */
void session_output_start(struct inbound *inbound);

#endif
