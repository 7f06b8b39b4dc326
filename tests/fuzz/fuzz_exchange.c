#include <stdlib.h>

#include "base/utf8.h"
#include "core/crypto.h"
#include "sasl/exchange.h"
#include "sasl/verifier.h"

/* A client that says anything, in any mechanism: octet 0 chooses that and what TLS there is, then each response is one
 * octet of length (255: all the rest) and so many octets. Nobody gets in who has not got what the mechanism asks for,
 * and whoever does is an account that is not disabled. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PENCIL                                                                                   \
    "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=," \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static bool worked;

/* Fast, and right for "pencil" only as far as anybody can see from outside. */
static void quick_pbkdf2(struct bytes password, struct bytes salt, unsigned iterations, uint8_t *ret_key, size_t length)
{
    (void)iterations;
    worked = true;
    memset(ret_key, 0, length);
    crypto_hmac_sha256(password, salt, ret_key);
}

static void same_random(void *ret_data, size_t length)
{
    memset(ret_data, 0x55, length);
}

static const struct sasl_crypto crypto = {
    .sha256 = crypto_sha256,
    .hmac_sha256 = crypto_hmac_sha256,
    .pbkdf2_sha256 = quick_pbkdf2,
    .random = same_random,
    .equal = crypto_equal,
    .wipe = crypto_wipe,
};

static void no_report(void *context, const char *line)
{
    (void)context;
    (void)line;
}

static const struct credentials *accounts(void)
{
    static const struct credentials *credentials;
    if (credentials == NULL) {
        credentials = credentials_parse(
            bytes_of_string("user:" PENCIL "\ngone:" PENCIL " disabled\nrobot:- certificate=cn.example\n"), "",
            no_report, NULL);
        EXPECT(credentials != NULL);
    }
    return credentials;
}

static struct bytes take_response(const uint8_t **data, size_t *size)
{
    size_t length = **data;
    (*data)++;
    (*size)--;
    length = length == 255 || length > *size ? *size : length;
    struct bytes response = bytes_of(*data, length);
    *data += length;
    *size -= length;
    return response;
}

static enum exchange_event ask_verifier(struct exchange *exchange, struct bytes answer)
{
    static char room[VERIFIER_REQUEST_BYTES_MAX];
    char space[CREDENTIALS_NAME_BYTES_MAX];
    struct buffer out = buffer_of(room, sizeof room);
    struct bytes name = bytes_of(NULL, 0);
    struct verifier_request request = {.mechanism = exchange->mechanism,
                                       .user = exchange_name(exchange),
                                       .address = BYTES("192.0.2.1"),
                                       .token = exchange->token};
    EXPECT(verifier_append_request(&out, &request));
    EXPECT(memchr(room, '\n', out.length) == room + out.length - 1 && utf8_printable(bytes_of(room, out.length - 1)));
    return exchange_answer(exchange, verifier_parse_answer(answer, space, &name), name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct exchange exchange;
    struct bytes certificate = BYTES("cn.example");
    if (size < 2) {
        return 0;
    }
    enum mechanism mechanism = data[0] % MECHANISMS;
    struct exchange_scene scene = {
        .crypto = &crypto,
        .credentials = accounts(),
        .secret = (const uint8_t *)"0123456789abcdef0123456789abcdef",
        .offered = data[0] & 64 ? MECHANISM_ALL : MECHANISM_BIT(mechanism),
        .exporter = data[0] & 32 ? BYTES("exported") : BYTES(""),
        .certificate_verified = data[0] & 16,
        .certificate_names = &certificate,
        .certificate_names_count = 1,
    };
    bool initial = data[0] & 128;
    data++;
    size--;
    worked = false;
    struct bytes response = initial ? take_response(&data, &size) : bytes_of(NULL, 0);
    enum exchange_event event = exchange_begin(&exchange, &scene, mechanism, initial, response);
    for (unsigned steps = 0; event != EXCHANGE_DONE && event != EXCHANGE_FAILED; steps++) {
        EXPECT(steps < 8 && exchange.failure == EXCHANGE_NO_FAILURE && exchange.account == NULL);
        EXPECT(exchange_output(&exchange).length <= sizeof exchange.output && utf8_printable(exchange_name(&exchange)));
        response = size != 0 ? take_response(&data, &size) : bytes_of(NULL, 0);
        switch (event) {
        case EXCHANGE_CHALLENGE: event = exchange_step(&exchange, response); break;
        case EXCHANGE_TOKEN: event = ask_verifier(&exchange, response); break;
        default: exchange_work(&exchange); event = exchange_worked(&exchange);
        }
    }
    EXPECT((event == EXCHANGE_DONE) == (exchange.account != NULL));
    EXPECT((event == EXCHANGE_DONE) == (exchange.failure == EXCHANGE_NO_FAILURE));
    EXPECT(exchange.account == NULL || !exchange.account->disabled);
    EXPECT(exchange.account == NULL || mechanism == MECHANISM_EXTERNAL || mechanism == MECHANISM_OAUTHBEARER ||
           mechanism == MECHANISM_XOAUTH2); /* nobody can know a password that our quick hash makes nothing of */
    EXPECT(exchange.account == NULL || mechanism != MECHANISM_EXTERNAL || scene.certificate_verified);
    exchange_end(&exchange);
    return 0;
}
