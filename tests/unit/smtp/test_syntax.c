#include "smtp/syntax.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_split(void **state)
{
    (void)state;
    static const struct {
        const char *command, *argument;
        enum syntax_verb verb;
    } cases[] = {
        {"NOOP", "", SYNTAX_NOOP},
        {"nOoP  a b \t ", "a b", SYNTAX_NOOP},
        {"MAIL FROM:<a@b>", "FROM:<a@b>", SYNTAX_MAIL},
        {"RCPT", "", SYNTAX_RCPT},
        {"", "", SYNTAX_UNKNOWN},
        {"  ", "", SYNTAX_UNKNOWN},
        {" NOOP", "NOOP", SYNTAX_UNKNOWN},
        {"NOOP\tx", "", SYNTAX_UNKNOWN},
        {"NOO", "", SYNTAX_UNKNOWN},
        {"NOOPS x", "x", SYNTAX_UNKNOWN},
        {"starttls", "", SYNTAX_STARTTLS},
        {"expn x", "x", SYNTAX_ABSENT},
        {"BDAT 5 LAST", "5 LAST", SYNTAX_BDAT},
        {"GET / HTTP/1.1", "/ HTTP/1.1", SYNTAX_HTTP},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bytes argument;
        assert_int_equal(syntax_split(bytes_of_string(cases[i].command), &argument), cases[i].verb);
        if (cases[i].verb != SYNTAX_UNKNOWN) {
            assert_true(bytes_equal(argument, bytes_of_string(cases[i].argument)));
        }
    }
}

static const struct params_rules rules = {.offered = PARAMS_GIVEN_SIZE | PARAMS_GIVEN_BODY};
static struct params_rcpt rcpt_params;

/* Everything that is not whole is refused: each prefix of a good argument. */
static void test_prefixes(void **state)
{
    (void)state;
    static const char mail[] = "FROM:<\"a b\"@[IPv6:2001:db8::1]> SIZE=1 BODY=8BITMIME";
    static const char rcpt[] = "TO:<@one,@two:Postmaster@example.net>";
    struct address path;
    struct params_mail params;
    size_t good = 0;
    for (size_t length = 0; length < sizeof(mail); length++) {
        good += syntax_mail(bytes_of(mail, length), &rules, &path, &params) == REPLY_OK;
    }
    assert_int_equal(good, 3); /* without parameters, with SIZE=1, whole */
    assert_int_equal(path.kind, ADDRESS_IPV6);
    assert_true(params.size == 1 && params.body == PARAMS_BODY_8BITMIME);
    for (size_t length = 0; length < sizeof(rcpt) - 1; length++) {
        assert_int_not_equal(syntax_rcpt(bytes_of(rcpt, length), &rules, &path, &rcpt_params), REPLY_OK);
    }
    assert_int_equal(syntax_rcpt(bytes_of(rcpt, sizeof(rcpt) - 1), &rules, &path, &rcpt_params), REPLY_OK);
    assert_true(bytes_equal(path.mailbox, BYTES("Postmaster@example.net")));
}

static void test_paths_by_direction(void **state)
{
    (void)state;
    struct address path;
    struct params_mail params;
    assert_int_equal(syntax_mail(BYTES("FROM:<>"), &rules, &path, &params), REPLY_OK);
    assert_int_equal(path.kind, ADDRESS_NULL);
    assert_int_equal(syntax_rcpt(BYTES("TO:<>"), &rules, &path, &rcpt_params), REPLY_BAD_RECIPIENT);
    assert_int_equal(syntax_rcpt(BYTES("TO:<postMASTER>"), &rules, &path, &rcpt_params), REPLY_OK);
    assert_int_equal(path.kind, ADDRESS_POSTMASTER);
    assert_int_equal(syntax_mail(BYTES("FROM:<postmaster>"), &rules, &path, &params), REPLY_BAD_SENDER);
    assert_int_equal(syntax_mail(BYTES("FROM:<\xc3\xa9@b>"), &rules, &path, &params), REPLY_NO_UTF8);
    assert_int_equal(syntax_rcpt(BYTES("TO:<b@\xc3\xa9>"), &rules, &path, &rcpt_params), REPLY_NO_UTF8);
}

static void test_bdat(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good, last;
        uint64_t bytes;
    } cases[] = {
        {"0", true, false, 0},
        {"1000", true, false, 1000},
        {"0 LAST", true, true, 0},
        {"86 last", true, true, 86},
        {"007   LAST", true, true, 7},
        {"9223372036854775807", true, false, INT64_MAX},
        {"9223372036854775808", false, false, 0},
        {"18446744073709551616", false, false, 0},
        {"99999999999999999999999999999999 LAST", false, false, 0},
        {"", false, false, 0},
        {"LAST", false, false, 0},
        {" LAST", false, false, 0},
        {"-1", false, false, 0},
        {"+1", false, false, 0},
        {"0x10", false, false, 0},
        {"1.0", false, false, 0},
        {"1 1", false, false, 0},
        {"1LAST", false, false, 0},
        {"1 LAST LAST", false, false, 0},
        {"1 LASTx", false, false, 0},
        {"1\tLAST", false, false, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t bytes = 77;
        bool last = false;
        bool good = syntax_bdat(bytes_of_string(cases[i].text), &bytes, &last);
        if (good != cases[i].good || last != cases[i].last || bytes != (good ? cases[i].bytes : 77)) {
            fail_msg("\"%s\"", cases[i].text);
        }
    }
}

static void test_helo_and_vrfy(void **state)
{
    (void)state;
    assert_int_equal(syntax_helo(BYTES("a.b")), REPLY_OK);
    assert_int_equal(syntax_helo(BYTES("[192.0.2.1]")), REPLY_OK);
    assert_int_equal(syntax_helo(BYTES("")), REPLY_BAD_ARGUMENT);
    assert_int_equal(syntax_helo(BYTES("a b")), REPLY_BAD_ARGUMENT);
    assert_int_equal(syntax_helo(BYTES("a\rb")), REPLY_BAD_ARGUMENT);
    assert_int_equal(syntax_vrfy(BYTES("a b"), false), REPLY_OK);
    assert_int_equal(syntax_vrfy(BYTES(""), false), REPLY_BAD_ARGUMENT);
    assert_int_equal(syntax_vrfy(BYTES("\x7f"), false), REPLY_BAD_ARGUMENT);
    assert_int_equal(syntax_vrfy(BYTES("\xc3\xa9"), false), REPLY_NO_UTF8);
    assert_int_equal(syntax_vrfy(BYTES("\xc3\xa9"), true), REPLY_NO_UTF8);
    assert_int_equal(syntax_vrfy(BYTES("\xc3\xa9 SMTPUTF8"), true), REPLY_OK);
    assert_int_equal(syntax_vrfy(BYTES("\xc3\xa9 SMTPUTF8"), false), REPLY_NO_UTF8);
    assert_int_equal(syntax_vrfy(BYTES("\xc3 SMTPUTF8"), true), REPLY_NO_UTF8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_paths_by_direction),
        cmocka_unit_test(test_helo_and_vrfy),
        cmocka_unit_test(test_bdat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
