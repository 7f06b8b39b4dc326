#include "smtp/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"

static void assert_reply(const struct reply *reply, const char *expected)
{
    char space[REPLY_BYTES_MAX + 1] = {0};
    struct buffer out = buffer_of(space, REPLY_BYTES_MAX);
    assert_true(reply_append(&out, reply));
    space[out.length] = '\0';
    assert_string_equal(space, expected);
}

/* Each situation's code: a change here is seen by every client. */
static const char *const starts[REPLY_COUNT] = {
    [REPLY_OK] = "250 2.0.0 ",
    [REPLY_SENDER_OK] = "250 2.1.0 ",
    [REPLY_RECIPIENT_OK] = "250 2.1.5 ",
    [REPLY_START_DATA] = "354 ",
    [REPLY_QUEUED] = "250 2.0.0 ",
    [REPLY_HELP] = "214 2.0.0 ",
    [REPLY_VRFY] = "252 2.5.0 ",
    [REPLY_BYE] = "221 2.0.0 ",
    [REPLY_OVERLOAD] = "421 4.3.2 ",
    [REPLY_SHUTDOWN] = "421 4.3.2 ",
    [REPLY_IDLE] = "421 4.4.2 ",
    [REPLY_TOO_MANY_ERRORS] = "421 4.7.0 ",
    [REPLY_NOT_SMTP] = "421 4.7.0 ",
    [REPLY_BAD_LINE] = "500 5.5.2 ",
    [REPLY_LINE_TOO_LONG] = "500 5.5.2 ",
    [REPLY_UNKNOWN_VERB] = "500 5.5.2 ",
    [REPLY_NOT_IMPLEMENTED] = "502 5.5.1 ",
    [REPLY_BAD_ARGUMENT] = "501 5.5.4 ",
    [REPLY_BAD_SENDER] = "501 5.1.7 ",
    [REPLY_BAD_RECIPIENT] = "501 5.1.3 ",
    [REPLY_BAD_SEQUENCE] = "503 5.5.1 ",
    [REPLY_NO_RECIPIENTS] = "554 5.5.1 ",
    [REPLY_UNKNOWN_PARAMETER] = "555 5.5.4 ",
    [REPLY_NO_UTF8] = "553 5.6.7 ",
    [REPLY_TOO_MANY_RECIPIENTS] = "452 4.5.3 ",
    [REPLY_TOO_BIG] = "552 5.3.4 ",
    [REPLY_PRIORITY_LOW] = "550 5.7.15 ",
    [REPLY_PRIORITY_LOW_NOW] = "450 4.7.15 ",
    [REPLY_PRIORITY_TOO_BIG] = "552 5.7.16 ",
    [REPLY_BARE_LINE_END] = "550 5.6.11 ",
    [REPLY_BAD_CONTENT] = "554 5.6.0 ",
    [REPLY_LOOP] = "554 5.4.6 ",
    [REPLY_NO_SERVICE] = "554 5.3.2 ",
    [REPLY_RELAY_DENIED] = "550 5.7.1 ",
    [REPLY_UNKNOWN_USER] = "550 5.1.1 ",
    [REPLY_MAILBOX_FULL] = "552 5.2.2 ",
    [REPLY_MAILBOX_FULL_NOW] = "452 4.2.2 ",
    [REPLY_UNKNOWN_DOMAIN] = "550 5.1.2 ",
    [REPLY_UNKNOWN_SENDER_DOMAIN] = "550 5.1.8 ",
    [REPLY_NULL_MX_SENDER] = "550 5.7.27 ",
    [REPLY_NULL_MX_RECIPIENT] = "556 5.1.10 ",
    [REPLY_RECIPIENT_POLICY] = "550 5.5.3 ",
    [REPLY_NO_SPACE] = "452 4.3.1 ",
    [REPLY_SPOOL_ERROR] = "451 4.3.0 ",
    [REPLY_BUSY] = "451 4.7.1 ",
    [REPLY_TLS_REQUIRED] = "530 5.7.0 ",
    [REPLY_GO_AHEAD] = "220 2.0.0 ",
    [REPLY_TLS_UNAVAILABLE] = "454 4.7.0 ",
    [REPLY_TLS_PIPELINED] = "503 5.5.1 ",
    [REPLY_AUTHENTICATED] = "235 2.7.0 ",
    [REPLY_AUTH_REQUIRED] = "530 5.7.0 ",
    [REPLY_AUTH_FAILED] = "535 5.7.8 ",
    [REPLY_AUTH_UNAVAILABLE] = "454 4.7.0 ",
    [REPLY_AUTH_MECHANISM] = "504 5.5.4 ",
    [REPLY_AUTH_ABORTED] = "501 5.7.0 ",
    [REPLY_AUTH_TOO_LONG] = "500 5.5.6 ",
    [REPLY_BAD_BASE64] = "501 5.5.2 ",
    [REPLY_BAD_CHUNK] = "501 5.5.4 ",
    [REPLY_NOT_AUTHORISED] = "550 5.7.0 ",
    [REPLY_DELIVER_BY] = "555 5.5.4 ",
    [REPLY_TOO_MANY_MAILS] = "421 4.7.0 ",
};

static void test_catalogue(void **state)
{
    (void)state;
    for (int id = 0; id < REPLY_COUNT; id++) {
        char space[REPLY_BYTES_MAX];
        struct buffer out = buffer_of(space, sizeof(space));
        assert_true(reply_append(&out, reply_of((enum reply_id)id)));
        assert_non_null(starts[id]);
        size_t length = strlen(starts[id]);
        assert_true(out.length > length + 2 && out.length <= LIMIT_REPLY_LINE_BYTES);
        assert_int_equal(memcmp(space, starts[id], length), 0);
        assert_memory_equal(space + out.length - 2, "\r\n", 2);
        assert_null(memchr(space, '?', out.length)); /* no text of ours needs to be mended */
    }
}

static void test_lines(void **state)
{
    (void)state;
    struct reply reply = {.code = 550, .enhanced = {5, 7, 1}, .text = BYTES("one\ntwo\nthree")};
    assert_reply(&reply, "550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n");
    reply.text = BYTES("");
    assert_reply(&reply, "550 5.7.1 \r\n");
    reply = (struct reply){.code = 220, .text = BYTES("host\n")};
    assert_reply(&reply, "220-host\r\n220 \r\n");
}

static void test_only_printable_ascii(void **state)
{
    (void)state;
    struct reply reply = {.code = 451, .enhanced = {4, 3, 0}, .text = BYTES("a\rb\0c\x7f\xc3\xa9 \t~")};
    assert_reply(&reply, "451 4.3.0 a?b?c??? ?~\r\n");
}

static void test_long_text(void **state)
{
    (void)state;
    char text[5000], space[REPLY_BYTES_MAX];
    memset(text, 'x', sizeof(text));
    struct reply reply = {.code = 451, .enhanced = {4, 3, 0}, .text = bytes_of(text, sizeof(text))};
    struct buffer out = buffer_of(space, sizeof(space));
    assert_true(reply_append(&out, &reply));
    assert_int_equal(out.length, LIMIT_REPLY_LINE_BYTES);

    for (size_t every = 1; every < 1500; every += 7) { /* lines of many lengths */
        for (size_t i = 0; i < sizeof(text); i++) {
            text[i] = i % every == every - 1 ? '\n' : 'x';
        }
        out.length = 0;
        assert_true(reply_append(&out, &reply));
        size_t line = 0, ends = 0;
        for (size_t i = 0; i < out.length; i++) {
            line++;
            assert_true(line <= LIMIT_REPLY_LINE_BYTES);
            if (line == 4) {
                ends += space[i] == ' ';
            }
            line = space[i] == '\n' ? 0 : line;
        }
        assert_int_equal(line, 0);
        assert_int_equal(ends, 1); /* exactly one last line */
    }
}

static void test_all_or_nothing(void **state)
{
    (void)state;
    char space[REPLY_BYTES_MAX];
    struct reply reply = {.code = 550, .enhanced = {5, 7, 1}, .text = BYTES("one\ntwo")};
    struct buffer whole = buffer_of(space, sizeof(space));
    assert_true(reply_append(&whole, &reply));
    for (size_t room = 0; room < whole.length; room++) {
        struct buffer out = buffer_of(space, room);
        assert_false(reply_append(&out, &reply));
        assert_int_equal(out.length, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_catalogue),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_only_printable_ascii),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
