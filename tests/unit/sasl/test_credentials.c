#include "sasl/credentials.h"

#include <stdlib.h>

#include "unit/sasl/sasl_fixture.h"

static const char *const example = "# accounts\n"
                                   "\n"
                                   "Alice@Example.com:" PENCIL "\n"
                                   "shop:" PENCIL " sender=@Shop.example  sender=a@b.example tenant=Shop\n"
                                   "all:" PENCIL " sender=*\n"
                                   "sub:- sender=@.example.net certificate=" FINGERPRINT " certificate=CN1\n"
                                   "gone:" PENCIL " disabled\n"
                                   "j\xc3\xb6rg:-";

static void test_accounts(void **state)
{
    (void)state;
    struct credentials *credentials = fixture_credentials(example);
    assert_int_equal(credentials_count(credentials), 6);
    const struct credentials_account *alice = credentials_find(credentials, BYTES("aLICE@example.com"));
    assert_ptr_equal(alice, credentials_at(credentials, 0));
    assert_bytes_equal(alice->name, "alice@example.com");
    assert_int_equal(alice->line, 3);
    assert_int_equal(alice->verifier.iterations, 4096);
    assert_int_equal(alice->verifier.salt_length, 16);
    assert_false(alice->disabled);
    const struct credentials_account *shop = credentials_find(credentials, BYTES("shop"));
    assert_bytes_equal(shop->tenant, "Shop");
    assert_int_equal(shop->senders_count, 2);
    assert_bytes_equal(credentials_sender(credentials, shop, 0), "@shop.example");
    assert_true(credentials_find(credentials, BYTES("gone"))->disabled);
    assert_int_equal(credentials_find(credentials, BYTES("j\xc3\xb6rg"))->verifier.iterations, 0);
    assert_null(credentials_find(credentials, BYTES("bob")));
    assert_null(credentials_find(credentials, BYTES("")));
    assert_null(credentials_find(credentials, BYTES("shop\0")));
    const struct credentials_account *sub = credentials_find(credentials, BYTES("sub"));
    assert_ptr_equal(credentials_find_certificate(credentials, text_of(FINGERPRINT)), sub);
    assert_ptr_equal(credentials_find_certificate(credentials, BYTES("cn1")), sub);
    assert_null(credentials_find_certificate(credentials, BYTES("shop")));
    credentials_give(credentials_take(credentials));
    credentials_give(credentials);
}

static bool may(const struct credentials *credentials, const char *name, const char *address)
{
    return credentials_may_send(credentials, credentials_find(credentials, text_of(name)), text_of(address));
}

static void test_senders(void **state)
{
    (void)state;
    struct credentials *credentials = fixture_credentials(example);
    assert_true(may(credentials, "alice@example.com", "ALICE@example.COM"));
    assert_false(may(credentials, "alice@example.com", "bob@example.com"));
    assert_true(may(credentials, "alice@example.com", ""));
    assert_true(may(credentials, "shop", "news@SHOP.example"));
    assert_true(may(credentials, "shop", "A@b.example"));
    assert_false(may(credentials, "shop", "b@b.example"));
    assert_false(may(credentials, "shop", "news@x.shop.example"));
    assert_false(may(credentials, "shop", "news@ashop.example"));
    assert_false(may(credentials, "shop", "\"x@shop.example\"@evil.example"));
    assert_false(may(credentials, "shop", "shop.example"));
    assert_true(may(credentials, "all", "who@ever.example"));
    assert_true(may(credentials, "sub", "who@a.example.net"));
    assert_false(may(credentials, "sub", "who@example.net"));
    assert_false(may(credentials, "sub", "who@.example.net"));
    assert_false(may(credentials, "gone", "gone@example.net"));
    assert_false(may(credentials, "gone", "gone")); /* not an address */
    credentials_give(credentials);
}

struct report {
    unsigned lines;
    char first[800];
};

static void keep_first(void *context, const char *line)
{
    struct report *report = context;
    if (report->lines++ == 0) {
        snprintf(report->first, sizeof report->first, "%s", line);
    }
}

static void test_mistakes(void **state)
{
    static const char *const cases[][2] = {
        {"nocolon", "F:1: there is no ':', expected NAME:VERIFIER"},
        {"\n\n:-", "F:3: the account's name is wrong, expected 1 to 255 octets without space, then ':'"},
        {"a b:-", "F:1: the account's name is wrong, expected 1 to 255 octets without space, then ':'"},
        {"a:-\nA:-", "F:2: account \"a\" is in line 1 too, expected it once"},
        {"a:secret", "F:1: the verifier is of an unknown kind, expected {SCRAM-SHA-256}... or -"},
        {"a:", "F:1: the verifier is of an unknown kind, expected {SCRAM-SHA-256}... or -"},
        {"a:{SCRAM-SHA-256}4095,AAAA,AAAA,AAAA", "F:1: the verifier's iterations are wrong, expected 4096 to 10000000"},
        {"a:{SCRAM-SHA-256}10000001,AAAA,AAAA,AAAA",
         "F:1: the verifier's iterations are wrong, expected 4096 to 10000000"},
        {"a:{SCRAM-SHA-256}4096,AAAA,AAAA,AAAA",
         "F:1: the verifier's salt is wrong, expected 8 to 64 octets in base64"},
        {"a:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,AAAA,AAAA",
         "F:1: the verifier's keys are wrong, expected two of 32 octets in base64"},
        {"a:" PENCIL ",AAAA", "F:1: the verifier's keys are wrong, expected two of 32 octets in base64"},
        {"a:- sender=", "F:1: sender is \"\", expected an address, @domain, @.domain or *"},
        {"a:- sender=x@", "F:1: sender is \"x@\", expected an address, @domain, @.domain or *"},
        {"a:- sender=@.", "F:1: sender is \"@.\", expected an address, @domain, @.domain or *"},
        {"a:- sender=x", "F:1: sender is \"x\", expected an address, @domain, @.domain or *"},
        {"a:- tenant=", "F:1: tenant is wrong, expected one name of 1 to 63 octets"},
        {"a:- tenant=a tenant=b", "F:1: tenant is wrong, expected one name of 1 to 63 octets"},
        {"a:- disable", "F:1: \"disable\" is not a known option, expected sender=, tenant=, certificate= or disabled"},
        {"a:- disabled=no",
         "F:1: \"disabled\" is not a known option, expected sender=, tenant=, certificate= or disabled"},
        {"a:- certificate=sha256:12",
         "F:1: certificate is \"sha256:12\", expected sha256: and 64 hexadecimal digits, or a name"},
        {"a:- certificate=x\nb:- certificate=X", "F:2: certificate is that of line 1, expected one account for each"},
        {"a:-\r\n", "F:1: the line holds an octet that is no printable UTF-8, expected none (tabs and carriage returns "
                    "neither)"},
        {"\xff:-", "F:1: the line holds an octet that is no printable UTF-8, expected none (tabs and carriage returns "
                   "neither)"},
        {"!decoy:AAAA", "F:1: !decoy is wrong, expected one, of 32 octets in base64"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct report report = {0};
        assert_null(credentials_parse(text_of(cases[i][0]), "F", keep_first, &report));
        assert_string_equal(report.first, cases[i][1]);
        assert_int_equal(report.lines, 1);
    }
}

static void test_limits(void **state)
{
    struct report report = {0};
    (void)state;
    char *line = malloc(CREDENTIALS_LINE_BYTES_MAX + 2);
    memset(line, 'a', CREDENTIALS_LINE_BYTES_MAX + 1);
    line[CREDENTIALS_LINE_BYTES_MAX + 1] = '\0';
    assert_null(credentials_parse(text_of(line), "F", keep_first, &report));
    assert_string_equal(report.first, "F:1: the line has 4097 octets, expected at most 4096");
    memcpy(line + 256, ":-", 3); /* a name of 256 */
    report.lines = 0;
    assert_null(credentials_parse(text_of(line), "F", keep_first, &report));
    assert_non_null(strstr(report.first, "the account's name is wrong"));
    struct credentials *credentials = fixture_credentials(line + 1);
    credentials_give(credentials);
    struct buffer many = buffer_of(line, CREDENTIALS_LINE_BYTES_MAX);
    assert_true(buffer_append_string(&many, "a:-"));
    for (unsigned i = 0; i <= CREDENTIALS_SENDERS_MAX; i++) {
        assert_true(buffer_append_format(&many, " sender=%u@a", i));
    }
    report.lines = 0;
    assert_null(credentials_parse(buffer_bytes(&many), "F", keep_first, &report));
    assert_string_equal(report.first, "F:1: more senders than 64, expected fewer, or @domain");
    many.length = 0;
    assert_true(buffer_append_string(&many, "a:-"));
    for (unsigned i = 0; i <= CREDENTIALS_CERTIFICATES_MAX; i++) {
        assert_true(buffer_append_format(&many, " certificate=%u", i));
    }
    report.lines = 0;
    assert_null(credentials_parse(buffer_bytes(&many), "F", keep_first, &report));
    assert_string_equal(report.first, "F:1: more certificates than 16, expected fewer");
    for (size_t i = 0; i < CREDENTIALS_LINE_BYTES_MAX; i++) {
        line[i] = i % 2 == 0 ? 'x' : '\n';
    }
    report.lines = 0;
    assert_null(credentials_parse(bytes_of(line, CREDENTIALS_LINE_BYTES_MAX), "F", keep_first, &report));
    assert_int_equal(report.lines, CREDENTIALS_ERRORS_MAX);
    free(line);
}

/* RFC 7677 3. */
static void test_derivation_is_the_standards(void **state)
{
    char salt[18];
    char room[CREDENTIALS_VERIFIER_TEXT_BYTES];
    size_t salt_length = 0;
    struct buffer out = buffer_of(room, sizeof room);
    struct credentials_verifier verifier;
    (void)state;
    assert_true(base64_decode(BYTES("W22ZaJ0SNY7soEsUEjb6gQ=="), salt, &salt_length));
    credentials_derive(&fixture_crypto, BYTES("pencil"), bytes_of(salt, salt_length), 4096, &verifier);
    assert_true(credentials_append_verifier(&out, &verifier));
    assert_bytes_equal(buffer_bytes(&out), PENCIL);
    uint8_t signature[SASL_DIGEST_BYTES];
    crypto_hmac_sha256(bytes_of(verifier.server_key, SASL_DIGEST_BYTES),
                       BYTES("n=user,r=rOprNGfwEbeRWgbNEkqO,"
                             "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
                             "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
                       signature);
    out.length = 0;
    assert_true(base64_encode(&out, bytes_of(signature, sizeof signature)));
    assert_bytes_equal(buffer_bytes(&out), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_true(credentials_verify(&fixture_crypto, &verifier, BYTES("pencil")));
    assert_false(credentials_verify(&fixture_crypto, &verifier, BYTES("pencil ")));
    assert_false(credentials_verify(&fixture_crypto, &verifier, BYTES("")));
    struct buffer narrow = buffer_of(room, strlen(PENCIL) - 1);
    assert_false(credentials_append_verifier(&narrow, &verifier));
    assert_int_equal(narrow.length, 0);
}

static void test_decoys_look_like_most_accounts(void **state)
{
    (void)state;
    const char *text = "a:{SCRAM-SHA-256}5000,MTIzNDU2Nzg5MDEy,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
                       "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"
                       "b:{SCRAM-SHA-256}5000,MTIzNDU2Nzg5MDEz,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
                       "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"
                       "c:" PENCIL "\nd:-\ne:-\nf:-\n";
    struct credentials_verifier one, again, other;
    uint8_t secret[SASL_DIGEST_BYTES] = {0};
    struct credentials *credentials = fixture_credentials(text);
    credentials_decoy(credentials, &fixture_crypto, secret, BYTES("Nobody"), &one);
    credentials_decoy(credentials, &fixture_crypto, secret, BYTES("nobody"), &again);
    credentials_decoy(credentials, &fixture_crypto, secret, BYTES("nobodz"), &other);
    assert_int_equal(one.iterations, 5000);
    assert_int_equal(one.salt_length, 12);
    assert_memory_equal(one.salt, again.salt, sizeof one.salt);
    assert_memory_equal(one.stored_key, again.stored_key, SASL_DIGEST_BYTES);
    assert_memory_equal(one.server_key, again.server_key, SASL_DIGEST_BYTES);
    assert_memory_not_equal(one.salt, other.salt, 12);
    secret[0] = 1;
    credentials_decoy(credentials, &fixture_crypto, secret, BYTES("nobody"), &again);
    assert_memory_not_equal(one.salt, again.salt, 12);
    credentials_give(credentials);
    /* With a key in the file the salts outlive the process. */
    credentials = fixture_credentials("!decoy:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    credentials_decoy(credentials, &fixture_crypto, secret, BYTES("nobody"), &again);
    assert_memory_equal(one.salt, again.salt, 12);
    assert_int_equal(again.iterations, CREDENTIALS_ITERATIONS_DEFAULT);
    assert_int_equal(again.salt_length, CREDENTIALS_SALT_BYTES_DEFAULT);
    credentials_give(credentials);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accounts),
        cmocka_unit_test(test_senders),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_derivation_is_the_standards),
        cmocka_unit_test(test_decoys_look_like_most_accounts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
