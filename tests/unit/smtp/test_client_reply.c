#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "smtp/client_reply.h"

static struct smtp_client_reply reply;

/* Feeds all of it, `step` bytes at a time, to the end of the first reply. Returns how that ended. */
static enum smtp_client_reply_progress feed(struct bytes input, size_t step)
{
    smtp_client_reply_clear(&reply);
    for (size_t at = 0; at < input.length; at += step) {
        struct bytes piece = bytes_slice(input, at, input.length - at < step ? input.length - at : step);
        while (piece.length != 0) {
            enum smtp_client_reply_progress progress = smtp_client_reply_feed(&reply, &piece);
            if (progress == SMTP_CLIENT_REPLY_BAD || progress == SMTP_CLIENT_REPLY_LAST) {
                return progress;
            }
        }
    }
    return SMTP_CLIENT_REPLY_MORE;
}

static const struct {
    struct bytes input;
    uint16_t code; /* 0: bad, 1: incomplete */
    const char *text;
    struct smtp_client_status status;
} rows[] = {
    {BYTES("250 ok\r\n"), 250, "ok", {0}},
    {BYTES("250 ok\n"), 250, "ok", {0}},
    {BYTES("250\r\n"), 250, "", {0}},
    {BYTES("250 \r\n"), 250, "", {0}},
    {BYTES("599 x\r\n"), 599, "x", {0}},
    {BYTES("250-a\r\n250 b\r\n"), 250, "a b", {0}},
    {BYTES("250-a\r\n250-\r\n250\r\n"), 250, "a", {0}},
    {BYTES("250-a\n250-b\r\n550 c\n"), 550, "a b c", {0}},
    {BYTES("250 a\rb\r\r\n"), 250, "a?b?", {0}},
    {BYTES("250 a\0b\x1b[m\x7f\xc3\xa9\tz\r\n"),
     250,
     "a?b?[m???"
     "?z",
     {0}},
    {BYTES("550 5.1.1 no\r\n"), 550, "5.1.1 no", {5, 1, 1}},
    {BYTES("550 5.1.1\r\n"), 550, "5.1.1", {5, 1, 1}},
    {BYTES("550 5.123.456 no\r\n"), 550, "5.123.456 no", {5, 123, 456}},
    {BYTES("550-5.1.1 no\r\n550 such\r\n"), 550, "5.1.1 no such", {5, 1, 1}},
    {BYTES("550-5.1.1 no\r\n550-4.2.2 x\r\n550 5.7.1 y\r\n"), 550, "5.1.1 no 4.2.2 x 5.7.1 y", {5, 7, 1}},
    {BYTES("250-2.1.1 no\r\n550 such\r\n"), 550, "2.1.1 no such", {0}},
    {BYTES("550 4.1.1 no\r\n"), 550, "4.1.1 no", {0}},
    {BYTES("550 5.1234.1 no\r\n"), 550, "5.1234.1 no", {0}},
    {BYTES("550 5.1.1x no\r\n"), 550, "5.1.1x no", {0}},
    {BYTES("550 5.1. no\r\n"), 550, "5.1. no", {0}},
    {BYTES("550 5..1 no\r\n"), 550, "5..1 no", {0}},
    {BYTES("550 x5.1.1 no\r\n"), 550, "x5.1.1 no", {0}},
    {BYTES("550 5.1.1-no\r\n"), 550, "5.1.1-no", {0}},
    {BYTES("\r\n"), 0, "", {0}},
    {BYTES("\n"), 0, "", {0}},
    {BYTES("25\r\n"), 0, "", {0}},
    {BYTES("2x0 a\r\n"), 0, "", {0}},
    {BYTES("25x a\r\n"), 0, "", {0}},
    {BYTES("150 a\r\n"), 0, "", {0}},
    {BYTES("650 a\r\n"), 0, "", {0}},
    {BYTES(" 250 a\r\n"), 0, "", {0}},
    {BYTES("250a\r\n"), 0, "", {0}},
    {BYTES("2500 a\r\n"), 0, "", {0}},
    {BYTES("250\ta\r\n"), 0, "", {0}},
    {BYTES("25\0 a\r\n"), 0, "", {0}},
    {BYTES("250-a\r\nb\r\n"), 0, "", {0}},
    {BYTES("250-a\r\n\r\n"), 0, "", {0}},
    {BYTES("250 a"), 1, "", {0}},
    {BYTES("250 a\r"), 1, "", {0}},
    {BYTES("250-a\r\n"), 1, "", {0}},
    {BYTES("250-a\r\n250 "), 1, "", {0}},
};

static void replies_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t step = 1; step <= rows[i].input.length; step++) {
            enum smtp_client_reply_progress progress = feed(rows[i].input, step);
            if (rows[i].code < 2) {
                assert_int_equal(progress, rows[i].code == 0 ? SMTP_CLIENT_REPLY_BAD : SMTP_CLIENT_REPLY_MORE);
                continue;
            }
            assert_int_equal(progress, SMTP_CLIENT_REPLY_LAST);
            assert_int_equal(reply.code, rows[i].code);
            assert_int_equal(reply.status.class, rows[i].status.class);
            assert_int_equal(reply.status.subject, rows[i].status.subject);
            assert_int_equal(reply.status.detail, rows[i].status.detail);
            assert_true(bytes_equal(smtp_client_reply_text(&reply), bytes_of_string(rows[i].text)));
            assert_false(reply.truncated);
        }
    }
}

static void one_reply_at_a_time(void **state)
{
    (void)state;
    struct bytes input = BYTES("550-5.1.1 a long story\r\n550 x\r\n250\r\n");
    smtp_client_reply_clear(&reply);
    assert_int_equal(smtp_client_reply_feed(&reply, &input), SMTP_CLIENT_REPLY_LINE);
    assert_true(reply.partial);
    assert_true(bytes_equal(smtp_client_reply_line(&reply), BYTES("5.1.1 a long story")));
    assert_int_equal(smtp_client_reply_feed(&reply, &input), SMTP_CLIENT_REPLY_LAST);
    assert_true(bytes_equal(smtp_client_reply_line(&reply), BYTES("x")));
    assert_false(reply.partial);
    assert_int_equal(input.length, 5);
    assert_int_equal(smtp_client_reply_feed(&reply, &input), SMTP_CLIENT_REPLY_LAST);
    assert_int_equal(reply.code, 250);
    assert_int_equal(reply.status.class, 0);
    assert_int_equal(smtp_client_reply_text(&reply).length, 0);
    for (size_t i = 0; i < sizeof(reply.text); i++) {
        assert_int_equal(reply.text[i], 0); /* nothing of the first one is left anywhere */
    }
}

static void dropped_lines_leave_room(void **state)
{
    (void)state;
    static char line[600] = "250-";
    memset(line + 4, 'x', 590);
    smtp_client_reply_clear(&reply);
    for (int i = 0; i < 3; i++) {
        struct bytes input = bytes_of(line, 594);
        assert_int_equal(smtp_client_reply_feed(&reply, &input), SMTP_CLIENT_REPLY_MORE);
        input = BYTES("\r\n");
        assert_int_equal(smtp_client_reply_feed(&reply, &input), SMTP_CLIENT_REPLY_LINE);
        assert_true(reply.truncated);
        assert_int_equal(smtp_client_reply_line(&reply).length, LIMIT_CLIENT_REPLY_BYTES);
        smtp_client_reply_drop_line(&reply);
    }
    struct bytes input = BYTES("250 ok\r\n");
    assert_int_equal(smtp_client_reply_feed(&reply, &input), SMTP_CLIENT_REPLY_LAST);
    assert_true(bytes_equal(smtp_client_reply_text(&reply), BYTES("ok")));
    assert_false(reply.truncated);
}

static void everything_is_bounded(void **state)
{
    (void)state;
    static char input[LIMIT_CLIENT_REPLY_LINE_BYTES + 100];
    memset(input, 'x', sizeof(input));
    memcpy(input, "250 ", 4);
    memcpy(input + LIMIT_CLIENT_REPLY_LINE_BYTES - 2, "\r\n", 2);
    for (size_t step = 1; step < 6000; step = step * 7 + 1) {
        assert_int_equal(feed(bytes_of(input, LIMIT_CLIENT_REPLY_LINE_BYTES), step), SMTP_CLIENT_REPLY_LAST);
        assert_true(reply.truncated);
        assert_int_equal(smtp_client_reply_text(&reply).length, LIMIT_CLIENT_REPLY_BYTES);
    }
    memcpy(input + LIMIT_CLIENT_REPLY_LINE_BYTES - 2, "xx\r\n", 4);
    for (size_t step = 1; step < 6000; step = step * 7 + 1) {
        assert_int_equal(feed(bytes_of(input, sizeof(input)), step), SMTP_CLIENT_REPLY_BAD);
    }
    /* No end of line is needed to see that it is too long. */
    assert_int_equal(feed(bytes_of(input, LIMIT_CLIENT_REPLY_LINE_BYTES), 100), SMTP_CLIENT_REPLY_BAD);

    smtp_client_reply_clear(&reply);
    for (int i = 0; i < LIMIT_CLIENT_REPLY_LINES; i++) {
        struct bytes line = BYTES("250-a\r\n");
        assert_int_equal(smtp_client_reply_feed(&reply, &line), SMTP_CLIENT_REPLY_LINE);
    }
    struct bytes line = BYTES("250 a\r\n");
    assert_int_equal(smtp_client_reply_feed(&reply, &line), SMTP_CLIENT_REPLY_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_read),
        cmocka_unit_test(one_reply_at_a_time),
        cmocka_unit_test(dropped_lines_leave_room),
        cmocka_unit_test(everything_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
