#include "core/tls_hello.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* A message under construction. */
struct message {
    uint8_t data[70000];
    size_t length;
};

static struct message body;
static struct message wire;

static void put(struct message *message, const void *data, size_t length)
{
    memcpy(message->data + message->length, data, length);
    message->length += length;
}

static void put_number(struct message *message, size_t value, unsigned bytes)
{
    while (bytes-- != 0) {
        uint8_t octet = (uint8_t)(value >> (8 * bytes));
        put(message, &octet, 1);
    }
}

/* A ClientHello with these suites and extensions, in records of at most `piece` octets, in `wire`. */
static void make(const void *suites, size_t suites_bytes, const void *extensions, size_t extensions_bytes, size_t piece)
{
    static const uint8_t random[32];
    body.length = 0;
    wire.length = 0;
    put_number(&body, 0x0303, 2);
    put(&body, random, sizeof random);
    put_number(&body, 0, 1);
    put_number(&body, suites_bytes, 2);
    put(&body, suites, suites_bytes);
    put(&body, "\1\0", 2);
    put_number(&body, extensions_bytes, 2);
    put(&body, extensions, extensions_bytes);
    static struct message whole;
    whole.length = 0;
    put_number(&whole, 1, 1);
    put_number(&whole, body.length, 3);
    put(&whole, body.data, body.length);
    for (size_t at = 0; at < whole.length; at += piece) {
        size_t n = whole.length - at < piece ? whole.length - at : piece;
        put_number(&wire, 0x160301, 3);
        put_number(&wire, n, 2);
        put(&wire, whole.data + at, n);
    }
}

#define LITERAL(text) text, sizeof(text) - 1

static const char suites[] = "\x13\x01\xc0\x2b\xc0\x2f";
/* Signature algorithms: ECDSA over P-256, and RSA. */
static const char signatures[] = "\0\x0d\0\x06\0\x04\x04\x03\x08\x04";
static const char tls13[] = "\0\x2b\0\x03\x02\x03\x04";

static enum tls_hello_state scan(struct tls_hello *hello)
{
    return tls_hello_scan(wire.data, wire.length, hello);
}

static void make_with(const char *extension, size_t length)
{
    make(suites, sizeof suites - 1, extension, length, 16384);
}

static void test_what_it_offers(void **state)
{
    (void)state;
    struct tls_hello hello;
    make_with(LITERAL(signatures));
    assert_int_equal(scan(&hello), TLS_HELLO_DONE);
    assert_true(hello.ecdsa_p256 && hello.rsa && !hello.ecdsa_p384 && !hello.tls13 && !hello.alpn);
    assert_false(hello.extended_master || hello.strange_name);
    make(LITERAL("\xc0\x2f"), LITERAL(signatures), 16384); /* TLS 1.2: the suite decides too */
    assert_int_equal(scan(&hello), TLS_HELLO_DONE);
    assert_true(hello.rsa && !hello.ecdsa_p256);
    make(LITERAL("\x13\x01"), LITERAL("\0\x0d\0\x04\0\x02\x05\x03\0\x2b\0\x03\x02\x03\x04\0\x17\0\0"), 16384);
    assert_int_equal(scan(&hello), TLS_HELLO_DONE);
    assert_true(hello.tls13 && hello.ecdsa_p384 && hello.extended_master && !hello.rsa);
    make(LITERAL("\xc0\x2b"), LITERAL("\0\x0d\0\x04\0\x02\x04\x03\0\x0a\0\x04\0\x02\0\x1d"), 16384);
    assert_int_equal(scan(&hello), TLS_HELLO_DONE);
    assert_false(hello.ecdsa_p256); /* not over a curve that is not in its list */
}

static void check_name(const char *name, size_t length, const char *expected, bool strange)
{
    struct tls_hello hello;
    struct message extension = {.length = 0};
    put_number(&extension, 0, 2);
    put_number(&extension, length + 5, 2);
    put_number(&extension, length + 3, 2);
    put_number(&extension, 0, 1);
    put_number(&extension, length, 2);
    put(&extension, name, length);
    make_with((char *)extension.data, extension.length);
    assert_int_equal(scan(&hello), TLS_HELLO_DONE);
    assert_string_equal(hello.server_name, expected);
    assert_int_equal(hello.strange_name, strange);
}

static void test_names(void **state)
{
    char long_name[257];
    (void)state;
    check_name(LITERAL("MX.Example.org"), "mx.example.org", false);
    check_name(LITERAL(""), "", true);
    check_name(LITERAL("a\0b"), "", true);
    check_name(LITERAL("a\\b"), "", true);
    check_name(LITERAL("a b"), "", true);
    check_name(LITERAL(".a"), "", true);
    check_name(LITERAL("\xff\xfe"), "", true);
    check_name(LITERAL("a\"b\n"), "", true);
    memset(long_name, 'a', sizeof long_name);
    long_name[255] = '\0';
    check_name(long_name, 255, long_name, false);
    long_name[255] = 'a';
    check_name(long_name, 256, "", true);
}

static void test_protocols(void **state)
{
    (void)state;
    struct tls_hello hello;
    make_with(LITERAL("\0\x10\0\x0a\0\x08\x02h2\x04smtp"));
    assert_int_equal(scan(&hello), TLS_HELLO_DONE);
    assert_true(hello.alpn);
    make_with(LITERAL("\0\x10\0\x05\0\x03\x02h2"));
    assert_int_equal(scan(&hello), TLS_HELLO_BAD);
    assert_int_equal(hello.alert, 120);
}

/* Cut into records of any size, and however much of it is there: the same, and never a look beyond. */
static void test_pieces(void **state)
{
    (void)state;
    struct tls_hello hello;
    static const size_t pieces[] = {2, 3, 4, 5, 37, 1000};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        make(suites, sizeof suites - 1, LITERAL(tls13), pieces[i]);
        for (size_t n = 1; n < wire.length; n++) {
            assert_int_equal(tls_hello_scan(wire.data, n, &hello), TLS_HELLO_MORE);
            assert_in_range(hello.need, n + 1, wire.length);
        }
        assert_int_equal(scan(&hello), TLS_HELLO_DONE);
        assert_true(hello.tls13);
    }
    make(suites, sizeof suites - 1, LITERAL(tls13), 1);
    assert_int_equal(scan(&hello), TLS_HELLO_DONE); /* 58 octets */
    make(suites, sizeof suites - 1, LITERAL("\0\x2b\0\x03\x02\x03\x04\0\x17\0\0\0\x16\0\0"), 1);
    assert_int_equal(scan(&hello), TLS_HELLO_BAD);
    assert_string_equal(hello.problem, "ClientHello in too many records");
}

static void expect_bad(const void *data, size_t length, const char *problem)
{
    struct tls_hello hello;
    assert_int_equal(tls_hello_scan(data, length, &hello), TLS_HELLO_BAD);
    assert_string_equal(hello.problem, problem);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    expect_bad(LITERAL("Q"), "no TLS");
    expect_bad(LITERAL("\x16\x02"), "no TLS");
    expect_bad(LITERAL("\x80\x2e\x01"), "SSL 2 instead of TLS");
    expect_bad(LITERAL("\x15\x03\x01\0\x02"), "alert instead of ClientHello");
    expect_bad(LITERAL("\x17\x03\x03\0\x02"), "other record instead of ClientHello");
    expect_bad(LITERAL("\x16\x03\x01\0\0"), "bad record length");
    expect_bad(LITERAL("\x16\x03\x01\x40\x01"), "bad record length");
    expect_bad(LITERAL("\x16\x03\x01\0\x04\x02"), "other message instead of ClientHello");
    expect_bad(LITERAL("\x16\x03\x01\0\x04\x01\x00\x40\x01"), "ClientHello too long");
    expect_bad(LITERAL("\x16\x03\x01\0\x04\x01\0\0\0"), "malformed ClientHello");
    expect_bad(LITERAL("\x16\x03\x01\0\x01\x01\x15"), "ClientHello interrupted");
    struct tls_hello hello;
    make_with(LITERAL("\0\x0d\xff\xff")); /* an extension that is longer than its list: what was there counts */
    assert_int_equal(scan(&hello), TLS_HELLO_DONE);
    static char large[16000];
    make_with(large, sizeof large);
    assert_int_equal(scan(&hello), TLS_HELLO_DONE);
    static char larger[17000];
    make_with(larger, sizeof larger);
    assert_int_equal(scan(&hello), TLS_HELLO_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_it_offers), cmocka_unit_test(test_names),           cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_pieces),         cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
