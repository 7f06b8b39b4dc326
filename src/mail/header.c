#include "mail/header.h"

/* Octets of the line at the start of text, its CRLF included; 0 when no CRLF ends it. */
static size_t line_length(struct bytes text)
{
    size_t from = 0;
    while (from < text.length) {
        const char *lf = memchr(text.data + from, '\n', text.length - from);
        if (lf == NULL) {
            return 0;
        }
        size_t end = (size_t)(lf - text.data) + 1;
        if (end >= 2 && text.data[end - 2] == '\r') {
            return end;
        }
        from = end;
    }
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* ftext of RFC 5322 3.6.8: printable ASCII but the colon; 8-bit octets too, which RFC 6532 does not forbid readers. */
static bool is_name_octet(char c)
{
    return (uint8_t)c > ' ' && c != ':' && c != 0x7f;
}

bool header_next(struct bytes *rest, struct header_field *ret_field)
{
    struct bytes text = *rest;
    size_t length = line_length(text);
    if (length == 0) {
        return false;
    }
    size_t start = text.data[0] == '.' ? 1 : 0; /* a stuffed dot, or the final one, after which no name follows */
    size_t colon = start;
    while (colon < length && is_name_octet(text.data[colon])) {
        colon++;
    }
    size_t name_end = colon;
    while (colon < length && is_blank(text.data[colon])) {
        colon++; /* the obsolete syntax has white space before the colon */
    }
    if (name_end == start || text.data[colon] != ':') {
        return false;
    }
    while (length < text.length && is_blank(text.data[length])) {
        size_t more = line_length(bytes_slice(text, length, text.length - length));
        if (more == 0) {
            break;
        }
        length += more;
    }
    ret_field->name = bytes_slice(text, start, name_end - start);
    ret_field->value = bytes_slice(text, colon + 1, length - 2 - (colon + 1));
    ret_field->whole = bytes_slice(text, 0, length);
    bytes_advance(rest, length);
    return true;
}

bool header_find(struct bytes message, struct bytes name, struct header_field *ret_field)
{
    struct header_field field;
    while (header_next(&message, &field)) {
        if (bytes_equal_nocase(field.name, name)) {
            *ret_field = field;
            return true;
        }
    }
    return false;
}

size_t header_length(struct bytes message)
{
    struct bytes rest = message;
    struct header_field field;
    while (header_next(&rest, &field)) {
    }
    return message.length - rest.length;
}

bool header_append_unfolded(struct buffer *out, struct bytes value)
{
    size_t start = out->length;
    size_t i = 0;
    while (i < value.length) {
        char c = value.data[i];
        if (c == '\r' || c == '\n') {
            while (i < value.length && (is_blank(value.data[i]) || value.data[i] == '\r' || value.data[i] == '\n')) {
                i++;
            }
            c = ' ';
        } else {
            i++;
        }
        if (is_blank(c) && out->length == start) {
            continue;
        }
        if (!buffer_append(out, bytes_of(&c, 1))) {
            out->length = start;
            return false;
        }
    }
    while (out->length > start && is_blank(out->data[out->length - 1])) {
        out->length--;
    }
    return true;
}
