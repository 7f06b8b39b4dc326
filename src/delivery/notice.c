#include "delivery/notice.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/event_log.h"
#include "mail/dsn.h"
#include "smtp/xtext.h"
#include "spool/envelope.h"

#define NOTICE_BYTES (256u * 1024) /* of a notification without the original */
#define NOTICE_ENVELOPE_BYTES 1024
#define NOTICE_XTEXT_BYTES 500 /* RFC 3461 4.2: the longest ORCPT; ENVID has 100 */

/* One recipient. Spans point into the view, the outcome or the notice. */
struct notice {
    struct bytes address;
    struct bytes original; /* ORCPT, decoded */
    uint8_t notify;
    char status[16];
    char diagnostic[8 + LIMIT_CLIENT_REPLY_BYTES]; /* code and text: as the remote host said it (RFC 3464 2.3.6) */
    char original_room[NOTICE_XTEXT_BYTES];
};

static struct bytes reply_of(const struct lend_outcome *what)
{
    return bytes_of(what->tail, what->text_bytes);
}

static struct bytes host_of(const struct lend_outcome *what)
{
    return bytes_of(what->tail + what->text_bytes, what->host_bytes);
}

void notice_recall(struct spool *spool, uint64_t id, struct lend_outcome *what)
{
    char encoded[SPOOL_OUTCOME_BYTES(1)];
    struct buffer room = buffer_of(encoded, sizeof encoded);
    struct spool_outcome last;
    if ((what->verdict != LEND_EXPIRED && what->verdict != LEND_OVERDUE && what->verdict != LEND_DELAYED) ||
        spool_recipient_state(spool, what->slot, id, what->recipients[0].recipient, &room, &last) != ERR_OK ||
        last.status == SPOOL_FORMAT_PENDING) {
        return;
    }
    struct buffer tail = buffer_of(what->tail, sizeof what->tail);
    size_t text = last.reply.length < LIMIT_CLIENT_REPLY_BYTES ? last.reply.length : LIMIT_CLIENT_REPLY_BYTES;
    size_t host = last.host.length < LEND_HOST_BYTES ? last.host.length : LEND_HOST_BYTES;
    buffer_append(&tail, bytes_slice(last.reply, 0, text));
    buffer_append(&tail, bytes_slice(last.host, 0, host));
    what->text_bytes = (uint16_t)text;
    what->host_bytes = (uint8_t)host;
    what->reply_code = last.reply_code;
    if (what->verdict == LEND_DELAYED && last.enhanced[0] == 4 && last.attempts != 0) {
        memcpy(what->enhanced, last.enhanced, sizeof what->enhanced);
    }
}

/* --- the recipients ------------------------------------------------------------------------------------------- */

/* Of a message with tens of thousands of them the envelope is as long as a book: it is read once for all that an
 * outcome is about. */
struct recipients {
    struct envelope_item items[LEND_RECIPIENTS];
    struct bytes originals[LEND_RECIPIENTS]; /* ORCPT, xtext as it came */
};

static void order_by_place(const struct lend_outcome *what, uint8_t order[LEND_RECIPIENTS])
{
    for (unsigned i = 0; i < what->count; i++) {
        unsigned at = i;
        for (; at != 0 && what->recipients[order[at - 1]].recipient > what->recipients[i].recipient; at--) {
            order[at] = order[at - 1];
        }
        order[at] = (uint8_t)i;
    }
}

static void find_recipients(const struct spool_view *view, const struct lend_outcome *what,
                            struct recipients *ret_recipients)
{
    uint8_t order[LEND_RECIPIENTS];
    struct envelope_iterator iterator = envelope_iterate(view->envelope);
    struct envelope_item item;
    unsigned found = 0;
    unsigned index = 0;
    bool wanted = false; /* the recipient that was read last */
    memset(ret_recipients, 0, sizeof *ret_recipients);
    order_by_place(what, order);
    while (envelope_next(&iterator, &item)) {
        if (item.tag == ENVELOPE_RECIPIENT) {
            if (found == what->count) {
                break;
            }
            wanted = what->recipients[order[found]].recipient == index++;
            if (wanted) {
                ret_recipients->items[order[found++]] = item;
            }
        } else if (item.tag == ENVELOPE_ORIGINAL_RECIPIENT && wanted) {
            ret_recipients->originals[order[found - 1]] = item.value;
        }
    }
}

/* --- who is told ---------------------------------------------------------------------------------------------- */

static bool is_failure(const struct lend_outcome *what)
{
    return what->status == SPOOL_FORMAT_FAILED || what->status == SPOOL_FORMAT_EXPIRED;
}

static bool is_success(const struct lend_outcome *what)
{
    return what->status == SPOOL_FORMAT_DELIVERED;
}

bool notice_possible(const struct lend_outcome *what)
{
    bool asked = (what->facts & LEND_ASKED) != 0 && (what->facts & LEND_PEER_HAS_DSN) == 0;
    return is_failure(what) || what->verdict == LEND_DELAYED || (is_success(what) && asked);
}

static bool wants(const struct lend_outcome *what, uint8_t notify)
{
    if (is_success(what)) {
        return (notify & ENVELOPE_NOTIFY_SUCCESS) != 0;
    }
    return notify == 0 || (notify & (is_failure(what) ? ENVELOPE_NOTIFY_FAILURE : ENVELOPE_NOTIFY_DELAY)) != 0;
}

bool notice_wanted(const struct spool_view *view, const struct lend_outcome *what)
{
    struct recipients recipients;
    find_recipients(view, what, &recipients);
    for (unsigned i = 0; i < what->count; i++) {
        if (wants(what, recipients.items[i].flags)) {
            return true;
        }
    }
    return false;
}

bool notice_whole(const struct delivery *delivery, const struct spool_view *view, const struct lend_outcome *what)
{
    uint64_t bytes = 0;
    uint64_t bytes_max = delivery->settings->bounce_quote_bytes_max;
    for (unsigned i = 0; i < spool_view_spans(view); i++) {
        bytes += spool_view_span(view, i).length;
    }
    return is_failure(what) && bytes <= (bytes_max < NOTICE_WHOLE_BYTES_MAX ? bytes_max : NOTICE_WHOLE_BYTES_MAX);
}

/* --- one recipient -------------------------------------------------------------------------------------------- */

static void describe(const struct recipients *recipients, const struct lend_outcome *what, unsigned i,
                     struct notice *ret_notice)
{
    static const uint8_t expired[3] = {5, 4, 7};
    const uint8_t *enhanced = what->status == SPOOL_FORMAT_EXPIRED ? expired : what->enhanced;
    struct buffer room = buffer_of(ret_notice->original_room, sizeof ret_notice->original_room);
    ret_notice->address = recipients->items[i].value;
    ret_notice->notify = recipients->items[i].flags;
    /* Whatever is no xtext is not repeated. */
    bool given = recipients->originals[i].length != 0 && xtext_decode(&room, recipients->originals[i]);
    ret_notice->original = given ? buffer_bytes(&room) : bytes_of("", 0);
    snprintf(ret_notice->status, sizeof ret_notice->status, "%u.%u.%u", enhanced[0], enhanced[1], enhanced[2]);
    snprintf(ret_notice->diagnostic, sizeof ret_notice->diagnostic, "%u %.*s", what->reply_code, what->text_bytes,
             what->tail);
}

void notice_write_events(struct shard *shard, const struct spool_view *view, const struct lend_outcome *what,
                         uint64_t bounce_id)
{
    struct recipients recipients;
    struct bytes sender = envelope_find(view->envelope, ENVELOPE_SENDER);
    find_recipients(view, what, &recipients);
    for (unsigned i = 0; i < what->count; i++) {
        struct event event = {
            .type = what->status == SPOOL_FORMAT_FAILED    ? EVENT_BOUNCE
                    : what->status == SPOOL_FORMAT_EXPIRED ? EVENT_EXPIRY
                    : what->status == SPOOL_FORMAT_REMOVED ? EVENT_REMOVAL
                                                           : EVENT_DEFERRAL,
            .id = view->id,
            .sender = sender,
            .recipient = recipients.items[i].value,
            .reply_code = what->reply_code,
            .reply = reply_of(what),
            .host = host_of(what),
            .attempts = what->recipients[i].attempts & (uint16_t)~SPOOL_FORMAT_TOLD,
            .arrival_ms = view->arrival_ms,
            .next_attempt_ms = (uint64_t)what->next_attempt_s * 1000,
            .notice_id = bounce_id,
        };
        memcpy(event.enhanced, what->enhanced, sizeof event.enhanced);
        event_log_write(shard, &event);
    }
}

/* --- the notification ----------------------------------------------------------------------------------------- */

static enum dsn_action action_of(const struct lend_outcome *what)
{
    if (is_success(what)) {
        return (what->facts & LEND_FINAL) != 0 ? DSN_DELIVERED : DSN_RELAYED;
    }
    if (what->verdict == LEND_DELAYED) {
        return DSN_DELAYED;
    }
    return what->verdict == LEND_OVERDUE          ? DSN_OVERDUE
           : what->status == SPOOL_FORMAT_EXPIRED ? DSN_EXPIRED
                                                  : DSN_FAILED;
}

/* The original from its first byte, as long as it is one piece of memory and not more than may be quoted. */
static struct bytes original_header(const struct spool_view *view, uint64_t bytes_max)
{
    struct bytes header = view->extent_count != 0
                              ? spool_view_body(view, 0)
                              : bytes_of(view->prologue.data, view->prologue.length + view->body.length);
    return bytes_slice(header, 0, header.length < bytes_max ? header.length : (size_t)bytes_max);
}

/* All of the original, when its sender asked for that (RET=FULL) and nothing speaks against it: REQUIRETLS does (RFC
 * 8689 5), and binary parts, which no notification can hold. NULL: no. */
static struct bytes *whole_original(const struct delivery *delivery, const struct spool_view *view,
                                    const struct lend_outcome *what, size_t *ret_count)
{
    struct bytes wanted = envelope_find(view->envelope, ENVELOPE_RETURN);
    if (!bytes_equal(wanted, BYTES("F")) || !notice_whole(delivery, view, what) ||
        (view->flags & (SPOOL_FORMAT_REQUIRETLS | SPOOL_FORMAT_BINARY)) != 0) {
        return NULL;
    }
    unsigned spans = spool_view_spans(view);
    struct bytes *pieces = calloc(spans + 1, sizeof *pieces);
    CHECK(pieces != NULL);
    pieces[0] = view->prologue;
    for (unsigned i = 0; i < spans; i++) {
        pieces[i + 1] = spool_view_body(view, i);
    }
    *ret_count = spans + 1;
    return pieces;
}

static size_t bytes_in(const struct bytes *pieces, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += pieces[i].length;
    }
    return bytes;
}

static size_t describe_wanted(const struct delivery *delivery, const struct spool_view *view,
                              const struct lend_outcome *what, struct notice *notices,
                              struct dsn_recipient recipients[LEND_RECIPIENTS])
{
    size_t count = 0;
    struct recipients found;
    find_recipients(view, what, &found);
    uint64_t until_ms = view->arrival_ms + delivery->queue->settings.expire_ms;
    for (unsigned i = 0; i < what->count; i++) {
        struct notice *notice = &notices[count];
        describe(&found, what, i, notice);
        if (!wants(what, notice->notify)) {
            continue;
        }
        recipients[count] = (struct dsn_recipient){
            .address = notice->address,
            .original_recipient = notice->original,
            .action = action_of(what),
            .status = bytes_of_string(notice->status),
            .remote_mta = host_of(what),
            .last_attempt_s = what->verdict >= LEND_UNSEEN ? (int64_t)(delivery->shard->wall_ms / 1000) : 0,
            .retry_until_s = what->verdict == LEND_DELAYED ? (int64_t)(until_ms / 1000) : 0,
        };
        if (what->reply_code != 0) {
            recipients[count].diagnostic = bytes_of_string(notice->diagnostic);
        } else {
            recipients[count].reason = reply_of(what);
        }
        count++;
    }
    return count;
}

static struct buffer allocate(size_t bytes)
{
    struct buffer buffer = {.data = malloc(bytes), .capacity = bytes};
    CHECK(buffer.data != NULL);
    return buffer;
}

/* The null sender, and the original one as recipient; as urgent as the original was (RFC 6710 4.4). */
static void build_envelope(const struct spool_view *view, struct bytes sender, struct buffer *envelope)
{
    struct bytes priority = envelope_find(view->envelope, ENVELOPE_PRIORITY);
    CHECK(envelope_add(envelope, ENVELOPE_SENDER, 0, bytes_of("", 0)) &&
          (priority.length == 0 || envelope_add(envelope, ENVELOPE_PRIORITY, 0, priority)) &&
          envelope_add(envelope, ENVELOPE_RECIPIENT, 0, sender));
}

static void build_text(struct dsn *dsn, struct buffer *text)
{
    *text = allocate(NOTICE_BYTES + bytes_in(dsn->whole, dsn->whole_count));
    CHECK(dsn_build(dsn, text) == ERR_OK);
    char *fitted = realloc(text->data, text->length);
    text->data = fitted != NULL ? fitted : text->data;
    text->capacity = text->length;
}

static bool has_8bit(struct bytes text)
{
    unsigned char seen = 0;
    for (size_t i = 0; i < text.length; i++) {
        seen |= (unsigned char)text.data[i];
    }
    return (seen & 0x80) != 0;
}

void notice_build(struct delivery *delivery, const struct spool_view *view, const struct lend_outcome *what,
                  uint64_t bounce_id, struct buffer *ret_text, struct buffer *ret_envelope, uint32_t *ret_flags)
{
    struct dsn_recipient recipients[LEND_RECIPIENTS];
    struct notice *notices = calloc(what->count, sizeof *notices);
    CHECK(notices != NULL);
    char id[24];
    char boundary[48];
    char envelope_id[NOTICE_XTEXT_BYTES];
    struct buffer decoded = buffer_of(envelope_id, sizeof envelope_id);
    snprintf(id, sizeof id, "%016llx", (unsigned long long)view->id);
    snprintf(boundary, sizeof boundary, "%016llx.%016llx", (unsigned long long)bounce_id,
             (unsigned long long)rng_next(&delivery->shard->rng));
    struct bytes sender = envelope_find(view->envelope, ENVELOPE_SENDER);
    xtext_decode(&decoded, envelope_find(view->envelope, ENVELOPE_ID));
    struct dsn dsn = {
        .reporting_mta = delivery->settings->hostname,
        .sender = sender,
        .envelope_id = buffer_bytes(&decoded),
        .queue_id = bytes_of_string(id),
        .arrival_s = (int64_t)(view->arrival_ms / 1000),
        .now_s = (int64_t)(delivery->shard->wall_ms / 1000),
        .recipients = recipients,
        .header = original_header(view, delivery->settings->bounce_quote_bytes_max),
        .boundary = bytes_of_string(boundary),
        .whole_is_8bit = (view->flags & SPOOL_FORMAT_HAS_8BIT) != 0,
        .utf8 = (view->flags & SPOOL_FORMAT_SMTPUTF8) != 0,
    };
    struct bytes *whole = whole_original(delivery, view, what, &dsn.whole_count);
    dsn.whole = whole;
    dsn.whole_is_8bit = dsn.whole_is_8bit && whole != NULL;
    dsn.recipients_count = describe_wanted(delivery, view, what, notices, recipients);
    build_text(&dsn, ret_text);
    *ret_envelope = allocate(NOTICE_ENVELOPE_BYTES);
    build_envelope(view, sender, ret_envelope);
    /* An internationalised one without anything to show for it may go to a host that knows nothing of that. */
    bool octets = dsn.whole_is_8bit || (dsn.utf8 && has_8bit(buffer_bytes(ret_text)));
    *ret_flags = SPOOL_FORMAT_BOUNCE | (dsn.utf8 ? SPOOL_FORMAT_SMTPUTF8 : 0) | (octets ? SPOOL_FORMAT_HAS_8BIT : 0) |
                 (view->flags & SPOOL_FORMAT_REQUIRETLS);
    free(whole);
    free(notices);
}
