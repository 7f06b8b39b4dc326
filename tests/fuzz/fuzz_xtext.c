#include <stdlib.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "smtp/datetime.h"
#include "smtp/xtext.h"

/* xtext, base64 and dates: what is decoded and written again is what it was, and nothing else decodes. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_xtext(struct bytes text, char *space)
{
    struct buffer out = buffer_of(space, 3 * text.length);
    EXPECT(xtext_encode(&out, text) && xtext_valid(buffer_bytes(&out)));
    struct buffer again = buffer_of(space + out.length, text.length);
    EXPECT(xtext_decode(&again, buffer_bytes(&out)) && bytes_equal(buffer_bytes(&again), text));
    out = buffer_of(space, text.length);
    bool valid = xtext_valid(text);
    EXPECT(xtext_decode(&out, text) == valid);
    EXPECT(valid || (!xtext_printable(text, true) && out.length == 0));
    for (size_t i = 0; i < out.length; i++) {
        EXPECT(!xtext_printable(text, true) || ((uint8_t)out.data[i] >= ' ' && out.data[i] != 0x7f));
        EXPECT(!xtext_printable(text, false) || (uint8_t)out.data[i] < 0x7f);
    }
}

static void check_base64(struct bytes text, char *space)
{
    struct buffer out = buffer_of(space, BASE64_ENCODED_BYTES(text.length));
    size_t length;
    EXPECT(base64_encode(&out, text) && base64_decode(buffer_bytes(&out), space, &length));
    EXPECT(bytes_equal(bytes_of(space, length), text));
    char *octets = malloc(text.length / 4 * 3 + 1);
    if (base64_decode(text, octets, &length)) {
        out.length = 0;
        EXPECT(base64_encode(&out, bytes_of(octets, length)) && bytes_equal(buffer_bytes(&out), text));
    }
    free(octets);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of(data, size);
    char *space = malloc(4 * size + 32);
    check_xtext(text, space);
    check_base64(text, space);
    uint64_t s, again;
    if (datetime_parse(text, &s)) {
        struct buffer out = buffer_of(space, 20);
        EXPECT(datetime_append(&out, s) && datetime_parse(buffer_bytes(&out), &again) && again == s);
    }
    if (utf8_printable(text)) {
        EXPECT(size == 0 || memchr(data, 0x0a, size) == NULL);
    }
    free(space);
    return 0;
}
