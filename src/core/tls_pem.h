/* PEM files of certificates and keys, and what of a certificate the server side must know. */
#ifndef CORE_TLS_PEM_H
#define CORE_TLS_PEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "core/tls_context.h"

#define TLS_PEM_FILE_BYTES_MAX (4u << 20) /* certificate authorities come in hundreds */

/* Reads a whole file into malloc'ed memory, with a NUL behind it. 0, -errno, -EFBIG, or -EINVAL when it is empty or
 * holds a NUL. */
int tls_pem_read(const char *path, char **ret_text, size_t *ret_length);

/* The next "-----BEGIN CERTIFICATE-----" ... "-----END CERTIFICATE-----" in the text, which is advanced behind it;
 * empty when there is none. */
struct bytes tls_pem_next(struct bytes *text);

/* What the first certificate of a chain is: kind, expires_s and end_point of `leaf` are set, the rest left alone.
 * 0, or -EINVAL for what is no certificate, -ENOTSUP for a key of a kind that is not served. */
int tls_pem_describe(struct bytes certificate, struct tls_leaf *leaf);

/* RFC 5929 4.1, of a certificate in DER whose signature has the library's number `signature`. The octets written, or 0
 * when the binding is not defined for it. */
unsigned tls_pem_end_point(unsigned signature, const uint8_t *der, size_t length, uint8_t ret_digest[TLS_DIGEST_BYTES]);

#endif
