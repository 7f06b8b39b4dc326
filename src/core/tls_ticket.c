#include "core/tls_ticket.h"

#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/chacha20_poly1305.h>

#include "base/check.h"
#include "core/crypto.h"

void tls_ticket_init(struct tls_ticket_keys *keys, unsigned period_s)
{
    *keys = (struct tls_ticket_keys){.period_ms = (uint64_t)period_s * 1000};
    CHECK(pthread_mutex_init(&keys->mutex, NULL) == 0);
}

void tls_ticket_free(struct tls_ticket_keys *keys)
{
    pthread_mutex_destroy(&keys->mutex);
    crypto_wipe(keys, sizeof *keys);
}

/* Under the mutex. There is no timer: keys grow old when somebody looks at them. */
static void rotate(struct tls_ticket_keys *keys, uint64_t now_ms)
{
    if (keys->current.valid && now_ms - keys->current.made_ms < keys->period_ms) {
        return;
    }
    bool of_use = keys->current.valid && now_ms - keys->current.made_ms < 2 * keys->period_ms;
    crypto_wipe(&keys->previous, sizeof keys->previous);
    if (of_use) {
        keys->previous = keys->current;
    }
    keys->current.made_ms = now_ms;
    keys->current.valid = true;
    crypto_random(keys->current.name, sizeof keys->current.name);
    crypto_random(keys->current.key, sizeof keys->current.key);
}

void tls_ticket_seal(struct tls_ticket_keys *keys, uint64_t now_ms, uint8_t ret_name[TLS_TICKET_NAME_BYTES],
                     uint8_t ret_nonce[TLS_TICKET_NONCE_BYTES], uint8_t ret_tag[TLS_TICKET_TAG_BYTES], uint8_t *data,
                     size_t length)
{
    uint8_t key[TLS_TICKET_KEY_BYTES];
    pthread_mutex_lock(&keys->mutex);
    rotate(keys, now_ms);
    memcpy(ret_name, keys->current.name, TLS_TICKET_NAME_BYTES);
    memcpy(key, keys->current.key, sizeof key);
    pthread_mutex_unlock(&keys->mutex);
    crypto_random(ret_nonce, TLS_TICKET_NONCE_BYTES);
    CHECK(wc_ChaCha20Poly1305_Encrypt(key, ret_nonce, ret_name, TLS_TICKET_NAME_BYTES, data, (word32)length, data,
                                      ret_tag) == 0);
    crypto_wipe(key, sizeof key);
}

enum tls_ticket_opened tls_ticket_open(struct tls_ticket_keys *keys, uint64_t now_ms,
                                       const uint8_t name[TLS_TICKET_NAME_BYTES],
                                       const uint8_t nonce[TLS_TICKET_NONCE_BYTES],
                                       const uint8_t tag[TLS_TICKET_TAG_BYTES], uint8_t *data, size_t length)
{
    enum tls_ticket_opened result = TLS_TICKET_BAD;
    uint8_t key[TLS_TICKET_KEY_BYTES];
    pthread_mutex_lock(&keys->mutex);
    rotate(keys, now_ms);
    if (memcmp(name, keys->current.name, TLS_TICKET_NAME_BYTES) == 0) {
        result = TLS_TICKET_GOOD;
        memcpy(key, keys->current.key, sizeof key);
    } else if (keys->previous.valid && memcmp(name, keys->previous.name, TLS_TICKET_NAME_BYTES) == 0 &&
               now_ms - keys->previous.made_ms < 2 * keys->period_ms) {
        result = TLS_TICKET_AGING;
        memcpy(key, keys->previous.key, sizeof key);
    }
    pthread_mutex_unlock(&keys->mutex);
    if (result != TLS_TICKET_BAD &&
        wc_ChaCha20Poly1305_Decrypt(key, nonce, name, TLS_TICKET_NAME_BYTES, data, (word32)length, tag, data) != 0) {
        result = TLS_TICKET_BAD;
    }
    crypto_wipe(key, sizeof key);
    return result;
}
