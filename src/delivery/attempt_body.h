/* The body of an attempt: what exactly goes out, and how far it has. */
#ifndef DELIVERY_ATTEMPT_BODY_H
#define DELIVERY_ATTEMPT_BODY_H

#include "base/err.h"
#include "delivery/attempt.h"

#define ATTEMPT_BODY_CONVERT_BYTES_MAX (16u << 20) /* a larger message that has to be converted bounces */
#define ATTEMPT_BODY_BLOCK_BYTES (64u << 10)       /* sent at once of a body that has to lose its stuffed dots */

/* Makes a 7-bit form of the body. ERR_PERMANENT: it can't be done (5.6.3). ERR_NO_MEMORY. */
enum err attempt_body_convert(struct attempt *attempt);

/* How many octets a BDAT carries: without stuffed dots and final dot, nor a CRLF that only the dot needed. Reads the
 * body if it has stuffed dots. */
uint64_t attempt_body_chunk(const struct attempt *attempt);

/* Sending starts with the first octet; transaction->chunked says in which form. ERR_NO_MEMORY. */
enum err attempt_body_rewind(struct attempt *attempt);

/* Fills in up to `max` pieces of what comes next; returns how many. They are valid until the next call. */
unsigned attempt_body_next(struct attempt *attempt, struct iovec *pieces, unsigned max);

/* There is nothing left to send. */
bool attempt_body_ended(const struct attempt *attempt);

#endif
