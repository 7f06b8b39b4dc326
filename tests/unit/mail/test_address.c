#include "mail/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct bytes text(const char *string)
{
    return bytes_of_string(string);
}

static void assert_bytes(struct bytes got, const char *expected)
{
    if (!bytes_equal(got, bytes_of_string(expected))) {
        fail_msg("got \"%.*s\", expected \"%s\"", (int)got.length, got.data, expected);
    }
}

static void test_valid(void **state)
{
    (void)state;
    static const struct {
        const char *mailbox, *local, *domain;
        enum address_kind kind;
    } cases[] = {
        {"a@b", "a", "b", ADDRESS_DOMAIN},
        {"a.b+c@d-e.example", "a.b+c", "d-e.example", ADDRESS_DOMAIN},
        {"\"a@b c\\\"\"@d", "\"a@b c\\\"\"", "d", ADDRESS_DOMAIN},
        {"\"\"@d", "\"\"", "d", ADDRESS_DOMAIN},
        {"!#$%&'*+-/=?^_`{|}~@1.2", "!#$%&'*+-/=?^_`{|}~", "1.2", ADDRESS_DOMAIN},
        {"a@xn--caf-dma.example", "a", "xn--caf-dma.example", ADDRESS_DOMAIN},
        {"a@[192.0.2.1]", "a", "[192.0.2.1]", ADDRESS_IPV4},
        {"a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]", ADDRESS_IPV6},
        {"a@[ipV6:::ffff:192.0.2.1]", "a", "[ipV6:::ffff:192.0.2.1]", ADDRESS_IPV6},
        {"a@[x-400:c=de;o=x]", "a", "[x-400:c=de;o=x]", ADDRESS_TAGGED},
        {"PostMaster", "PostMaster", "", ADDRESS_POSTMASTER},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address address;
        assert_int_equal(address_parse(text(cases[i].mailbox), &address), ADDRESS_OK);
        assert_bytes(address.mailbox, cases[i].mailbox);
        assert_bytes(address_local(&address), cases[i].local);
        assert_bytes(address_domain(&address), cases[i].domain);
        assert_int_equal(address.kind, cases[i].kind);
    }
}

static void test_invalid(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "a",
        "@",
        "a@",
        "@b",
        ".a@b",
        "a.@b",
        "a..b@c",
        "a b@c",
        "a@b c",
        "a@b@c",
        "a@-b",
        "a@b-",
        "a@b-.c",
        "a@.b",
        "a@b.",
        "a@b..c",
        "a@b_c",
        "\"a@b",
        "\"a\"b@c",
        "a\"b\"@c",
        "\"a\\\"@b",
        "\"a\x01\"@b",
        "\"a\\\x01\"@b",
        "a\x7f@b",
        "a\t@b",
        "a,b@c",
        "a(b)@c",
        "a@[1.2.3]",
        "a@[1.2.3.256]",
        "a@[1.2.3.4",
        "a@1.2.3.4]",
        "a@[]",
        "a@[IPv6:1.2.3.4]",
        "a@[IPv6:]",
        "a@[IPv6:1:2:3:4:5:6:7:8:9]",
        "a@[tag:]",
        "a@[:x]",
        "a@[t-:x]",
        "a@[t_:x]",
        "a@[t:[x]",
        "a@[t:x\\y]",
        "<a@b>",
        "a@b>",
        "abuse",
        "\"postmaster\"",
        "postmaster@",
        "a@[ 1.2.3.4]",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address address;
        if (address_parse(text(cases[i]), &address) != ADDRESS_SYNTAX) {
            fail_msg("\"%s\" passed", cases[i]);
        }
    }
}

/* One octet of each value in a local part, bare and quoted, and in a domain. */
static void test_every_octet(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char bare[] = "axa@b.c", quoted[] = "\"axa\"@b", domain[] = "a@bxb.c";
        bare[1] = quoted[2] = domain[3] = (char)c;
        bool letter_digit = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool atext = letter_digit || (c != 0 && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
        bool bare_good = atext || c == '.';
        bool quoted_good = c >= 32 && c <= 126 && c != '"'; /* a backslash quotes the next octet */
        bool domain_good = letter_digit || c == '-' || c == '.';
        enum address_error bad = c > 127 ? ADDRESS_EIGHT_BIT : ADDRESS_SYNTAX;
        struct address address;
        assert_int_equal(address_parse(bytes_of(bare, 7), &address), bare_good ? ADDRESS_OK : bad);
        assert_int_equal(address_parse(bytes_of(quoted, 7), &address), quoted_good ? ADDRESS_OK : bad);
        assert_int_equal(address_parse(bytes_of(domain, 7), &address), domain_good ? ADDRESS_OK : bad);
    }
}

static void test_path(void **state)
{
    (void)state;
    static const struct {
        const char *path, *mailbox, *rest;
    } cases[] = {
        {"<>", "", ""},
        {"<> SIZE=1", "", " SIZE=1"},
        {"<a@b>", "a@b", ""},
        {"<a@b>> x", "a@b", "> x"},
        {"<\"<>\"@b> x", "\"<>\"@b", " x"},
        {"<@one,@two.example:a@b>", "a@b", ""},
        {"<@one:postmaster>", "postmaster", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bytes rest = text(cases[i].path);
        struct address address;
        assert_int_equal(address_parse_path(&rest, false, &address), ADDRESS_OK);
        assert_bytes(address.mailbox, cases[i].mailbox);
        assert_bytes(rest, cases[i].rest);
    }
    static const char *const bad[] = {
        "",
        "a@b",
        "<",
        "<a@b",
        "<a@b x",
        " <a@b>",
        "< a@b>",
        "<a@b >",
        "<@one>",
        "<@one:>",
        "<@one:a>",
        "<@:a@b>",
        "<@one,two:a@b>",
        "<@one,:a@b>",
        "<@one,@two a@b>",
        "<@[1.2.3.4]:a@b>",
        "<:a@b>",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bytes rest = text(bad[i]);
        struct address address;
        assert_int_equal(address_parse_path(&rest, false, &address), ADDRESS_SYNTAX);
        assert_bytes(rest, bad[i]);
    }
}

static enum address_error parse_sized(size_t local, size_t domain)
{
    char mailbox[1024];
    memset(mailbox, 'a', local);
    mailbox[local] = '@';
    for (size_t i = 0; i < domain; i++) {
        mailbox[local + 1 + i] = i % 2 ? '.' : 'b';
    }
    if (domain % 2 == 0) {
        mailbox[local + domain] = 'b';
    }
    struct address address;
    return address_parse(bytes_of(mailbox, local + 1 + domain), &address);
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(parse_sized(64, 189), ADDRESS_OK); /* 254 and the brackets are 256 */
    assert_int_equal(parse_sized(64, 190), ADDRESS_TOO_LONG);
    assert_int_equal(parse_sized(65, 10), ADDRESS_TOO_LONG);
    assert_int_equal(parse_sized(1, 252), ADDRESS_OK);
    assert_int_equal(parse_sized(1, 256), ADDRESS_TOO_LONG);
    assert_int_equal(parse_sized(700, 20), ADDRESS_TOO_LONG);
    char name[256];
    for (size_t i = 0; i < sizeof(name); i++) {
        name[i] = i % 2 ? '.' : 'a';
    }
    assert_true(address_is_domain(bytes_of(name, 255)));
    name[254] = 'b';
    name[255] = 'c';
    assert_false(address_is_domain(bytes_of(name, 256)));
    memset(name, 'a', sizeof(name));
    assert_true(address_is_domain(bytes_of(name, 63)));
    assert_false(address_is_domain(bytes_of(name, 64)));
}

static void test_literal(void **state)
{
    (void)state;
    enum address_kind kind = ADDRESS_NULL;
    assert_true(address_is_literal(BYTES("[192.0.2.1]"), &kind));
    assert_int_equal(kind, ADDRESS_IPV4);
    assert_true(address_is_literal(BYTES("[IPv6:::1]"), &kind));
    assert_int_equal(kind, ADDRESS_IPV6);
    assert_false(address_is_literal(BYTES("192.0.2.1"), &kind));
    assert_false(address_is_literal(BYTES("[192.0.2.1] "), &kind));
    assert_false(address_is_literal(BYTES("[192.0.2.1\0]"), &kind));
    assert_false(address_is_literal(BYTES("[IPv6:::1%eth0]"), &kind));
    assert_int_equal(kind, ADDRESS_IPV6); /* untouched by failure */
}

static void test_folded(void **state)
{
    (void)state;
    char space[32];
    struct buffer out = buffer_of(space, sizeof(space));
    struct address address;
    assert_int_equal(address_parse(BYTES("MiXed@Example.ORG"), &address), ADDRESS_OK);
    assert_true(address_append_folded(&out, &address));
    assert_bytes(buffer_bytes(&out), "MiXed@example.org");
    assert_false(address_append_folded(&out, &address));
    assert_bytes(buffer_bytes(&out), "MiXed@example.org");
}

/* RFC 6531 3.3. */
static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good, utf8;
    } cases[] = {
        {"a@b", true, false},
        {"d\xc3\xb6rte@example.org", true, true},
        {"a@s\xc3\xb6rensen.example", true, true},
        {"\xe7\x94\xa8\xe6\x88\xb7@\xe4\xbe\x8b\xe5\xad\x90.\xe5\xb9\xbf\xe5\x91\x8a", true, true},
        {"\xf0\x9f\x98\x80.\xf0\x9f\x98\x80@example.org", true, true},
        {"\"\xc3\xa9 \xc3\xa9\"@example.org", true, true},
        {"\"\\\xc3\xa9\"@example.org", false, false}, /* quoted-pairSMTP is ASCII */
        {"\xc3@example.org", false, false},
        {"\xa9@example.org", false, false},
        {"\xc0\xaf@example.org", false, false},
        {"\xed\xa0\x80@example.org", false, false},
        {"\xff@example.org", false, false},
        {"\xc2\x80@example.org", false, false}, /* a control */
        {"a@\xc3\xa9.", false, false},
        {"a@.\xc3\xa9", false, false},
        {"a@\xc3\xa9-", false, false},
        {"a@a\xe3\x80\x82"
         "b",
         false, false}, /* a dot, for IDNA */
        {"a@[\xc3\xa9]", false, false},
        {"\xc3\xa9", false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address address = {0};
        enum address_error error = address_parse_mailbox(text(cases[i].text), true, &address);
        if ((error == ADDRESS_OK) != cases[i].good || address.utf8 != cases[i].utf8) {
            fail_msg("%s: %d", cases[i].text, error);
        }
        error = address_parse(text(cases[i].text), &address);
        assert_true((error == ADDRESS_OK) == (cases[i].good && !cases[i].utf8));
        assert_true(error != ADDRESS_OK || !address.utf8);
    }
}

/* What is read over and forgotten is not read in a script that nothing says it may be in. */
static void test_utf8_source_route(void **state)
{
    (void)state;
    struct address address;
    struct bytes path = BYTES("<@one,@two:\xc3\xa9@b>"), route = BYTES("<@\xc3\xa9:a@b>");
    assert_int_equal(address_parse_path(&path, true, &address), ADDRESS_OK);
    assert_int_equal(address_parse_path(&route, true, &address), ADDRESS_SYNTAX);
    assert_int_equal(address_parse_path(&route, false, &address), ADDRESS_EIGHT_BIT);
}

static void test_utf8_lengths(void **state)
{
    (void)state;
    char mailbox[400];
    for (size_t pairs = 30; pairs < 35; pairs++) {
        for (size_t i = 0; i < pairs; i++) {
            memcpy(mailbox + 2 * i, "\xc3\xa9", 2);
        }
        memcpy(mailbox + 2 * pairs, "@b", 2);
        struct address address;
        enum address_error error = address_parse_mailbox(bytes_of(mailbox, 2 * pairs + 2), true, &address);
        assert_int_equal(error, pairs <= 32 ? ADDRESS_OK : ADDRESS_TOO_LONG); /* octets count, not characters */
    }
    for (size_t label = 62; label < 66; label++) { /* an ASCII label stays what it is */
        struct address address;
        memset(mailbox, 'a', sizeof(mailbox));
        mailbox[1] = '@';
        enum address_error error = address_parse_mailbox(bytes_of(mailbox, 2 + label), true, &address);
        assert_int_equal(error, label <= 63 ? ADDRESS_OK : ADDRESS_SYNTAX);
        memcpy(mailbox + 2, "\xc3\xa9", 2);
        assert_int_equal(address_parse_mailbox(bytes_of(mailbox, 2 + label), true, &address), ADDRESS_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),        cmocka_unit_test(test_invalid), cmocka_unit_test(test_every_octet),
        cmocka_unit_test(test_path),         cmocka_unit_test(test_limits),  cmocka_unit_test(test_literal),
        cmocka_unit_test(test_folded),       cmocka_unit_test(test_utf8),    cmocka_unit_test(test_utf8_source_route),
        cmocka_unit_test(test_utf8_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
