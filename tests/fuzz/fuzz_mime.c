/* mail/mime with whatever somebody calls a message. */
#include <stdint.h>
#include <stdlib.h>

#include "mail/mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What comes out is 7-bit, ends as it must, and does not change when it is converted again. */
static void check(struct bytes out)
{
    for (size_t i = 0; i < out.length; i++) {
        CHECK((out.data[i] & 0x80) == 0);
    }
    char *again = malloc(out.length + 1);
    CHECK(again != NULL);
    struct buffer same = buffer_of(again, out.length);
    CHECK(mime_to_7bit(out, &same) == MIME_CONVERTED && bytes_equal(buffer_bytes(&same), out));
    free(again);
}

static bool has_final_dot(struct bytes message)
{
    return message.length >= 5 && memcmp(message.data + message.length - 5, "\r\n.\r\n", 5) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t capacities[] = {0, 100, 1000};
    struct bytes message = bytes_of(data, size);
    char *room = malloc(mime_capacity(size));
    CHECK(room != NULL);
    struct buffer out = buffer_of(room, mime_capacity(size));
    if (mime_to_7bit(message, &out) == MIME_CONVERTED) {
        check(buffer_bytes(&out));
        CHECK(has_final_dot(buffer_bytes(&out)) || !has_final_dot(message));
    } else {
        CHECK(out.length == 0);
    }
    out.length = 0;
    if (mime_binary_to_7bit(message, &out) == MIME_CONVERTED) {
        check(buffer_bytes(&out));
        CHECK(memchr(out.data, '\0', out.length) == NULL && out.length >= 3);
    } else {
        CHECK(out.length == 0);
    }
    free(room);
    for (size_t i = 0; i < 3; i++) {
        char *small = malloc(capacities[i] + 1);
        CHECK(small != NULL);
        out = buffer_of(small, capacities[i]);
        mime_to_7bit(message, &out);
        free(small);
    }
    return 0;
}
