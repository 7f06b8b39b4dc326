#include "smtp/classify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

#define BLOCKS 5

static void assert_masks(classify_function *classify, const uint8_t *octets)
{
    struct classify_masks masks[BLOCKS];
    classify((const char *)octets, BLOCKS, masks);
    for (size_t i = 0; i < BLOCKS * CLASSIFY_BLOCK_BYTES; i++) {
        const struct classify_masks *m = &masks[i / CLASSIFY_BLOCK_BYTES];
        unsigned bit = (unsigned)(i % CLASSIFY_BLOCK_BYTES);
        assert_int_equal(m->cr >> bit & 1, octets[i] == '\r');
        assert_int_equal(m->lf >> bit & 1, octets[i] == '\n');
        assert_int_equal(m->nul >> bit & 1, octets[i] == 0);
        assert_int_equal(m->high >> bit & 1, octets[i] >= 128);
    }
}

/* Each against the plain definition, at every alignment, with neighbours that make a careless trick carry over. */
static void test_all(void **state)
{
    (void)state;
    static const uint8_t likely[] = {'\r', '\n', 0, 1, 0x7f, 0x80, 0x81, 0xff, '\r' ^ 0x80, '\n' ^ 0x80, 'x', '.'};
    uint8_t space[BLOCKS * CLASSIFY_BLOCK_BYTES + 64];
    struct rng rng;
    rng_seed(&rng, 3);
    for (int round = 0; round < 2000; round++) {
        uint8_t *octets = space + round % 64;
        for (size_t i = 0; i < BLOCKS * CLASSIFY_BLOCK_BYTES; i++) {
            octets[i] = round % 2 ? (uint8_t)rng_next(&rng) : likely[rng_below(&rng, sizeof(likely))];
        }
        for (classify_function *const *classify = classify_all(); *classify != NULL; classify++) {
            assert_masks(*classify, octets);
        }
    }
}

static void test_best_is_one_of_all(void **state)
{
    (void)state;
    bool found = false, portable = false;
    for (classify_function *const *classify = classify_all(); *classify != NULL; classify++) {
        found |= *classify == classify_best();
        portable |= *classify == classify_portable;
    }
    assert_true(found && portable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_best_is_one_of_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
