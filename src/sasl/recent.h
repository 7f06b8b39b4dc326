/* Keys that were right a short time ago, in a table that never grows. Not thread-safe; inbound/accounts holds a lock.
 */
#ifndef SASL_RECENT_H
#define SASL_RECENT_H

#include "sasl/sasl_crypto.h"

#define RECENT_WAYS 4

struct recent_entry {
    uint8_t key[SASL_DIGEST_BYTES];
    uint64_t until_ms; /* 0: empty */
};

/* `entries` of room for `count`, a power of two and a multiple of RECENT_WAYS, all zero at the start. */
struct recent {
    struct recent_entry *entries;
    uint32_t count;
};

bool recent_find(const struct recent *recent, const struct sasl_crypto *crypto, const uint8_t key[SASL_DIGEST_BYTES],
                 uint64_t now_ms);

/* Where it goes, the entry that would end first is overwritten. The key is kept until the time, however often it is
 * found: a password is hashed at least once in each period. */
void recent_add(struct recent *recent, const uint8_t key[SASL_DIGEST_BYTES], uint64_t until_ms);

#endif
