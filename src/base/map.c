/* Linear probing without tombstones.
 *
 * An entry lies at its home (hash modulo capacity) or in the next free places after it, so a lookup ends at the first
 * empty place. Removing one would cut the run behind it; instead of leaving a tombstone, later entries of the run move
 * back into the hole when the hole is not before their home. The table therefore never decays, however long the process
 * runs, and a full walk can rely on this: it goes backwards, starting at an empty place, so that what a removal moves
 * comes from places that were already walked.
 *
 * The hash is XXH3 under a secret of random bytes. Under a fixed secret anyone could compute names that fall into one
 * run, and mail to them would make every lookup a linear search.
 */
#include "base/map.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/rng.h"

#define MAP_CAPACITY_MIN 16u
#define MAP_MAX (UINT32_C(1) << 30)

struct map_entry {
    const char *key;
    uint32_t length;
    uint32_t hash;
    void *value; /* NULL: an empty place */
};

static unsigned char hash_secret[XXH_SECRET_DEFAULT_SIZE] __attribute__((aligned(64)));
static pthread_once_t hash_secret_once = PTHREAD_ONCE_INIT;

static void draw_secret(void)
{
    CHECK(getrandom(hash_secret, sizeof hash_secret, 0) == (ssize_t)sizeof hash_secret);
}

static void keep_secret(void)
{
}

void map_set_seed(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < sizeof hash_secret; i++) {
        hash_secret[i] = (unsigned char)rng_next(&rng);
    }
    pthread_once(&hash_secret_once, keep_secret);
}

static uint32_t hash_of(struct bytes key)
{
    return (uint32_t)XXH3_64bits_withSecret(key.data, key.length, hash_secret, sizeof hash_secret);
}

uint32_t map_hash(struct bytes key)
{
    pthread_once(&hash_secret_once, draw_secret);
    return hash_of(key);
}

void map_init(struct map *map, uint32_t max)
{
    CHECK(max > 0 && max <= MAP_MAX);
    pthread_once(&hash_secret_once, draw_secret);
    *map = (struct map){.max = max};
}

void map_free(struct map *map)
{
    free(map->entries);
    *map = (struct map){.max = map->max};
}

/* The entry of the key, or the empty place where it would go. */
static struct map_entry *probe(const struct map *map, struct bytes key, uint32_t hash)
{
    uint32_t mask = map->capacity - 1;
    for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
        struct map_entry *entry = &map->entries[i];
        if (!entry->value || (entry->hash == hash && bytes_equal(bytes_of(entry->key, entry->length), key))) {
            return entry;
        }
    }
}

static bool grow(struct map *map)
{
    struct map larger = *map;
    larger.capacity = map->capacity != 0 ? map->capacity * 2 : MAP_CAPACITY_MIN;
    larger.entries = calloc(larger.capacity, sizeof *larger.entries);
    if (!larger.entries) {
        return false;
    }
    for (uint32_t i = 0; i < map->capacity; i++) {
        const struct map_entry *entry = &map->entries[i];
        if (entry->value) {
            uint32_t place = entry->hash & (larger.capacity - 1);
            while (larger.entries[place].value) {
                place = (place + 1) & (larger.capacity - 1);
            }
            larger.entries[place] = *entry;
        }
    }
    free(map->entries);
    *map = larger;
    return true;
}

void *map_find(const struct map *map, struct bytes key)
{
    return map->count != 0 ? probe(map, key, hash_of(key))->value : NULL;
}

bool map_insert(struct map *map, struct bytes key, void *value)
{
    CHECK(value && key.length <= UINT32_MAX);
    if (map->count == map->max) {
        return false;
    }
    /* At most three places in four are taken. */
    if (map->count >= map->capacity / 4 * 3 && !grow(map)) {
        return false;
    }
    uint32_t hash = hash_of(key);
    struct map_entry *entry = probe(map, key, hash);
    CHECK(!entry->value);
    *entry = (struct map_entry){.key = key.data, .length = (uint32_t)key.length, .hash = hash, .value = value};
    map->count++;
    return true;
}

void *map_remove(struct map *map, struct bytes key)
{
    if (map->count == 0) {
        return NULL;
    }
    struct map_entry *entry = probe(map, key, hash_of(key));
    void *value = entry->value;
    if (!value) {
        return NULL;
    }
    uint32_t mask = map->capacity - 1;
    uint32_t hole = (uint32_t)(entry - map->entries);
    for (uint32_t i = (hole + 1) & mask; map->entries[i].value; i = (i + 1) & mask) {
        uint32_t from_home = (i - map->entries[i].hash) & mask;
        uint32_t from_hole = (i - hole) & mask;
        if (from_home >= from_hole) {
            map->entries[hole] = map->entries[i];
            hole = i;
        }
    }
    map->entries[hole] = (struct map_entry){0};
    map->count--;
    return value;
}

void *map_next(const struct map *map, struct map_cursor *cursor)
{
    uint32_t mask = map->capacity - 1;
    if (!cursor->walking) {
        *cursor = (struct map_cursor){.left = map->capacity, .walking = true};
        while (map->capacity != 0 && map->entries[cursor->at].value) {
            cursor->at++; /* to an empty place: there always is one */
        }
    }
    while (cursor->left != 0) {
        cursor->left--;
        cursor->at = (cursor->at - 1) & mask;
        void *value = map->entries[cursor->at].value;
        if (value) {
            return value;
        }
    }
    return NULL;
}
