/* A hash map from byte strings to pointers.
 *
 * The map stores no copy of a key: the key lives in the value that it leads to, and must stay where it is, unchanged,
 * until it is removed. Keys come from strangers (domains, addresses), so the hash is keyed with random bytes that are
 * drawn once per process. The table grows by doubling, up to the limit that was given at the start.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct map_entry;

struct map {
    struct map_entry *entries;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t count;
    uint32_t max;
};

/* Zero-initialised before a walk. */
struct map_cursor {
    uint32_t at;
    uint32_t left;
    bool walking;
};

/* At most `max` entries. Allocates nothing yet. */
void map_init(struct map *map, uint32_t max);
void map_free(struct map *map);

/* The value, or NULL. */
void *map_find(const struct map *map, struct bytes key);

/* Adds a value (not NULL) under a key that is not in the map yet. False at the limit or without memory. */
bool map_insert(struct map *map, struct bytes key, void *value);

/* Takes the entry out and returns its value; NULL when there was none. */
void *map_remove(struct map *map, struct bytes key);

/* Walks all values, in no order: `struct map_cursor c = {0}; while ((v = map_next(&map, &c)))`. NULL at the end. During
 * a walk the value that was returned last may be removed (and then freed), nothing else may change. */
void *map_next(const struct map *map, struct map_cursor *cursor);

/* The hash of a key, for tables of another kind whose keys come from strangers as well. */
uint32_t map_hash(struct bytes key);

/* For tests: makes the hash, and so the order of walks, the same in every run. Before the first map_insert. */
void map_set_seed(uint64_t seed);

#endif
