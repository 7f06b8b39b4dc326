/* The few primitives that other layers need, over wolfCrypt. None can fail on valid arguments; a library that refuses
 * them is broken, and that ends the program. */
#ifndef CORE_CRYPTO_H
#define CORE_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define CRYPTO_SHA256_BYTES 32

void crypto_sha256(struct bytes data, uint8_t ret_digest[CRYPTO_SHA256_BYTES]);

/* RFC 2104. Key and data may be of any length, also empty. */
void crypto_hmac_sha256(struct bytes key, struct bytes data, uint8_t ret_mac[CRYPTO_SHA256_BYTES]);

/* RFC 8018 5.2 with HMAC-SHA-256; the Hi() of RFC 5802 when `length` is CRYPTO_SHA256_BYTES. iterations >= 1. Takes
 * about a millisecond per thousand iterations or two: not for a shard's loop. */
void crypto_pbkdf2_sha256(struct bytes password, struct bytes salt, unsigned iterations, uint8_t *ret_key,
                          size_t length);

/* Unpredictable bytes, from the kernel. Any thread. */
void crypto_random(void *ret_data, size_t length);

/* The same for wolfSSL, which is built to draw all its random octets here instead of running a generator of its own per
 * session: no state to be copied or to run dry, and a session costs a page less and starts sooner. 0. */
int crypto_random_block(unsigned char *ret_data, unsigned length);

/* Equal, in a time that depends on the lengths only. Different lengths are different. */
bool crypto_equal(struct bytes a, struct bytes b);

/* Overwrites secrets in a way that the compiler does not remove. */
void crypto_wipe(void *data, size_t length);

#endif
