#include "delivery/attempt.h"

#include <errno.h>
#include <stdlib.h>

#include "core/log.h"
#include "delivery/attempt_body.h"
#include "delivery/attempt_copy.h"
#include "delivery/client_session.h"
#include "delivery/lane.h"
#include "delivery/outcome.h"
#include "delivery/site.h"
#include "queue/lend.h"
#include "queue/schedule.h"
#include "spool/envelope.h"

#define ATTEMPT_NEIGHBOURS 16 /* other lanes of the site that are asked for recipients of the same message */

/* --- taking from the queue ----------------------------------------------------------------------------------- */

static unsigned take_from(struct site *site, struct lane *lane, uint32_t *entries, unsigned max)
{
    struct queue *queue = site->delivery->queue;
    struct destination *destination = lane->destination;
    destination->out++;
    unsigned count = schedule_take(queue, destination, entries, max);
    list_remove(&lane->node);
    if (destination->ready != 0) {
        list_push_back(&site->lanes, &lane->node); /* to the end: every domain of a site gets its turn */
    }
    destination->out--;
    schedule_settle(queue, destination);
    return count;
}

/* Other domains of this site may have recipients of the same message at the head of their lists. */
static unsigned take_neighbours(struct site *site, uint32_t *entries, unsigned count, unsigned max)
{
    struct queue *queue = site->delivery->queue;
    struct list *node = site->lanes.next;
    for (unsigned i = 0; i < ATTEMPT_NEIGHBOURS && node != &site->lanes && count < max; i++) {
        struct lane *lane = LIST_OWNER(node, struct lane, node);
        node = node->next;
        const struct queue_entry *head = schedule_peek(queue, lane->destination);
        const struct queue_entry *mine = schedule_entry(queue, entries[0]);
        if (head != NULL && queue_entry_same_message(head, mine) && head->wish == QUEUE_NO_WISH) {
            unsigned more = take_from(site, lane, entries + count, max - count);
            /* When its head had expired, another message may have come instead. */
            if (more != 0 && !queue_entry_same_message(schedule_entry(queue, entries[count]), mine)) {
                while (more != 0) {
                    schedule_return(queue, entries[count + --more]);
                }
            }
            count += more;
        }
    }
    return count;
}

static unsigned take_message(struct site *site, uint32_t entries[LIMIT_TRANSACTION_RECIPIENTS])
{
    unsigned max = site->route->recipients_max;
    max = max < LIMIT_TRANSACTION_RECIPIENTS ? max : LIMIT_TRANSACTION_RECIPIENTS;
    while (!list_empty(&site->lanes)) {
        unsigned count = take_from(site, LIST_OWNER(site->lanes.next, struct lane, node), entries, max);
        if (count != 0) {
            return count < max ? take_neighbours(site, entries, count, max) : count;
        }
    }
    return 0;
}

/* By their place in the envelope, so that one walk finds all addresses. */
static void sort_entries(const struct queue *queue, uint32_t *entries, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        uint32_t moving = entries[i];
        unsigned at = i;
        while (at != 0 &&
               schedule_entry(queue, entries[at - 1])->recipient > schedule_entry(queue, moving)->recipient) {
            entries[at] = entries[at - 1];
            at--;
        }
        entries[at] = moving;
    }
}

static void attempt_free(struct attempt *attempt)
{
    if (attempt->entries != &attempt->one_entry) {
        free(attempt->entries);
        free(attempt->recipients);
        free(attempt->notify);
    }
    attempt_copy_forget(attempt);
    free(attempt->unstuffed.data);
    free(attempt->converted);
    slots_give(&attempt->delivery->attempts, attempt->index);
}

static bool attempt_allocate(struct attempt *attempt, unsigned count)
{
    attempt->entries = &attempt->one_entry;
    attempt->recipients = &attempt->one_recipient;
    attempt->notify = &attempt->one_notify;
    if (count > 1) {
        attempt->entries = calloc(count, sizeof *attempt->entries);
        attempt->recipients = calloc(count, sizeof *attempt->recipients);
        attempt->notify = calloc(count, sizeof *attempt->notify);
    }
    return attempt->entries != NULL && attempt->recipients != NULL && attempt->notify != NULL;
}

struct attempt *attempt_new(struct site *site, struct client_session *session)
{
    struct delivery *delivery = site->delivery;
    uint32_t entries[LIMIT_TRANSACTION_RECIPIENTS];
    unsigned count = take_message(site, entries);
    if (count == 0) {
        return NULL;
    }
    uint32_t index = 0;
    struct attempt *attempt = slots_take(&delivery->attempts, &index);
    CHECK(attempt != NULL);
    memset(attempt, 0, sizeof *attempt);
    list_init(&attempt->lent);
    CHECK(attempt_allocate(attempt, count));
    const struct queue_entry *first = schedule_entry(delivery->queue, entries[0]);
    attempt->index = index;
    attempt->delivery = delivery;
    attempt->session = session;
    attempt->slot = first->slot;
    attempt->spool = first->spool;
    attempt->count = (uint16_t)count;
    attempt->open = (uint16_t)count;
    sort_entries(delivery->queue, entries, count);
    memcpy(attempt->entries, entries, count * sizeof *entries);
    metric_add(&delivery->shard->metrics->delivery_attempts, 1);
    lend_borrow(delivery->queue, first, index, slots_generation(&delivery->attempts, index));
    return attempt;
}

/* --- the message arrives ------------------------------------------------------------------------------------- */

/* The message is gone or damaged: nothing is left to deliver. */
static void attempt_lost(struct attempt *attempt)
{
    struct client_session *session = attempt->session;
    for (unsigned i = 0; i < attempt->count; i++) {
        if (attempt->entries[i] != SLOTS_NONE) {
            schedule_finish(attempt->delivery->queue, attempt->entries[i]);
        }
    }
    attempt_free(attempt);
    client_session_attempt_gone(session);
}

static_assert(ENVELOPE_NOTIFY_NEVER == SMTP_CLIENT_NOTIFY_NEVER &&
                  ENVELOPE_NOTIFY_SUCCESS == SMTP_CLIENT_NOTIFY_SUCCESS &&
                  ENVELOPE_NOTIFY_FAILURE == SMTP_CLIENT_NOTIFY_FAILURE &&
                  ENVELOPE_NOTIFY_DELAY == SMTP_CLIENT_NOTIFY_DELAY,
              "passed on as they are");

static uint64_t little_endian(struct bytes value)
{
    uint64_t number = 0;
    for (size_t i = 0; i < 8; i++) {
        number |= (uint64_t)(unsigned char)value.data[i] << (8 * i);
    }
    return number;
}

/* An item of the message. One of an unexpected length says nothing. */
static void read_item(struct attempt *attempt, const struct envelope_item *item)
{
    struct smtp_client_transaction *transaction = &attempt->transaction;
    struct smtp_client_parameters *parameters = &transaction->parameters;
    struct bytes value = item->value;
    switch ((enum envelope_tag)item->tag) {
    case ENVELOPE_SENDER: transaction->reverse_path = value; break;
    case ENVELOPE_ID: parameters->envelope_id = value; break;
    case ENVELOPE_RETURN: parameters->ret = (char)(value.length == 1 ? value.data[0] : 0); break;
    case ENVELOPE_AUTH_PARAMETER: parameters->auth = value; break;
    case ENVELOPE_PRIORITY:
        parameters->has_priority = value.length == 1;
        parameters->priority = (int8_t)(value.length == 1 ? value.data[0] : 0);
        break;
    case ENVELOPE_DELIVER_BY:
        if (value.length == 10 && (value.data[8] == 'N' || value.data[8] == 'R')) {
            attempt->deliver_by_ms = little_endian(value);
            parameters->by_mode = value.data[8];
            parameters->by_trace = value.data[9] != 0;
        }
        break;
    default: break;
    }
}

/* What the envelope says about the message, and about the recipients of this attempt. */
static bool read_envelope(struct attempt *attempt)
{
    const struct queue *queue = attempt->delivery->queue;
    struct envelope_iterator iterator = envelope_iterate(attempt->view.envelope);
    struct envelope_item item;
    unsigned found = 0;
    unsigned index = 0;
    bool mine = false;   /* the recipient that was read last */
    bool wished = false; /* somebody wants to hear something */
    while (envelope_next(&iterator, &item)) {
        if (item.tag == ENVELOPE_RECIPIENT) {
            if (found == attempt->count) {
                break;
            }
            mine = schedule_entry(queue, attempt->entries[found])->recipient == index++;
            if (mine) {
                attempt->recipients[found] = item.value;
                attempt->notify[found].notify = item.flags;
                wished = wished || item.flags != 0;
                found++;
            }
        } else if (item.tag == ENVELOPE_ORIGINAL_RECIPIENT && mine) {
            attempt->notify[found - 1].original_recipient = item.value;
            wished = true;
        } else if (index == 0) {
            read_item(attempt, &item);
        }
    }
    attempt->transaction.notify = wished ? attempt->notify : NULL;
    return found == attempt->count;
}

static void attempt_read(struct attempt *attempt)
{
    struct spool_view *view = &attempt->view;
    bool recent = view->recent;
    attempt->transaction = (struct smtp_client_transaction){
        .recipients = attempt->recipients,
        .recipients_count = attempt->count,
        .cookie = attempt,
    };
    if (spool_view_read(view) != ERR_OK || (!recent && spool_view_verify(view) != ERR_OK) || !read_envelope(attempt)) {
        lend_return(attempt->delivery->queue, attempt->spool, attempt->slot, view, true);
        attempt_lost(attempt);
        return;
    }
    struct smtp_client_transaction *transaction = &attempt->transaction;
    transaction->has_8bit = (view->flags & SPOOL_FORMAT_HAS_8BIT) != 0;
    transaction->binary = (view->flags & SPOOL_FORMAT_BINARY) != 0;
    transaction->size_bytes = view->prologue.length + view->body_bytes;
    transaction->parameters.smtputf8 = (view->flags & SPOOL_FORMAT_SMTPUTF8) != 0;
    transaction->parameters.require_tls = (view->flags & SPOOL_FORMAT_REQUIRETLS) != 0;
    if (transaction->binary) {
        transaction->chunk_bytes = attempt_body_chunk(attempt);
    }
    attempt->state = ATTEMPT_READY;
    client_session_attempt_ready(attempt->session);
}

static void warm_next(struct attempt *attempt);

static void warm_done(struct op *op, int result, uint32_t flags)
{
    struct attempt *attempt = CONTAINER_OF(op, struct attempt, warm);
    (void)flags;
    if (attempt->session == NULL) {
        lend_return(attempt->delivery->queue, attempt->spool, attempt->slot, &attempt->view, false);
        attempt_free(attempt);
    } else if (result == -EFAULT || result == -EIO || result == -EHWPOISON) {
        lend_return(attempt->delivery->queue, attempt->spool, attempt->slot, &attempt->view, true);
        attempt_lost(attempt);
    } else {
        warm_next(attempt);
    }
}

/* Brings the next span of the message into memory, so that reading it never waits for a disk in the loop, and a page
 * that cannot be read is an error here instead of a signal there. */
static void warm_next(struct attempt *attempt)
{
    if (attempt->view.recent || attempt->warm_span == spool_view_spans(&attempt->view)) {
        attempt_read(attempt);
        return;
    }
    struct bytes span = spool_view_span(&attempt->view, attempt->warm_span++);
    uintptr_t begin = (uintptr_t)span.data & ~(uintptr_t)(ATTEMPT_PAGE - 1);
    uintptr_t end = ((uintptr_t)span.data + span.length + ATTEMPT_PAGE - 1) & ~(uintptr_t)(ATTEMPT_PAGE - 1);
    attempt->state = ATTEMPT_WARMING;
    attempt->warm.done = warm_done;
    ring_madvise(attempt->delivery->shard->ring, &attempt->warm, (void *)begin, end - begin, MADV_POPULATE_READ);
}

void attempt_lent(void *context, const void *payload, size_t length)
{
    struct delivery *delivery = context;
    struct lend_answer answer;
    CHECK(length == sizeof answer);
    memcpy(&answer, payload, sizeof answer);
    struct attempt *attempt = slots_find(&delivery->attempts, answer.job, answer.generation);
    if (attempt == NULL) {
        if (answer.err == ERR_OK) {
            lend_return(delivery->queue, answer.spool, answer.slot, &answer.view, false);
        }
        return;
    }
    if (answer.err == ERR_NO_MEMORY) {
        struct outcome_cause cause = outcome_local(false, 3, 0, "out of memory");
        struct client_session *session = attempt->session;
        outcome_unseen(attempt, &cause);
        attempt_free(attempt);
        client_session_attempt_gone(session);
    } else if (answer.err != ERR_OK) {
        attempt_lost(attempt);
    } else {
        attempt->view = answer.view;
        attempt_copy_watch(attempt);
        warm_next(attempt);
    }
}

/* --- ending -------------------------------------------------------------------------------------------------- */

void attempt_end(struct attempt *attempt)
{
    outcome_return(attempt);
    switch (attempt->state) {
    case ATTEMPT_BORROWING:
        attempt_free(attempt); /* attempt_lent finds it gone and returns the message */
        break;
    case ATTEMPT_WARMING:
        attempt->session = NULL; /* warm_done ends it */
        break;
    case ATTEMPT_READY:
    case ATTEMPT_BEGUN:
        if (attempt->copy == NULL) {
            lend_return(attempt->delivery->queue, attempt->spool, attempt->slot, &attempt->view, false);
        }
        attempt_free(attempt);
        break;
    }
}

void attempt_shrink(struct attempt *attempt, unsigned count)
{
    CHECK(attempt->state == ATTEMPT_READY && count >= 1 && count < attempt->count);
    while (attempt->count > count) {
        attempt->count--;
        schedule_return(attempt->delivery->queue, attempt->entries[attempt->count]);
    }
    attempt->open = attempt->count;
    attempt->transaction.recipients_count = attempt->count;
}

void attempt_refresh(struct attempt *attempt)
{
    struct smtp_client_parameters *parameters = &attempt->transaction.parameters;
    if (parameters->by_mode != 0) {
        parameters->by_s = ((int64_t)attempt->deliver_by_ms - (int64_t)attempt->delivery->shard->wall_ms) / 1000;
    }
}
