#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_comparing(void **state)
{
    (void)state;
    assert_true(bytes_equal(BYTES("a\0b"), bytes_of("a\0b", 3)));
    assert_false(bytes_equal(BYTES("a\0b"), BYTES("a\0c")));
    assert_false(bytes_equal(BYTES("ab"), BYTES("abc")));
    assert_true(bytes_equal(BYTES(""), bytes_of(NULL, 0)));
    assert_true(bytes_equal_nocase(BYTES("MAIL from:<A@[z`{>"), BYTES("mail FROM:<a@[Z`{>")));
    assert_false(bytes_equal_nocase(BYTES("@"), BYTES("`"))); /* differ in the case bit, but are no letters */
    assert_false(bytes_equal_nocase(BYTES("["), BYTES("{")));
    assert_false(bytes_equal_nocase(BYTES("\xc4"), BYTES("\xe4"))); /* ASCII only */
    assert_false(bytes_equal_nocase(BYTES("a"), BYTES("ab")));
}

static void test_cutting(void **state)
{
    (void)state;
    struct bytes span = BYTES("HELO host");
    assert_true(bytes_equal(bytes_slice(span, 5, 4), BYTES("host")));
    assert_true(bytes_equal(bytes_slice(span, 9, 0), BYTES("")));
    bytes_advance(&span, 5);
    assert_true(bytes_equal(span, BYTES("host")));
    bytes_advance(&span, 4);
    assert_int_equal(span.length, 0);
    struct bytes nothing = bytes_of(NULL, 0);
    bytes_advance(&nothing, 0);
    assert_null(bytes_slice(nothing, 0, 0).data);
}

static void test_appending_is_all_or_nothing(void **state)
{
    (void)state;
    char data[10];
    struct buffer b = buffer_of(data, sizeof data);
    assert_true(buffer_append(&b, BYTES("12345")));
    assert_false(buffer_append(&b, BYTES("678901")));
    assert_false(buffer_append_string(&b, "678901"));
    assert_false(buffer_append_number(&b, 678901));
    assert_false(buffer_append_format(&b, "%s", "678901"));
    assert_true(bytes_equal(buffer_bytes(&b), BYTES("12345")));
    assert_true(buffer_append(&b, BYTES("67890")));
    assert_int_equal(buffer_room(&b), 0);
    assert_true(buffer_append(&b, BYTES("")));
    assert_false(buffer_append_number(&b, 0));
    assert_true(bytes_equal(buffer_bytes(&b), BYTES("1234567890")));
}

static void test_appending_fills_the_last_byte(void **state)
{
    (void)state;
    char data[5] = "....#";
    struct buffer b = buffer_of(data, 4);
    assert_true(buffer_append_format(&b, "%d", 1234)); /* no room for a NUL, and none needed */
    assert_true(bytes_equal(buffer_bytes(&b), BYTES("1234")));
    assert_int_equal(data[4], '#');
}

static void test_appending_formats_of_any_length(void **state)
{
    (void)state;
    char data[600];
    for (int length = 250; length < 520; length++) {
        struct buffer b = buffer_of(data, sizeof data);
        assert_true(buffer_append_format(&b, "<%0*d>", length, 7));
        assert_int_equal(b.length, length + 2);
        assert_int_equal(data[0], '<');
        assert_int_equal(data[length], '7');
        assert_int_equal(data[length + 1], '>');
    }
}

static void test_numbers(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {0, 7, 10, 99, 100, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char data[20];
        uint64_t parsed = 1;
        struct buffer b = buffer_of(data, sizeof data);
        assert_true(buffer_append_number(&b, numbers[i]));
        assert_true(bytes_parse_number(buffer_bytes(&b), &parsed));
        assert_true(parsed == numbers[i]);
    }
}

static void test_what_is_no_number(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "1a",
                                        "/",
                                        ":",
                                        "0x1",
                                        "18446744073709551616",
                                        "99999999999999999999",
                                        "100000000000000000000"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint64_t number = 77;
        assert_false(bytes_parse_number(bytes_of_string(wrong[i]), &number));
        assert_int_equal(number, 77);
    }
    uint64_t number = 0;
    assert_true(bytes_parse_number(BYTES("0018446744073709551615"), &number));
    assert_true(number == UINT64_MAX);
    assert_false(bytes_parse_number(BYTES("1\0"), &number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comparing),
        cmocka_unit_test(test_cutting),
        cmocka_unit_test(test_appending_is_all_or_nothing),
        cmocka_unit_test(test_appending_fills_the_last_byte),
        cmocka_unit_test(test_appending_formats_of_any_length),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_what_is_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
