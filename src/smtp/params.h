/* Parameters of MAIL and RCPT (RFC 5321 4.1.2 esmtp-param) of all extensions that the server can offer. Parsing copies
 * nothing: spans point into the command. */
#ifndef SMTP_PARAMS_H
#define SMTP_PARAMS_H

#include "base/bytes.h"

enum params_error {
    PARAMS_OK = 0,
    PARAMS_SYNTAX,    /* not an esmtp-param, given twice, or its value is wrong: 501 */
    PARAMS_UNKNOWN,   /* a keyword that this server does not have, or does not offer now: 555 */
    PARAMS_TOO_EARLY, /* BY=n;R below the announced minimum: 555 (RFC 2852 4.3) */
};

enum params_body { PARAMS_BODY_7BIT, PARAMS_BODY_8BITMIME, PARAMS_BODY_BINARYMIME };

/* Bits of `given`, and of `offered`: which parameters are known at all. */
#define PARAMS_GIVEN_SIZE 1u          /* RFC 1870 */
#define PARAMS_GIVEN_BODY 2u          /* RFC 6152 */
#define PARAMS_GIVEN_SMTPUTF8 4u      /* RFC 6531 */
#define PARAMS_GIVEN_RET 8u           /* RFC 3461 */
#define PARAMS_GIVEN_ENVID 0x10u      /* RFC 3461 */
#define PARAMS_GIVEN_AUTH 0x20u       /* RFC 4954 */
#define PARAMS_GIVEN_REQUIRETLS 0x40u /* RFC 8689 */
#define PARAMS_GIVEN_PRIORITY 0x80u   /* RFC 6710 */
#define PARAMS_GIVEN_HOLD_FOR 0x100u  /* RFC 4865 */
#define PARAMS_GIVEN_HOLD_UNTIL 0x200u
#define PARAMS_GIVEN_BY 0x400u        /* RFC 2852 */
#define PARAMS_GIVEN_NOTIFY 0x800u    /* RFC 3461, RCPT */
#define PARAMS_GIVEN_ORCPT 0x1000u    /* RFC 3461, RCPT */
#define PARAMS_OFFERED_BINARY 0x8000u /* only in `offered`: BODY may be BINARYMIME */

struct params_rules {
    uint32_t offered;        /* PARAMS_GIVEN_... */
    uint32_t hold_s_max;     /* HOLDFOR may be this at most, HOLDUNTIL this much after now_s */
    uint64_t now_s;          /* Unix time */
    uint32_t deliver_by_min; /* seconds; the least n of BY=n;R */
    bool utf8;               /* values may have UTF-8 (RCPT of a transaction with SMTPUTF8) */
};

struct params_mail {
    uint64_t size;         /* octets announced by SIZE=; 0 when absent; UINT64_MAX stands for anything larger */
    uint64_t hold_until_s; /* HOLDUNTIL, Unix time; may be in the past */
    struct bytes envid;    /* xtext as received, decodes to printable ASCII; <= 100 octets */
    struct bytes auth;     /* AUTH=: xtext as received, or "<>"; <= 500 octets */
    uint32_t hold_for_s;   /* HOLDFOR */
    int32_t by_s;          /* BY: seconds from now; > 0 with by_mode 'R' */
    uint16_t given;        /* PARAMS_GIVEN_...; SMTPUTF8 and REQUIRETLS have no value */
    uint8_t body;          /* enum params_body */
    int8_t priority;       /* MT-PRIORITY: -9 to 9 */
    char ret;              /* RET: 'F' (FULL) or 'H' (HDRS) */
    char by_mode;          /* BY: 'N' or 'R' */
    bool by_trace;         /* BY: with T */
};

/* NOTIFY, as in the spool's envelope; 0 = not given. */
#define PARAMS_NOTIFY_NEVER 1u
#define PARAMS_NOTIFY_SUCCESS 2u
#define PARAMS_NOTIFY_FAILURE 4u
#define PARAMS_NOTIFY_DELAY 8u

struct params_rcpt {
    struct bytes orcpt; /* "addr-type;xtext" as received, <= 500 octets; "utf-8;..." may be of RFC 6533 instead */
    uint16_t given;
    uint8_t notify; /* PARAMS_NOTIFY_... */
};

/* text: what follows the path: empty, or " KEYWORD[=value]" repeated. */
enum params_error params_parse_mail(struct bytes text, const struct params_rules *rules,
                                    struct params_mail *ret_params);
enum params_error params_parse_rcpt(struct bytes text, const struct params_rules *rules,
                                    struct params_rcpt *ret_params);

#endif
