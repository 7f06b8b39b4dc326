#include "smtp/xtext.h"

static const char digits[] = "0123456789ABCDEF";

static bool is_xchar(char c)
{
    return c > ' ' && c <= '~' && c != '+' && c != '=';
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Takes one octet off text, which is not empty. -1 when it does not begin with xtext. */
static int take(struct bytes *text)
{
    if (is_xchar(text->data[0])) {
        int c = (uint8_t)text->data[0];
        bytes_advance(text, 1);
        return c;
    }
    if (text->data[0] != '+' || text->length < 3 || digit_of(text->data[1]) < 0 || digit_of(text->data[2]) < 0) {
        return -1;
    }
    int c = digit_of(text->data[1]) << 4 | digit_of(text->data[2]);
    bytes_advance(text, 3);
    return c;
}

bool xtext_valid(struct bytes text)
{
    while (text.length != 0) {
        if (take(&text) < 0) {
            return false;
        }
    }
    return true;
}

bool xtext_printable(struct bytes text, bool eight_bit)
{
    while (text.length != 0) {
        int c = take(&text);
        if (c < ' ' || c == 0x7f || (c > 0x7f && !eight_bit)) {
            return false;
        }
    }
    return true;
}

bool xtext_decode(struct buffer *out, struct bytes text)
{
    size_t start = out->length;
    while (text.length != 0) {
        int c = take(&text);
        char octet = (char)c;
        if (c < 0 || !buffer_append(out, bytes_of(&octet, 1))) {
            out->length = start;
            return false;
        }
    }
    return true;
}

bool xtext_encode(struct buffer *out, struct bytes octets)
{
    size_t start = out->length;
    for (size_t i = 0; i < octets.length; i++) {
        uint8_t c = (uint8_t)octets.data[i];
        const char coded[] = {'+', digits[c >> 4], digits[c & 15]};
        if (!buffer_append(out, is_xchar((char)c) ? bytes_of(&octets.data[i], 1) : bytes_of(coded, sizeof(coded)))) {
            out->length = start;
            return false;
        }
    }
    return true;
}
