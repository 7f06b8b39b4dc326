#include "dns/cache.h"

#include <assert.h>
#include <stdlib.h>

#include "base/map.h"

#define TYPE_BYTES 2
#define KEY_BYTES_MAX (TYPE_BYTES + ANSWER_NAME_BYTES)

static_assert(CACHE_FAILURE_TTL_S <= 300, "RFC 2308 7.1");

struct cache {
    struct map entries;
    struct list used; /* answers, the one used longest ago first */
    size_t bytes;
    size_t bytes_max;
};

struct cache *cache_new(unsigned entries_max)
{
    CHECK(entries_max > 0);
    struct cache *cache = malloc(sizeof *cache);
    if (cache != NULL) {
        map_init(&cache->entries, entries_max);
        list_init(&cache->used);
        cache->bytes = 0;
        cache->bytes_max = (size_t)entries_max * CACHE_ENTRY_BYTES_MEAN;
    }
    return cache;
}

static size_t bytes_of_entry(const struct cache_entry *entry)
{
    return sizeof *entry + entry->key_length + (entry->answer != NULL ? answer_bytes(entry->answer) : 0);
}

static void entry_remove(struct cache *cache, struct cache_entry *entry)
{
    CHECK(list_empty(&entry->askers));
    CHECK(map_remove(&cache->entries, bytes_of(entry->key, entry->key_length)) == entry);
    list_remove(&entry->used);
    cache->bytes -= bytes_of_entry(entry);
    free(entry->answer);
    free(entry);
}

void cache_delete(struct cache *cache)
{
    struct list *node;
    while ((node = list_pop_front(&cache->used)) != NULL) {
        entry_remove(cache, LIST_OWNER(node, struct cache_entry, used));
    }
    CHECK(cache->entries.count == 0);
    map_free(&cache->entries);
    free(cache);
}

unsigned cache_count(const struct cache *cache)
{
    return cache->entries.count;
}

size_t cache_bytes(const struct cache *cache)
{
    return cache->bytes;
}

static struct bytes key_of(struct bytes name, enum answer_type type, char out[KEY_BYTES_MAX])
{
    if (name.length > 0 && name.data[name.length - 1] == '.') {
        name.length--;
    }
    CHECK(name.length <= ANSWER_NAME_BYTES);
    out[0] = (char)((unsigned)type >> 8);
    out[1] = (char)type;
    for (size_t i = 0; i < name.length; i++) {
        out[TYPE_BYTES + i] = bytes_ascii_lower(name.data[i]);
    }
    return bytes_of(out, TYPE_BYTES + name.length);
}

struct bytes cache_entry_name(const struct cache_entry *entry)
{
    return bytes_of(entry->key + TYPE_BYTES, (size_t)entry->key_length - TYPE_BYTES);
}

enum answer_type cache_entry_type(const struct cache_entry *entry)
{
    return (enum answer_type)((unsigned char)entry->key[0] << 8 | (unsigned char)entry->key[1]);
}

struct cache_entry *cache_find(struct cache *cache, struct bytes name, enum answer_type type, uint64_t now_ms)
{
    char key[KEY_BYTES_MAX];
    struct cache_entry *entry = map_find(&cache->entries, key_of(name, type, key));
    if (entry == NULL || entry->answer == NULL) {
        return entry;
    }
    if (entry->answer->expires_ms <= now_ms) {
        entry_remove(cache, entry);
        return NULL;
    }
    list_remove(&entry->used);
    list_push_back(&cache->used, &entry->used);
    return entry;
}

struct cache_entry *cache_add(struct cache *cache, struct bytes name, enum answer_type type)
{
    char room[KEY_BYTES_MAX];
    struct bytes key = key_of(name, type, room);
    if (cache->entries.count == cache->entries.max && !list_empty(&cache->used)) {
        entry_remove(cache, LIST_OWNER(cache->used.next, struct cache_entry, used));
    }
    struct cache_entry *entry = malloc(sizeof *entry + key.length);
    if (entry == NULL) {
        return NULL;
    }
    list_init(&entry->used);
    list_init(&entry->askers);
    entry->answer = NULL;
    entry->key_length = (uint16_t)key.length;
    memcpy(entry->key, key.data, key.length);
    if (!map_insert(&cache->entries, bytes_of(entry->key, entry->key_length), entry)) {
        free(entry);
        return NULL;
    }
    cache->bytes += bytes_of_entry(entry);
    return entry;
}

static uint32_t bounded(uint32_t ttl_s, uint32_t max_s)
{
    if (ttl_s > max_s) {
        return max_s;
    }
    return ttl_s < CACHE_TTL_MIN_S ? CACHE_TTL_MIN_S : ttl_s;
}

static uint32_t time_to_live(const struct answer *answer)
{
    switch (answer->status) {
    case ANSWER_TEMPORARY: return CACHE_FAILURE_TTL_S;
    case ANSWER_NO_DATA:
    case ANSWER_NO_DOMAIN:
        return bounded(answer->ttl_s == 0 ? CACHE_NEGATIVE_TTL_S : answer->ttl_s, CACHE_NEGATIVE_TTL_MAX_S);
    case ANSWER_RECORDS:
    case ANSWER_ALIAS: break;
    }
    return bounded(answer->ttl_s, CACHE_TTL_MAX_S);
}

void cache_store(struct cache *cache, struct cache_entry *entry, struct answer *answer, uint64_t now_ms)
{
    CHECK(entry->answer == NULL && list_empty(&entry->askers));
    answer->ttl_s = time_to_live(answer);
    answer->expires_ms = now_ms + (uint64_t)answer->ttl_s * 1000;
    struct answer *copy = answer_copy(answer);
    if (copy == NULL) {
        entry_remove(cache, entry);
        return;
    }
    cache->bytes -= bytes_of_entry(entry);
    entry->answer = copy;
    cache->bytes += bytes_of_entry(entry);
    list_push_back(&cache->used, &entry->used);
    while (cache->bytes > cache->bytes_max && cache->used.next != &entry->used) {
        entry_remove(cache, LIST_OWNER(cache->used.next, struct cache_entry, used));
    }
}

void cache_drop(struct cache *cache, struct cache_entry *entry)
{
    CHECK(entry->answer == NULL);
    entry_remove(cache, entry);
}
