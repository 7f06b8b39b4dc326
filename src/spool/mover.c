/* Moving a message must not undo what happens to it meanwhile.
 *
 * The new copy carries the states of the recipients as they are when the move starts. An outcome that was appended
 * but is not durable then, or that is appended before the copy is, would be missing from it, and a restart would
 * believe the copy, which has the higher sequence. So a message with outcomes in flight is not moved, and when one
 * arrives before the copy is appended (INDEX_CHANGED) the move is given up and tried again later. What is appended
 * after the copy has a higher sequence and applies on top of it.
 *
 * A deferred message leaves an outcome in a new segment with each attempt, and only the last counts. When that segment
 * is to be emptied, the outcome alone is written again, by the same rules: the message may be a thousand times as
 * large.
 *
 * Everything is read through the ring into memory of our own and verified before it is written again, so damage is
 * found here (the message is quarantined) and not copied. What cannot be read at all is left alone: a disk that fails
 * answers EIO for everything, also for what the page cache still has, and will be delivered from there.
 */
#include "spool/mover.h"

#include <stdlib.h>
#include <string.h>

#include "spool/journal.h"
#include "spool/ledger.h"
#include "spool/quarantine.h"
#include "spool/spool_private.h"

#define MOVER_STATE_BYTES 1024 /* read at first of an OUTCOME record */

static void mover_next(struct mover *mover);

static struct index_slot *mover_slot(const struct mover *mover)
{
    return index_find(&mover->spool->index, mover->slot, mover->id);
}

static void mover_end(struct mover *mover, bool moved)
{
    struct index_slot *at = mover_slot(mover);
    if (at != NULL) {
        at->flags &= (uint8_t) ~(INDEX_MOVING | INDEX_CHANGED);
    }
    for (uint32_t i = 0; !moved && i < mover->extent; i++) {
        spool_abandon_extent(mover->spool, &mover->extents[i]);
    }
    free(mover->data);
    free(mover->piece);
    free(mover->states.data);
    free(mover->places);
    free(mover->extents);
    mover->data = mover->piece = mover->states.data = NULL;
    mover->places = NULL;
    mover->extents = NULL;
    mover->phase = MOVER_IDLE;
    mover->spool->compaction.flight_bytes -= mover->data_bytes;
    compaction_finished(mover->spool, moved, mover->bytes);
}

static void mover_damaged(struct mover *mover, const char *what)
{
    spool_quarantine(mover->spool, mover->slot, mover->id, what);
    mover_end(mover, false);
}

/* Does the record at the start of the data verify as that message's? */
static bool mover_verify(const struct mover *mover, const char *data, uint64_t bytes, uint64_t epoch, uint64_t offset,
                         uint8_t type, struct bytes *ret_payload)
{
    struct spool_format_record record;
    memcpy(&record, data, sizeof record);
    if (!record_valid(&record, epoch, offset, offset + bytes) || record.type != type || record.message != mover->id) {
        return false;
    }
    struct iovec piece = {.iov_base = (void *)(uintptr_t)(data + sizeof record), .iov_len = record.payload_bytes};
    *ret_payload = bytes_of(piece.iov_base, piece.iov_len);
    return record_hash(&piece, 1) == record.payload_hash;
}

/* --- the message ------------------------------------------------------------------------------------------------ */

static bool mover_prepare(struct mover *mover, struct bytes payload)
{
    uint64_t needed;
    struct record_message *message = &mover->message;
    if (record_read_message(payload, (uint32_t)payload.length, message, &needed) != ERR_OK ||
        message->fixed.recipients != mover_slot(mover)->recipients) {
        return false;
    }
    /* As many texts as there is room for; the states themselves always fit. */
    uint64_t rest = payload.length - message->states.length;
    uint64_t least = (uint64_t)message->fixed.recipients * sizeof(struct spool_format_state);
    uint64_t room = mover->spool->batch_bytes - SPOOL_FORMAT_ALIGN * 2;
    room = room > rest ? room - rest : 0;
    uint64_t most = (uint64_t)message->fixed.recipients * SPOOL_OUTCOME_BYTES(1);
    most = most < room ? most : room;
    mover->states = buffer_of(malloc(most + 1), most);
    mover->places = calloc((size_t)message->fixed.extents + 1, sizeof *mover->places);
    mover->extents = calloc((size_t)message->fixed.extents + 1, sizeof *mover->extents);
    return mover->states.data != NULL && mover->places != NULL && mover->extents != NULL && least <= most;
}

static void mover_read_done(struct mover *mover, int result)
{
    struct bytes payload;
    if (mover_slot(mover) == NULL || result < 0) {
        mover_end(mover, false);
    } else if (result != (int)mover->data_bytes || !mover_verify(mover, mover->data, mover->data_bytes, mover->epoch,
                                                                 mover->offset, SPOOL_FORMAT_MESSAGE, &payload)) {
        mover_damaged(mover, "found by compaction");
    } else if (!mover_prepare(mover, payload)) {
        mover_end(mover, false);
    } else {
        mover_next(mover);
    }
}

/* --- states ----------------------------------------------------------------------------------------------------- */

/* With its texts, or, when they do not fit with what the others need at least, without. */
static void mover_add_state(struct mover *mover, const struct journal_item *item)
{
    size_t others = (size_t)(mover->message.fixed.recipients - mover->recipient - 1) * sizeof item->state;
    size_t whole = sizeof item->state + item->text.length + item->host.length + 3;
    bool fits = whole + others <= buffer_room(&mover->states);
    struct journal_item bare = {.state = item->state};
    CHECK(journal_add(&mover->states, fits ? item : &bare));
    mover->state_count++;
    mover->recipient++;
}

static void mover_read_piece(struct mover *mover, enum mover_phase phase, const struct segment *segment,
                             uint64_t offset, uint64_t bytes)
{
    free(mover->piece);
    mover->piece = malloc(bytes);
    mover->piece_valid = false;
    if (mover->piece == NULL) {
        mover_end(mover, false);
        return;
    }
    mover->piece_bytes = bytes;
    mover->piece_segment = segment->index;
    mover->piece_offset = offset;
    mover->phase = phase;
    ring_read(mover->spool->shard->ring, &mover->op, segment->fd, mover->piece, bytes, offset);
}

static void mover_read_state(struct mover *mover, const struct segment *segment, uint64_t offset)
{
    uint64_t rest = segment->bytes - offset;
    mover_read_piece(mover, MOVER_STATE, segment, offset, rest < MOVER_STATE_BYTES ? rest : MOVER_STATE_BYTES);
}

static void mover_state_done(struct mover *mover, int result)
{
    struct spool_format_record record;
    const struct segment *segment = mover->spool->segments.at[mover->piece_segment];
    if (mover_slot(mover) == NULL || (mover_slot(mover)->flags & INDEX_CHANGED) != 0 || segment == NULL ||
        result < (int)sizeof record) {
        mover_end(mover, false);
        return;
    }
    memcpy(&record, mover->piece, sizeof record);
    if (record_valid(&record, segment->epoch, mover->piece_offset, segment->bytes) &&
        record_bytes(record.payload_bytes) > mover->piece_bytes) {
        mover_read_piece(mover, MOVER_STATE, segment, mover->piece_offset, record_bytes(record.payload_bytes));
        return;
    }
    /* When it does not verify, what the index knows must do: the texts are lost, and the time of the next attempt. */
    mover->piece_valid = true;
    mover_next(mover);
}

/* The last outcome of the next recipient, when what it takes is in memory. */
static bool mover_state(struct mover *mover, struct index_recipient where)
{
    struct journal_item item = {.state = {.recipient = mover->recipient, .status = (uint8_t)where.status}};
    struct spool_format_outcome outcome;
    struct bytes payload;
    const struct segment *segment = where.segment != SEGMENT_NONE ? spool_segment(mover->spool, where.segment) : NULL;
    uint64_t offset = (uint64_t)where.offset * SPOOL_FORMAT_ALIGN;
    if (where.segment == SEGMENT_NONE) {
        journal_find(journal_iterate(mover->message.states), mover->recipient, &item);
    } else if (!journal_final((uint8_t)where.status)) {
        if (!mover->piece_valid || mover->piece_segment != where.segment || mover->piece_offset != offset) {
            return false;
        }
        if (mover_verify(mover, mover->piece, mover->piece_bytes, segment->epoch, offset, SPOOL_FORMAT_OUTCOME,
                         &payload)) {
            journal_find(journal_outcome(payload, &outcome), mover->recipient, &item);
        }
    }
    mover_add_state(mover, &item);
    return true;
}

static void mover_states(struct mover *mover)
{
    struct index_slot *at = mover_slot(mover);
    while (mover->recipient < at->recipients) {
        struct index_recipient where = index_recipient_get(&mover->spool->index, at, mover->recipient);
        bool stays = mover->victim != SEGMENT_NONE && where.segment != mover->victim;
        if (where.status == SPOOL_FORMAT_PENDING || stays) {
            mover->recipient++;
        } else if (!mover_state(mover, where)) {
            mover_read_state(mover, spool_segment(mover->spool, where.segment),
                             (uint64_t)where.offset * SPOOL_FORMAT_ALIGN);
            return;
        }
    }
    mover_next(mover);
}

/* --- extents ---------------------------------------------------------------------------------------------------- */

static void mover_read_extent(struct mover *mover)
{
    const struct index_side *side = index_side_of(&mover->spool->index, mover_slot(mover));
    const struct index_extent *extent = &side->extents[mover->extent];
    mover_read_piece(mover, MOVER_EXTENT_READ, spool_segment(mover->spool, extent->segment),
                     (uint64_t)extent->offset * SPOOL_FORMAT_ALIGN, record_bytes(extent->payload_bytes));
}

static void mover_extent_read(struct mover *mover, int result)
{
    struct bytes payload;
    const struct segment *segment = mover->spool->segments.at[mover->piece_segment];
    if (mover_slot(mover) == NULL || segment == NULL || result < 0) {
        mover_end(mover, false);
    } else if (result != (int)mover->piece_bytes ||
               !mover_verify(mover, mover->piece, mover->piece_bytes, segment->epoch, mover->piece_offset,
                             SPOOL_FORMAT_EXTENT, &payload)) {
        mover_damaged(mover, "extent found by compaction");
    } else {
        const struct iovec piece = {.iov_base = (void *)(uintptr_t)payload.data, .iov_len = payload.length};
        mover->phase = MOVER_EXTENT_WRITE;
        spool_append_extent(mover->spool, &mover->append, mover->id, &piece, 1);
        mover->append.moved = mover->append.reserve = true;
    }
}

static void mover_extent_written(struct mover *mover)
{
    const struct spool_format_extent *extent = &mover->append.extent;
    const struct segment *segment = segment_of_epoch(&mover->spool->segments, extent->epoch);
    CHECK(segment != NULL);
    mover->extents[mover->extent] = *extent;
    mover->places[mover->extent] = (struct index_extent){
        .offset = extent->position, .payload_bytes = extent->payload_bytes, .segment = segment->index};
    mover->extent++;
    mover->bytes += record_bytes(extent->payload_bytes);
    if (mover_slot(mover) == NULL) {
        mover_end(mover, false);
    } else {
        mover_next(mover);
    }
}

/* --- the copy --------------------------------------------------------------------------------------------------- */

static void mover_piece(struct spool_append *append, const void *data, size_t length)
{
    append->pieces[append->piece_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = length};
}

static void mover_write(struct mover *mover)
{
    struct index_slot *at = mover_slot(mover);
    if (at->writing != 0 || (at->flags & (INDEX_CHANGED | INDEX_QUARANTINED)) != 0) {
        mover_end(mover, false);
        return;
    }
    const struct record_message *old = &mover->message;
    struct spool_append *append = &mover->append;
    struct bytes extents = bytes_of(mover->extents, old->extents.length);
    void (*done)(struct spool_append *, enum err) = append->done;
    *append = (struct spool_append){
        .done = done,
        .slot = mover->slot,
        .id = mover->id,
        .type = SPOOL_FORMAT_MESSAGE,
        .message = old->fixed,
        .extents = mover->extents,
        .states = mover->places,
        .moved = true,
        .reserve = true,
    };
    list_init(&append->node);
    append->message.states_bytes = (uint32_t)mover->states.length;
    append->message.head_crc = record_head_crc(&append->message, buffer_bytes(&mover->states), old->envelope, extents);
    mover_piece(append, &append->message, sizeof append->message);
    mover_piece(append, mover->states.data, mover->states.length);
    mover_piece(append, old->envelope.data, old->envelope.length);
    mover_piece(append, extents.data, extents.length);
    mover_piece(append, old->prologue.data, old->prologue.length + old->body.length);
    mover->phase = MOVER_WRITE;
    writer_queue(mover->spool, append);
}

/* The states of the victim, as an OUTCOME of their own. */
static void mover_write_states(struct mover *mover)
{
    struct index_slot *at = mover_slot(mover);
    if (at->writing != 0 || (at->flags & (INDEX_CHANGED | INDEX_QUARANTINED)) != 0) {
        mover_end(mover, false);
        return;
    }
    struct spool_append *append = &mover->append;
    const struct spool_format_outcome head = {
        .message = mover->id, .written_ms = mover->spool->shard->wall_ms, .states = mover->state_count};
    void (*done)(struct spool_append *, enum err) = append->done;
    *append = (struct spool_append){.done = done,
                                    .slot = mover->slot,
                                    .id = mover->id,
                                    .type = SPOOL_FORMAT_OUTCOME,
                                    .entry_count = (uint16_t)mover->state_count,
                                    .moved = true,
                                    .reserve = true};
    list_init(&append->node);
    memcpy(mover->states.data, &head, sizeof head);
    mover_piece(append, mover->states.data, mover->states.length);
    mover->phase = MOVER_WRITE;
    writer_queue(mover->spool, append);
}

static void mover_next(struct mover *mover)
{
    if (mover->victim != SEGMENT_NONE) {
        if (mover->recipient < mover_slot(mover)->recipients) {
            mover_states(mover);
        } else {
            mover_write_states(mover);
        }
    } else if (mover->recipient < mover->message.fixed.recipients) {
        mover_states(mover);
    } else if (mover->extent < mover->message.fixed.extents) {
        mover_read_extent(mover);
    } else {
        mover_write(mover);
    }
}

static void mover_op_done(struct op *op, int result, uint32_t flags)
{
    (void)flags;
    struct mover *mover = CONTAINER_OF(op, struct mover, op);
    switch (mover->phase) {
    case MOVER_READ: mover_read_done(mover, result); break;
    case MOVER_STATE: mover_state_done(mover, result); break;
    case MOVER_EXTENT_READ: mover_extent_read(mover, result); break;
    default: CHECK(false);
    }
}

static void mover_append_done(struct spool_append *append, enum err err)
{
    struct mover *mover = CONTAINER_OF(append, struct mover, append);
    if (err != ERR_OK) {
        mover_end(mover, false);
    } else if (mover->phase == MOVER_EXTENT_WRITE) {
        mover_extent_written(mover);
    } else {
        mover->bytes += record_bytes(append->payload_bytes);
        mover_end(mover, append->slot != SPOOL_SLOT_NONE);
    }
}

/* Is nothing but states of the message in the segment? */
static bool mover_only_states(const struct spool *spool, const struct index_slot *at, uint16_t victim)
{
    const struct index_side *side = index_side_of(&spool->index, at);
    for (uint32_t i = 0; side != NULL && i < side->extent_count; i++) {
        if (side->extents[i].segment == victim) {
            return false;
        }
    }
    return at->segment != victim;
}

static bool mover_start_states(struct mover *mover, const struct index_slot *at)
{
    struct spool *spool = mover->spool;
    uint32_t count = 0;
    for (uint16_t i = 0; i < at->recipients; i++) {
        count += index_recipient_get(&spool->index, at, i).segment == mover->victim;
    }
    uint64_t most = SPOOL_OUTCOME_BYTES(0) + (uint64_t)count * SPOOL_OUTCOME_BYTES(1);
    uint64_t room = spool->batch_bytes - SPOOL_FORMAT_ALIGN * 2;
    most = most < room ? most : room;
    if (sizeof(struct spool_format_outcome) + (uint64_t)count * sizeof(struct spool_format_state) > most) {
        return false;
    }
    mover->states = buffer_of(malloc(most), most);
    mover->message.fixed.recipients = at->recipients;
    if (mover->states.data == NULL) {
        return false;
    }
    mover->states.length = sizeof(struct spool_format_outcome); /* filled in at the end */
    return true;
}

static bool mover_start_message(struct mover *mover, const struct index_slot *at)
{
    const struct segment *segment = spool_segment(mover->spool, at->segment);
    mover->data_bytes = (uint64_t)at->length * SPOOL_FORMAT_ALIGN;
    mover->offset = (uint64_t)at->offset * SPOOL_FORMAT_ALIGN;
    mover->epoch = segment->epoch;
    mover->fd = segment->fd;
    mover->data = malloc(mover->data_bytes);
    return mover->data != NULL;
}

bool mover_start(struct spool *spool, struct mover *mover, uint32_t slot, uint16_t victim)
{
    CHECK(mover->phase == MOVER_IDLE);
    struct index_slot *at = index_at(&spool->index, slot);
    if ((at->flags & (INDEX_LIVE | INDEX_MOVING | INDEX_QUARANTINED)) != INDEX_LIVE || at->writing != 0) {
        return false;
    }
    bool states = mover_only_states(spool, at, victim);
    *mover = (struct mover){
        .op.done = mover_op_done,
        .append.done = mover_append_done,
        .spool = spool,
        .slot = slot,
        .id = (uint64_t)spool->number << SPOOL_NUMBER_SHIFT | index_id(at),
        .victim = states ? victim : SEGMENT_NONE,
    };
    if (states ? !mover_start_states(mover, at) : !mover_start_message(mover, at)) {
        return false;
    }
    mover->phase = MOVER_READ;
    spool->compaction.flight_bytes += mover->data_bytes;
    at->flags |= INDEX_MOVING;
    at->flags &= (uint8_t)~INDEX_CHANGED;
    if (states) {
        mover_next(mover);
    } else {
        ring_read(spool->shard->ring, &mover->op, mover->fd, mover->data, mover->data_bytes, mover->offset);
    }
    return true;
}

/* --- graves ----------------------------------------------------------------------------------------------------- */

#define CARRIER_GRAVES 4096 /* per record */

static void carrier_end(struct carrier *carrier, bool carried)
{
    struct segment *segment = carrier->segment;
    segment->lent--;
    carrier->spool->look = true;
    if (carried) {
        CHECK(segment->live == 0 && segment->states == 0);
        segment_set_clear(&segment->graves);
    }
    free(carrier->data);
    free(carrier->graves);
    carrier->data = NULL;
    carrier->graves = NULL;
    carrier->segment = NULL;
    compaction_finished(carrier->spool, carried, (uint64_t)carrier->count * sizeof *carrier->graves);
}

static void carrier_append(struct carrier *carrier)
{
    uint32_t left = carrier->count - carrier->done;
    if (left == 0) {
        carrier_end(carrier, true);
        return;
    }
    uint32_t count = left < CARRIER_GRAVES ? left : CARRIER_GRAVES;
    struct spool_append *append = &carrier->append;
    void (*done)(struct spool_append *, enum err) = append->done;
    *append = (struct spool_append){
        .done = done,
        .type = SPOOL_FORMAT_GRAVES,
        .slot = SPOOL_SLOT_NONE,
        .entry_count = (uint16_t)count,
        .states = carrier->graves + carrier->done,
        .moved = true,
        .reserve = true,
    };
    list_init(&append->node);
    mover_piece(append, append->states, count * sizeof *carrier->graves);
    carrier->done += count;
    writer_queue(carrier->spool, append);
}

/* Which final outcomes of the SEAL's entries are of messages whose record still exists elsewhere? */
static bool carrier_collect(struct carrier *carrier, struct bytes payload)
{
    struct spool_format_seal seal;
    if (payload.length < sizeof seal) {
        return false;
    }
    memcpy(&seal, payload.data, sizeof seal);
    if (payload.length != sizeof seal + (size_t)seal.entries * sizeof(struct spool_format_entry)) {
        return false;
    }
    carrier->graves = malloc(((size_t)seal.entries + 1) * sizeof *carrier->graves);
    for (uint32_t i = 0; carrier->graves != NULL && i < seal.entries; i++) {
        struct spool_format_entry entry;
        memcpy(&entry, payload.data + sizeof seal + i * sizeof entry, sizeof entry);
        if (entry.type == SPOOL_FORMAT_MESSAGE || !journal_final(entry.status)) {
            continue;
        }
        const struct segment *held = segment_of_number(&carrier->spool->segments, entry.next_attempt_s);
        if (held != NULL && held != carrier->segment) {
            carrier->graves[carrier->count++] = (struct spool_format_grave){
                .message = entry.message,
                .segment = entry.next_attempt_s,
                .recipient = entry.recipient,
                .status = entry.status,
            };
        }
    }
    return carrier->graves != NULL;
}

static void carrier_op_done(struct op *op, int result, uint32_t flags)
{
    (void)flags;
    struct carrier *carrier = CONTAINER_OF(op, struct carrier, op);
    struct segment *segment = carrier->segment;
    struct spool_format_record record;
    if (result != (int)carrier->bytes) {
        carrier_end(carrier, false);
        return;
    }
    memcpy(&record, carrier->data, sizeof record);
    if (!record_valid(&record, segment->epoch, segment->used, segment->bytes) || record.type != SPOOL_FORMAT_SEAL) {
        carrier_end(carrier, false);
        return;
    }
    if (!carrier->body) {
        char *larger = realloc(carrier->data, record_bytes(record.payload_bytes));
        if (larger == NULL) {
            carrier_end(carrier, false);
            return;
        }
        carrier->data = larger;
        carrier->bytes = record_bytes(record.payload_bytes);
        carrier->body = true;
        ring_read(carrier->spool->shard->ring, op, segment->fd, carrier->data, carrier->bytes, segment->used);
        return;
    }
    struct iovec piece = {.iov_base = carrier->data + sizeof record, .iov_len = record.payload_bytes};
    if (record_hash(&piece, 1) != record.payload_hash ||
        !carrier_collect(carrier, bytes_of(piece.iov_base, piece.iov_len))) {
        carrier_end(carrier, false);
        return;
    }
    carrier_append(carrier);
}

static void carrier_append_done(struct spool_append *append, enum err err)
{
    struct carrier *carrier = CONTAINER_OF(append, struct carrier, append);
    if (err != ERR_OK) {
        carrier_end(carrier, false);
    } else {
        carrier_append(carrier);
    }
}

bool carrier_start(struct spool *spool, struct carrier *carrier, struct segment *segment)
{
    CHECK(carrier->segment == NULL && segment->live == 0 && segment->states == 0);
    char *data = segment->sealed ? malloc(sizeof(struct spool_format_record)) : NULL;
    if (data == NULL) {
        return false;
    }
    *carrier = (struct carrier){
        .op.done = carrier_op_done,
        .append.done = carrier_append_done,
        .spool = spool,
        .segment = segment,
        .data = data,
        .bytes = sizeof(struct spool_format_record),
    };
    segment->lent++; /* its graves may be let go meanwhile: it must not be emptied, or unlinked, under us */
    ring_read(spool->shard->ring, &carrier->op, segment->fd, data, carrier->bytes, segment->used);
    return true;
}
