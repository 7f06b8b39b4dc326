#include "spool/record.h"

#define XXH_STATIC_LINKING_ONLY /* the hash's state on the stack */
#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> /* the widest vectors of this processor; without it the library uses SSE2 */
#endif

#include "base/crc32c.h"
#include "spool/envelope.h"

void record_finish(struct spool_format_record *record)
{
    record->magic = SPOOL_FORMAT_RECORD_MAGIC;
    record->header_bytes = sizeof *record;
    record->crc = crc32c(0, record, offsetof(struct spool_format_record, crc));
}

bool record_valid(const struct spool_format_record *record, uint64_t epoch, uint64_t offset, uint64_t limit)
{
    return record->magic == SPOOL_FORMAT_RECORD_MAGIC && record->epoch == epoch &&
           record->header_bytes == sizeof *record && record->position == offset / SPOOL_FORMAT_ALIGN &&
           offset + record_bytes(record->payload_bytes) <= limit &&
           record->crc == crc32c(0, record, offsetof(struct spool_format_record, crc));
}

uint64_t record_hash(const struct iovec *pieces, unsigned count)
{
    if (count == 1) {
        return XXH3_64bits(pieces->iov_base, pieces->iov_len);
    }
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (unsigned i = 0; i < count; i++) {
        XXH3_64bits_update(&state, pieces[i].iov_base, pieces[i].iov_len);
    }
    return XXH3_64bits_digest(&state);
}

uint32_t record_head_crc(const struct spool_format_message *fixed, struct bytes states, struct bytes envelope,
                         struct bytes extents)
{
    uint32_t crc = crc32c(0, fixed, offsetof(struct spool_format_message, head_crc));
    crc = crc32c(crc, states.data, states.length);
    crc = crc32c(crc, envelope.data, envelope.length);
    return crc32c(crc, extents.data, extents.length);
}

static struct bytes record_cut(struct bytes *rest, size_t length)
{
    struct bytes part = bytes_slice(*rest, 0, length);
    bytes_advance(rest, length);
    return part;
}

enum err record_read_message(struct bytes payload, uint32_t payload_bytes, struct record_message *ret_message,
                             uint64_t *ret_needed)
{
    struct record_message message = {0};
    struct spool_format_message *fixed = &message.fixed;
    if (payload_bytes < sizeof *fixed || payload.length > payload_bytes) {
        return ERR_CORRUPT;
    }
    if (payload.length < sizeof *fixed) {
        *ret_needed = sizeof *fixed;
        return ERR_FULL;
    }
    memcpy(fixed, payload.data, sizeof *fixed);
    uint64_t head = record_head_bytes(fixed);
    if (head + fixed->prologue_bytes + fixed->body_bytes != payload_bytes) {
        return ERR_CORRUPT;
    }
    if (payload.length < head) {
        *ret_needed = head;
        return ERR_FULL;
    }
    struct bytes rest = payload;
    bytes_advance(&rest, sizeof *fixed);
    message.states = record_cut(&rest, fixed->states_bytes);
    message.envelope = record_cut(&rest, fixed->envelope_bytes);
    message.extents = record_cut(&rest, fixed->extents * sizeof(struct spool_format_extent));
    uint32_t recipients = 0;
    if (record_head_crc(fixed, message.states, message.envelope, message.extents) != fixed->head_crc ||
        envelope_check(message.envelope, &recipients) != ERR_OK || recipients != fixed->recipients || recipients == 0) {
        return ERR_CORRUPT;
    }
    if (payload.length == payload_bytes) {
        message.prologue = record_cut(&rest, fixed->prologue_bytes);
        message.body = rest;
    }
    *ret_message = message;
    return ERR_OK;
}
