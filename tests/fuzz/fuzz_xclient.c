#include <stdlib.h>

#include "smtp/xclient.h"
#include "smtp/xtext.h"

/* Attributes of XCLIENT and XFORWARD: what is valid can be taken apart, each name once, and each value decodes to
 * printable text of bounded length. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct bytes rest)
{
    struct xclient_attribute attribute;
    unsigned seen = 0;
    while (xclient_next(&rest, &attribute)) {
        char decoded[XCLIENT_VALUE_BYTES_MAX];
        uint8_t address[16];
        struct buffer out = buffer_of(decoded, sizeof(decoded));
        EXPECT(attribute.name < XCLIENT_NAME_COUNT && (seen & 1u << attribute.name) == 0);
        seen |= 1u << attribute.name;
        EXPECT(xtext_printable(attribute.raw, false) && xtext_decode(&out, attribute.raw));
        EXPECT(!attribute.unavailable || attribute.raw.length == 0);
        bool is_address = attribute.name == XCLIENT_ADDR || attribute.name == XCLIENT_DESTADDR;
        EXPECT(!is_address || attribute.unavailable || xclient_address(attribute.raw, address) != 0);
    }
    EXPECT(seen != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of(data, size);
    if (xclient_valid(text, false)) {
        check(text);
    }
    if (xclient_valid(text, true)) {
        check(text);
    }
    return 0;
}
