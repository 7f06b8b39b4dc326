/* The letters and bits of the mail filter protocol, version 6 (sendmail 8.14; libmilter's mfdef.h has the same
 * numbers), and the limits of what we say and take. A packet is a length of four octets, network order, that counts
 * what follows it; then a letter; then what the letter asks for. */
#ifndef MILTER_MILTER_WIRE_H
#define MILTER_MILTER_WIRE_H

#include <assert.h>

#define MILTER_VERSION 6
#define MILTER_VERSION_MIN 2
#define MILTER_HEAD_BYTES 5 /* length and letter */

/* What a filter may say in a packet: at the end of a message it may bring a header field or a piece of a new body; in
 * all other places only a reply text, or its options. */
#define MILTER_REPLY_BYTES_MAX 4096u
#define MILTER_EDIT_BYTES_MAX (72u * 1024)

/* What we say. libmilter takes no packet beyond 65535 octets unless its program asks for larger ones. */
#define MILTER_COMMAND_BYTES_MAX 8192u /* macros and a step of the envelope */
#define MILTER_CHUNK_BYTES 65535u      /* of a body, in one packet */
#define MILTER_FIELD_BYTES_MAX 60000u  /* name and value of one header field */
#define MILTER_CONTENT_BYTES (MILTER_CHUNK_BYTES + MILTER_HEAD_BYTES + MILTER_COMMAND_BYTES_MAX)

#define MILTER_TEXT_BYTES_MAX 512 /* of a reply text or a reason that is kept */
#define MILTER_EDITS_MAX 1000     /* of one message, by one filter; pieces of a body not counted */

static_assert(MILTER_EDIT_BYTES_MAX > MILTER_CHUNK_BYTES, "a piece of a body as large as ours");

/* What we say. */
#define MILTER_SAY_ABORT 'A'
#define MILTER_SAY_BODY 'B'
#define MILTER_SAY_CONNECT 'C'
#define MILTER_SAY_MACROS 'D'
#define MILTER_SAY_END 'E'
#define MILTER_SAY_HELO 'H'
#define MILTER_SAY_HEADER 'L'
#define MILTER_SAY_MAIL 'M'
#define MILTER_SAY_END_OF_HEADER 'N'
#define MILTER_SAY_OPTIONS 'O'
#define MILTER_SAY_QUIT 'Q'
#define MILTER_SAY_RCPT 'R'
#define MILTER_SAY_DATA 'T'

/* What a filter says. */
#define MILTER_HEAR_ADD_RCPT '+'
#define MILTER_HEAR_DELETE_RCPT '-'
#define MILTER_HEAR_ADD_RCPT_PARAMETERS '2'
#define MILTER_HEAR_SHUTDOWN '4'
#define MILTER_HEAR_ACCEPT 'a'
#define MILTER_HEAR_REPLACE_BODY 'b'
#define MILTER_HEAR_CONTINUE 'c'
#define MILTER_HEAR_DISCARD 'd'
#define MILTER_HEAR_CHANGE_FROM 'e'
#define MILTER_HEAR_CONNECTION_FAILS 'f'
#define MILTER_HEAR_ADD_HEADER 'h'
#define MILTER_HEAR_INSERT_HEADER 'i'
#define MILTER_HEAR_CHANGE_HEADER 'm'
#define MILTER_HEAR_OPTIONS 'O'
#define MILTER_HEAR_PROGRESS 'p'
#define MILTER_HEAR_QUARANTINE 'q'
#define MILTER_HEAR_REJECT 'r'
#define MILTER_HEAR_SKIP 's'
#define MILTER_HEAR_TEMPFAIL 't'
#define MILTER_HEAR_REPLY 'y'

/* What a filter may do to a message. */
#define MILTER_MAY_ADD_HEADERS 1u
#define MILTER_MAY_CHANGE_BODY 2u
#define MILTER_MAY_ADD_RCPT 4u
#define MILTER_MAY_DELETE_RCPT 8u
#define MILTER_MAY_CHANGE_HEADERS 0x10u
#define MILTER_MAY_QUARANTINE 0x20u
#define MILTER_MAY_CHANGE_FROM 0x40u
#define MILTER_MAY_ADD_RCPT_PARAMETERS 0x80u
#define MILTER_MAY_CHOOSE_MACROS 0x100u
#define MILTER_MAY_ALL 0x1ffu

/* Steps that a filter does not want, what it will not answer, and the like. */
#define MILTER_NO_CONNECT 1u
#define MILTER_NO_HELO 2u
#define MILTER_NO_MAIL 4u
#define MILTER_NO_RCPT 8u
#define MILTER_NO_BODY 0x10u
#define MILTER_NO_HEADERS 0x20u
#define MILTER_NO_END_OF_HEADER 0x40u
#define MILTER_SILENT_HEADER 0x80u
#define MILTER_NO_UNKNOWN 0x100u
#define MILTER_NO_DATA 0x200u
#define MILTER_KNOWS_SKIP 0x400u
#define MILTER_WANTS_REFUSED_RCPT 0x800u
#define MILTER_SILENT_CONNECT 0x1000u
#define MILTER_SILENT_HELO 0x2000u
#define MILTER_SILENT_MAIL 0x4000u
#define MILTER_SILENT_RCPT 0x8000u
#define MILTER_SILENT_DATA 0x10000u
#define MILTER_SILENT_UNKNOWN 0x20000u
#define MILTER_SILENT_END_OF_HEADER 0x40000u
#define MILTER_SILENT_BODY 0x80000u
#define MILTER_LEADING_SPACE 0x100000u
#define MILTER_STEPS_OFFERED (0x1fffffu & ~MILTER_WANTS_REFUSED_RCPT)

#endif
