/* What a server must know of a ClientHello before it can choose a certificate: pure, sans-I/O.
 *
 * The library would choose by itself, but only between keys of one context and only by what its version of the protocol
 * happens to look at. Reading the message first has three more advantages: no session object exists before a whole,
 * well-formed ClientHello has come, so that a client which sends slowly, or nothing, or something else than TLS, costs
 * one small buffer; the names and lists that it sends are bounded in one place; and what is wrong has a name.
 */
#ifndef CORE_TLS_HELLO_H
#define CORE_TLS_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define TLS_HELLO_BYTES_MAX 16384 /* records and all */
#define TLS_HELLO_RECORDS_MAX 64  /* a ClientHello may be cut into records (RFC 8446 5.1), but not to shreds */

enum tls_hello_state { TLS_HELLO_MORE, TLS_HELLO_DONE, TLS_HELLO_BAD };

struct tls_hello {
    const char *problem;   /* of BAD: what was found, a few words */
    uint8_t alert;         /* of BAD: what to tell the client; 0 = it would not understand */
    size_t need;           /* of MORE: it makes no sense to look again before there are so many bytes */
    char server_name[256]; /* lower case; "" when none was given or it is no host name */
    bool strange_name;     /* one was given that is no host name */
    bool tls13;            /* offered */
    bool ecdsa_p256;       /* it can verify ECDSA over P-256 (with an AEAD suite, if TLS 1.2) */
    bool ecdsa_p384;
    bool without_p256; /* it has a list of groups, and this is not in it */
    bool without_p384;
    bool rsa;             /* it can verify RSA, likewise */
    bool extended_master; /* RFC 7627 */
    bool alpn;            /* it wants a protocol named (RFC 7301), and "smtp" is among them; any other is BAD */
};

/* Looks at the first `length` octets that a client sent, record headers included. */
enum tls_hello_state tls_hello_scan(const uint8_t *data, size_t length, struct tls_hello *ret_hello);

#endif
