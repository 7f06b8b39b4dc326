/* What we send: one question for one name (RFC 1035 4.1.2). */
#ifndef DNS_QUESTION_H
#define DNS_QUESTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "dns/answer.h"

#define QUESTION_BYTES 300      /* room for any question: header, name, type and class, OPT */
#define QUESTION_UDP_BYTES 1232 /* what we say fits us by UDP: the DNS flag day 2020 value, never fragmented */

/* True for 1..253 bytes of labels of 1..63 letters, digits, '-' or '_'; one final dot is allowed. */
bool question_name_valid(struct bytes name);

/* Writes the question for a valid name with recursion desired, AD (RFC 6840 5.7: tell us whether you validated) and an
 * empty OPT record at the end (RFC 6891), where c-ares looks for it. Returns its length. */
size_t question_write(struct bytes name, enum answer_type type, uint16_t id, unsigned char out[QUESTION_BYTES]);

#endif
