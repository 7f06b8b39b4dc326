/* Cuts a stream into command lines that end in exactly CRLF (RFC 5321 2.3.8, 4.1.1). */
#ifndef SMTP_LINE_H
#define SMTP_LINE_H

#include "base/bytes.h"

enum line_result {
    LINE_COMPLETE, /* a line without NUL, bare CR or bare LF, ended by CRLF */
    LINE_PARTIAL,  /* nothing wrong yet, but no CRLF either */
    LINE_BAD,      /* has a NUL, a bare CR or a bare LF */
    LINE_TOO_LONG, /* bytes_max octets without a CRLF */
};

/* Looks at the line that stash (its octets from earlier inputs, found LINE_PARTIAL) and input (not empty) begin with.
 * *ret_taken: how many octets of input belong to it, when complete or partial. The result for a stream does not depend
 * on how it is cut into inputs. */
enum line_result line_find(struct bytes stash, struct bytes input, size_t bytes_max, size_t *ret_taken);

/* Whether the line that stash and input begin with begins with prefix, in any case. False when too little of it is
 * there. */
bool line_begins(struct bytes stash, struct bytes input, struct bytes prefix);

/* Discarding a bad line up to its CRLF. */
enum line_skip {
    LINE_SKIP_NOTHING,
    LINE_SKIP_TEXT,
    LINE_SKIP_CR, /* the last octet was a CR */
};

/* How to begin skipping the line of which stash was read and input was not. */
enum line_skip line_skip_begin(struct bytes stash);

/* Advances input to the end of the line, or to its own end. *skip becomes LINE_SKIP_NOTHING when the CRLF was found. */
void line_skip_on(uint8_t *skip, struct bytes *input);

#endif
