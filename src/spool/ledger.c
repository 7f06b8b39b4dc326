#include "spool/ledger.h"

#include "spool/journal.h"
#include "spool/record.h"
#include "spool/spool_private.h"

static void ledger_add(struct spool *spool, struct segment *segment, uint64_t bytes)
{
    segment_live(segment, bytes);
    spool->live_bytes += bytes;
}

static void ledger_drop(struct spool *spool, struct segment *segment, uint64_t bytes)
{
    segment_dead(segment, bytes);
    spool->live_bytes -= bytes;
    spool->look |= segment->live == 0;
}

static void ledger_drop_state(struct spool *spool, uint16_t index)
{
    if (index != SEGMENT_NONE) {
        struct segment *segment = spool_segment(spool, index);
        CHECK(segment->states > 0);
        segment->states--;
        spool->look |= segment->states == 0;
    }
}

/* Without memory for the note the holder is simply never emptied. */
static void ledger_hold(struct segment *holder, struct segment_set *set, const struct segment *held)
{
    if (holder != held && !segment_hold(set, held->index)) {
        holder->pinned = true;
    }
}

static void ledger_place(struct index_slot *at, const struct segment *segment, uint64_t offset, uint64_t bytes)
{
    at->segment = segment->index;
    at->offset = (uint32_t)(offset / SPOOL_FORMAT_ALIGN) & 0xffffffu;
    at->length = (uint32_t)(bytes / SPOOL_FORMAT_ALIGN) & 0xffffffu;
}

void ledger_message(struct spool *spool, uint32_t slot, struct segment *segment, uint64_t offset, uint64_t bytes)
{
    struct index_slot *at = index_at(&spool->index, slot);
    CHECK((at->flags & (INDEX_USED | INDEX_LIVE)) == INDEX_USED);
    at->flags |= INDEX_LIVE;
    ledger_place(at, segment, offset, bytes);
    ledger_add(spool, segment, bytes);
    spool->messages++;
    spool->recipients += at->left;
}

static void ledger_drop_extents(struct spool *spool, const struct index_side *side)
{
    for (uint32_t i = 0; side != NULL && i < side->extent_count; i++) {
        const struct index_extent *extent = &side->extents[i];
        if (extent->segment != SEGMENT_NONE) {
            ledger_drop(spool, spool_segment(spool, extent->segment), record_bytes(extent->payload_bytes));
        }
    }
}

void ledger_quarantine(struct spool *spool, struct index_slot *at)
{
    spool->quarantined_messages += (at->flags & INDEX_QUARANTINED) == 0;
    at->flags |= INDEX_QUARANTINED;
}

/* The records that finished this message must outlive its own (see segment.h). */
static void ledger_end(struct spool *spool, uint32_t slot)
{
    struct index_slot *at = index_at(&spool->index, slot);
    struct segment *home = spool_segment(spool, at->segment);
    for (uint16_t i = 0; i < at->recipients; i++) {
        struct index_recipient recipient = index_recipient_get(&spool->index, at, i);
        if (recipient.segment != SEGMENT_NONE) {
            struct segment *holder = spool_segment(spool, recipient.segment);
            ledger_hold(holder, &holder->graves, home);
            ledger_drop_state(spool, recipient.segment);
        }
    }
    ledger_drop_extents(spool, index_side_of(&spool->index, at));
    ledger_drop(spool, home, (uint64_t)at->length * SPOOL_FORMAT_ALIGN);
    spool->messages--;
    spool->quarantined_messages -= (at->flags & INDEX_QUARANTINED) != 0;
    index_give(&spool->index, slot);
}

bool ledger_outcome(struct spool *spool, uint32_t slot, uint16_t recipient, uint8_t status, struct segment *segment,
                    uint64_t offset)
{
    struct index_slot *at = index_at(&spool->index, slot);
    CHECK((at->flags & INDEX_LIVE) != 0);
    struct index_recipient before = index_recipient_get(&spool->index, at, recipient);
    if (journal_final((uint8_t)before.status)) {
        return false;
    }
    struct index_recipient now = {
        .offset = (uint32_t)(offset / SPOOL_FORMAT_ALIGN) & 0xffffffu,
        .status = status,
        .segment = segment != NULL ? segment->index : SEGMENT_NONE,
    };
    if (segment != NULL) {
        segment->states++;
    }
    index_recipient_set(&spool->index, at, recipient, now);
    ledger_drop_state(spool, before.segment);
    if (status == SPOOL_FORMAT_QUARANTINED) {
        ledger_quarantine(spool, at);
    }
    if (!journal_final(status)) {
        return false;
    }
    spool->recipients--;
    if (--at->left > 0) {
        return false;
    }
    ledger_end(spool, slot);
    return true;
}

void ledger_moved(struct spool *spool, uint32_t slot, struct segment *segment, uint64_t offset, uint64_t bytes,
                  const struct index_extent *extents)
{
    struct index_slot *at = index_at(&spool->index, slot);
    struct segment *home = spool_segment(spool, at->segment);
    for (uint16_t i = 0; i < at->recipients; i++) {
        struct index_recipient recipient = index_recipient_get(&spool->index, at, i);
        ledger_drop_state(spool, recipient.segment);
        recipient.segment = SEGMENT_NONE;
        recipient.offset = 0;
        index_recipient_set(&spool->index, at, i, recipient);
    }
    struct index_side *side = index_side_of(&spool->index, at);
    ledger_drop_extents(spool, side);
    for (uint32_t i = 0; side != NULL && i < side->extent_count; i++) {
        side->extents[i] = extents[i];
    }
    ledger_add(spool, segment, bytes);
    ledger_drop(spool, home, (uint64_t)at->length * SPOOL_FORMAT_ALIGN);
    ledger_place(at, segment, offset, bytes);
    ledger_hold(segment, &segment->copies, home);
}

void ledger_state_moved(struct spool *spool, uint32_t slot, uint16_t recipient, struct segment *segment,
                        uint64_t offset)
{
    struct index_slot *at = index_at(&spool->index, slot);
    struct index_recipient before = index_recipient_get(&spool->index, at, recipient);
    struct index_recipient now = before;
    now.segment = segment->index;
    now.offset = (uint32_t)(offset / SPOOL_FORMAT_ALIGN) & 0xffffffu;
    segment->states++;
    index_recipient_set(&spool->index, at, recipient, now);
    ledger_drop_state(spool, before.segment);
}

void ledger_extent(struct spool *spool, struct segment *segment, uint32_t payload_bytes)
{
    ledger_add(spool, segment, record_bytes(payload_bytes));
    segment->loose++;
}

void ledger_extent_used(struct spool *spool, struct segment *segment)
{
    CHECK(segment->loose > 0);
    segment->loose--;
    spool->look |= segment->loose == 0;
}

void ledger_extent_abandoned(struct spool *spool, struct segment *segment, uint32_t payload_bytes)
{
    ledger_extent_used(spool, segment);
    ledger_drop(spool, segment, record_bytes(payload_bytes));
}
