/* The header section of a message while filters look at it and change it: one piece of text in wire form, fields in
 * order. What filters add is made into a field here, or refused: a name or a value can never become two fields, the end
 * of the header, or a line that is too long.
 *
 * Our own Received field is among them, but hidden: a filter counts the fields of a name without it, as it was not
 * there when the filter was shown the message; and it counts it when it says where a field is to be inserted (both as
 * in sendmail and Postfix). So a signature that is inserted behind "one field" stands right below our Received field,
 * above everything that it signs, and a field that is inserted behind none stands on top of all. */
#ifndef MILTER_MILTER_HEADER_H
#define MILTER_MILTER_HEADER_H

#include "base/bytes.h"
#include "mail/header.h"

struct milter_header {
    struct buffer text; /* lent by the owner */
    size_t own_at;      /* our Received field in it */
    size_t own_bytes;
    uint32_t line_bytes_max; /* with CRLF */
    bool changed;
};

enum milter_header_result {
    MILTER_HEADER_OK,
    MILTER_HEADER_BAD,  /* not a field: a name with a colon, a value with a bare CR, a line that does not continue... */
    MILTER_HEADER_FULL, /* no room */
};

/* The next field that is shown, from *at on (0 at first); its whole lies in the text. False at the end. */
bool milter_header_next(const struct milter_header *header, size_t *at, struct header_field *ret_field);

/* `space`: one is put behind the colon. In the value a line ends with LF or CRLF. */
enum milter_header_result milter_header_add(struct milter_header *header, struct bytes name, struct bytes value,
                                            bool space);
/* Behind the first `index` fields, ours included. */
enum milter_header_result milter_header_insert(struct milter_header *header, uint32_t index, struct bytes name,
                                               struct bytes value, bool space);
/* The `index`-th shown field of that name, from 1; an empty value removes it. When there is none it is added. */
enum milter_header_result milter_header_change(struct milter_header *header, uint32_t index, struct bytes name,
                                               struct bytes value, bool space);

#endif
