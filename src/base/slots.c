#include "base/slots.h"

#include <stdlib.h>
#include <string.h>

static uint32_t chunk_count(uint32_t max)
{
    return max / SLOTS_CHUNK + (max % SLOTS_CHUNK != 0);
}

bool slots_init(struct slots *slots, size_t size, uint32_t max, bool generations)
{
    CHECK(size >= 4 && size % 4 == 0 && size <= UINT32_MAX / SLOTS_CHUNK);
    CHECK(max > 0 && max < SLOTS_NONE);
    *slots = (struct slots){.size = (uint32_t)size, .max = max, .first_free = SLOTS_NONE};
    slots->chunks = calloc(chunk_count(max), sizeof *slots->chunks);
    if (generations) {
        slots->generations = calloc(chunk_count(max), sizeof *slots->generations);
    }
    if (!slots->chunks || (generations && !slots->generations)) {
        slots_free(slots);
        return false;
    }
    return true;
}

void slots_free(struct slots *slots)
{
    for (uint32_t i = 0; i < chunk_count(slots->begun); i++) {
        free(slots->chunks[i]);
        if (slots->generations) {
            free(slots->generations[i]);
        }
    }
    free(slots->chunks);
    free(slots->generations);
    *slots = (struct slots){.first_free = SLOTS_NONE};
}

static bool add_chunk(struct slots *slots, uint32_t chunk)
{
    uint32_t objects = slots->max - chunk * SLOTS_CHUNK;
    if (objects > SLOTS_CHUNK) {
        objects = SLOTS_CHUNK;
    }
    char *memory = malloc((size_t)objects * slots->size);
    uint32_t *generations = slots->generations ? calloc(objects, sizeof *generations) : NULL;
    if (!memory || (slots->generations && !generations)) {
        free(memory);
        free(generations);
        return false;
    }
    slots->chunks[chunk] = memory;
    if (slots->generations) {
        slots->generations[chunk] = generations;
    }
    return true;
}

static uint32_t *generation_at(const struct slots *slots, uint32_t index)
{
    return &slots->generations[index >> SLOTS_CHUNK_BITS][index % SLOTS_CHUNK];
}

void *slots_take(struct slots *slots, uint32_t *ret_index)
{
    uint32_t index = slots->first_free;
    if (index != SLOTS_NONE) {
        memcpy(&slots->first_free, slots_at(slots, index), sizeof slots->first_free);
    } else {
        index = slots->begun;
        if (index == slots->max || (index % SLOTS_CHUNK == 0 && !add_chunk(slots, index >> SLOTS_CHUNK_BITS))) {
            return NULL;
        }
        slots->begun++;
    }
    slots->used++;
    if (slots->generations) {
        *generation_at(slots, index) += 1;
    }
    *ret_index = index;
    return slots_at(slots, index);
}

void slots_give(struct slots *slots, uint32_t index)
{
    if (slots->generations) {
        CHECK(slots_generation(slots, index) % 2 == 1);
        *generation_at(slots, index) += 1;
    }
    CHECK(slots->used > 0);
    memcpy(slots_at(slots, index), &slots->first_free, sizeof slots->first_free);
    slots->first_free = index;
    slots->used--;
}

uint32_t slots_generation(const struct slots *slots, uint32_t index)
{
    CHECK(slots->generations && index < slots->begun);
    return *generation_at(slots, index);
}

void *slots_find(const struct slots *slots, uint32_t index, uint32_t generation)
{
    CHECK(slots->generations);
    bool there = index < slots->begun && generation % 2 == 1 && *generation_at(slots, index) == generation;
    return there ? slots_at(slots, index) : NULL;
}
