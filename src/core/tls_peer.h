/* What the other side's certificate says. */
#ifndef CORE_TLS_PEER_H
#define CORE_TLS_PEER_H

#include <stddef.h>
#include <stdint.h>

#include "core/tls.h"

/* malloc'ed texts and digests; all zero when there is no certificate. */
struct tls_peer {
    char *subject;
    char *name;
    uint8_t fingerprint[32];
    uint8_t end_point[TLS_DIGEST_BYTES]; /* of a server's certificate, RFC 5929 4.1 */
    unsigned end_point_bytes;
};

/* From a certificate in DER; a peer sent it, so it may be anything. 0, -EINVAL or -ENOMEM. */
int tls_peer_read(const uint8_t *der, size_t length, struct tls_peer *ret_peer);
void tls_peer_free(struct tls_peer *peer);

/* A malloc'ed copy as tls.h promises: bounded, printable; NULL without memory. */
char *tls_peer_text(const char *text, size_t length);

#endif
