#include "mail/mime_type.h"

bool mime_type_is(const struct mime_type *type, struct bytes name)
{
    return bytes_equal_nocase(type->type, name);
}

/* Steps over a comment, which may contain others. False when it does not end. */
static bool skip_comment(struct bytes *text)
{
    size_t depth = 0;
    do {
        char c = text->data[0];
        depth += c == '(';
        depth -= c == ')';
        size_t n = c == '\\' && text->length > 1 ? 2 : 1;
        bytes_advance(text, n);
    } while (depth != 0 && text->length != 0);
    return depth == 0;
}

/* White space, folds and comments. */
static bool skip(struct bytes *text)
{
    while (text->length != 0) {
        char c = text->data[0];
        if (c == '(') {
            if (!skip_comment(text)) {
                return false;
            }
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            bytes_advance(text, 1);
        } else {
            break;
        }
    }
    return true;
}

static bool take_token(struct bytes *text, struct bytes *ret_token)
{
    size_t n = 0;
    while (n < text->length && text->data[n] > ' ' && text->data[n] < 0x7f &&
           strchr("()<>@,;:\\\"/[]?=", text->data[n]) == NULL) {
        n++;
    }
    *ret_token = bytes_slice(*text, 0, n);
    bytes_advance(text, n);
    return n != 0;
}

static bool take_char(struct bytes *text, char c)
{
    if (!skip(text) || text->length == 0 || text->data[0] != c) {
        return false;
    }
    bytes_advance(text, 1);
    return skip(text);
}

/* The inside of a quoted string, its backslashes and folds taken out, as far as it fits. */
static bool take_quoted(struct bytes *text, struct buffer *value)
{
    bytes_advance(text, 1);
    while (text->length != 0 && text->data[0] != '"') {
        if (text->data[0] == '\\' && text->length > 1) {
            bytes_advance(text, 1);
        } else if (text->data[0] == '\r' || text->data[0] == '\n') {
            bytes_advance(text, 1);
            continue;
        }
        if (!buffer_append(value, bytes_slice(*text, 0, 1))) {
            value->capacity = value->length; /* too long for anybody to ask for */
        }
        bytes_advance(text, 1);
    }
    if (text->length == 0) {
        return false;
    }
    bytes_advance(text, 1);
    return true;
}

/* One ";name=value". */
static bool take_parameter(struct bytes *text, struct bytes *ret_name, struct buffer *value)
{
    if (!take_char(text, ';')) {
        return false;
    }
    *ret_name = (struct bytes){0};
    if (text->length == 0) {
        return true; /* a semicolon too many is a common slip */
    }
    if (!take_token(text, ret_name) || !take_char(text, '=') || text->length == 0) {
        return false;
    }
    struct bytes token;
    if (text->data[0] == '"') {
        if (!take_quoted(text, value)) {
            return false;
        }
    } else if (!take_token(text, &token)) {
        return false;
    } else if (token.length <= value->capacity) {
        buffer_append(value, token);
    }
    return skip(text);
}

/* 0 unless there is exactly one, of a legal length. */
static uint8_t parse_boundary(struct bytes text, char *boundary)
{
    uint8_t length = 0;
    bool seen = false;
    while (text.length != 0) {
        char bytes[MIME_TYPE_BOUNDARY_BYTES_MAX + 1];
        struct buffer value = buffer_of(bytes, sizeof(bytes));
        struct bytes name;
        if (!take_parameter(&text, &name, &value)) {
            return 0;
        }
        if (bytes_equal_nocase(name, BYTES("boundary"))) {
            if (seen || value.length == 0 || value.length > MIME_TYPE_BOUNDARY_BYTES_MAX) {
                return 0;
            }
            seen = true;
            length = (uint8_t)value.length;
            memcpy(boundary, bytes, length);
        }
    }
    return length;
}

bool mime_type_parse(struct bytes value, struct mime_type *ret_type)
{
    struct mime_type type = {0};
    if (!skip(&value) || !take_token(&value, &type.type) || !take_char(&value, '/') ||
        !take_token(&value, &type.subtype)) {
        return false;
    }
    type.boundary_length = skip(&value) ? parse_boundary(value, type.boundary) : 0;
    *ret_type = type;
    return true;
}
