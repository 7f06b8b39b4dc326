#include "spool/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spool/envelope.h"
#include "spool/journal.h"
#include "spool/ledger.h"
#include "spool/record.h"
#include "spool/recovery.h"
#include "spool/spool_private.h"

/* --- state ------------------------------------------------------------------------------------------------------ */

enum spool_intake spool_intake_state(const struct spool *spool)
{
    if (spool->failures > 1) {
        return SPOOL_INTAKE_FAILED;
    }
    if (!spool->supply.failed || spool->segments.spares > SPOOL_RESERVE) {
        return SPOOL_INTAKE_OPEN;
    }
    /* One of the reserve is like any other as soon as there are enough without it (writer_may_use). */
    const struct segment *open = spool->writer.open;
    if (open == NULL || (spool->writer.open_reserve && spool->segments.spares < SPOOL_RESERVE)) {
        return SPOOL_INTAKE_FULL;
    }
    uint64_t needed = open->used + segment_seal_bytes(open, 0) + (uint64_t)spool->batch_bytes;
    return needed > open->bytes ? SPOOL_INTAKE_FULL : SPOOL_INTAKE_OPEN;
}

void spool_statistics(const struct spool *spool, struct spool_statistics *ret_statistics)
{
    *ret_statistics = (struct spool_statistics){
        .messages = spool->messages,
        .recipients = spool->recipients,
        .live_bytes = spool->live_bytes,
        .index_bytes = index_bytes(&spool->index),
        .quarantined = spool->quarantined,
        .quarantined_messages = spool->quarantined_messages,
        .segments = spool->segments.count,
        .spares = spool->segments.spares,
        .pending = spool->writer.pending_count + (spool->writer.phase == WRITER_IDLE ? 0 : spool->writer.batch_count),
    };
}

/* What clients get to hear is in the log as well, with what ends it. A disk on the edge of full is not told of each
 * time.
 */
static void spool_say_intake(struct spool *spool)
{
    static const char *const reasons[] = {
        [SPOOL_INTAKE_FULL] = "no room for another segment; it goes on when there is",
        [SPOOL_INTAKE_FAILED] = "two writes have failed; look at the disk, then restart",
    };
    enum spool_intake intake = spool_intake_state(spool);
    if (intake == spool->said_intake ||
        (spool->said_intake_ms != 0 && spool->shard->now_ms < spool->said_intake_ms + SPOOL_SAY_MS)) {
        return;
    }
    spool->said_intake = intake;
    spool->said_intake_ms = spool->shard->now_ms;
    if (intake == SPOOL_INTAKE_OPEN) {
        log_line(LOG_INFO, "new mail is taken again", "path=%s", spool->path);
    } else {
        log_line(LOG_ERROR, "new mail is refused", "path=%s reason=\"%s\"", spool->path, reasons[intake]);
    }
}

/* Several spools of a shard share its gauges: each adds what changed. */
static void spool_show(struct spool *spool)
{
    struct metric_set *metrics = spool->shard->metrics;
    if (metrics == NULL) {
        return;
    }
    uint64_t intake = spool_intake_state(spool) != SPOOL_INTAKE_OPEN;
    metric_add(&metrics->spool_segments, spool->segments.count - spool->shown_segments);
    metric_add(&metrics->spool_live_bytes, spool->live_bytes - spool->shown_live_bytes);
    metric_add(&metrics->intake_stopped, intake - spool->shown_intake);
    metric_add(&metrics->quarantined_messages, spool->quarantined_messages - spool->shown_quarantined);
    spool->shown_segments = spool->segments.count;
    spool->shown_live_bytes = spool->live_bytes;
    spool->shown_intake = intake;
    metric_add(&metrics->suspect_segments, spool->suspects - spool->shown_suspects);
    spool->shown_quarantined = spool->quarantined_messages;
    spool->shown_suspects = spool->suspects;
}

static void spool_turn(struct shard_hook *hook)
{
    struct spool *spool = CONTAINER_OF(hook, struct spool, hook);
    compaction_run(spool);
    writer_run(spool);
    seal_run(spool);
    supply_run(spool);
    spool_say_intake(spool);
    spool_show(spool);
}

/* --- opening and closing ---------------------------------------------------------------------------------------- */

static enum err spool_error(int error)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT: return ERR_NO_SPACE;
    case -ENOMEM: return ERR_NO_MEMORY;
    default: return ERR_IO;
    }
}

static enum err spool_lock(struct spool *spool, char *reason, size_t reason_size)
{
    char pid[24] = "";
    spool->lock = openat(spool->directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (spool->lock < 0) {
        snprintf(reason, reason_size, "%s/lock: %s", spool->path, strerror(errno));
        return ERR_IO;
    }
    if (flock(spool->lock, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = pread(spool->lock, pid, sizeof pid - 1, 0);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
        snprintf(reason, reason_size, "%s is in use by process %s", spool->path, pid[0] != '\0' ? pid : "?");
        return ERR_LOCKED;
    }
    int length = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(spool->lock, 0) != 0 || pwrite(spool->lock, pid, (size_t)length, 0) != length) {
        log_line(LOG_WARNING, "process id not written", "path=%s/lock", spool->path);
    }
    return ERR_OK;
}

static enum err spool_open_directory(struct spool *spool, const char *root, char *reason, size_t reason_size)
{
    int length = snprintf(spool->path, sizeof spool->path, "%s/%u", root, spool->number);
    if (length < 0 || (size_t)length >= sizeof spool->path) {
        snprintf(reason, reason_size, "%s: path too long", root);
        return ERR_FULL;
    }
    int result = mkdir(spool->path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
    if (result == 0) {
        spool->directory = open(spool->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        result = spool->directory >= 0 ? 0 : -errno;
    }
    /* The directory itself must survive a power cut as well. */
    int above = result == 0 ? open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (result == 0 && (above < 0 || fsync(above) != 0)) {
        result = -errno;
    }
    if (above >= 0) {
        close(above);
    }
    if (result != 0) {
        snprintf(reason, reason_size, "%s: %s", spool->path, strerror(-result));
        return spool_error(result);
    }
    return spool_lock(spool, reason, reason_size);
}

static void spool_free(struct spool *spool)
{
    if (spool->hooked) {
        shard_remove_hook(&spool->hook);
    }
    compaction_free(spool);
    writer_free(spool);
    supply_free(spool);
    index_free(&spool->index);
    segment_table_free(&spool->segments);
    if (spool->lock >= 0) {
        close(spool->lock);
    }
    if (spool->directory >= 0) {
        close(spool->directory);
    }
    free(spool);
}

static struct spool *spool_new(struct shard *shard, const struct spool_settings *settings)
{
    struct spool *spool = calloc(1, sizeof *spool);
    if (spool == NULL) {
        return NULL;
    }
    spool->shard = shard;
    spool->number = settings->number;
    spool->segment_bytes = settings->segment_bytes != 0 ? settings->segment_bytes : LIMIT_SEGMENT_BYTES_DEFAULT;
    spool->batch_bytes = settings->batch_bytes != 0 ? settings->batch_bytes : LIMIT_BATCH_BYTES;
    spool->spare_max = settings->spare_max != 0 ? settings->spare_max : 8;
    spool->spare_max = spool->spare_max > SPOOL_RESERVE ? spool->spare_max : SPOOL_RESERVE + 1;
    spool->directory = spool->lock = -1;
    spool->next_id = 1;
    spool->next_sequence = spool->next_segment = spool->next_file = 1;
    CHECK(settings->number < 256 && spool->batch_bytes <= spool->segment_bytes / 2 &&
          spool->segment_bytes % SPOOL_FORMAT_HEADER_BYTES == 0 && spool->segment_bytes <= LIMIT_SEGMENT_BYTES_MAX);
    index_init(&spool->index);
    seal_init(spool);
    supply_init(spool);
    compaction_init(spool, settings->compaction_bytes_per_second);
    spool->writer.outcome_wait_ms = settings->outcome_wait_ms;
    if (!writer_init(spool)) {
        spool_free(spool);
        return NULL;
    }
    return spool;
}

/* Runs the ring, and with it everybody's completions, once. */
static void spool_wait(struct spool *spool)
{
    ring_enter(spool->shard->ring, 100);
    ring_run(spool->shard->ring);
    spool_turn(&spool->hook);
}

enum err spool_open(struct shard *shard, const struct spool_settings *settings, struct spool **ret_spool, char *reason,
                    size_t reason_size)
{
    struct spool *spool = spool_new(shard, settings);
    if (spool == NULL) {
        snprintf(reason, reason_size, "spool %u: no memory", settings->number);
        return ERR_NO_MEMORY;
    }
    enum err err = spool_open_directory(spool, settings->root, reason, reason_size);
    if (err == ERR_OK) {
        err = recovery_run(spool, settings, reason, reason_size);
    }
    if (err != ERR_OK) {
        spool_free(spool);
        return err;
    }
    shard_add_hook(shard, &spool->hook, spool_turn);
    spool->hooked = true;
    /* Appends that find no segment wait for one; only a disk on which none can be made is to be known now. A new spool
     * makes all that its first message needs, so that it need not wait; one with mail goes on with that meanwhile. */
    uint32_t enough = spool->segments.count == 0 ? SPOOL_RESERVE + 1 : 1;
    spool_turn(&spool->hook);
    while (spool->segments.spares < enough && !spool->supply.failed) {
        spool_wait(spool);
    }
    *ret_spool = spool;
    return ERR_OK;
}

void spool_close(struct spool *spool)
{
    /* What is pending is committed, relaxed messages included; then nothing new is taken. */
    spool->stopping = true;
    spool->writer.flush_due = true;
    spool_turn(&spool->hook);
    while (!writer_idle(spool)) {
        spool_wait(spool);
        spool->writer.flush_due = true;
    }
    spool->closing = true;
    struct segment *open = spool->writer.open;
    if (open != NULL && open->used > SPOOL_FORMAT_HEADER_BYTES) {
        writer_retire(spool);
    }
    spool_turn(&spool->hook);
    while (!writer_idle(spool) || !seal_idle(spool) || !supply_idle(&spool->supply) || !compaction_idle(spool)) {
        spool_wait(spool);
    }
    if (spool->shard->metrics != NULL) {
        metric_subtract(&spool->shard->metrics->spool_segments, spool->shown_segments);
        metric_subtract(&spool->shard->metrics->spool_live_bytes, spool->shown_live_bytes);
        metric_subtract(&spool->shard->metrics->intake_stopped, spool->shown_intake);
        metric_subtract(&spool->shard->metrics->quarantined_messages, spool->shown_quarantined);
        metric_subtract(&spool->shard->metrics->suspect_segments, spool->shown_suspects);
    }
    spool_free(spool);
}

/* --- appending -------------------------------------------------------------------------------------------------- */

uint64_t spool_new_id(struct spool *spool)
{
    return (uint64_t)spool->number << SPOOL_NUMBER_SHIFT | (spool->next_id++ & INDEX_ID_MASK);
}

static void spool_prepare(struct spool_append *append, uint8_t type, uint64_t id)
{
    CHECK(append->done != NULL);
    list_init(&append->node);
    append->type = type;
    append->id = id;
    append->slot = SPOOL_SLOT_NONE;
    append->piece_count = 0;
    append->entry_count = 0;
    append->relaxed = append->reserve = append->follows = append->moved = append->counted = false;
    append->failed = ERR_OK;
    append->states = NULL;
    append->extents = NULL;
}

static void spool_piece(struct spool_append *append, const void *data, size_t length)
{
    append->pieces[append->piece_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = length};
}

static void spool_fill_side(struct spool *spool, struct spool_append *append, uint32_t extent_count)
{
    struct index_side *side = index_side_of(&spool->index, index_at(&spool->index, append->slot));
    for (uint32_t i = 0; i < extent_count; i++) {
        const struct spool_format_extent *extent = &append->extents[i];
        const struct segment *segment = segment_of_epoch(&spool->segments, extent->epoch);
        CHECK(segment != NULL && side != NULL);
        side->extents[i] = (struct index_extent){
            .offset = extent->position, .payload_bytes = extent->payload_bytes, .segment = segment->index};
    }
}

void spool_append_message(struct spool *spool, struct spool_append *append, const struct spool_message *message)
{
    CHECK(message->recipients > 0 && message->body_pieces <= SPOOL_PIECES_MAX);
    CHECK(message->envelope.length <= UINT32_MAX && message->prologue.length <= UINT32_MAX);
    spool_prepare(append, SPOOL_FORMAT_MESSAGE, message->id);
    append->relaxed = (message->flags & SPOOL_FORMAT_RELAXED) != 0;
    append->reserve = message->reserve;
    append->extents = message->extents;
    append->message = (struct spool_format_message){
        .id = message->id,
        .arrival_ms = message->arrival_ms,
        .flags = message->flags,
        .envelope_bytes = (uint32_t)message->envelope.length,
        .extents = message->extent_count,
        .prologue_bytes = (uint32_t)message->prologue.length,
        .recipients = message->recipients,
    };
    struct spool_format_message *fixed = &append->message;
    struct bytes extents = bytes_of(message->extents, message->extent_count * sizeof(struct spool_format_extent));
    spool_piece(append, fixed, sizeof *fixed);
    spool_piece(append, message->envelope.data, message->envelope.length);
    spool_piece(append, extents.data, extents.length);
    spool_piece(append, message->prologue.data, message->prologue.length);
    uint64_t inline_bytes = 0;
    for (unsigned i = 0; i < message->body_pieces; i++) {
        spool_piece(append, message->body[i].iov_base, message->body[i].iov_len);
        inline_bytes += message->body[i].iov_len;
    }
    fixed->total_body_bytes = inline_bytes;
    for (uint32_t i = 0; i < message->extent_count; i++) {
        fixed->total_body_bytes += message->extents[i].payload_bytes;
    }
    fixed->body_bytes = (uint32_t)inline_bytes;
    fixed->head_crc = record_head_crc(fixed, (struct bytes){0}, message->envelope, extents);
    append->slot = index_take(&spool->index, message->id, message->recipients, message->extent_count);
    if (append->slot == SPOOL_SLOT_NONE) {
        append->failed = ERR_NO_MEMORY;
    } else {
        spool_fill_side(spool, append, message->extent_count);
    }
    writer_queue(spool, append);
}

void spool_append_extent(struct spool *spool, struct spool_append *append, uint64_t id, const struct iovec *pieces,
                         unsigned count)
{
    CHECK(count > 0 && count <= SPOOL_PIECES_MAX);
    spool_prepare(append, SPOOL_FORMAT_EXTENT, id);
    append->relaxed = true;
    for (unsigned i = 0; i < count; i++) {
        spool_piece(append, pieces[i].iov_base, pieces[i].iov_len);
    }
    writer_queue(spool, append);
}

struct bytes spool_extent(const struct spool *spool, const struct spool_format_extent *extent)
{
    const struct segment *segment = segment_of_epoch(&spool->segments, extent->epoch);
    CHECK(segment != NULL && segment->map != NULL);
    return bytes_of(segment->map + ((uint64_t)extent->position + 1) * SPOOL_FORMAT_ALIGN, extent->payload_bytes);
}

void spool_abandon_extent(struct spool *spool, const struct spool_format_extent *extent)
{
    struct segment *segment = segment_of_epoch(&spool->segments, extent->epoch);
    CHECK(segment != NULL);
    ledger_extent_abandoned(spool, segment, extent->payload_bytes);
}

static struct bytes spool_cut(struct bytes text, size_t limit)
{
    return text.length > limit ? bytes_slice(text, 0, limit) : text;
}

static bool spool_encode_outcomes(const struct spool_outcome *outcomes, unsigned count, uint64_t id, uint64_t now_ms,
                                  struct buffer *room)
{
    const struct spool_format_outcome head = {.message = id, .written_ms = now_ms, .states = count};
    if (!buffer_append(room, bytes_of(&head, sizeof head))) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct spool_outcome *outcome = &outcomes[i];
        struct journal_item item = {
            .state = {.recipient = outcome->recipient,
                      .status = (uint8_t)outcome->status,
                      .attempts = outcome->attempts,
                      .next_attempt_s = outcome->next_attempt_s,
                      .reply_code = outcome->reply_code},
            .text = spool_cut(outcome->reply, SPOOL_STATE_TEXT_BYTES),
            .host = spool_cut(outcome->host, SPOOL_STATE_HOST_BYTES),
        };
        memcpy(item.state.enhanced, outcome->enhanced, sizeof item.state.enhanced);
        if (!journal_add(room, &item)) {
            return false;
        }
    }
    return true;
}

void spool_append_outcomes(struct spool *spool, struct spool_append *append, uint32_t slot, uint64_t id,
                           const struct spool_outcome *outcomes, unsigned count, bool follows, struct buffer *room)
{
    CHECK(count > 0 && count <= UINT16_MAX);
    spool_prepare(append, SPOOL_FORMAT_OUTCOME, id);
    append->reserve = true;
    append->follows = follows;
    append->entry_count = (uint16_t)count;
    size_t start = room->length;
    struct index_slot *at = index_find(&spool->index, slot, id);
    for (unsigned i = 0; at != NULL && i < count; i++) {
        CHECK(outcomes[i].recipient < at->recipients && outcomes[i].status > SPOOL_FORMAT_PENDING &&
              outcomes[i].status <= SPOOL_FORMAT_REMOVED);
    }
    if (at == NULL) {
        append->failed = ERR_NOT_FOUND;
    } else if (at->writing == UINT16_MAX || !spool_encode_outcomes(outcomes, count, id, spool->shard->wall_ms, room)) {
        append->failed = ERR_FULL;
    } else {
        append->slot = slot;
        append->counted = true;
        at->writing++;
        at->flags |= (at->flags & INDEX_MOVING) != 0 ? INDEX_CHANGED : 0;
    }
    spool_piece(append, room->data + start, room->length - start);
    writer_queue(spool, append);
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

bool spool_holds(const struct spool *spool, uint32_t slot, uint64_t id)
{
    return index_find(&spool->index, slot, id) != NULL;
}

uint32_t spool_find(const struct spool *spool, uint64_t id)
{
    for (uint32_t slot = 0; slot < spool->index.begun; slot++) {
        if (index_find(&spool->index, slot, id) != NULL) {
            return slot;
        }
    }
    return SPOOL_SLOT_NONE;
}

static struct bytes spool_span(struct segment *segment, uint32_t offset, uint64_t length)
{
    segment->lent++;
    return bytes_of(segment->map + (uint64_t)offset * SPOOL_FORMAT_ALIGN, length);
}

enum err spool_lend(struct spool *spool, uint32_t slot, uint64_t id, struct spool_view *ret_view)
{
    const struct index_slot *at = index_find(&spool->index, slot, id);
    if (at == NULL || (at->flags & INDEX_QUARANTINED) != 0) {
        return ERR_NOT_FOUND;
    }
    const struct index_side *side = index_side_of(&spool->index, at);
    uint32_t extent_count = side != NULL ? side->extent_count : 0;
    for (uint32_t i = 0; i < extent_count; i++) {
        if (side->extents[i].segment == SEGMENT_NONE) {
            return ERR_CORRUPT;
        }
    }
    struct spool_view_extent *extents = extent_count != 0 ? calloc(extent_count, sizeof *extents) : NULL;
    if (extent_count != 0 && extents == NULL) {
        return ERR_NO_MEMORY;
    }
    struct segment *segment = spool_segment(spool, at->segment);
    *ret_view = (struct spool_view){
        .id = id,
        .epoch = segment->epoch,
        .record = spool_span(segment, at->offset, (uint64_t)at->length * SPOOL_FORMAT_ALIGN),
        .extents = extents,
        .extent_count = extent_count,
        .segment = segment->index,
        .recent = segment->fresh && segment->number + 3 > spool->next_segment - spool->segments.spares,
    };
    for (uint32_t i = 0; i < extent_count; i++) {
        const struct index_extent *extent = &side->extents[i];
        extents[i] = (struct spool_view_extent){
            .record = spool_span(spool_segment(spool, extent->segment), extent->offset,
                                 record_bytes(extent->payload_bytes)),
            .payload_bytes = extent->payload_bytes,
            .segment = extent->segment,
        };
    }
    return ERR_OK;
}

static void spool_unlend(struct spool *spool, uint16_t index)
{
    struct segment *segment = spool_segment(spool, index);
    CHECK(segment->lent > 0);
    segment->lent--;
    spool->look |= segment->lent == 0;
}

void spool_return(struct spool *spool, struct spool_view *view)
{
    spool_unlend(spool, view->segment);
    for (uint32_t i = 0; i < view->extent_count; i++) {
        spool_unlend(spool, view->extents[i].segment);
    }
    free(view->extents);
    *view = (struct spool_view){0};
}

/* Reads one record's payload into malloc'ed memory. */
static enum err spool_read(const struct segment *segment, uint64_t offset, struct spool_format_record *ret_record,
                           char **ret_payload)
{
    if (pread(segment->fd, ret_record, sizeof *ret_record, (off_t)offset) != (ssize_t)sizeof *ret_record) {
        return ERR_IO;
    }
    if (!record_valid(ret_record, segment->epoch, offset, segment->bytes)) {
        return ERR_CORRUPT;
    }
    char *payload = malloc((size_t)ret_record->payload_bytes + 1);
    if (payload == NULL) {
        return ERR_NO_MEMORY;
    }
    struct iovec piece = {.iov_base = payload, .iov_len = ret_record->payload_bytes};
    enum err err = ERR_IO;
    if (pread(segment->fd, payload, piece.iov_len, (off_t)(offset + sizeof *ret_record)) == (ssize_t)piece.iov_len) {
        err = record_hash(&piece, 1) == ret_record->payload_hash ? ERR_OK : ERR_CORRUPT;
    }
    if (err != ERR_OK) {
        free(payload);
        return err;
    }
    *ret_payload = payload;
    return ERR_OK;
}

static enum err spool_state_items(const struct spool *spool, const struct index_slot *at, struct index_recipient where,
                                  char **ret_payload, struct journal_iterator *ret_items)
{
    bool own = where.segment == SEGMENT_NONE;
    struct spool_format_record record;
    const struct segment *segment = spool_segment(spool, own ? at->segment : where.segment);
    enum err err = spool_read(segment, (uint64_t)(own ? at->offset : where.offset) * SPOOL_FORMAT_ALIGN, &record,
                              ret_payload);
    if (err != ERR_OK) {
        return err;
    }
    struct bytes payload = bytes_of(*ret_payload, record.payload_bytes);
    struct record_message message;
    struct spool_format_outcome outcome;
    uint64_t needed;
    if (!own) {
        *ret_items = journal_outcome(record.type == SPOOL_FORMAT_OUTCOME ? payload : (struct bytes){0}, &outcome);
    } else if (record_read_message(payload, record.payload_bytes, &message, &needed) == ERR_OK) {
        *ret_items = journal_iterate(message.states);
    } else {
        free(*ret_payload);
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

enum err spool_recipient_state(struct spool *spool, uint32_t slot, uint64_t id, uint16_t recipient, struct buffer *room,
                               struct spool_outcome *ret_outcome)
{
    const struct index_slot *at = index_find(&spool->index, slot, id);
    if (at == NULL || recipient >= at->recipients) {
        return ERR_NOT_FOUND;
    }
    struct index_recipient where = index_recipient_get(&spool->index, at, recipient);
    if (where.status == SPOOL_FORMAT_PENDING) {
        *ret_outcome = (struct spool_outcome){.recipient = recipient};
        return ERR_OK;
    }
    char *payload = NULL;
    struct journal_iterator items;
    enum err err = spool_state_items(spool, at, where, &payload, &items);
    if (err != ERR_OK) {
        return err;
    }
    struct journal_item item = {.state = {.status = (uint8_t)where.status}};
    size_t start = room->length;
    journal_find(items, recipient, &item); /* a grave has no texts */
    if (!buffer_append(room, item.text) || !buffer_append(room, item.host)) {
        err = ERR_FULL;
    } else {
        *ret_outcome = (struct spool_outcome){
            .recipient = recipient,
            .status = (enum spool_format_status)item.state.status,
            .attempts = item.state.attempts,
            .next_attempt_s = item.state.next_attempt_s,
            .reply_code = item.state.reply_code,
            .reply = bytes_of(room->data + start, item.text.length),
            .host = bytes_of(room->data + start + item.text.length, item.host.length),
        };
        memcpy(ret_outcome->enhanced, item.state.enhanced, sizeof item.state.enhanced);
    }
    free(payload);
    return err;
}

/* --- names ------------------------------------------------------------------------------------------------------ */

unsigned spool_number(const struct spool *spool)
{
    return spool->number;
}

uint64_t spool_slot_id(const struct spool *spool, uint32_t slot)
{
    if (slot >= spool->index.begun) {
        return 0;
    }
    const struct index_slot *at = index_at(&spool->index, slot);
    return (at->flags & INDEX_LIVE) != 0 ? (uint64_t)spool->number << SPOOL_NUMBER_SHIFT | index_id(at) : 0;
}

bool spool_walk(const struct spool *spool, uint32_t *slot, uint64_t *ret_id)
{
    while (*slot < spool->index.begun) {
        *ret_id = spool_slot_id(spool, *slot);
        if (*ret_id != 0) {
            return true;
        }
        ++*slot;
    }
    return false;
}

void spool_forget_damage(struct spool *spool)
{
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        if (spool->segments.at[i] != NULL) {
            spool->segments.at[i]->condemned |= spool->segments.at[i]->quarantined != 0;
            spool->segments.at[i]->quarantined = 0;
        }
    }
    spool->look = true;
    compaction_renew(spool);
}
