#include "core/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"

/* Stands before the library's own clock. */
static uint64_t wall_ms;

uint64_t clock_wall_ms(void)
{
    return wall_ms;
}

/* stderr is the writing end of a pipe while a line is logged. */
static int pipe_ends[2];
static int real_stderr;

static void capture(void)
{
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    real_stderr = dup(STDERR_FILENO);
    dup2(pipe_ends[1], STDERR_FILENO);
}

static const char *captured(void)
{
    static char text[8192];
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    ssize_t n = read(pipe_ends[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return text;
}

static void test_a_line(void **state)
{
    (void)state;
    unsetenv("JOURNAL_STREAM");
    wall_ms = 1769860800123;
    capture();
    errno = ENOSPC;
    log_line(LOG_INFO, "spool opened", "shard=%u segments=%u", 0u, 3u);
    assert_int_equal(errno, ENOSPC);
    assert_string_equal(captured(),
                        "time=2026-01-31T12:00:00.123Z level=info msg=\"spool opened\" shard=0 segments=3\n");
    capture();
    log_line(LOG_ERROR, "no room", NULL);
    assert_string_equal(captured(), "time=2026-01-31T12:00:00.123Z level=error msg=\"no room\"\n");
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        uint64_t ms;
        const char *text;
    } times[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {951782399999, "2000-02-28T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {951868800000, "2000-03-01T00:00:00.000Z"},
        {1735689599000, "2024-12-31T23:59:59.000Z"},
        {1735689600000, "2025-01-01T00:00:00.000Z"},
        {1893455999000, "2029-12-31T23:59:59.000Z"},
        {4107542399999, "2100-02-28T23:59:59.999Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
        {13569465600000, "2400-01-01T00:00:00.000Z"},
    };
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char expected[100];
        wall_ms = times[i].ms;
        snprintf(expected, sizeof expected, "time=%s level=info msg=\"x\"\n", times[i].text);
        capture();
        log_line(LOG_INFO, "x", NULL);
        assert_string_equal(captured(), expected);
    }
}

static void test_the_journal_gets_a_priority_and_no_time(void **state)
{
    (void)state;
    struct stat file;
    char stream[64];
    capture();
    assert_int_equal(fstat(STDERR_FILENO, &file), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)file.st_dev, (uintmax_t)file.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_line(LOG_WARNING, "slow", "ms=%d", 7);
    assert_string_equal(captured(), "<4>level=warning msg=\"slow\" ms=7\n");
    /* The variable was inherited, but stderr went elsewhere. */
    wall_ms = 0;
    setenv("JOURNAL_STREAM", "1:2", 1);
    capture();
    log_line(LOG_WARNING, "slow", NULL);
    assert_string_equal(captured(), "time=1970-01-01T00:00:00.000Z level=warning msg=\"slow\"\n");
    unsetenv("JOURNAL_STREAM");
}

static void test_levels(void **state)
{
    (void)state;
    enum log_level level = LOG_INFO;
    assert_true(log_level_parse(BYTES("debug"), &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_false(log_level_parse(BYTES("DEBUG"), &level));
    assert_false(log_level_parse(BYTES(""), &level));
    assert_int_equal(level, LOG_DEBUG);
    log_set_level(LOG_WARNING);
    assert_int_equal(log_level(), LOG_WARNING);
    capture();
    log_line(LOG_INFO, "not said", NULL);
    assert_string_equal(captured(), "");
    log_set_level(LOG_INFO);
}

static void test_a_line_stays_one_line_and_bounded(void **state)
{
    (void)state;
    static char big[20000];
    unsetenv("JOURNAL_STREAM");
    wall_ms = 0;
    capture();
    log_line(LOG_INFO, "x", "reply=%s", "a\nlevel=error\r\x7f");
    assert_string_equal(captured(), "time=1970-01-01T00:00:00.000Z level=info msg=\"x\" reply=a?level=error??\n");
    memset(big, 'b', sizeof big - 1);
    capture();
    log_line(LOG_INFO, big, "v=%s", big);
    const char *line = captured();
    size_t length = strlen(line);
    assert_in_range(length, 4000, 4096);
    assert_ptr_equal(strchr(line, '\n'), line + length - 1);
    assert_int_equal(line[length - 2], 'b');
    assert_non_null(strstr(line, "bbb\" v=bbb"));
}

static void test_quote(void **state)
{
    (void)state;
    char out[64];
    assert_string_equal(log_quote(BYTES("plain"), out, sizeof out), "\"plain\"");
    assert_string_equal(log_quote(BYTES(""), out, sizeof out), "\"\"");
    assert_string_equal(log_quote(BYTES("a\"b\\c\nd\0e\xffg\x7f"), out, sizeof out),
                        "\"a\\\"b\\\\c\\nd\\x00e\\xffg\\x7f\"");
}

/* Cut at any size: the result ends with a quote that is not escaped, and no escape is cut in two. */
static void test_quote_is_bounded(void **state)
{
    (void)state;
    struct bytes value = BYTES("\"\"ab\r\n\\\\");
    char whole[64];
    log_quote(value, whole, sizeof whole);
    for (size_t size = 3; size <= strlen(whole) + 1; size++) {
        char out[64];
        memset(out, '#', sizeof out);
        log_quote(value, out, size);
        size_t length = strlen(out);
        assert_true(length < size);
        assert_int_equal(out[length - 1], '"');
        assert_memory_equal(out, whole, length - 1);
        assert_int_equal(out[size], '#');
    }
    char again[64];
    assert_string_equal(log_quote(value, again, strlen(whole) + 1), whole);
    assert_string_equal(log_quote(BYTES("\x01"), again, 6), "\"\"");
    assert_string_equal(log_quote(BYTES("\x01"), again, 7), "\"\\x01\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_the_journal_gets_a_priority_and_no_time),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_a_line_stays_one_line_and_bounded),
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_quote_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
