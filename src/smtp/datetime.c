#include "smtp/datetime.h"

#define DAY_S 86400u
#define LAST_S 253402300799u /* 9999-12-31T23:59:59Z */
#define SHAPE "dddd-dd-ddTdd:dd:dd"
#define SHAPE_BYTES (sizeof(SHAPE) - 1)

/* Days from 1970-01-01 to the first of March of a year: years begin in March here, so that a leap day is their last. */
static uint32_t days_to_march(uint32_t year)
{
    return 365 * year + year / 4 - year / 100 + year / 400 - 719468;
}

static uint32_t days_before_month(uint32_t month_from_march)
{
    return (153 * month_from_march + 2) / 5;
}

static uint32_t days_of(uint32_t year, uint32_t month, uint32_t day)
{
    return month > 2 ? days_to_march(year) + days_before_month(month - 3) + day - 1
                     : days_to_march(year - 1) + days_before_month(month + 9) + day - 1;
}

struct date {
    uint32_t year, month, day;
};

static struct date date_of(uint32_t days)
{
    uint32_t year = days / 366 + 1969;
    while (days_to_march(year + 1) <= days) {
        year++;
    }
    uint32_t rest = days - days_to_march(year);
    uint32_t month = (5 * rest + 2) / 153;
    return (struct date){.year = year + (month >= 10),
                         .month = month < 10 ? month + 3 : month - 9,
                         .day = rest - days_before_month(month) + 1};
}

static bool has_shape(struct bytes text)
{
    for (size_t i = 0; i < SHAPE_BYTES; i++) {
        char c = text.data[i];
        if (SHAPE[i] == 'd' ? c < '0' || c > '9' : bytes_ascii_lower(c) != bytes_ascii_lower(SHAPE[i])) {
            return false;
        }
    }
    return true;
}

/* "Z", or a fraction and "Z". */
static bool is_tail(struct bytes text)
{
    if (text.length == 0 || bytes_ascii_lower(text.data[text.length - 1]) != 'z') {
        return false;
    }
    for (size_t i = 1; i + 1 < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
    }
    return text.length == 1 || (text.data[0] == '.' && text.length > 2);
}

static uint32_t number_at(struct bytes text, size_t at, size_t digits)
{
    uint32_t number = 0;
    for (size_t i = at; i < at + digits; i++) {
        number = number * 10 + (uint32_t)(text.data[i] - '0');
    }
    return number;
}

bool datetime_parse(struct bytes text, uint64_t *ret_s)
{
    if (text.length <= SHAPE_BYTES || !has_shape(text) ||
        !is_tail(bytes_slice(text, SHAPE_BYTES, text.length - SHAPE_BYTES))) {
        return false;
    }
    uint32_t year = number_at(text, 0, 4), month = number_at(text, 5, 2), day = number_at(text, 8, 2);
    uint32_t hour = number_at(text, 11, 2), minute = number_at(text, 14, 2), second = number_at(text, 17, 2);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    uint32_t days = days_of(year, month, day);
    struct date again = date_of(days);
    if (again.month != month || again.day != day) {
        return false;
    }
    *ret_s = (uint64_t)days * DAY_S + hour * 3600 + minute * 60 + second;
    return true;
}

static bool append_padded(struct buffer *out, uint32_t number, uint32_t least_of_width, char after)
{
    for (uint32_t bound = least_of_width; number < bound && bound > 1; bound /= 10) {
        if (!buffer_append(out, BYTES("0"))) {
            return false;
        }
    }
    return buffer_append_number(out, number) && buffer_append(out, bytes_of(&after, 1));
}

bool datetime_append(struct buffer *out, uint64_t s)
{
    size_t start = out->length;
    s = s > LAST_S ? LAST_S : s;
    uint32_t second = (uint32_t)(s % DAY_S);
    struct date date = date_of((uint32_t)(s / DAY_S));
    if (append_padded(out, date.year, 1000, '-') && append_padded(out, date.month, 10, '-') &&
        append_padded(out, date.day, 10, 'T') && append_padded(out, second / 3600, 10, ':') &&
        append_padded(out, second / 60 % 60, 10, ':') && append_padded(out, second % 60, 10, 'Z')) {
        return true;
    }
    out->length = start;
    return false;
}
