#include "smtp/orcpt.h"

#include "base/utf8.h"
#include "smtp/xtext.h"

static bool is_type(struct bytes text)
{
    for (size_t i = 0; i < text.length; i++) {
        char c = bytes_ascii_lower(text.data[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && i != 0))) {
            return false;
        }
    }
    return text.length != 0;
}

/* What EmbeddedUnicodeChar may stand for: what cannot be written as itself, but no control character. */
static bool may_be_embedded(uint32_t code)
{
    return code == ' ' || code == '+' || code == '=' || code == '\\' ||
           (code >= 0xa0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) && code != 0x2028 && code != 0x2029);
}

/* Takes "\x{HEX}". */
static bool take_embedded(struct bytes *text)
{
    uint32_t code = 0;
    size_t i = 3;
    if (text->length < 5 || memcmp(text->data, "\\x{", 3) != 0) {
        return false;
    }
    for (; i < text->length && i < 9 && text->data[i] != '}'; i++) {
        char c = text->data[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && (c < 'A' || c > 'F')) {
            return false;
        }
        code = code << 4 | (uint32_t)(digit ? c - '0' : c - 'A' + 10);
    }
    if (i == text->length || text->data[i] != '}' || !may_be_embedded(code)) {
        return false;
    }
    bytes_advance(text, i + 1);
    return true;
}

static bool is_utf8_address(struct bytes text, bool utf8)
{
    if (text.length == 0 || !utf8_printable(text)) {
        return false;
    }
    while (text.length != 0) {
        char c = text.data[0];
        if (c == '\\') {
            if (!take_embedded(&text)) {
                return false;
            }
            continue;
        }
        if (c == ' ' || c == '+' || c == '=' || ((uint8_t)c > 127 && !utf8)) {
            return false;
        }
        bytes_advance(&text, 1);
    }
    return true;
}

bool orcpt_valid(struct bytes value, bool utf8)
{
    const char *semicolon = value.length == 0 ? NULL : memchr(value.data, ';', value.length);
    if (semicolon == NULL || value.length > ORCPT_BYTES_MAX) {
        return false;
    }
    size_t length = (size_t)(semicolon - value.data);
    struct bytes type = bytes_slice(value, 0, length);
    struct bytes address = bytes_slice(value, length + 1, value.length - length - 1);
    if (bytes_equal_nocase(type, BYTES("utf-8"))) {
        return is_utf8_address(address, utf8);
    }
    return is_type(type) && address.length != 0 && xtext_printable(address, false);
}
