/* A message that does not verify is neither delivered nor thrown away: which of its bytes is wrong is not known, and
 * the operator may be able to read it all the same. It stays live in the ledger, so that its segments stay, and an
 * outcome QUARANTINED makes that known to the next start. It ends with an outcome REMOVED, as deleted mail does.
 */
#include "spool/quarantine.h"

#include <stdlib.h>
#include <unistd.h>

#include "core/event_log.h"
#include "spool/envelope.h"
#include "spool/journal.h"
#include "spool/ledger.h"
#include "spool/record.h"
#include "spool/spool_private.h"

#define QUARANTINE_WHY "removed from quarantine by the operator"

/* --- in ---------------------------------------------------------------------------------------------------------- */

struct quarantine {
    struct spool_append append;
    char room[SPOOL_OUTCOME_BYTES(1)];
};

static void quarantine_done(struct spool_append *append, enum err err)
{
    if (err != ERR_OK) {
        log_line(LOG_ERROR, "quarantine not journaled", "message=%016llx error=%s", (unsigned long long)append->id,
                 err_name(err));
    }
    free(CONTAINER_OF(append, struct quarantine, append));
}

static bool quarantine_left(const struct spool *spool, const struct index_slot *at, uint16_t recipient)
{
    return !journal_final((uint8_t)index_recipient_get(&spool->index, at, recipient).status);
}

void spool_quarantine(struct spool *spool, uint32_t slot, uint64_t id, const char *why)
{
    struct index_slot *at = index_find(&spool->index, slot, id);
    if (at == NULL || (at->flags & INDEX_QUARANTINED) != 0) {
        return;
    }
    char name[SEGMENT_NAME_BYTES];
    segment_name(spool_segment(spool, at->segment)->file, name);
    log_line(LOG_ERROR, "message quarantined", "message=%016llx path=%s/%s offset=%llu why=\"%s\"",
             (unsigned long long)id, spool->path, name, (unsigned long long)at->offset * SPOOL_FORMAT_ALIGN, why);
    spool->quarantined++;
    SPOOL_COUNT(spool, spool_quarantined, 1);
    ledger_quarantine(spool, at);
    struct quarantine *quarantine = calloc(1, sizeof *quarantine);
    if (quarantine == NULL) {
        return;
    }
    uint16_t recipient = 0;
    while (recipient < at->recipients - 1 && !quarantine_left(spool, at, recipient)) {
        recipient++;
    }
    quarantine->append.done = quarantine_done;
    struct buffer room = buffer_of(quarantine->room, sizeof quarantine->room);
    const struct spool_outcome outcome = {
        .recipient = recipient, .status = SPOOL_FORMAT_QUARANTINED, .reply = bytes_of_string(why)};
    spool_append_outcomes(spool, &quarantine->append, slot, id, &outcome, 1, false, &room);
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

/* The record as it is on the disk, of which the head may verify. To be freed; NULL when it cannot be read. */
static char *quarantine_read(const struct spool *spool, const struct index_slot *at, struct record_message *ret_message,
                             bool *ret_readable)
{
    const struct segment *segment = spool_segment(spool, at->segment);
    size_t bytes = (size_t)at->length * SPOOL_FORMAT_ALIGN;
    char *data = malloc(bytes);
    struct spool_format_record record;
    uint64_t needed;
    *ret_readable = false;
    if (data == NULL || pread(segment->fd, data, bytes, (off_t)at->offset * SPOOL_FORMAT_ALIGN) != (ssize_t)bytes) {
        free(data);
        return NULL;
    }
    memcpy(&record, data, sizeof record);
    *ret_readable = record_valid(&record, segment->epoch, (uint64_t)at->offset * SPOOL_FORMAT_ALIGN, segment->bytes) &&
                    record_bytes(record.payload_bytes) == bytes &&
                    record_read_message(bytes_of(data + sizeof record, record.payload_bytes), record.payload_bytes,
                                        ret_message, &needed) == ERR_OK &&
                    ret_message->fixed.recipients == at->recipients;
    return data;
}

static bool quarantine_is(const struct index_slot *at)
{
    return (at->flags & (INDEX_LIVE | INDEX_QUARANTINED)) == (INDEX_LIVE | INDEX_QUARANTINED);
}

static uint64_t quarantine_id(const struct spool *spool, const struct index_slot *at)
{
    return (uint64_t)spool->number << SPOOL_NUMBER_SHIFT | index_id(at);
}

bool spool_quarantine_next(struct spool *spool, uint32_t *slot, struct spool_quarantined *ret_item)
{
    while (*slot < spool->index.begun && !quarantine_is(index_at(&spool->index, *slot))) {
        ++*slot;
    }
    if (spool->quarantined_messages == 0 || *slot >= spool->index.begun) {
        return false;
    }
    const struct index_slot *at = index_at(&spool->index, (*slot)++);
    struct record_message message;
    *ret_item = (struct spool_quarantined){
        .id = quarantine_id(spool, at),
        .offset = (uint64_t)at->offset * SPOOL_FORMAT_ALIGN,
        .bytes = (uint64_t)at->length * SPOOL_FORMAT_ALIGN,
        .recipients = at->left,
    };
    char name[SEGMENT_NAME_BYTES];
    segment_name(spool_segment(spool, at->segment)->file, name);
    snprintf(ret_item->file, sizeof ret_item->file, "%u/%.24s", spool->number, name);
    char *data = quarantine_read(spool, at, &message, &ret_item->readable);
    if (ret_item->readable) {
        struct bytes sender = envelope_find(message.envelope, ENVELOPE_SENDER);
        ret_item->arrival_ms = message.fixed.arrival_ms;
        snprintf(ret_item->sender, sizeof ret_item->sender, "%.*s", (int)sender.length, sender.data);
    }
    free(data);
    return true;
}

void spool_quarantine_damage(const struct spool *spool, uint32_t *ret_records, uint32_t *ret_segments)
{
    *ret_records = *ret_segments = 0;
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        const struct segment *segment = spool->segments.at[i];
        if (segment != NULL && segment->quarantined != 0) {
            *ret_records += segment->quarantined;
            *ret_segments += 1;
        }
    }
}

/* --- out --------------------------------------------------------------------------------------------------------- */

struct quarantine_drop {
    struct spool_append append;
    struct spool *spool;
    char *data; /* the record */
    bool readable;
    struct record_message message;
    struct buffer room;
    unsigned count;
    struct spool_outcome outcomes[];
};

static void quarantine_drop_free(struct quarantine_drop *drop)
{
    free(drop->room.data);
    free(drop->data);
    free(drop);
}

static void quarantine_tell(const struct quarantine_drop *drop)
{
    struct event event = {
        .type = EVENT_REMOVAL, .id = drop->append.id, .enhanced = {5, 7, 1}, .reply = BYTES(QUARANTINE_WHY)};
    for (unsigned i = 0; i < drop->count; i++) {
        struct envelope_item recipient;
        if (drop->readable && envelope_recipient(drop->message.envelope, drop->outcomes[i].recipient, &recipient)) {
            event.sender = envelope_find(drop->message.envelope, ENVELOPE_SENDER);
            event.recipient = recipient.value;
            event.arrival_ms = drop->message.fixed.arrival_ms;
        } else {
            event.arrival_ms = drop->spool->shard->wall_ms;
        }
        event_log_write(drop->spool->shard, &event);
    }
}

static void quarantine_dropped(struct spool_append *append, enum err err)
{
    struct quarantine_drop *drop = CONTAINER_OF(append, struct quarantine_drop, append);
    if (err == ERR_OK) {
        log_line(LOG_INFO, "message dropped from quarantine", "message=%016llx recipients=%u",
                 (unsigned long long)append->id, drop->count);
        SPOOL_COUNT(drop->spool, recipients_removed, drop->count);
        quarantine_tell(drop);
    } else {
        log_line(LOG_ERROR, "message not dropped from quarantine", "message=%016llx error=%s",
                 (unsigned long long)append->id, err_name(err));
    }
    quarantine_drop_free(drop);
}

static void quarantine_fill(struct quarantine_drop *drop, const struct index_slot *at)
{
    for (uint16_t i = 0; i < at->recipients; i++) {
        if (quarantine_left(drop->spool, at, i)) {
            drop->outcomes[drop->count++] = (struct spool_outcome){
                .recipient = i, .status = SPOOL_FORMAT_REMOVED, .enhanced = {5, 7, 1}, .reply = BYTES(QUARANTINE_WHY)};
        }
    }
}

enum err spool_quarantine_drop(struct spool *spool, uint64_t id)
{
    uint32_t slot = spool_find(spool, id);
    struct index_slot *at = slot != SPOOL_SLOT_NONE ? index_at(&spool->index, slot) : NULL;
    if (at == NULL || !quarantine_is(at)) {
        return ERR_NOT_FOUND;
    }
    struct quarantine_drop *drop = calloc(1, sizeof *drop + at->left * sizeof drop->outcomes[0]);
    size_t room = SPOOL_OUTCOME_BYTES(0) +
                  at->left * (sizeof(struct spool_format_state) + sizeof QUARANTINE_WHY + SPOOL_FORMAT_ALIGN);
    char *bytes = malloc(room);
    if (drop == NULL || bytes == NULL) {
        free(bytes);
        free(drop);
        return ERR_NO_MEMORY;
    }
    drop->append.done = quarantine_dropped;
    drop->spool = spool;
    drop->room = buffer_of(bytes, room);
    quarantine_fill(drop, at);
    drop->data = quarantine_read(spool, at, &drop->message, &drop->readable);
    spool_append_outcomes(spool, &drop->append, slot, id, drop->outcomes, drop->count, false, &drop->room);
    return ERR_OK;
}
