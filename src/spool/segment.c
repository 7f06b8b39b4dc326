#include "spool/segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "spool/record.h"

#define SEGMENT_STATE_BYTES 256 /* a last outcome's record, roughly */

static bool segment_grow(struct segment_table *table)
{
    uint32_t capacity = table->capacity == 0 ? 64 : table->capacity * 2;
    capacity = capacity < SEGMENT_NONE ? capacity : SEGMENT_NONE;
    if (capacity == table->capacity) {
        return false;
    }
    struct segment **at = realloc(table->at, capacity * sizeof(struct segment *));
    if (at == NULL) {
        return false;
    }
    for (uint32_t i = table->capacity; i < capacity; i++) {
        at[i] = NULL;
    }
    table->at = at;
    table->capacity = capacity;
    return true;
}

struct segment *segment_add(struct segment_table *table)
{
    uint32_t index = 0;
    while (index < table->capacity && table->at[index] != NULL) {
        index++;
    }
    if (index == table->capacity && !segment_grow(table)) {
        return NULL;
    }
    struct segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL) {
        return NULL;
    }
    segment->index = (uint16_t)index;
    segment->fd = -1;
    segment->state = SEGMENT_MAKING;
    table->at[index] = segment;
    table->count++;
    return segment;
}

void segment_remove(struct segment_table *table, struct segment *segment)
{
    segment_set_state(table, segment, SEGMENT_MAKING);
    if (segment->map != NULL) {
        munmap((void *)(uintptr_t)segment->map, segment->bytes);
    }
    if (segment->fd >= 0) {
        close(segment->fd);
    }
    segment_set_clear(&segment->graves);
    segment_set_clear(&segment->copies);
    free(segment->entries);
    table->at[segment->index] = NULL;
    table->count--;
    free(segment);
}

void segment_table_free(struct segment_table *table)
{
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->at[i] != NULL) {
            segment_remove(table, table->at[i]);
        }
    }
    free(table->at);
    *table = (struct segment_table){0};
}

void segment_set_state(struct segment_table *table, struct segment *segment, enum segment_state state)
{
    table->spares -= segment->state == SEGMENT_SPARE;
    table->spares += state == SEGMENT_SPARE;
    segment->state = state;
}

struct segment *segment_spare(const struct segment_table *table)
{
    struct segment *best = NULL;
    for (uint32_t i = 0; i < table->capacity; i++) {
        struct segment *segment = table->at[i];
        if (segment != NULL && segment->state == SEGMENT_SPARE && (best == NULL || segment->number < best->number)) {
            best = segment;
        }
    }
    return best;
}

struct segment *segment_of_epoch(const struct segment_table *table, uint64_t epoch)
{
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->at[i] != NULL && table->at[i]->epoch == epoch) {
            return table->at[i];
        }
    }
    return NULL;
}

struct segment *segment_of_number(const struct segment_table *table, uint32_t number)
{
    for (uint32_t i = 0; i < table->capacity; i++) {
        struct segment *segment = table->at[i];
        if (segment != NULL && (uint32_t)segment->number == number && segment->state >= SEGMENT_OPEN) {
            return segment;
        }
    }
    return NULL;
}

struct segment *segment_behind(const struct segment_table *table, const struct segment *segment)
{
    struct segment *best = NULL;
    for (uint32_t i = 0; i < table->capacity; i++) {
        struct segment *other = table->at[i];
        if (other != NULL && other->state == SEGMENT_FULL && other->number > segment->number &&
            (best == NULL || other->number < best->number)) {
            best = other;
        }
    }
    return best;
}

void segment_name(uint32_t file, char ret_name[SEGMENT_NAME_BYTES])
{
    snprintf(ret_name, SEGMENT_NAME_BYTES, "%08u.seg", file);
}

void segment_encode(const struct segment *segment, unsigned spool, uint64_t sequence_floor, uint64_t id_floor,
                    uint64_t now_ms, char ret_page[SPOOL_FORMAT_HEADER_BYTES])
{
    struct spool_format_segment header = {
        .magic = SPOOL_FORMAT_SEGMENT_MAGIC,
        .version = SPOOL_FORMAT_VERSION,
        .spool = spool,
        .number = segment->number,
        .epoch = segment->epoch,
        .bytes = segment->bytes,
        .sequence_floor = sequence_floor,
        .id_floor = id_floor,
        .created_ms = now_ms,
    };
    header.crc = crc32c(0, &header, offsetof(struct spool_format_segment, crc));
    memset(ret_page, 0, SPOOL_FORMAT_HEADER_BYTES);
    memcpy(ret_page, &header, sizeof header);
    memcpy(ret_page + SPOOL_FORMAT_HEADER_COPY, &header, sizeof header);
}

static bool segment_header_valid(const struct spool_format_segment *header)
{
    return header->magic == SPOOL_FORMAT_SEGMENT_MAGIC &&
           header->crc == crc32c(0, header, offsetof(struct spool_format_segment, crc));
}

enum err segment_decode(const char page[SPOOL_FORMAT_HEADER_BYTES], struct spool_format_segment *ret_header,
                        unsigned *ret_copies)
{
    *ret_copies = 0;
    /* A header is rewritten only when the segment is empty, so of two that differ the newer one counts. */
    struct spool_format_segment best = {0};
    for (unsigned copy = 0; copy < 2; copy++) {
        struct spool_format_segment header;
        memcpy(&header, page + copy * SPOOL_FORMAT_HEADER_COPY, sizeof header);
        bool valid = segment_header_valid(&header);
        *ret_copies += valid;
        if (valid && (best.magic == 0 || header.number > best.number)) {
            best = header;
        }
    }
    if (best.magic == 0) {
        return ERR_CORRUPT;
    }
    *ret_header = best;
    return best.version == SPOOL_FORMAT_VERSION ? ERR_OK : ERR_FORMAT;
}

int segment_map(struct segment *segment)
{
    void *map = mmap(NULL, segment->bytes, PROT_READ, MAP_SHARED, segment->fd, 0);
    if (map == MAP_FAILED) {
        return -errno;
    }
    segment->map = map;
    return 0;
}

void segment_live(struct segment *segment, uint64_t bytes)
{
    segment->live++;
    segment->live_bytes += bytes;
}

void segment_dead(struct segment *segment, uint64_t bytes)
{
    CHECK(segment->live > 0 && segment->live_bytes >= bytes);
    segment->live--;
    segment->live_bytes -= bytes;
}

bool segment_holds(const struct segment_set *set, uint32_t index)
{
    return index / 64 < set->word_count && (set->words[index / 64] >> (index % 64) & 1) != 0;
}

bool segment_hold(struct segment_set *set, uint32_t index)
{
    if (segment_holds(set, index)) {
        return true;
    }
    if (index / 64 >= set->word_count) {
        uint32_t word_count = index / 64 + 1;
        uint64_t *words = realloc(set->words, word_count * sizeof *words);
        if (words == NULL) {
            return false;
        }
        for (uint32_t i = set->word_count; i < word_count; i++) {
            words[i] = 0;
        }
        set->words = words;
        set->word_count = word_count;
    }
    set->words[index / 64] |= UINT64_C(1) << (index % 64);
    set->count++;
    return true;
}

void segment_set_clear(struct segment_set *set)
{
    free(set->words);
    *set = (struct segment_set){0};
}

static void segment_set_remove(struct segment_set *set, uint32_t index)
{
    if (segment_holds(set, index)) {
        set->words[index / 64] &= ~(UINT64_C(1) << (index % 64));
        set->count--;
    }
}

void segment_let_go(struct segment_table *table, uint32_t index)
{
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->at[i] != NULL) {
            segment_set_remove(&table->at[i]->graves, index);
            segment_set_remove(&table->at[i]->copies, index);
        }
    }
}

uint64_t segment_weight(const struct segment *segment)
{
    return segment->live_bytes + (uint64_t)segment->states * SEGMENT_STATE_BYTES;
}

bool segment_unneeded(const struct segment *segment)
{
    return !segment->sealing && !segment->pinned && !segment->unsynced && segment->quarantined == 0 &&
           segment->live == 0 && segment->states == 0 && segment->loose == 0 && segment->lent == 0 &&
           segment->graves.count == 0 && segment->copies.count == 0;
}

bool segment_recyclable(const struct segment *segment)
{
    return segment->state == SEGMENT_FULL && !segment->refused && segment_unneeded(segment);
}

bool segment_note(struct segment *segment, const struct spool_format_entry *entry)
{
    if (segment->entry_count == segment->entry_capacity) {
        uint32_t capacity = segment->entry_capacity == 0 ? 1024 : segment->entry_capacity * 2;
        struct spool_format_entry *entries = realloc(segment->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            return false;
        }
        segment->entries = entries;
        segment->entry_capacity = capacity;
    }
    segment->entries[segment->entry_count++] = *entry;
    return true;
}

uint64_t segment_seal_bytes(const struct segment *segment, uint32_t more)
{
    uint64_t payload = sizeof(struct spool_format_seal) +
                       ((uint64_t)segment->entry_count + more) * sizeof(struct spool_format_entry);
    return record_bytes((uint32_t)payload) + sizeof(struct spool_format_trailer);
}
