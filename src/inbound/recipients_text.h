/* The words of a mailboxes or aliases file (inbound/recipients.h says what it looks like). */
#ifndef INBOUND_RECIPIENTS_TEXT_H
#define INBOUND_RECIPIENTS_TEXT_H

#include "base/bytes.h"

enum recipients_token {
    RECIPIENTS_WORD,
    RECIPIENTS_COLON,
    RECIPIENTS_COMMA,
    RECIPIENTS_END_OF_ENTRY,
    RECIPIENTS_END,
};

struct recipients_text {
    char *data; /* the whole file; words point into it */
    size_t length;
    size_t at;
    unsigned line;      /* of what was read last; from 1 */
    unsigned next_line; /* of what comes next */
    struct bytes word;  /* RECIPIENTS_WORD */
};

/* Reads the file. False, with a reason in the reader's words ("cannot be read: No such file or directory"). */
bool recipients_text_open(struct recipients_text *text, const char *path, char *ret_reason, size_t reason_size);
void recipients_text_close(struct recipients_text *text);

enum recipients_token recipients_text_next(struct recipients_text *text);

/* Skips what is left of an entry. */
void recipients_text_skip_entry(struct recipients_text *text, enum recipients_token last);

#endif
