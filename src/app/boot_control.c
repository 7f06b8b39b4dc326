/* What the control server asks, answered by functions that run on the shards, one after the other. A shard that does
 * not come round in time is left out: who asks hears of it from the health check (control_request.c), not by waiting
 * for ever.
 *
 * An entry of the queue knows its message only as {spool, slot}; sender, id and addresses are with the owner. So
 *
 *     by id       the owner finds the slot
 *     by sender   every owner goes through its messages and marks the slots that match, a slice per call
 *     then        every delivery shard goes through its entries
 *     to show     the owners fill in the texts of the entries found
 *
 * Between two calls messages come and go. An entry carries the low half of its message's id, so what is shown, or meant
 * by its id, is never another message in the same slot.
 */
#include "app/boot_control.h"

#include <stdio.h>
#include <stdlib.h>

#include "app/boot_match.h"
#include "app/boot_quarantine.h"
#include "core/clock.h"
#include "core/metric.h"
#include "inbound/guard.h"
#include "queue/manage.h"
#include "spool/envelope.h"

int boot_control_ask(struct boot *boot, unsigned shard, void (*call)(struct shard *shard, void *context), void *context)
{
    return shard_try(boot->group, shard, call, context, BOOT_CONTROL_PATIENCE_MS);
}

/* --- destinations -------------------------------------------------------------------------------------------- */

struct summary {
    struct control_destination *items;
    size_t count;
    size_t capacity;
};

static char *copy(struct bytes text)
{
    return text.length == 0 ? NULL : strndup(text.data, text.length);
}

static void add_destination(void *context, const struct manage_destination *from)
{
    struct summary *summary = context;
    if (summary->count == summary->capacity) {
        summary->capacity = summary->capacity * 2 + 64;
        summary->items = reallocarray(summary->items, summary->capacity, sizeof *summary->items);
        CHECK(summary->items != NULL);
    }
    summary->items[summary->count++] = (struct control_destination){
        .domain = copy(from->domain),
        .ready = from->ready,
        .active = from->out,
        .deferred = from->deferred,
        .held = from->held,
        .oldest_ms = (uint64_t)from->oldest_s * 1000,
        .next_attempt_ms = (uint64_t)from->next_attempt_s * 1000,
        .last_error = from->last_error == NULL ? NULL : strdup(from->last_error),
    };
}

static void summarise(struct shard *shard, void *context)
{
    manage_destinations(shard->queue, add_destination, context);
}

static size_t queue_summary(void *context, struct control_destination **ret_destinations)
{
    struct boot *boot = context;
    struct summary summary = {.count = 0};
    for (unsigned i = 0; i < boot->mapped->shards; i++) {
        boot_control_ask(boot, i, summarise, &summary);
    }
    *ret_destinations = summary.items;
    return control_ops_merge_destinations(summary.items, summary.count);
}

/* --- messages ------------------------------------------------------------------------------------------------ */

struct found {
    struct queue_entry entry;
    struct control_recipient shown;
};

struct search {
    struct boot *boot;
    const struct boot_match *match;
    struct found *items;
    size_t count;
    size_t limit; /* per shard */
    size_t capacity;
    uint64_t total;
    unsigned owner; /* whose texts are being filled in */
};

static void add_entry(void *context, const struct queue_entry *entry, struct bytes domain)
{
    static const enum control_state states[] = {
        [QUEUE_READY] = CONTROL_READY,
        [QUEUE_CALENDAR] = CONTROL_DEFERRED,
        [QUEUE_OUT] = CONTROL_ACTIVE,
        [QUEUE_PARKED] = CONTROL_HELD,
    };
    struct search *search = context;
    (void)domain;
    CHECK(search->count < search->capacity);
    search->items[search->count++] = (struct found){
        .entry = *entry,
        .shown = {.state = states[entry->place],
                  .attempts = entry->attempts,
                  .arrival_ms = (uint64_t)entry->arrival_s * 1000,
                  .next_attempt_ms = entry->place == QUEUE_CALENDAR ? (uint64_t)entry->next_attempt_s * 1000 : 0},
    };
}

static void find_entries(struct shard *shard, void *context)
{
    struct search *search = context;
    struct manage_match match = boot_match_entries(search->match);
    search->total += manage_entries(shard->queue, &match, (uint32_t)search->limit, add_entry, search);
}

static void show(struct spool *spool, const struct queue_entry *entry, struct control_recipient *shown)
{
    struct spool_view view;
    uint64_t id = spool_slot_id(spool, entry->slot);
    if ((uint32_t)id != entry->id_low || spool_lend(spool, entry->slot, id, &view) != ERR_OK) {
        return;
    }
    struct envelope_item item = {.value = bytes_of("", 0)};
    if (spool_view_read(&view) == ERR_OK && envelope_recipient(view.envelope, entry->recipient, &item)) {
        shown->id = id;
        shown->sender = copy(envelope_find(view.envelope, ENVELOPE_SENDER));
        shown->recipient = copy(item.value);
        shown->message_bytes = view.body_bytes;
        shown->arrival_ms = view.arrival_ms;
    }
    spool_return(spool, &view);
    char bytes[SPOOL_OUTCOME_BYTES(1)];
    struct buffer room = buffer_of(bytes, sizeof bytes);
    struct spool_outcome last;
    if (spool_recipient_state(spool, entry->slot, id, entry->recipient, &room, &last) == ERR_OK &&
        last.status != SPOOL_FORMAT_PENDING) {
        shown->last_error = copy(last.reply);
    }
}

static void show_owned(struct shard *shard, void *context)
{
    struct search *search = context;
    for (size_t i = 0; i < search->count; i++) {
        const struct queue_entry *entry = &search->items[i].entry;
        if (search->boot->spool_shard[entry->spool] == shard->index) {
            show(search->boot->spools[entry->spool], entry, &search->items[i].shown);
        }
    }
}

static int by_arrival(const void *a, const void *b)
{
    const struct found *left = a;
    const struct found *right = b;
    return (left->entry.arrival_s > right->entry.arrival_s) - (left->entry.arrival_s < right->entry.arrival_s);
}

static struct control_recipients message_list(void *context, const struct control_match *match, size_t limit)
{
    struct boot *boot = context;
    unsigned shards = boot->mapped->shards;
    struct control_recipients result = {.count = 0};
    struct boot_match *matcher = boot_match_new(boot, match);
    struct search search = {.boot = boot, .match = matcher, .limit = limit, .capacity = limit * shards};
    search.items = calloc(search.capacity + 1, sizeof *search.items);
    CHECK(search.items != NULL);
    for (unsigned i = 0; i < shards; i++) {
        boot_control_ask(boot, i, find_entries, &search);
    }
    qsort(search.items, search.count, sizeof *search.items, by_arrival);
    search.count = search.count < limit ? search.count : limit;
    for (unsigned i = 0; i < boot->mapped->inbound_shards; i++) {
        boot_control_ask(boot, i, show_owned, &search);
    }
    result.items = calloc(search.count + 1, sizeof *result.items);
    CHECK(result.items != NULL);
    for (size_t i = 0; i < search.count; i++) {
        if (search.items[i].shown.id != 0) { /* else it has left the queue meanwhile */
            result.items[result.count++] = search.items[i].shown;
        }
    }
    result.more = search.total > limit;
    free(search.items);
    boot_match_delete(matcher);
    return result;
}

/* --- actions ------------------------------------------------------------------------------------------------- */

struct action {
    const struct boot_match *match;
    enum queue_wish wish;
    uint64_t count;
};

static void act(struct shard *shard, void *context)
{
    struct action *action = context;
    struct manage_match match = boot_match_entries(action->match);
    action->count += manage_act(shard->queue, &match, action->wish);
}

static uint64_t queue_action(void *context, enum control_action action, const struct control_match *match)
{
    static const enum queue_wish wishes[CONTROL_ACTIONS] = {
        [CONTROL_HOLD] = QUEUE_HOLD,     [CONTROL_RELEASE] = QUEUE_RELEASE, [CONTROL_RETRY] = QUEUE_RETRY,
        [CONTROL_DELETE] = QUEUE_REMOVE, [CONTROL_BOUNCE] = QUEUE_BOUNCE,
    };
    struct boot *boot = context;
    struct boot_match *matcher = boot_match_new(boot, match);
    struct action what = {.match = matcher, .wish = wishes[action]};
    for (unsigned i = 0; i < boot->mapped->shards; i++) {
        boot_control_ask(boot, i, act, &what);
    }
    boot_match_delete(matcher);
    return what.count;
}

/* --- health and metrics -------------------------------------------------------------------------------------- */

static bool healthy(void *context, unsigned timeout_ms, char *reason, size_t reason_size)
{
    struct boot *boot = context;
    for (unsigned i = 0; i < boot->mapped->shards; i++) {
        if (!shard_answers(boot->group, i, timeout_ms)) {
            snprintf(reason, reason_size, "shard %u has not answered within %u ms", i, timeout_ms);
            return false;
        }
    }
    return true;
}

struct readiness {
    struct boot *boot;
    bool ready;
    char *reason;
    size_t reason_size;
};

static void look_ready(struct shard *shard, void *context)
{
    struct readiness *readiness = context;
    if (shard->spool == NULL || !readiness->ready) {
        return;
    }
    enum spool_intake intake = spool_intake_state(shard->spool);
    if (intake != SPOOL_INTAKE_OPEN) {
        readiness->ready = false;
        snprintf(readiness->reason, readiness->reason_size, "the spool of shard %u takes no mail: %s", shard->index,
                 intake == SPOOL_INTAKE_FULL ? "the disk is full" : "the disk has failed");
    }
}

static bool ready(void *context, char *reason, size_t reason_size)
{
    struct boot *boot = context;
    if (atomic_load(&boot->stopping)) {
        snprintf(reason, reason_size, "stopping");
        return false;
    }
    if (guard_short(admission_guard(boot->admission), clock_monotonic_ms())) {
        snprintf(reason, reason_size, "memory is short: %llu bytes available",
                 (unsigned long long)guard_available(admission_guard(boot->admission)));
        return false;
    }
    struct readiness readiness = {.boot = boot, .ready = true, .reason = reason, .reason_size = reason_size};
    for (unsigned i = 0; i < boot->mapped->shards; i++) {
        if (boot_control_ask(boot, i, look_ready, &readiness) != 0) {
            snprintf(reason, reason_size, "shard %u has not answered within %u ms", i, BOOT_CONTROL_PATIENCE_MS);
            return false;
        }
    }
    return readiness.ready;
}

static void refresh_gauges(struct shard *shard, void *context)
{
    struct boot *boot = context;
    uint64_t messages = 0;
    for (unsigned number = 0; number < QUEUE_SPOOLS; number++) {
        if (boot->spools[number] != NULL && boot->spool_shard[number] == shard->index) {
            struct spool_statistics statistics;
            spool_statistics(boot->spools[number], &statistics);
            messages += statistics.messages;
        }
    }
    metric_set_to(&shard->metrics->queued_messages, messages);
    if (shard->index == 0) {
        metric_set_to(&shard->metrics->tls_certificate_expires, (uint64_t)atomic_load(&boot->expires));
    }
}

static char *metrics(void *context, size_t *ret_length)
{
    struct boot *boot = context;
    struct metric_set *sets[LIMIT_SHARDS];
    for (unsigned i = 0; i < boot->mapped->shards; i++) {
        boot_control_ask(boot, i, refresh_gauges, boot);
        sets[i] = shard_group_member(boot->group, i)->metrics;
    }
    return metric_render(sets, boot->mapped->shards, ret_length);
}

void boot_control_ops(struct control_ops *ops, struct boot *boot)
{
    *ops = (struct control_ops){
        .queue_summary = queue_summary,
        .message_list = message_list,
        .queue_action = queue_action,
        .healthy = healthy,
        .ready = ready,
        .metrics = metrics,
        .context = boot,
    };
    boot_quarantine_ops(ops);
}
