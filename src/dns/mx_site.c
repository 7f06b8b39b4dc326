#include "dns/mx_site.h"

#include <stdlib.h>
#include <xxhash.h>

#include "dns/answer.h"

#define MARK_BYTES 17 /* '#' and a 64-bit hash in hex */

static int compare(const void *left, const void *right)
{
    const struct bytes *a = left;
    const struct bytes *b = right;
    size_t common = a->length < b->length ? a->length : b->length;
    int order = common == 0 ? 0 : memcmp(a->data, b->data, common);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

size_t mx_site_key(struct bytes *names, unsigned count, char out[MX_SITE_BYTES])
{
    char text[ANSWER_RECORDS_MAX * (ANSWER_NAME_BYTES + 1)];
    struct buffer key = buffer_of(text, sizeof text);
    CHECK(count <= ANSWER_RECORDS_MAX);
    qsort(names, count, sizeof *names, compare);
    for (unsigned i = 0; i < count; i++) {
        if (i == 0 || !bytes_equal(names[i], names[i - 1])) {
            CHECK((i == 0 || buffer_append_string(&key, ",")) && buffer_append(&key, names[i]));
        }
    }
    if (key.length <= MX_SITE_BYTES) {
        memcpy(out, key.data, key.length);
        return key.length;
    }
    memcpy(out, key.data, MX_SITE_BYTES - MARK_BYTES);
    struct buffer mark = buffer_of(out + MX_SITE_BYTES - MARK_BYTES, MARK_BYTES);
    unsigned long long hash = XXH3_64bits(key.data, key.length);
    CHECK(buffer_append_format(&mark, "#%016llx", hash));
    return MX_SITE_BYTES;
}
