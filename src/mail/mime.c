/* Conversion to 7 bits walks the MIME structure from the outside in. A multipart is cut at its own boundary first and
 * the pieces are looked at afterwards, so nothing inside a part can make the outer structure look different. What has
 * no 8-bit octet is copied as it is, signed parts included. The rest must be something whose encoding may be changed: a
 * leaf that is not encoded yet, or a container, which itself must not be encoded (RFC 2045 6.4).
 *
 * When in doubt, refuse: a bounce that says 5.6.3 is better than mail that reads differently at its destination. */
#include "mail/mime.h"

#include "mail/header.h"
#include "mail/mime_encode.h"
#include "mail/mime_type.h"

enum encoding {
    ENCODING_ABSENT,
    ENCODING_IDENTITY, /* 7bit, 8bit, binary */
    ENCODING_OTHER,
};

/* An entity: a message, or a part of a multipart. */
struct entity {
    struct bytes header;
    struct bytes body; /* behind the blank line */
    struct mime_type type;
    enum encoding encoding;
    bool has_type;
    bool has_version;
};

static enum mime_result convert_entity(struct bytes text, bool is_message, bool in_digest, unsigned depth,
                                       struct buffer *out);

#define LINE_BYTES_MAX 999 /* RFC 5321 4.5.3.1.6, without CRLF, and a stuffed dot */

/* May it not stay as it is: octets over 127, NUL, CR or LF alone, lines too long? */
static bool needs_encoding(struct bytes text)
{
    size_t line = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if ((c & 0x80) != 0 || c == '\0' || c == '\n' || line == LINE_BYTES_MAX) {
            return true;
        }
        line++;
        if (c == '\r') {
            if (i + 1 == text.length || text.data[i + 1] != '\n') {
                return true;
            }
            i++;
            line = 0;
        }
    }
    return false;
}

static bool has_8bit(struct bytes text)
{
    unsigned char seen = 0;
    for (size_t i = 0; i < text.length; i++) {
        seen |= (unsigned char)text.data[i];
    }
    return (seen & 0x80) != 0;
}

/* Copied, not converted. */
static enum mime_result copy(struct bytes text, struct buffer *out)
{
    if (needs_encoding(text)) {
        return MIME_CANNOT;
    }
    return buffer_append(out, text) ? MIME_CONVERTED : MIME_FULL;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static struct bytes trim(struct bytes text)
{
    while (text.length != 0 && strchr(" \t\r\n", text.data[0]) != NULL) {
        bytes_advance(&text, 1);
    }
    while (text.length != 0 && strchr(" \t\r\n", text.data[text.length - 1]) != NULL) {
        text.length--;
    }
    return text;
}

static enum encoding read_encoding(struct bytes value)
{
    struct bytes name = trim(value);
    bool identity = bytes_equal_nocase(name, BYTES("8bit")) || bytes_equal_nocase(name, BYTES("7bit")) ||
                    bytes_equal_nocase(name, BYTES("binary"));
    return identity ? ENCODING_IDENTITY : ENCODING_OTHER;
}

/* One field. False when there must be no second one, or when it makes no sense. */
static bool read_field(struct entity *entity, const struct header_field *field)
{
    if (bytes_equal_nocase(field->name, BYTES("Content-Type"))) {
        bool first = !entity->has_type;
        entity->has_type = true;
        return first && mime_type_parse(field->value, &entity->type);
    }
    if (bytes_equal_nocase(field->name, BYTES("Content-Transfer-Encoding"))) {
        bool first = entity->encoding == ENCODING_ABSENT;
        entity->encoding = read_encoding(field->value);
        return first;
    }
    entity->has_version = entity->has_version || bytes_equal_nocase(field->name, BYTES("MIME-Version"));
    return true;
}

/* False when it is not a header, a blank line and a body, or the header is not 7-bit. */
static bool read_entity(struct bytes text, bool in_digest, struct entity *ret_entity)
{
    struct entity entity = {0};
    struct bytes rest = text;
    struct header_field field;
    while (header_next(&rest, &field)) {
        if (!read_field(&entity, &field)) {
            return false;
        }
    }
    entity.header = bytes_slice(text, 0, text.length - rest.length);
    if (needs_encoding(entity.header) || rest.length < 2 || memcmp(rest.data, "\r\n", 2) != 0) {
        return false;
    }
    entity.body = bytes_slice(rest, 2, rest.length - 2);
    if (!entity.has_type) { /* RFC 2045 5.2, RFC 2046 5.1.5 */
        entity.type.type = in_digest ? BYTES("message") : BYTES("text");
        entity.type.subtype = in_digest ? BYTES("rfc822") : BYTES("plain");
    }
    *ret_entity = entity;
    return true;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

/* The header with its encoding changed to `encoding`; `add`: or put there. With the blank line. */
static bool put_header(const struct entity *entity, bool is_message, struct bytes encoding, bool add,
                       struct buffer *out)
{
    struct bytes rest = entity->header;
    struct header_field field;
    bool fits = true;
    while (header_next(&rest, &field)) {
        if (bytes_equal_nocase(field.name, BYTES("Content-Transfer-Encoding"))) {
            fits = fits && buffer_append(out, BYTES("Content-Transfer-Encoding: ")) && buffer_append(out, encoding) &&
                   buffer_append(out, BYTES("\r\n"));
        } else {
            fits = fits && buffer_append(out, field.whole);
        }
    }
    if (is_message && !entity->has_version) {
        fits = fits && buffer_append(out, BYTES("MIME-Version: 1.0\r\n"));
    }
    if (add && entity->encoding == ENCODING_ABSENT) {
        fits = fits && buffer_append(out, BYTES("Content-Transfer-Encoding: ")) && buffer_append(out, encoding) &&
               buffer_append(out, BYTES("\r\n"));
    }
    return fits && buffer_append(out, BYTES("\r\n"));
}

static enum mime_result convert_leaf(const struct entity *entity, bool is_message, struct buffer *out)
{
    bool text = mime_type_is(&entity->type, BYTES("text"));
    struct bytes encoding = text ? BYTES("quoted-printable") : BYTES("base64");
    bool fits = put_header(entity, is_message, encoding, true, out) &&
                (text ? mime_encode_quoted_printable(entity->body, out) : mime_encode_base64(entity->body, out));
    return fits ? MIME_CONVERTED : MIME_FULL;
}

/* --- multiparts --------------------------------------------------------------------------------------------------- */

enum delimiter { DELIMITER_NONE, DELIMITER_NEXT, DELIMITER_LAST };

/* Is the line (without CRLF) "--boundary" or "--boundary--", perhaps with blanks behind it (RFC 2046 5.1.1)? */
static enum delimiter read_delimiter(struct bytes line, struct bytes boundary)
{
    if (line.length < boundary.length + 2 || memcmp(line.data, "--", 2) != 0 ||
        memcmp(line.data + 2, boundary.data, boundary.length) != 0) {
        return DELIMITER_NONE;
    }
    bytes_advance(&line, boundary.length + 2);
    bool last = line.length >= 2 && memcmp(line.data, "--", 2) == 0;
    bytes_advance(&line, last ? 2 : 0);
    if (trim(line).length != 0) {
        return DELIMITER_NONE;
    }
    return last ? DELIMITER_LAST : DELIMITER_NEXT;
}

/* Finds the next delimiter at or after *at, which is the beginning of a line. On success [*at, *ret_end) is what stands
 * before it, without the CRLF that belongs to the delimiter, and *ret_next is behind the delimiter's line. */
static enum delimiter find_delimiter(struct bytes body, size_t at, struct bytes boundary, size_t *ret_end,
                                     size_t *ret_next)
{
    for (size_t start = at; start < body.length;) {
        const char *end = memmem(body.data + start, body.length - start, "\r\n", 2);
        size_t next = end != NULL ? (size_t)(end - body.data) + 2 : body.length;
        enum delimiter found = read_delimiter(bytes_slice(body, start, next - start), boundary);
        if (found != DELIMITER_NONE) {
            *ret_end = start >= at + 2 ? start - 2 : at;
            *ret_next = next;
            return found;
        }
        start = next;
    }
    return DELIMITER_NONE;
}

static enum mime_result convert_multipart(const struct entity *entity, unsigned depth, struct buffer *out)
{
    struct bytes boundary = bytes_of(entity->type.boundary, entity->type.boundary_length);
    bool digest = bytes_equal_nocase(entity->type.subtype, BYTES("digest"));
    bool sealed = bytes_equal_nocase(entity->type.subtype, BYTES("signed")) ||
                  bytes_equal_nocase(entity->type.subtype, BYTES("encrypted"));
    struct bytes body = entity->body;
    if (sealed || boundary.length == 0) {
        return MIME_CANNOT;
    }
    bool preamble = true;
    size_t at = 0;
    size_t end;
    size_t next;
    enum delimiter found;
    do {
        found = find_delimiter(body, at, boundary, &end, &next);
        if (found == DELIMITER_NONE) {
            return MIME_CANNOT;
        }
        struct bytes part = bytes_slice(body, at, end - at);
        enum mime_result result = preamble ? copy(part, out) : convert_entity(part, false, digest, depth + 1, out);
        if (result == MIME_CONVERTED) {
            result = copy(bytes_slice(body, end, next - end), out);
        }
        if (result != MIME_CONVERTED) {
            return result;
        }
        at = next;
        preamble = false;
    } while (found == DELIMITER_NEXT);
    return copy(bytes_slice(body, at, body.length - at), out);
}

static enum mime_result convert_entity(struct bytes text, bool is_message, bool in_digest, unsigned depth,
                                       struct buffer *out)
{
    if (!needs_encoding(text)) {
        return copy(text, out);
    }
    struct entity entity;
    if (depth > MIME_DEPTH_MAX || !read_entity(text, in_digest, &entity) || entity.encoding == ENCODING_OTHER) {
        return MIME_CANNOT;
    }
    bool multipart = mime_type_is(&entity.type, BYTES("multipart"));
    bool message = mime_type_is(&entity.type, BYTES("message"));
    if (!multipart && !message) {
        return convert_leaf(&entity, is_message, out);
    }
    if (message && !bytes_equal_nocase(entity.type.subtype, BYTES("rfc822"))) {
        return MIME_CANNOT;
    }
    if (!put_header(&entity, is_message, BYTES("7bit"), false, out)) {
        return MIME_FULL;
    }
    return multipart ? convert_multipart(&entity, depth, out)
                     : convert_entity(entity.body, true, false, depth + 1, out);
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

/* Lines end in CRLF, and there is no other CR or LF, and no NUL: what intake lets in. */
static bool is_clean(struct bytes message)
{
    for (size_t i = 0; i < message.length; i++) {
        char c = message.data[i];
        if (c == '\0' || (c == '\n' && (i == 0 || message.data[i - 1] != '\r')) ||
            (c == '\r' && (i + 1 == message.length || message.data[i + 1] != '\n'))) {
            return false;
        }
    }
    return true;
}

enum mime_result mime_binary_to_7bit(struct bytes text, struct buffer *out)
{
    size_t start = out->length;
    enum mime_result result = convert_entity(text, true, false, 0, out);
    if (result == MIME_CONVERTED) {
        bool line_ended = out->length >= start + 2 && memcmp(out->data + out->length - 2, "\r\n", 2) == 0;
        if (!buffer_append(out, line_ended ? BYTES(".\r\n") : BYTES("\r\n.\r\n"))) {
            result = MIME_FULL;
        }
    }
    if (result != MIME_CONVERTED) {
        out->length = start;
    }
    return result;
}

enum mime_result mime_to_7bit(struct bytes message, struct buffer *out)
{
    static const char end[] = "\r\n.\r\n";
    if (!has_8bit(message)) {
        return buffer_append(out, message) ? MIME_CONVERTED : MIME_FULL;
    }
    if (!is_clean(message) || message.length < 5 || memcmp(message.data + message.length - 5, end, 5) != 0) {
        return MIME_CANNOT;
    }
    return mime_binary_to_7bit(bytes_slice(message, 0, message.length - 3), out);
}
