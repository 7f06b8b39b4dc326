/* The insides of a context, for tls_session and its helpers. */
#ifndef CORE_TLS_CONTEXT_H
#define CORE_TLS_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/tls.h"
#include "core/tls_hello.h"
#include "core/tls_ticket.h"

struct WOLFSSL_CTX;

enum tls_key_kind { TLS_KEY_RSA, TLS_KEY_ECDSA_P256, TLS_KEY_ECDSA_P384 };

/* One certificate of a server, in a library context of its own: the library knows one key per context. */
struct tls_leaf {
    struct WOLFSSL_CTX *library;
    enum tls_key_kind kind;
    char **server_names; /* lower case */
    unsigned server_names_count;
    int64_t expires_s;
    uint8_t end_point[TLS_DIGEST_BYTES]; /* RFC 5929 4.1 */
    unsigned end_point_bytes;
};

struct tls_context {
    atomic_uint references;
    bool server;
    bool exporter;
    enum tls_client_certificate client_certificate;
    /* Client: one library context that believes in the certificate authorities and one that knows none. They are two
     * because a session which lets a bad certificate pass must not share its store with those that do not: the library
     * puts intermediate certificates that were let pass into it. */
    struct WOLFSSL_CTX *trusting;
    struct WOLFSSL_CTX *gullible;
    struct tls_leaf *leaves;
    unsigned leaves_count;
    bool resumes;
    struct tls_ticket_keys tickets;
};

/* The certificate for this client: one that it can verify, if there is any; among those one for its server name rather
 * than one for all names; among those ECDSA. */
const struct tls_leaf *tls_context_choose(const struct tls_context *context, const struct tls_hello *hello);

#endif
