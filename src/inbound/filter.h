/* One conversation with one mail filter: a connection to its socket, a packet out, an answer in, with a deadline. What
 * is said and what follows from the answer is the business of the session (session_filter.c); what an answer means is
 * the machine's (milter/milter.h).
 *
 * It has a life of its own, because a connection is closed in its own time: the session may go first. About 9 KiB while
 * it lasts, which is from the first MAIL of a session to its end. */
#ifndef INBOUND_FILTER_H
#define INBOUND_FILTER_H

#include "core/stream.h"
#include "inbound/inbound.h"
#include "inbound/profile.h"
#include "milter/milter.h"
#include "milter/milter_wire.h"

#define FILTER_LARGE_BYTES (MILTER_CONTENT_BYTES + MILTER_EDIT_BYTES_MAX)

struct filter {
    struct stream stream;
    struct inbound *inbound;
    struct profile *profile;               /* a reference */
    const struct inbound_filter *settings; /* in it */
    void (*woken)(void *owner);            /* something has changed: look */
    void *owner;
    struct metric_milter *metrics;
    struct timer timer;
    uint64_t deadline_ms;
    uint64_t wait_ms; /* for the next sign of life */
    uint64_t asked_ns;
    struct milter milter;
    struct milter_reader reader;
    struct buffer out;
    char *large;      /* room for a message; NULL: none */
    const char *lost; /* why it cannot be asked any more; NULL: it can */
    uint8_t step;     /* enum milter_step: what was said last */
    bool open;        /* there is a stream, in whatever state */
    bool listening;   /* for the answer */
    bool spoken;      /* `out` was sent */
    bool told_connection;
    uint32_t told_helo; /* which of the session's, counted from 1; 0: none */
    bool refused;       /* the session, at connect or helo, with `reply` */
    struct milter_reply reply;
    char in[MILTER_REPLY_BYTES_MAX];
    char room[MILTER_COMMAND_BYTES_MAX];
};

enum filter_state {
    FILTER_WAIT,  /* `woken` will be called */
    FILTER_READY, /* something may be said */
    FILTER_HEARD, /* *ret_meaning, and filter->reply; after an edit it goes on listening */
    FILTER_LOST,  /* filter->lost; nothing more will happen */
};

/* Begins to connect; NULL without memory. A socket that cannot be is seen when it is looked at. */
struct filter *filter_new(struct inbound *inbound, struct profile *profile, unsigned index, void (*woken)(void *owner),
                          void *owner);

enum filter_state filter_look(struct filter *filter, enum milter_meaning *ret_meaning);

/* Sends filter->out, which must stay as it is until the filter is READY again or has been HEARD, and listens if `step`
 * is answered. Only when READY. */
void filter_say(struct filter *filter, enum milter_step step, uint64_t wait_ms);

/* Room for a message: larger packets may be said, from an empty filter->out, and heard. False without memory. Only when
 * READY. And back: does nothing while that room is in use. */
bool filter_enlarge(struct filter *filter);
void filter_reduce(struct filter *filter);

/* Whatever became of it. False: it has to be closed. */
bool filter_end_transaction(struct filter *filter);

/* It cannot be used any more. */
void filter_lose(struct filter *filter, const char *reason);

/* Says goodbye if it can; frees it in its own time. `woken` is not called any more. */
void filter_close(struct filter *filter);

#endif
