#include "base/utf8.h"

static size_t sequence_length(uint8_t first)
{
    return first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
}

size_t utf8_take(struct bytes text, uint32_t *ret_code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t first = (uint8_t)text.data[0];
    size_t length = sequence_length(first);
    if (length == 0 || length > text.length) {
        return 0;
    }
    uint32_t code = length == 1 ? first : first & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        uint8_t octet = (uint8_t)text.data[i];
        if ((octet & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (octet & 0x3f);
    }
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return 0;
    }
    *ret_code = code;
    return length;
}

bool utf8_printable(struct bytes text)
{
    while (text.length != 0) {
        uint32_t code;
        size_t length = utf8_take(text, &code);
        if (length == 0 || code < ' ' || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029) {
            return false;
        }
        bytes_advance(&text, length);
    }
    return true;
}
