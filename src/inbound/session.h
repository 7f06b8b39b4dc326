/* An SMTP session, for the files that drive it only: server_session.c (control flow), session_output.c (replies),
 * session_command.c (what the machine's events lead to). */
#ifndef INBOUND_SESSION_H
#define INBOUND_SESSION_H

#include "base/check.h"
#include "core/stream.h"
#include "inbound/policy.h"
#include "inbound/reception.h"
#include "inbound/server_session.h"
#include "inbound/session_event.h"

enum session_stage { SESSION_TALKING, SESSION_LEAVING, SESSION_LINGERING, SESSION_CLOSED };

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
    uint64_t command_ms; /* when the last command was answered */
    uint64_t message_ms; /* when 354 was said */
    uint64_t data_ms;    /* when the last piece of the message came */
    uint64_t output_ms;  /* when the send in flight began */
    uint64_t linger_ms;
    uint64_t counted_bytes; /* received, as far as the metric knows */
    struct admission_ticket ticket;
    struct peer peer;
    struct policy_client client;
    uint8_t stage;   /* enum session_stage */
    bool committing; /* END waits for its answer */
    bool said_farewell;
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

/* session_command.c: one event of the machine each, but for the three that only move bytes. */
void session_command_event(struct server_session *session, enum smtp_server_event event);
/* Answers END when the message's fate is known. */
void session_command_answer_end(struct server_session *session);
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
/* Cuts off sessions whose client reads nothing while their unread input keeps receive buffers that others need. At
 * the end of a turn in which buffers are short. */
void session_output_relieve(struct inbound *inbound);

/* Once, before the first session of a shard. */
void session_output_start(struct inbound *inbound);

#endif
