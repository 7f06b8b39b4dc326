/* RFC 5322 3.3 dates, always in UTC: no time zone database, no locale, no static storage. */
#ifndef MAIL_DATE_H
#define MAIL_DATE_H

#include "base/bytes.h"

#define DATE_BYTES 31 /* "Thu, 01 Jan 1970 00:00:00 +0000" */

/* Appends the date-time of a moment (seconds since 1970-01-01 UTC; years 0 to 9999, clamped). False when there is no
 * room for DATE_BYTES. */
bool date_append(struct buffer *out, int64_t unix_s);

#endif
