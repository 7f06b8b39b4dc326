/* Reads the header section of a message in wire form: CRLF line ends, a leading dot doubled, perhaps ".\r\n" at its
 * end. */
#ifndef MAIL_HEADER_H
#define MAIL_HEADER_H

#include "base/bytes.h"

struct header_field {
    struct bytes name;  /* without the colon and without a stuffed dot */
    struct bytes value; /* behind the colon, up to but not including the field's last CRLF; folds still inside */
    struct bytes whole; /* the field as carried, last CRLF included */
};

/* Takes the next field off *rest (at first the whole message). False at the end of the section (blank line, final dot,
 * a line that is not a field, no more bytes): *rest then starts at that line. */
bool header_next(struct bytes *rest, struct header_field *ret_field);

/* The first field of that name (no colon, ASCII case ignored). */
bool header_find(struct bytes message, struct bytes name, struct header_field *ret_field);

/* Octets of the header section, without the blank line. */
size_t header_length(struct bytes message);

/* Appends the value as one line: folds become one space each, outer white space goes. */
bool header_append_unfolded(struct buffer *out, struct bytes value);

#endif
