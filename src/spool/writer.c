/* Group commit without a timer.
 *
 *   turn n      appends A B C arrive             -> one WRITEV of their records, RWF_DSYNC          (batch 1 in flight)
 *   turn n+1..  appends D E F G arrive           -> they wait
 *   completion  A B C: `done`, 250 is sent       -> at the end of the turn: one WRITEV of D E F G    (batch 2)
 *
 * When idle the first message is written at once; the busier the disk, the larger the batches. There is never more than
 * one batch in flight, and each record says what was durable when it was written: recovery relies on that to tell a
 * torn end from damage (scan.c).
 *
 * What costs mail if it is done wrong:
 *
 *  - RWF_DSYNC makes durable what that very write covers, and nothing else. Bytes written without it before (relaxed
 *    messages, extents) are still only in memory, and recovery stops at the first hole. So when such bytes are there a
 *    synced batch is a plain write followed by an fdatasync of the file; and a segment is synced before the next
 *    is opened.
 *  - A failed fsync marks the pages clean; asking again would be told "fine". So it is never retried: every append of
 *    the batch fails, the segment is suspect and takes no more records, and compaction rewrites from it what is still
 *    needed. The sequence goes back to where the batch began: the next segment begins with it, which tells recovery
 *    that whatever part of the failed batch did reach the disk was never acknowledged. (Not when only relaxed bytes
 *    were to be synced: those were acknowledged. They are not known to be durable, and later records go on saying so
 *    until they are behind a sync that succeeded, or a torn batch behind them would be taken for a whole one.)
 *  - Two batches share a 512-byte sector (records are 64-byte aligned). Rewriting the first one's bytes with the same
 *    content relies on the disk writing a sector wholly or not at all, and on nothing else.
 *  - A bounce is appended before the outcome that caused it, in one queue. A torn batch loses its end, so it can lose
 *    the outcome (the message is tried again) but never the bounce; and an append that `follows` another fails with it.
 */
#include "spool/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "spool/journal.h"
#include "spool/ledger.h"
#include "spool/record.h"
#include "spool/spool_private.h"

#define WRITER_OUTCOMES_ENOUGH 64                    /* outcomes that are worth a sync of their own */
#define WRITER_HEADER_BYTES (2 * SPOOL_FORMAT_ALIGN) /* padding before and the header */

static void writer_done(struct op *op, int result, uint32_t flags);

static void writer_timer(struct timer *timer)
{
    struct writer *writer = CONTAINER_OF(timer, struct writer, timer);
    writer->flush_due = true;
}

static void writer_company(struct timer *timer)
{
    (void)timer; /* it only ends the sleep: the writer is looked at every turn */
}

bool writer_init(struct spool *spool)
{
    struct writer *writer = &spool->writer;
    list_init(&writer->pending);
    list_init(&writer->batch);
    writer->op.done = writer_done;
    wheel_timer_init(&writer->timer, writer_timer);
    wheel_timer_init(&writer->company, writer_company);
    writer->memory = calloc(WRITER_PIECES, WRITER_HEADER_BYTES);
    return writer->memory != NULL;
}

void writer_free(struct spool *spool)
{
    shard_disarm(spool->shard, &spool->writer.timer);
    shard_disarm(spool->shard, &spool->writer.company);
    free(spool->writer.memory);
}

bool writer_idle(const struct spool *spool)
{
    const struct writer *writer = &spool->writer;
    return writer->phase == WRITER_IDLE && list_empty(&writer->pending) &&
           (writer->open == NULL || !writer->open->unsynced);
}

void writer_queue(struct spool *spool, struct spool_append *append)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < append->piece_count; i++) {
        bytes += append->pieces[i].iov_len;
    }
    append->queued = true;
    if (append->failed == ERR_OK && (bytes > UINT32_MAX || record_bytes((uint32_t)bytes) > spool->batch_bytes)) {
        append->failed = ERR_FULL;
    }
    if (append->failed == ERR_OK && spool->closing) {
        append->failed = ERR_CLOSED;
    }
    if (append->failed == ERR_OK) {
        append->payload_bytes = (uint32_t)bytes;
        append->hash = record_hash(append->pieces, append->piece_count);
        spool->writer.appended_bytes += append->moved ? 0 : bytes;
    }
    if (spool->writer.pending_count == 0) {
        spool->writer.waiting_since_ms = spool->shard->now_ms;
    }
    list_push_back(&spool->writer.pending, &append->node);
    spool->writer.pending_count++;
}

/* --- the end of an append -------------------------------------------------------------------------------------- */

static void writer_fail(struct spool *spool, struct spool_append *append, enum err err)
{
    if (append->type == SPOOL_FORMAT_MESSAGE && !append->moved && append->slot != SPOOL_SLOT_NONE) {
        index_give(&spool->index, append->slot);
    } else if (append->type == SPOOL_FORMAT_OUTCOME) {
        struct index_slot *at = index_find(&spool->index, append->slot, append->id);
        if (at != NULL && append->counted) {
            at->writing--;
        }
    }
    append->queued = false;
    append->done(append, err);
}

static void writer_note(struct segment *segment, const struct spool_format_entry *entry)
{
    if (!segment_note(segment, entry)) {
        segment->unsealable = true;
    }
}

static void writer_note_message(struct segment *segment, const struct spool_append *append)
{
    const struct spool_format_message *fixed = &append->message;
    uint64_t head = (SPOOL_FORMAT_ALIGN + record_head_bytes(fixed) + SPOOL_FORMAT_ALIGN - 1) / SPOOL_FORMAT_ALIGN;
    writer_note(segment, &(struct spool_format_entry){
                             .message = append->id,
                             .position = append->position,
                             .type = SPOOL_FORMAT_MESSAGE,
                             .status = (uint8_t)((fixed->states_bytes != 0 ? SPOOL_FORMAT_ENTRY_STATES : 0) |
                                                 (fixed->extents != 0 ? SPOOL_FORMAT_ENTRY_EXTENTS : 0)),
                             .recipient = fixed->recipients,
                             .length = (uint32_t)(record_bytes(append->payload_bytes) / SPOOL_FORMAT_ALIGN),
                             .head = (uint16_t)(head < UINT16_MAX ? head : UINT16_MAX),
                         });
}

static void writer_apply_copy(struct spool *spool, struct segment *segment, struct spool_append *append,
                              uint64_t offset, uint64_t bytes)
{
    const struct index_extent *extents = append->states;
    if (index_find(&spool->index, append->slot, append->id) == NULL) {
        append->slot = SPOOL_SLOT_NONE; /* it ended meanwhile */
        return;
    }
    for (uint32_t i = 0; i < append->message.extents; i++) {
        ledger_extent_used(spool, spool_segment(spool, extents[i].segment));
    }
    ledger_moved(spool, append->slot, segment, offset, bytes, extents);
}

static void writer_apply_message(struct spool *spool, struct segment *segment, struct spool_append *append)
{
    uint64_t offset = (uint64_t)append->position * SPOOL_FORMAT_ALIGN;
    uint64_t bytes = record_bytes(append->payload_bytes);
    writer_note_message(segment, append);
    if (append->moved) {
        writer_apply_copy(spool, segment, append, offset, bytes);
        return;
    }
    const struct index_side *side = index_side_of(&spool->index, index_at(&spool->index, append->slot));
    for (uint32_t i = 0; side != NULL && i < side->extent_count; i++) {
        ledger_extent_used(spool, spool_segment(spool, side->extents[i].segment));
    }
    ledger_message(spool, append->slot, segment, offset, bytes);
}

static void writer_apply_outcome(struct spool *spool, struct segment *segment, struct spool_append *append)
{
    struct spool_format_outcome head;
    struct journal_item item;
    struct journal_iterator items = journal_outcome(bytes_of(append->pieces[0].iov_base, append->pieces[0].iov_len),
                                                    &head);
    struct index_slot *at = index_find(&spool->index, append->slot, append->id);
    if (at != NULL && append->counted) {
        at->writing--;
    }
    uint32_t home = at != NULL ? (uint32_t)spool_segment(spool, at->segment)->number : 0;
    while (journal_next(&items, &item)) {
        const struct spool_format_state *state = &item.state;
        writer_note(segment, &(struct spool_format_entry){
                                 .message = append->id,
                                 .position = append->position,
                                 .type = SPOOL_FORMAT_OUTCOME,
                                 .status = state->status,
                                 .recipient = state->recipient,
                                 .next_attempt_s = journal_final(state->status) ? home : state->next_attempt_s,
                                 .attempts = state->attempts,
                             });
        if (at != NULL && append->moved) {
            ledger_state_moved(spool, append->slot, state->recipient, segment,
                               (uint64_t)append->position * SPOOL_FORMAT_ALIGN);
        } else if (at != NULL && ledger_outcome(spool, append->slot, state->recipient, state->status, segment,
                                                (uint64_t)append->position * SPOOL_FORMAT_ALIGN)) {
            at = NULL;
        }
    }
}

static void writer_apply_graves(struct spool *spool, struct segment *segment, const struct spool_append *append)
{
    const struct spool_format_grave *graves = append->states;
    for (uint32_t i = 0; i < append->entry_count; i++) {
        writer_note(segment, &(struct spool_format_entry){
                                 .message = graves[i].message,
                                 .position = append->position,
                                 .type = SPOOL_FORMAT_GRAVES,
                                 .status = graves[i].status,
                                 .recipient = graves[i].recipient,
                                 .next_attempt_s = graves[i].segment,
                             });
        const struct segment *held = segment_of_number(&spool->segments, graves[i].segment);
        if (held != NULL && held != segment && !segment_hold(&segment->graves, held->index)) {
            segment->pinned = true;
        }
    }
}

static void writer_succeed(struct spool *spool, struct segment *segment, struct spool_append *append)
{
    switch (append->type) {
    case SPOOL_FORMAT_MESSAGE: writer_apply_message(spool, segment, append); break;
    case SPOOL_FORMAT_OUTCOME: writer_apply_outcome(spool, segment, append); break;
    case SPOOL_FORMAT_GRAVES: writer_apply_graves(spool, segment, append); break;
    default:
        ledger_extent(spool, segment, append->payload_bytes);
        append->extent = (struct spool_format_extent){
            .epoch = segment->epoch, .position = append->position, .payload_bytes = append->payload_bytes};
    }
    append->queued = false;
    append->done(append, ERR_OK);
}

/* --- the end of a batch ----------------------------------------------------------------------------------------- */

static void writer_complete(struct spool *spool)
{
    struct writer *writer = &spool->writer;
    struct segment *segment = writer->open;
    segment->used += writer->size;
    if (writer->synced) {
        writer->durable_sequence = spool->next_sequence;
    } else {
        segment->unsynced = true;
        if (!wheel_armed(&writer->timer)) {
            shard_arm(spool->shard, &writer->timer, WRITER_RELAXED_MS);
        }
    }
    writer->phase = WRITER_IDLE;
    SPOOL_COUNT(spool, spool_batches, 1);
    SPOOL_COUNT(spool, spool_syncs, writer->synced);
    SPOOL_COUNT(spool, spool_records, writer->batch_count);
    SPOOL_COUNT(spool, spool_written_bytes, writer->size);
    SPOOL_COUNT(spool, spool_message_bytes, writer->batch_intake);
    if (spool->shard->metrics != NULL) {
        histogram_record(&spool->shard->metrics->commit_latency, (clock_monotonic_ns() - writer->started_ns) / 1000);
        histogram_record(&spool->shard->metrics->commit_messages, writer->batch_messages);
    }
    struct list *node;
    while ((node = list_pop_front(&writer->batch)) != NULL) {
        writer_succeed(spool, segment, LIST_OWNER(node, struct spool_append, node));
    }
}

/* What the disk holds is unknown from here on (a full disk said so before it changed anything). */
static void writer_broken(struct spool *spool, int error)
{
    struct writer *writer = &spool->writer;
    struct segment *segment = writer->open;
    bool full = error == -ENOSPC || error == -EDQUOT;
    char name[SEGMENT_NAME_BYTES];
    segment_name(segment->file, name);
    log_line(LOG_ERROR, "spool write failed", "path=%s/%s offset=%llu bytes=%llu error=\"%s\"", spool->path, name,
             (unsigned long long)segment->used, (unsigned long long)writer->size, strerror(-error));
    SPOOL_COUNT(spool, spool_write_errors, 1);
    if (!full || segment->unsynced) {
        spool_suspect(spool, segment);
        spool->failures += !full;
    }
    spool->supply.failed |= full;
    if (writer->phase != WRITER_FLUSH) {
        spool->next_sequence = writer->first_sequence;
    }
    segment->unsynced = false;
    writer->phase = WRITER_IDLE;
    writer->previous_failed = true;
    writer_retire(spool);
    struct list failed;
    list_init(&failed);
    list_splice(&failed, &writer->batch);
    struct list *node;
    while ((node = list_pop_front(&failed)) != NULL) {
        writer_fail(spool, LIST_OWNER(node, struct spool_append, node), full ? ERR_NO_SPACE : ERR_IO);
    }
}

void writer_retire(struct spool *spool)
{
    struct segment *segment = spool->writer.open;
    CHECK(segment != NULL && !segment->unsynced);
    spool->writer.open = NULL;
    segment_set_state(&spool->segments, segment, SEGMENT_FULL);
    segment->end_sequence = spool->next_sequence;
    spool->look = true;
    seal_queue(spool, segment);
    compaction_renew(spool);
}

static void writer_write(struct spool *spool)
{
    struct writer *writer = &spool->writer;
    writer->phase = WRITER_WRITE;
    ring_writev(spool->shard->ring, &writer->op, writer->open->fd, writer->pieces + writer->piece_first,
                writer->piece_count - writer->piece_first, writer->open->used + writer->written,
                writer->synced && !writer->open->unsynced);
}

static void writer_sync(struct spool *spool, enum writer_phase phase)
{
    spool->writer.phase = phase;
    ring_fsync(spool->shard->ring, &spool->writer.op, spool->writer.open->fd, true);
}

/* A short write: the rest. */
static void writer_advance_pieces(struct writer *writer, uint64_t bytes)
{
    while (bytes >= writer->pieces[writer->piece_first].iov_len) {
        bytes -= writer->pieces[writer->piece_first].iov_len;
        writer->piece_first++;
    }
    struct iovec *piece = &writer->pieces[writer->piece_first];
    piece->iov_base = (char *)piece->iov_base + bytes;
    piece->iov_len -= bytes;
}

static void writer_written(struct spool *spool, int result)
{
    struct writer *writer = &spool->writer;
    if (result == -EINTR || result == -EAGAIN) {
        writer_write(spool);
    } else if (result <= 0) {
        writer_broken(spool, result == 0 ? -EIO : result);
    } else if ((writer->written += (uint64_t)result) < writer->size) {
        writer_advance_pieces(writer, (uint64_t)result);
        writer_write(spool);
    } else if (writer->synced && writer->open->unsynced) {
        writer_sync(spool, WRITER_SYNC);
    } else {
        writer_complete(spool);
    }
}

static void writer_done(struct op *op, int result, uint32_t flags)
{
    (void)flags;
    struct spool *spool = CONTAINER_OF(op, struct spool, writer.op);
    struct writer *writer = &spool->writer;
    CHECK(writer->phase != WRITER_IDLE);
    if (writer->phase == WRITER_WRITE) {
        writer_written(spool, result);
    } else if (result < 0) {
        writer_broken(spool, result);
    } else {
        writer->open->unsynced = false;
        shard_disarm(spool->shard, &writer->timer);
        if (writer->phase == WRITER_SYNC) {
            writer_complete(spool);
        } else {
            writer->phase = WRITER_IDLE;
            writer->durable_sequence = spool->next_sequence;
            SPOOL_COUNT(spool, spool_syncs, 1);
        }
    }
}

/* --- the beginning of a batch ----------------------------------------------------------------------------------- */

static uint32_t writer_entries(const struct spool_append *append)
{
    return append->type == SPOOL_FORMAT_MESSAGE ? 1 : append->entry_count;
}

static bool writer_fits(const struct spool *spool, const struct spool_append *append)
{
    const struct writer *writer = &spool->writer;
    const struct segment *open = writer->open;
    return open->used + writer->size + record_bytes(append->payload_bytes) +
               segment_seal_bytes(open, writer->batch_entries + writer_entries(append)) <=
           open->bytes;
}

static bool writer_may_use(struct spool *spool, const struct spool_append *append)
{
    if (spool->writer.open_reserve && spool->segments.spares >= SPOOL_RESERVE) {
        spool->writer.open_reserve = false;
    }
    return append->reserve || !spool->writer.open_reserve;
}

/* The bytes of an extent may be on a disk that failed since. */
static bool writer_extents_suspect(const struct spool *spool, const struct spool_append *append)
{
    for (uint32_t i = 0; append->type == SPOOL_FORMAT_MESSAGE && i < append->message.extents; i++) {
        const struct segment *segment = segment_of_epoch(&spool->segments, append->extents[i].epoch);
        if (segment == NULL || segment->suspect) {
            return true;
        }
    }
    return false;
}

static enum err writer_refusal(const struct spool *spool, const struct spool_append *append)
{
    if (append->failed != ERR_OK) {
        return append->failed;
    }
    if (append->follows && spool->writer.previous_failed) {
        return ERR_IO;
    }
    if (spool->failures > 1 && !append->reserve) {
        return ERR_IO;
    }
    return writer_extents_suspect(spool, append) ? ERR_IO : ERR_OK;
}

static void writer_refuse(struct spool *spool, struct spool_append *append, enum err err)
{
    list_remove(&append->node);
    spool->writer.pending_count--;
    writer_fail(spool, append, err);
}

/* The disk is full: everything that came from outside is refused, the rest has the reserve. */
static void writer_refuse_intake(struct spool *spool)
{
    struct list kept;
    list_init(&kept);
    struct list refused;
    list_init(&refused);
    struct list *node;
    while ((node = list_pop_front(&spool->writer.pending)) != NULL) {
        list_push_back(LIST_OWNER(node, struct spool_append, node)->reserve ? &kept : &refused, node);
    }
    list_splice(&spool->writer.pending, &kept);
    while ((node = list_pop_front(&refused)) != NULL) {
        spool->writer.pending_count--;
        SPOOL_COUNT(spool, spool_full, 1);
        writer_fail(spool, LIST_OWNER(node, struct spool_append, node), ERR_NO_SPACE);
    }
}

/* No room for the append at the head of the queue. True when something changed that is worth another look now. */
static bool writer_no_room(struct spool *spool, struct spool_append *append)
{
    if (!spool->supply.failed) {
        spool->supply.wanted = true;
        return false;
    }
    if (!append->reserve) {
        writer_refuse_intake(spool);
    } else {
        spool->writer.previous_failed = true;
        writer_refuse(spool, append, ERR_NO_SPACE);
    }
    return true;
}

static bool writer_switch(struct spool *spool, struct spool_append *append)
{
    struct writer *writer = &spool->writer;
    if (writer->open != NULL && writer->open->unsynced) {
        writer_sync(spool, WRITER_FLUSH);
        return false;
    }
    struct segment *spare = segment_spare(&spool->segments);
    bool reserve = spool->segments.spares <= SPOOL_RESERVE;
    if (spare == NULL || (reserve && !append->reserve)) {
        return writer_no_room(spool, append);
    }
    if (writer->open != NULL) {
        writer_retire(spool);
    }
    segment_set_state(&spool->segments, spare, SEGMENT_OPEN);
    spare->used = SPOOL_FORMAT_HEADER_BYTES;
    spare->first_sequence = spool->next_sequence;
    spare->fresh = true;
    writer->open = spare;
    writer->open_reserve = reserve;
    return true;
}

/* Takes the append into the batch: its header after the zero bytes that end the record before. */
static void writer_take(struct spool *spool, struct spool_append *append, size_t padding)
{
    struct writer *writer = &spool->writer;
    const struct segment *open = writer->open;
    char *memory = writer->memory + (size_t)writer->batch_count * WRITER_HEADER_BYTES;
    append->position = (uint32_t)((open->used + writer->size) / SPOOL_FORMAT_ALIGN);
    append->segment = open->index;
    struct spool_format_record header = {
        .type = append->type,
        .payload_bytes = append->payload_bytes,
        .position = append->position,
        .sequence = spool->next_sequence,
        .epoch = open->epoch,
        .payload_hash = append->hash,
        .message = append->id,
        .unsure = (uint32_t)(spool->next_sequence - writer->durable_sequence),
    };
    record_finish(&header);
    spool->next_sequence++;
    memset(memory, 0, padding);
    memcpy(memory + padding, &header, sizeof header);
    writer->pieces[writer->piece_count++] = (struct iovec){.iov_base = memory, .iov_len = padding + sizeof header};
    for (unsigned i = 0; i < append->piece_count; i++) {
        if (append->pieces[i].iov_len != 0) {
            writer->pieces[writer->piece_count++] = append->pieces[i];
        }
    }
    writer->size += record_bytes(append->payload_bytes);
    writer->batch_count++;
    writer->batch_messages += append->type == SPOOL_FORMAT_MESSAGE;
    bool intake = !append->moved && (append->type == SPOOL_FORMAT_MESSAGE || append->type == SPOOL_FORMAT_EXTENT);
    writer->batch_intake += intake ? append->payload_bytes : 0;
    writer->batch_entries += writer_entries(append);
    writer->synced |= !append->relaxed;
    list_remove(&append->node);
    list_push_back(&writer->batch, &append->node);
    writer->pending_count--;
}

static size_t writer_padding(const struct spool_append *append)
{
    return (size_t)(record_bytes(append->payload_bytes) - SPOOL_FORMAT_ALIGN - append->payload_bytes);
}

/* Zero bytes behind the batch up to the end of a block, where there is nothing yet: the disk is written in whole blocks
 * anyway, and one of which only a part is new would have to be read first when it is not in the page cache. Nothing
 * depends on them: a short write that has all records is the whole batch. */
static uint64_t writer_rest_of_block(const struct writer *writer)
{
    uint64_t end = writer->open->used + writer->size;
    uint64_t rest = (SPOOL_BLOCK_BYTES - end % SPOOL_BLOCK_BYTES) % SPOOL_BLOCK_BYTES;
    return end + rest <= writer->open->bytes ? rest : 0;
}

static void writer_start(struct spool *spool)
{
    static char zeros[SPOOL_FORMAT_ALIGN + SPOOL_BLOCK_BYTES];
    struct writer *writer = &spool->writer;
    size_t padding = 0;
    writer->size = writer->written = writer->batch_intake = 0;
    writer->batch_count = writer->batch_messages = writer->batch_entries = 0;
    writer->piece_first = writer->piece_count = 0;
    writer->synced = writer->flush_due;
    writer->flush_due = false;
    writer->first_sequence = spool->next_sequence;
    while (!list_empty(&writer->pending)) {
        struct spool_append *append = LIST_OWNER(writer->pending.next, struct spool_append, node);
        if (writer_refusal(spool, append) != ERR_OK || !writer_may_use(spool, append) || !writer_fits(spool, append) ||
            writer->size + record_bytes(append->payload_bytes) > spool->batch_bytes ||
            writer->piece_count + append->piece_count + 2u > WRITER_PIECES) {
            break;
        }
        writer_take(spool, append, padding);
        padding = writer_padding(append);
        writer->previous_failed = false;
    }
    padding += writer_rest_of_block(writer);
    if (padding != 0) {
        writer->pieces[writer->piece_count++] = (struct iovec){.iov_base = zeros, .iov_len = padding};
    }
    writer->started_ns = clock_monotonic_ns();
    writer_write(spool);
}

/* One step towards the next batch. False when there is nothing more to do now. */
static bool writer_step(struct spool *spool)
{
    struct writer *writer = &spool->writer;
    struct spool_append *append = LIST_OWNER(writer->pending.next, struct spool_append, node);
    enum err refusal = writer_refusal(spool, append);
    if (refusal != ERR_OK) {
        writer->previous_failed = true;
        writer_refuse(spool, append, refusal);
        return true;
    }
    writer->size = 0;
    writer->batch_entries = 0;
    if (writer->open != NULL && !writer_may_use(spool, append)) {
        return writer_no_room(spool, append);
    }
    if (writer->open == NULL || !writer_fits(spool, append)) {
        return writer_switch(spool, append);
    }
    writer_start(spool);
    return false;
}

/* Nobody waits for an outcome, so a few of them alone are not worth a sync: they wait a moment for a message, whose
 * commit they then share. What that costs is that a power cut in this moment makes us deliver them twice. */
static bool writer_waits(struct spool *spool)
{
    struct writer *writer = &spool->writer;
    uint64_t until_ms = writer->waiting_since_ms + writer->outcome_wait_ms;
    if (writer->outcome_wait_ms == 0 || spool->closing || writer->pending_count >= WRITER_OUTCOMES_ENOUGH ||
        spool->shard->now_ms >= until_ms) {
        return false;
    }
    for (struct list *node = writer->pending.next; node != &writer->pending; node = node->next) {
        const struct spool_append *append = LIST_OWNER(node, struct spool_append, node);
        if (append->type != SPOOL_FORMAT_OUTCOME || append->follows) {
            return false;
        }
    }
    if (!wheel_armed(&writer->company)) {
        wheel_arm(&spool->shard->wheel, &writer->company, until_ms);
    }
    return true;
}

/* A full disk, and most of what the open segment holds is not needed any more: emptied, it is the space that intake
 * waits for. Nothing may be written to it otherwise, so it would stay open for as long as a single message in it is
 * deferred. Closed, it is compaction's, which has the reserve to move the rest to. */
static void writer_start_over(struct spool *spool)
{
    const struct writer *writer = &spool->writer;
    const struct segment *open = writer->open;
    if (writer->phase != WRITER_IDLE || !list_empty(&writer->pending) || open == NULL || open->unsynced ||
        open->used == SPOOL_FORMAT_HEADER_BYTES || spool_intake_state(spool) != SPOOL_INTAKE_FULL) {
        return;
    }
    bool worth = open->used > open->bytes / 2 && segment_weight(open) < open->used / 2 && spool->segments.spares > 0;
    if (worth || segment_unneeded(open)) {
        writer_retire(spool);
    }
}

void writer_run(struct spool *spool)
{
    struct writer *writer = &spool->writer;
    writer_start_over(spool);
    if (writer->phase == WRITER_IDLE && writer->pending_count != 0 && writer_waits(spool)) {
        return;
    }
    /* What is refused may be appended again at once by whoever asked: that waits for the next turn. */
    uint32_t steps = 2 * writer->pending_count + 4;
    while (writer->phase == WRITER_IDLE && !list_empty(&writer->pending) && steps-- > 0 && writer_step(spool)) {
    }
    if (writer->phase == WRITER_IDLE && writer->flush_due && writer->open != NULL && writer->open->unsynced) {
        writer->flush_due = false;
        writer_sync(spool, WRITER_FLUSH);
    }
    if (writer->phase == WRITER_IDLE && writer->pending_count > 0 && !wheel_armed(&writer->timer)) {
        shard_arm(spool->shard, &writer->timer, 1);
    }
}
