#include "sasl/recent.h"

/* The key is a keyed digest, so its own octets choose the place. */
static struct recent_entry *set_of(const struct recent *recent, const uint8_t *key)
{
    CHECK(recent->count >= RECENT_WAYS && (recent->count & (recent->count - 1)) == 0);
    uint32_t place;
    memcpy(&place, key, sizeof place);
    return &recent->entries[place & (recent->count - 1) & ~(uint32_t)(RECENT_WAYS - 1)];
}

bool recent_find(const struct recent *recent, const struct sasl_crypto *crypto, const uint8_t key[SASL_DIGEST_BYTES],
                 uint64_t now_ms)
{
    const struct recent_entry *set = set_of(recent, key);
    bool found = false;
    for (unsigned i = 0; i < RECENT_WAYS; i++) {
        found |= crypto->equal(bytes_of(set[i].key, SASL_DIGEST_BYTES), bytes_of(key, SASL_DIGEST_BYTES)) &&
                 set[i].until_ms > now_ms;
    }
    return found;
}

void recent_add(struct recent *recent, const uint8_t key[SASL_DIGEST_BYTES], uint64_t until_ms)
{
    struct recent_entry *set = set_of(recent, key);
    struct recent_entry *place = set;
    for (unsigned i = 0; i < RECENT_WAYS; i++) {
        if (memcmp(set[i].key, key, SASL_DIGEST_BYTES) == 0) {
            place = &set[i];
            break;
        }
        place = set[i].until_ms < place->until_ms ? &set[i] : place;
    }
    memcpy(place->key, key, SASL_DIGEST_BYTES);
    place->until_ms = until_ms;
}
