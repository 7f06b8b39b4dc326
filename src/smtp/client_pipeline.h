/* What the client machine says and which replies it is owed for it. Only client.c includes this; see there. */
#ifndef SMTP_CLIENT_PIPELINE_H
#define SMTP_CLIENT_PIPELINE_H

#include "smtp/client.h"

/* What a reply that is due answers. An orphan's transaction has ended before: its reply is counted, and little else. */
enum smtp_client_pipeline_due {
    SMTP_CLIENT_DUE_GREETING,
    SMTP_CLIENT_DUE_EHLO,
    SMTP_CLIENT_DUE_HELO,
    SMTP_CLIENT_DUE_RSET,
    SMTP_CLIENT_DUE_MAIL,
    SMTP_CLIENT_DUE_RCPT,
    SMTP_CLIENT_DUE_DATA,
    SMTP_CLIENT_DUE_DOT,
    SMTP_CLIENT_DUE_QUIT,
    SMTP_CLIENT_DUE_ORPHAN_RCPT,
    SMTP_CLIENT_DUE_ORPHAN_DATA,
    SMTP_CLIENT_DUE_ORPHAN_DOT,
    SMTP_CLIENT_DUE_STARTTLS,
    SMTP_CLIENT_DUE_COUNT,
};

enum smtp_client_pipeline_say {
    SMTP_CLIENT_SAY_NOTHING,
    SMTP_CLIENT_SAY_EHLO,
    SMTP_CLIENT_SAY_HELO,
    SMTP_CLIENT_SAY_LONE_DOT,
    SMTP_CLIENT_SAY_RSET,
    SMTP_CLIENT_SAY_MAIL,
    SMTP_CLIENT_SAY_RCPT,
    SMTP_CLIENT_SAY_DATA,
    SMTP_CLIENT_SAY_QUIT,
    SMTP_CLIENT_SAY_STARTTLS,
    SMTP_CLIENT_SAY_BDAT, /* once every recipient is answered: the body follows */
    SMTP_CLIENT_SAY_COUNT,
};

enum smtp_client_pipeline_result {
    SMTP_CLIENT_PIPELINE_SAID,
    SMTP_CLIENT_PIPELINE_BODY,   /* BDAT was said; noting its reply, and what comes next, is the caller's */
    SMTP_CLIENT_PIPELINE_SILENT, /* nothing to say, or not yet */
    SMTP_CLIENT_PIPELINE_FULL,   /* the next command does not fit into what is left of out */
};

/* Appends the next command, if it may be said now, and notes the reply that it will get. */
enum smtp_client_pipeline_result smtp_client_pipeline_speak(struct smtp_client *c, struct buffer *out);

/* Notes one more reply that is due, after all others. */
void smtp_client_pipeline_expect(struct smtp_client *c, enum smtp_client_pipeline_due due);

/* What the oldest reply due answers; there is one (CHECKed). */
enum smtp_client_pipeline_due smtp_client_pipeline_due(const struct smtp_client *c);

/* That reply came. */
void smtp_client_pipeline_answered(struct smtp_client *c);

/* The envelope transaction ends before its replies are all in: they become orphans, what it had yet to say is unsaid,
 * and the waiting transaction moves up. */
void smtp_client_pipeline_drop_envelope(struct smtp_client *c);

#endif
