#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dns/question.h"

static bool valid(const char *name)
{
    return question_name_valid(bytes_of_string(name));
}

static void names(void **state)
{
    (void)state;
    char label[64 + 1];
    memset(label, 'a', 64);
    label[64] = '\0';
    assert_false(valid(label));
    label[63] = '\0';
    assert_true(valid(label));
    assert_true(valid("example.org"));
    assert_true(valid("example.org."));
    assert_true(valid("_25._tcp.MX-1.example.org"));
    assert_false(valid(""));
    assert_false(valid("."));
    assert_false(valid(".example"));
    assert_false(valid("a..b"));
    assert_false(valid("a.."));
    assert_false(valid("a b"));
    assert_false(valid("m\xc3\xbcller.example"));
    assert_false(question_name_valid(bytes_of("a\0b", 3)));
    char longest[255];
    memset(longest, 'a', sizeof longest);
    for (size_t i = 63; i < sizeof longest; i += 64) {
        longest[i] = '.';
    }
    assert_true(question_name_valid(bytes_of(longest, 253)));
    assert_false(question_name_valid(bytes_of(longest, 254)));
}

static void bytes_on_the_wire(void **state)
{
    static const unsigned char expected[] =
        "\x12\x34\x01\x20\0\1\0\0\0\0\0\1" /* id, RD AD, one question, one additional */
        "\7example\3org\0\0\x0f\0\1"       /* MX IN */
        "\0\0\x29\x04\xd0\0\0\0\0\0";      /* OPT, 1232 bytes; the last byte is the NUL */
    unsigned char out[QUESTION_BYTES];
    (void)state;
    assert_int_equal(question_write(BYTES("example.org."), ANSWER_MX, 0x1234, out), sizeof expected);
    assert_memory_equal(out, expected, sizeof expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(bytes_on_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
