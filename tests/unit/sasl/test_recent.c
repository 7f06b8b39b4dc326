#include "sasl/recent.h"

#include "unit/sasl/sasl_fixture.h"

static void make_key(uint8_t key[SASL_DIGEST_BYTES], uint32_t place, uint8_t last)
{
    memset(key, 7, SASL_DIGEST_BYTES);
    memcpy(key, &place, sizeof place);
    key[SASL_DIGEST_BYTES - 1] = last;
}

static void test_found_until_its_time(void **state)
{
    struct recent_entry entries[16] = {0};
    struct recent recent = {.entries = entries, .count = 16};
    uint8_t key[SASL_DIGEST_BYTES], other[SASL_DIGEST_BYTES];
    (void)state;
    make_key(key, 5, 1);
    make_key(other, 5, 2);
    assert_false(recent_find(&recent, &fixture_crypto, key, 0));
    recent_add(&recent, key, 1000);
    assert_true(recent_find(&recent, &fixture_crypto, key, 999));
    assert_false(recent_find(&recent, &fixture_crypto, other, 999));
    assert_false(recent_find(&recent, &fixture_crypto, key, 1000));
}

static void test_the_oldest_goes(void **state)
{
    struct recent_entry entries[16] = {0};
    struct recent recent = {.entries = entries, .count = 16};
    uint8_t key[SASL_DIGEST_BYTES];
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        make_key(key, 5, (uint8_t)i);
        recent_add(&recent, key, 1000 + i);
        recent_add(&recent, key, 1000 + i); /* again takes no second place */
        for (unsigned j = 0; j < 8 && j <= i; j++) {
            make_key(key, 5, (uint8_t)(i - j));
            assert_int_equal(recent_find(&recent, &fixture_crypto, key, 1), j < RECENT_WAYS);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_until_its_time),
        cmocka_unit_test(test_the_oldest_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
