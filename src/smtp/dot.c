#include "smtp/dot.h"

#include "smtp/classify.h"

/* The only end of data is CR LF '.' CR LF. Software that takes anything else for it ("\n.\n", "\n.\r\n", "\r.\r", a NUL
 * in between) lets one sender smuggle a second message behind the first, past every check of the envelope. So this file
 * knows one line end, CRLF, and any CR or LF outside it, and any NUL, spoils the message; the rest of it is still read,
 * by the same strict rule, up to its true end, because only there can the sender be told and commands begin again.
 *
 * Every octet of every message passes here, so there are three readers of the same language:
 *
 *   step()  takes one octet. It is the definition, and reads what lies across two inputs: the start of a line, where a
 *           dot, the final CRLF or the name of a header field may be cut.
 *   walk()  takes blocks of 64 octets as bit masks (see classify.h) and touches a line only at its two ends:
 *
 *               octets      h e l l o \r \n . . w o r l d \r \n
 *               cr          0 0 0 0 0  1  0 0 0 0 0 0 0 0  1  0
 *               after_cr    0 0 0 0 0  0  1 0 0 0 0 0 0 0  0  1      cr moved on by one octet
 *               lf          0 0 0 0 0  0  1 0 0 0 0 0 0 0  0  1
 *
 *           lf & after_cr are the line ends; lf ^ after_cr is empty exactly when every CR and LF stands in a CRLF.
 *
 *   skim()  takes the blocks of a body in which there is nothing to be done, that is nearly all: no octet that spoils
 *           anything, no dot that could be the final one. Only stuffed dots are counted, and lines measured.
 *
 * walk() and skim() run only between the two ends of a line ("settled": the last octet was text or CR and the header
 * field's name is decided). walk() stops in front of a line that begins behind its blocks or has fewer than LOOK_AHEAD
 * octets behind its start in this input; step() then takes over. */

enum place { PLACE_TEXT, PLACE_CR, PLACE_LINE_START, PLACE_DOT, PLACE_DOT_CR };

#define MATCH_DECIDED 255
#define RUN_BLOCKS 16
#define FINAL_DOT_BYTES 3

static const char received_name[] = "received:";
#define RECEIVED_NAME_BYTES (sizeof(received_name) - 1)
#define LOOK_AHEAD (1 + RECEIVED_NAME_BYTES) /* a stuffed dot and the name */

void dot_init(struct dot *dot, uint32_t line_bytes_max)
{
    *dot = (struct dot){.line_bytes_max = line_bytes_max, .place = PLACE_LINE_START, .in_header = true};
}

static void end_line(struct dot *dot, uint64_t line_bytes)
{
    if (line_bytes > dot->line_bytes_max) {
        dot->seen |= DOT_LONG_LINE;
    }
    if (line_bytes == 2) {
        dot->in_header = false;
    }
}

/* Whether the line's first octets, without a stuffed dot, are a Received field's name. */
static void match_name(struct dot *dot, char c)
{
    if (dot->match == MATCH_DECIDED) {
        return;
    }
    if (!dot->in_header || bytes_ascii_lower(c) != received_name[dot->match]) {
        dot->match = MATCH_DECIDED;
    } else if (++dot->match == RECEIVED_NAME_BYTES) {
        dot->received++;
        dot->match = MATCH_DECIDED;
    }
}

static void step(struct dot *dot, char c)
{
    bool after_cr = dot->place == PLACE_CR || dot->place == PLACE_DOT_CR;
    bool line_ends = after_cr && c == '\n';
    if (line_ends && dot->place == PLACE_DOT_CR) {
        dot->ended = true;
        return;
    }
    if (after_cr && c != '\n') {
        dot->seen |= DOT_BARE_CR;
    } else if (!after_cr && c == '\n') {
        dot->seen |= DOT_BARE_LF;
    }
    if (c == '\0') {
        dot->seen |= DOT_NUL;
    }
    if ((uint8_t)c > 127) {
        dot->seen |= DOT_EIGHT_BIT;
    }
    if (dot->place == PLACE_LINE_START && c == '.') {
        dot->place = PLACE_DOT;
        return;
    }
    bool stuffed = dot->place == PLACE_DOT_CR || (dot->place == PLACE_DOT && c != '\r');
    dot->stuffed += stuffed;
    dot->line_bytes += dot->line_bytes < UINT32_MAX;
    match_name(dot, c);
    if (line_ends) {
        end_line(dot, dot->line_bytes);
        dot->line_bytes = 0;
        dot->match = 0;
        dot->place = PLACE_LINE_START;
    } else if (c == '\r') {
        dot->place = dot->place == PLACE_DOT ? PLACE_DOT_CR : PLACE_CR;
    } else {
        dot->place = PLACE_TEXT;
    }
}

static bool settled(const struct dot *dot)
{
    return (dot->place == PLACE_TEXT || dot->place == PLACE_CR) && (dot->match == MATCH_DECIDED || !dot->in_header);
}

/* Looks at the first octets of a line, of which LOOK_AHEAD are there. Returns how many of them are a stuffed dot. */
static size_t start_line(struct dot *dot, const char *line)
{
    size_t stuffed = 0;
    if (line[0] == '.') {
        if (line[1] == '\r' && line[2] == '\n') {
            dot->ended = true;
            return 0;
        }
        stuffed = 1;
        dot->stuffed++;
    }
    if (dot->in_header && bytes_equal_nocase(bytes_of(line + stuffed, RECEIVED_NAME_BYTES),
                                             bytes_of(received_name, RECEIVED_NAME_BYTES))) {
        dot->received++;
    }
    return stuffed;
}

static uint64_t bits_below(size_t n)
{
    return n >= 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1;
}

/* Judges the first n octets of a block. */
static inline void judge(struct dot *dot, const struct classify_masks *masks, uint64_t after_cr, size_t n)
{
    uint64_t odd = (masks->lf ^ after_cr) | masks->nul | masks->high;
    if (__builtin_expect((odd & bits_below(n)) == 0, 1)) {
        return;
    }
    uint64_t below = bits_below(n);
    dot->seen |= (masks->lf & ~after_cr & below) != 0 ? DOT_BARE_LF : 0;
    dot->seen |= (after_cr & ~masks->lf & below) != 0 ? DOT_BARE_CR : 0;
    dot->seen |= (masks->nul & below) != 0 ? DOT_NUL : 0;
    dot->seen |= (masks->high & below) != 0 ? DOT_EIGHT_BIT : 0;
}

/* Reads the octets from i up to end, of which masks tells everything; data has n octets, so line starts may be looked
 * at beyond end. Returns where it stopped. */
static size_t walk(struct dot *dot, const char *data, size_t i, size_t end, size_t n,
                   const struct classify_masks *masks)
{
    int64_t line = (int64_t)i - dot->line_bytes; /* where the line started, before this input perhaps */
    bool carry = dot->place == PLACE_CR;
    dot->match = MATCH_DECIDED;
    for (; i < end; i += CLASSIFY_BLOCK_BYTES, masks++) {
        size_t valid = end - i < CLASSIFY_BLOCK_BYTES ? end - i : CLASSIFY_BLOCK_BYTES;
        uint64_t after_cr = masks->cr << 1 | carry;
        carry = masks->cr >> (valid - 1) & 1;
        for (uint64_t ends = masks->lf & after_cr; ends != 0; ends &= ends - 1) {
            size_t start = i + (size_t)__builtin_ctzll(ends) + 1;
            end_line(dot, (uint64_t)((int64_t)start - line));
            if (n - start < LOOK_AHEAD || start == end) {
                judge(dot, masks, after_cr, start - i);
                dot->place = PLACE_LINE_START;
                dot->match = 0;
                dot->line_bytes = 0;
                return start;
            }
            line = (int64_t)(start + start_line(dot, data + start));
            if (dot->ended) {
                judge(dot, masks, after_cr, start - i);
                return start + FINAL_DOT_BYTES;
            }
        }
        judge(dot, masks, after_cr, valid);
    }
    int64_t line_bytes = (int64_t)end - line;
    dot->line_bytes = line_bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)line_bytes;
    dot->place = carry ? PLACE_CR : PLACE_TEXT;
    return end;
}

/* Reads blocks in which nothing is to be done, up to the first one that is not one of these; returns how many. In a
 * header every line's name is to be looked at. */
static size_t skim(struct dot *dot, const char *data, size_t blocks)
{
    struct classify_skim skim = {.line = -(int64_t)dot->line_bytes, .after_cr = dot->place == PLACE_CR};
    if (dot->in_header || dot->line_bytes_max < CLASSIFY_BLOCK_BYTES) {
        return 0;
    }
    size_t read = classify_best()->skim(data, blocks, &skim);
    if (read != 0) {
        int64_t line_bytes = (int64_t)(read * CLASSIFY_BLOCK_BYTES) - skim.line;
        dot->seen |= (skim.high ? DOT_EIGHT_BIT : 0) | (skim.longest > dot->line_bytes_max ? DOT_LONG_LINE : 0);
        dot->stuffed += skim.stuffed;
        dot->line_bytes = line_bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)line_bytes;
        dot->place = skim.at_line_start ? PLACE_LINE_START : skim.after_cr ? PLACE_CR : PLACE_TEXT;
    }
    return read;
}

/* Reads from i on: some whole blocks, or the last, incomplete one. Returns where it stopped. */
static size_t scan_run(struct dot *dot, const char *data, size_t i, size_t n)
{
    struct classify_masks masks[RUN_BLOCKS];
    size_t blocks = (n - i) / CLASSIFY_BLOCK_BYTES;
    if (blocks == 0) {
        char last[CLASSIFY_BLOCK_BYTES];
        memset(last, 'x', sizeof(last));
        memcpy(last, data + i, n - i);
        classify_best()->masks(last, 1, masks);
        return walk(dot, data, i, n, n, masks);
    }
    size_t skimmed = skim(dot, data + i, blocks);
    if (skimmed != 0) {
        return i + skimmed * CLASSIFY_BLOCK_BYTES;
    }
    blocks = blocks > RUN_BLOCKS ? RUN_BLOCKS : blocks;
    classify_best()->masks(data + i, blocks, masks);
    return walk(dot, data, i, i + blocks * CLASSIFY_BLOCK_BYTES, n, masks);
}

size_t dot_scan(struct dot *dot, struct bytes input)
{
    CHECK(!dot->ended);
    size_t i = 0;
    while (i < input.length && !dot->ended) {
        if (settled(dot)) {
            i = scan_run(dot, input.data, i, input.length);
        } else {
            step(dot, input.data[i++]);
        }
    }
    dot->bytes += i;
    return i;
}

bool dot_at_line_start(const struct dot *dot)
{
    return dot->place == PLACE_LINE_START;
}

uint64_t dot_message_bytes(const struct dot *dot)
{
    CHECK(dot->ended);
    return dot->bytes - dot->stuffed - FINAL_DOT_BYTES;
}
