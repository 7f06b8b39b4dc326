#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "dns/mx_site.h"

static char key[MX_SITE_BYTES];

static void expect(const char *a, const char *b, const char *c, const char *expected)
{
    struct bytes names[] = {bytes_of_string(a), bytes_of_string(b), bytes_of_string(c)};
    size_t length = mx_site_key(names, 3, key);
    assert_true(bytes_equal(bytes_of(key, length), bytes_of_string(expected)));
}

static void sets(void **state)
{
    (void)state;
    expect("mx2.example", "mx1.example", "mx.example", "mx.example,mx1.example,mx2.example");
    expect("mx.example", "mx2.example", "mx1.example", "mx.example,mx1.example,mx2.example");
    expect("b.example", "a.example", "b.example", "a.example,b.example");
    expect("a.example", "a.example", "a.example", "a.example");
}

/* Keys of many names of 60 bytes, whose last differs in its last digit. */
static size_t long_key(unsigned count, unsigned last, bool backwards)
{
    static char texts[20][64];
    struct bytes names[20];
    for (unsigned i = 0; i < count; i++) {
        int length = snprintf(texts[i], sizeof texts[i],
                              "%02u.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example%u", i,
                              i + 1 == count ? last : 0);
        names[backwards ? count - 1 - i : i] = bytes_of(texts[i], (size_t)length);
    }
    return mx_site_key(names, count, key);
}

static void long_sets(void **state)
{
    char first[MX_SITE_BYTES];
    (void)state;
    assert_int_equal(long_key(4, 1, false), 4 * 59 + 3);
    assert_int_equal(long_key(20, 1, false), MX_SITE_BYTES);
    memcpy(first, key, sizeof first);
    assert_int_equal(first[MX_SITE_BYTES - 17], '#');
    assert_memory_equal(first, "00.aaaa", 7);
    assert_int_equal(long_key(20, 1, true), MX_SITE_BYTES);
    assert_memory_equal(first, key, sizeof first);
    assert_int_equal(long_key(20, 2, false), MX_SITE_BYTES);
    assert_memory_not_equal(first, key, sizeof first);
    assert_memory_equal(first, key, MX_SITE_BYTES - 17);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets),
        cmocka_unit_test(long_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
