/* UTF-8 (RFC 3629): well-formed sequences only; no surrogates, nothing above U+10FFFF, no longer form than needed. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/bytes.h"

/* The length of the sequence that text (not empty) begins with, 0 when there is none, and its code point. */
size_t utf8_take(struct bytes text, uint32_t *ret_code);

/* Well formed, and without control characters (C0, DEL, C1) and line or paragraph separators. The empty text is. */
bool utf8_printable(struct bytes text);

#endif
