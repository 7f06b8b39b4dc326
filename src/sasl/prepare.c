#include "sasl/prepare.h"

/* The length of the sequence that `text` begins with, and what it encodes; 0 when it is none. RFC 3629 4. */
static size_t sequence(struct bytes text, uint32_t *ret_code)
{
    uint8_t first = (uint8_t)text.data[0];
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    static const uint8_t bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (length == 0 || length > text.length) {
        return 0;
    }
    uint32_t code = first & bits[length];
    for (size_t i = 1; i < length; i++) {
        uint8_t next = (uint8_t)text.data[i];
        if ((next & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (next & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    *ret_code = code;
    return code < smallest[length] || code > 0x10ffff || surrogate ? 0 : length;
}

bool prepare_is_text(struct bytes text)
{
    while (text.length != 0) {
        uint32_t code = 0;
        size_t length = sequence(text, &code);
        if (length == 0 || code < 0x20 || (code >= 0x7f && code <= 0x9f)) {
            return false;
        }
        bytes_advance(&text, length);
    }
    return true;
}

bool prepare_is_ascii(struct bytes text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return true;
}
