/* Contexts. A server has one library context per certificate, and the ClientHello, which is read before there is a
 * session, says which of them the session is made of. That is how ECDSA and RSA stand side by side, and how names find
 * their certificates.
 *
 * What is offered: TLS 1.2 and 1.3, ephemeral key exchange over X25519, P-256 and P-384, and ciphers that authenticate.
 * No RSA key exchange, no CBC, no compression, no renegotiation, no stateful resumption (the library's session cache is
 * one for the whole process: a session of one listener would be good at another). A client that is not strict also
 * takes CBC, because the alternative is to send in the clear. */
#include "core/tls_context.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>

#include "base/check.h"
#include "core/clock.h"
#include "core/crypto.h"
#include "core/tls_pem.h"
#include "core/tls_session.h"

#define CIPHERS                                                                       \
    "TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:" \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                      \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                      \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_CBC                                                                                         \
    ":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:" \
    "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA"

/* A server's flight goes out in one piece, and its room is bounded. */
#define CHAIN_PEM_BYTES_MAX 16384

/* Where systems keep the certificate authorities that they trust. */
static const char *const system_stores[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
};

/* Where a failure is put into words. */
struct complaint {
    char *text;
    size_t size;
};

static int complain(const struct complaint *complaint, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int complain(const struct complaint *complaint, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(complaint->text, complaint->size, format, arguments);
    va_end(arguments);
    return error;
}

static int read_file(const char *path, char **ret_text, size_t *ret_length, const struct complaint *complaint)
{
    int error = tls_pem_read(path, ret_text, ret_length);
    if (error == -EINVAL) {
        return complain(complaint, error, "%s: not a text file", path);
    }
    return error != 0 ? complain(complaint, error, "%s: %s", path, strerror(-error)) : 0;
}

static void forget(char *text, size_t length)
{
    if (text != NULL) {
        crypto_wipe(text, length);
        free(text);
    }
}

/* --- what all library contexts share ---------------------------------------------------------------------------- */

static WOLFSSL_CTX *library_new(bool server, enum tls_version version_min, const char *ciphers)
{
    WOLFSSL_CTX *library = wolfSSL_CTX_new(server ? wolfSSLv23_server_method() : wolfSSLv23_client_method());
    if (library == NULL) {
        return NULL;
    }
    int groups[] = {WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1};
    int version = version_min == TLS_VERSION_1_3 ? WOLFSSL_TLSV1_3 : WOLFSSL_TLSV1_2;
    if (wolfSSL_CTX_SetMinVersion(library, version) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_set_cipher_list(library, ciphers) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_set_groups(library, groups, (int)(sizeof groups / sizeof groups[0])) != WOLFSSL_SUCCESS) {
        wolfSSL_CTX_free(library);
        return NULL;
    }
#ifndef NO_SESSION_CACHE
    wolfSSL_CTX_set_session_cache_mode(library, WOLFSSL_SESS_CACHE_OFF);
#endif
    tls_session_prepare(library);
    return library;
}

/* Certificate authorities, one by one: of a system's store some may be of a kind that the library does not know, which
 * is no reason to do without the others. */
static int load_authorities(WOLFSSL_CTX *library, const char *path, bool all, const struct complaint *complaint)
{
    char *text = NULL;
    size_t length = 0;
    int result = read_file(path, &text, &length, complaint);
    unsigned loaded = 0;
    unsigned refused = 0;
    struct bytes rest = bytes_of(text, length);
    for (struct bytes one; result == 0 && (one = tls_pem_next(&rest)).length != 0;) {
        bool good = wolfSSL_CTX_load_verify_buffer(library, (const unsigned char *)one.data, (long)one.length,
                                                   WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS;
        loaded += good;
        refused += !good;
        if (!good && all) {
            result = complain(complaint, -EINVAL, "%s: certificate %u is not usable as an authority", path,
                              loaded + refused);
        }
    }
    free(text);
    if (result == 0 && loaded == 0) {
        return complain(complaint, -EINVAL, "%s: no certificate of an authority in it", path);
    }
    return result;
}

/* --- a server's certificates -------------------------------------------------------------------------------------- */

static int copy_names(struct tls_leaf *leaf, const struct tls_certificate *certificate)
{
    leaf->server_names = calloc(certificate->server_names_count + 1, sizeof *leaf->server_names);
    if (leaf->server_names == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < certificate->server_names_count; i++) {
        char *name = strdup(certificate->server_names[i]);
        if (name == NULL) {
            return -ENOMEM;
        }
        for (char *c = name; *c != '\0'; c++) {
            *c = bytes_ascii_lower(*c);
        }
        leaf->server_names[leaf->server_names_count++] = name;
    }
    return 0;
}

static int use_chain(struct tls_leaf *leaf, const char *path, struct bytes text, const struct complaint *complaint)
{
    struct bytes rest = text;
    struct bytes first = tls_pem_next(&rest);
    if (first.length == 0) {
        return complain(complaint, -EINVAL, "%s: no certificate in it", path);
    }
    size_t total = first.length;
    for (struct bytes more; (more = tls_pem_next(&rest)).length != 0;) {
        total += more.length;
    }
    if (total > CHAIN_PEM_BYTES_MAX) {
        return complain(complaint, -EFBIG, "%s: a chain of more than %d bytes", path, CHAIN_PEM_BYTES_MAX);
    }
    int error = tls_pem_describe(first, leaf);
    if (error != 0) {
        return complain(complaint, error, "%s: %s", path,
                        error == -ENOTSUP ? "the key must be RSA, or ECDSA over P-256 or P-384"
                                          : "the first certificate cannot be read");
    }
    int result = wolfSSL_CTX_use_certificate_chain_buffer(leaf->library, (const unsigned char *)text.data,
                                                          (long)text.length);
    if (result != WOLFSSL_SUCCESS) {
        return complain(complaint, -EINVAL, "%s: %s", path, wolfSSL_ERR_reason_error_string((unsigned long)result));
    }
    return 0;
}

static int use_key(struct tls_leaf *leaf, const struct tls_certificate *certificate, struct bytes text,
                   const struct complaint *complaint)
{
    int result = wolfSSL_CTX_use_PrivateKey_buffer(leaf->library, (const unsigned char *)text.data, (long)text.length,
                                                   WOLFSSL_FILETYPE_PEM);
    if (result != WOLFSSL_SUCCESS) {
        return complain(complaint, -EINVAL, "%s: not a private key in PEM without a password", certificate->key_file);
    }
    if (wolfSSL_CTX_check_private_key(leaf->library) != WOLFSSL_SUCCESS) {
        return complain(complaint, -EINVAL, "%s: not the key of %s", certificate->key_file, certificate->chain_file);
    }
    return 0;
}

static int load_leaf(struct tls_leaf *leaf, const struct tls_certificate *certificate,
                     const struct complaint *complaint)
{
    char *text = NULL;
    size_t length = 0;
    int result = read_file(certificate->chain_file, &text, &length, complaint);
    if (result == 0) {
        result = use_chain(leaf, certificate->chain_file, bytes_of(text, length), complaint);
    }
    free(text);
    text = NULL;
    if (result == 0) {
        result = read_file(certificate->key_file, &text, &length, complaint);
    }
    if (result == 0) {
        result = use_key(leaf, certificate, bytes_of(text, length), complaint);
    }
    forget(text, length);
    return result;
}

static int ask_for_certificates(struct tls_leaf *leaf, const struct tls_server_settings *settings,
                                const struct complaint *complaint)
{
    if (settings->client_certificate == TLS_CLIENT_CERTIFICATE_IGNORE) {
        wolfSSL_CTX_set_verify(leaf->library, WOLFSSL_VERIFY_NONE, NULL);
        return 0;
    }
    int mode = WOLFSSL_VERIFY_PEER;
    if (settings->client_certificate == TLS_CLIENT_CERTIFICATE_REQUIRE) {
        mode |= WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    wolfSSL_CTX_set_verify(leaf->library, mode, tls_session_judge);
    if (settings->client_ca_file == NULL) {
        return complain(complaint, -EINVAL, "client certificates need the file of their certificate authorities");
    }
    return load_authorities(leaf->library, settings->client_ca_file, true, complaint);
}

/* --- tickets ------------------------------------------------------------------------------------------------------ */

/* The library's callback: seals or opens its ticket in place. The library leaves 16 octets for the nonce and 32 for the
 * tag, and refuses a tag of zeros. In TLS 1.3 it gives out a new ticket anyway, and version 5.7 takes CREATE for a
 * refusal there. */
static int ticket(WOLFSSL *ssl, unsigned char *name, unsigned char *nonce, unsigned char *tag, int sealing,
                  unsigned char *data, int length, int *ret_length, void *user)
{
    struct tls_ticket_keys *keys = user;
    *ret_length = length;
    if (sealing) {
        memset(nonce, 0, WOLFSSL_TICKET_IV_SZ);
        memset(tag, 0, WOLFSSL_TICKET_MAC_SZ);
        tls_ticket_seal(keys, clock_monotonic_ms(), name, nonce, tag, data, (size_t)length);
        return WOLFSSL_TICKET_RET_OK;
    }
    switch (tls_ticket_open(keys, clock_monotonic_ms(), name, nonce, tag, data, (size_t)length)) {
    case TLS_TICKET_GOOD: return WOLFSSL_TICKET_RET_OK;
    case TLS_TICKET_AGING:
        return wolfSSL_GetVersion(ssl) == WOLFSSL_TLSV1_3 ? WOLFSSL_TICKET_RET_OK : WOLFSSL_TICKET_RET_CREATE;
    default: return WOLFSSL_TICKET_RET_REJECT;
    }
}

static void set_tickets(struct tls_context *context, struct tls_leaf *leaf, unsigned period_s)
{
    if (!context->resumes) {
        wolfSSL_CTX_no_ticket_TLSv13(leaf->library);
        wolfSSL_CTX_NoTicketTLSv12(leaf->library);
        return;
    }
    wolfSSL_CTX_set_TicketEncCb(leaf->library, ticket);
    wolfSSL_CTX_set_TicketEncCtx(leaf->library, &context->tickets);
    wolfSSL_CTX_set_TicketHint(leaf->library, (int)period_s);
#ifndef NO_SESSION_CACHE
    wolfSSL_CTX_set_timeout(leaf->library, 2 * period_s);
#endif
}

/* --- making and giving ----------------------------------------------------------------------------------------------
 */

static struct tls_context *context_new(bool server)
{
    struct tls_context *context = calloc(1, sizeof *context);
    if (context != NULL) {
        context->references = 1;
        context->server = server;
    }
    return context;
}

static void free_leaf(struct tls_leaf *leaf)
{
    for (unsigned i = 0; i < leaf->server_names_count; i++) {
        free(leaf->server_names[i]);
    }
    free(leaf->server_names);
    wolfSSL_CTX_free(leaf->library);
}

static void context_delete(struct tls_context *context)
{
    for (unsigned i = 0; i < context->leaves_count; i++) {
        free_leaf(&context->leaves[i]);
    }
    free(context->leaves);
    wolfSSL_CTX_free(context->trusting);
    wolfSSL_CTX_free(context->gullible);
    if (context->resumes) {
        tls_ticket_free(&context->tickets);
    }
    free(context);
}

static int add_leaf(struct tls_context *context, const struct tls_server_settings *settings, unsigned index,
                    const struct complaint *complaint)
{
    struct tls_leaf *leaf = &context->leaves[context->leaves_count++];
    leaf->library = library_new(true, settings->version_min, CIPHERS);
    if (leaf->library == NULL) {
        return complain(complaint, -ENOMEM, "the TLS library refuses our settings");
    }
    int result = load_leaf(leaf, &settings->certificates[index], complaint);
    if (result == 0) {
        result = ask_for_certificates(leaf, settings, complaint);
    }
    if (result == 0) {
        result = copy_names(leaf, &settings->certificates[index]);
    }
    set_tickets(context, leaf, settings->ticket_key_seconds);
    return result;
}

static int fill_server(struct tls_context *context, const struct tls_server_settings *settings,
                       const struct complaint *complaint)
{
    bool unnamed = false;
    for (unsigned i = 0; i < settings->certificates_count; i++) {
        unnamed |= settings->certificates[i].server_names_count == 0;
    }
    if (!unnamed || settings->certificates_count > TLS_CERTIFICATES) {
        return complain(complaint, -EINVAL, "1 to %d certificates are needed, one of them without names",
                        TLS_CERTIFICATES);
    }
    context->exporter = settings->exporter;
    context->client_certificate = settings->client_certificate;
    if (settings->ticket_key_seconds != 0 && settings->client_certificate == TLS_CLIENT_CERTIFICATE_IGNORE) {
        tls_ticket_init(&context->tickets, settings->ticket_key_seconds);
        context->resumes = true;
    }
    context->leaves = calloc(settings->certificates_count, sizeof *context->leaves);
    if (context->leaves == NULL) {
        return -ENOMEM;
    }
    int result = 0;
    for (unsigned i = 0; i < settings->certificates_count && result == 0; i++) {
        result = add_leaf(context, settings, i, complaint);
    }
    return result;
}

static int fill_client(struct tls_context *context, const struct tls_client_settings *settings,
                       const struct complaint *complaint)
{
    context->gullible = library_new(false, settings->version_min, CIPHERS CIPHERS_CBC);
    context->trusting = settings->trust ? library_new(false, settings->version_min, CIPHERS) : NULL;
    if (context->gullible == NULL || (settings->trust && context->trusting == NULL)) {
        return complain(complaint, -ENOMEM, "the TLS library refuses our settings");
    }
    wolfSSL_CTX_set_verify(context->gullible, WOLFSSL_VERIFY_NONE, tls_session_judge);
    if (!settings->trust) {
        return 0;
    }
    wolfSSL_CTX_set_verify(context->trusting, WOLFSSL_VERIFY_PEER, tls_session_judge);
    if (settings->ca_file != NULL) {
        return load_authorities(context->trusting, settings->ca_file, true, complaint);
    }
    int result = -ENOENT;
    for (size_t i = 0; i < sizeof system_stores / sizeof system_stores[0] && result == -ENOENT; i++) {
        result = load_authorities(context->trusting, system_stores[i], false, complaint);
    }
    return result == -ENOENT ? complain(complaint, result, "no store of certificate authorities; tried %s and others",
                                        system_stores[0])
                             : result;
}

static int finish(struct tls_context *context, int result, struct tls_context **ret_context)
{
    if (result != 0) {
        context_delete(context);
        return result;
    }
    *ret_context = context;
    return 0;
}

int tls_context_new_server(const struct tls_server_settings *settings, struct tls_context **ret_context, char *reason,
                           size_t reason_size)
{
    struct complaint complaint = {.text = reason, .size = reason_size};
    struct tls_context *context = context_new(true);
    complain(&complaint, 0, "out of memory");
    return context == NULL ? -ENOMEM : finish(context, fill_server(context, settings, &complaint), ret_context);
}

int tls_context_new_client(const struct tls_client_settings *settings, struct tls_context **ret_context, char *reason,
                           size_t reason_size)
{
    struct complaint complaint = {.text = reason, .size = reason_size};
    struct tls_context *context = context_new(false);
    complain(&complaint, 0, "out of memory");
    return context == NULL ? -ENOMEM : finish(context, fill_client(context, settings, &complaint), ret_context);
}

struct tls_context *tls_context_take(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

void tls_context_give(struct tls_context *context)
{
    if (context != NULL && atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) == 1) {
        context_delete(context);
    }
}

int64_t tls_context_expires(const struct tls_context *context)
{
    int64_t first = 0;
    for (unsigned i = 0; i < context->leaves_count; i++) {
        int64_t expires_s = context->leaves[i].expires_s;
        first = first == 0 || expires_s < first ? expires_s : first;
    }
    return first;
}

/* --- choosing
 * --------------------------------------------------------------------------------------------------------- */

/* "*.example.org" stands for one label more. */
static bool matches(const char *pattern, const char *name)
{
    if (strncmp(pattern, "*.", 2) != 0) {
        return strcmp(pattern, name) == 0;
    }
    const char *dot = strchr(name, '.');
    return dot != NULL && dot != name && strcmp(pattern + 1, dot) == 0;
}

static bool serves(const struct tls_leaf *leaf, const char *name)
{
    for (unsigned i = 0; i < leaf->server_names_count; i++) {
        if (matches(leaf->server_names[i], name)) {
            return true;
        }
    }
    return false;
}

static bool verifiable(const struct tls_leaf *leaf, const struct tls_hello *hello)
{
    switch (leaf->kind) {
    case TLS_KEY_ECDSA_P256: return hello->ecdsa_p256;
    case TLS_KEY_ECDSA_P384: return hello->ecdsa_p384;
    default: return hello->rsa;
    }
}

const struct tls_leaf *tls_context_choose(const struct tls_context *context, const struct tls_hello *hello)
{
    const struct tls_leaf *best = NULL;
    int best_rank = -1;
    for (unsigned i = 0; i < context->leaves_count; i++) {
        const struct tls_leaf *leaf = &context->leaves[i];
        bool named = serves(leaf, hello->server_name);
        if (!named && leaf->server_names_count != 0) {
            continue;
        }
        int rank = 4 * verifiable(leaf, hello) + 2 * named + (leaf->kind != TLS_KEY_RSA);
        if (rank > best_rank) {
            best = leaf;
            best_rank = rank;
        }
    }
    CHECK(best != NULL);
    return best;
}
