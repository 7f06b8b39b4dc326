/* Moments as RFC 3339 writes them in UTC: "2026-11-22T00:19:09Z" (FUTURERELEASE, RFC 4865). */
#ifndef SMTP_DATETIME_H
#define SMTP_DATETIME_H

#include "base/bytes.h"

/* Reads the whole text; a fraction of a second is read over. Years 1970 to 9999. False on anything else, a day that the
 * month does not have included. *ret_s: Unix time. */
bool datetime_parse(struct bytes text, uint64_t *ret_s);

/* Appends it. A moment after year 9999 becomes the last of that year. All or nothing. */
bool datetime_append(struct buffer *out, uint64_t s);

#endif
