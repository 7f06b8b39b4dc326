#include "sasl/armor.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool armor_encode(struct buffer *out, struct bytes octets)
{
    if ((octets.length + 2) / 3 * 4 > buffer_room(out)) {
        return false;
    }
    for (size_t i = 0; i < octets.length; i += 3) {
        size_t left = octets.length - i;
        uint32_t group = (uint32_t)(uint8_t)octets.data[i] << 16;
        group |= left > 1 ? (uint32_t)(uint8_t)octets.data[i + 1] << 8 : 0;
        group |= left > 2 ? (uint8_t)octets.data[i + 2] : 0;
        out->data[out->length++] = letters[group >> 18];
        out->data[out->length++] = letters[group >> 12 & 63];
        out->data[out->length++] = left > 1 ? letters[group >> 6 & 63] : '=';
        out->data[out->length++] = left > 2 ? letters[group & 63] : '=';
    }
    return true;
}

/* -1: not a letter of the alphabet. */
static int value_of(char c)
{
    const char *found = c != '\0' ? strchr(letters, c) : NULL;
    return found != NULL ? (int)(found - letters) : -1;
}

/* Four characters into three octets, less one for each '=' at the end. The bits that are then over must be 0. */
static bool decode_group(const char *text, unsigned padding, char ret_octets[3])
{
    uint32_t group = 0;
    for (unsigned i = 0; i < 4; i++) {
        int value = i < 4 - padding ? value_of(text[i]) : 0;
        if (value < 0) {
            return false;
        }
        group = group << 6 | (uint32_t)value;
    }
    for (unsigned i = 0; i < 3; i++) {
        ret_octets[i] = (char)(group >> (16 - 8 * i));
    }
    return padding == 0 || (group & (padding == 1 ? 0xffu : 0xffffu)) == 0;
}

bool armor_decode(struct buffer *out, struct bytes text)
{
    size_t before = out->length;
    if (text.length % 4 != 0 || text.length == 0) {
        return text.length == 0;
    }
    for (size_t i = 0; i < text.length; i += 4) {
        bool last = i + 4 == text.length;
        unsigned padding = !last || text.data[i + 3] != '=' ? 0 : text.data[i + 2] != '=' ? 1 : 2;
        char octets[3];
        if (!decode_group(text.data + i, padding, octets) || !buffer_append(out, bytes_of(octets, 3 - padding))) {
            out->length = before;
            return false;
        }
    }
    return true;
}
