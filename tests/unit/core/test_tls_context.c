#include "core/tls_context.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "support/tls_files.h"

static char reason[256];

/* A file of the test's own, in the directory of the certificates. */
static const char *file_with(const char *name, const char *text)
{
    const char *path = tls_files_path(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return path;
}

static int make(const char *chain, const char *key, const char *authority, struct tls_context **ret_context)
{
    struct tls_certificate certificate = {.chain_file = chain, .key_file = key};
    struct tls_server_settings settings = {
        .certificates = &certificate,
        .certificates_count = 1,
        .client_certificate = authority != NULL ? TLS_CLIENT_CERTIFICATE_ASK : TLS_CLIENT_CERTIFICATE_IGNORE,
        .client_ca_file = authority,
    };
    return tls_context_new_server(&settings, ret_context, reason, sizeof reason);
}

static void expect_refusal(const char *chain, const char *key, const char *authority, int error, const char *text)
{
    struct tls_context *context = NULL;
    assert_int_equal(make(chain, key, authority, &context), error);
    assert_null(context);
    if (strstr(reason, text) == NULL) {
        fail_msg("\"%s\" is not about \"%s\"", reason, text);
    }
    assert_null(strchr(reason, '\n'));
}

/* Each names the file, and says what is wrong with it. */
static void test_what_an_administrator_can_do_wrong(void **state)
{
    (void)state;
    const char *pem = tls_files_path("ecdsa.pem");
    const char *key = tls_files_path("ecdsa.key");
    expect_refusal("/nowhere.pem", key, NULL, -ENOENT, "/nowhere.pem: No such file");
    expect_refusal(pem, "/nowhere.key", NULL, -ENOENT, "/nowhere.key: No such file");
    expect_refusal("/", key, NULL, -EINVAL, "/: not a text file");
    expect_refusal(file_with("empty", ""), key, NULL, -EINVAL, "empty: not a text file");
    expect_refusal(key, key, NULL, -EINVAL, "ecdsa.key: no certificate in it");
    expect_refusal(pem, pem, NULL, -EINVAL, "ecdsa.pem: not a private key");
    expect_refusal(pem, tls_files_path("rsa.key"), NULL, -EINVAL, "rsa.key: not the key of");
    expect_refusal(pem, tls_files_path("other.key"), NULL, -EINVAL, "other.key: not the key of");
    expect_refusal(file_with("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), key, NULL,
                   -EINVAL, "garbage: the first certificate cannot be read");
    expect_refusal(pem, key, tls_files_path("garbage"), -EINVAL, "garbage: certificate 1 is not usable");
    expect_refusal(pem, key, tls_files_path("ecdsa.key"), -EINVAL, "no certificate of an authority");
    static char chain[64 * 1024];
    FILE *file = fopen(pem, "r");
    size_t length = fread(chain, 1, sizeof chain / 32, file);
    fclose(file);
    for (int i = 0; i < 4; i++) {
        memcpy(chain + length, chain, length);
        length *= 2;
    }
    expect_refusal(file_with("long", chain), key, NULL, -EFBIG, "long: a chain of more than");
}

static void test_what_settings_must_have(void **state)
{
    (void)state;
    const char *const names[] = {"mx.example.org"};
    struct tls_certificate certificate = {.chain_file = tls_files_path("ecdsa.pem"),
                                          .key_file = tls_files_path("ecdsa.key"),
                                          .server_names = names,
                                          .server_names_count = 1};
    struct tls_server_settings settings = {.certificates = &certificate, .certificates_count = 1};
    struct tls_context *context = NULL;
    assert_int_equal(tls_context_new_server(&settings, &context, reason, sizeof reason), -EINVAL);
    assert_non_null(strstr(reason, "one of them without names"));
    certificate.server_names_count = 0;
    settings.client_certificate = TLS_CLIENT_CERTIFICATE_REQUIRE;
    assert_int_equal(tls_context_new_server(&settings, &context, reason, sizeof reason), -EINVAL);
    assert_non_null(strstr(reason, "certificate authorities"));
}

static void test_expiry(void **state)
{
    (void)state;
    struct tls_context *context = NULL;
    assert_int_equal(make(tls_files_path("ecdsa.pem"), tls_files_path("ecdsa.key"), NULL, &context), 0);
    int64_t days = (tls_context_expires(context) - (int64_t)time(NULL)) / 86400;
    assert_in_range(days, 28, 30);
    assert_ptr_equal(tls_context_take(context), context);
    tls_context_give(context);
    assert_true(tls_context_expires(context) != 0); /* still there */
    tls_context_give(context);
    assert_int_equal(make(tls_files_path("expired.pem"), tls_files_path("expired.key"), NULL, &context), 0);
    assert_true(tls_context_expires(context) < (int64_t)time(NULL)); /* it is served, and it shows */
    tls_context_give(context);
    tls_context_give(NULL);
}

static enum tls_key_kind choose(const struct tls_context *context, struct tls_hello hello)
{
    return tls_context_choose(context, &hello)->kind;
}

static void test_choice(void **state)
{
    (void)state;
    struct tls_certificate certificates[] = {
        {.chain_file = tls_files_path("rsa.pem"), .key_file = tls_files_path("rsa.key")},
        {.chain_file = tls_files_path("ecdsa.pem"), .key_file = tls_files_path("ecdsa.key")},
    };
    struct tls_server_settings settings = {.certificates = certificates, .certificates_count = 2};
    struct tls_context *context = NULL;
    assert_int_equal(tls_context_new_server(&settings, &context, reason, sizeof reason), 0);
    assert_int_equal(choose(context, (struct tls_hello){.rsa = true, .ecdsa_p256 = true}), TLS_KEY_ECDSA_P256);
    assert_int_equal(choose(context, (struct tls_hello){.rsa = true}), TLS_KEY_RSA);
    assert_int_equal(choose(context, (struct tls_hello){.rsa = true, .ecdsa_p384 = true}), TLS_KEY_RSA);
    assert_int_equal(choose(context, (struct tls_hello){.ecdsa_p384 = true}), TLS_KEY_ECDSA_P256); /* none is good */
    tls_context_give(context);
}

static void test_client(void **state)
{
    (void)state;
    struct tls_context *context = NULL;
    struct tls_client_settings settings = {.trust = true, .ca_file = "/nowhere.pem"};
    assert_int_equal(tls_context_new_client(&settings, &context, reason, sizeof reason), -ENOENT);
    assert_string_equal(reason, "/nowhere.pem: No such file or directory");
    settings.ca_file = tls_files_path("authority.pem");
    assert_int_equal(tls_context_new_client(&settings, &context, reason, sizeof reason), 0);
    assert_int_equal(tls_context_expires(context), 0);
    tls_context_give(context);
    /* The system's store, where there is one. */
    settings.ca_file = NULL;
    if (tls_context_new_client(&settings, &context, reason, sizeof reason) == 0) {
        tls_context_give(context);
    } else {
        assert_non_null(strstr(reason, "no store of certificate authorities"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_an_administrator_can_do_wrong),
        cmocka_unit_test(test_what_settings_must_have),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
