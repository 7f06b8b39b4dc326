/* wolfSSL is named in core/tls*.c and core/crypto.c and nowhere else in src/ (LAYERS keeps it in this folder).
 *
 * A TLS session has no socket of its own. The library reads and writes memory: what a receive completion brought is
 * pulled by its input callback, and what its output callback produces goes into a block that the stream sends, so that
 * one ring drives plaintext and TLS connections alike. The files, from the bottom: tls_hello (what a client asks for,
 * pure), tls_pem and tls_context (certificates and offers), tls_ticket (resumption), tls_peer (the other side's
 * certificate), tls_session (one connection's TLS between memory and memory), stream_tls (that on the ring).
 *
 * The library is built from the distribution's source with the CPU's instructions; deploy/deps/wolfssl tells why. */
#include "core/tls.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/random.h>

#include "core/crypto.h"

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
    unsigned char own[32];
    crypto_random(own, sizeof own); /* ends the program where the kernel has none */
    WC_RNG random;
    if (wc_InitRng(&random) != 0) {
        return -ENODATA;
    }
    int result = draw_random(&random);
    wc_FreeRng(&random);
    return result;
}
