#include "core/tls_peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn.h>
#include <wolfssl/wolfcrypt/asn_public.h>

#include "core/crypto.h"
#include "core/tls_pem.h"

static bool harmless(char c)
{
    return c > ' ' && c < 0x7f && c != '\\' && c != '"';
}

char *tls_peer_text(const char *text, size_t length)
{
    length = length < TLS_NAME_BYTES ? length : TLS_NAME_BYTES - 1;
    char *copy = malloc(length + 1);
    if (copy == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < length; i++) {
        copy[i] = harmless(text[i]) || text[i] == ' ' ? text[i] : '?';
    }
    copy[length] = '\0';
    return copy;
}

/* A name decides who somebody is, so it is taken as it is or not at all: a NUL or a cut in it would make it another. */
static char *strict_name(const char *text, int length)
{
    if (text == NULL || length <= 0 || length >= TLS_NAME_BYTES) {
        return NULL;
    }
    for (int i = 0; i < length; i++) {
        if (!harmless(text[i])) {
            return NULL;
        }
    }
    return strndup(text, (size_t)length);
}

/* The library's lists begin with the last entry. */
static const DNS_entry *first_of(const DNS_entry *list, int type)
{
    const DNS_entry *first = NULL;
    for (; list != NULL; list = list->next) {
        first = list->type == type ? list : first;
    }
    return first;
}

static char *name_of(const DecodedCert *certificate)
{
    const DNS_entry *entry = first_of(certificate->altEmailNames, ASN_RFC822_TYPE);
    if (entry == NULL) {
        entry = first_of(certificate->altNames, ASN_DNS_TYPE);
    }
    char *name = entry != NULL ? strict_name(entry->name, entry->len)
                               : strict_name(certificate->subjectCN, certificate->subjectCNLen);
    return name != NULL ? name : strdup("");
}

int tls_peer_read(const uint8_t *der, size_t length, struct tls_peer *ret_peer)
{
    DecodedCert *certificate = malloc(sizeof *certificate);
    if (certificate == NULL) {
        return -ENOMEM;
    }
    wc_InitDecodedCert(certificate, der, (word32)length, NULL);
    int result = wc_ParseCert(certificate, CERT_TYPE, NO_VERIFY, NULL) == 0 ? 0 : -EINVAL;
    if (result == 0) {
        struct tls_peer peer = {
            .subject = tls_peer_text(certificate->subject, strnlen(certificate->subject, sizeof certificate->subject)),
            .name = name_of(certificate),
        };
        crypto_sha256(bytes_of(der, length), peer.fingerprint);
        peer.end_point_bytes = tls_pem_end_point(certificate->signatureOID, der, length, peer.end_point);
        *ret_peer = peer;
        result = peer.subject != NULL && peer.name != NULL ? 0 : -ENOMEM;
    }
    wc_FreeDecodedCert(certificate);
    free(certificate);
    return result;
}

void tls_peer_free(struct tls_peer *peer)
{
    free(peer->subject);
    free(peer->name);
    *peer = (struct tls_peer){.subject = NULL};
}
