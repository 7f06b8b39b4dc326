/* The value of ORCPT: "addr-type;address" (RFC 3461 4.2, RFC 6533 3). */
#ifndef SMTP_ORCPT_H
#define SMTP_ORCPT_H

#include "base/bytes.h"

#define ORCPT_BYTES_MAX 500

/* Whether it is one: an address type of letters, digits and hyphens, then xtext that decodes to printable ASCII. Behind
 * "utf-8;" the forms of RFC 6533 stand instead: printable ASCII without '+' and '=', "\x{HEX}" for what cannot be
 * written, and with `utf8` (SMTPUTF8 is in force) UTF-8. No form can bring in a control character. */
bool orcpt_valid(struct bytes value, bool utf8);

#endif
