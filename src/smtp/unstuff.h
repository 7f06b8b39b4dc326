/* Takes stuffed dots out of a body (RFC 5321 4.5.2), in pieces cut anywhere: the first dot of each line that begins
 * with one. A line ends with CRLF and nothing else. */
#ifndef SMTP_UNSTUFF_H
#define SMTP_UNSTUFF_H

#include <stdint.h>

#include "base/bytes.h"

/* All zero before the first octet of a body, which is the beginning of a line. */
struct unstuff {
    bool inside;          /* of a line */
    bool carriage_return; /* ... whose last octet this was */
};

/* Copies from the start of `text` until that or `out` is used up. Returns how much of `text` was read: all of it, or at
 * least as much as there was room for. */
size_t unstuff_copy(struct unstuff *unstuff, struct bytes text, struct buffer *out);

/* How many dots of `text` unstuff_copy would leave out. */
uint64_t unstuff_count(struct unstuff *unstuff, struct bytes text);

/* The other way: how much of a run, which is not empty, needs no dot put into it, up to where a line begins with one.
 * The first octet is the caller's to look at: it may begin a line. */
size_t unstuff_run(struct bytes run);

#endif
