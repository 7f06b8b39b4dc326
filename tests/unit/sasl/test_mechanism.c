#include "sasl/mechanism.h"

#include "unit/sasl/sasl_fixture.h"

static void test_names(void **state)
{
    (void)state;
    for (enum mechanism mechanism = 0; mechanism < MECHANISMS; mechanism++) {
        assert_int_equal(mechanism_find(text_of(mechanism_name(mechanism))), mechanism);
    }
    assert_int_equal(mechanism_find(BYTES("scram-sha-256-plus")), MECHANISM_SCRAM_SHA_256_PLUS);
    assert_int_equal(mechanism_find(BYTES("SCRAM-SHA-1")), MECHANISMS);
    assert_int_equal(mechanism_find(BYTES("")), MECHANISMS);
    assert_int_equal(mechanism_find(BYTES("PLAIN\0")), MECHANISMS);
}

static void test_list(void **state)
{
    char room[MECHANISM_LIST_BYTES];
    struct buffer out = buffer_of(room, sizeof room);
    (void)state;
    assert_true(mechanism_append_list(&out, MECHANISM_BIT(MECHANISM_LOGIN) | MECHANISM_BIT(MECHANISM_PLAIN)));
    assert_bytes_equal(buffer_bytes(&out), "PLAIN LOGIN");
    out.length = 0;
    assert_true(mechanism_append_list(&out, 0));
    assert_int_equal(out.length, 0);
    assert_true(mechanism_append_list(&out, MECHANISM_ALL));
    struct buffer narrow = buffer_of(room, out.length - 1);
    assert_false(mechanism_append_list(&narrow, MECHANISM_ALL));
    assert_int_equal(narrow.length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
