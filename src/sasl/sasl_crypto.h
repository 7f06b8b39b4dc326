/* What sasl needs from a crypto library, as a table: sasl is pure and includes only base. The functions are
 * core/crypto's, of the same names. */
#ifndef SASL_CRYPTO_H
#define SASL_CRYPTO_H

#include "base/bytes.h"

#define SASL_DIGEST_BYTES 32 /* SHA-256 */

/* All functions are thread-safe and cannot fail. */
struct sasl_crypto {
    void (*sha256)(struct bytes data, uint8_t ret_digest[SASL_DIGEST_BYTES]);
    void (*hmac_sha256)(struct bytes key, struct bytes data, uint8_t ret_mac[SASL_DIGEST_BYTES]);
    void (*pbkdf2_sha256)(struct bytes password, struct bytes salt, unsigned iterations, uint8_t *ret_key,
                          size_t length);
    void (*random)(void *ret_data, size_t length);
    bool (*equal)(struct bytes a, struct bytes b); /* in constant time */
    void (*wipe)(void *data, size_t length);       /* not removed by the compiler */
};

#endif
