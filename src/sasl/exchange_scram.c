/* SCRAM-SHA-256 and -PLUS (RFC 5802, RFC 7677): the password never crosses the wire, and the file's verifier is not
 * enough to log in.
 *
 *   C: n,,n=user,r=CLIENTNONCE                      gs2-header, client-first-message-bare
 *   S: r=CLIENTNONCE SERVERNONCE,s=salt,i=4096      server-first-message
 *   C: c=biws,r=...,p=proof                         client-final-message
 *   S: v=signature                                  server-final-message, in a 334: SMTP's 235 carries no data
 *   C:                                              empty
 *
 * The AuthMessage that both sides sign is the first three with commas between them; it grows in exchange->message.
 * `c` repeats the gs2-header and, with channel binding, octets that only the two ends of this TLS connection know:
 * somebody between them, whatever certificate he shows, cannot pass the proof on.
 *
 * Downgrade: 'y' means "I could bind, but you did not offer -PLUS". When we did, somebody took it out of our EHLO
 * reply.
 */
#include "sasl/exchange_private.h"

#include <assert.h>

#include "base/base64.h"
#include "base/utf8.h"

#define SERVER_NONCE_BYTES 18       /* 24 characters of base64 */
#define CLIENT_FIRST_BYTES_MAX 1536 /* without the gs2-header */
#define CLIENT_FINAL_BYTES_MAX 1792 /* without the proof */

static_assert(CLIENT_FIRST_BYTES_MAX + EXCHANGE_OUTPUT_BYTES + CLIENT_FINAL_BYTES_MAX + 2 <= EXCHANGE_MESSAGE_BYTES,
              "the message fits");
static_assert(EXCHANGE_NONCE_BYTES_MAX + 24 + CREDENTIALS_SALT_BYTES_MAX / 3 * 4 + 4 + 32 <= EXCHANGE_OUTPUT_BYTES,
              "server-first fits");
static_assert((EXCHANGE_HEADER_BYTES + 2) / 3 * 4 + EXCHANGE_NONCE_BYTES_MAX + 64 <= CLIENT_FINAL_BYTES_MAX,
              "what we demand of client-final fits");

static struct buffer message_of(struct exchange *exchange)
{
    return (struct buffer){
        .data = exchange->message, .length = exchange->message_length, .capacity = sizeof exchange->message};
}

static bool is_nonce(struct bytes nonce)
{
    for (size_t i = 0; i < nonce.length; i++) {
        if (nonce.data[i] < '!' || nonce.data[i] > '~' || nonce.data[i] == ',') {
            return false;
        }
    }
    return nonce.length >= 1 && nonce.length <= EXCHANGE_NONCE_BYTES_MAX;
}

/* Takes "x=value" up to the next comma off the text. */
static bool take_attribute(struct bytes *text, char name, struct bytes *ret_value)
{
    bool comma = false;
    if (text->length < 2 || text->data[0] != name || text->data[1] != '=') {
        return false;
    }
    bytes_advance(text, 2);
    *ret_value = exchange_split(text, ',', &comma);
    return true;
}

/* The channel binding data that the client's choice asks for; false: it may not choose that. */
static bool bind_channel(const struct exchange *exchange, const struct exchange_gs2 *gs2, struct bytes *ret_data)
{
    const struct exchange_scene *scene = exchange->scene;
    bool plus_offered = (scene->offered & MECHANISM_BIT(MECHANISM_SCRAM_SHA_256_PLUS)) != 0;
    *ret_data = bytes_of(NULL, 0);
    if (exchange->mechanism != MECHANISM_SCRAM_SHA_256_PLUS) {
        return gs2->binding == 'n' || (gs2->binding == 'y' && !plus_offered);
    }
    if (gs2->binding == 'p' && bytes_equal(gs2->binding_name, BYTES("tls-exporter"))) {
        *ret_data = scene->exporter;
    } else if (gs2->binding == 'p' && bytes_equal(gs2->binding_name, BYTES("tls-server-end-point"))) {
        *ret_data = scene->end_point;
    }
    return ret_data->length != 0;
}

static bool keep_header(struct exchange *exchange, struct bytes header, struct bytes binding)
{
    struct buffer out = buffer_of(exchange->header, sizeof exchange->header);
    bool fits = buffer_append(&out, header) && buffer_append(&out, binding);
    exchange->header_length = (uint16_t)out.length;
    return fits;
}

static enum exchange_event say_first(struct exchange *exchange, struct bytes client_first, struct bytes client_nonce)
{
    char nonce_octets[SERVER_NONCE_BYTES];
    char room[EXCHANGE_OUTPUT_BYTES];
    struct buffer text = buffer_of(room, sizeof room);
    struct buffer message = message_of(exchange);
    exchange->scene->crypto->random(nonce_octets, sizeof nonce_octets);
    CHECK(buffer_append_string(&text, "r=") && buffer_append(&text, client_nonce) &&
          base64_encode(&text, bytes_of(nonce_octets, sizeof nonce_octets)));
    exchange->nonce_length = (uint16_t)(text.length - 2);
    CHECK(buffer_append_string(&text, ",s=") &&
          base64_encode(&text, bytes_of(exchange->verifier.salt, exchange->verifier.salt_length)) &&
          buffer_append_string(&text, ",i=") && buffer_append_number(&text, exchange->verifier.iterations));
    CHECK(buffer_append(&message, client_first) && buffer_append_string(&message, ","));
    exchange->nonce_offset = (uint16_t)(message.length + 2);
    CHECK(buffer_append(&message, buffer_bytes(&text)) && buffer_append_string(&message, ","));
    exchange->message_length = (uint16_t)message.length;
    return exchange_ask(exchange, EXCHANGE_FINAL, buffer_bytes(&text));
}

static enum exchange_event take_first(struct exchange *exchange, struct bytes response)
{
    struct exchange_gs2 gs2;
    struct bytes rest = response;
    struct bytes binding;
    struct bytes encoded;
    struct bytes nonce;
    char name[CREDENTIALS_NAME_BYTES_MAX];
    uint16_t name_length = 0;
    if (!utf8_printable(response) || !exchange_take_gs2(exchange, &rest, &gs2)) {
        return exchange_fail(exchange, EXCHANGE_MALFORMED);
    }
    struct bytes bare = rest;
    /* "m=" in front of the name would be an extension that must be understood: malformed here (RFC 5802 5.1). */
    if (bare.length > CLIENT_FIRST_BYTES_MAX || !take_attribute(&rest, 'n', &encoded) ||
        !take_attribute(&rest, 'r', &nonce) || !is_nonce(nonce) || !exchange_decode_name(encoded, name, &name_length)) {
        return exchange_fail(exchange, EXCHANGE_MALFORMED);
    }
    enum exchange_failure failure = exchange_identify(exchange, bytes_of(name, name_length));
    if (failure != EXCHANGE_NO_FAILURE) {
        return exchange_fail(exchange, failure);
    }
    if (!bind_channel(exchange, &gs2, &binding) || !keep_header(exchange, gs2.whole, binding) ||
        !exchange_authorized(bytes_of(exchange->authorization, exchange->authorization_length),
                             exchange_name(exchange))) {
        return exchange_fail(exchange, EXCHANGE_REFUSED);
    }
    return say_first(exchange, bare, nonce);
}

/* Where the last ",p=" begins; extensions may come before it, nothing behind it. */
static bool find_proof(struct bytes text, size_t *ret_at)
{
    for (size_t at = text.length; at-- > 0;) {
        if (text.data[at] == ',') {
            *ret_at = at;
            return text.length - at > 3 && text.data[at + 1] == 'p' && text.data[at + 2] == '=';
        }
    }
    return false;
}

static bool decode_proof(struct bytes text, uint8_t ret_proof[SASL_DIGEST_BYTES])
{
    char room[BASE64_ENCODED_BYTES(SASL_DIGEST_BYTES)];
    size_t length = 0;
    if (text.length > sizeof room || !base64_decode(text, room, &length) || length != SASL_DIGEST_BYTES) {
        return false;
    }
    memcpy(ret_proof, room, SASL_DIGEST_BYTES);
    return true;
}

/* "c=" must be exactly the header and the binding that this exchange began with. */
static bool header_matches(const struct exchange *exchange, struct bytes encoded)
{
    char room[BASE64_ENCODED_BYTES(EXCHANGE_HEADER_BYTES)];
    size_t length = 0;
    return encoded.length <= sizeof room && base64_decode(encoded, room, &length) &&
           exchange->scene->crypto->equal(bytes_of(room, length), bytes_of(exchange->header, exchange->header_length));
}

/* RFC 5802 3: H(ClientProof XOR ClientSignature) == StoredKey. */
static bool proof_is_right(const struct exchange *exchange, const uint8_t proof[SASL_DIGEST_BYTES])
{
    const struct sasl_crypto *crypto = exchange->scene->crypto;
    const struct credentials_verifier *verifier = &exchange->verifier;
    uint8_t key[SASL_DIGEST_BYTES];
    uint8_t stored[SASL_DIGEST_BYTES];
    crypto->hmac_sha256(bytes_of(verifier->stored_key, SASL_DIGEST_BYTES),
                        bytes_of(exchange->message, exchange->message_length), key);
    for (unsigned i = 0; i < SASL_DIGEST_BYTES; i++) {
        key[i] ^= proof[i];
    }
    crypto->sha256(bytes_of(key, sizeof key), stored);
    crypto->wipe(key, sizeof key);
    return crypto->equal(bytes_of(stored, sizeof stored), bytes_of(verifier->stored_key, SASL_DIGEST_BYTES));
}

static enum exchange_event say_final(struct exchange *exchange)
{
    uint8_t signature[SASL_DIGEST_BYTES];
    char room[64];
    struct buffer text = buffer_of(room, sizeof room);
    exchange->scene->crypto->hmac_sha256(bytes_of(exchange->verifier.server_key, SASL_DIGEST_BYTES),
                                         bytes_of(exchange->message, exchange->message_length), signature);
    CHECK(buffer_append_string(&text, "v=") && base64_encode(&text, bytes_of(signature, sizeof signature)));
    return exchange_ask(exchange, EXCHANGE_GOODBYE, buffer_bytes(&text));
}

static enum exchange_event take_final(struct exchange *exchange, struct bytes response)
{
    size_t proof_at = 0;
    uint8_t proof[SASL_DIGEST_BYTES];
    struct bytes header;
    struct bytes nonce;
    struct buffer message = message_of(exchange);
    if (!utf8_printable(response) || !find_proof(response, &proof_at) || proof_at > CLIENT_FINAL_BYTES_MAX ||
        !decode_proof(bytes_slice(response, proof_at + 3, response.length - proof_at - 3), proof)) {
        return exchange_fail(exchange, EXCHANGE_MALFORMED);
    }
    struct bytes without_proof = bytes_slice(response, 0, proof_at);
    struct bytes rest = without_proof;
    if (!take_attribute(&rest, 'c', &header) || !take_attribute(&rest, 'r', &nonce)) {
        return exchange_fail(exchange, EXCHANGE_MALFORMED);
    }
    bool same = header_matches(exchange, header) &&
                bytes_equal(nonce, bytes_of(exchange->message + exchange->nonce_offset, exchange->nonce_length));
    CHECK(buffer_append(&message, without_proof));
    exchange->message_length = (uint16_t)message.length;
    bool right = proof_is_right(exchange, proof);
    if (!same || !right || exchange->candidate == NULL) {
        return exchange_fail(exchange, EXCHANGE_REFUSED);
    }
    return say_final(exchange);
}

enum exchange_event exchange_scram(struct exchange *exchange, struct bytes response)
{
    switch (exchange->state) {
    case EXCHANGE_START: return take_first(exchange, response);
    case EXCHANGE_FINAL: return take_final(exchange, response);
    default: break;
    }
    return response.length == 0 ? exchange_done(exchange, exchange->candidate)
                                : exchange_fail(exchange, EXCHANGE_MALFORMED);
}
