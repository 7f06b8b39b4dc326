/* base64 (RFC 4648 4) as SASL needs it: canonical, with padding, no white space, nothing ignored. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/bytes.h"

#define BASE64_ENCODED_BYTES(n) (((n) + 2) / 3 * 4)

/* Appends octets in base64. All or nothing. */
bool base64_encode(struct buffer *out, struct bytes octets);

/* Decodes text into ret_octets, which may be where text is, or anywhere with room for text.length / 4 * 3 octets.
 * False, with ret_octets in an unknown state, when text is anything but canonical base64: length a multiple of 4,
 * padding only at the end, the unused bits zero. */
bool base64_decode(struct bytes text, char *ret_octets, size_t *ret_length);

#endif
