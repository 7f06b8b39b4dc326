/* Recovery replays the log: segments in the order of their numbers, in each the entries in the order of the records,
 * be they from its SEAL or from a scan, through the same ledger that the writer's completions use. So what a start
 * knows is what the process that died knew, by construction.
 *
 *   load       every file's header; unknown versions end the start, unreadable headers set the file aside
 *   replay     MESSAGE: a slot, or, when the id is known, a newer copy of it. OUTCOME and GRAVES: of a recipient
 *   roll call  the envelopes of what is left are read and announced (rollcall.c)
 *
 * Segments that were not sealed become FULL and are sealed in the background; the log goes on in a fresh segment, so
 * that nothing is ever appended after bytes of unknown origin.
 */
#include "spool/recovery.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "spool/journal.h"
#include "spool/ledger.h"
#include "spool/record.h"
#include "spool/scan.h"
#include "spool/spool_private.h"

#define RECOVERY_ID_GAP (UINT64_C(1) << 20) /* ids that were given out but did not reach the disk */
#define RECOVERY_ID_TIME_SHIFT 24 /* ids begin at the second of the start, so that a lost spool repeats none */

#define RECOVERY_BLOCK 16u /* ids that stay together in the table */

struct recovery {
    struct spool *spool;
    struct rollcall_times times;
    uint32_t *slots; /* by hash of the id: open addressing, linear probing, never more than half full */
    uint32_t slot_capacity;
    uint32_t slot_count;
    struct segment **order; /* by number */
    uint32_t order_count;
    uint64_t last_used; /* number of the last segment that was written to */
    bool no_memory;
    char *reason;
    size_t reason_size;
};

/* --- ids -------------------------------------------------------------------------------------------------------- */

/* Ids are counted up, so neighbours in the log are neighbours in the table, in blocks of a cache line. The blocks are
 * scattered: every start of the program begins a new run of ids whose low bits are those of the runs before, and runs
 * that lie upon each other would make one search of thousands of steps. */
static uint32_t recovery_hash(uint64_t id, uint32_t capacity)
{
    uint64_t block = (id / RECOVERY_BLOCK) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t place = (uint32_t)(block >> (64 - __builtin_ctz(capacity)));
    return (place & ~(RECOVERY_BLOCK - 1)) | ((uint32_t)id & (RECOVERY_BLOCK - 1));
}

static uint64_t recovery_id(const struct recovery *recovery, uint32_t slot)
{
    return index_id(index_at(&recovery->spool->index, slot));
}

static uint32_t recovery_place(const struct recovery *recovery, uint64_t id)
{
    uint32_t at = recovery_hash(id, recovery->slot_capacity);
    while (recovery->slots[at] != INDEX_NONE && recovery_id(recovery, recovery->slots[at]) != id) {
        at = (at + 1) & (recovery->slot_capacity - 1);
    }
    return at;
}

static uint32_t recovery_find(const struct recovery *recovery, uint64_t id)
{
    return recovery->slot_capacity == 0 ? INDEX_NONE : recovery->slots[recovery_place(recovery, id & INDEX_ID_MASK)];
}

static bool recovery_grow(struct recovery *recovery)
{
    uint32_t old_capacity = recovery->slot_capacity;
    uint32_t *old = recovery->slots;
    uint32_t capacity = old_capacity == 0 ? 4096 : old_capacity * 2;
    uint32_t *slots = malloc(capacity * sizeof *slots);
    if (slots == NULL) {
        return false;
    }
    memset(slots, 0xff, capacity * sizeof *slots);
    recovery->slots = slots;
    recovery->slot_capacity = capacity;
    for (uint32_t i = 0; i < old_capacity; i++) {
        if (old[i] != INDEX_NONE) {
            slots[recovery_place(recovery, recovery_id(recovery, old[i]))] = old[i];
        }
    }
    free(old);
    return true;
}

static bool recovery_enter(struct recovery *recovery, uint32_t slot)
{
    if (2 * (recovery->slot_count + 1) > recovery->slot_capacity && !recovery_grow(recovery)) {
        return false;
    }
    recovery->slots[recovery_place(recovery, recovery_id(recovery, slot))] = slot;
    recovery->slot_count++;
    return true;
}

/* Before the slot is given back. Entries behind it that would not be found any more move up. */
static void recovery_leave(struct recovery *recovery, uint64_t id)
{
    uint32_t mask = recovery->slot_capacity - 1;
    uint32_t hole = recovery_place(recovery, id);
    for (uint32_t at = (hole + 1) & mask; recovery->slots[at] != INDEX_NONE; at = (at + 1) & mask) {
        uint32_t home = recovery_hash(recovery_id(recovery, recovery->slots[at]), recovery->slot_capacity);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            recovery->slots[hole] = recovery->slots[at];
            hole = at;
        }
    }
    recovery->slots[hole] = INDEX_NONE;
    recovery->slot_count--;
}

/* Damage that costs nothing. */
static void recovery_warn(const struct recovery *recovery, const struct segment *segment, uint64_t offset,
                          const char *what)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(segment->file, name);
    log_line(LOG_WARNING, "damaged spool file", "path=%s/%s offset=%llu what=\"%s\"", recovery->spool->path, name,
             (unsigned long long)offset, what);
}

/* --- replay ----------------------------------------------------------------------------------------------------- */

static void recovery_damage(struct recovery *recovery, struct segment *segment, uint64_t offset, const char *what)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(segment->file, name);
    log_line(LOG_ERROR, "damaged spool record", "path=%s/%s offset=%llu what=\"%s\"", recovery->spool->path, name,
             (unsigned long long)offset, what);
    segment->quarantined++;
    recovery->spool->quarantined++;
    SPOOL_COUNT(recovery->spool, spool_quarantined, 1);
}

/* The head of a message with states or extents; *ret_data is to be freed. */
static bool recovery_head(const struct segment *segment, const struct spool_format_entry *entry, char **ret_data,
                          struct record_message *ret_message)
{
    uint64_t offset = (uint64_t)entry->position * SPOOL_FORMAT_ALIGN;
    uint64_t length = (uint64_t)(entry->head < UINT16_MAX ? entry->head : entry->length) * SPOOL_FORMAT_ALIGN;
    uint64_t needed;
    struct spool_format_record record;
    char *data = length > sizeof record ? malloc(length) : NULL;
    if (data == NULL) {
        return false;
    }
    bool good = pread(segment->fd, data, length, (off_t)offset) == (ssize_t)length;
    memcpy(&record, data, sizeof record);
    good = good && record_valid(&record, segment->epoch, offset, segment->bytes) && record.message == entry->message;
    uint64_t there = length - sizeof record < record.payload_bytes ? length - sizeof record : record.payload_bytes;
    good = good && record_read_message(bytes_of(data + sizeof record, there), record.payload_bytes, ret_message,
                                       &needed) == ERR_OK;
    if (!good) {
        free(data);
        return false;
    }
    *ret_data = data;
    return true;
}

/* Resolves the extents and counts them as live. One may be nowhere: the message is finished, as a later outcome will
 * tell, and the extent's segment was emptied before the message's own. */
static void recovery_extents(struct recovery *recovery, const struct record_message *message,
                             struct index_extent *ret_extents)
{
    struct spool *spool = recovery->spool;
    for (uint32_t i = 0; i < message->fixed.extents; i++) {
        struct spool_format_extent extent = record_extent(message, i);
        struct segment *segment = segment_of_epoch(&spool->segments, extent.epoch);
        uint64_t offset = (uint64_t)extent.position * SPOOL_FORMAT_ALIGN;
        ret_extents[i] = (struct index_extent){
            .offset = extent.position, .payload_bytes = extent.payload_bytes, .segment = SEGMENT_NONE};
        if (segment != NULL && offset + record_bytes(extent.payload_bytes) <= segment->bytes) {
            ret_extents[i].segment = segment->index;
            ledger_extent(spool, segment, extent.payload_bytes);
            ledger_extent_used(spool, segment);
        }
    }
}

static void recovery_states(struct recovery *recovery, uint32_t slot, const struct record_message *message)
{
    struct journal_iterator items = journal_iterate(message->states);
    struct journal_item item;
    const struct index_slot *at = index_at(&recovery->spool->index, slot);
    uint64_t id = index_id(at);
    while (journal_next(&items, &item)) {
        uint16_t recipient = item.state.recipient;
        if (recipient >= at->recipients ||
            journal_final((uint8_t)index_recipient_get(&recovery->spool->index, at, recipient).status)) {
            continue;
        }
        struct rollcall_time time = {.next_attempt_s = item.state.next_attempt_s, .attempts = item.state.attempts};
        recovery->no_memory |= !rollcall_note(recovery->spool, &recovery->times, slot, recipient, time);
        bool last = at->left == 1 && journal_final(item.state.status);
        if (last) {
            recovery_leave(recovery, id);
        }
        if (ledger_outcome(recovery->spool, slot, recipient, item.state.status, NULL, 0)) {
            return;
        }
    }
}

static void recovery_new_message(struct recovery *recovery, struct segment *segment,
                                 const struct spool_format_entry *entry, const struct record_message *message)
{
    struct spool *spool = recovery->spool;
    uint32_t extents = message != NULL ? message->fixed.extents : 0;
    uint32_t slot = index_take(&spool->index, entry->message, entry->recipient, extents);
    if (slot == INDEX_NONE) {
        recovery->no_memory = true;
        return;
    }
    const struct index_side *side = index_side_of(&spool->index, index_at(&spool->index, slot));
    if (extents > 0) {
        recovery_extents(recovery, message, side->extents);
    }
    rollcall_forget(spool, &recovery->times, slot);
    recovery->no_memory |= !recovery_enter(recovery, slot);
    ledger_message(spool, slot, segment, (uint64_t)entry->position * SPOOL_FORMAT_ALIGN,
                   (uint64_t)entry->length * SPOOL_FORMAT_ALIGN);
}

static bool recovery_copy(struct recovery *recovery, uint32_t slot, struct segment *segment,
                          const struct spool_format_entry *entry, const struct record_message *message)
{
    struct spool *spool = recovery->spool;
    const struct index_side *side = index_side_of(&spool->index, index_at(&spool->index, slot));
    uint32_t known = side != NULL ? side->extent_count : 0;
    uint32_t count = message != NULL ? message->fixed.extents : 0;
    struct index_extent *extents = calloc((size_t)count + 1, sizeof *extents);
    bool good = extents != NULL && known == count && entry->recipient == index_at(&spool->index, slot)->recipients;
    if (good) {
        if (count > 0) {
            recovery_extents(recovery, message, extents);
        }
        ledger_moved(spool, slot, segment, (uint64_t)entry->position * SPOOL_FORMAT_ALIGN,
                     (uint64_t)entry->length * SPOOL_FORMAT_ALIGN, extents);
    }
    free(extents);
    return good;
}

static void recovery_message(struct recovery *recovery, struct segment *segment, const struct spool_format_entry *entry)
{
    struct record_message message;
    char *data = NULL;
    if (entry->status != 0 && !recovery_head(segment, entry, &data, &message)) {
        recovery_damage(recovery, segment, (uint64_t)entry->position * SPOOL_FORMAT_ALIGN, "a message's head");
        return;
    }
    uint32_t slot = recovery_find(recovery, entry->message);
    if (slot == INDEX_NONE) {
        recovery_new_message(recovery, segment, entry, data != NULL ? &message : NULL);
    } else if (!recovery_copy(recovery, slot, segment, entry, data != NULL ? &message : NULL)) {
        recovery_damage(recovery, segment, (uint64_t)entry->position * SPOOL_FORMAT_ALIGN, "a copy differs");
    }
    slot = recovery_find(recovery, entry->message);
    if (data != NULL && slot != INDEX_NONE) {
        recovery_states(recovery, slot, &message);
    }
    free(data);
}

static void recovery_outcome(struct recovery *recovery, struct segment *segment, struct spool_format_entry *entry,
                             bool scanned)
{
    struct spool *spool = recovery->spool;
    uint32_t slot = recovery_find(recovery, entry->message);
    if (slot == INDEX_NONE) {
        return;
    }
    const struct index_slot *at = index_at(&spool->index, slot);
    bool final = journal_final(entry->status);
    if (entry->recipient >= at->recipients ||
        journal_final((uint8_t)index_recipient_get(&spool->index, at, entry->recipient).status)) {
        return;
    }
    if (final && scanned && entry->type == SPOOL_FORMAT_OUTCOME) {
        entry->next_attempt_s = (uint32_t)spool_segment(spool, at->segment)->number;
    }
    if (!final) {
        struct rollcall_time time = {.next_attempt_s = entry->next_attempt_s, .attempts = entry->attempts};
        recovery->no_memory |= !rollcall_note(spool, &recovery->times, slot, entry->recipient, time);
    }
    if (final && at->left == 1) {
        recovery_leave(recovery, entry->message & INDEX_ID_MASK);
    }
    ledger_outcome(spool, slot, entry->recipient, entry->status, segment,
                   (uint64_t)entry->position * SPOOL_FORMAT_ALIGN);
}

static void recovery_replay(struct recovery *recovery, struct segment *segment, struct spool_format_entry *entries,
                            uint32_t count, bool scanned)
{
    for (uint32_t i = 0; i < count && !recovery->no_memory; i++) {
        struct spool_format_entry *entry = &entries[i];
        uint64_t id = entry->message & INDEX_ID_MASK;
        recovery->spool->next_id = id < recovery->spool->next_id ? recovery->spool->next_id : id + 1;
        if (entry->type == SPOOL_FORMAT_MESSAGE) {
            recovery_message(recovery, segment, entry);
        } else if (entry->status > SPOOL_FORMAT_PENDING && entry->status <= SPOOL_FORMAT_REMOVED) {
            recovery_outcome(recovery, segment, entry, scanned);
        }
    }
}

/* --- scanning --------------------------------------------------------------------------------------------------- */

struct recovery_scan {
    struct recovery *recovery;
    struct segment *segment;
};

static void recovery_note(struct recovery_scan *context, const struct spool_format_entry *entry)
{
    context->recovery->no_memory |= !segment_note(context->segment, entry);
}

static void recovery_scan_message(struct recovery_scan *context, const struct spool_format_record *record,
                                  uint64_t offset, struct bytes payload)
{
    struct record_message message;
    uint64_t needed;
    if (record_read_message(payload, record->payload_bytes, &message, &needed) != ERR_OK ||
        message.fixed.id != record->message) {
        recovery_damage(context->recovery, context->segment, offset, "a message that is not well formed");
        return;
    }
    uint64_t head = (sizeof *record + record_head_bytes(&message.fixed) + SPOOL_FORMAT_ALIGN - 1) / SPOOL_FORMAT_ALIGN;
    recovery_note(context, &(struct spool_format_entry){
                               .message = record->message,
                               .position = record->position,
                               .type = SPOOL_FORMAT_MESSAGE,
                               .status = (uint8_t)((message.states.length != 0 ? SPOOL_FORMAT_ENTRY_STATES : 0) |
                                                   (message.extents.length != 0 ? SPOOL_FORMAT_ENTRY_EXTENTS : 0)),
                               .recipient = message.fixed.recipients,
                               .length = (uint32_t)(record_bytes(record->payload_bytes) / SPOOL_FORMAT_ALIGN),
                               .head = (uint16_t)(head < UINT16_MAX ? head : UINT16_MAX),
                           });
}

static void recovery_scan_record(void *opaque, const struct spool_format_record *record, uint64_t offset,
                                 struct bytes payload)
{
    struct recovery_scan *context = opaque;
    struct spool_format_outcome outcome;
    struct journal_item item;
    if (record->type == SPOOL_FORMAT_MESSAGE) {
        recovery_scan_message(context, record, offset, payload);
    } else if (record->type == SPOOL_FORMAT_OUTCOME) {
        struct journal_iterator items = journal_outcome(payload, &outcome);
        while (journal_next(&items, &item)) {
            recovery_note(context, &(struct spool_format_entry){
                                       .message = record->message,
                                       .position = record->position,
                                       .type = SPOOL_FORMAT_OUTCOME,
                                       .status = item.state.status,
                                       .recipient = item.state.recipient,
                                       .next_attempt_s = item.state.next_attempt_s,
                                       .attempts = item.state.attempts,
                                   });
        }
    } else if (record->type == SPOOL_FORMAT_GRAVES) {
        for (size_t at = 0; at + sizeof(struct spool_format_grave) <= payload.length;
             at += sizeof(struct spool_format_grave)) {
            struct spool_format_grave grave;
            memcpy(&grave, payload.data + at, sizeof grave);
            recovery_note(context, &(struct spool_format_entry){
                                       .message = grave.message,
                                       .position = record->position,
                                       .type = SPOOL_FORMAT_GRAVES,
                                       .status = grave.status,
                                       .recipient = grave.recipient,
                                       .next_attempt_s = grave.segment,
                                   });
        }
    }
}

static void recovery_scan_damage(void *opaque, uint64_t offset, uint64_t end, uint64_t records)
{
    struct recovery_scan *context = opaque;
    char what[80];
    snprintf(what, sizeof what, "%llu records in %llu bytes", (unsigned long long)records,
             (unsigned long long)(end - offset));
    recovery_damage(context->recovery, context->segment, offset, what);
}

/* After a crash of the process alone its last writes are in memory and not yet on the disk; and if the last one failed,
 * they may be there for good: the kernel counts those pages as clean, and a sync passes over them. So what nothing
 * vouches for is written once more before it is believed, or a SEAL could tell of records that a power cut takes away.
 * 0 or -errno. */
static int recovery_make_durable(const struct segment *segment, uint64_t begin, uint64_t end)
{
    struct iovec piece = {.iov_base = malloc(end - begin + 1), .iov_len = end - begin};
    char *data = piece.iov_base;
    if (data == NULL) {
        return -ENOMEM;
    }
    int result = pread(segment->fd, data, end - begin, (off_t)begin) == (ssize_t)(end - begin) ? 0 : -EIO;
    while (result == 0 && piece.iov_len != 0) {
        ssize_t n = pwritev2(segment->fd, &piece, 1, (off_t)(end - piece.iov_len), RWF_DSYNC);
        if (n > 0) {
            piece.iov_base = (char *)piece.iov_base + n;
            piece.iov_len -= (size_t)n;
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
            result = n == 0 ? -EIO : -errno;
        }
    }
    free(data);
    return result != 0 ? result : fdatasync(segment->fd) != 0 ? -errno : 0;
}

/* Scans and replays. A segment in which nothing of its epoch is found is a spare. */
static enum err recovery_scan(struct recovery *recovery, struct segment *segment, uint64_t end, uint64_t bound)
{
    struct spool *spool = recovery->spool;
    struct recovery_scan context = {.recovery = recovery, .segment = segment};
    struct scan scan = {
        .fd = segment->fd,
        .epoch = segment->epoch,
        .bytes = segment->bytes,
        .end = end,
        /* Its header was written when all sequences below first_sequence were used. */
        .expected = spool->next_sequence > segment->first_sequence ? spool->next_sequence : segment->first_sequence,
        .bound = bound,
        .last = bound == UINT64_MAX && end == 0,
        .context = &context,
        .record = recovery_scan_record,
        .damaged = recovery_scan_damage,
    };
    enum err err = scan_run(&scan);
    if (err != ERR_OK) {
        return err;
    }
    if (!scan.dirty && end == 0) {
        segment_set_state(&spool->segments, segment, SEGMENT_SPARE);
        segment->used = SPOOL_FORMAT_HEADER_BYTES;
        return ERR_OK;
    }
    segment_set_state(&spool->segments, segment, SEGMENT_FULL);
    if (recovery_make_durable(segment, scan.unsure_offset, scan.next_offset) != 0) {
        recovery_warn(recovery, segment, 0, "not synced, and moved elsewhere");
        SPOOL_COUNT(spool, spool_write_errors, 1);
        spool_suspect(spool, segment);
    }
    segment->used = scan.next_offset;
    segment->first_sequence = scan.first_sequence;
    segment->end_sequence = spool->next_sequence = scan.next_sequence;
    recovery_replay(recovery, segment, segment->entries, segment->entry_count, true);
    if (scan.records > 0 || segment->quarantined > 0) {
        seal_queue(spool, segment);
    }
    return ERR_OK;
}

static enum err recovery_segment(struct recovery *recovery, struct segment *segment, uint64_t bound)
{
    struct spool *spool = recovery->spool;
    struct spool_format_seal seal;
    struct spool_format_entry *entries = NULL;
    uint64_t offset = 0;
    enum err err = seal_find(segment->fd, segment->epoch, segment->bytes, &offset);
    if (err == ERR_CORRUPT) {
        recovery_warn(recovery, segment, segment->bytes - sizeof(struct spool_format_trailer),
                      "the trailer does not verify, segment scanned");
    }
    if (err != ERR_OK) {
        return segment->number > recovery->last_used ? ERR_OK : recovery_scan(recovery, segment, 0, bound);
    }
    err = seal_read(segment->fd, segment->epoch, segment->bytes, offset, &seal, &entries);
    if (err == ERR_NO_MEMORY) {
        return err;
    }
    if (err != ERR_OK) {
        char name[SEGMENT_NAME_BYTES];
        segment_name(segment->file, name);
        log_line(LOG_ERROR, "damaged seal, segment scanned", "path=%s/%s offset=%llu", spool->path, name,
                 (unsigned long long)offset);
        spool->quarantined++;
        SPOOL_COUNT(spool, spool_quarantined, 1);
        return recovery_scan(recovery, segment, offset, bound);
    }
    segment_set_state(&spool->segments, segment, SEGMENT_FULL);
    segment->used = offset;
    segment->sealed = true;
    segment->quarantined += seal.quarantined;
    segment->first_sequence = seal.first_sequence;
    segment->end_sequence = seal.next_sequence;
    spool->next_sequence = seal.next_sequence > spool->next_sequence ? seal.next_sequence : spool->next_sequence;
    spool->next_id = seal.id_floor > spool->next_id ? seal.id_floor : spool->next_id;
    recovery_replay(recovery, segment, entries, seal.entries, false);
    free(entries);
    return ERR_OK;
}

/* --- loading ---------------------------------------------------------------------------------------------------- */

static enum err recovery_fail(struct recovery *recovery, const char *name, enum err err, const char *what)
{
    snprintf(recovery->reason, recovery->reason_size, "%s/%s: %s", recovery->spool->path, name, what);
    return err;
}

/* The file may hold mail, but we cannot know which: it is kept for the operator and ignored from now on. */
static enum err recovery_set_aside(struct recovery *recovery, const char *name)
{
    struct spool *spool = recovery->spool;
    char aside[SEGMENT_NAME_BYTES + 8];
    snprintf(aside, sizeof aside, "%.*s.bad", (int)SEGMENT_NAME_BYTES, name);
    log_line(LOG_ERROR, "segment header does not verify, file set aside", "path=%s/%s", spool->path, aside);
    spool->quarantined++;
    SPOOL_COUNT(spool, spool_quarantined, 1);
    if (renameat(spool->directory, name, spool->directory, aside) != 0) {
        return recovery_fail(recovery, name, ERR_IO, strerror(errno));
    }
    return ERR_OK;
}

static enum err recovery_adopt(struct recovery *recovery, const char *name, uint32_t file, int fd, uint64_t size)
{
    struct spool *spool = recovery->spool;
    char page[SPOOL_FORMAT_HEADER_BYTES] = {0};
    struct spool_format_segment header = {0};
    unsigned copies;
    if (pread(fd, page, sizeof page, 0) < 0) {
        return recovery_fail(recovery, name, ERR_IO, strerror(errno));
    }
    enum err err = segment_decode(page, &header, &copies);
    if (err == ERR_FORMAT) {
        char what[96];
        snprintf(what, sizeof what, "format version %u, this program reads version %u", header.version,
                 SPOOL_FORMAT_VERSION);
        return recovery_fail(recovery, name, ERR_FORMAT, what);
    }
    uint64_t bytes = header.bytes < size ? header.bytes : size / SPOOL_FORMAT_ALIGN * SPOOL_FORMAT_ALIGN;
    if (err != ERR_OK || bytes < 2 * SPOOL_FORMAT_HEADER_BYTES) {
        return ERR_CORRUPT;
    }
    if (header.spool != spool->number) {
        return recovery_fail(recovery, name, ERR_FORMAT, "belongs to the spool of another number");
    }
    struct segment *segment = segment_add(&spool->segments);
    if (segment == NULL) {
        return recovery_fail(recovery, name, ERR_NO_MEMORY, "no memory");
    }
    segment->number = header.number;
    segment->epoch = header.epoch;
    segment->first_sequence = header.sequence_floor;
    segment->bytes = bytes;
    segment->file = file;
    segment->fd = fd;
    if (copies < 2) {
        recovery_warn(recovery, segment, 0, "a copy of the header does not verify");
    }
    spool->next_segment = header.number < spool->next_segment ? spool->next_segment : header.number + 1;
    spool->next_sequence = header.sequence_floor < spool->next_sequence ? spool->next_sequence : header.sequence_floor;
    spool->next_id = header.id_floor < spool->next_id ? spool->next_id : header.id_floor;
    int result = segment_map(segment);
    return result == 0 ? ERR_OK : recovery_fail(recovery, name, ERR_NO_MEMORY, strerror(-result));
}

static enum err recovery_load_file(struct recovery *recovery, const char *name, uint32_t file)
{
    struct spool *spool = recovery->spool;
    struct stat status;
    int fd = openat(spool->directory, name, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        if (fd >= 0) {
            close(fd);
        }
        return recovery_fail(recovery, name, ERR_IO, strerror(errno));
    }
    uint32_t before = spool->segments.count;
    enum err err = recovery_adopt(recovery, name, file, fd, (uint64_t)status.st_size);
    if (spool->segments.count == before) {
        close(fd);
    }
    return err == ERR_CORRUPT ? recovery_set_aside(recovery, name) : err;
}

/* "00000012.seg" gives 12; temporary files of an earlier life are removed, everything else is none of our business. */
static enum err recovery_load_name(struct recovery *recovery, const char *name)
{
    struct spool *spool = recovery->spool;
    uint64_t file = 0;
    size_t length = strlen(name);
    if (length < 5 || !bytes_parse_number(bytes_of(name, length - 4), &file) || file >= UINT32_MAX) {
        return ERR_OK;
    }
    const char *suffix = name + length - 4;
    if (strcmp(suffix, ".new") == 0) {
        unlinkat(spool->directory, name, 0);
        return ERR_OK;
    }
    char canonical[SEGMENT_NAME_BYTES];
    segment_name((uint32_t)file, canonical);
    if (strcmp(name, canonical) != 0) {
        return ERR_OK;
    }
    spool->next_file = (uint32_t)file < spool->next_file ? spool->next_file : (uint32_t)file + 1;
    return recovery_load_file(recovery, name, (uint32_t)file);
}

static enum err recovery_load(struct recovery *recovery)
{
    int fd = openat(recovery->spool->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (directory == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return recovery_fail(recovery, ".", ERR_IO, strerror(errno));
    }
    enum err err = ERR_OK;
    struct dirent *entry;
    while (err == ERR_OK && (entry = readdir(directory)) != NULL) {
        err = recovery_load_name(recovery, entry->d_name);
    }
    /* What is not here must not come back: the number of a segment that was unlinked is about to be given again. */
    if (err == ERR_OK && fsync(fd) != 0) {
        err = recovery_fail(recovery, ".", ERR_IO, strerror(errno));
    }
    closedir(directory);
    return err;
}

/* --- the whole -------------------------------------------------------------------------------------------------- */

static int recovery_compare(const void *a, const void *b)
{
    uint64_t left = (*(struct segment *const *)a)->number;
    uint64_t right = (*(struct segment *const *)b)->number;
    return (left > right) - (left < right);
}

static enum err recovery_sort(struct recovery *recovery)
{
    struct spool *spool = recovery->spool;
    recovery->order = calloc((size_t)spool->segments.count + 1, sizeof(struct segment *));
    if (recovery->order == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        if (spool->segments.at[i] != NULL) {
            recovery->order[recovery->order_count++] = spool->segments.at[i];
        }
    }
    qsort(recovery->order, recovery->order_count, sizeof(struct segment *), recovery_compare);
    for (uint32_t i = 1; i < recovery->order_count; i++) {
        if (recovery->order[i]->number == recovery->order[i - 1]->number) {
            char name[SEGMENT_NAME_BYTES];
            segment_name(recovery->order[i]->file, name);
            return recovery_fail(recovery, name, ERR_CORRUPT, "another file is the same segment: remove the copy");
        }
    }
    return ERR_OK;
}

/* The sequence of the first record, or UINT64_MAX when there is none that can be read. */
static uint64_t recovery_first_sequence(const struct segment *segment)
{
    struct spool_format_record record;
    bool good = pread(segment->fd, &record, sizeof record, SPOOL_FORMAT_HEADER_BYTES) == (ssize_t)sizeof record &&
                record_valid(&record, segment->epoch, SPOOL_FORMAT_HEADER_BYTES, segment->bytes);
    return good && record.type != SPOOL_FORMAT_SEAL ? record.sequence : UINT64_MAX;
}

/* Spares are used in the order of their numbers, so behind the last segment with a readable beginning only the next one
 * can have been written to (and been damaged at its beginning): that one is scanned, those behind it are spares. */
static void recovery_find_last(struct recovery *recovery, const uint64_t *first)
{
    uint32_t used = 0;
    uint64_t offset;
    for (uint32_t i = 0; i < recovery->order_count; i++) {
        const struct segment *segment = recovery->order[i];
        if (first[i] != UINT64_MAX || seal_find(segment->fd, segment->epoch, segment->bytes, &offset) == ERR_OK) {
            used = i + 1;
        }
    }
    used = used < recovery->order_count ? used + 1 : used;
    recovery->last_used = used > 0 ? recovery->order[used - 1]->number : 0;
}

static enum err recovery_replay_all(struct recovery *recovery)
{
    struct spool *spool = recovery->spool;
    uint64_t *first = calloc((size_t)recovery->order_count + 1, sizeof *first);
    if (first == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < recovery->order_count; i++) {
        first[i] = recovery_first_sequence(recovery->order[i]);
    }
    recovery_find_last(recovery, first);
    /* first[i]: the lowest sequence from segment i on */
    first[recovery->order_count] = UINT64_MAX;
    for (uint32_t i = recovery->order_count; i-- > 0;) {
        first[i] = first[i] < first[i + 1] ? first[i] : first[i + 1];
    }
    /* The floors in the headers are for a log without records; with records, they tell. */
    uint64_t floor = spool->next_sequence;
    spool->next_sequence = 1;
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < recovery->order_count && err == ERR_OK; i++) {
        struct segment *segment = recovery->order[i];
        err = recovery_segment(recovery, segment, first[i + 1]);
        if (segment->state == SEGMENT_MAKING) {
            segment_set_state(&spool->segments, segment, SEGMENT_SPARE);
            segment->used = SPOOL_FORMAT_HEADER_BYTES;
        }
    }
    spool->next_sequence = spool->next_sequence > floor ? spool->next_sequence : floor;
    spool->writer.durable_sequence = spool->next_sequence;
    free(first);
    return recovery->no_memory ? ERR_NO_MEMORY : err;
}

/* Spares get a new header each before they count as empty, and before anything else is emptied. Two reasons: one with a
 * number below that of a segment in use would be filled out of order; and a header that a failed write left in the page
 * cache reads like a durable one, but a power cut brings the old one back, and with it either the records behind it or
 * none of those that were written since. */
static void recovery_renew_spares(struct recovery *recovery)
{
    struct spool *spool = recovery->spool;
    for (uint32_t i = 0; i < recovery->order_count; i++) {
        if (recovery->order[i]->state == SEGMENT_SPARE) {
            segment_set_state(&spool->segments, recovery->order[i], SEGMENT_FULL);
            recovery->order[i]->renew = true;
        }
    }
    spool->look = true;
}

enum err recovery_run(struct spool *spool, const struct spool_settings *settings, char *reason, size_t reason_size)
{
    struct recovery recovery = {.spool = spool, .reason = reason, .reason_size = reason_size};
    snprintf(reason, reason_size, "%s: no memory", spool->path);
    enum err err = recovery_load(&recovery);
    if (err == ERR_OK) {
        err = recovery_sort(&recovery);
    }
    if (err == ERR_OK) {
        err = recovery_replay_all(&recovery);
    }
    free(recovery.slots);
    if (err == ERR_OK) {
        recovery_renew_spares(&recovery);
        uint64_t now = (spool->shard->wall_ms / 1000 << RECOVERY_ID_TIME_SHIFT) & INDEX_ID_MASK;
        spool->next_id += RECOVERY_ID_GAP;
        spool->next_id = spool->next_id > now ? spool->next_id : now;
        err = rollcall_run(spool, settings, &recovery.times);
    }
    rollcall_free(&recovery.times);
    free(recovery.order);
    return err;
}
