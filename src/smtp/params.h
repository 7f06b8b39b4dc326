/* Parameters of MAIL and RCPT (RFC 5321 4.1.2 esmtp-param): SIZE (RFC 1870) and BODY (RFC 6152). */
#ifndef SMTP_PARAMS_H
#define SMTP_PARAMS_H

#include "base/bytes.h"

enum params_error {
    PARAMS_OK = 0,
    PARAMS_SYNTAX,  /* not an esmtp-param, given twice, or its value is wrong: 501 */
    PARAMS_UNKNOWN, /* a keyword that this server does not have: 555 */
};

enum params_body { PARAMS_BODY_7BIT, PARAMS_BODY_8BITMIME };

struct params_mail {
    uint64_t size; /* octets announced by SIZE=; 0 when absent; UINT64_MAX stands for anything larger */
    uint8_t body;  /* enum params_body */
    uint8_t given; /* PARAMS_GIVEN_... */
};

#define PARAMS_GIVEN_SIZE 1u
#define PARAMS_GIVEN_BODY 2u

/* text: what follows the path: empty, or " KEYWORD[=value]" repeated. */
enum params_error params_parse_mail(struct bytes text, struct params_mail *ret_params);
enum params_error params_parse_rcpt(struct bytes text);

#endif
