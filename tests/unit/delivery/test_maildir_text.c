#include "delivery/maildir_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"

struct converted {
    char data[512];
    size_t length;
};

/* Converts in pieces of at most `piece` octets into rooms of `room`. */
static struct converted convert(struct bytes wire, bool binary, bool crlf_added, size_t piece, size_t room)
{
    struct converted result = {.length = 0};
    struct maildir_text text;
    maildir_text_init(&text, wire.length, binary, crlf_added);
    while (wire.length != 0) {
        struct bytes part = bytes_slice(wire, 0, wire.length < piece ? wire.length : piece);
        bytes_advance(&wire, part.length);
        while (part.length != 0) {
            struct buffer out = buffer_of(result.data + result.length, room);
            maildir_text_convert(&text, &part, &out);
            result.length += out.length;
            assert_true(result.length < sizeof result.data - room);
        }
    }
    assert_int_equal(text.left, 0);
    return result;
}

static void assert_converts(struct bytes wire, bool binary, bool crlf_added, struct bytes expected)
{
    for (size_t piece = 1; piece <= wire.length; piece++) {
        for (size_t room = 2; room <= 20; room += 3) {
            struct converted got = convert(wire, binary, crlf_added, piece, room);
            assert_int_equal(got.length, expected.length);
            assert_memory_equal(got.data, expected.data, expected.length);
        }
    }
}

static void test_text(void **state)
{
    (void)state;
    assert_converts(BYTES(".\r\n"), false, false, BYTES(""));
    assert_converts(BYTES("a\r\n.\r\n"), false, false, BYTES("a\n"));
    assert_converts(BYTES("..\r\n...\r\n..a\r\na.\r\n\r\n.\r\n"), false, false, BYTES(".\n..\n.a\na.\n\n"));
    assert_converts(BYTES("a\rb\r\r\nc\nd\r\n.\r\n"), false, false, BYTES("a\rb\r\nc\nd\n"));
}

static void test_binary(void **state)
{
    (void)state;
    assert_converts(BYTES("a\r\n..\r\nb\0c\r\n.\r\n"), true, false, BYTES("a\r\n.\r\nb\0c\r\n"));
    assert_converts(BYTES("a\r\n..\r\nb\0c\r\n.\r\n"), true, true, BYTES("a\r\n.\r\nb\0c"));
    assert_converts(BYTES("a\r\r\n\n..\r\n.\r\n"), true, true, BYTES("a\r\r\n\n.."));
}

/* Stuffed as a sender does it, and taken apart again. */
static void test_round_trip(void **state)
{
    struct rng rng;
    (void)state;
    rng_seed(&rng, 11);
    for (unsigned round = 0; round < 3000; round++) {
        char plain[64];
        char wire[200];
        struct buffer out = buffer_of(wire, sizeof wire);
        size_t length = rng_below(&rng, sizeof plain);
        bool start = true;
        for (size_t i = 0; i < length; i++) {
            plain[i] = ".\nab"[rng_below(&rng, 4)];
        }
        plain[length++] = '\n';
        for (size_t i = 0; i < length; i++) {
            if (start && plain[i] == '.') {
                buffer_append(&out, BYTES("."));
            }
            start = plain[i] == '\n';
            buffer_append(&out, start ? BYTES("\r\n") : bytes_of(&plain[i], 1));
        }
        buffer_append(&out, BYTES(".\r\n"));
        struct converted got = convert(buffer_bytes(&out), false, false, 1 + rng_below(&rng, 60),
                                       2 + rng_below(&rng, 30));
        assert_int_equal(got.length, length);
        assert_memory_equal(got.data, plain, length);
    }
}

static void test_head(void **state)
{
    char room[128];
    struct buffer out = buffer_of(room, sizeof room);
    (void)state;
    assert_true(maildir_text_head(BYTES("a\r\nb@c"), BYTES("anna@own.test"), &out));
    assert_true(maildir_text_prologue(BYTES("Received: x\r\n\ty\r\n"), &out));
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("Return-Path: <a??b@c>\nDelivered-To: anna@own.test\n"
                                                      "Received: x\n\ty\n")));
    out = buffer_of(room, 20);
    assert_false(maildir_text_head(BYTES("aaaaaaaaaaa@c"), BYTES("anna@own.test"), &out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
