#include "core/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <wolfssl/options.h>

#include <wolfssl/version.h>

/* What runs is what was compiled against: a stale or a second copy of the library would differ in structure sizes. */
static void test_version_is_the_one_compiled_against(void **state)
{
    (void)state;
    assert_string_equal(tls_library_version(), LIBWOLFSSL_VERSION_STRING);
}

static void test_initialises_more_than_once(void **state)
{
    (void)state;
    assert_int_equal(tls_library_init(), 0);
    assert_int_equal(tls_library_init(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_is_the_one_compiled_against),
        cmocka_unit_test(test_initialises_more_than_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
