/* Reads a Content-Type value (RFC 2045 5.1). Only mime.c includes this. */
#ifndef MAIL_MIME_TYPE_H
#define MAIL_MIME_TYPE_H

#include "base/bytes.h"

enum { MIME_TYPE_BOUNDARY_BYTES_MAX = 70 };

struct mime_type {
    struct bytes type;    /* "multipart"; points into the value */
    struct bytes subtype; /* "mixed" */
    char boundary[MIME_TYPE_BOUNDARY_BYTES_MAX];
    uint8_t boundary_length; /* 0: none, two, too long, or a parameter list that is not well formed */
};

/* `value`: behind the colon, folds and comments allowed. False when not even type and subtype can be read. */
bool mime_type_parse(struct bytes value, struct mime_type *ret_type);

bool mime_type_is(const struct mime_type *type, struct bytes name);

#endif
