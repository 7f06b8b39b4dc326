#include "smtp/classify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

#define BLOCKS 5

static void assert_masks(const struct classify *classify, const uint8_t *octets)
{
    struct classify_masks masks[BLOCKS];
    classify->masks((const char *)octets, BLOCKS, masks);
    for (size_t i = 0; i < BLOCKS * CLASSIFY_BLOCK_BYTES; i++) {
        const struct classify_masks *m = &masks[i / CLASSIFY_BLOCK_BYTES];
        unsigned bit = (unsigned)(i % CLASSIFY_BLOCK_BYTES);
        assert_int_equal(m->cr >> bit & 1, octets[i] == '\r');
        assert_int_equal(m->lf >> bit & 1, octets[i] == '\n');
        assert_int_equal(m->dot >> bit & 1, octets[i] == '.');
        assert_int_equal(m->nul >> bit & 1, octets[i] == 0);
        assert_int_equal(m->high >> bit & 1, octets[i] >= 128);
    }
}

/* Whether octet i, after `before`, is one of plain text. */
static bool plain(uint8_t before, const uint8_t *octets, size_t i)
{
    bool may_end = i % CLASSIFY_BLOCK_BYTES == CLASSIFY_BLOCK_BYTES - 1 || octets[i + 1] == '\r';
    return octets[i] != 0 && (octets[i] == '\n') == (before == '\r') &&
           !(before == '\n' && octets[i] == '.' && may_end);
}

/* The definition, octet by octet; what the others must say where it stopped. */
static size_t skim(const uint8_t *octets, struct classify_skim *skim)
{
    for (size_t b = 0; b < BLOCKS; b++) {
        struct classify_skim next = *skim;
        for (size_t i = b * CLASSIFY_BLOCK_BYTES; i < (b + 1) * CLASSIFY_BLOCK_BYTES; i++) {
            uint8_t before = next.after_cr ? '\r' : next.at_line_start ? '\n' : 'x';
            if (!plain(before, octets, i)) {
                return b;
            }
            bool stuffed = next.at_line_start && octets[i] == '.';
            next.after_cr = octets[i] == '\r';
            next.at_line_start = octets[i] == '\n';
            next.high |= octets[i] >= 128;
            next.stuffed += stuffed;
            uint64_t length = stuffed ? 0 : (uint64_t)((int64_t)i + 1 - next.line);
            next.longest = length > next.longest ? length : next.longest;
            next.line = next.at_line_start || stuffed ? (int64_t)i + 1 : next.line;
        }
        *skim = next;
    }
    return BLOCKS;
}

static void assert_skim(const struct classify *classify, const uint8_t *octets, struct classify_skim before)
{
    struct classify_skim expected = before, found = before;
    assert_int_equal(classify->skim((const char *)octets, BLOCKS, &found), skim(octets, &expected));
    assert_int_equal(found.line, expected.line);
    assert_int_equal(found.stuffed, expected.stuffed);
    assert_int_equal(found.after_cr, expected.after_cr);
    assert_int_equal(found.at_line_start, expected.at_line_start);
    assert_int_equal(found.high, expected.high);
    if (expected.longest > CLASSIFY_BLOCK_BYTES) {
        assert_int_equal(found.longest, expected.longest);
    } else {
        assert_true(found.longest <= CLASSIFY_BLOCK_BYTES);
    }
}

/* Lines of text, some of them stuffed, now and then with something that is not plain. */
static void fill_lines(uint8_t *octets, struct rng *rng)
{
    memset(octets, 'x', BLOCKS * CLASSIFY_BLOCK_BYTES);
    for (size_t i = (size_t)rng_below(rng, 100); i + 4 < BLOCKS * CLASSIFY_BLOCK_BYTES;
         i += 2 + (size_t)rng_below(rng, 150)) {
        memcpy(octets + i, rng_below(rng, 8) == 0 ? "\r\n.x" : "\r\nxx", 4);
    }
    if (rng_below(rng, 2) == 0) {
        static const uint8_t odd[] = {'\r', '\n', 0, '.', 0xe4};
        octets[rng_below(rng, BLOCKS * CLASSIFY_BLOCK_BYTES)] = odd[rng_below(rng, sizeof(odd))];
    }
}

static void test_skim(void **state)
{
    (void)state;
    static const struct classify_skim before[] = {
        {.stuffed = 7}, {.line = -30, .after_cr = true}, {.at_line_start = true}, {.line = -2000}};
    uint8_t space[BLOCKS * CLASSIFY_BLOCK_BYTES + 64];
    struct rng rng;
    rng_seed(&rng, 4);
    size_t wholly = 0;
    for (int round = 0; round < 20000; round++) {
        uint8_t *octets = space + round % 64;
        fill_lines(octets, &rng);
        octets[0] = before[round % 4].after_cr ? '\n' : octets[0];
        struct classify_skim end = before[round % 4];
        wholly += skim(octets, &end) == BLOCKS;
        for (const struct classify *const *classify = classify_all(); *classify != NULL; classify++) {
            assert_skim(*classify, octets, before[round % 4]);
        }
    }
    assert_in_range(wholly, 5000, 15000);
}

/* What must be seen although the other half of it is in the block before. */
static void test_skim_across_blocks(void **state)
{
    (void)state;
    static const struct {
        char last[4], first[3];
        size_t plain_blocks;
    } cases[] = {{"x\r\n", ".\r", 1}, {"x\r\n", ".x", BLOCKS}, {"x\r\n", "xx", BLOCKS}, {"xx\r", "\nx", BLOCKS},
                 {"xx\r", "xx", 1},   {"xxx", "\nx", 1},       {"xxx", ".x", BLOCKS},   {"xxx", ".\r", 1},
                 {"\r\n.", "xx", 0},  {"\r\n.", "\r\n", 0},    {"\r\nx", ".x", BLOCKS}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t octets[BLOCKS * CLASSIFY_BLOCK_BYTES];
        memset(octets, 'x', sizeof(octets));
        memcpy(octets + CLASSIFY_BLOCK_BYTES - 3, cases[i].last, 3);
        memcpy(octets + CLASSIFY_BLOCK_BYTES, cases[i].first, 2);
        struct classify_skim end = {0};
        assert_int_equal(skim(octets, &end), cases[i].plain_blocks);
        struct classify_skim before = {.at_line_start = cases[i].last[2] == '\n', .after_cr = cases[i].last[2] == '\r'};
        for (const struct classify *const *classify = classify_all(); *classify != NULL; classify++) {
            assert_skim(*classify, octets, (struct classify_skim){0});
            memcpy(octets, cases[i].first, 2); /* and in the call before */
            assert_skim(*classify, octets, before);
            memcpy(octets, "xx", 2);
        }
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
        for (const struct classify *const *classify = classify_all(); *classify != NULL; classify++) {
            assert_masks(*classify, octets);
        }
    }
}

static void test_best_is_one_of_all(void **state)
{
    (void)state;
    bool found = false;
    for (const struct classify *const *classify = classify_all(); *classify != NULL; classify++) {
        found |= *classify == classify_best();
    }
    assert_true(found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_skim),
        cmocka_unit_test(test_skim_across_blocks),
        cmocka_unit_test(test_best_is_one_of_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
