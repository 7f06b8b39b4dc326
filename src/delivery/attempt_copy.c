#include "delivery/attempt_copy.h"

#include <stdlib.h>

#include "delivery/client_session.h"
#include "queue/lend.h"

#define ATTEMPT_COPY_LOOKS 2 /* so often in `copy_after_ms` */

static void look_later(struct delivery *delivery)
{
    if (delivery->settings->copy_memory_max != 0 && !wheel_armed(&delivery->copy_timer) &&
        !list_empty(&delivery->lent)) {
        shard_arm(delivery->shard, &delivery->copy_timer, delivery->settings->copy_after_ms / ATTEMPT_COPY_LOOKS + 1);
    }
}

/* Its segments are read by nobody but us, and by us between two turns of the loop only. */
static bool at_rest(const struct attempt *attempt)
{
    const struct client_session *session = attempt->session;
    return (attempt->state == ATTEMPT_READY || attempt->state == ATTEMPT_BEGUN) && session->sending != attempt &&
           !session->closing && !stream_sending(&session->stream);
}

/* How much of the record, from its beginning, is still needed; 0: more than that. Once the body has been sent, what is
 * told about it needs the envelope. */
static size_t still_needed(const struct attempt *attempt)
{
    const struct spool_view *view = &attempt->view;
    if (attempt->dot_ms != 0) {
        return (size_t)(view->envelope.data + view->envelope.length - view->record.data);
    }
    return view->extent_count == 0 ? view->record.length : 0;
}

static void rebase(struct bytes *bytes, struct bytes from, const char *to)
{
    if (bytes->data >= from.data && bytes->data < from.data + from.length) {
        bytes->data = to + (bytes->data - from.data);
    }
}

/* Everything that attempt_read has found in the record. */
static void rebase_all(struct attempt *attempt, struct bytes from, const char *to)
{
    struct smtp_client_transaction *transaction = &attempt->transaction;
    struct spool_view *view = &attempt->view;
    rebase(&view->states, from, to);
    rebase(&view->envelope, from, to);
    rebase(&view->prologue, from, to);
    rebase(&view->body, from, to);
    rebase(&transaction->reverse_path, from, to);
    rebase(&transaction->parameters.envelope_id, from, to);
    rebase(&transaction->parameters.auth, from, to);
    for (unsigned i = 0; i < attempt->count; i++) {
        rebase(&attempt->recipients[i], from, to);
        rebase(&attempt->notify[i].original_recipient, from, to);
    }
}

/* Its pages were in memory when it came, and may have been evicted since: they are read here, and one that cannot be
 * read is an error instead of a signal. */
static bool bring_in(struct bytes record, size_t bytes)
{
    uintptr_t begin = (uintptr_t)record.data & ~(uintptr_t)(ATTEMPT_PAGE - 1);
    return madvise((void *)begin, (uintptr_t)record.data + bytes - begin, MADV_POPULATE_READ) == 0;
}

static void copy(struct attempt *attempt)
{
    struct delivery *delivery = attempt->delivery;
    struct spool_view lent = attempt->view;
    size_t bytes = still_needed(attempt);
    if (bytes == 0 || bytes > ATTEMPT_COPY_BYTES_MAX ||
        delivery->copied_bytes + bytes > delivery->settings->copy_memory_max || !bring_in(lent.record, bytes)) {
        return;
    }
    char *memory = malloc(bytes);
    if (memory == NULL) {
        return;
    }
    memcpy(memory, lent.record.data, bytes);
    rebase_all(attempt, lent.record, memory);
    attempt->view.record = bytes_of(memory, bytes);
    attempt->view.extents = NULL;
    attempt->view.extent_count = 0;
    if (bytes < lent.record.length) {
        attempt->view.prologue = attempt->view.body = bytes_of(memory, 0);
    }
    attempt->copy = memory;
    attempt->copy_bytes = bytes;
    delivery->copied_bytes += bytes;
    metric_add(&delivery->shard->metrics->delivery_copied_bytes, bytes);
    list_remove(&attempt->lent);
    lend_return(delivery->queue, attempt->spool, attempt->slot, &lent, false);
}

static void look(struct timer *timer)
{
    struct delivery *delivery = CONTAINER_OF(timer, struct delivery, copy_timer);
    uint64_t now_ms = delivery->shard->now_ms;
    for (struct list *node = delivery->lent.next; node != &delivery->lent;) {
        struct attempt *attempt = LIST_OWNER(node, struct attempt, lent);
        node = node->next;
        if (now_ms < attempt->lent_ms + delivery->settings->copy_after_ms) {
            break;
        }
        if (at_rest(attempt)) {
            copy(attempt);
        }
    }
    look_later(delivery);
}

void attempt_copy_start(struct delivery *delivery)
{
    list_init(&delivery->lent);
    wheel_timer_init(&delivery->copy_timer, look);
}

void attempt_copy_stop(struct delivery *delivery)
{
    wheel_disarm(&delivery->shard->wheel, &delivery->copy_timer);
}

void attempt_copy_watch(struct attempt *attempt)
{
    attempt->lent_ms = attempt->delivery->shard->now_ms;
    list_push_back(&attempt->delivery->lent, &attempt->lent);
    look_later(attempt->delivery);
}

void attempt_copy_forget(struct attempt *attempt)
{
    list_remove(&attempt->lent);
    if (attempt->copy != NULL) {
        attempt->delivery->copied_bytes -= attempt->copy_bytes;
        metric_subtract(&attempt->delivery->shard->metrics->delivery_copied_bytes, attempt->copy_bytes);
        free(attempt->copy);
    }
}
