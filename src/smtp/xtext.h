/* xtext (RFC 3461 4): how octets that an esmtp-value cannot hold are written in one. "+2B" is a plus sign. */
#ifndef SMTP_XTEXT_H
#define SMTP_XTEXT_H

#include "base/bytes.h"

/* Whether text is xtext: printable ASCII without space and '=', and each '+' with two upper-case hexadecimal digits.
 * The empty text is. */
bool xtext_valid(struct bytes text);

/* Whether it is xtext whose decoded octets are printable ASCII, space included, or above 127 if `eight_bit`: no control
 * octet gets from a parameter into a header field or a log line. */
bool xtext_printable(struct bytes text, bool eight_bit);

/* Appends the decoded octets, any of 0 to 255. All or nothing: false when text is not xtext or the room does not
 * suffice (the length of text always does). */
bool xtext_decode(struct buffer *out, struct bytes text);

/* Appends octets as xtext. All or nothing; three times the length always suffices. */
bool xtext_encode(struct buffer *out, struct bytes octets);

#endif
