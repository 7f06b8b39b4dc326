/* What a name or a password may look like.
 *
 * SASLprep (RFC 4013) is NFKC plus tables of Unicode 3.2. ringpost does neither: for ASCII it is the identity, minus
 * control characters, which are refused here. `ringpost passwd` refuses passwords outside ASCII, and the server takes
 * UTF-8 that a client sends octet for octet (RFC 4616 2 allows any preparation, "including none"), so that an entry
 * which another program made of a normalised password still works with clients that normalise.
 */
#ifndef SASL_PREPARE_H
#define SASL_PREPARE_H

#include "base/bytes.h"

/* Well-formed UTF-8 (RFC 3629) without control characters (U+0000-1F, U+007F-9F). Empty text is text. */
bool prepare_is_text(struct bytes text);

/* Printable ASCII only, space included. */
bool prepare_is_ascii(struct bytes text);

#endif
