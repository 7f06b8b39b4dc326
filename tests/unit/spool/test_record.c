/* A spool may be read on another machine than it was written on, with other vectors: the hash of a payload is the same.
 */
#include "spool/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define XXH_INLINE_ALL
#define XXH_VECTOR 0 /* XXH_SCALAR: the definition, without any */
#include <xxhash.h>

#include "base/rng.h"

#define BYTES_MAX 70000
#define PIECES 4

static void test_hash(void **state)
{
    (void)state;
    static const size_t lengths[] = {0,   1,   3,   4,   8,    9,    16,   17,    128,      129,
                                     240, 241, 256, 257, 1024, 1025, 4096, 16384, BYTES_MAX};
    char *octets = malloc(BYTES_MAX);
    assert_non_null(octets);
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < BYTES_MAX; i++) {
        octets[i] = (char)rng_next(&rng);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint64_t expected = XXH3_64bits(octets, lengths[i]);
        struct iovec whole = {.iov_base = octets, .iov_len = lengths[i]};
        assert_int_equal(record_hash(&whole, 1), expected);
        struct iovec pieces[PIECES];
        size_t at = 0;
        for (unsigned p = 0; p < PIECES; p++) {
            size_t length = p == PIECES - 1 ? lengths[i] - at : (size_t)rng_below(&rng, lengths[i] - at + 1);
            pieces[p] = (struct iovec){.iov_base = octets + at, .iov_len = length};
            at += length;
        }
        assert_int_equal(record_hash(pieces, PIECES), expected);
    }
    free(octets);
}

/* From the specification of XXH3: what is on disks was written with this one. */
static void test_known(void **state)
{
    (void)state;
    char octet = 0;
    struct iovec empty = {.iov_base = &octet, .iov_len = 0};
    assert_int_equal(record_hash(&empty, 1), 0x2d06800538d394c2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
