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
    SYNTAX_LHLO,
    SYNTAX_STARTTLS,
    SYNTAX_AUTH,
    SYNTAX_BDAT,
    SYNTAX_XCLIENT,
    SYNTAX_XFORWARD,
    SYNTAX_ABSENT, /* a verb of SMTP that this server does not have: EXPN, ETRN, ... */
    SYNTAX_HTTP,   /* the client does not speak SMTP at all */
    SYNTAX_VERB_COUNT,
};

/* Splits a command (without its CRLF) into verb, in any case, and argument, without the space between them and without
 * white space at its end. */
enum syntax_verb syntax_split(struct bytes command, struct bytes *ret_argument);

/* The functions below return REPLY_OK or the reply that says what is wrong, and set ret_... only with REPLY_OK. */

/* The name or address literal of EHLO and HELO. */
enum reply_id syntax_helo(struct bytes argument);

/* "FROM:<reverse-path> [parameters]". rules->utf8 says that SMTPUTF8 is offered: such an address then needs the
 * parameter. */
enum reply_id syntax_mail(struct bytes argument, const struct params_rules *rules, struct address *ret_path,
                          struct params_mail *ret_params);

/* "TO:<forward-path> [parameters]". rules->utf8 says that MAIL had SMTPUTF8. */
enum reply_id syntax_rcpt(struct bytes argument, const struct params_rules *rules, struct address *ret_path,
                          struct params_rcpt *ret_params);

/* The string of VRFY: not empty, printable. With `utf8` (SMTPUTF8 is offered) it may be UTF-8 if " SMTPUTF8" follows
 * (RFC 6531 3.7.4.2). */
enum reply_id syntax_vrfy(struct bytes argument, bool utf8);

/* The argument of BDAT: chunk-size [SP "LAST"] (RFC 3030). False when it is anything else, or more than INT64_MAX. */
bool syntax_bdat(struct bytes argument, uint64_t *ret_bytes, bool *ret_last);

#endif
