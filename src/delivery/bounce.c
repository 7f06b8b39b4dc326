/* What becomes of an outcome at the shard that owns the message.
 *
 * Delivered, deferred, held and the like is one OUTCOME record. Where the sender is to be told (delivery/notice.h) it
 * is two: the notification, which is an ordinary message, and right behind it, in the same spool, the OUTCOME that
 * depends on it.
 *
 * So a power cut between the two loses the outcome, never the notification: the recipient is tried once more. What the
 * event log says of an end is written when the record is durable; until then the message stays borrowed.
 *
 * When the spool cannot write, the outcome is kept here, later ones behind it, and tried again each second, for as long
 * as it takes: the recipient's entry is gone from the queue, and this is all that knows what happened. Only a stop puts
 * an end to it, at its deadline; the recipient is tried once more after the next start.
 *
 * Of two outcomes of one recipient a restart believes the later one, unless the earlier one ended it. What the first
 * has to wait for (the message's pages, a disk that failed) must therefore hold up the second as well, or a recipient
 * that the operator holds would be delivered after the next start, because its deferral came late. So an outcome that
 * ends nothing is "unsettled" while it is being journaled, and others of its recipients follow when it is done.
 *
 * What waits is bounded. Beyond BOUNCE_WAITING_MAX a deferral is not kept: its entry is in the queue still, and a
 * restart would only try it sooner. An end is kept without what was said, in some fifty octets; there cannot be more of
 * them than recipients that were queued, whose entries are gone.
 */
#include "delivery/bounce.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/event_log.h"
#include "delivery/notice.h"
#include "queue/enqueue.h"
#include "queue/lend.h"
#include "spool/envelope.h"
#include "spool/quarantine.h"
#include "spool/spool.h"

#define BOUNCE_JOURNALS_MAX 1024 /* outcomes being committed at once; more wait in a list */
#define BOUNCE_RETRY_MS 1000
#define BOUNCE_WAITING_MAX 4096 /* outcomes that wait as they came */
#define BOUNCE_PAGE 4096u

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* An outcome that waits: without the recipients that it does not have. */
struct waiting {
    struct list node;
    uint16_t tail_bytes;
    char data[]; /* struct lend_outcome up to its recipients, these, the tail */
};

struct journal {
    struct delivery *delivery;
    struct spool *spool;
    struct spool_append outcome;
    struct spool_append message; /* the notification, when there is one */
    struct op warm;
    struct list failed;    /* in delivery->failed_journals, waiting to be tried again */
    struct list unsettled; /* in delivery->unsettled, or in none */
    struct spool_view view;
    uint64_t id;        /* of the message */
    bool looked;        /* at the message; not to be told twice */
    bool lent;          /* `view` is to be returned */
    bool tells;         /* the event log, once it is durable */
    unsigned warmed;    /* spans brought into memory */
    uint64_t bounce_id; /* of the notification; 0: none, or it is in the queue */
    uint64_t notice_id; /* the same, and stays */
    uint32_t bounce_flags;
    enum err message_err;
    uint32_t message_slot;
    struct buffer room; /* the encoded outcomes */
    struct buffer text; /* the notification */
    struct buffer envelope;
    struct lend_outcome what;
};

static void journal_begin(struct journal *journal);
static void resume(struct delivery *delivery, struct waiting *waiting);
static void release_followers(struct delivery *delivery, uint32_t slot);

/* --- the record ---------------------------------------------------------------------------------------------- */

static void journal_free(struct journal *journal)
{
    struct delivery *delivery = journal->delivery;
    if (journal->lent) {
        spool_return(journal->spool, &journal->view);
    }
    free(journal->room.data);
    free(journal->text.data);
    free(journal->envelope.data);
    bool unsettled = !list_empty(&journal->unsettled);
    uint32_t slot = journal->what.slot;
    list_remove(&journal->unsettled);
    free(journal);
    delivery->journals--;
    if (unsettled) {
        release_followers(delivery, slot);
    }
    struct list *node = NULL;
    while (delivery->journals < BOUNCE_JOURNALS_MAX && list_empty(&delivery->failed_journals) &&
           (node = list_pop_front(&delivery->bounce_waiting)) != NULL) {
        resume(delivery, LIST_OWNER(node, struct waiting, node));
    }
    delivery_progress(delivery);
}

void bounce_retry(struct timer *timer)
{
    struct delivery *delivery = CONTAINER_OF(timer, struct delivery, journal_timer);
    struct list failed;
    struct list *node;
    list_init(&failed);
    list_splice(&failed, &delivery->failed_journals);
    while ((node = list_pop_front(&failed)) != NULL) {
        journal_begin(LIST_OWNER(node, struct journal, failed));
    }
}

static void count_outcome(const struct journal *journal)
{
    struct metric_set *metrics = journal->delivery->shard->metrics;
    unsigned count = journal->what.count;
    switch ((enum spool_format_status)journal->what.status) {
    case SPOOL_FORMAT_FAILED: metric_add(&metrics->recipients_failed, count); break;
    case SPOOL_FORMAT_EXPIRED: metric_add(&metrics->recipients_expired, count); break;
    case SPOOL_FORMAT_REMOVED: metric_add(&metrics->recipients_removed, count); break;
    default: break;
    }
}

static void outcome_done(struct spool_append *append, enum err err)
{
    struct journal *journal = CONTAINER_OF(append, struct journal, outcome);
    struct delivery *delivery = journal->delivery;
    if (journal->bounce_id != 0 && journal->message_err == ERR_OK) {
        metric_add(&delivery->shard->metrics->bounces_generated, 1);
        enqueue_message(delivery->shard, journal->spool, journal->message_slot, delivery->shard->wall_ms,
                        buffer_bytes(&journal->envelope));
        journal->bounce_id = 0; /* it is in the queue: never make it again */
    }
    if (err == ERR_OK || err == ERR_NOT_FOUND || err == ERR_CLOSED) {
        count_outcome(journal);
        if (err == ERR_OK && journal->tells) {
            notice_write_events(delivery->shard, &journal->view, &journal->what, journal->notice_id);
        }
        journal_free(journal);
    } else if (delivery->stopping && delivery->shard->now_ms >= delivery->stop_timer.expires_ms) {
        journal_free(journal); /* the disk will not have it, and the time to stop is over */
    } else {
        list_push_back(&delivery->failed_journals, &journal->failed);
        shard_arm(delivery->shard, &delivery->journal_timer, BOUNCE_RETRY_MS);
    }
}

static void message_done(struct spool_append *append, enum err err)
{
    struct journal *journal = CONTAINER_OF(append, struct journal, message);
    journal->message_err = err;
    journal->message_slot = append->slot;
}

static void journal_commit(struct journal *journal)
{
    const struct lend_outcome *what = &journal->what;
    struct spool_outcome outcomes[LEND_RECIPIENTS];
    bool texts = what->status != SPOOL_FORMAT_DELIVERED;
    for (unsigned i = 0; i < what->count; i++) {
        outcomes[i] = (struct spool_outcome){
            .recipient = what->recipients[i].recipient,
            .status = what->status,
            .attempts = what->recipients[i].attempts,
            .next_attempt_s = what->next_attempt_s,
            .reply_code = what->reply_code,
            .reply = bytes_of(what->tail, texts ? what->text_bytes : 0),
            .host = bytes_of(what->tail + what->text_bytes, texts ? what->host_bytes : 0),
        };
        memcpy(outcomes[i].enhanced, what->enhanced, sizeof what->enhanced);
    }
    if (journal->room.data == NULL) {
        journal->room.capacity = SPOOL_OUTCOME_BYTES(0) + what->count * (sizeof(struct spool_format_state) + 8 +
                                                                         what->text_bytes + what->host_bytes);
        journal->room.data = malloc(journal->room.capacity);
        CHECK(journal->room.data != NULL);
    }
    journal->room.length = 0;
    journal->outcome.done = outcome_done;
    if (journal->bounce_id != 0) {
        struct iovec body = {.iov_base = journal->text.data, .iov_len = journal->text.length};
        struct spool_message message = {
            .id = journal->bounce_id,
            .arrival_ms = journal->delivery->shard->wall_ms,
            .flags = journal->bounce_flags,
            .recipients = 1,
            .reserve = true,
            .envelope = buffer_bytes(&journal->envelope),
            .prologue = bytes_of("", 0),
            .body = &body,
            .body_pieces = 1,
        };
        journal->message_err = ERR_IO;
        journal->message.done = message_done;
        spool_append_message(journal->spool, &journal->message, &message);
    }
    spool_append_outcomes(journal->spool, &journal->outcome, what->slot, journal->id, outcomes, what->count,
                          journal->bounce_id != 0, &journal->room);
}

/* --- who must be told ---------------------------------------------------------------------------------------- */

static bool failed_for_good(const struct journal *journal)
{
    return journal->what.status == SPOOL_FORMAT_FAILED || journal->what.status == SPOOL_FORMAT_EXPIRED;
}

static bool wants_events(const struct journal *journal)
{
    struct shard *shard = journal->delivery->shard;
    return failed_for_good(journal) ||
           (journal->what.status == SPOOL_FORMAT_REMOVED && event_log_wants(shard, EVENT_REMOVAL)) ||
           (journal->what.verdict == LEND_UNSEEN && event_log_wants(shard, EVENT_DEFERRAL));
}

/* Must the message be looked at? To tell its sender, or the event log what delivery could not know. */
static bool wants_message(const struct journal *journal)
{
    return wants_events(journal) || notice_possible(&journal->what);
}

/* The message is in memory: prepares what is to be told. */
static void journal_tell(struct journal *journal)
{
    struct delivery *delivery = journal->delivery;
    struct lend_outcome *what = &journal->what;
    notice_recall(journal->spool, journal->id, what);
    journal->tells = wants_events(journal);
    if (!notice_possible(what) || !notice_wanted(&journal->view, what)) {
        return;
    }
    if (envelope_find(journal->view.envelope, ENVELOPE_SENDER).length == 0) {
        metric_add(&delivery->shard->metrics->bounces_suppressed, 1);
    } else if (delivery->settings->bounces) {
        journal->bounce_id = spool_new_id(journal->spool);
        journal->notice_id = journal->bounce_id;
        notice_build(delivery, &journal->view, what, journal->bounce_id, &journal->text, &journal->envelope,
                     &journal->bounce_flags);
    }
}

/* Nobody can be told of a message that cannot be read. So it is not ended: it goes to the operator. */
static void journal_unreadable(struct journal *journal)
{
    if (!failed_for_good(journal)) {
        journal_commit(journal);
        return;
    }
    if (journal->lent) {
        spool_return(journal->spool, &journal->view);
        journal->lent = false;
    }
    spool_quarantine(journal->spool, journal->what.slot, journal->id,
                     "it has failed, and cannot be read to tell its sender");
    journal_free(journal);
}

static void journal_look(struct journal *journal)
{
    if (spool_view_read(&journal->view) == ERR_OK) {
        journal_tell(journal);
        journal_commit(journal);
    } else {
        journal_unreadable(journal);
    }
}

static void warm_next(struct journal *journal);

static void warm_done(struct op *op, int result, uint32_t flags)
{
    struct journal *journal = CONTAINER_OF(op, struct journal, warm);
    (void)flags;
    if (result == -EFAULT || result == -EIO || result == -EHWPOISON) {
        journal_unreadable(journal);
    } else {
        warm_next(journal);
    }
}

/* Brings in what a notification quotes: the record, and the first extent of a large body, or all. */
static void warm_next(struct journal *journal)
{
    bool enough = journal->warmed == 2 && !notice_whole(journal->delivery, &journal->view, &journal->what);
    if (journal->view.recent || journal->warmed == spool_view_spans(&journal->view) || enough) {
        journal_look(journal);
        return;
    }
    struct bytes span = spool_view_span(&journal->view, journal->warmed++);
    uintptr_t begin = (uintptr_t)span.data & ~(uintptr_t)(BOUNCE_PAGE - 1);
    journal->warm.done = warm_done;
    ring_madvise(journal->delivery->shard->ring, &journal->warm, (void *)begin,
                 (uintptr_t)span.data + span.length - begin, MADV_POPULATE_READ);
}

static void journal_begin(struct journal *journal)
{
    bool looked = journal->looked;
    journal->looked = true; /* a second try only commits */
    if (looked || !wants_message(journal)) {
        journal_commit(journal);
        return;
    }
    enum err err = spool_lend(journal->spool, journal->what.slot, journal->id, &journal->view);
    journal->lent = err == ERR_OK;
    if (err == ERR_OK) {
        warm_next(journal);
    } else if (err == ERR_CORRUPT) {
        journal_unreadable(journal);
    } else {
        journal_commit(journal);
    }
}

static bool ends(const struct lend_outcome *what)
{
    return what->status > SPOOL_FORMAT_QUARANTINED;
}

static void begin(struct delivery *delivery, const struct lend_outcome *what, size_t length)
{
    struct journal *journal = calloc(1, sizeof *journal);
    CHECK(journal != NULL);
    memcpy(&journal->what, what, length);
    journal->delivery = delivery;
    journal->spool = delivery->queue->spools[what->spool];
    CHECK(journal->spool != NULL);
    journal->id = spool_slot_id(journal->spool, what->slot);
    if ((uint32_t)journal->id != what->id_low) {
        journal->id = 0; /* it is gone, and the slot another's: the spool will not find it */
    }
    list_init(&journal->failed);
    list_init(&journal->unsettled);
    if (!ends(what)) {
        list_push_back(&delivery->unsettled[what->slot % DELIVERY_JOURNAL_BUCKETS], &journal->unsettled);
    }
    delivery->journals++;
    journal_begin(journal);
}

/* --- waiting for a journal ------------------------------------------------------------------------------------ */

static size_t head_bytes(const struct lend_outcome *what)
{
    return offsetof(struct lend_outcome, recipients) + what->count * sizeof what->recipients[0];
}

/* Keeps it in that list. */
static void keep(struct delivery *delivery, struct list *list, const struct lend_outcome *what)
{
    bool short_of_room = delivery->bounce_waiting_count >= BOUNCE_WAITING_MAX;
    if (short_of_room && what->status == SPOOL_FORMAT_DEFERRED && what->verdict >= LEND_UNSEEN) {
        return;
    }
    size_t head = head_bytes(what);
    size_t tail = short_of_room ? 0 : (size_t)what->text_bytes + what->host_bytes;
    struct waiting *waiting = malloc(sizeof *waiting + head + tail);
    CHECK(waiting != NULL);
    waiting->tail_bytes = (uint16_t)tail;
    memcpy(waiting->data, what, head);
    memcpy(waiting->data + head, what->tail, tail);
    list_push_back(list, &waiting->node);
    delivery->bounce_waiting_count++;
}

/* All but the tail, which only what is begun needs. */
static void read_head(const struct waiting *waiting, struct lend_outcome *ret_what)
{
    memcpy(ret_what, waiting->data, offsetof(struct lend_outcome, recipients));
    memcpy(ret_what, waiting->data, head_bytes(ret_what));
}

/* Takes what was kept out of its list, and back; returns its length. */
static size_t take_back(struct delivery *delivery, struct waiting *waiting, struct lend_outcome *ret_what)
{
    read_head(waiting, ret_what);
    memcpy(ret_what->tail, waiting->data + head_bytes(ret_what), waiting->tail_bytes);
    if (waiting->tail_bytes == 0) {
        ret_what->text_bytes = 0;
        ret_what->host_bytes = 0;
    }
    size_t length = offsetof(struct lend_outcome, tail) + waiting->tail_bytes;
    list_remove(&waiting->node);
    delivery->bounce_waiting_count--;
    free(waiting);
    return length;
}

/* --- one after the other -------------------------------------------------------------------------------------- */

static bool share_a_recipient(const struct lend_outcome *a, const struct lend_outcome *b)
{
    if (a->slot != b->slot || a->id_low != b->id_low || a->spool != b->spool) {
        return false;
    }
    for (unsigned i = 0; i < a->count; i++) {
        for (unsigned j = 0; j < b->count; j++) {
            if (a->recipients[i].recipient == b->recipients[j].recipient) {
                return true;
            }
        }
    }
    return false;
}

/* Is an earlier outcome of its recipients on its way, or kept before `end` (a node of the followers, or the list)? */
static bool must_follow(const struct delivery *delivery, const struct lend_outcome *what, const struct list *end)
{
    const struct list *unsettled = &delivery->unsettled[what->slot % DELIVERY_JOURNAL_BUCKETS];
    const struct list *followers = &delivery->followers[what->slot % DELIVERY_JOURNAL_BUCKETS];
    for (struct list *node = unsettled->next; node != unsettled; node = node->next) {
        if (share_a_recipient(&LIST_OWNER(node, struct journal, unsettled)->what, what)) {
            return true;
        }
    }
    for (struct list *node = followers->next; node != end; node = node->next) {
        struct lend_outcome earlier;
        read_head(LIST_OWNER(node, struct waiting, node), &earlier);
        if (share_a_recipient(&earlier, what)) {
            return true;
        }
    }
    return false;
}

static void dispatch(struct delivery *delivery, const struct lend_outcome *what, size_t length)
{
    struct list *followers = &delivery->followers[what->slot % DELIVERY_JOURNAL_BUCKETS];
    if (must_follow(delivery, what, followers)) {
        keep(delivery, followers, what);
    } else {
        begin(delivery, what, length);
    }
}

/* Begins those that nothing is before any more. Each may end at once, and release others: so from the start again. */
static void release_followers(struct delivery *delivery, uint32_t slot)
{
    struct list *followers = &delivery->followers[slot % DELIVERY_JOURNAL_BUCKETS];
    for (struct list *node = followers->next; node != followers;) {
        struct waiting *waiting = LIST_OWNER(node, struct waiting, node);
        struct lend_outcome what;
        read_head(waiting, &what);
        if (must_follow(delivery, &what, node)) {
            node = node->next;
            continue;
        }
        size_t length = take_back(delivery, waiting, &what);
        begin(delivery, &what, length);
        node = followers->next;
    }
}

static void resume(struct delivery *delivery, struct waiting *waiting)
{
    struct lend_outcome what;
    size_t length = take_back(delivery, waiting, &what);
    dispatch(delivery, &what, length);
}

void bounce_outcome(void *context, const void *payload, size_t length)
{
    struct delivery *delivery = context;
    const struct lend_outcome *what = payload;
    CHECK(length <= sizeof *what && length >= offsetof(struct lend_outcome, tail));
    if (delivery->journals >= BOUNCE_JOURNALS_MAX || !list_empty(&delivery->failed_journals) ||
        !list_empty(&delivery->bounce_waiting)) {
        keep(delivery, &delivery->bounce_waiting, what);
    } else {
        dispatch(delivery, what, length);
    }
}

void bounce_init(struct delivery *delivery)
{
    list_init(&delivery->bounce_waiting);
    list_init(&delivery->failed_journals);
    for (unsigned i = 0; i < DELIVERY_JOURNAL_BUCKETS; i++) {
        list_init(&delivery->unsettled[i]);
        list_init(&delivery->followers[i]);
    }
    wheel_timer_init(&delivery->journal_timer, bounce_retry);
}

static void free_all(struct list *list)
{
    struct list *node;
    while ((node = list_pop_front(list)) != NULL) {
        free(LIST_OWNER(node, struct waiting, node));
    }
}

void bounce_clear(struct delivery *delivery)
{
    free_all(&delivery->bounce_waiting);
    for (unsigned i = 0; i < DELIVERY_JOURNAL_BUCKETS; i++) {
        free_all(&delivery->followers[i]);
    }
}
