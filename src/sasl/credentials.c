/* One copy of the file's text, and tables that point into it.
 *
 * The text is folded in place where case does not count (names, senders, tenants stay as they are), so a lookup folds
 * its argument and compares octets. A file with any mistake gives no table at all: half of a password file is worse
 * than yesterday's.
 */
#include "sasl/credentials.h"

#include <stdlib.h>

#include "sasl/credentials_private.h"

void credentials_fold(char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        text[i] = bytes_ascii_lower(text[i]);
    }
}

void credentials_free(const struct credentials *credentials)
{
    struct credentials *mine = (struct credentials *)(uintptr_t)credentials; /* nobody else has it any more */
    map_free(&mine->names);
    map_free(&mine->certificates);
    free(mine->senders);
    free(mine->accounts);
    free(mine->text);
    free(mine->references);
    free(mine);
}

const struct credentials *credentials_take(const struct credentials *credentials)
{
    atomic_fetch_add_explicit(credentials->references, 1, memory_order_relaxed);
    return credentials;
}

void credentials_give(const struct credentials *credentials)
{
    if (atomic_fetch_sub_explicit(credentials->references, 1, memory_order_acq_rel) == 1) {
        credentials_free(credentials);
    }
}

static const struct credentials_account *find(const struct map *map, struct bytes key)
{
    char folded[CREDENTIALS_LINE_BYTES_MAX];
    if (key.length == 0 || key.length > sizeof folded) {
        return NULL;
    }
    memcpy(folded, key.data, key.length);
    credentials_fold(folded, key.length);
    return map_find(map, bytes_of(folded, key.length));
}

const struct credentials_account *credentials_find(const struct credentials *credentials, struct bytes name)
{
    return find(&credentials->names, name);
}

const struct credentials_account *credentials_find_certificate(const struct credentials *credentials,
                                                               struct bytes identity)
{
    return find(&credentials->certificates, identity);
}

uint32_t credentials_count(const struct credentials *credentials)
{
    return credentials->accounts_count;
}

const struct credentials_account *credentials_at(const struct credentials *credentials, uint32_t index)
{
    CHECK(index < credentials->accounts_count);
    return &credentials->accounts[index];
}

struct bytes credentials_sender(const struct credentials *credentials, const struct credentials_account *account,
                                uint32_t index)
{
    CHECK(index < account->senders_count);
    return credentials->senders[account->senders_first + index];
}

/* `pattern` is folded. */
static bool sender_matches(struct bytes pattern, struct bytes address, struct bytes domain)
{
    if (bytes_equal(pattern, BYTES("*"))) {
        return true;
    }
    if (pattern.data[0] != '@') {
        return bytes_equal_nocase(pattern, address);
    }
    bytes_advance(&pattern, 1);
    if (pattern.data[0] != '.') {
        return bytes_equal_nocase(pattern, domain);
    }
    return domain.length > pattern.length &&
           bytes_equal_nocase(pattern, bytes_slice(domain, domain.length - pattern.length, pattern.length));
}

bool credentials_may_send(const struct credentials *credentials, const struct credentials_account *account,
                          struct bytes address)
{
    if (address.length == 0) {
        return true;
    }
    const char *at = memrchr(address.data, '@', address.length);
    struct bytes domain = bytes_of(NULL, 0);
    if (at != NULL) {
        domain = bytes_of(at + 1, (size_t)(address.data + address.length - at - 1));
    }
    if (account->senders_count == 0) {
        return at != NULL && bytes_equal_nocase(account->name, address);
    }
    for (uint32_t i = 0; i < account->senders_count; i++) {
        if (sender_matches(credentials_sender(credentials, account, i), address, domain)) {
            return true;
        }
    }
    return false;
}

void credentials_decoy(const struct credentials *credentials, const struct sasl_crypto *crypto,
                       const uint8_t secret[SASL_DIGEST_BYTES], struct bytes name,
                       struct credentials_verifier *ret_verifier)
{
    static const char *const labels[] = {"salt 1 ", "salt 2 ", "stored ", "server "};
    const uint8_t *key = credentials->has_decoy_key ? credentials->decoy_key : secret;
    uint8_t digests[4][SASL_DIGEST_BYTES];
    char text[CREDENTIALS_NAME_BYTES_MAX + 8];
    CHECK(name.length <= CREDENTIALS_NAME_BYTES_MAX);
    for (unsigned i = 0; i < 4; i++) {
        struct buffer label = buffer_of(text, sizeof text);
        CHECK(buffer_append_string(&label, labels[i]) && buffer_append(&label, name));
        credentials_fold(text, label.length);
        crypto->hmac_sha256(bytes_of(key, SASL_DIGEST_BYTES), buffer_bytes(&label), digests[i]);
    }
    static_assert(sizeof ret_verifier->salt == 2 * SASL_DIGEST_BYTES, "two digests are a salt of any length");
    ret_verifier->iterations = credentials->usual_iterations;
    ret_verifier->salt_length = credentials->usual_salt_length;
    memcpy(ret_verifier->salt, digests[0], sizeof ret_verifier->salt);
    memcpy(ret_verifier->stored_key, digests[2], SASL_DIGEST_BYTES);
    memcpy(ret_verifier->server_key, digests[3], SASL_DIGEST_BYTES);
}

/* RFC 5802 3. */
static void derive_keys(const struct sasl_crypto *crypto, struct bytes password, struct credentials_verifier *verifier)
{
    uint8_t salted[SASL_DIGEST_BYTES];
    uint8_t client_key[SASL_DIGEST_BYTES];
    crypto->pbkdf2_sha256(password, bytes_of(verifier->salt, verifier->salt_length), verifier->iterations, salted,
                          sizeof salted);
    crypto->hmac_sha256(bytes_of(salted, sizeof salted), BYTES("Client Key"), client_key);
    crypto->sha256(bytes_of(client_key, sizeof client_key), verifier->stored_key);
    crypto->hmac_sha256(bytes_of(salted, sizeof salted), BYTES("Server Key"), verifier->server_key);
    crypto->wipe(salted, sizeof salted);
    crypto->wipe(client_key, sizeof client_key);
}

void credentials_derive(const struct sasl_crypto *crypto, struct bytes password, struct bytes salt, uint32_t iterations,
                        struct credentials_verifier *ret_verifier)
{
    CHECK(iterations >= 1 && salt.length >= 1 && salt.length <= CREDENTIALS_SALT_BYTES_MAX);
    *ret_verifier = (struct credentials_verifier){.iterations = iterations, .salt_length = (uint8_t)salt.length};
    memcpy(ret_verifier->salt, salt.data, salt.length);
    derive_keys(crypto, password, ret_verifier);
}

bool credentials_verify(const struct sasl_crypto *crypto, const struct credentials_verifier *verifier,
                        struct bytes password)
{
    struct credentials_verifier own = *verifier;
    CHECK(verifier->iterations >= 1);
    derive_keys(crypto, password, &own);
    bool right = crypto->equal(bytes_of(own.stored_key, sizeof own.stored_key),
                               bytes_of(verifier->stored_key, sizeof verifier->stored_key));
    crypto->wipe(&own, sizeof own);
    return right;
}

bool credentials_append_verifier(struct buffer *out, const struct credentials_verifier *verifier)
{
    size_t before = out->length;
    bool fits = buffer_append_string(out, "{SCRAM-SHA-256}") && buffer_append_number(out, verifier->iterations) &&
                buffer_append_string(out, ",") && base64_encode(out, bytes_of(verifier->salt, verifier->salt_length)) &&
                buffer_append_string(out, ",") &&
                base64_encode(out, bytes_of(verifier->stored_key, sizeof verifier->stored_key)) &&
                buffer_append_string(out, ",") &&
                base64_encode(out, bytes_of(verifier->server_key, sizeof verifier->server_key));
    out->length = fits ? out->length : before;
    return fits;
}
