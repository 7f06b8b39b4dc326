#include "mail/date.h"

#define SECONDS_PER_DAY 86400
#define EARLIEST_UNIX_S (-62167219200) /* 0000-01-01 00:00:00 */
#define LATEST_UNIX_S 253402300799     /* 9999-12-31 23:59:59 */

/* The civil date of a day number. Years are counted from March, so that the leap day is the last one of a year and the
 * months' lengths from March on follow one line: day of the year of month m = (153 m + 2) / 5. Eras are the 400-year
 * cycles of the calendar, 146097 days each. */
static void civil_from_days(int64_t days, unsigned *ret_year, unsigned *ret_month, unsigned *ret_day)
{
    int64_t from_march_0000 = days + 719468;
    int64_t era = (from_march_0000 >= 0 ? from_march_0000 : from_march_0000 - 146096) / 146097;
    int64_t day_of_era = from_march_0000 - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    *ret_day = (unsigned)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    *ret_month = (unsigned)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    *ret_year = (unsigned)(year_of_era + era * 400 + (*ret_month <= 2));
}

static char *put_digits(char *p, unsigned number, int digits)
{
    for (int i = digits - 1; i >= 0; i--, number /= 10) {
        p[i] = (char)('0' + number % 10);
    }
    return p + digits;
}

static char *put_text(char *p, const char *text, size_t length)
{
    memcpy(p, text, length);
    return p + length;
}

bool date_append(struct buffer *out, int64_t unix_s)
{
    static const char days_of_week[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    if (buffer_room(out) < DATE_BYTES) {
        return false;
    }
    if (unix_s < EARLIEST_UNIX_S) {
        unix_s = EARLIEST_UNIX_S;
    } else if (unix_s > LATEST_UNIX_S) {
        unix_s = LATEST_UNIX_S;
    }
    int64_t days = unix_s / SECONDS_PER_DAY - (unix_s % SECONDS_PER_DAY < 0);
    unsigned second = (unsigned)(unix_s - days * SECONDS_PER_DAY);
    unsigned day_of_week = (unsigned)((days % 7 + 7 + 4) % 7); /* day 0 was a Thursday */
    unsigned year, month, day;
    civil_from_days(days, &year, &month, &day);

    char *p = out->data + out->length;
    p = put_text(p, days_of_week + 3 * (size_t)day_of_week, 3);
    p = put_text(p, ", ", 2);
    p = put_digits(p, day, 2);
    p = put_text(p, " ", 1);
    p = put_text(p, months + 3 * (size_t)(month - 1), 3);
    p = put_text(p, " ", 1);
    p = put_digits(p, year, 4);
    p = put_text(p, " ", 1);
    p = put_digits(p, second / 3600, 2);
    p = put_text(p, ":", 1);
    p = put_digits(p, second / 60 % 60, 2);
    p = put_text(p, ":", 1);
    p = put_digits(p, second % 60, 2);
    p = put_text(p, " +0000", 6);
    CHECK(p == out->data + out->length + DATE_BYTES);
    out->length += DATE_BYTES;
    return true;
}
