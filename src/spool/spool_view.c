#include "spool/spool_view.h"

#include "spool/record.h"

struct bytes spool_view_span(const struct spool_view *view, unsigned index)
{
    CHECK(index <= view->extent_count);
    return index == 0 ? view->record : view->extents[index - 1].record;
}

struct bytes spool_view_body(const struct spool_view *view, unsigned index)
{
    CHECK(index <= view->extent_count);
    if (index == view->extent_count) {
        return view->body;
    }
    const struct spool_view_extent *extent = &view->extents[index];
    return bytes_slice(extent->record, SPOOL_FORMAT_ALIGN, extent->payload_bytes);
}

/* Does the span begin with the header of a record of that type and message that fills it? */
static bool spool_view_header(const struct spool_view *view, struct bytes span, uint8_t type,
                              struct spool_format_record *ret_record)
{
    struct spool_format_record record;
    memcpy(&record, span.data, sizeof record);
    if (!record_valid(&record, record.epoch, (uint64_t)record.position * SPOOL_FORMAT_ALIGN, UINT64_MAX) ||
        record.type != type || record.message != view->id || record_bytes(record.payload_bytes) != span.length) {
        return false;
    }
    *ret_record = record;
    return true;
}

enum err spool_view_read(struct spool_view *view)
{
    struct spool_format_record record;
    if (!spool_view_header(view, view->record, SPOOL_FORMAT_MESSAGE, &record) || record.epoch != view->epoch) {
        return ERR_CORRUPT;
    }
    struct record_message message;
    uint64_t needed;
    struct bytes payload = bytes_slice(view->record, sizeof record, record.payload_bytes);
    if (record_read_message(payload, record.payload_bytes, &message, &needed) != ERR_OK ||
        message.fixed.extents != view->extent_count || message.fixed.id != view->id) {
        return ERR_CORRUPT;
    }
    view->arrival_ms = message.fixed.arrival_ms;
    view->body_bytes = message.fixed.total_body_bytes;
    view->flags = message.fixed.flags;
    view->recipients = message.fixed.recipients;
    view->states = message.states;
    view->envelope = message.envelope;
    view->prologue = message.prologue;
    view->body = message.body;
    return ERR_OK;
}

enum err spool_view_verify(const struct spool_view *view)
{
    for (unsigned i = 0; i < spool_view_spans(view); i++) {
        struct bytes span = spool_view_span(view, i);
        struct spool_format_record record;
        if (!spool_view_header(view, span, i == 0 ? SPOOL_FORMAT_MESSAGE : SPOOL_FORMAT_EXTENT, &record)) {
            return ERR_CORRUPT;
        }
        struct bytes payload = bytes_slice(span, sizeof record, record.payload_bytes);
        struct iovec piece = {.iov_base = (void *)(uintptr_t)payload.data, .iov_len = payload.length};
        if (record_hash(&piece, 1) != record.payload_hash) {
            return ERR_CORRUPT;
        }
    }
    return ERR_OK;
}
