/* How the end of a log is told from damage inside it.
 *
 * What was written last to the segment that was open may be torn: some of its sectors reached the disk, others did not.
 * Nothing of what follows the first such hole was acknowledged as durable, so reading stops there. But a record that
 * was durable long ago may not verify either, because the medium failed; stopping there would lose all that follows. So
 * every record says how many records before it were not known to be durable when it was written (`unsure`). When some
 * later record vouches for the missing one, this is damage: skip it, count it, go on. Otherwise it is the end.
 *
 *      | A  B | C  D  x  F |                    F was written in one batch with x  -> the log ends after D
 *      | A  x  C | D  E |                       D was written after A to C were    -> x is damaged, C D E count
 *
 * In a segment with a later one there is no torn end: every record that is below the later one's first sequence counts.
 */
#include "spool/scan.h"

#include <stdlib.h>
#include <unistd.h>

#include "spool/record.h"

#define SCAN_READ_BYTES (1u << 20)
#define SCAN_SECTOR_BYTES 4096

struct scan_cursor {
    const char *data;
    uint64_t offset;
    uint64_t limit;
};

/* Unreadable sectors become zero bytes, which are no record. */
static void scan_load(int fd, char *data, uint64_t bytes)
{
    uint64_t at = 0;
    uint64_t step = SCAN_READ_BYTES;
    while (at < bytes) {
        uint64_t want = bytes - at < step ? bytes - at : step;
        ssize_t n = pread(fd, data + at, want, (off_t)at);
        if (n > 0) {
            at += (uint64_t)n;
        } else if (n == 0) {
            memset(data + at, 0, bytes - at);
            return;
        } else if (step > SCAN_SECTOR_BYTES) {
            step = SCAN_SECTOR_BYTES;
        } else {
            memset(data + at, 0, want);
            at += want;
        }
    }
}

static bool scan_header(const struct scan *scan, const struct scan_cursor *at, struct spool_format_record *ret_record)
{
    if (at->offset + sizeof *ret_record > at->limit) {
        return false;
    }
    memcpy(ret_record, at->data + at->offset, sizeof *ret_record);
    return record_valid(ret_record, scan->epoch, at->offset, at->limit);
}

static bool scan_counts(const struct scan *scan, const struct scan_cursor *at, const struct spool_format_record *record)
{
    if (record->type == SPOOL_FORMAT_SEAL || record->sequence < scan->next_sequence ||
        record->sequence >= scan->bound) {
        return false;
    }
    struct iovec piece = {.iov_base = (void *)(uintptr_t)(at->data + at->offset + sizeof *record),
                          .iov_len = record->payload_bytes};
    return record_hash(&piece, 1) == record->payload_hash;
}

/* The next record that counts after a place where none is. */
static bool scan_skip(struct scan *scan, const struct scan_cursor *bad, struct scan_cursor *ret_next)
{
    bool found = false;
    bool complete = !scan->last;
    struct spool_format_record record;
    for (struct scan_cursor at = *bad; at.offset + sizeof record <= at.limit; at.offset += SPOOL_FORMAT_ALIGN) {
        if (!scan_header(scan, &at, &record)) {
            continue;
        }
        scan->dirty = true;
        if (!scan_counts(scan, &at, &record)) {
            continue;
        }
        if (!found) {
            *ret_next = at;
            found = true;
        }
        complete |= record.sequence - record.unsure > scan->next_sequence;
        if (complete) {
            return true;
        }
    }
    return false;
}

/* `unsure_offset` follows: to the first record that nothing vouches for, from the first one behind the last damage. */
static void scan_vouch(struct scan *scan, const struct scan_cursor *at, uint64_t sure_sequence)
{
    struct spool_format_record record;
    struct scan_cursor unsure = *at;
    unsure.offset = scan->unsure_offset;
    while (unsure.offset < at->offset && scan_header(scan, &unsure, &record) && record.sequence < sure_sequence) {
        unsure.offset += record_bytes(record.payload_bytes);
    }
    scan->unsure_offset = unsure.offset;
}

static void scan_take(struct scan *scan, struct scan_cursor *at, const struct spool_format_record *record)
{
    if (scan->records == 0) {
        scan->first_sequence = record->sequence;
    }
    scan_vouch(scan, at, record->sequence - record->unsure);
    scan->dirty = true;
    scan->records++;
    scan->next_sequence = record->sequence + 1;
    scan->record(scan->context, record, at->offset,
                 bytes_of(at->data + at->offset + sizeof *record, record->payload_bytes));
    at->offset += record_bytes(record->payload_bytes);
    scan->next_offset = at->offset;
}

static void scan_all(struct scan *scan, struct scan_cursor *at)
{
    struct spool_format_record record;
    for (;;) {
        bool header = scan_header(scan, at, &record);
        if (header && record.type == SPOOL_FORMAT_SEAL) {
            scan->dirty = true;
            return;
        }
        if (header && scan_counts(scan, at, &record)) {
            scan_take(scan, at, &record);
            continue;
        }
        struct scan_cursor next;
        if (!scan_skip(scan, at, &next)) {
            return;
        }
        scan_header(scan, &next, &record);
        scan->damages++;
        if (scan->damaged != NULL) {
            scan->damaged(scan->context, at->offset, next.offset,
                          scan->records > 0 ? record.sequence - scan->next_sequence : 1);
        }
        *at = next;
        scan->unsure_offset = next.offset;
    }
}

enum err scan_run(struct scan *scan)
{
    char *data = malloc(scan->bytes);
    if (data == NULL) {
        return ERR_NO_MEMORY;
    }
    scan->next_offset = scan->unsure_offset = SPOOL_FORMAT_HEADER_BYTES;
    scan->next_sequence = scan->expected;
    scan->first_sequence = scan->expected;
    scan->records = scan->damages = 0;
    scan->dirty = false;
    scan_load(scan->fd, data, scan->bytes);
    struct scan_cursor at = {
        .data = data,
        .offset = SPOOL_FORMAT_HEADER_BYTES,
        .limit = scan->end != 0 ? scan->end : scan->bytes - sizeof(struct spool_format_trailer),
    };
    scan_all(scan, &at);
    /* With a known end, records between the last one and it are missing. */
    if (scan->end != 0 && at.offset < scan->end) {
        scan->damages++;
        if (scan->damaged != NULL) {
            scan->damaged(scan->context, at.offset, scan->end, 1);
        }
    }
    free(data);
    return ERR_OK;
}
