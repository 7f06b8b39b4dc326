#include "delivery/outcome.h"

#include "core/event_log.h"
#include "delivery/attempt.h"
#include "queue/lend.h"
#include "queue/retry.h"
#include "queue/schedule.h"
#include "spool/envelope.h"

struct outcome_cause outcome_local(bool permanent, uint8_t subject, uint8_t detail, const char *text)
{
    return (struct outcome_cause){
        .permanent = permanent,
        .enhanced = {permanent ? 5 : 4, subject, detail},
        .text = bytes_of_string(text),
    };
}

/* "5.1.10", from a table of ours. */
static void parse_enhanced(const char *text, uint8_t ret_enhanced[3])
{
    for (unsigned i = 0; i < 3; i++) {
        unsigned number = 0;
        while (*text >= '0' && *text <= '9') {
            number = number * 10 + (unsigned)(*text++ - '0');
        }
        ret_enhanced[i] = (uint8_t)number;
        text += *text == '.';
    }
}

struct outcome_cause outcome_of_mx(const struct mx_result *result)
{
    struct outcome_cause cause = {.permanent = mx_permanent(result->class), .text = result->reason};
    parse_enhanced(mx_enhanced_code(result->class), cause.enhanced);
    return cause;
}

struct outcome_cause outcome_of_reply(const struct smtp_client_reply *reply, bool permanent, struct bytes host)
{
    struct outcome_cause cause = {
        .permanent = permanent,
        .reply_code = reply->code,
        .enhanced = {permanent ? 5 : 4, 0, 0},
        .text = smtp_client_reply_text(reply),
        .host = host,
    };
    /* A status that contradicts the code is worth nothing, nor is one that no octet can hold. */
    if (reply->status.class == cause.enhanced[0] && reply->status.subject <= UINT8_MAX &&
        reply->status.detail <= UINT8_MAX) {
        cause.enhanced[1] = (uint8_t)reply->status.subject;
        cause.enhanced[2] = (uint8_t)reply->status.detail;
    }
    return cause;
}

/* Recipients of one message that share an outcome. */
struct group {
    unsigned count;
    uint32_t entries[LIMIT_TRANSACTION_RECIPIENTS];
    uint16_t positions[LIMIT_TRANSACTION_RECIPIENTS]; /* in the attempt, when there is one */
    struct lend_recipient recipients[LIMIT_TRANSACTION_RECIPIENTS];
};

static void group_add(struct group *group, const struct queue *queue, uint32_t index, unsigned position)
{
    const struct queue_entry *entry = schedule_entry(queue, index);
    CHECK(group->count < LIMIT_TRANSACTION_RECIPIENTS);
    group->entries[group->count] = index;
    group->positions[group->count] = (uint16_t)position;
    group->recipients[group->count] = (struct lend_recipient){
        .recipient = entry->recipient,
        .attempts = lend_attempts(entry, 1),
    };
    group->count++;
}

/* What is final and not a delivery is told by the message's owner (bounce.c), who knows about the notification. */
static void write_events(const struct attempt *attempt, const struct group *group, const struct lend_result *result)
{
    struct shard *shard = attempt->delivery->shard;
    enum event_type type = result->status == SPOOL_FORMAT_DELIVERED ? EVENT_DELIVERY : EVENT_DEFERRAL;
    if ((result->status != SPOOL_FORMAT_DELIVERED && result->status != SPOOL_FORMAT_DEFERRED) ||
        !event_log_wants(shard, type)) {
        return;
    }
    for (unsigned i = 0; i < group->count; i++) {
        struct event event = {
            .type = type,
            .id = attempt->view.id,
            .sender = attempt->transaction.reverse_path,
            .recipient = attempt->recipients[group->positions[i]],
            .reply_code = result->reply_code,
            .reply = result->text,
            .host = result->host,
            .attempts = group->recipients[i].attempts & ~SPOOL_FORMAT_TOLD,
            .arrival_ms = attempt->view.arrival_ms,
            .tls = attempt->tls,
            .next_attempt_ms = (uint64_t)result->next_attempt_s * 1000,
        };
        memcpy(event.enhanced, result->enhanced, sizeof event.enhanced);
        event_log_write(shard, &event);
    }
}

/* Ends or defers a group, all tried now, with one cause. `attempt` is NULL when the message was not borrowed. */
static void apply(struct delivery *delivery, const struct attempt *attempt, const struct group *group,
                  const struct outcome_cause *cause)
{
    struct queue *queue = delivery->queue;
    const struct queue_entry *first = schedule_entry(queue, group->entries[0]);
    struct lend_result result = {
        .status = SPOOL_FORMAT_FAILED,
        .reply_code = cause->reply_code,
        .text = cause->text,
        .host = cause->host,
        .unseen = attempt == NULL,
    };
    memcpy(result.enhanced, cause->enhanced, sizeof result.enhanced);
    if (!cause->permanent) {
        result.next_attempt_s = retry_next_s(&queue->settings, &queue->shard->rng, first->attempts + 1u,
                                             queue_now_s(queue), first->arrival_s);
        result.status = result.next_attempt_s != 0 ? SPOOL_FORMAT_DEFERRED : SPOOL_FORMAT_EXPIRED;
    }
    lend_report(queue, first, &result, group->recipients, group->count);
    if (attempt != NULL) {
        write_events(attempt, group, &result);
    }
    for (unsigned i = 0; i < group->count; i++) {
        if (result.status == SPOOL_FORMAT_DEFERRED) {
            metric_add(&queue->shard->metrics->recipients_deferred, 1);
            struct queue_entry *entry = schedule_entry(queue, group->entries[i]);
            schedule_error(queue, schedule_destination(queue, entry), cause->text);
            schedule_defer(queue, group->entries[i], result.next_attempt_s);
        } else {
            schedule_finish(queue, group->entries[i]);
        }
    }
}

void outcome_fail_some(struct delivery *delivery, struct destination *destination, const struct outcome_cause *cause,
                       unsigned messages)
{
    uint32_t entries[LIMIT_TRANSACTION_RECIPIENTS];
    destination->out++;
    while (messages-- != 0) {
        unsigned count = schedule_take(delivery->queue, destination, entries, LIMIT_TRANSACTION_RECIPIENTS);
        if (count == 0) {
            break;
        }
        struct group group;
        group.count = 0;
        for (unsigned i = 0; i < count; i++) {
            group_add(&group, delivery->queue, entries[i], 0);
        }
        metric_add(&delivery->shard->metrics->delivery_attempts, 1);
        apply(delivery, NULL, &group, cause);
    }
    destination->out--;
    schedule_settle(delivery->queue, destination);
}

/* The recipients of an attempt without an outcome, which they have from now on. */
static void take_open(struct attempt *attempt, struct group *ret_group)
{
    ret_group->count = 0;
    for (unsigned i = 0; i < attempt->count; i++) {
        if (attempt->entries[i] != SLOTS_NONE) {
            group_add(ret_group, attempt->delivery->queue, attempt->entries[i], i);
            attempt->entries[i] = SLOTS_NONE;
        }
    }
    attempt->open = 0;
}

void outcome_failed(struct attempt *attempt, const struct outcome_cause *cause)
{
    struct group group;
    take_open(attempt, &group);
    if (group.count != 0) {
        apply(attempt->delivery, attempt, &group, cause);
    }
}

void outcome_unseen(struct attempt *attempt, const struct outcome_cause *cause)
{
    struct group group;
    take_open(attempt, &group);
    if (group.count != 0) {
        apply(attempt->delivery, NULL, &group, cause);
    }
}

static void take_one(struct attempt *attempt, unsigned recipient, struct group *ret_group)
{
    CHECK(recipient < attempt->count && attempt->entries[recipient] != SLOTS_NONE);
    ret_group->count = 0;
    group_add(ret_group, attempt->delivery->queue, attempt->entries[recipient], recipient);
    attempt->entries[recipient] = SLOTS_NONE;
    attempt->open--;
}

void outcome_recipient(struct attempt *attempt, unsigned recipient, const struct outcome_cause *cause)
{
    struct group group;
    take_one(attempt, recipient, &group);
    apply(attempt->delivery, attempt, &group, cause);
}

/* Does somebody wait to hear that one of these was delivered? Entries of a group are in the order of the envelope. */
static bool asked(const struct attempt *attempt, const struct group *group)
{
    struct envelope_iterator iterator = envelope_iterate(attempt->view.envelope);
    struct envelope_item item;
    unsigned found = 0;
    for (unsigned i = 0; found < group->count && envelope_next_recipient(&iterator, &item); i++) {
        if (group->recipients[found].recipient == i) {
            if ((item.flags & ENVELOPE_NOTIFY_SUCCESS) != 0) {
                return true;
            }
            found++;
        }
    }
    return false;
}

/* Ends a group for good. */
static void deliver(struct attempt *attempt, const struct group *group, struct lend_result *result)
{
    struct queue *queue = attempt->delivery->queue;
    struct metric_set *metrics = queue->shard->metrics;
    result->facts |= asked(attempt, group) ? LEND_ASKED : 0;
    lend_report(queue, schedule_entry(queue, group->entries[0]), result, group->recipients, group->count);
    write_events(attempt, group, result);
    uint64_t now_ms = queue->shard->wall_ms;
    uint64_t waited_ms = now_ms > attempt->view.arrival_ms ? now_ms - attempt->view.arrival_ms : 0;
    for (unsigned i = 0; i < group->count; i++) {
        histogram_record(&metrics->queue_time, waited_ms * 1000);
        schedule_finish(queue, group->entries[i]);
    }
    metric_add(&metrics->recipients_delivered, group->count);
}

static struct lend_result taken_over(const struct attempt *attempt, const struct smtp_client_reply *reply,
                                     struct bytes host)
{
    return (struct lend_result){
        .status = SPOOL_FORMAT_DELIVERED,
        .reply_code = reply->code,
        .enhanced = {2, 0, 0},
        .text = smtp_client_reply_text(reply),
        .host = host,
        .facts = attempt->outcome_facts,
    };
}

void outcome_delivered(struct attempt *attempt, const struct smtp_client_reply *reply, struct bytes host)
{
    struct group group;
    struct lend_result result = taken_over(attempt, reply, host);
    take_open(attempt, &group);
    if (group.count != 0) {
        deliver(attempt, &group, &result);
    }
}

void outcome_recipient_delivered(struct attempt *attempt, unsigned recipient, const struct smtp_client_reply *reply,
                                 struct bytes host)
{
    struct group group;
    struct lend_result result = taken_over(attempt, reply, host);
    take_one(attempt, recipient, &group);
    deliver(attempt, &group, &result);
}

void outcome_arrived(struct attempt *attempt, unsigned recipient, const char *text)
{
    struct group group;
    take_one(attempt, recipient, &group);
    struct lend_result result = {
        .status = SPOOL_FORMAT_DELIVERED,
        .enhanced = {2, 1, 5},
        .facts = LEND_FINAL,
        .text = bytes_of_string(text),
    };
    deliver(attempt, &group, &result);
}

void outcome_return(struct attempt *attempt)
{
    struct group group;
    take_open(attempt, &group);
    while (group.count != 0) {
        schedule_return(attempt->delivery->queue, group.entries[--group.count]);
    }
}
