#include "core/tls_pem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/hash.h>

/* --- files ------------------------------------------------------------------------------------------------------ */

static int read_all(int fd, char *text, size_t size, size_t *ret_length)
{
    size_t length = 0;
    while (length < size) {
        ssize_t got = read(fd, text + length, size - length);
        if (got < 0 && errno != EINTR) {
            return -errno;
        }
        if (got == 0) {
            break;
        }
        length += got > 0 ? (size_t)got : 0;
    }
    *ret_length = length;
    return length == size ? -EFBIG : 0;
}

static int read_open(int fd, char **ret_text, size_t *ret_length)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return -errno;
    }
    if (!S_ISREG(status.st_mode) || status.st_size > TLS_PEM_FILE_BYTES_MAX) {
        return S_ISREG(status.st_mode) ? -EFBIG : -EINVAL;
    }
    size_t size = (size_t)status.st_size + 1;
    char *text = malloc(size);
    size_t length = 0;
    int result = text == NULL ? -ENOMEM : read_all(fd, text, size, &length);
    if (result == 0 && (length == 0 || memchr(text, 0, length) != NULL)) {
        result = -EINVAL;
    }
    if (result != 0) {
        free(text);
        return result;
    }
    text[length] = '\0';
    *ret_text = text;
    *ret_length = length;
    return 0;
}

int tls_pem_read(const char *path, char **ret_text, size_t *ret_length)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    int result = read_open(fd, ret_text, ret_length);
    close(fd);
    return result;
}

struct bytes tls_pem_next(struct bytes *text)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    static const char end[] = "-----END CERTIFICATE-----";
    const char *first = memmem(text->data, text->length, begin, sizeof begin - 1);
    if (first == NULL) {
        return bytes_of("", 0);
    }
    bytes_advance(text, (size_t)(first - text->data));
    const char *last = memmem(text->data, text->length, end, sizeof end - 1);
    if (last == NULL) {
        return bytes_of("", 0);
    }
    size_t length = (size_t)(last - first) + sizeof end - 1;
    bytes_advance(text, length);
    return bytes_of(first, length);
}

/* --- certificates ------------------------------------------------------------------------------------------------- */

static int64_t expiry(const DecodedCert *certificate)
{
    const byte *date = NULL;
    byte format = 0;
    int length = 0;
    struct tm calendar = {.tm_sec = 0};
    if (wc_GetDateInfo(certificate->afterDate, certificate->afterDateLen, &date, &format, &length) != 0 ||
        wc_GetDateAsCalendarTime(date, length, format, &calendar) != 0) {
        return 0;
    }
    return timegm(&calendar);
}

/* RFC 5929 4.1: the hash function of the signature, but SHA-256 for MD5 and SHA-1, and none for signatures that have no
 * single one (Ed25519, and PSS, whose parameters say which). */
static enum wc_HashType end_point_hash(word32 signature)
{
    switch (signature) {
    case CTC_MD5wRSA:
    case CTC_SHAwRSA:
    case CTC_SHAwECDSA:
    case CTC_SHA256wRSA:
    case CTC_SHA256wECDSA: return WC_HASH_TYPE_SHA256;
    case CTC_SHA384wRSA:
    case CTC_SHA384wECDSA: return WC_HASH_TYPE_SHA384;
    case CTC_SHA512wRSA:
    case CTC_SHA512wECDSA: return WC_HASH_TYPE_SHA512;
    default: return WC_HASH_TYPE_NONE;
    }
}

unsigned tls_pem_end_point(unsigned signature, const uint8_t *der, size_t length, uint8_t ret_digest[TLS_DIGEST_BYTES])
{
    enum wc_HashType hash = end_point_hash(signature);
    int bytes = hash == WC_HASH_TYPE_NONE ? 0 : wc_HashGetDigestSize(hash);
    return bytes > 0 && wc_Hash(hash, der, (word32)length, ret_digest, (word32)bytes) == 0 ? (unsigned)bytes : 0;
}

static int describe(const DecodedCert *certificate, const byte *der, word32 length, struct tls_leaf *leaf)
{
    if (certificate->keyOID == RSAk) {
        leaf->kind = TLS_KEY_RSA;
    } else if (certificate->keyOID == ECDSAk && certificate->pkCurveOID == ECC_SECP256R1_OID) {
        leaf->kind = TLS_KEY_ECDSA_P256;
    } else if (certificate->keyOID == ECDSAk && certificate->pkCurveOID == ECC_SECP384R1_OID) {
        leaf->kind = TLS_KEY_ECDSA_P384;
    } else {
        return -ENOTSUP;
    }
    leaf->expires_s = expiry(certificate);
    leaf->end_point_bytes = tls_pem_end_point(certificate->signatureOID, der, length, leaf->end_point);
    return 0;
}

static int parse(const byte *der, word32 length, struct tls_leaf *leaf)
{
    DecodedCert *certificate = malloc(sizeof *certificate);
    if (certificate == NULL) {
        return -ENOMEM;
    }
    wc_InitDecodedCert(certificate, der, length, NULL);
    int result = wc_ParseCert(certificate, CERT_TYPE, NO_VERIFY, NULL) == 0 ? 0 : -EINVAL;
    if (result == 0) {
        result = describe(certificate, der, length, leaf);
    }
    wc_FreeDecodedCert(certificate);
    free(certificate);
    return result;
}

int tls_pem_describe(struct bytes certificate, struct tls_leaf *leaf)
{
    byte *der = malloc(certificate.length + 1);
    if (der == NULL) {
        return -ENOMEM;
    }
    int length = wc_CertPemToDer((const byte *)certificate.data, (int)certificate.length, der, (int)certificate.length,
                                 CERT_TYPE);
    int result = length > 0 ? parse(der, (word32)length, leaf) : -EINVAL;
    free(der);
    return result;
}
