#include "smtp/datetime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

/* Days of nearly all of the range, there and back, against the C library. */
static void test_there_and_back(void **state)
{
    (void)state;
    for (uint64_t s = 0; s < 253402300800; s += 86400 * 17 + 3607) {
        char space[32], text[32];
        struct buffer out = buffer_of(space, sizeof(space));
        uint64_t again;
        time_t moment = (time_t)s;
        struct tm tm;
        assert_true(datetime_append(&out, s));
        assert_int_equal(strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&moment, &tm)), out.length);
        assert_memory_equal(space, text, out.length);
        assert_true(datetime_parse(buffer_bytes(&out), &again));
        assert_true(again == s);
    }
}

static void test_edges(void **state)
{
    (void)state;
    uint64_t s;
    char space[20];
    struct buffer out = buffer_of(space, sizeof(space));
    assert_true(datetime_append(&out, UINT64_MAX));
    assert_memory_equal(space, "9999-12-31T23:59:59Z", 20);
    out.length = 1;
    assert_false(datetime_append(&out, 0));
    assert_int_equal(out.length, 1);
    assert_true(datetime_parse(BYTES("2000-02-29T00:00:00Z"), &s) && s == 951782400);
    assert_true(datetime_parse(BYTES("2000-02-29t00:00:00.123z"), &s) && s == 951782400);
    static const char *const bad[] = {"",
                                      "Z",
                                      "2100-02-29T00:00:00Z",
                                      "2001-02-29T00:00:00Z",
                                      "2000-01-00T00:00:00Z",
                                      "2000-01-32T00:00:00Z",
                                      "2000-1-01T00:00:00Z",
                                      "2000-01-01 00:00:00Z",
                                      "2000-01-01T00:00:00",
                                      "2000-01-01T00:00:00.Z",
                                      "2000-01-01T00:00:00,1Z",
                                      "2000-01-01T00:00:00-00:00",
                                      "1969-12-31T23:59:59Z",
                                      "2000-01-01T00:00:00ZZ",
                                      "+200-01-01T00:00:00Z",
                                      "2000-01-01T00:00:00.1xZ"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (datetime_parse(bytes_of_string(bad[i]), &s)) {
            fail_msg("\"%s\"", bad[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
