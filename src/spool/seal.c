#include "spool/seal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "spool/record.h"
#include "spool/spool_private.h"

static void seal_done(struct op *op, int result, uint32_t flags);

void seal_init(struct spool *spool)
{
    spool->sealer.op.done = seal_done;
}

bool seal_idle(const struct spool *spool)
{
    return spool->sealer.waiting == 0 && spool->sealer.segment == NULL;
}

static void seal_forget_entries(struct segment *segment)
{
    free(segment->entries);
    segment->entries = NULL;
    segment->entry_count = segment->entry_capacity = 0;
}

void seal_queue(struct spool *spool, struct segment *segment)
{
    CHECK(segment->state == SEGMENT_FULL && !segment->sealing && !segment->sealed);
    if (segment->suspect || segment->unsealable || segment->used + segment_seal_bytes(segment, 0) > segment->bytes) {
        seal_forget_entries(segment);
        return;
    }
    segment->sealing = true;
    spool->sealer.waiting++;
}

static void seal_finish(struct spool *spool, int result)
{
    struct segment *segment = spool->sealer.segment;
    if (result != 0) {
        char name[SEGMENT_NAME_BYTES];
        segment_name(segment->file, name);
        log_line(LOG_WARNING, "segment not sealed", "path=%s/%s error=\"%s\"", spool->path, name, strerror(-result));
        SPOOL_COUNT(spool, spool_write_errors, 1);
    }
    segment->sealing = false;
    segment->sealed = result == 0;
    seal_forget_entries(segment);
    spool->sealer.segment = NULL;
    spool->look = true;
}

static void seal_write_trailer(struct spool *spool)
{
    struct sealer *sealer = &spool->sealer;
    struct segment *segment = sealer->segment;
    sealer->trailing = true;
    sealer->trailer = (struct spool_format_trailer){
        .magic = SPOOL_FORMAT_TRAILER_MAGIC,
        .position = (uint32_t)(segment->used / SPOOL_FORMAT_ALIGN),
        .epoch = segment->epoch,
    };
    sealer->trailer.crc = crc32c(0, &sealer->trailer, offsetof(struct spool_format_trailer, crc));
    sealer->pieces[0] = (struct iovec){.iov_base = &sealer->trailer, .iov_len = sizeof sealer->trailer};
    sealer->bytes = sizeof sealer->trailer;
    ring_writev(spool->shard->ring, &sealer->op, segment->fd, sealer->pieces, 1,
                segment->bytes - sizeof sealer->trailer, true);
}

static void seal_done(struct op *op, int result, uint32_t flags)
{
    (void)flags;
    struct spool *spool = CONTAINER_OF(op, struct spool, sealer.op);
    struct sealer *sealer = &spool->sealer;
    SPOOL_COUNT(spool, spool_overhead_bytes, result > 0 ? (uint64_t)result : 0);
    if (result < 0 || (uint64_t)result != sealer->bytes) {
        seal_finish(spool, result < 0 ? result : -EIO);
    } else if (!sealer->trailing) {
        seal_write_trailer(spool);
    } else {
        seal_finish(spool, 0);
    }
}

static void seal_start(struct spool *spool, struct segment *segment)
{
    static char zeros[SPOOL_FORMAT_ALIGN];
    struct sealer *sealer = &spool->sealer;
    sealer->segment = segment;
    sealer->trailing = false;
    sealer->seal = (struct spool_format_seal){
        .first_sequence = segment->first_sequence,
        .next_sequence = segment->end_sequence,
        .id_floor = spool->next_id,
        .entries = segment->entry_count,
        .quarantined = segment->quarantined,
    };
    sealer->pieces[0] = (struct iovec){.iov_base = &sealer->record, .iov_len = sizeof sealer->record};
    sealer->pieces[1] = (struct iovec){.iov_base = &sealer->seal, .iov_len = sizeof sealer->seal};
    sealer->pieces[2] = (struct iovec){.iov_base = segment->entries,
                                       .iov_len = segment->entry_count * sizeof *segment->entries};
    uint32_t payload = (uint32_t)(sealer->pieces[1].iov_len + sealer->pieces[2].iov_len);
    sealer->bytes = record_bytes(payload);
    sealer->pieces[3] = (struct iovec){.iov_base = zeros, .iov_len = sealer->bytes - sizeof sealer->record - payload};
    sealer->record = (struct spool_format_record){
        .type = SPOOL_FORMAT_SEAL,
        .payload_bytes = payload,
        .position = (uint32_t)(segment->used / SPOOL_FORMAT_ALIGN),
        .epoch = segment->epoch,
        .payload_hash = record_hash(&sealer->pieces[1], 2),
    };
    record_finish(&sealer->record);
    ring_writev(spool->shard->ring, &sealer->op, segment->fd, sealer->pieces, 4, segment->used, true);
}

void seal_run(struct spool *spool)
{
    if (spool->sealer.waiting == 0 || spool->sealer.segment != NULL) {
        return;
    }
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        if (spool->segments.at[i] != NULL && spool->segments.at[i]->sealing) {
            spool->sealer.waiting--;
            seal_start(spool, spool->segments.at[i]);
            return;
        }
    }
    CHECK(false);
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

static enum err seal_pread(int fd, void *data, size_t length, uint64_t offset)
{
    ssize_t n = pread(fd, data, length, (off_t)offset);
    return n == (ssize_t)length ? ERR_OK : ERR_IO;
}

enum err seal_find(int fd, uint64_t epoch, uint64_t bytes, uint64_t *ret_offset)
{
    struct spool_format_trailer trailer;
    if (seal_pread(fd, &trailer, sizeof trailer, bytes - sizeof trailer) != ERR_OK) {
        return ERR_IO;
    }
    static const struct spool_format_trailer none;
    uint64_t offset = (uint64_t)trailer.position * SPOOL_FORMAT_ALIGN;
    bool verifies = trailer.magic == SPOOL_FORMAT_TRAILER_MAGIC &&
                    trailer.crc == crc32c(0, &trailer, offsetof(struct spool_format_trailer, crc));
    if (memcmp(&trailer, &none, sizeof none) == 0 || (verifies && trailer.epoch != epoch)) {
        return ERR_NOT_FOUND;
    }
    if (!verifies || offset < SPOOL_FORMAT_HEADER_BYTES || offset + 2 * sizeof trailer > bytes) {
        return ERR_CORRUPT;
    }
    *ret_offset = offset;
    return ERR_OK;
}

static bool seal_entries_sane(const struct spool_format_entry *entries, uint32_t count, uint64_t end)
{
    uint64_t last = SPOOL_FORMAT_HEADER_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t offset = (uint64_t)entries[i].position * SPOOL_FORMAT_ALIGN;
        uint64_t length = entries[i].type == SPOOL_FORMAT_MESSAGE ? (uint64_t)entries[i].length * SPOOL_FORMAT_ALIGN
                                                                  : SPOOL_FORMAT_ALIGN;
        if (offset < last || length == 0 || offset + length > end || entries[i].type < SPOOL_FORMAT_MESSAGE ||
            entries[i].type > SPOOL_FORMAT_GRAVES ||
            (entries[i].type == SPOOL_FORMAT_MESSAGE && entries[i].recipient == 0)) {
            return false;
        }
        last = offset;
    }
    return true;
}

enum err seal_read(int fd, uint64_t epoch, uint64_t bytes, uint64_t offset, struct spool_format_seal *ret_seal,
                   struct spool_format_entry **ret_entries)
{
    struct spool_format_record record;
    if (seal_pread(fd, &record, sizeof record, offset) != ERR_OK) {
        return ERR_IO;
    }
    if (!record_valid(&record, epoch, offset, bytes) || record.type != SPOOL_FORMAT_SEAL ||
        record.payload_bytes < sizeof *ret_seal) {
        return ERR_CORRUPT;
    }
    char *payload = malloc(record.payload_bytes);
    if (payload == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = seal_pread(fd, payload, record.payload_bytes, offset + sizeof record);
    struct spool_format_seal seal;
    memcpy(&seal, payload, sizeof seal);
    const struct iovec piece = {.iov_base = payload, .iov_len = record.payload_bytes};
    size_t size = (size_t)seal.entries * sizeof **ret_entries;
    if (err == ERR_OK &&
        (size != record.payload_bytes - sizeof seal || record_hash(&piece, 1) != record.payload_hash)) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        memmove(payload, payload + sizeof seal, size);
        struct spool_format_entry *entries = (struct spool_format_entry *)(void *)payload;
        if (seal_entries_sane(entries, seal.entries, offset)) {
            *ret_seal = seal;
            *ret_entries = entries;
            return ERR_OK;
        }
        err = ERR_CORRUPT;
    }
    free(payload);
    return err;
}
