/* A line is put together on the stack and leaves in one write(2), so lines of different threads never mix and nothing
 * is buffered when the process dies. Control characters that slip into a line are replaced: one event, one line.
 *
 * Under systemd the journal stamps the time itself and takes the priority from a leading "<6>"; stderr is the journal
 * when its device and inode are those in JOURNAL_STREAM. Everywhere else the line begins with time=, in UTC.
 */
#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"

#define LINE_BYTES 4096 /* a longer line is cut */

static _Atomic int threshold = LOG_INFO;

static const struct {
    const char *name;
    char priority; /* syslog's, RFC 5424 6.2.1 */
} levels[] = {
    [LOG_ERROR] = {"error", '3'},
    [LOG_WARNING] = {"warning", '4'},
    [LOG_INFO] = {"info", '6'},
    [LOG_DEBUG] = {"debug", '7'},
};

void log_set_level(enum log_level level)
{
    CHECK(level >= LOG_ERROR && level <= LOG_DEBUG);
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

enum log_level log_level(void)
{
    return (enum log_level)atomic_load_explicit(&threshold, memory_order_relaxed);
}

bool log_level_parse(struct bytes name, enum log_level *ret_level)
{
    for (enum log_level level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        if (bytes_equal(name, bytes_of_string(levels[level].name))) {
            *ret_level = level;
            return true;
        }
    }
    return false;
}

static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat file;
    char expected[64];
    if (!stream || fstat(STDERR_FILENO, &file) != 0) {
        return false;
    }
    snprintf(expected, sizeof expected, "%ju:%ju", (uintmax_t)file.st_dev, (uintmax_t)file.st_ino);
    return bytes_equal(bytes_of_string(stream), bytes_of_string(expected));
}

/* RFC 3339. The calendar is counted in years that begin in March, so that the leap day is the last of its year, and in
 * eras of 400 years, which all have 146097 days. */
static void append_time(struct buffer *line, uint64_t wall_ms)
{
    uint64_t days = wall_ms / 86400000 + 719468; /* since 0000-03-01 */
    uint64_t era = days / 146097;
    unsigned day_of_era = (unsigned)(days % 146097);
    unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month = (5 * day_of_year + 2) / 153; /* 0 is March */
    unsigned day = day_of_year - (153 * month + 2) / 5 + 1;
    month = month < 10 ? month + 3 : month - 9;
    unsigned year = year_of_era + (unsigned)era * 400 + (month <= 2);
    unsigned ms = (unsigned)(wall_ms % 86400000);
    buffer_append_format(line, "time=%04u-%02u-%02uT%02u:%02u:%02u.%03uZ ", year, month, day, ms / 3600000,
                         ms / 60000 % 60, ms / 1000 % 60, ms % 1000);
}

static void append_fields(struct buffer *line, const char *format, va_list arguments)
{
    size_t room = buffer_room(line);
    int length = vsnprintf(line->data + line->length, room, format, arguments);
    if (length > 0) {
        line->length += (size_t)length < room ? (size_t)length : room - 1; /* cut, and ended by a NUL */
    }
}

void log_line(enum log_level level, const char *message, const char *format, ...)
{
    CHECK(level >= LOG_ERROR && level <= LOG_DEBUG);
    if (level > log_level()) {
        return;
    }
    int saved_errno = errno;
    char data[LINE_BYTES];
    struct buffer line = buffer_of(data, sizeof data - 1);
    if (stderr_is_journal()) {
        buffer_append_format(&line, "<%c>", levels[level].priority);
    } else {
        append_time(&line, clock_wall_ms());
    }
    buffer_append_format(&line, "level=%s msg=\"%.1000s\"", levels[level].name, message);
    if (format) {
        va_list arguments;
        buffer_append(&line, BYTES(" "));
        va_start(arguments, format);
        append_fields(&line, format, arguments);
        va_end(arguments);
    }
    for (size_t i = 0; i < line.length; i++) {
        if ((unsigned char)data[i] < ' ' || data[i] == 0x7f) {
            data[i] = '?';
        }
    }
    data[line.length++] = '\n';
    if (write(STDERR_FILENO, data, line.length) < 0) {
        /* Nowhere left to say it. */
    }
    errno = saved_errno;
}

const char *log_quote(struct bytes value, char *out, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    CHECK(size >= 3);
    size_t at = 0;
    out[at++] = '"';
    for (size_t i = 0; i < value.length; i++) {
        char c = value.data[i];
        char escape[4] = {'\\', c};
        size_t length = 2;
        if (c == '\n') {
            escape[1] = 'n';
        } else if ((unsigned char)c < ' ' || (unsigned char)c >= 0x7f) {
            escape[1] = 'x';
            escape[2] = hex[(unsigned char)c >> 4];
            escape[3] = hex[c & 15];
            length = 4;
        } else if (c != '"' && c != '\\') {
            escape[0] = c;
            length = 1;
        }
        if (length > size - at - 2) {
            break;
        }
        memcpy(out + at, escape, length);
        at += length;
    }
    out[at++] = '"';
    out[at] = '\0';
    return out;
}
