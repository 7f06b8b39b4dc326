#include "mail/date.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "base/rng.h"

static void assert_date(int64_t unix_s, const char *expected)
{
    char space[DATE_BYTES];
    struct buffer out = buffer_of(space, sizeof(space));
    assert_true(date_append(&out, unix_s));
    assert_int_equal(out.length, DATE_BYTES);
    assert_memory_equal(space, expected, DATE_BYTES);
}

static void test_known(void **state)
{
    (void)state;
    assert_date(0, "Thu, 01 Jan 1970 00:00:00 +0000");
    assert_date(-1, "Wed, 31 Dec 1969 23:59:59 +0000");
    assert_date(951782400, "Tue, 29 Feb 2000 00:00:00 +0000");
    assert_date(4107542399, "Sun, 28 Feb 2100 23:59:59 +0000");
    assert_date(4107542400, "Mon, 01 Mar 2100 00:00:00 +0000");
    assert_date(INT64_MAX, "Fri, 31 Dec 9999 23:59:59 +0000");
    assert_date(INT64_MIN, "Sat, 01 Jan 0000 00:00:00 +0000");
}

static void test_like_the_library(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    for (int i = 0; i < 100000; i++) {
        int64_t unix_s = (int64_t)rng_below(&rng, 253402300800 + 30000000000) - 30000000000;
        time_t moment = (time_t)unix_s;
        struct tm tm;
        char expected[64];
        assert_non_null(gmtime_r(&moment, &tm));
        assert_int_equal(strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S +0000", &tm), DATE_BYTES);
        assert_date(unix_s, expected);
    }
}

static void test_no_room(void **state)
{
    (void)state;
    char space[DATE_BYTES];
    struct buffer out = buffer_of(space, DATE_BYTES - 1);
    assert_false(date_append(&out, 0));
    assert_int_equal(out.length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_like_the_library),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
