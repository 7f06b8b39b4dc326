#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

static void test_known_answers(void **state)
{
    (void)state;
    unsigned char data[32] = {0};
    assert_int_equal(crc32c(0, "", 0), 0);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283);
    /* RFC 3720 B.4 */
    assert_int_equal(crc32c(0, data, sizeof data), 0x8a9136aa);
    for (unsigned i = 0; i < sizeof data; i++) {
        data[i] = 0xff;
    }
    assert_int_equal(crc32c(0, data, sizeof data), 0x62a8ab43);
    for (unsigned i = 0; i < sizeof data; i++) {
        data[i] = (unsigned char)i;
    }
    assert_int_equal(crc32c(0, data, sizeof data), 0x46dd794e);
}

static void test_both_ways_agree_and_pieces_add_up(void **state)
{
    (void)state;
    unsigned char data[300];
    struct rng rng;
    rng_seed(&rng, 7);
    for (unsigned i = 0; i < sizeof data; i++) {
        data[i] = (unsigned char)rng_next(&rng);
    }
    for (unsigned round = 0; round < 2000; round++) {
        size_t start = rng_below(&rng, 16);
        size_t length = rng_below(&rng, sizeof data - start);
        size_t cut = rng_below(&rng, length + 1);
        uint32_t whole = crc32c(0, data + start, length);
        assert_int_equal(whole, crc32c_portable(0, data + start, length));
        assert_int_equal(whole, crc32c(crc32c(0, data + start, cut), data + start + cut, length - cut));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_both_ways_agree_and_pieces_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
