/* The shape of SMTP commands: verbs, and the arguments of MAIL, RCPT, EHLO (RFC 5321 4.1.1). */
#ifndef SMTP_SYNTAX_H
#define SMTP_SYNTAX_H

#include "base/bytes.h"
#include "mail/address.h"
#include "smtp/params.h"
#include "smtp/reply.h"

enum syntax_verb {
    SYNTAX_UNKNOWN,
    SYNTAX_EHLO,
    SYNTAX_HELO,
    SYNTAX_MAIL,
    SYNTAX_RCPT,
    SYNTAX_DATA,
    SYNTAX_RSET,
    SYNTAX_NOOP,
    SYNTAX_QUIT,
    SYNTAX_VRFY,
    SYNTAX_HELP,
    SYNTAX_ABSENT, /* a verb of SMTP that this server does not have: EXPN, STARTTLS, AUTH, BDAT, ... */
    SYNTAX_HTTP,   /* the client does not speak SMTP at all */
    SYNTAX_VERB_COUNT,
};

/* Splits a command (without its CRLF) into verb, in any case, and argument, without the space between them and without
 * white space at its end. */
enum syntax_verb syntax_split(struct bytes command, struct bytes *ret_argument);

/* The functions below return REPLY_OK or the reply that says what is wrong, and set ret_... only with REPLY_OK. */

/* The name or address literal of EHLO and HELO. */
enum reply_id syntax_helo(struct bytes argument);

/* "FROM:<reverse-path> [parameters]" */
enum reply_id syntax_mail(struct bytes argument, struct address *ret_path, struct params_mail *ret_params);

/* "TO:<forward-path> [parameters]" */
enum reply_id syntax_rcpt(struct bytes argument, struct address *ret_path);

/* The string of VRFY: not empty, printable. */
enum reply_id syntax_vrfy(struct bytes argument);

#endif
