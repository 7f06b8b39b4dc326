#include "smtp/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

static void test_cases(void **state)
{
    (void)state;
    static const struct {
        const char *stash, *input;
        enum line_result result;
        size_t taken;
    } cases[] = {
        {"", "NOOP\r\n", LINE_COMPLETE, 6},
        {"", "NOOP\r\nQUIT\r\n", LINE_COMPLETE, 6},
        {"NO", "OP\r\nx", LINE_COMPLETE, 4},
        {"NOOP\r", "\nx", LINE_COMPLETE, 1},
        {"", "\r\n", LINE_COMPLETE, 2},
        {"", "NOOP", LINE_PARTIAL, 4},
        {"", "NOOP\r", LINE_PARTIAL, 5},
        {"", "NOOP\n", LINE_BAD, 0},
        {"NOOP", "\n", LINE_BAD, 0},
        {"NOOP\r", "x", LINE_BAD, 0},
        {"NOOP\r", "\r\n", LINE_BAD, 0},
        {"", "NO\rOP\r\n", LINE_BAD, 0},
        {"", "\n\r\n", LINE_BAD, 0},
        {"", "1234567890", LINE_TOO_LONG, 0},
        {"", "12345678\r\n", LINE_COMPLETE, 10},
        {"", "123456789\r\n", LINE_TOO_LONG, 0},
        {"123456789", "\r\n", LINE_TOO_LONG, 0},
        {"12345678", "\r\n", LINE_COMPLETE, 2},
        {"12345678\r", "\n", LINE_COMPLETE, 1},
        {"12345678\r", "x", LINE_BAD, 0},
        {"1", "234567890", LINE_TOO_LONG, 0},
        {"", "123456789\n", LINE_BAD, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t taken = 0;
        enum line_result result = line_find(bytes_of_string(cases[i].stash), bytes_of_string(cases[i].input), 10,
                                            &taken);
        if (result != cases[i].result || taken != cases[i].taken) {
            fail_msg("case %zu: result %d, taken %zu", i, (int)result, taken);
        }
    }
    size_t taken;
    assert_int_equal(line_find(bytes_of(NULL, 0), BYTES("NO\0OP\r\n"), 10, &taken), LINE_BAD);
}

#define BYTES_MAX 12
#define STREAM_BYTES 200

/* What the lines of a stream are, told without states: a line goes up to the first CRLF; it is bad when a NUL, a bare
 * CR or a bare LF is seen before it is too long, too long when BYTES_MAX octets have no CRLF. Writes one letter each.
 */
static void tell(const char *stream, size_t length, char *story)
{
    size_t start = 0;
    while (start < length) {
        char letter = 0;
        size_t i = start;
        for (; i < length; i++) {
            bool crlf = stream[i] == '\n' && i > start && stream[i - 1] == '\r';
            bool after_bare_cr = i > start && stream[i - 1] == '\r' && stream[i] != '\n';
            if (letter == 0 && (stream[i] == '\0' || after_bare_cr || (stream[i] == '\n' && !crlf))) {
                letter = 'b';
            } else if (letter == 0 && !crlf && i - start + 1 == BYTES_MAX) {
                letter = 'l';
            }
            if (crlf) {
                break;
            }
        }
        if (letter == 0 && i == length) {
            break;
        }
        *story++ = letter == 0 ? 'c' : letter;
        start = i + 1;
    }
    *story = '\0';
}

static void read_in_pieces(struct rng *rng, const char *stream, size_t length, char *story)
{
    char stash[BYTES_MAX];
    size_t stashed = 0, at = 0;
    uint8_t skip = LINE_SKIP_NOTHING;
    while (at < length) {
        size_t piece = 1 + (size_t)rng_below(rng, 20);
        struct bytes input = bytes_of(stream + at, piece < length - at ? piece : length - at);
        at += input.length;
        while (input.length != 0) {
            size_t taken = 0;
            if (skip != LINE_SKIP_NOTHING) {
                line_skip_on(&skip, &input);
                continue;
            }
            enum line_result result = line_find(bytes_of(stash, stashed), input, BYTES_MAX, &taken);
            if (result == LINE_PARTIAL) {
                assert_int_equal(taken, input.length);
                memcpy(stash + stashed, input.data, taken);
                stashed += taken;
            } else {
                *story++ = result == LINE_COMPLETE ? 'c' : result == LINE_BAD ? 'b' : 'l';
                skip = (uint8_t)(result == LINE_COMPLETE ? LINE_SKIP_NOTHING
                                                         : line_skip_begin(bytes_of(stash, stashed)));
                stashed = 0;
            }
            bytes_advance(&input, taken);
        }
    }
    *story = '\0';
}

static void test_cuts_do_not_matter(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    for (int round = 0; round < 20000; round++) {
        char stream[STREAM_BYTES], expected[STREAM_BYTES + 1], got[STREAM_BYTES + 1];
        for (size_t i = 0; i < sizeof(stream); i++) {
            bool after_cr = i > 0 && stream[i - 1] == '\r';
            stream[i] = after_cr && rng_below(&rng, 8) != 0 ? '\n' : "abcdefghi\r\r\r\n"[rng_below(&rng, 13)];
            stream[i] = rng_below(&rng, 100) == 0 ? '\0' : stream[i];
        }
        tell(stream, sizeof(stream), expected);
        read_in_pieces(&rng, stream, sizeof(stream), got);
        assert_string_equal(got, expected);
    }
}

static void test_begins(void **state)
{
    (void)state;
    struct bytes line = BYTES("Bdat 5");
    for (size_t cut = 0; cut <= line.length; cut++) {
        struct bytes stash = bytes_slice(line, 0, cut), input = bytes_slice(line, cut, line.length - cut);
        assert_true(line_begins(stash, input, BYTES("BDAT")));
        assert_true(line_begins(stash, input, BYTES("BDAT 5")));
        assert_false(line_begins(stash, input, BYTES("BDAT 5 ")));
        assert_false(line_begins(stash, input, BYTES("BDAX")));
        assert_false(line_begins(stash, input, BYTES("XDAT")));
    }
    assert_false(line_begins((struct bytes){0}, BYTES("BDA"), BYTES("BDAT")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_cuts_do_not_matter),
        cmocka_unit_test(test_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
