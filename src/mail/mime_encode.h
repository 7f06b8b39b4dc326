/* Content transfer encodings of data in wire form (RFC 2045 6.7, 6.8). Only mime.c includes this. */
#ifndef MAIL_MIME_ENCODE_H
#define MAIL_MIME_ENCODE_H

#include "base/bytes.h"

/* Both read dot-stuffed lines and write lines that need no stuffing: none begins with a dot. Line ends are CRLF; the
 * last line may lack it. False when out is full. */

/* Line ends stay line ends; the last one is there if it was. */
bool mime_encode_quoted_printable(struct bytes data, struct buffer *out);

/* Line ends are data; the last line written has none. */
bool mime_encode_base64(struct bytes data, struct buffer *out);

#endif
