/* wolfSSL is named in this file and nowhere else in src/ (LAYERS holds the rule).
 *
 * A TLS session will have no socket of its own. The library reads and writes memory: what a receive completion
 * brought is handed to its input callback, and what its output callback produces goes into the stream's send buffer, so
 * that one ring drives plaintext and TLS connections alike.
 * The output callback never answers "would block": the stream's bound on unsent bytes stops the producer instead.
 * Sessions of that shape belong in this file. What it holds today is process-wide: the library's initialisation.
 *
 * The library is built from the distribution's source with the CPU's instructions; deploy/deps/wolfssl tells why. */
#include "core/tls.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/random.h>

const char *tls_library_version(void)
{
    return wolfSSL_lib_version();
}

/* Two draws that agree, or a draw of nothing but zeros, come from a generator that does not work. */
static int draw_random(WC_RNG *random)
{
    unsigned char first[32] = {0};
    unsigned char second[32] = {0};
    if (wc_RNG_GenerateBlock(random, first, sizeof first) != 0 ||
        wc_RNG_GenerateBlock(random, second, sizeof second) != 0) {
        return -ENODATA;
    }
    const unsigned char zeros[sizeof first] = {0};
    if (memcmp(first, second, sizeof first) == 0 || memcmp(first, zeros, sizeof first) == 0) {
        return -ENODATA;
    }
    return 0;
}

int tls_library_init(void)
{
    if (wolfSSL_Init() != WOLFSSL_SUCCESS) {
        return -EIO;
    }
    WC_RNG random;
    if (wc_InitRng(&random) != 0) {
        return -ENODATA;
    }
    int result = draw_random(&random);
    wc_FreeRng(&random);
    return result;
}

int tls_context_new_server(const struct tls_server_settings *settings, struct tls_context **ret_context, char *reason,
                           size_t reason_size)
{
    (void)settings;
    (void)ret_context;
    snprintf(reason, reason_size, "TLS is not there yet");
    return -ENOTSUP;
}

int tls_context_new_client(const struct tls_client_settings *settings, struct tls_context **ret_context, char *reason,
                           size_t reason_size)
{
    (void)settings;
    (void)ret_context;
    snprintf(reason, reason_size, "TLS is not there yet");
    return -ENOTSUP;
}

struct tls_context *tls_context_take(struct tls_context *context)
{
    return context;
}

void tls_context_give(struct tls_context *context)
{
    (void)context;
}

int64_t tls_context_expires(const struct tls_context *context)
{
    (void)context;
    return 0;
}

void tls_session_limit(unsigned sessions_max)
{
    (void)sessions_max;
}

bool tls_session_room(void)
{
    return true;
}
