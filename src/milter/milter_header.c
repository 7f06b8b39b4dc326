#include "milter/milter_header.h"

#define LINE_END_BYTES 2

/* --- a field ------------------------------------------------------------------------------------------------------ */

/* RFC 5322 2.2: printable ASCII but for the colon. */
static bool good_name(struct bytes name)
{
    for (size_t i = 0; i < name.length; i++) {
        if (name.data[i] <= ' ' || name.data[i] > '~' || name.data[i] == ':') {
            return false;
        }
    }
    return name.length != 0;
}

static struct bytes without_last_line_end(struct bytes value)
{
    while (value.length != 0 && value.data[value.length - 1] == '\n') {
        value.length--;
        value.length -= value.length != 0 && value.data[value.length - 1] == '\r';
    }
    return value;
}

/* What goes on must begin with white space and have something else in it: to some readers a blank line ends the header,
 * however it is made. */
static bool good_continuation(struct bytes line)
{
    if (line.length == 0 || (line.data[0] != ' ' && line.data[0] != '\t')) {
        return false;
    }
    for (size_t i = 1; i < line.length; i++) {
        if (line.data[i] != ' ' && line.data[i] != '\t') {
            return true;
        }
    }
    return false;
}

static struct bytes take_line(struct bytes *value)
{
    const char *end = value->length != 0 ? memchr(value->data, '\n', value->length) : NULL;
    size_t whole = end != NULL ? (size_t)(end - value->data) + 1 : value->length;
    struct bytes line = bytes_slice(*value, 0, end != NULL ? whole - 1 : whole);
    bytes_advance(value, whole);
    line.length -= end != NULL && line.length != 0 && line.data[line.length - 1] == '\r';
    return line;
}

static bool good_line(struct bytes line)
{
    return line.length == 0 ||
           (memchr(line.data, '\r', line.length) == NULL && memchr(line.data, '\0', line.length) == NULL);
}

/* Appends it. */
static enum milter_header_result put_field(struct milter_header *header, struct bytes name, struct bytes value,
                                           bool space)
{
    struct buffer *text = &header->text;
    size_t before = text->length;
    bool good = good_name(name);
    bool room = good && (name.data[0] != '.' || buffer_append(text, BYTES("."))) && buffer_append(text, name) &&
                buffer_append(text, BYTES(":")) && (!space || buffer_append(text, BYTES(" ")));
    size_t line_bytes = name.length + 1 + space;
    struct bytes rest = without_last_line_end(value);
    for (bool first = true; good && room && (first || rest.length != 0); first = false) {
        struct bytes line = take_line(&rest);
        line_bytes += line.length + LINE_END_BYTES;
        good = good_line(line) && (first || good_continuation(line)) && line_bytes <= header->line_bytes_max;
        room = buffer_append(text, line) && buffer_append(text, BYTES("\r\n"));
        line_bytes = 0;
    }
    if (!good || !room) {
        text->length = before;
    }
    return !good ? MILTER_HEADER_BAD : !room ? MILTER_HEADER_FULL : MILTER_HEADER_OK;
}

/* --- places ------------------------------------------------------------------------------------------------------- */

static void reverse(char *data, size_t length)
{
    for (size_t i = 0; i < length / 2; i++) {
        char c = data[i];
        data[i] = data[length - 1 - i];
        data[length - 1 - i] = c;
    }
}

/* What was appended at `from` belongs at `to`. */
static void move_back(struct milter_header *header, size_t from, size_t to)
{
    char *data = header->text.data;
    size_t bytes = header->text.length - from;
    if (from != to) {
        reverse(data + to, from - to);
        reverse(data + from, bytes);
        reverse(data + to, header->text.length - to);
    }
    header->own_at += to <= header->own_at ? bytes : 0;
}

static void cut(struct milter_header *header, size_t at, size_t bytes)
{
    struct buffer *text = &header->text;
    memmove(text->data + at, text->data + at + bytes, text->length - at - bytes);
    text->length -= bytes;
    header->own_at -= at < header->own_at ? bytes : 0;
}

static bool next_of_all(const struct milter_header *header, size_t *at, struct header_field *ret_field)
{
    struct bytes rest = buffer_bytes(&header->text);
    bytes_advance(&rest, *at);
    if (!header_next(&rest, ret_field)) {
        return false;
    }
    *at = header->text.length - rest.length;
    return true;
}

bool milter_header_next(const struct milter_header *header, size_t *at, struct header_field *ret_field)
{
    if (*at == header->own_at) {
        *at += header->own_bytes;
    }
    return next_of_all(header, at, ret_field);
}

/* --- edits -------------------------------------------------------------------------------------------------------- */

static enum milter_header_result put_at(struct milter_header *header, size_t place, struct bytes name,
                                        struct bytes value, bool space)
{
    size_t end = header->text.length;
    enum milter_header_result result = put_field(header, name, value, space);
    if (result == MILTER_HEADER_OK) {
        move_back(header, end, place);
        header->changed = true;
    }
    return result;
}

enum milter_header_result milter_header_add(struct milter_header *header, struct bytes name, struct bytes value,
                                            bool space)
{
    return put_at(header, header->text.length, name, value, space);
}

enum milter_header_result milter_header_insert(struct milter_header *header, uint32_t index, struct bytes name,
                                               struct bytes value, bool space)
{
    size_t place = 0;
    struct header_field field;
    while (index != 0 && next_of_all(header, &place, &field)) {
        index--;
    }
    return put_at(header, place, name, value, space);
}

enum milter_header_result milter_header_change(struct milter_header *header, uint32_t index, struct bytes name,
                                               struct bytes value, bool space)
{
    size_t at = 0;
    struct header_field field;
    uint32_t left = index != 0 ? index : 1; /* sendmail takes 0 for the first */
    while (milter_header_next(header, &at, &field)) {
        left -= bytes_equal_nocase(field.name, name);
        if (left != 0) {
            continue;
        }
        size_t place = at - field.whole.length;
        enum milter_header_result result = MILTER_HEADER_OK;
        if (value.length != 0) {
            result = put_at(header, at, name, value, space);
        }
        if (result == MILTER_HEADER_OK) {
            cut(header, place, field.whole.length);
            header->changed = true;
        }
        return result;
    }
    return value.length != 0 ? milter_header_add(header, name, value, space) : MILTER_HEADER_OK;
}
