#include "mail/local_part.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_folded(const char *local, const char *expected)
{
    char room[64];
    struct bytes folded = local_part_fold(bytes_of_string(local), room);
    assert_int_equal(folded.length, strlen(expected));
    assert_memory_equal(folded.data, expected, folded.length);
}

static void test_fold(void **state)
{
    (void)state;
    assert_folded("Anna.Smith", "anna.smith");
    assert_folded("\"Anna Smith\"", "anna smith");
    assert_folded("\"a\\\"b\\\\c\\d\"", "a\"b\\cd");
    assert_folded("\"\"", "");
    assert_folded("\"", "\"");
    assert_folded("\xc3\x84nne", "\xc3\x84nne"); /* only ASCII has a case here */
}

static void assert_base(const char *folded, char separator, const char *expected)
{
    struct bytes base = local_part_base(bytes_of_string(folded), separator);
    assert_int_equal(base.length, strlen(expected));
}

static void test_base(void **state)
{
    (void)state;
    assert_base("anna+lists", '+', "anna");
    assert_base("anna+a+b", '+', "anna");
    assert_base("anna", '+', "anna");
    assert_base("anna+lists", '\0', "anna+lists");
    assert_base("+lists", '+', "+lists");
    assert_base("+a+b", '+', "+a");
    assert_base("", '+', "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fold), cmocka_unit_test(test_base)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
