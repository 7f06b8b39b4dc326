/* A million envelopes in well under a second: in the order of the disk, with reads that cover many small messages at
 * once and skip what lies between two distant ones. */
#include "spool/rollcall.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "spool/quarantine.h"
#include "spool/record.h"
#include "spool/spool_private.h"

#define ROLLCALL_HEAD_BYTES 1024 /* read at first when the size of a head is not known */
#define ROLLCALL_WINDOW_BYTES (256u << 10)
#define ROLLCALL_GAP_BYTES 4096 /* rather read this much in vain than make another call */

struct rollcall_place {
    uint32_t offset; /* of the record / 64 */
    uint32_t slot;
};

struct rollcall {
    struct spool *spool;
    const struct spool_settings *settings;
    const struct rollcall_times *times;
    struct rollcall_place *places; /* all live messages, by segment */
    uint32_t *starts;              /* of each segment's */
    struct spool_state *states;
    char *window;
    uint64_t window_offset;
    uint64_t window_length;
};

static bool rollcall_grow(void **array, uint32_t *capacity, uint32_t needed, size_t size)
{
    if (needed <= *capacity) {
        return true;
    }
    uint32_t grown = needed < 1024 ? 1024 : needed + needed / 2;
    char *larger = realloc(*array, grown * size);
    if (larger == NULL) {
        return false;
    }
    memset(larger + *capacity * size, 0, (grown - *capacity) * size);
    *array = larger;
    *capacity = grown;
    return true;
}

bool rollcall_note(struct spool *spool, struct rollcall_times *times, uint32_t slot, uint16_t recipient,
                   struct rollcall_time time)
{
    const struct index_slot *at = index_at(&spool->index, slot);
    if ((at->flags & INDEX_SIDE) == 0) {
        void *singles = times->singles;
        bool grown = rollcall_grow(&singles, &times->single_capacity, slot + 1, sizeof *times->singles);
        times->singles = singles;
        if (grown) {
            times->singles[slot] = time;
        }
        return grown;
    }
    void *sides = times->sides;
    bool grown = rollcall_grow(&sides, &times->side_capacity, at->side + 1, sizeof(struct rollcall_time *));
    times->sides = sides;
    if (grown && times->sides[at->side] == NULL) {
        times->sides[at->side] = calloc(at->recipients, sizeof(struct rollcall_time));
    }
    if (!grown || times->sides[at->side] == NULL) {
        return false;
    }
    times->sides[at->side][recipient] = time;
    return true;
}

void rollcall_forget(const struct spool *spool, struct rollcall_times *times, uint32_t slot)
{
    const struct index_slot *at = index_at(&spool->index, slot);
    if ((at->flags & INDEX_SIDE) == 0 && slot < times->single_capacity) {
        times->singles[slot] = (struct rollcall_time){0};
    } else if ((at->flags & INDEX_SIDE) != 0 && at->side < times->side_capacity) {
        free(times->sides[at->side]);
        times->sides[at->side] = NULL;
    }
}

void rollcall_free(struct rollcall_times *times)
{
    for (uint32_t i = 0; i < times->side_capacity; i++) {
        free(times->sides[i]);
    }
    free(times->sides);
    free(times->singles);
}

static struct rollcall_time rollcall_time_of(const struct rollcall_times *times, const struct index_slot *at,
                                             uint32_t slot, uint16_t recipient)
{
    if ((at->flags & INDEX_SIDE) == 0) {
        return slot < times->single_capacity ? times->singles[slot] : (struct rollcall_time){0};
    }
    bool known = at->side < times->side_capacity && times->sides[at->side] != NULL;
    return known ? times->sides[at->side][recipient] : (struct rollcall_time){0};
}

/* --- the order -------------------------------------------------------------------------------------------------- */

static int rollcall_compare(const void *a, const void *b)
{
    uint32_t left = ((const struct rollcall_place *)a)->offset;
    uint32_t right = ((const struct rollcall_place *)b)->offset;
    return (left > right) - (left < right);
}

static bool rollcall_wanted(const struct index_slot *at)
{
    return (at->flags & INDEX_LIVE) != 0 && (at->flags & INDEX_QUARANTINED) == 0;
}

/* Counting sort by segment, then by place; what was never moved is sorted already. */
static bool rollcall_order(struct rollcall *rollcall)
{
    const struct spool *spool = rollcall->spool;
    const struct index *index = &spool->index;
    uint32_t segments = spool->segments.capacity;
    rollcall->starts = calloc((size_t)segments + 2, sizeof *rollcall->starts);
    rollcall->places = malloc(((size_t)index->used + 1) * sizeof *rollcall->places);
    if (rollcall->starts == NULL || rollcall->places == NULL) {
        return false;
    }
    uint32_t *starts = rollcall->starts;
    for (uint32_t slot = 0; slot < index->begun; slot++) {
        const struct index_slot *at = index_at(index, slot);
        starts[rollcall_wanted(at) ? at->segment + 2 : 0]++;
    }
    starts[0] = 0;
    for (uint32_t i = 2; i < segments + 2; i++) {
        starts[i] += starts[i - 1];
    }
    for (uint32_t slot = 0; slot < index->begun; slot++) {
        const struct index_slot *at = index_at(index, slot);
        if (rollcall_wanted(at)) {
            rollcall->places[starts[at->segment + 1]++] = (struct rollcall_place){.offset = at->offset, .slot = slot};
        }
    }
    for (uint32_t i = 0; i < segments; i++) {
        struct rollcall_place *first = rollcall->places + starts[i];
        uint32_t count = starts[i + 1] - starts[i];
        bool sorted = true;
        for (uint32_t j = 1; j < count && sorted; j++) {
            sorted = first[j - 1].offset < first[j].offset;
        }
        if (!sorted) {
            qsort(first, count, sizeof *first, rollcall_compare);
        }
    }
    return true;
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

/* Where a read that begins with this message should end, so that it covers its close followers. */
static uint64_t rollcall_window_end(const struct rollcall *rollcall, const struct rollcall_place *place,
                                    const struct rollcall_place *last)
{
    const struct index *index = &rollcall->spool->index;
    uint64_t start = (uint64_t)place->offset * SPOOL_FORMAT_ALIGN;
    uint64_t end = start;
    for (; place < last; place++) {
        uint64_t offset = (uint64_t)place->offset * SPOOL_FORMAT_ALIGN;
        uint64_t length = (uint64_t)index_at(index, place->slot)->length * SPOOL_FORMAT_ALIGN;
        uint64_t head = length < ROLLCALL_HEAD_BYTES ? length : ROLLCALL_HEAD_BYTES;
        if (offset > end + ROLLCALL_GAP_BYTES || offset + head > start + ROLLCALL_WINDOW_BYTES) {
            break;
        }
        end = offset + head;
    }
    return end;
}

/* Bytes of the segment in the window; NULL when they cannot be read. */
static const char *rollcall_read(struct rollcall *rollcall, const struct segment *segment, uint64_t offset,
                                 uint64_t length, const struct rollcall_place *place, const struct rollcall_place *last)
{
    if (offset >= rollcall->window_offset && offset + length <= rollcall->window_offset + rollcall->window_length) {
        return rollcall->window + (offset - rollcall->window_offset);
    }
    uint64_t window_end = rollcall_window_end(rollcall, place, last);
    uint64_t want = window_end > offset + length ? window_end - offset : length;
    rollcall->window_length = 0;
    if (want > ROLLCALL_WINDOW_BYTES) {
        char *larger = realloc(rollcall->window, want);
        if (larger == NULL) {
            return NULL;
        }
        rollcall->window = larger;
    }
    ssize_t n = pread(segment->fd, rollcall->window, want, (off_t)offset);
    if (n < (ssize_t)length) {
        return NULL;
    }
    rollcall->window_offset = offset;
    rollcall->window_length = (uint64_t)n;
    return rollcall->window;
}

static enum err rollcall_message(struct rollcall *rollcall, const struct segment *segment,
                                 const struct rollcall_place *place, const struct rollcall_place *last,
                                 struct record_message *ret_message)
{
    const struct index_slot *at = index_at(&rollcall->spool->index, place->slot);
    uint64_t offset = (uint64_t)place->offset * SPOOL_FORMAT_ALIGN;
    uint64_t length = (uint64_t)at->length * SPOOL_FORMAT_ALIGN;
    uint64_t want = length < ROLLCALL_HEAD_BYTES ? length : ROLLCALL_HEAD_BYTES;
    uint64_t needed = 0;
    enum err err;
    do {
        const char *data = rollcall_read(rollcall, segment, offset, want, place, last);
        struct spool_format_record record;
        if (data == NULL) {
            return ERR_IO;
        }
        memcpy(&record, data, sizeof record);
        if (!record_valid(&record, segment->epoch, offset, segment->bytes) || record.type != SPOOL_FORMAT_MESSAGE ||
            record_bytes(record.payload_bytes) != length) {
            return ERR_CORRUPT;
        }
        uint64_t there = want - sizeof record < record.payload_bytes ? want - sizeof record : record.payload_bytes;
        err = record_read_message(bytes_of(data + sizeof record, there), record.payload_bytes, ret_message, &needed);
        want = sizeof record + needed;
    } while (err == ERR_FULL);
    bool ours = err == ERR_OK && (ret_message->fixed.id & INDEX_ID_MASK) == index_id(at) &&
                ret_message->fixed.recipients == at->recipients;
    const struct index_side *side = index_side_of(&rollcall->spool->index, at);
    for (uint32_t i = 0; side != NULL && i < side->extent_count; i++) {
        ours = ours && side->extents[i].segment != SEGMENT_NONE;
    }
    return ours ? ERR_OK : ERR_CORRUPT;
}

static void rollcall_announce(struct rollcall *rollcall, uint32_t slot, const struct record_message *message)
{
    const struct spool *spool = rollcall->spool;
    const struct index_slot *at = index_at(&spool->index, slot);
    for (uint16_t i = 0; i < at->recipients; i++) {
        struct rollcall_time time = rollcall_time_of(rollcall->times, at, slot, i);
        rollcall->states[i] = (struct spool_state){
            .status = (enum spool_format_status)index_recipient_get(&spool->index, at, i).status,
            .attempts = time.attempts,
            .next_attempt_s = time.next_attempt_s,
        };
    }
    const struct spool_recovered recovered = {
        .slot = slot,
        .id = message->fixed.id,
        .arrival_ms = message->fixed.arrival_ms,
        .body_bytes = message->fixed.total_body_bytes,
        .flags = message->fixed.flags,
        .recipients = message->fixed.recipients,
        .envelope = message->envelope,
        .states = rollcall->states,
    };
    if (rollcall->settings->recovered != NULL) {
        rollcall->settings->recovered(rollcall->settings->context, &recovered);
    }
}

static void rollcall_segment(struct rollcall *rollcall, const struct segment *segment)
{
    const struct rollcall_place *place = rollcall->places + rollcall->starts[segment->index];
    const struct rollcall_place *last = rollcall->places + rollcall->starts[segment->index + 1];
    rollcall->window_length = 0;
    for (; place < last; place++) {
        struct record_message message;
        enum err err = rollcall_message(rollcall, segment, place, last, &message);
        if (err == ERR_OK) {
            rollcall_announce(rollcall, place->slot, &message);
        } else {
            uint64_t id = index_id(index_at(&rollcall->spool->index, place->slot));
            spool_quarantine(rollcall->spool, place->slot, (uint64_t)rollcall->spool->number << SPOOL_NUMBER_SHIFT | id,
                             err_name(err));
        }
    }
}

enum err rollcall_run(struct spool *spool, const struct spool_settings *settings, const struct rollcall_times *times)
{
    struct rollcall rollcall = {
        .spool = spool,
        .settings = settings,
        .times = times,
        .states = malloc(UINT16_MAX * sizeof(struct spool_state)),
        .window = malloc(ROLLCALL_WINDOW_BYTES),
    };
    bool memory = rollcall.states != NULL && rollcall.window != NULL && rollcall_order(&rollcall);
    for (uint32_t i = 0; memory && i < spool->segments.capacity; i++) {
        if (spool->segments.at[i] != NULL) {
            rollcall_segment(&rollcall, spool->segments.at[i]);
        }
    }
    free(rollcall.places);
    free(rollcall.starts);
    free(rollcall.states);
    free(rollcall.window);
    return memory ? ERR_OK : ERR_NO_MEMORY;
}
