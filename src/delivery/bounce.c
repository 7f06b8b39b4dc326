/* What becomes of an outcome at the shard that owns the message.
 *
 *     delivered, deferred, held...   one OUTCOME record
 *     failed, expired                the notification to the sender as an ordinary message, and right behind it, in the
 * same spool, the OUTCOME record that depends on it
 *
 * So a power cut between the two loses the outcome, never the notification: the recipient is tried once more.
 * When the spool cannot write, the outcome is kept here and tried again each second, for as long as it takes: the
 * recipient's entry is gone from the queue, and this is all that knows what happened.
 *
 * A notification about a message with the null sender is never made (RFC 5321 4.5.5, 3.6.3).
 */
#include "delivery/bounce.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/event_log.h"
#include "mail/dsn.h"
#include "queue/enqueue.h"
#include "queue/lend.h"
#include "spool/envelope.h"
#include "spool/spool.h"

#define BOUNCE_JOURNALS_MAX 1024 /* outcomes being committed at once; more wait in a list */
#define BOUNCE_RETRY_MS 1000
#define BOUNCE_BYTES_MAX (256u * 1024)
#define BOUNCE_ENVELOPE_BYTES 1024
#define BOUNCE_PAGE 4096u

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

struct waiting {
    struct list node;
    size_t length;
    char payload[];
};

struct journal {
    struct delivery *delivery;
    struct spool *spool;
    struct spool_append outcome;
    struct spool_append message; /* the notification, when there is one */
    struct op warm;
    struct timer retry;
    struct spool_view view;
    uint64_t id;        /* of the message */
    bool looked;        /* at the message; not to be told twice */
    uint64_t bounce_id; /* of the notification; 0: none */
    enum err message_err;
    uint32_t message_slot;
    struct buffer room; /* the encoded outcomes */
    struct buffer text; /* the notification */
    struct buffer envelope;
    struct lend_outcome what;
};

static void journal_begin(struct journal *journal);

/* --- the record ---------------------------------------------------------------------------------------------- */

static void journal_free(struct journal *journal)
{
    struct delivery *delivery = journal->delivery;
    free(journal->room.data);
    free(journal->text.data);
    free(journal->envelope.data);
    free(journal);
    delivery->journals--;
    struct list *node = list_pop_front(&delivery->bounce_waiting);
    if (node != NULL) {
        struct waiting *waiting = LIST_OWNER(node, struct waiting, node);
        bounce_outcome(delivery, waiting->payload, waiting->length);
        free(waiting);
    }
    delivery_progress(delivery);
}

static void retry_fired(struct timer *timer)
{
    journal_begin(CONTAINER_OF(timer, struct journal, retry));
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
        journal_free(journal);
    } else {
        shard_arm(delivery->shard, &journal->retry, BOUNCE_RETRY_MS);
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
            .flags = SPOOL_FORMAT_BOUNCE,
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

/* --- the notification ---------------------------------------------------------------------------------------- */

struct texts {
    char status[16];
    char diagnostic[8 + LIMIT_CLIENT_REPLY_BYTES]; /* code and text: as the remote host said it (RFC 3464 2.3.6) */
    char room[SPOOL_OUTCOME_BYTES(1)];
};

static void describe(struct journal *journal, unsigned i, struct texts *texts, struct dsn_recipient *ret_recipient)
{
    const struct lend_outcome *what = &journal->what;
    struct envelope_item item = {.value = bytes_of("", 0)};
    envelope_recipient(journal->view.envelope, what->recipients[i].recipient, &item);
    struct bytes text = bytes_of(what->tail, what->text_bytes);
    *ret_recipient = (struct dsn_recipient){
        .address = item.value,
        .action = what->status == SPOOL_FORMAT_EXPIRED ? DSN_EXPIRED : DSN_FAILED,
        .remote_mta = bytes_of(what->tail + what->text_bytes, what->host_bytes),
        .last_attempt_s = what->verdict >= LEND_UNSEEN ? (int64_t)(journal->delivery->shard->wall_ms / 1000) : 0,
    };
    const uint8_t *enhanced = what->enhanced;
    static const uint8_t expired[3] = {5, 4, 7};
    static const uint8_t by_operator[3] = {5, 7, 1};
    struct spool_outcome last;
    struct buffer room = buffer_of(texts->room, sizeof texts->room);
    uint16_t reply_code = what->reply_code;
    if (what->verdict == LEND_EXPIRED &&
        spool_recipient_state(journal->spool, what->slot, journal->id, what->recipients[i].recipient, &room, &last) ==
            ERR_OK &&
        last.status != SPOOL_FORMAT_PENDING) {
        text = last.reply;
        reply_code = last.reply_code;
        ret_recipient->remote_mta = last.host;
    }
    if (what->status == SPOOL_FORMAT_EXPIRED) {
        enhanced = expired;
    } else if (what->verdict == LEND_BOUNCED) {
        enhanced = by_operator;
        text = BYTES("returned by the administrator");
    }
    snprintf(texts->status, sizeof texts->status, "%u.%u.%u", enhanced[0], enhanced[1], enhanced[2]);
    ret_recipient->status = bytes_of_string(texts->status);
    if (reply_code != 0) {
        snprintf(texts->diagnostic, sizeof texts->diagnostic, "%u %.*s", reply_code, (int)text.length, text.data);
        ret_recipient->diagnostic = bytes_of_string(texts->diagnostic);
    } else {
        ret_recipient->reason = text;
    }
}

static struct bytes original_header(const struct spool_view *view, uint64_t bytes_max)
{
    struct bytes header = view->extent_count != 0
                              ? spool_view_body(view, 0)
                              : bytes_of(view->prologue.data, view->prologue.length + view->body.length);
    return bytes_slice(header, 0, header.length < bytes_max ? header.length : (size_t)bytes_max);
}

static bool make_notification(struct journal *journal, struct bytes sender)
{
    struct delivery *delivery = journal->delivery;
    struct texts *texts = calloc(journal->what.count, sizeof *texts);
    struct dsn_recipient recipients[LEND_RECIPIENTS];
    CHECK(texts != NULL);
    for (unsigned i = 0; i < journal->what.count; i++) {
        describe(journal, i, &texts[i], &recipients[i]);
    }
    char id[24];
    char boundary[48];
    snprintf(id, sizeof id, "%016llx", (unsigned long long)journal->id);
    journal->bounce_id = spool_new_id(journal->spool);
    snprintf(boundary, sizeof boundary, "%016llx.%016llx", (unsigned long long)journal->bounce_id,
             (unsigned long long)rng_next(&delivery->shard->rng));
    struct dsn dsn = {
        .reporting_mta = delivery->settings->hostname,
        .sender = sender,
        .queue_id = bytes_of_string(id),
        .arrival_s = (int64_t)(journal->view.arrival_ms / 1000),
        .now_s = (int64_t)(delivery->shard->wall_ms / 1000),
        .recipients = recipients,
        .recipients_count = journal->what.count,
        .header = original_header(&journal->view, delivery->settings->bounce_quote_bytes_max),
        .boundary = bytes_of_string(boundary),
    };
    journal->text = (struct buffer){.data = malloc(BOUNCE_BYTES_MAX), .capacity = BOUNCE_BYTES_MAX};
    journal->envelope = (struct buffer){.data = malloc(BOUNCE_ENVELOPE_BYTES), .capacity = BOUNCE_ENVELOPE_BYTES};
    CHECK(journal->text.data != NULL && journal->envelope.data != NULL);
    bool built = dsn_build(&dsn, &journal->text) == ERR_OK &&
                 envelope_add(&journal->envelope, ENVELOPE_SENDER, 0, bytes_of("", 0)) &&
                 envelope_add(&journal->envelope, ENVELOPE_RECIPIENT, 0, sender);
    free(texts);
    return built;
}

static bool failed_for_good(const struct journal *journal)
{
    return journal->what.status == SPOOL_FORMAT_FAILED || journal->what.status == SPOOL_FORMAT_EXPIRED;
}

/* Must the message be looked at? To tell its sender, or the event log what delivery could not know. */
static bool wants_message(const struct journal *journal)
{
    return failed_for_good(journal) ||
           (journal->what.verdict == LEND_UNSEEN && event_log_wants(journal->delivery->shard, EVENT_DEFERRAL));
}

static void write_events(const struct journal *journal)
{
    const struct lend_outcome *what = &journal->what;
    enum event_type type = what->status == SPOOL_FORMAT_FAILED    ? EVENT_BOUNCE
                           : what->status == SPOOL_FORMAT_EXPIRED ? EVENT_EXPIRY
                                                                  : EVENT_DEFERRAL;
    for (unsigned i = 0; i < what->count && event_log_wants(journal->delivery->shard, type); i++) {
        struct envelope_item item = {.value = bytes_of("", 0)};
        envelope_recipient(journal->view.envelope, what->recipients[i].recipient, &item);
        struct event event = {
            .type = type,
            .id = journal->id,
            .sender = envelope_find(journal->view.envelope, ENVELOPE_SENDER),
            .recipient = item.value,
            .reply_code = what->reply_code,
            .reply = bytes_of(what->tail, what->text_bytes),
            .host = bytes_of(what->tail + what->text_bytes, what->host_bytes),
            .attempts = what->recipients[i].attempts,
            .arrival_ms = journal->view.arrival_ms,
            .next_attempt_ms = (uint64_t)what->next_attempt_s * 1000,
            .notice_id = journal->bounce_id,
        };
        memcpy(event.enhanced, what->enhanced, sizeof event.enhanced);
        event_log_write(journal->delivery->shard, &event);
    }
}

/* The message is in memory: tell its sender, if it has one. */
static void journal_notify(struct journal *journal)
{
    if (spool_view_read(&journal->view) == ERR_OK) {
        struct bytes sender = envelope_find(journal->view.envelope, ENVELOPE_SENDER);
        if (failed_for_good(journal) && sender.length == 0) {
            metric_add(&journal->delivery->shard->metrics->bounces_suppressed, 1);
        } else if (failed_for_good(journal) && journal->delivery->settings->bounces) {
            CHECK(make_notification(journal, sender));
        }
        write_events(journal);
    }
    spool_return(journal->spool, &journal->view);
    journal_commit(journal);
}

static void warm_done(struct op *op, int result, uint32_t flags)
{
    struct journal *journal = CONTAINER_OF(op, struct journal, warm);
    (void)flags;
    if (result < 0 && result != -EINVAL) {
        spool_return(journal->spool, &journal->view); /* it cannot be read: nobody can be told */
        journal_commit(journal);
    } else {
        journal_notify(journal);
    }
}

static void journal_begin(struct journal *journal)
{
    bool looked = journal->looked;
    journal->looked = true; /* a second try only commits */
    if (looked || !wants_message(journal) ||
        spool_lend(journal->spool, journal->what.slot, journal->id, &journal->view) != ERR_OK) {
        journal_commit(journal);
        return;
    }
    if (journal->view.recent) {
        journal_notify(journal);
        return;
    }
    struct bytes span = spool_view_span(&journal->view, 0);
    uintptr_t begin = (uintptr_t)span.data & ~(uintptr_t)(BOUNCE_PAGE - 1);
    journal->warm.done = warm_done;
    ring_madvise(journal->delivery->shard->ring, &journal->warm, (void *)begin,
                 (uintptr_t)span.data + span.length - begin, MADV_POPULATE_READ);
}

void bounce_outcome(void *context, const void *payload, size_t length)
{
    struct delivery *delivery = context;
    const struct lend_outcome *what = payload;
    CHECK(length <= sizeof *what && length >= offsetof(struct lend_outcome, tail));
    if (delivery->journals >= BOUNCE_JOURNALS_MAX) {
        struct waiting *waiting = malloc(sizeof *waiting + length);
        CHECK(waiting != NULL);
        waiting->length = length;
        memcpy(waiting->payload, payload, length);
        list_push_back(&delivery->bounce_waiting, &waiting->node);
        return;
    }
    struct journal *journal = calloc(1, sizeof *journal);
    CHECK(journal != NULL);
    memcpy(&journal->what, payload, length);
    journal->delivery = delivery;
    journal->spool = delivery->queue->spools[what->spool];
    CHECK(journal->spool != NULL);
    journal->id = spool_slot_id(journal->spool, what->slot);
    wheel_timer_init(&journal->retry, retry_fired);
    delivery->journals++;
    journal_begin(journal);
}

void bounce_clear(struct delivery *delivery)
{
    struct list *node;
    while ((node = list_pop_front(&delivery->bounce_waiting)) != NULL) {
        free(LIST_OWNER(node, struct waiting, node));
    }
}
