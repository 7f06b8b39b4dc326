#include "sasl/prepare.h"

#include "unit/sasl/sasl_fixture.h"

static void test_text(void **state)
{
    static const char *const good[] = {"", "a b~", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x93\xae", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {
        "\x01",     "a\nb",         "\x7f",         "\xc2\x80",         "\xc2\x9f",         "\x80", "\xc3",
        "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xff", "\xe2\x82"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(prepare_is_text(text_of(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (prepare_is_text(text_of(bad[i]))) {
            fail_msg("bad[%zu]", i);
        }
    }
    assert_false(prepare_is_text(BYTES("a\0b")));
}

static void test_ascii(void **state)
{
    (void)state;
    assert_true(prepare_is_ascii(BYTES(" ~")));
    assert_false(prepare_is_ascii(BYTES("\xc3\xa9")));
    assert_false(prepare_is_ascii(BYTES("\t")));
    assert_false(prepare_is_ascii(BYTES("\0")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_ascii),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
