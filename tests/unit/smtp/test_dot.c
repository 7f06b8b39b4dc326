#include "smtp/dot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"

#define TEXT(literal)                  \
    {                                  \
        (literal), sizeof(literal) - 1 \
    }

#define LINE_BYTES_MAX 40
#define LONGER_BYTES_MAX 100 /* than a block: plain text is skimmed */
#define STREAM_BYTES_MAX 3000

struct facts {
    size_t bytes; /* 0 = no end */
    uint64_t stuffed;
    uint32_t received;
    uint8_t seen;
};

static bool crlf_at(const char *text, size_t i)
{
    return text[i] == '\r' && text[i + 1] == '\n';
}

static void tell_line(const char *line, size_t length, size_t bytes_max, bool *in_header, struct facts *facts)
{
    bool stuffed = line[0] == '.';
    facts->stuffed += stuffed;
    line += stuffed;
    length -= stuffed;
    facts->seen |= length > bytes_max ? DOT_LONG_LINE : 0;
    *in_header = *in_header && length != 2;
    facts->received += *in_header && length >= 9 && bytes_equal_nocase(bytes_of(line, 9), BYTES("received:"));
}

/* The definition, told line by line over the whole message, without any state that a cut could disturb. */
static struct facts tell(const char *text, size_t length, size_t line_bytes_max)
{
    struct facts facts = {0};
    bool in_header = true;
    size_t line = 0;
    for (size_t i = 0; i + 1 < length; i++) {
        if (crlf_at(text, i)) {
            if (i == line + 1 && text[line] == '.') {
                facts.bytes = i + 2;
                break;
            }
            tell_line(text + line, i + 2 - line, line_bytes_max, &in_header, &facts);
            line = i + 2;
        }
    }
    for (size_t i = 0; i < facts.bytes; i++) {
        facts.seen |= text[i] == '\0' ? DOT_NUL : 0;
        facts.seen |= (uint8_t)text[i] > 127 ? DOT_EIGHT_BIT : 0;
        facts.seen |= text[i] == '\r' && text[i + 1] != '\n' ? DOT_BARE_CR : 0;
        facts.seen |= text[i] == '\n' && (i == 0 || text[i - 1] != '\r') ? DOT_BARE_LF : 0;
    }
    return facts;
}

/* Scans in pieces of up to piece_max octets (SIZE_MAX: all at once), each in a heap block of its own size. */
static void assert_scan_with(uint32_t line_bytes_max, const char *text, size_t length, size_t piece_max,
                             struct rng *rng)
{
    struct facts expected = tell(text, length, line_bytes_max);
    struct dot dot;
    dot_init(&dot, line_bytes_max);
    size_t at = 0;
    while (at < length && !dot.ended) {
        size_t piece = piece_max <= 1 || piece_max == SIZE_MAX ? piece_max : 1 + (size_t)rng_below(rng, piece_max);
        piece = piece < length - at ? piece : length - at;
        char *block = malloc(piece);
        memcpy(block, text + at, piece);
        size_t taken = dot_scan(&dot, bytes_of(block, piece));
        free(block);
        assert_true(dot.ended ? taken <= piece : taken == piece);
        at += taken;
        assert_int_equal(dot.bytes, at);
    }
    assert_int_equal(dot.ended, expected.bytes != 0);
    if (dot.ended) {
        assert_int_equal(dot.bytes, expected.bytes);
        assert_int_equal(dot.stuffed, expected.stuffed);
        assert_int_equal(dot.received, expected.received);
        assert_int_equal(dot.seen, expected.seen);
        assert_int_equal(dot_message_bytes(&dot), expected.bytes - expected.stuffed - 3);
    }
}

static void assert_scan(const char *text, size_t length, size_t piece_max, struct rng *rng)
{
    assert_scan_with(LINE_BYTES_MAX, text, length, piece_max, rng);
    assert_scan_with(LONGER_BYTES_MAX, text, length, piece_max, rng);
}

/* Mostly well formed, with every sort of accident at a rate that leaves some messages clean. */
static size_t make_stream(struct rng *rng, char *stream)
{
    static const struct bytes tokens[] = {
        TEXT("\r\n"),           TEXT("\r\n"),
        TEXT("\r\n."),          TEXT("\r\n.."),
        TEXT("text"),           TEXT("."),
        TEXT("\r\nReceived:"),  TEXT("receiveD: x"),
        TEXT("\r\n\r\n"),       TEXT("a long run of text that fills a whole line and more"),
        TEXT("\r\n.Received:"), TEXT("x"),
    };
    static const struct bytes accidents[] = {TEXT("\r"),   TEXT("\n"),      TEXT("\0"),
                                             TEXT("\xff"), TEXT("\r\n.\n"), TEXT("\n.\r\n")};
    size_t accident_rate = rng_below(rng, 3) == 0 ? 4 : rng_below(rng, 2) == 0 ? 60 : SIZE_MAX;
    size_t length = 0, goal = (size_t)rng_below(rng, STREAM_BYTES_MAX - 100);
    while (length < goal) {
        struct bytes token = rng_below(rng, accident_rate) == 0 ? accidents[rng_below(rng, 6)]
                                                                : tokens[rng_below(rng, 12)];
        memcpy(stream + length, token.data, token.length);
        length += token.length;
    }
    memcpy(stream + length, "\r\n.\r\nNOOP\r\n\0\xff\r\n.\r\n", 18);
    return length + 18;
}

static void test_like_the_definition(void **state)
{
    (void)state;
    static const size_t piece_max[] = {1, 3, 80, 700, STREAM_BYTES_MAX};
    char stream[STREAM_BYTES_MAX];
    struct rng rng;
    rng_seed(&rng, 11);
    for (int round = 0; round < 4000; round++) {
        size_t length = make_stream(&rng, stream);
        assert_scan(stream, length, piece_max[round % 5], &rng);
    }
}

/* CRLF after every 31 octets from `at` on. */
static void fill_lines(char *text, size_t at, size_t length)
{
    memset(text + at, 'x', length - at);
    for (size_t i = at + 29; i + 2 <= length; i += 31) {
        memcpy(text + i, "\r\n", 2);
    }
}

/* So many octets of lines in front, that what follows is not read together with the header. */
#define BODY_BYTES 1240

/* Every accident and the end itself at every place of a block, and every cut: in the header, and in a body. */
static void test_every_place(void **state)
{
    (void)state;
    static const struct bytes things[] = {
        TEXT("\r"),        TEXT("\n"),          TEXT("\0"),          TEXT("\x80"),
        TEXT("\r\n.\r\n"), TEXT("\n.\r\n"),     TEXT("\r\n.\n"),     TEXT("\r\n.\r"),
        TEXT("\r.\r\n"),   TEXT("\r\n.\r\r\n"), TEXT("\r\n\0.\r\n"), TEXT("\r\nReceived:"),
        TEXT("\r\r\n"),    TEXT("\r\n..\r\n"),  TEXT("\r\n\r\n"),
    };
    struct rng rng;
    rng_seed(&rng, 12);
    for (size_t t = 0; t < sizeof(things) / sizeof(things[0]); t++) {
        for (size_t at = 0; at < 150; at++) {
            char whole[BODY_BYTES + 300] = "\r\n", *text = whole + BODY_BYTES;
            fill_lines(whole, 2, sizeof(whole));
            memcpy(text + at, things[t].data, things[t].length);
            memcpy(text + 250, "\r\n.\r\n", 5);
            assert_scan(text, 255 + at % 3, STREAM_BYTES_MAX, &rng);
            assert_scan(text, 255 + at % 3, 100, &rng);
            assert_scan(text, 255, 1, &rng);
            assert_scan(whole, BODY_BYTES + 255 + at % 3, SIZE_MAX, &rng);
            assert_scan(whole, BODY_BYTES + 255 + at % 3, 300, &rng);
        }
    }
}

/* Two lines of any length, also longer than is allowed, in a body of short ones, with and without a stuffed dot. */
static void test_long_lines(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 13);
    for (size_t first = 1; first < 140; first++) {
        for (size_t second = 1; second < 140; second += 3) {
            char text[BODY_BYTES + 400] = "\r\n";
            fill_lines(text, 2, BODY_BYTES);
            memset(text + BODY_BYTES, 'x', first + second + 4);
            memcpy(text + BODY_BYTES - 2, "\r\n", 2);
            memcpy(text + BODY_BYTES + first, "\r\n", 2);
            memcpy(text + BODY_BYTES + first + 2 + second, "\r\n", 2);
            fill_lines(text, BODY_BYTES + first + second + 4, sizeof(text) - 5);
            memcpy(text + sizeof(text) - 5, "\r\n.\r\n", 5);
            assert_scan(text, sizeof(text), SIZE_MAX, &rng);
            assert_scan(text, sizeof(text), 300, &rng);
            text[BODY_BYTES] = '.';
            assert_scan(text, sizeof(text), SIZE_MAX, &rng);
            text[BODY_BYTES + first + 2] = '.';
            assert_scan(text, sizeof(text), SIZE_MAX, &rng);
        }
    }
}

static void test_empty(void **state)
{
    (void)state;
    struct dot dot;
    dot_init(&dot, LINE_BYTES_MAX);
    assert_int_equal(dot_scan(&dot, BYTES(".\r\nQUIT\r\n")), 3);
    assert_true(dot.ended);
    assert_int_equal(dot_message_bytes(&dot), 0);
    assert_int_equal(dot.seen, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_the_definition),
        cmocka_unit_test(test_every_place),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
