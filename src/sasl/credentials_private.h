/* What credentials.c and credentials_parse.c share. */
#ifndef SASL_CREDENTIALS_PRIVATE_H
#define SASL_CREDENTIALS_PRIVATE_H

#include <stdatomic.h>

#include "base/base64.h"
#include "base/limits.h"
#include "base/map.h"
#include "sasl/credentials.h"

struct credentials {
    _Atomic unsigned *references; /* outside, so that the rest is constant */
    char *text;
    struct credentials_account *accounts;
    uint32_t accounts_count;
    struct bytes *senders;
    uint32_t senders_count;
    uint32_t senders_room;
    struct map names;
    struct map certificates; /* identity -> account */
    bool has_decoy_key;
    uint8_t decoy_key[SASL_DIGEST_BYTES];
    uint32_t usual_iterations;
    uint8_t usual_salt_length;
};

/* ASCII letters to lower case, in place. */
void credentials_fold(char *text, size_t length);

void credentials_free(const struct credentials *credentials);

#endif
