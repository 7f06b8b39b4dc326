#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

bool buffer_append_number(struct buffer *b, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return buffer_append(b, bytes_of(digits + at, sizeof digits - at));
}

bool buffer_append_format(struct buffer *b, const char *format, ...)
{
    char small[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length > buffer_room(b)) {
        return false;
    }
    if ((size_t)length < sizeof small) {
        return buffer_append(b, bytes_of(small, (size_t)length));
    }
    va_start(arguments, format);
    char *text = NULL;
    length = vasprintf(&text, format, arguments);
    va_end(arguments);
    bool done = length >= 0 && buffer_append(b, bytes_of(text, (size_t)length));
    if (length >= 0) {
        free(text);
    }
    return done;
}

bool bytes_parse_number(struct bytes span, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (span.length == 0) {
        return false;
    }
    for (size_t i = 0; i < span.length; i++) {
        unsigned digit = (unsigned)(unsigned char)span.data[i] - '0';
        if (digit > 9 || number > (UINT64_MAX - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    *ret_number = number;
    return true;
}
