/* Both sides of an exchange: the server under test in a scene, and enough of a SCRAM client to talk to it. */
#ifndef TEST_EXCHANGE_FIXTURE_H
#define TEST_EXCHANGE_FIXTURE_H

#include <stdlib.h>

#include "unit/sasl/sasl_fixture.h"

#define FIXTURE_ACCOUNTS                                  \
    "user:" PENCIL "\n"                                   \
    "a,b=c:" PENCIL "\n"                                  \
    "gone:" PENCIL " disabled certificate=gone.example\n" \
    "robot:- certificate=" FINGERPRINT " certificate=robot.example\n"

struct stage {
    struct exchange_scene scene;
    struct exchange exchange;
    struct credentials *credentials;
    bool locked;
    unsigned entered;
    char entered_name[256];
    bool recent_known; /* what hooks.recent says */
    unsigned recent_asked;
    unsigned remembered;
};

static inline bool stage_enter(void *context, struct bytes name)
{
    struct stage *stage = context;
    stage->entered++;
    snprintf(stage->entered_name, sizeof stage->entered_name, "%.*s", (int)name.length, name.data);
    return !stage->locked;
}

static inline bool stage_recent(void *context, const uint8_t key[EXCHANGE_KEY_BYTES])
{
    struct stage *stage = context;
    (void)key;
    stage->recent_asked++;
    return stage->recent_known;
}

static inline void stage_remember(void *context, const uint8_t key[EXCHANGE_KEY_BYTES])
{
    struct stage *stage = context;
    (void)key;
    stage->remembered++;
}

static inline void stage_open(struct stage *stage)
{
    memset(stage, 0, sizeof *stage);
    stage->credentials = fixture_credentials(FIXTURE_ACCOUNTS);
    stage->scene = (struct exchange_scene){
        .crypto = &fixture_crypto,
        .credentials = stage->credentials,
        .secret = fixture_secret,
        .hooks = {.context = stage, .enter = stage_enter, .recent = stage_recent, .remember = stage_remember},
        .offered = MECHANISM_ALL,
        .exporter = BYTES("exported by TLS, 32 octets long.."),
        .end_point = BYTES("hash of the server's certificate"),
    };
}

static inline void stage_close(struct stage *stage)
{
    exchange_end(&stage->exchange);
    credentials_give(stage->credentials);
}

static inline enum exchange_event stage_begin(struct stage *stage, enum mechanism mechanism, struct bytes response)
{
    return exchange_begin(&stage->exchange, &stage->scene, mechanism, true, response);
}

/* All of a one-message mechanism, the work included. */
static inline enum exchange_event stage_run(struct stage *stage, enum mechanism mechanism, struct bytes response)
{
    enum exchange_event event = stage_begin(stage, mechanism, response);
    if (event == EXCHANGE_WORK) {
        exchange_work(&stage->exchange);
        event = exchange_worked(&stage->exchange);
    }
    return event;
}

#define assert_failed(stage, event, cause)                    \
    do {                                                      \
        assert_int_equal((event), EXCHANGE_FAILED);           \
        assert_int_equal((stage)->exchange.failure, (cause)); \
        assert_null((stage)->exchange.account);               \
    } while (0)

#define assert_done(stage, event, who)                              \
    do {                                                            \
        assert_int_equal((event), EXCHANGE_DONE);                   \
        assert_non_null((stage)->exchange.account);                 \
        assert_bytes_equal((stage)->exchange.account->name, (who)); \
    } while (0)

/* --- a SCRAM client (RFC 5802) -------------------------------------------------------------------------------- */

struct scram_client {
    const char *header; /* gs2-header */
    const char *first;  /* client-first-message-bare */
    const char *password;
    struct bytes binding;    /* channel binding data */
    const char *sent_header; /* NULL: header; what "c=" claims */
    const char *sent_nonce;  /* NULL: the server's */
    const char *extension;   /* before the proof, or NULL */
    char final[2048];
    char server_signature[64]; /* "v=..." that is to come */
};

static inline struct bytes scram_first(const struct scram_client *client, char *room, size_t size)
{
    int length = snprintf(room, size, "%s%s", client->header, client->first);
    return bytes_of(room, (size_t)length);
}

static inline void scram_parse_first(const char *server_first, char *ret_nonce, struct buffer *salt,
                                     unsigned *iterations)
{
    const char *s = strstr(server_first, ",s=");
    const char *i = strstr(server_first, ",i=");
    assert_true(s != NULL && i != NULL && strncmp(server_first, "r=", 2) == 0);
    snprintf(ret_nonce, 512, "%.*s", (int)(s - server_first - 2), server_first + 2);
    assert_true(base64_decode(bytes_of(s + 3, (size_t)(i - s - 3)), salt->data, &salt->length));
    *iterations = (unsigned)strtoul(i + 3, NULL, 10);
}

static inline struct bytes scram_final(struct scram_client *client, struct bytes challenge)
{
    char server_first[1024], nonce[512], salt_room[64], cbind[2048], message[6000];
    uint8_t proof[SASL_DIGEST_BYTES], signature[SASL_DIGEST_BYTES];
    uint8_t salted[SASL_DIGEST_BYTES];
    struct credentials_verifier verifier;
    unsigned iterations = 0;
    struct buffer salt = buffer_of(salt_room, sizeof salt_room);
    snprintf(server_first, sizeof server_first, "%.*s", (int)challenge.length, challenge.data);
    scram_parse_first(server_first, nonce, &salt, &iterations);
    credentials_derive(&fixture_crypto, text_of(client->password), buffer_bytes(&salt), iterations, &verifier);
    struct buffer bound = buffer_of(cbind, sizeof cbind);
    assert_true(buffer_append_string(&bound, client->sent_header != NULL ? client->sent_header : client->header));
    assert_true(buffer_append(&bound, client->binding));
    struct buffer out = buffer_of(client->final, sizeof client->final);
    assert_true(buffer_append_string(&out, "c=") && base64_encode(&out, buffer_bytes(&bound)));
    assert_true(buffer_append_format(&out, ",r=%s%s", client->sent_nonce != NULL ? client->sent_nonce : nonce,
                                     client->extension != NULL ? client->extension : ""));
    int length = snprintf(message, sizeof message, "%s,%s,%.*s", client->first, server_first, (int)out.length,
                          out.data);
    struct bytes text = bytes_of(message, (size_t)length);
    crypto_pbkdf2_sha256(text_of(client->password), buffer_bytes(&salt), iterations, salted, sizeof salted);
    crypto_hmac_sha256(bytes_of(salted, sizeof salted), BYTES("Client Key"), proof);
    crypto_hmac_sha256(bytes_of(verifier.stored_key, SASL_DIGEST_BYTES), text, signature);
    for (unsigned i = 0; i < SASL_DIGEST_BYTES; i++) {
        proof[i] ^= signature[i];
    }
    assert_true(buffer_append_string(&out, ",p=") && base64_encode(&out, bytes_of(proof, sizeof proof)));
    crypto_hmac_sha256(bytes_of(verifier.server_key, SASL_DIGEST_BYTES), text, signature);
    struct buffer expected = buffer_of(client->server_signature, sizeof client->server_signature - 1);
    assert_true(buffer_append_string(&expected, "v=") &&
                base64_encode(&expected, bytes_of(signature, sizeof signature)));
    client->server_signature[expected.length] = '\0';
    return buffer_bytes(&out);
}

/* The whole dialogue; checks the server's signature on the way. */
static inline enum exchange_event scram_run(struct stage *stage, enum mechanism mechanism, struct scram_client *client)
{
    char room[4096];
    enum exchange_event event = stage_begin(stage, mechanism, scram_first(client, room, sizeof room));
    if (event != EXCHANGE_CHALLENGE) {
        return event;
    }
    event = exchange_step(&stage->exchange, scram_final(client, exchange_output(&stage->exchange)));
    if (event != EXCHANGE_CHALLENGE) {
        return event;
    }
    assert_bytes_equal(exchange_output(&stage->exchange), client->server_signature);
    return exchange_step(&stage->exchange, BYTES(""));
}

#endif
