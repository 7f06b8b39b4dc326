#include "mail/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_bytes(struct bytes got, const char *expected)
{
    if (!bytes_equal(got, bytes_of_string(expected))) {
        fail_msg("got \"%.*s\", expected \"%s\"", (int)got.length, got.data, expected);
    }
}

#define MESSAGE                            \
    "Received: one\r\n\ttwo\r\n three\r\n" \
    "Subject:hello\r\n"                    \
    "X-Empty:\r\n"                         \
    "X-Old : obsolete\r\n"                 \
    "..Dotted: x\r\n"                      \
    "X-Bare: a\rb\nc\r\n"

static void test_fields(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *whole;
    } cases[] = {
        {"Received", " one\r\n\ttwo\r\n three", "Received: one\r\n\ttwo\r\n three\r\n"},
        {"Subject", "hello", "Subject:hello\r\n"},
        {"X-Empty", "", "X-Empty:\r\n"},
        {"X-Old", " obsolete", "X-Old : obsolete\r\n"},
        {".Dotted", " x", "..Dotted: x\r\n"},
        {"X-Bare", " a\rb\nc", "X-Bare: a\rb\nc\r\n"},
    };
    struct bytes rest = BYTES(MESSAGE "\r\nNot: a field\r\n.\r\n");
    struct header_field field;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(header_next(&rest, &field));
        assert_bytes(field.name, cases[i].name);
        assert_bytes(field.value, cases[i].value);
        assert_bytes(field.whole, cases[i].whole);
    }
    assert_false(header_next(&rest, &field));
    assert_bytes(rest, "\r\nNot: a field\r\n.\r\n");
}

/* Each of these ends the section, where it stands. */
static void test_ends(void **state)
{
    (void)state;
    static const char *const ends[] = {
        "",         "\r\n",       ".\r\n",      "no colon\r\n",     ": no name\r\n",
        "cut: off", "cut: off\r", "cut: off\n", "two words: x\r\n", " folded at first\r\n",
    };
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        char text[256];
        struct buffer message = buffer_of(text, sizeof(text));
        struct header_field field;
        assert_true(buffer_append(&message, BYTES("A: b\r\n")) && buffer_append_string(&message, ends[i]));
        /* A blank at the start of a line continues the field above it: the only end that is not one there. */
        size_t expected = ends[i][0] == ' ' ? message.length : 6;
        assert_int_equal(header_length(buffer_bytes(&message)), expected);
        assert_false(header_find(bytes_of_string(ends[i]), BYTES("x"), &field));
        assert_int_equal(header_length(bytes_of_string(ends[i])), 0);
    }
}

static void test_find(void **state)
{
    (void)state;
    struct bytes message = BYTES(MESSAGE "\r\nBody: x\r\n.\r\n");
    struct header_field field;
    assert_true(header_find(message, BYTES("sUBJECT"), &field));
    assert_bytes(field.value, "hello");
    assert_false(header_find(message, BYTES("Body"), &field));
    assert_false(header_find(message, BYTES("Subjec"), &field));
    assert_int_equal(header_length(message), sizeof(MESSAGE) - 1);
}

static void test_unfolded(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {" one\r\n\ttwo\r\n three ", "one two three"},
        {"", ""},
        {" \t ", ""},
        {"a\r\n \r\n b", "a b"},
        {"a  b", "a  b"},
        {"\r\n x", "x"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char space[64];
        struct buffer out = buffer_of(space, sizeof(space));
        assert_true(header_append_unfolded(&out, bytes_of_string(cases[i][0])));
        assert_bytes(buffer_bytes(&out), cases[i][1]);
    }
    char space[4];
    struct buffer out = buffer_of(space, sizeof(space));
    assert_true(buffer_append(&out, BYTES("x")));
    assert_false(header_append_unfolded(&out, BYTES("abcd")));
    assert_bytes(buffer_bytes(&out), "x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_unfolded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
