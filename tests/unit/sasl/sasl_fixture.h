/* Accounts and crypto for the tests of sasl. */
#ifndef TEST_SASL_FIXTURE_H
#define TEST_SASL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/base64.h"
#include "core/crypto.h"
#include "sasl/exchange.h"

/* RFC 7677 3: "pencil". */
#define PENCIL                                                                                   \
    "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=," \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

#define FINGERPRINT "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const uint8_t fixture_secret[SASL_DIGEST_BYTES] = "the secret of a process in tests";

static const struct sasl_crypto fixture_crypto = {
    .sha256 = crypto_sha256,
    .hmac_sha256 = crypto_hmac_sha256,
    .pbkdf2_sha256 = crypto_pbkdf2_sha256,
    .random = crypto_random,
    .equal = crypto_equal,
    .wipe = crypto_wipe,
};

static inline void fixture_print(void *context, const char *line)
{
    (void)context;
    print_message("%s\n", line);
}

static inline struct credentials *fixture_credentials(const char *text)
{
    struct credentials *credentials = credentials_parse(bytes_of_string(text), "F", fixture_print, NULL);
    assert_non_null(credentials);
    return credentials;
}

static inline struct bytes text_of(const char *string)
{
    return bytes_of_string(string);
}

#define assert_bytes_equal(span, string)                                                             \
    do {                                                                                             \
        struct bytes given = (span);                                                                 \
        if (!bytes_equal(given, bytes_of_string(string))) {                                          \
            fail_msg("\"%.*s\" is not \"%s\"", (int)given.length, given.data, (const char *)string); \
        }                                                                                            \
    } while (0)

#endif
