#include "smtp/line.h"

/* A command that holds a bare CR, a bare LF or a NUL is refused as a whole, up to the CRLF that ends it. To take the
 * bare LF for a line end, as many servers do, would execute what somebody managed to write behind it into an address or
 * a HELO name. The refusal is given as soon as the octet is seen: a human who types at a terminal that sends LF alone
 * learns why nothing works. */

/* Whether text, the octet after previous on, has a NUL or a CR before anything but LF or the text's end. */
static bool has_bad_octet(char previous, struct bytes text)
{
    bool after_cr = previous == '\r';
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c == '\0' || (after_cr && c != '\n')) {
            return true;
        }
        after_cr = c == '\r';
    }
    return false;
}

enum line_result line_find(struct bytes stash, struct bytes input, size_t bytes_max, size_t *ret_taken)
{
    CHECK(input.length != 0 && stash.length < bytes_max);
    size_t room = bytes_max - stash.length;
    size_t length = input.length < room ? input.length : room;
    const char *lf = memchr(input.data, '\n', length);
    if (lf != NULL) {
        length = (size_t)(lf - input.data) + 1;
    }
    char previous = stash.length == 0 ? '\0' : stash.data[stash.length - 1];
    if (has_bad_octet(previous, bytes_slice(input, 0, length))) {
        return LINE_BAD;
    }
    if (lf != NULL) {
        if ((length == 1 ? previous : lf[-1]) != '\r') {
            return LINE_BAD;
        }
        *ret_taken = length;
        return LINE_COMPLETE;
    }
    if (length == room) {
        return LINE_TOO_LONG;
    }
    *ret_taken = length;
    return LINE_PARTIAL;
}

bool line_begins(struct bytes stash, struct bytes input, struct bytes prefix)
{
    size_t in_stash = stash.length < prefix.length ? stash.length : prefix.length;
    size_t rest = prefix.length - in_stash;
    return rest <= input.length &&
           bytes_equal_nocase(bytes_slice(stash, 0, in_stash), bytes_slice(prefix, 0, in_stash)) &&
           bytes_equal_nocase(bytes_slice(input, 0, rest), bytes_slice(prefix, in_stash, rest));
}

enum line_skip line_skip_begin(struct bytes stash)
{
    return stash.length != 0 && stash.data[stash.length - 1] == '\r' ? LINE_SKIP_CR : LINE_SKIP_TEXT;
}

void line_skip_on(uint8_t *skip, struct bytes *input)
{
    while (input->length != 0 && *skip != LINE_SKIP_NOTHING) {
        char c = input->data[0];
        bytes_advance(input, 1);
        if (*skip == LINE_SKIP_CR && c == '\n') {
            *skip = LINE_SKIP_NOTHING;
        } else {
            *skip = c == '\r' ? LINE_SKIP_CR : LINE_SKIP_TEXT;
        }
    }
}
