#include "base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool base64_encode(struct buffer *out, struct bytes octets)
{
    if (buffer_room(out) < BASE64_ENCODED_BYTES(octets.length)) {
        return false;
    }
    for (size_t i = 0; i < octets.length; i += 3) {
        size_t left = octets.length - i;
        uint32_t group = (uint32_t)(uint8_t)octets.data[i] << 16;
        group |= left > 1 ? (uint32_t)(uint8_t)octets.data[i + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)(uint8_t)octets.data[i + 2] : 0;
        const char text[] = {alphabet[group >> 18], alphabet[group >> 12 & 63],
                             left > 1 ? alphabet[group >> 6 & 63] : '=', left > 2 ? alphabet[group & 63] : '='};
        CHECK(buffer_append(out, bytes_of(text, sizeof(text))));
    }
    return true;
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four characters, of which `padding` at the end are '='. Returns the three octets, or -1. */
static int32_t group_of(const char *text, size_t padding)
{
    int32_t group = 0;
    for (size_t i = 0; i < 4; i++) {
        int value = i < 4 - padding ? value_of(text[i]) : 0;
        if (value < 0) {
            return -1;
        }
        group = group << 6 | value;
    }
    int32_t unused = padding == 2 ? 0xffff : padding == 1 ? 0xff : 0;
    return (group & unused) != 0 ? -1 : group;
}

bool base64_decode(struct bytes text, char *ret_octets, size_t *ret_length)
{
    if (text.length % 4 != 0) {
        return false;
    }
    size_t length = 0;
    for (size_t i = 0; i < text.length; i += 4) {
        bool last = i + 4 == text.length;
        size_t padding = !last || text.data[i + 3] != '=' ? 0 : text.data[i + 2] != '=' ? 1 : 2;
        int32_t group = group_of(text.data + i, padding);
        if (group < 0) {
            return false;
        }
        for (size_t j = 0; j < 3 - padding; j++) {
            ret_octets[length++] = (char)(group >> (16 - 8 * j));
        }
    }
    *ret_length = length;
    return true;
}
