/* From the wire form of a message to the file in a Maildir.
 *
 * In a Maildir lines end with LF alone: every reader of Maildirs (Dovecot, mutt, procmail's heirs) expects the local
 * line end there. So the dots that protect lines on the wire go, CRLF becomes LF, and above it all stand Return-Path
 * (RFC 5321 4.4) and Delivered-To. A message with binary parts (RFC 3030) keeps its octets as they are but for the
 * dots: there CR LF may be data, and readers cope with it.
 */
#ifndef DELIVERY_MAILDIR_TEXT_H
#define DELIVERY_MAILDIR_TEXT_H

#include <stdint.h>

#include "base/bytes.h"

struct maildir_text {
    uint64_t left; /* octets of the wire form that belong to the message: without the final dot */
    bool binary;
    bool line_start;
    bool carriage_return; /* held back: is a line feed behind it? */
};

/* `wire_bytes`: of the body, with its final ".\r\n". `crlf_added`: of a binary body, the CRLF before that is ours. */
void maildir_text_init(struct maildir_text *text, uint64_t wire_bytes, bool binary, bool crlf_added);

/* Converts the beginning of *wire into out, takes it off *wire, and stops when one of them is used up. What is behind
 * the message's end is taken and dropped. */
void maildir_text_convert(struct maildir_text *text, struct bytes *wire, struct buffer *out);

/* The lines above the message; strangers' control octets become '?'. False when they do not fit. */
bool maildir_text_head(struct bytes sender, struct bytes recipient, struct buffer *out);

/* What we put before the body (Received), with its CRLF turned into LF. False when it does not fit. */
bool maildir_text_prologue(struct bytes prologue, struct buffer *out);

#endif
