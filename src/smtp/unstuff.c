#include "smtp/unstuff.h"

/* The next run of octets that belong together: up to and with a line feed. True when a stuffed dot stands before it,
 * which has been taken off. */
static bool next_run(struct unstuff *unstuff, struct bytes *text, size_t *ret_length)
{
    bool dot = !unstuff->inside && text->data[0] == '.';
    if (dot) {
        bytes_advance(text, 1);
        unstuff->inside = true;
    }
    const char *newline = text->length != 0 ? memchr(text->data, '\n', text->length) : NULL;
    *ret_length = newline != NULL ? (size_t)(newline - text->data) + 1 : text->length;
    return dot;
}

/* What the octets leave behind. */
static void pass(struct unstuff *unstuff, struct bytes run)
{
    if (run.length == 0) {
        return;
    }
    bool after_cr = run.length > 1 ? run.data[run.length - 2] == '\r' : unstuff->carriage_return;
    unstuff->inside = !(run.data[run.length - 1] == '\n' && after_cr);
    unstuff->carriage_return = run.data[run.length - 1] == '\r';
}

size_t unstuff_copy(struct unstuff *unstuff, struct bytes text, struct buffer *out)
{
    size_t before = text.length;
    while (text.length != 0 && buffer_room(out) != 0) {
        size_t length;
        next_run(unstuff, &text, &length);
        length = length < buffer_room(out) ? length : buffer_room(out);
        struct bytes run = bytes_slice(text, 0, length);
        CHECK(buffer_append(out, run));
        pass(unstuff, run);
        bytes_advance(&text, length);
    }
    return before - text.length;
}

uint64_t unstuff_count(struct unstuff *unstuff, struct bytes text)
{
    uint64_t dots = 0;
    while (text.length != 0) {
        size_t length;
        dots += next_run(unstuff, &text, &length);
        pass(unstuff, bytes_slice(text, 0, length));
        bytes_advance(&text, length);
    }
    return dots;
}

/* A dot is looked for, not a line: it is the rarest of the three octets. */
size_t unstuff_run(struct bytes run)
{
    if (run.data[0] == '\n') {
        return 1; /* the CR may have come before */
    }
    const char *end = run.data + run.length;
    for (const char *dot = run.data; (dot = memchr(dot, '.', (size_t)(end - dot))) != NULL; dot++) {
        if (dot - run.data >= 2 && dot[-1] == '\n' && dot[-2] == '\r') {
            return (size_t)(dot - run.data);
        }
    }
    return run.length;
}
