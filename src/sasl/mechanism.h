/* The SASL mechanisms that ringpost speaks, and sets of them. */
#ifndef SASL_MECHANISM_H
#define SASL_MECHANISM_H

#include "base/bytes.h"

enum mechanism {
    MECHANISM_SCRAM_SHA_256_PLUS,
    MECHANISM_SCRAM_SHA_256,
    MECHANISM_OAUTHBEARER,
    MECHANISM_XOAUTH2,
    MECHANISM_PLAIN,
    MECHANISM_LOGIN,
    MECHANISM_EXTERNAL,
    MECHANISMS,
};

#define MECHANISM_BIT(mechanism) (1u << (mechanism))
#define MECHANISM_ALL (MECHANISM_BIT(MECHANISMS) - 1)
/* The secret goes over the wire: never without TLS. */
#define MECHANISM_CLEARTEXT                                                                                   \
    (MECHANISM_BIT(MECHANISM_PLAIN) | MECHANISM_BIT(MECHANISM_LOGIN) | MECHANISM_BIT(MECHANISM_OAUTHBEARER) | \
     MECHANISM_BIT(MECHANISM_XOAUTH2))
/* They make no sense without TLS. */
#define MECHANISM_NEEDS_TLS (MECHANISM_BIT(MECHANISM_SCRAM_SHA_256_PLUS) | MECHANISM_BIT(MECHANISM_EXTERNAL))

/* As registered ("SCRAM-SHA-256"); static. */
const char *mechanism_name(enum mechanism mechanism);

/* Without regard to case. MECHANISMS: none of ours. */
enum mechanism mechanism_find(struct bytes name);

/* Names of a set with one space between them, strongest first: what follows "AUTH " in an EHLO reply. False: no room,
 * the buffer is then as it was. MECHANISM_LIST_BYTES always suffice. */
#define MECHANISM_LIST_BYTES 96
bool mechanism_append_list(struct buffer *out, unsigned mechanisms);

#endif
