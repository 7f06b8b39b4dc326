#include "smtp/orcpt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* No octet gets a control character into what is later written as a header field, by no way of coding it. */
static void test_every_code(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 0x300; code++) {
        char space[64];
        struct buffer text = buffer_of(space, sizeof(space));
        assert_true(buffer_append_format(&text, "utf-8;a\\x{%X}b", code));
        bool good = code == ' ' || code == '+' || code == '=' || code == '\\' || code >= 0xa0;
        assert_int_equal(orcpt_valid(buffer_bytes(&text), false), good);
        if (code < 256) {
            text.length = 0;
            assert_true(buffer_append_format(&text, "rfc822;a+%02Xb", code));
            assert_int_equal(orcpt_valid(buffer_bytes(&text), true), code >= ' ' && code <= '~');
            char raw[] = "utf-8;aXb";
            raw[7] = (char)code;
            bool plain = code > ' ' && code < 0x7f && code != '+' && code != '=' && code != '\\';
            assert_int_equal(orcpt_valid(bytes_of(raw, sizeof(raw) - 1), true), plain);
        }
    }
}

static void test_lengths(void **state)
{
    (void)state;
    char text[ORCPT_BYTES_MAX + 1];
    memset(text, 'x', sizeof(text));
    memcpy(text, "rfc822;", 7);
    assert_true(orcpt_valid(bytes_of(text, ORCPT_BYTES_MAX), false));
    assert_false(orcpt_valid(bytes_of(text, ORCPT_BYTES_MAX + 1), false));
    for (size_t length = 0; length < 8; length++) {
        assert_int_equal(orcpt_valid(bytes_of(text, length), false), length == 8);
    }
    assert_true(orcpt_valid(bytes_of(text, 8), false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code),
        cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
