#include "delivery/maildir_text.h"

void maildir_text_init(struct maildir_text *text, uint64_t wire_bytes, bool binary, bool crlf_added)
{
    uint64_t end = 3 + (binary && crlf_added ? 2 : 0);
    *text = (struct maildir_text){
        .left = wire_bytes > end ? wire_bytes - end : 0,
        .binary = binary,
        .line_start = true,
    };
}

static void put(struct buffer *out, char c)
{
    out->data[out->length++] = c;
}

/* A whole line's inside at once: up to the next CR or LF, which is all that is special there. */
static size_t plain_octets(struct bytes span)
{
    const char *newline = memchr(span.data, '\n', span.length);
    size_t length = newline != NULL ? (size_t)(newline - span.data) : span.length;
    const char *carriage_return = memchr(span.data, '\r', length);
    return carriage_return != NULL ? (size_t)(carriage_return - span.data) : length;
}

static void take(struct maildir_text *text, struct bytes *wire, size_t octets)
{
    bytes_advance(wire, octets);
    text->left -= octets;
}

/* One octet that is a CR, an LF, or the first of a line, or comes after a CR. Needs room for two. */
static void convert_octet(struct maildir_text *text, struct bytes *wire, struct buffer *out)
{
    char c = wire->data[0];
    take(text, wire, 1);
    if (text->carriage_return) {
        text->carriage_return = false;
        if (c != '\n' || text->binary) {
            put(out, '\r');
        }
        if (c == '\n') {
            put(out, c);
            text->line_start = true;
            return;
        }
    }
    if (c == '\r') {
        text->carriage_return = true;
        text->line_start = false;
    } else if (c == '.' && text->line_start) {
        text->line_start = false;
    } else {
        put(out, c);
        text->line_start = false;
    }
}

void maildir_text_convert(struct maildir_text *text, struct bytes *wire, struct buffer *out)
{
    while (wire->length != 0 && text->left != 0 && buffer_room(out) >= 2) {
        if (text->line_start || text->carriage_return || wire->data[0] == '\r' || wire->data[0] == '\n') {
            convert_octet(text, wire, out);
            continue;
        }
        size_t octets = wire->length < text->left ? wire->length : (size_t)text->left;
        octets = octets < buffer_room(out) ? octets : buffer_room(out);
        octets = plain_octets(bytes_slice(*wire, 0, octets));
        buffer_append(out, bytes_slice(*wire, 0, octets));
        take(text, wire, octets);
    }
    if (text->left == 0 && text->carriage_return && buffer_room(out) != 0) {
        put(out, '\r');
        text->carriage_return = false;
    }
    if (text->left == 0 && !text->carriage_return) {
        bytes_advance(wire, wire->length);
    }
}

static bool put_line(struct buffer *out, const char *before, struct bytes value, const char *after)
{
    if (!buffer_append_string(out, before) || buffer_room(out) < value.length) {
        return false;
    }
    for (size_t i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.data[i];
        put(out, c < ' ' || c == 0x7f ? '?' : (char)c);
    }
    return buffer_append_string(out, after);
}

bool maildir_text_head(struct bytes sender, struct bytes recipient, struct buffer *out)
{
    return put_line(out, "Return-Path: <", sender, ">\n") && put_line(out, "Delivered-To: ", recipient, "\n");
}

bool maildir_text_prologue(struct bytes prologue, struct buffer *out)
{
    for (size_t i = 0; i < prologue.length; i++) {
        bool line_end = prologue.data[i] == '\r' && i + 1 < prologue.length && prologue.data[i + 1] == '\n';
        if (!line_end && !buffer_append(out, bytes_slice(prologue, i, 1))) {
            return false;
        }
    }
    return true;
}
