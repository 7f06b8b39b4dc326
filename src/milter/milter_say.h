/* Packets to a filter. Each function appends one whole packet, or nothing and returns false when the room does not
 * suffice. A text ends at its first NUL, as the filter reads it: callers have no NUL in what they say. */
#ifndef MILTER_MILTER_SAY_H
#define MILTER_MILTER_SAY_H

#include "base/bytes.h"
#include "milter/milter.h"

struct milter_macro {
    const char *name; /* with braces when it has more than one letter; NULL: end of the list */
    struct bytes value;
};

bool milter_say_options(struct buffer *out);

/* Those that have a value; belongs before the step of that kind. True without a packet when none has. */
bool milter_say_macros(struct buffer *out, enum milter_step step, const struct milter_macro *macros);

/* `name` as Postfix says it: the host's name, or its address in brackets. `family` is '4', '6', 'L' (unix) or 'U'. */
bool milter_say_connect(struct buffer *out, struct bytes name, char family, uint16_t port, struct bytes address);

/* A step whose arguments are texts: HELO, MAIL (path in <>, then parameters), RCPT, DATA, HEADER, END_OF_HEADER, END.
 */
bool milter_say_step(struct buffer *out, enum milter_step step, const struct bytes *texts, unsigned count);

/* A header field: its folds are line feeds there, and the space behind the colon is left out unless the filter wants it
 * (`space`). */
bool milter_say_field(struct buffer *out, struct bytes name, struct bytes value, bool space);

/* The piece's packet is the head here and the piece itself behind it. */
bool milter_say_body(struct buffer *out, size_t bytes);

bool milter_say_abort(struct buffer *out);
bool milter_say_quit(struct buffer *out);

#endif
