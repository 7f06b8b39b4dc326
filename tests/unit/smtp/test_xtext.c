#include "smtp/xtext.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Every octet there and back, and into what a command line and a spool record can hold (CVE-2020-28026). */
static void test_every_octet(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        char octet = (char)c, coded[3], again[3];
        struct buffer out = buffer_of(coded, sizeof(coded)), decoded = buffer_of(again, sizeof(again));
        assert_true(xtext_encode(&out, bytes_of(&octet, 1)));
        for (size_t i = 0; i < out.length; i++) {
            assert_true(coded[i] > ' ' && coded[i] <= '~' && coded[i] != '=');
        }
        assert_true(xtext_valid(buffer_bytes(&out)) && xtext_decode(&decoded, buffer_bytes(&out)));
        assert_true(decoded.length == 1 && again[0] == octet);
        assert_int_equal(xtext_printable(buffer_bytes(&out), false), c >= ' ' && c <= '~');
        assert_int_equal(xtext_printable(buffer_bytes(&out), true), c >= ' ' && c != 0x7f);
        bool plain = c > ' ' && c <= '~' && c != '+' && c != '=';
        assert_int_equal(xtext_valid(bytes_of(&octet, 1)), plain);
        assert_int_equal(out.length, plain ? 1 : 3);
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const char *const cases[] = {"+",   "+4",   "a+",  "a+4", "+4g",  "+g4",
                                        "+4a", "+ 41", "a b", "a=b", "\x7f", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char space[16] = "?";
        struct buffer out = buffer_of(space, sizeof(space));
        assert_false(xtext_valid(bytes_of_string(cases[i])));
        assert_false(xtext_printable(bytes_of_string(cases[i]), true));
        assert_false(xtext_decode(&out, bytes_of_string(cases[i])));
        assert_int_equal(out.length, 0);
    }
    assert_true(xtext_valid(BYTES("")));
}

static void test_all_or_nothing(void **state)
{
    (void)state;
    char space[4];
    struct buffer out = buffer_of(space, sizeof(space));
    assert_true(xtext_encode(&out, BYTES("a")));
    assert_false(xtext_encode(&out, BYTES("b+")));
    assert_false(xtext_decode(&out, BYTES("b+41cd")));
    assert_int_equal(out.length, 1);
    assert_true(xtext_decode(&out, BYTES("b+41c")));
    assert_memory_equal(space, "abAc", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_octet),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
