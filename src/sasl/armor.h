/* base64 inside SASL messages and the password file (RFC 4648 4): canonical, with padding, nothing ignored. */
#ifndef SASL_ARMOR_H
#define SASL_ARMOR_H

#include "base/bytes.h"

/* All or nothing. */
bool armor_encode(struct buffer *out, struct bytes octets);

/* Appends the octets. False, with `out` as it was: not canonical base64, or no room. */
bool armor_decode(struct buffer *out, struct bytes text);

#endif
