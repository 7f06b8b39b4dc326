#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static size_t encode(uint32_t code, size_t length, char *text)
{
    static const uint8_t firsts[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length; i-- > 1; code >>= 6) {
        text[i] = (char)(0x80 | (code & 0x3f));
    }
    text[0] = (char)(firsts[length] | code);
    return length;
}

/* Every code point in its one form, and in none of the longer ones. */
static void test_every_code(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x120000; code++) {
        size_t proper = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        bool exists = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        bool control = code < ' ' || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029;
        for (size_t length = proper; length <= 4; length++) {
            char text[4];
            uint32_t got = 0;
            size_t taken = utf8_take(bytes_of(text, encode(code, length, text)), &got);
            if (taken != (exists && length == proper ? length : 0) || (taken != 0 && got != code)) {
                fail_msg("U+%04X in %zu octets", code, length);
            }
            assert_int_equal(utf8_printable(bytes_of(text, length)), taken != 0 && !control);
            assert_int_equal(utf8_take(bytes_of(text, length - (length > 1)), &got), length == 1 ? taken : 0);
        }
    }
}

static void test_text(void **state)
{
    (void)state;
    assert_true(utf8_printable(BYTES("")));
    assert_true(utf8_printable(BYTES("a \xc3\xa9\xe4\xbe\x8b\xf0\x9f\x98\x80z")));
    assert_false(utf8_printable(BYTES("a\xc3")));
    assert_false(utf8_printable(BYTES("a\xa9")));
    assert_false(utf8_printable(BYTES("a\xff")));
    assert_false(utf8_printable(BYTES("a\0")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
