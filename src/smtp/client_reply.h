/* A reply of a remote SMTP server, parsed as its bytes come in (RFC 5321 4.2, 4.2.1; RFC 2034; RFC 3463).
 *
 * The peer decides nothing about memory: text beyond the limits is dropped, an endless line or reply is an error.
 */
#ifndef SMTP_CLIENT_REPLY_H
#define SMTP_CLIENT_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/limits.h"

/* RFC 3463: class.subject.detail; all zero when the reply had none, or one whose class contradicts the code. */
struct smtp_client_status {
    uint16_t class;
    uint16_t subject;
    uint16_t detail;
};

struct smtp_client_reply {
    uint16_t code; /* 200..599; 0: there was no reply */
    struct smtp_client_status status;
    uint16_t text_bytes;
    bool truncated; /* the peer said more than `text` holds */
    /* Printable ASCII only: every other byte is a '?', lines are joined by one space. The status code is part of it. */
    char text[LIMIT_CLIENT_REPLY_BYTES];

    /* The parser's own. */
    uint16_t line_bytes; /* of the line being read, its end not counted */
    uint16_t line_text;  /* where in `text` that line's text begins */
    uint16_t lines;      /* complete lines of this reply */
    char head[4];        /* "250-" */
    bool carriage_return;
    bool partial; /* bytes of a reply were consumed, its end was not */
};

enum smtp_client_reply_progress {
    SMTP_CLIENT_REPLY_MORE, /* all input consumed, the reply is not complete */
    SMTP_CLIENT_REPLY_LINE, /* a line that is not the last one ended: see smtp_client_reply_line() */
    SMTP_CLIENT_REPLY_LAST, /* the last line ended: the reply is complete */
    SMTP_CLIENT_REPLY_BAD,  /* not a reply, a line of over LIMIT_CLIENT_REPLY_LINE_BYTES, or too many lines */
};

/* Forgets everything: no byte of an earlier reply can show up in a later one. */
void smtp_client_reply_clear(struct smtp_client_reply *reply);

/* Consumes at most one line of `input`. The first byte after a complete reply starts a new one by itself. */
enum smtp_client_reply_progress smtp_client_reply_feed(struct smtp_client_reply *reply, struct bytes *input);

/* The text of the line that ended last (after LINE or LAST). It may be cut off where `text` was full. */
struct bytes smtp_client_reply_line(const struct smtp_client_reply *reply);

/* Takes that line out of the stored text, so that the next one finds room. */
void smtp_client_reply_drop_line(struct smtp_client_reply *reply);

/* The stored text, for logs and DSNs. */
struct bytes smtp_client_reply_text(const struct smtp_client_reply *reply);

#endif
