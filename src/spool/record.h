/* Records as bytes: headers made and checked, the head of a message taken apart. No I/O; everything that comes from a
 * disk is checked against the bytes that are there. */
#ifndef SPOOL_RECORD_H
#define SPOOL_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/err.h"
#include "ringpost/spool_format.h"

/* On disk, with header and padding. */
static inline uint64_t record_bytes(uint32_t payload_bytes)
{
    return SPOOL_FORMAT_ALIGN +
           ((uint64_t)payload_bytes + SPOOL_FORMAT_ALIGN - 1) / SPOOL_FORMAT_ALIGN * SPOOL_FORMAT_ALIGN;
}

/* Sets magic, header size and checksum. */
void record_finish(struct spool_format_record *record);

/* Is this the header of a record of that segment at that place, which ends at or before `limit`? */
bool record_valid(const struct spool_format_record *record, uint64_t epoch, uint64_t offset, uint64_t limit);

/* XXH3-64 over the pieces. */
uint64_t record_hash(const struct iovec *pieces, unsigned count);

/* The parts of a MESSAGE's payload. */
struct record_message {
    struct spool_format_message fixed;
    struct bytes states;
    struct bytes envelope;
    struct bytes extents; /* array of struct spool_format_extent, not aligned */
    struct bytes prologue;
    struct bytes body;
};

static inline struct spool_format_extent record_extent(const struct record_message *message, uint32_t index)
{
    struct spool_format_extent extent;
    memcpy(&extent, message->extents.data + (size_t)index * sizeof extent, sizeof extent);
    return extent;
}

uint32_t record_head_crc(const struct spool_format_message *fixed, struct bytes states, struct bytes envelope,
                         struct bytes extents);

/* Bytes from the start of the payload to the prologue. */
static inline uint64_t record_head_bytes(const struct spool_format_message *fixed)
{
    return sizeof *fixed + (uint64_t)fixed->states_bytes + fixed->envelope_bytes +
           (uint64_t)fixed->extents * sizeof(struct spool_format_extent);
}

/* `payload` is the whole payload or its beginning, `payload_bytes` what the header says. Checks all sizes, the head's
 * checksum and that the envelope is well formed and names `recipients`. prologue and body are set only when they are
 * inside `payload`. ERR_FULL: more of the payload is needed (*ret_needed bytes); ERR_CORRUPT. */
enum err record_read_message(struct bytes payload, uint32_t payload_bytes, struct record_message *ret_message,
                             uint64_t *ret_needed);

#endif
