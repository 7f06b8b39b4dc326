#include "smtp/unstuff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"

/* Cut into pieces of `step` octets, through a buffer of `room`. */
static void check(struct bytes wire, struct bytes plain, size_t step, size_t room)
{
    char whole[256];
    char block[256];
    size_t length = 0;
    uint64_t dots = 0;
    struct unstuff copying = {0};
    struct unstuff counting = {0};
    for (size_t at = 0; at < wire.length; at += step) {
        struct bytes piece = bytes_slice(wire, at, wire.length - at < step ? wire.length - at : step);
        dots += unstuff_count(&counting, piece);
        while (piece.length != 0) {
            struct buffer out = buffer_of(block, room);
            size_t read = unstuff_copy(&copying, piece, &out);
            assert_in_range(read, 1, piece.length);
            bytes_advance(&piece, read);
            memcpy(whole + length, block, out.length);
            length += out.length;
        }
    }
    assert_int_equal(length, plain.length);
    assert_memory_equal(whole, plain.data, length);
    assert_int_equal(dots, wire.length - plain.length);
}

static void test_every_cut_gives_the_same(void **state)
{
    (void)state;
    static const struct {
        struct bytes wire;
        struct bytes plain;
    } cases[] = {
        {BYTES(""), BYTES("")},
        {BYTES("a.b\r\n..\r\n"), BYTES("a.b\r\n.\r\n")},
        {BYTES("..\r\n...\r\n"), BYTES(".\r\n..\r\n")},
        {BYTES("x\n.y\r.z\r\r\n..\r\n"), BYTES("x\n.y\r.z\r\r\n.\r\n")},
        {BYTES("\r\n..a\r\n\r\n..\n.\r\n"), BYTES("\r\n.a\r\n\r\n.\n.\r\n")},
        {BYTES("..\0\r\n..\xff"), BYTES(".\0\r\n.\xff")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t step = 1; step < 12; step++) {
            for (size_t room = 1; room < 12; room++) {
                check(cases[i].wire, cases[i].plain, step, room);
            }
        }
    }
}

/* Stuffed by the rule, octet for octet, it comes back. */
static void test_what_is_stuffed_comes_back(void **state)
{
    (void)state;
    static const char octets[] = "\r\n.\r\n.\r\n.ab";
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        char plain[64];
        char wire[128];
        size_t length = (size_t)rng_below(&rng, sizeof plain);
        size_t stuffed = 0;
        for (size_t i = 0; i < length; i++) {
            plain[i] = octets[rng_below(&rng, sizeof octets - 1)];
            bool begins = i == 0 || (i >= 2 && plain[i - 2] == '\r' && plain[i - 1] == '\n');
            if (begins && plain[i] == '.') {
                wire[stuffed++] = '.';
            }
            wire[stuffed++] = plain[i];
        }
        check(bytes_of(wire, stuffed), bytes_of(plain, length), 1 + (size_t)rng_below(&rng, 64),
              1 + (size_t)rng_below(&rng, 64));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut_gives_the_same),
        cmocka_unit_test(test_what_is_stuffed_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
