#include "dns/mx_site.h"

#include <stdint.h>
#include <stdlib.h>
#include <xxhash.h>

#define MARK_BYTES 17 /* '#' and a 64-bit hash in hex */

static int compare(const void *left, const void *right)
{
    const struct bytes *a = left;
    const struct bytes *b = right;
    size_t common = a->length < b->length ? a->length : b->length;
    int order = common == 0 ? 0 : memcmp(a->data, b->data, common);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

/* Goes on with the text whatever its length: what does not fit is only hashed. */
static void add(XXH3_state_t *hash, char *out, size_t *length, struct bytes text)
{
    XXH3_64bits_update(hash, text.data, text.length);
    for (size_t i = 0; i < text.length; i++, ++*length) {
        if (*length < MX_SITE_BYTES) {
            out[*length] = text.data[i];
        }
    }
}

size_t mx_site_key(struct bytes *names, unsigned count, char out[MX_SITE_BYTES])
{
    XXH3_state_t hash;
    size_t length = 0;
    XXH3_64bits_reset(&hash);
    qsort(names, count, sizeof *names, compare);
    for (unsigned i = 0; i < count; i++) {
        if (i > 0 && bytes_equal(names[i], names[i - 1])) {
            continue;
        }
        if (length != 0) {
            add(&hash, out, &length, BYTES(","));
        }
        add(&hash, out, &length, names[i]);
    }
    if (length <= MX_SITE_BYTES) {
        return length;
    }
    struct buffer mark = buffer_of(out + MX_SITE_BYTES - MARK_BYTES, MARK_BYTES);
    CHECK(buffer_append_format(&mark, "#%016llx", (unsigned long long)XXH3_64bits_digest(&hash)));
    return MX_SITE_BYTES;
}
