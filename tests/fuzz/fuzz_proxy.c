#include <stdlib.h>

#include "smtp/proxy.h"

/* The PROXY header octet by octet: once decided it stays so, whatever follows, and nothing is read beyond what is
 * there. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size = size < 1200 ? size : 1200;
    enum proxy_result decided = PROXY_NEED_MORE;
    struct proxy_header first = {0};
    for (size_t length = 0; length <= size; length++) {
        struct proxy_header header = {.length = SIZE_MAX};
        char *block = malloc(length + 1);
        memcpy(block, data, length);
        enum proxy_result result = proxy_parse(bytes_of(block, length), &header);
        free(block);
        EXPECT(result != PROXY_NEED_MORE || (decided == PROXY_NEED_MORE && length < PROXY_BYTES_MAX));
        if (result == PROXY_NEED_MORE || result == PROXY_BAD) {
            EXPECT(header.length == SIZE_MAX && (decided == PROXY_NEED_MORE || decided == PROXY_BAD));
            decided = result;
            continue;
        }
        EXPECT(header.length <= length && header.length <= PROXY_BYTES_MAX);
        EXPECT((result == PROXY_DONE) == (header.family == 4 || header.family == 6));
        EXPECT(decided == PROXY_NEED_MORE || (decided == result && memcmp(&first, &header, sizeof(header)) == 0));
        EXPECT(decided != PROXY_NEED_MORE || header.length == length);
        decided = result;
        first = header;
    }
    return 0;
}
