/* The mail filters (milters) of a session: the gate at which MAIL, RCPT, DATA and the end of a message wait for them.
 */
#ifndef INBOUND_SESSION_FILTER_H
#define INBOUND_SESSION_FILTER_H

#include "inbound/filter.h"
#include "inbound/filter_content.h"
#include "inbound/session_gate.h"

struct server_session;

#define SESSION_FILTER_MACROS_MAX 16

struct session_filters {
    struct server_session *session;
    struct filter *filters[INBOUND_FILTERS_MAX]; /* NULL: not asked yet, or lost in a transaction that is over */
    unsigned at;                                 /* the one that is being asked */
    uint8_t step;                                /* enum milter_step that all are asked about; NONE: nothing is */
    bool said;                                   /* it was, to the one that is being asked */
    bool answering;                              /* the gate waits for us */
    bool discard;                                /* the message: a filter said so, `filters[by]` */
    bool quarantine;
    uint64_t since_ms;              /* while `answering`: when that began */
    bool loaded;                    /* content is ready to be shown */
    unsigned by;                    /* the filter that discards */
    unsigned held_by;               /* the one that quarantines */
    struct filter_content *content; /* at the end of the message */
    char id[RECEPTION_ID_BYTES];
    struct reply refusal;
    char text[MILTER_TEXT_BYTES_MAX]; /* of it */
    size_t reason_length;
    char reason[MILTER_TEXT_BYTES_MAX]; /* of a quarantine */
};

enum session_gate_answer session_filter_ask(struct server_session *session, const struct reply **ret_refusal);
void session_filter_drop(struct server_session *session);

/* Something that filters wait for may have changed. */
void session_filter_look(struct server_session *session);

/* Receive buffers are short, and the session keeps some: a filter that has not answered by now has had its time. */
void session_filter_hurry(struct server_session *session);

/* The transaction is over, whatever became of it; the session is. */
void session_filter_forget(struct server_session *session);
void session_filter_free(struct server_session *session);

/* A filter has said of the message that is whole now, that it shall be taken and thrown away. Said in the event log,
 * and counted. */
bool session_filter_discards(struct server_session *session);
/* The message was accepted: says so in the event log when it is held for a filter. */
void session_filter_accepted(struct server_session *session);

#endif
