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

/* The dialogues have the grammar (tests/transcript/server: dsn, deliver-by, future-release, ...). Here: what is offered
 * is known and nothing else is, a wrong parameter outweighs an unknown one, and nothing is set unless all is well. */
static void test_offered(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint16_t given;
    } cases[] = {
        {" SIZE=1", PARAMS_GIVEN_SIZE},
        {" BODY=7BIT", PARAMS_GIVEN_BODY},
        {" SMTPUTF8", PARAMS_GIVEN_SMTPUTF8},
        {" RET=FULL", PARAMS_GIVEN_RET},
        {" ENVID=a", PARAMS_GIVEN_ENVID},
        {" AUTH=<>", PARAMS_GIVEN_AUTH},
        {" REQUIRETLS", PARAMS_GIVEN_REQUIRETLS},
        {" MT-PRIORITY=1", PARAMS_GIVEN_PRIORITY},
        {" HOLDFOR=1", PARAMS_GIVEN_HOLD_FOR},
        {" HOLDUNTIL=1970-01-01T00:00:00Z", PARAMS_GIVEN_HOLD_UNTIL},
        {" BY=1;N", PARAMS_GIVEN_BY},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct params_mail params;
        struct params_rules only = {.offered = cases[i].given, .hold_s_max = 10};
        struct params_rules others = {.offered = ~(uint32_t)cases[i].given, .hold_s_max = 10};
        struct bytes text = bytes_of_string(cases[i].text);
        assert_int_equal(params_parse_mail(text, &only, &params), PARAMS_OK);
        assert_int_equal(params.given, cases[i].given);
        assert_int_equal(params_parse_mail(text, &others, &params), PARAMS_UNKNOWN);
        assert_int_equal(params_parse_rcpt(text, &only, &rcpt), PARAMS_UNKNOWN);
    }
}

static void test_rcpt(void **state)
{
    (void)state;
    struct params_rules dsn = {.offered = PARAMS_GIVEN_NOTIFY | PARAMS_GIVEN_ORCPT};
    struct params_rcpt params = {.notify = 77};
    struct params_mail mail;
    assert_int_equal(params_parse_rcpt(BYTES(" NOTIFY=NEVER X"), &dsn, &params), PARAMS_UNKNOWN);
    assert_int_equal(params_parse_rcpt(BYTES(" X NOTIFY=NO"), &dsn, &params), PARAMS_SYNTAX);
    assert_int_equal(params.notify, 77);
    assert_int_equal(params_parse_rcpt(BYTES(" ORCPT=x;y NOTIFY=DELAY,SUCCESS"), &dsn, &params), PARAMS_OK);
    assert_int_equal(params.notify, PARAMS_NOTIFY_DELAY | PARAMS_NOTIFY_SUCCESS);
    assert_true(bytes_equal(params.orcpt, BYTES("x;y")));
    assert_int_equal(params_parse_mail(BYTES(" NOTIFY=NEVER"), &dsn, &mail), PARAMS_UNKNOWN);
    assert_int_equal(params_parse_rcpt(BYTES(""), &dsn, &params), PARAMS_OK);
    assert_true(params.given == 0 && params.notify == 0 && params.orcpt.length == 0);
}

static void test_too_early(void **state)
{
    (void)state;
    struct params_rules by = {.offered = PARAMS_GIVEN_BY | PARAMS_GIVEN_SIZE, .deliver_by_min = 60};
    struct params_mail params = {.by_s = 77};
    assert_int_equal(params_parse_mail(BYTES(" BY=59;R"), &by, &params), PARAMS_TOO_EARLY);
    assert_int_equal(params_parse_mail(BYTES(" BY=59;R SIZE=x"), &by, &params), PARAMS_SYNTAX);
    assert_int_equal(params.by_s, 77);
    assert_int_equal(params_parse_mail(BYTES(" BY=60;R"), &by, &params), PARAMS_OK);
    assert_int_equal(params.by_s, 60);
    assert_int_equal(params_parse_mail(BYTES(" BY=-999999999;N"), &by, &params), PARAMS_OK);
    assert_int_equal(params.by_s, -999999999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good), cmocka_unit_test(test_bad),       cmocka_unit_test(test_offered),
        cmocka_unit_test(test_rcpt), cmocka_unit_test(test_too_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
