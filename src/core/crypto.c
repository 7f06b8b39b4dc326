#include "core/crypto.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/pwdbased.h>
#include <wolfssl/wolfcrypt/sha256.h>

#include "base/check.h"

static const uint8_t *octets(struct bytes span)
{
    return (const uint8_t *)(span.length != 0 ? span.data : "");
}

void crypto_sha256(struct bytes data, uint8_t ret_digest[CRYPTO_SHA256_BYTES])
{
    wc_Sha256 sha;
    CHECK(wc_InitSha256(&sha) == 0);
    CHECK(wc_Sha256Update(&sha, octets(data), (word32)data.length) == 0);
    CHECK(wc_Sha256Final(&sha, ret_digest) == 0);
    wc_Sha256Free(&sha);
}

void crypto_hmac_sha256(struct bytes key, struct bytes data, uint8_t ret_mac[CRYPTO_SHA256_BYTES])
{
    Hmac hmac;
    CHECK(wc_HmacInit(&hmac, NULL, INVALID_DEVID) == 0);
    CHECK(wc_HmacSetKey(&hmac, WC_SHA256, octets(key), (word32)key.length) == 0);
    CHECK(wc_HmacUpdate(&hmac, octets(data), (word32)data.length) == 0);
    CHECK(wc_HmacFinal(&hmac, ret_mac) == 0);
    wc_HmacFree(&hmac);
}

void crypto_pbkdf2_sha256(struct bytes password, struct bytes salt, unsigned iterations, uint8_t *ret_key,
                          size_t length)
{
    CHECK(iterations >= 1 && iterations <= INT32_MAX && length <= INT32_MAX);
    CHECK(wc_PBKDF2(ret_key, octets(password), (int)password.length, octets(salt), (int)salt.length, (int)iterations,
                    (int)length, WC_SHA256) == 0);
}

void crypto_random(void *ret_data, size_t length)
{
    unsigned char *next = ret_data;
    while (length != 0) {
        ssize_t got = getrandom(next, length, 0);
        CHECK(got > 0 || errno == EINTR);
        if (got > 0) {
            next += got;
            length -= (size_t)got;
        }
    }
}

int crypto_random_block(unsigned char *ret_data, unsigned length)
{
    crypto_random(ret_data, length);
    return 0;
}

bool crypto_equal(struct bytes a, struct bytes b)
{
    if (a.length != b.length) {
        return false;
    }
    volatile unsigned char difference = 0;
    for (size_t i = 0; i < a.length; i++) {
        difference = (unsigned char)(difference | (unsigned char)(a.data[i] ^ b.data[i]));
    }
    return difference == 0;
}

void crypto_wipe(void *data, size_t length)
{
    explicit_bzero(data, length);
}
