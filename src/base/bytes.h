/* Spans of bytes and bounded output buffers: the two shapes in which text moves through ringpost. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "base/check.h"

/* A read-only span. Owns nothing: whoever handed it out says how long it lives. Not NUL-terminated. */
struct bytes {
    const char *data;
    size_t length;
};

/* A span over a string literal. */
#define BYTES(literal) ((struct bytes){.data = ("" literal), .length = sizeof(literal) - 1})

static inline struct bytes bytes_of(const void *data, size_t length)
{
    return (struct bytes){.data = (const char *)data, .length = length};
}

static inline struct bytes bytes_of_string(const char *string)
{
    return bytes_of(string, strlen(string));
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

static inline char bytes_ascii_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* Equal when ASCII letters are compared without case. */
static inline bool bytes_equal_nocase(struct bytes a, struct bytes b)
{
    if (a.length != b.length) {
        return false;
    }
    for (size_t i = 0; i < a.length; i++) {
        if (bytes_ascii_lower(a.data[i]) != bytes_ascii_lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

/* Drops the first n bytes (n <= length). */
static inline void bytes_advance(struct bytes *span, size_t n)
{
    CHECK(n <= span->length);
    if (n != 0) {
        span->data += n;
        span->length -= n;
    }
}

static inline struct bytes bytes_slice(struct bytes span, size_t offset, size_t length)
{
    CHECK(offset <= span.length && length <= span.length - offset);
    return bytes_of(offset != 0 ? span.data + offset : span.data, length); /* no arithmetic on NULL */
}

/* A bounded, caller-owned output buffer. The append functions write all or nothing: they return false and leave the
 * buffer as it was when the room does not suffice. */
struct buffer {
    char *data;
    size_t length;
    size_t capacity;
};

static inline struct buffer buffer_of(void *data, size_t capacity)
{
    return (struct buffer){.data = (char *)data, .length = 0, .capacity = capacity};
}

static inline size_t buffer_room(const struct buffer *b)
{
    return b->capacity - b->length;
}

static inline struct bytes buffer_bytes(const struct buffer *b)
{
    return bytes_of(b->data, b->length);
}

static inline bool buffer_append(struct buffer *b, struct bytes span)
{
    if (span.length > buffer_room(b)) {
        return false;
    }
    if (span.length != 0) {
        memcpy(b->data + b->length, span.data, span.length);
        b->length += span.length;
    }
    return true;
}

static inline bool buffer_append_string(struct buffer *b, const char *string)
{
    return buffer_append(b, bytes_of_string(string));
}

/* Decimal, without sign. */
bool buffer_append_number(struct buffer *b, uint64_t number);

/* printf into the buffer; all or nothing; adds no NUL. Not for hot paths. */
bool buffer_append_format(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Parses the whole span as an unsigned decimal number without sign or spaces. False on anything else or overflow. */
bool bytes_parse_number(struct bytes span, uint64_t *ret_number);

#endif
