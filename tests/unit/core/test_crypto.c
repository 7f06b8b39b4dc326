#include "core/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void expect_hex(const uint8_t *data, size_t length, const char *hex)
{
    char text[2 * 64 + 1] = "";
    for (size_t i = 0; i < length; i++) {
        snprintf(text + 2 * i, 3, "%02x", data[i]);
    }
    assert_string_equal(text, hex);
}

/* FIPS 180-2 appendix B. */
static void test_sha256(void **state)
{
    (void)state;
    uint8_t digest[CRYPTO_SHA256_BYTES];
    crypto_sha256(BYTES("abc"), digest);
    expect_hex(digest, sizeof digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    crypto_sha256(bytes_of(NULL, 0), digest);
    expect_hex(digest, sizeof digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* RFC 4231 cases 2 and 6 (a key longer than a block); an empty key and empty data. */
static void test_hmac_sha256(void **state)
{
    (void)state;
    uint8_t mac[CRYPTO_SHA256_BYTES];
    crypto_hmac_sha256(BYTES("Jefe"), BYTES("what do ya want for nothing?"), mac);
    expect_hex(mac, sizeof mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    char key[131];
    memset(key, 0xaa, sizeof key);
    crypto_hmac_sha256(bytes_of(key, sizeof key), BYTES("Test Using Larger Than Block-Size Key - Hash Key First"), mac);
    expect_hex(mac, sizeof mac, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    crypto_hmac_sha256(bytes_of(NULL, 0), bytes_of(NULL, 0), mac);
    expect_hex(mac, sizeof mac, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* RFC 7914 section 11, and the salted password of RFC 7677 section 3. */
static void test_pbkdf2_sha256(void **state)
{
    (void)state;
    uint8_t key[64];
    crypto_pbkdf2_sha256(BYTES("passwd"), BYTES("salt"), 1, key, sizeof key);
    expect_hex(key, sizeof key,
               "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
               "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
}

static void test_random_differs(void **state)
{
    (void)state;
    uint8_t a[1000] = {0};
    uint8_t b[1000] = {0};
    crypto_random(a, sizeof a);
    crypto_random(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a + 968, (uint8_t[32]){0}, 32); /* to the end */
    crypto_random(a, 0);
}

static void test_equal(void **state)
{
    (void)state;
    assert_true(crypto_equal(BYTES("secret"), BYTES("secret")));
    assert_true(crypto_equal(bytes_of(NULL, 0), BYTES("")));
    assert_false(crypto_equal(BYTES("secret"), BYTES("Secret")));
    assert_false(crypto_equal(BYTES("secret"), BYTES("secreT")));
    assert_false(crypto_equal(BYTES("secret"), BYTES("secret ")));
}

static void test_wipe(void **state)
{
    (void)state;
    char secret[] = "secret";
    crypto_wipe(secret, sizeof secret);
    assert_memory_equal(secret, (char[sizeof secret]){0}, sizeof secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),         cmocka_unit_test(test_hmac_sha256), cmocka_unit_test(test_pbkdf2_sha256),
        cmocka_unit_test(test_random_differs), cmocka_unit_test(test_equal),       cmocka_unit_test(test_wipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
