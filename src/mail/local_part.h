/* The part of an address before the '@', as the host that owns the mailbox may read it (RFC 5321 2.3.11: nobody else
 * may). */
#ifndef MAIL_LOCAL_PART_H
#define MAIL_LOCAL_PART_H

#include "base/bytes.h"

/* The form in which local parts are compared and a Maildir is named: without quotes and their backslashes (RFC 5321
 * 4.1.2: "a\b" is the same mailbox as ab), ASCII letters in lower case. `room` has at least local.length octets. */
struct bytes local_part_fold(struct bytes local, char *room);

/* The local part up to the first `separator` in its folded form (anna+lists -> anna); all of it when there is none, or
 * nothing before it, or `separator` is '\0'. */
struct bytes local_part_base(struct bytes folded, char separator);

#endif
