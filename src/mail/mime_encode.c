#include "mail/mime_encode.h"

enum {
    LINE_COLUMNS_MAX = 76, /* RFC 2045 6.7 (5), 6.8 */
    BASE64_LINE_OCTETS = LINE_COLUMNS_MAX / 4 * 3,
};

/* Takes a line off `data`, without its CRLF and stuffed dot. A CR or LF alone ends no line. */
static struct bytes take_line(struct bytes *data, bool *ret_ended)
{
    const char *end = memmem(data->data, data->length, "\r\n", 2);
    *ret_ended = end != NULL;
    struct bytes line = bytes_of(data->data, end != NULL ? (size_t)(end - data->data) : data->length);
    bytes_advance(data, line.length + (end != NULL ? 2 : 0));
    if (line.length != 0 && line.data[0] == '.') {
        bytes_advance(&line, 1);
    }
    return line;
}

/* White space at the end of a line could be lost, a dot at the beginning of an output line would have to be stuffed. A
 * hyphen that a soft line break brings to the beginning could make a delimiter that was none. */
static bool is_literal(char c, bool first, bool continued, bool last)
{
    if (c == ' ' || c == '\t') {
        return !last;
    }
    return c > ' ' && c <= '~' && c != '=' && !(c == '.' && first) && !(c == '-' && first && continued);
}

static bool encode_line(struct bytes line, struct buffer *out)
{
    static const char digits[] = "0123456789ABCDEF";
    char encoded[LINE_COLUMNS_MAX + 2];
    size_t n = 0;
    for (size_t i = 0; i < line.length; i++) {
        if (n + 3 > LINE_COLUMNS_MAX - 1) { /* room for any octet and for the soft line break */
            memcpy(encoded + n, "=\r\n", 3);
            if (!buffer_append(out, bytes_of(encoded, n + 3))) {
                return false;
            }
            n = 0;
        }
        char c = line.data[i];
        if (is_literal(c, n == 0, i != 0, i + 1 == line.length)) {
            encoded[n++] = c;
        } else {
            encoded[n++] = '=';
            encoded[n++] = digits[(uint8_t)c >> 4];
            encoded[n++] = digits[(uint8_t)c & 15];
        }
    }
    return buffer_append(out, bytes_of(encoded, n));
}

bool mime_encode_quoted_printable(struct bytes data, struct buffer *out)
{
    while (data.length != 0) {
        bool ended;
        struct bytes line = take_line(&data, &ended);
        if (!encode_line(line, out) || (ended && !buffer_append(out, BYTES("\r\n")))) {
            return false;
        }
    }
    return true;
}

/* What was collected for a line of base64. */
struct octets {
    uint8_t octets[BASE64_LINE_OCTETS];
    size_t count;
    bool first_line;
};

static bool flush(struct octets *octets, struct buffer *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char line[2 + LINE_COLUMNS_MAX];
    size_t n = 0;
    if (!octets->first_line) {
        line[n++] = '\r';
        line[n++] = '\n';
    }
    for (size_t i = 0; i < octets->count; i += 3) {
        size_t have = octets->count - i;
        uint32_t group = (uint32_t)octets->octets[i] << 16 | (have > 1 ? (uint32_t)octets->octets[i + 1] << 8 : 0) |
                         (have > 2 ? (uint32_t)octets->octets[i + 2] : 0);
        line[n++] = digits[group >> 18];
        line[n++] = digits[group >> 12 & 63];
        line[n++] = have > 1 ? digits[group >> 6 & 63] : '=';
        line[n++] = have > 2 ? digits[group & 63] : '=';
    }
    octets->count = 0;
    octets->first_line = false;
    return buffer_append(out, bytes_of(line, n));
}

static bool collect(struct octets *octets, struct bytes data, struct buffer *out)
{
    while (data.length != 0) {
        size_t room = sizeof(octets->octets) - octets->count;
        size_t n = data.length < room ? data.length : room;
        memcpy(octets->octets + octets->count, data.data, n);
        octets->count += n;
        bytes_advance(&data, n);
        if (octets->count == sizeof(octets->octets) && !flush(octets, out)) {
            return false;
        }
    }
    return true;
}

bool mime_encode_base64(struct bytes data, struct buffer *out)
{
    struct octets octets = {.first_line = true};
    while (data.length != 0) {
        bool ended;
        struct bytes line = take_line(&data, &ended);
        if (!collect(&octets, line, out) || (ended && !collect(&octets, BYTES("\r\n"), out))) {
            return false;
        }
    }
    return octets.count == 0 || flush(&octets, out);
}
