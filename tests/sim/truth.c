#include "sim/truth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "sim/disk.h"
#include "sim/oracle.h"
#include "sim/real.h"
#include "sim/world.h"
#include "spool/spool.h"

#define TRUTH_CLOSED UINT64_MAX
#define FINISHED SPOOL_FORMAT_DELIVERED

/* An outcome that may have survived. */
struct truth_perhaps {
    struct truth_perhaps *next;
    uint16_t recipient;
    struct truth_state state;
};

static struct truth *truths;
static bool starting;
static uint64_t records;          /* that became durable */
static uint64_t last_record[256]; /* of each spool */

uint64_t truth_records(void)
{
    return records;
}

uint64_t truth_last_record(uint64_t message)
{
    return last_record[message >> 56];
}

static struct truth *truth_of(uint64_t id)
{
    for (struct truth *truth = truths; truth != NULL; truth = truth->next) {
        if (truth->id == id) {
            return truth;
        }
    }
    struct truth *truth = world_new(sizeof *truth);
    truth->id = id;
    truth->next = truths;
    truths = truth;
    return truth;
}

struct truth *truth_of_token(unsigned token)
{
    struct truth *truth = truths;
    while (truth != NULL && (truth->token != token || truth->recipients == 0)) {
        truth = truth->next;
    }
    return truth;
}

static bool pending(const struct truth *truth)
{
    for (unsigned i = 0; i < truth->recipients; i++) {
        if (truth->states[i].status < FINISHED) {
            return true;
        }
    }
    return false;
}

const struct truth *truth_pending(void)
{
    const struct truth *truth = truths;
    while (truth != NULL && !(truth->durable && !truth->gone && pending(truth))) {
        truth = truth->next;
    }
    return truth;
}

/* --- records --- */

static void note_token(struct truth *truth, const char *body, size_t length)
{
    if (truth->token == 0 && length > 16 && memcmp(body, "X-Sim: ", 7) == 0) {
        truth->token = (unsigned)strtoul(body + 7, NULL, 10);
    }
}

static bool same(const struct truth_state *a, const struct truth_state *b)
{
    return a->status == b->status &&
           (a->status >= FINISHED || (a->attempts == b->attempts && a->next_attempt_s == b->next_attempt_s));
}

static bool perhaps(const struct truth *truth, unsigned recipient, const struct truth_state *state, bool finished)
{
    for (const struct truth_perhaps *one = truth->perhaps; one != NULL; one = one->next) {
        if (one->recipient == recipient && (finished ? one->state.status >= FINISHED : same(&one->state, state))) {
            return true;
        }
    }
    return false;
}

static void take_state(struct truth *truth, const struct spool_format_state *state, bool durable)
{
    struct truth_state what = {state->status, state->attempts, state->next_attempt_s};
    world_trace("truth:   recipient %u has status %u", state->recipient, state->status);
    if (truth->recipients == 0) {
        return; /* of a message that is known to nobody any more */
    }
    CHECK(state->recipient < truth->recipients);
    /* A segment whose emptying failed may be read here again, from its beginning: what is older than known says
     * nothing. */
    const struct truth_state *known = &truth->states[state->recipient];
    if (durable && known->status < FINISHED && what.attempts < known->attempts) {
        return;
    }
    if (durable && known->status < FINISHED) {
        /* What a start writes before it is up comes on top of what it has found. */
        struct truth_state *found = &truth->found_states[state->recipient];
        if (truth->found &&
            (same(&truth->states[state->recipient], found) || perhaps(truth, state->recipient, found, false))) {
            *found = what;
        }
        truth->states[state->recipient] = what;
        if (what.status >= FINISHED) {
            oracle_finished(truth, state->recipient, what.status);
        }
    } else if (!durable) {
        struct truth_perhaps *perhaps = world_new(sizeof *perhaps);
        *perhaps = (struct truth_perhaps){truth->perhaps, state->recipient, what};
        truth->perhaps = perhaps;
    }
}

/* The states that a record carries, one behind the other. */
static void take_states(struct truth *truth, const char *states, uint32_t length, bool durable)
{
    struct spool_format_state state;
    for (uint32_t at = 0; at + sizeof state <= length;) {
        memcpy(&state, states + at, sizeof state);
        take_state(truth, &state, durable);
        at += (uint32_t)((sizeof state + state.text_bytes + state.host_bytes + 3u) / 4 * 4);
    }
}

static void take_message(struct truth *truth, const char *payload, uint32_t length, bool durable)
{
    struct spool_format_message fixed;
    CHECK(length >= sizeof fixed);
    memcpy(&fixed, payload, sizeof fixed);
    const char *envelope = payload + sizeof fixed + fixed.states_bytes;
    const char *body = envelope + fixed.envelope_bytes + fixed.extents * sizeof(struct spool_format_extent) +
                       fixed.prologue_bytes;
    if (truth->recipients != 0) {
        if (fixed.envelope_bytes != truth->envelope_bytes || fixed.arrival_ms != truth->arrival_ms ||
            memcmp(envelope, truth->envelope, truth->envelope_bytes) != 0) {
            /* A notification whose first writing failed has been written again, later. The failure may have come behind
             * its record: what was written of the batch is on the disk then, and is known not to count. The later one
             * does, also when it is not known to be durable either. */
            if ((fixed.flags & SPOOL_FORMAT_BOUNCE) == 0 || (durable && truth->durable && disk_failures == 0)) {
                world_fail("message %llx was written twice with different envelopes", (unsigned long long)truth->id);
            }
            if (!durable && (truth->durable || fixed.arrival_ms <= truth->arrival_ms)) {
                return;
            }
            truth->arrival_ms = fixed.arrival_ms;
            truth->envelope_bytes = fixed.envelope_bytes;
            truth->envelope = world_new(fixed.envelope_bytes + 1);
            memcpy(truth->envelope, envelope, fixed.envelope_bytes);
        }
    } else {
        truth->fresh = durable && starting; /* what was there before the start was seen then, if only perhaps */
        truth->flags = fixed.flags;
        truth->arrival_ms = fixed.arrival_ms;
        truth->recipients = fixed.recipients;
        truth->envelope_bytes = fixed.envelope_bytes;
        truth->envelope = world_new(fixed.envelope_bytes + 1);
        memcpy(truth->envelope, envelope, fixed.envelope_bytes);
        truth->states = world_new(fixed.recipients * sizeof *truth->states);
        truth->found_states = world_new(fixed.recipients * sizeof *truth->states);
        if (fixed.extents == 0) {
            note_token(truth, body, fixed.body_bytes);
        }
    }
    truth->maybe |= !durable;
    if (durable && !truth->durable) {
        truth->durable = true;
        oracle_durable(truth);
        /* A relaxed message may be known here by its copy only: then what happened to it comes with that. */
        take_states(truth, payload + sizeof fixed, fixed.states_bytes, true);
    }
}

static void take_record(const struct spool_format_record *record, const char *payload, bool durable)
{
    world_trace("truth: record type %u of %llx, %u bytes%s", record->type, (unsigned long long)record->message,
                record->payload_bytes, durable ? "" : ", perhaps");
    if (durable && record->message != 0) {
        last_record[record->message >> 56] = ++records;
    }
    switch (record->type) {
    case SPOOL_FORMAT_EXTENT: note_token(truth_of(record->message), payload, record->payload_bytes); break;
    case SPOOL_FORMAT_MESSAGE: take_message(truth_of(record->message), payload, record->payload_bytes, durable); break;
    case SPOOL_FORMAT_OUTCOME:
        take_states(truth_of(record->message), payload + sizeof(struct spool_format_outcome),
                    record->payload_bytes - (uint32_t)sizeof(struct spool_format_outcome), durable);
        break;
    default: break;
    }
}

/* --- files --- */

static bool read_header(struct disk_file *file)
{
    struct spool_format_segment header;
    if (pread(file->fd, &header, sizeof header, 0) != (ssize_t)sizeof header ||
        header.magic != SPOOL_FORMAT_SEGMENT_MAGIC || header.crc != crc32c(0, &header, sizeof header - 4)) {
        return false;
    }
    file->epoch = header.epoch;
    file->parsed = SPOOL_FORMAT_HEADER_BYTES;
    return true;
}

/* The record at that place, with its payload; NULL: none that is whole. */
static char *read_record(const struct disk_file *file, uint64_t at, struct spool_format_record *ret_record)
{
    if (at + sizeof *ret_record > file->size ||
        pread(file->fd, ret_record, sizeof *ret_record, (off_t)at) != (ssize_t)sizeof *ret_record ||
        ret_record->magic != SPOOL_FORMAT_RECORD_MAGIC || ret_record->epoch != file->epoch ||
        ret_record->position != at / SPOOL_FORMAT_ALIGN ||
        ret_record->crc != crc32c(0, ret_record, sizeof *ret_record - 4) ||
        at + sizeof *ret_record + ret_record->payload_bytes > file->size) {
        return NULL;
    }
    char *payload = world_new(ret_record->payload_bytes + 1u);
    if (pread(file->fd, payload, ret_record->payload_bytes, (off_t)(at + sizeof *ret_record)) !=
            (ssize_t)ret_record->payload_bytes ||
        XXH3_64bits(payload, ret_record->payload_bytes) != ret_record->payload_hash) {
        return NULL;
    }
    return payload;
}

static uint64_t after(const struct spool_format_record *record, uint64_t at)
{
    return at +
           (sizeof *record + record->payload_bytes + SPOOL_FORMAT_ALIGN - 1) / SPOOL_FORMAT_ALIGN * SPOOL_FORMAT_ALIGN;
}

static bool is_segment(struct disk_file *file)
{
    return file->parsed != TRUTH_CLOSED && (file->parsed != 0 || read_header(file));
}

void truth_synced(struct disk_file *file)
{
    if (file->parsed == 0) {
        file->broken = false;
    }
    if (file->broken || !is_segment(file)) {
        return;
    }
    struct spool_format_record record;
    char *payload;
    while ((payload = read_record(file, file->parsed, &record)) != NULL &&
           disk_clean(file, file->parsed, after(&record, file->parsed))) {
        take_record(&record, payload, true);
        file->parsed = after(&record, file->parsed);
    }
}

/* A new header may have got to the disk without the server's knowing. */
static void look_at_header(struct disk_file *file)
{
    uint64_t epoch = file->epoch;
    uint64_t parsed = file->parsed;
    if (read_header(file) && file->epoch == epoch && parsed != 0) {
        file->parsed = parsed;
    }
}

static void look_for_perhaps(struct disk_file *file)
{
    look_at_header(file);
    if (!is_segment(file)) {
        return;
    }
    struct spool_format_record record;
    char *bytes = real_calloc(1, file->size);
    char *payload;
    CHECK(bytes != NULL && pread(file->fd, bytes, file->size, 0) >= 0);
    for (uint64_t at = file->parsed; at + sizeof record <= file->size; at += SPOOL_FORMAT_ALIGN) {
        memcpy(&record, bytes + at, sizeof record);
        payload = record.magic == SPOOL_FORMAT_RECORD_MAGIC ? read_record(file, at, &record) : NULL;
        if (payload != NULL) {
            take_record(&record, payload, false);
        }
    }
    real_free(bytes);
}

void truth_cut(void)
{
    for (struct truth *truth = truths; truth != NULL; truth = truth->next) {
        truth->maybe = false;
        truth->perhaps = NULL;
        truth->found = false;
    }
    disk_each(look_for_perhaps);
}

/* --- a start --- */

void truth_recovered(unsigned spool, const struct spool_recovered *message)
{
    struct truth *truth = truth_of(message->id);
    unsigned long long id = (unsigned long long)message->id;
    if (message->id >> 56 != spool) {
        world_fail("message %llx was found in spool %u", id, spool);
    }
    if (truth->found) {
        world_fail("message %llx was found twice", id);
    }
    if (truth->gone || (!truth->durable && !truth->maybe)) {
        world_fail("message %llx was found, which %s", id, truth->gone ? "was gone" : "nobody wrote");
    }
    if (message->arrival_ms != truth->arrival_ms || message->recipients != truth->recipients ||
        message->envelope.length != truth->envelope_bytes ||
        memcmp(message->envelope.data, truth->envelope, truth->envelope_bytes) != 0) {
        world_fail("message %llx was found with another envelope", id);
    }
    truth->found = true;
    for (unsigned i = 0; i < truth->recipients; i++) {
        const struct spool_state *state = &message->states[i];
        truth->found_states[i] = (struct truth_state){(uint8_t)state->status, state->attempts, state->next_attempt_s};
    }
    oracle_recovered(truth);
}

static void check_found(struct truth *truth)
{
    for (unsigned i = 0; i < truth->recipients; i++) {
        struct truth_state *known = &truth->states[i];
        const struct truth_state *found = &truth->found_states[i];
        if (!same(known, found) && !perhaps(truth, i, found, false)) {
            world_fail("message %llx recipient %u: status %u, %u attempts, next at %u; but the disk said %u, %u, %u",
                       (unsigned long long)truth->id, i, found->status, found->attempts, found->next_attempt_s,
                       known->status, known->attempts, known->next_attempt_s);
        }
        if (known->status < FINISHED && found->status >= FINISHED) {
            oracle_finished(truth, i, found->status);
        }
        *known = *found;
    }
    if (!truth->durable) {
        truth->durable = true;
        oracle_durable(truth);
    }
}

static void check_missing(struct truth *truth)
{
    for (unsigned i = 0; i < truth->recipients; i++) {
        if (truth->states[i].status < FINISHED && truth->durable && !perhaps(truth, i, NULL, true)) {
            world_fail("message %llx (letter %u) was lost: recipient %u is not finished", (unsigned long long)truth->id,
                       truth->token, i);
        }
        if (truth->states[i].status < FINISHED && truth->durable) {
            truth->states[i].status = FINISHED;
            oracle_finished(truth, i, 0);
        }
    }
    truth->gone = true;
}

static void note_written(struct disk_file *file)
{
    struct spool_format_record record;
    look_at_header(file);
    bool written = is_segment(file) &&
                   (file->parsed > SPOOL_FORMAT_HEADER_BYTES || read_record(file, file->parsed, &record) != NULL);
    file->old_epoch = written || file->parsed == TRUTH_CLOSED ? file->epoch : 0;
}

void truth_starting(void)
{
    starting = true;
    for (struct truth *truth = truths; truth != NULL; truth = truth->next) {
        truth->fresh = false;
    }
    disk_each(note_written);
}

/* Nothing more is appended to what an earlier life has written. */
static void close_written(struct disk_file *file)
{
    look_at_header(file);
    if (file->old_epoch != 0 && file->epoch == file->old_epoch) {
        file->parsed = TRUTH_CLOSED;
    }
}

void truth_started(void)
{
    for (struct truth *truth = truths; truth != NULL; truth = truth->next) {
        if (truth->found) {
            check_found(truth);
        } else if (truth->recipients != 0 && !truth->gone && !truth->fresh) {
            check_missing(truth);
        }
        truth->found = truth->maybe = truth->fresh = false;
        truth->perhaps = NULL;
    }
    starting = false;
    disk_each(close_written);
}
