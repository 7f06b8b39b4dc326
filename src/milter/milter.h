/* The mail server's side of the mail filter ("milter") protocol, versions 2 to 6, as a pure machine: what may be said
 * to one filter, and what its answers mean. It has no socket, clock or memory; milter_say.h writes packets, the driver
 * (inbound/filter.h) carries them.
 *
 *     options --> connect --> helo --> [ mail --> rcpt+ --> data --> header* --> end of header --> body* --> end ]*
 *
 * One conversation lasts as long as the SMTP session, because libmilter keeps its context per connection. Each step is
 * said when milter_wants says so, and answered when milter_answers says so; the answer to `end` is any number of edits
 * and signs of life before it. What a filter decides lasts as long as its scope:
 *
 *     accept, reject and the like at connect or helo    the session: no more steps
 *     accept, discard from mail on                      the transaction
 *     reject at rcpt                                    that recipient
 *     skip                                              steps of that kind, until there is another kind
 *
 * milter_end_transaction forgets what belonged to the transaction, wherever it ended: a filter that accepted one
 * message sees the next one.
 *
 * A filter is a program of the operator's, and yet what it sends is checked as if it were hostile: it stands where
 * strangers' mail passes through. A length that is 0 or beyond the place's limit, a text without its NUL, octets too
 * many, an edit at the wrong time or that was not announced: MILTER_BROKEN, and the connection is of no more use. */
#ifndef MILTER_MILTER_H
#define MILTER_MILTER_H

#include "base/bytes.h"

enum milter_step {
    MILTER_STEP_NONE,
    MILTER_STEP_OPTIONS,
    MILTER_STEP_CONNECT,
    MILTER_STEP_HELO,
    MILTER_STEP_MAIL,
    MILTER_STEP_RCPT,
    MILTER_STEP_DATA,
    MILTER_STEP_HEADER,
    MILTER_STEP_END_OF_HEADER,
    MILTER_STEP_BODY,
    MILTER_STEP_END,
};

/* All zero before the connection. */
struct milter {
    uint32_t version;
    uint32_t actions; /* MILTER_MAY_... that the filter announced */
    uint32_t steps;   /* MILTER_NO_... and the rest, as the filter chose */
    uint8_t skipped;  /* enum milter_step: not said until another kind is */
    bool ready;       /* options are settled */
    bool open;        /* a transaction was begun with it */
    bool accepted_session;
    bool accepted_message;
};

/* --- packets of a filter, from any cut of octets --- */

/* `block` is lent by the driver; its capacity is the largest packet here, without the length. */
struct milter_reader {
    struct buffer block;
    uint32_t head_bytes; /* of the length that have come */
    uint32_t wanted;     /* the length as far as it has come, then the whole */
};

enum milter_read {
    MILTER_READ_MORE,   /* all input was taken */
    MILTER_READ_PACKET, /* one is whole: letter and data point into the block, until the next call */
    MILTER_READ_BROKEN, /* a length that cannot be */
};

struct milter_packet {
    char letter;
    struct bytes data;
};

void milter_reader_init(struct milter_reader *reader, void *block, size_t capacity);
enum milter_read milter_read(struct milter_reader *reader, struct bytes *input, struct milter_packet *ret_packet);
/* Nothing of a packet has come yet. */
bool milter_reader_empty(const struct milter_reader *reader);

/* --- what they mean --- */

enum milter_meaning {
    MILTER_BROKEN,
    MILTER_PROGRESS, /* it lives: wait on, with a new deadline */
    MILTER_CONTINUE,
    MILTER_ACCEPT,
    MILTER_DISCARD,
    MILTER_REFUSE, /* code, enhanced, text */
    MILTER_EDIT,   /* edit, index, name, value */
};

enum milter_edit {
    MILTER_ADD_HEADER,    /* name, value */
    MILTER_INSERT_HEADER, /* index: so many fields stay in front, our own included; name, value */
    MILTER_CHANGE_HEADER, /* index: the n-th of that name, from 1; an empty value deletes it */
    MILTER_ADD_RCPT,      /* name: path; value: parameters */
    MILTER_DELETE_RCPT,   /* name: path */
    MILTER_CHANGE_FROM,   /* name: path; value: parameters */
    MILTER_REPLACE_BODY,  /* value: the next piece of it */
    MILTER_QUARANTINE,    /* value: the reason */
};

/* Spans point into the packet, but for text, which may be a constant or `room`. */
struct milter_reply {
    enum milter_edit edit;
    uint32_t index;
    struct bytes name;
    struct bytes value;
    uint16_t code;
    uint8_t enhanced[3];
    struct bytes text; /* lines separated by '\n' */
    char room[512];    /* MILTER_TEXT_BYTES_MAX */
};

/* Is the step to be said to this filter now? Remembers what was said. */
bool milter_wants(struct milter *milter, enum milter_step step);
/* Will it be answered? */
bool milter_answers(const struct milter *milter, enum milter_step step);
/* Fields are said with the space that follows the colon, and come so. */
bool milter_keeps_space(const struct milter *milter);

/* An answer to that step. */
enum milter_meaning milter_take(struct milter *milter, enum milter_step step, const struct milter_packet *packet,
                                struct milter_reply *ret_reply);

/* True when the filter has to be told (milter_say_abort): it had begun, and its answer to the end has not come. */
bool milter_end_transaction(struct milter *milter);

#endif
