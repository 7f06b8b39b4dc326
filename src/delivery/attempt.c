#include "delivery/attempt.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/log.h"
#include "delivery/client_session.h"
#include "delivery/lane.h"
#include "delivery/outcome.h"
#include "delivery/site.h"
#include "mail/mime.h"
#include "queue/lend.h"
#include "queue/schedule.h"
#include "spool/envelope.h"

#define ATTEMPT_NEIGHBOURS 16 /* other lanes of the site that are asked for recipients of the same message */
#define ATTEMPT_CONVERT_BYTES_MAX (16u << 20) /* a larger 8-bit message bounces where 8BITMIME is missing */
#define ATTEMPT_PAGE 4096u

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

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
        if (head != NULL && head->slot == mine->slot && head->spool == mine->spool && head->wish == QUEUE_NO_WISH) {
            unsigned more = take_from(site, lane, entries + count, max - count);
            /* When its head had expired, another message may have come instead. */
            if (more != 0 && (schedule_entry(queue, entries[count])->slot != mine->slot ||
                              schedule_entry(queue, entries[count])->spool != mine->spool)) {
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
    }
    free(attempt->converted);
    slots_give(&attempt->delivery->attempts, attempt->index);
}

static bool attempt_allocate(struct attempt *attempt, unsigned count)
{
    attempt->entries = &attempt->one_entry;
    attempt->recipients = &attempt->one_recipient;
    if (count > 1) {
        attempt->entries = calloc(count, sizeof *attempt->entries);
        attempt->recipients = calloc(count, sizeof *attempt->recipients);
    }
    return attempt->entries != NULL && attempt->recipients != NULL;
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

static bool find_addresses(struct attempt *attempt)
{
    const struct queue *queue = attempt->delivery->queue;
    struct envelope_iterator iterator = envelope_iterate(attempt->view.envelope);
    struct envelope_item item;
    unsigned found = 0;
    for (unsigned i = 0; found < attempt->count && envelope_next_recipient(&iterator, &item); i++) {
        if (schedule_entry(queue, attempt->entries[found])->recipient == i) {
            attempt->recipients[found++] = item.value;
        }
    }
    return found == attempt->count;
}

static void attempt_read(struct attempt *attempt)
{
    struct spool_view *view = &attempt->view;
    bool recent = view->recent;
    if (spool_view_read(view) != ERR_OK || (!recent && spool_view_verify(view) != ERR_OK) || !find_addresses(attempt)) {
        lend_return(attempt->delivery->queue, attempt->spool, attempt->slot, view, true);
        attempt_lost(attempt);
        return;
    }
    attempt->transaction = (struct smtp_client_transaction){
        .reverse_path = envelope_find(view->envelope, ENVELOPE_SENDER),
        .recipients = attempt->recipients,
        .recipients_count = attempt->count,
        .has_8bit = (view->flags & SPOOL_FORMAT_HAS_8BIT) != 0,
        .parameters = {.smtputf8 = (view->flags & SPOOL_FORMAT_SMTPUTF8) != 0},
        .size_bytes = view->prologue.length + view->body_bytes,
        .cookie = attempt,
    };
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
        outcome_failed(attempt, &cause);
        attempt_free(attempt);
        client_session_attempt_gone(session);
    } else if (answer.err != ERR_OK) {
        attempt_lost(attempt);
    } else {
        attempt->view = answer.view;
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
        lend_return(attempt->delivery->queue, attempt->spool, attempt->slot, &attempt->view, false);
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

/* --- what is sent -------------------------------------------------------------------------------------------- */

bool attempt_convert(struct attempt *attempt)
{
    const struct spool_view *view = &attempt->view;
    size_t bytes = view->prologue.length + view->body_bytes;
    if (bytes > ATTEMPT_CONVERT_BYTES_MAX) {
        return false;
    }
    struct buffer whole = {.data = malloc(bytes), .capacity = bytes};
    struct buffer out = {.data = malloc(mime_capacity(bytes)), .capacity = mime_capacity(bytes)};
    CHECK(whole.data != NULL && out.data != NULL);
    buffer_append(&whole, view->prologue);
    for (unsigned i = 0; i < spool_view_spans(view); i++) {
        CHECK(buffer_append(&whole, spool_view_body(view, i)));
    }
    bool converted = mime_to_7bit(buffer_bytes(&whole), &out) == MIME_CONVERTED;
    free(whole.data);
    if (!converted) {
        free(out.data);
        return false;
    }
    attempt->converted = realloc(out.data, out.length);
    attempt->converted = attempt->converted != NULL ? attempt->converted : out.data;
    attempt->body = bytes_of(attempt->converted, out.length);
    attempt->transaction.has_8bit = false;
    attempt->transaction.size_bytes = out.length;
    return true;
}

unsigned attempt_pieces(const struct attempt *attempt)
{
    return attempt->converted != NULL ? 1 : 1 + spool_view_spans(&attempt->view);
}

struct bytes attempt_piece(const struct attempt *attempt, unsigned i)
{
    if (attempt->converted != NULL) {
        return attempt->body;
    }
    return i == 0 ? attempt->view.prologue : spool_view_body(&attempt->view, i - 1);
}
