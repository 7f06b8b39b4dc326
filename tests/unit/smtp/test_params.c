#include "smtp/params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct params_rules rules = {.offered = PARAMS_GIVEN_SIZE | PARAMS_GIVEN_BODY};
static struct params_rcpt rcpt;

static void test_good(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t size;
        uint8_t body, given;
    } cases[] = {
        {"", 0, PARAMS_BODY_7BIT, 0},
        {" SIZE=0", 0, PARAMS_BODY_7BIT, PARAMS_GIVEN_SIZE},
        {" size=123", 123, PARAMS_BODY_7BIT, PARAMS_GIVEN_SIZE},
        {" SIZE=18446744073709551615", UINT64_MAX, PARAMS_BODY_7BIT, PARAMS_GIVEN_SIZE},
        {" SIZE=18446744073709551616", UINT64_MAX, PARAMS_BODY_7BIT, PARAMS_GIVEN_SIZE},
        {" SIZE=99999999999999999999", UINT64_MAX, PARAMS_BODY_7BIT, PARAMS_GIVEN_SIZE},
        {" SIZE=00000000000000000001", 1, PARAMS_BODY_7BIT, PARAMS_GIVEN_SIZE},
        {" BODY=7BIT", 0, PARAMS_BODY_7BIT, PARAMS_GIVEN_BODY},
        {" body=8bitmime  SIZE=1", 1, PARAMS_BODY_8BITMIME, PARAMS_GIVEN_BODY | PARAMS_GIVEN_SIZE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct params_mail params;
        assert_int_equal(params_parse_mail(bytes_of_string(cases[i].text), &rules, &params), PARAMS_OK);
        assert_true(params.size == cases[i].size);
        assert_int_equal(params.body, cases[i].body);
        assert_int_equal(params.given, cases[i].given);
    }
    assert_int_equal(params_parse_rcpt(BYTES(""), &rules, &rcpt), PARAMS_OK);
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum params_error error;
    } cases[] = {
        {"SIZE=1", PARAMS_SYNTAX},
        {" ", PARAMS_SYNTAX},
        {" SIZE", PARAMS_SYNTAX},
        {" SIZE=", PARAMS_SYNTAX},
        {" SIZE=1x", PARAMS_SYNTAX},
        {" SIZE=-1", PARAMS_SYNTAX},
        {" SIZE=000000000000000000000", PARAMS_SYNTAX},
        {" SIZE=1 SIZE=1", PARAMS_SYNTAX},
        {" SIZE=1 FOO SIZE=1", PARAMS_SYNTAX},
        {" BODY", PARAMS_SYNTAX},
        {" BODY=8BIT", PARAMS_SYNTAX},
        {" BODY=7BIT BODY=7BIT", PARAMS_SYNTAX},
        {" =1", PARAMS_SYNTAX},
        {" -A=1", PARAMS_SYNTAX},
        {" A_B=1", PARAMS_SYNTAX},
        {" A==1", PARAMS_SYNTAX},
        {" A=\x7f", PARAMS_SYNTAX},
        {" A=\xc3\xa9", PARAMS_SYNTAX},
        {" A=\t", PARAMS_SYNTAX},
        {" \xc3\xa9=1", PARAMS_SYNTAX},
        {" FOO", PARAMS_UNKNOWN},
        {" FOO=bar SIZE=1", PARAMS_UNKNOWN},
        {" SIZE=1 8-X=~!", PARAMS_UNKNOWN},
        {" FOO =", PARAMS_SYNTAX},
        {" SIZES=1", PARAMS_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct params_mail params = {.size = 77};
        if (params_parse_mail(bytes_of_string(cases[i].text), &rules, &params) != cases[i].error || params.size != 77) {
            fail_msg("\"%s\"", cases[i].text);
        }
    }
    assert_int_equal(params_parse_rcpt(BYTES(" SIZE=1"), &rules, &rcpt), PARAMS_UNKNOWN);
    assert_int_equal(params_parse_rcpt(BYTES(" NOTIFY=NEVER X"), &rules, &rcpt), PARAMS_UNKNOWN);
    assert_int_equal(params_parse_rcpt(BYTES("x"), &rules, &rcpt), PARAMS_SYNTAX);
    assert_int_equal(params_parse_rcpt(BYTES(" X ="), &rules, &rcpt), PARAMS_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
