#include <stdlib.h>

#include "smtp/dot.h"

/* However a stream is cut, the scanner says the same as when it gets it octet by octet, and what it calls the end is
 * CRLF . CRLF, or . CRLF at the very start, and the first of these. The first octet chooses the cuts. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct dot scan(const uint8_t *data, size_t size, size_t piece)
{
    struct dot dot;
    dot_init(&dot, 100);
    size_t at = 0;
    while (at < size && !dot.ended) {
        size_t length = piece < size - at ? piece : size - at;
        char *block = malloc(length);
        memcpy(block, data + at, length);
        at += dot_scan(&dot, bytes_of(block, length));
        free(block);
    }
    EXPECT(dot.bytes == at);
    return dot;
}

static size_t find_end(const uint8_t *data, size_t size)
{
    if (size >= 3 && memcmp(data, ".\r\n", 3) == 0) {
        return 3;
    }
    for (size_t i = 0; i + 5 <= size; i++) {
        if (memcmp(data + i, "\r\n.\r\n", 5) == 0) {
            return i + 5;
        }
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t piece = (size_t)data[0] + 1;
    data++;
    size--;
    struct dot slow = scan(data, size, 1), cut = scan(data, size, piece), whole = scan(data, size, size);
    size_t end = find_end(data, size);
    EXPECT(slow.ended == (end != 0) && slow.bytes == (end != 0 ? end : size));
    for (int i = 0; i < 2; i++) {
        const struct dot *fast = i == 0 ? &cut : &whole;
        EXPECT(fast->bytes == slow.bytes && fast->ended == slow.ended && fast->seen == slow.seen);
        EXPECT(fast->stuffed == slow.stuffed && fast->received == slow.received);
        EXPECT(fast->ended || (fast->place == slow.place && fast->line_bytes == slow.line_bytes));
        EXPECT(fast->in_header == slow.in_header);
    }
    return 0;
}
