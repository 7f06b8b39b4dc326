#include "queue/lend.h"

#include <stdlib.h>

#include "spool/quarantine.h"

struct lend_request {
    uint32_t slot;
    uint32_t id_low;
    uint32_t job;
    uint32_t generation;
    uint8_t spool;
};

struct lend_back {
    struct spool_view view;
    uint32_t slot;
    uint8_t spool;
    bool corrupt;
};

static_assert(sizeof(struct lend_answer) <= LIMIT_MAIL_BYTES, "one mail");
static_assert(sizeof(struct lend_back) <= LIMIT_MAIL_BYTES, "one mail");

void lend_borrow(struct queue *queue, const struct queue_entry *entry, uint32_t job, uint32_t generation)
{
    struct lend_request request = {
        .slot = entry->slot,
        .id_low = entry->id_low,
        .job = job,
        .generation = generation,
        .spool = entry->spool,
    };
    shard_post(queue->shard, queue->spool_shard[entry->spool], MAIL_BORROW, &request, sizeof request);
}

static void borrow_asked(void *context, unsigned from, const void *payload, size_t length)
{
    struct queue *queue = context;
    struct lend_request request;
    CHECK(length == sizeof request);
    memcpy(&request, payload, sizeof request);
    struct spool *spool = queue->spools[request.spool];
    CHECK(spool != NULL);
    struct lend_answer answer = {
        .job = request.job,
        .generation = request.generation,
        .slot = request.slot,
        .spool = request.spool,
    };
    uint64_t id = spool_slot_id(spool, request.slot);
    answer.err = (uint32_t)id == request.id_low ? spool_lend(spool, request.slot, id, &answer.view) : ERR_NOT_FOUND;
    if (answer.err == ERR_CORRUPT) {
        spool_quarantine(spool, request.slot, id, "a part of it is missing");
    }
    shard_post(queue->shard, from, MAIL_LENT, &answer, sizeof answer);
}

static void lent_came(void *context, unsigned from, const void *payload, size_t length)
{
    struct queue *queue = context;
    (void)from;
    queue->ops.lent(queue->ops.context, payload, length);
}

void lend_return(struct queue *queue, uint8_t spool, uint32_t slot, const struct spool_view *view, bool corrupt)
{
    struct lend_back back = {.view = *view, .slot = slot, .spool = spool, .corrupt = corrupt};
    shard_post(queue->shard, queue->spool_shard[spool], MAIL_RETURN, &back, sizeof back);
}

static void return_came(void *context, unsigned from, const void *payload, size_t length)
{
    struct queue *queue = context;
    struct lend_back back;
    (void)from;
    CHECK(length == sizeof back);
    memcpy(&back, payload, sizeof back);
    struct spool *spool = queue->spools[back.spool];
    uint64_t id = back.view.id;
    spool_return(spool, &back.view);
    if (back.corrupt && spool_holds(spool, back.slot, id)) {
        spool_quarantine(spool, back.slot, id, "its bytes do not match their checksum");
    }
}

void lend_report(struct queue *queue, const struct queue_entry *of, const struct lend_result *result,
                 const struct lend_recipient *recipients, unsigned count)
{
    struct lend_outcome outcome = {
        .slot = of->slot,
        .id_low = of->id_low,
        .next_attempt_s = result->next_attempt_s,
        .reply_code = result->reply_code,
        .spool = of->spool,
        .status = (uint8_t)result->status,
        .verdict = result->unseen ? LEND_UNSEEN : LEND_ATTEMPTED,
        .facts = result->facts,
    };
    memcpy(outcome.enhanced, result->enhanced, sizeof outcome.enhanced);
    size_t text = result->text.length < LIMIT_CLIENT_REPLY_BYTES ? result->text.length : LIMIT_CLIENT_REPLY_BYTES;
    size_t host = result->host.length < LEND_HOST_BYTES ? result->host.length : LEND_HOST_BYTES;
    outcome.text_bytes = (uint16_t)text;
    outcome.host_bytes = (uint8_t)host;
    struct buffer tail = buffer_of(outcome.tail, sizeof outcome.tail);
    buffer_append(&tail, bytes_slice(result->text, 0, text));
    buffer_append(&tail, bytes_slice(result->host, 0, host));
    while (count != 0) {
        unsigned part = count < LEND_RECIPIENTS ? count : LEND_RECIPIENTS;
        memcpy(outcome.recipients, recipients, part * sizeof *recipients);
        outcome.count = (uint8_t)part;
        shard_post(queue->shard, queue->spool_shard[of->spool], MAIL_OUTCOME, &outcome,
                   offsetof(struct lend_outcome, tail) + text + host);
        recipients += part;
        count -= part;
    }
}

static const struct {
    enum spool_format_status status;
    uint8_t enhanced[3];
    const char *text;
} verdicts[] = {
    [LEND_EXPIRED] = {SPOOL_FORMAT_EXPIRED, {5, 4, 7}, ""},
    [LEND_REMOVED] = {SPOOL_FORMAT_REMOVED, {5, 7, 1}, "removed by the operator"},
    [LEND_BOUNCED] = {SPOOL_FORMAT_FAILED, {5, 7, 1}, "returned by the operator"},
    [LEND_HELD] = {SPOOL_FORMAT_HELD, {4, 7, 1}, "held by the operator"},
    [LEND_RELEASED] = {SPOOL_FORMAT_DEFERRED, {4, 0, 0}, "released by the operator"},
    [LEND_OVERDUE] = {SPOOL_FORMAT_EXPIRED, {5, 4, 7}, ""},
    [LEND_DELAYED] = {SPOOL_FORMAT_DEFERRED, {4, 4, 7}, ""},
};

static uint32_t next_attempt_of(const struct queue_entry *entry, enum lend_verdict verdict)
{
    return verdict == LEND_DELAYED || verdict == LEND_HELD ? entry->next_attempt_s : 0;
}

static void flush(struct queue *queue)
{
    struct lend_outcome *outcome = queue->gathered;
    if (outcome->count != 0) {
        shard_post(queue->shard, queue->spool_shard[outcome->spool], MAIL_OUTCOME, outcome,
                   offsetof(struct lend_outcome, tail) + outcome->text_bytes);
        outcome->count = 0;
    }
}

/* May one outcome tell of both? Not where each has its own words, what its last attempt met (notice_recall). */
static bool joins(const struct lend_outcome *outcome, const struct queue_entry *entry, enum lend_verdict verdict)
{
    bool wordless = verdict == LEND_EXPIRED && entry->attempts == 0 &&
                    (outcome->recipients[0].attempts & (uint16_t)~SPOOL_FORMAT_TOLD) == 0;
    bool ours = verdict == LEND_REMOVED || verdict == LEND_BOUNCED || verdict == LEND_HELD || verdict == LEND_RELEASED;
    return outcome->count < LEND_RECIPIENTS && outcome->verdict == verdict && outcome->slot == entry->slot &&
           outcome->id_low == entry->id_low && outcome->spool == entry->spool &&
           outcome->next_attempt_s == next_attempt_of(entry, verdict) && (ours || wordless);
}

void lend_give_up(struct queue *queue, const struct queue_entry *entry, enum lend_verdict verdict)
{
    struct lend_outcome *outcome = queue->gathered;
    if (outcome->count != 0 && !joins(outcome, entry, verdict)) {
        flush(queue);
    }
    if (outcome->count == 0) {
        *outcome = (struct lend_outcome){
            .slot = entry->slot,
            .id_low = entry->id_low,
            .text_bytes = (uint16_t)strlen(verdicts[verdict].text),
            .spool = entry->spool,
            .status = (uint8_t)verdicts[verdict].status,
            .verdict = (uint8_t)verdict,
            .next_attempt_s = next_attempt_of(entry, verdict),
        };
        memcpy(outcome->enhanced, verdicts[verdict].enhanced, sizeof outcome->enhanced);
        memcpy(outcome->tail, verdicts[verdict].text, outcome->text_bytes);
    }
    outcome->recipients[outcome->count++] = (struct lend_recipient){.recipient = entry->recipient,
                                                                    .attempts = lend_attempts(entry, 0)};
    if (!queue->gathering) {
        flush(queue);
    }
}

void lend_gather(struct queue *queue)
{
    queue->gathering = true;
}

void lend_gathered(struct queue *queue)
{
    queue->gathering = false;
    flush(queue);
}

static void outcome_came(void *context, unsigned from, const void *payload, size_t length)
{
    struct queue *queue = context;
    (void)from;
    queue->ops.outcome(queue->ops.context, payload, length);
}

void lend_start(struct queue *queue)
{
    queue->gathered = calloc(1, sizeof *queue->gathered);
    CHECK(queue->gathered != NULL);
    shard_on_mail(queue->shard, MAIL_BORROW, borrow_asked, queue);
    shard_on_mail(queue->shard, MAIL_LENT, lent_came, queue);
    shard_on_mail(queue->shard, MAIL_RETURN, return_came, queue);
    shard_on_mail(queue->shard, MAIL_OUTCOME, outcome_came, queue);
}

void lend_end(struct queue *queue)
{
    free(queue->gathered);
}
