#include "delivery/notice.h"

#include "core/event_log.h"
#include "mail/dsn.h"
#include "spool/envelope.h"

void notice_describe(struct spool *spool, const struct spool_view *view, const struct lend_outcome *what, unsigned i,
                     struct notice *ret_notice)
{
    struct envelope_item item = {.value = bytes_of("", 0)};
    envelope_recipient(view->envelope, what->recipients[i].recipient, &item);
    ret_notice->address = item.value;
    ret_notice->reply = bytes_of(what->tail, what->text_bytes);
    ret_notice->host = bytes_of(what->tail + what->text_bytes, what->host_bytes);
    ret_notice->reply_code = what->reply_code;
    ret_notice->attempts = what->recipients[i].attempts & (uint16_t)~SPOOL_FORMAT_TOLD;
    memcpy(ret_notice->enhanced, what->enhanced, sizeof ret_notice->enhanced);
    struct spool_outcome last;
    struct buffer room = buffer_of(ret_notice->room, sizeof ret_notice->room);
    if (what->verdict == LEND_EXPIRED &&
        spool_recipient_state(spool, what->slot, view->id, what->recipients[i].recipient, &room, &last) == ERR_OK &&
        last.status != SPOOL_FORMAT_PENDING) {
        ret_notice->reply = last.reply;
        ret_notice->host = last.host;
        ret_notice->reply_code = last.reply_code;
    }
    static const uint8_t expired[3] = {5, 4, 7};
    const uint8_t *enhanced = what->status == SPOOL_FORMAT_EXPIRED ? expired : ret_notice->enhanced;
    snprintf(ret_notice->status, sizeof ret_notice->status, "%u.%u.%u", enhanced[0], enhanced[1], enhanced[2]);
    snprintf(ret_notice->diagnostic, sizeof ret_notice->diagnostic, "%u %.*s", ret_notice->reply_code,
             (int)ret_notice->reply.length, ret_notice->reply.data);
}

void notice_write_event(struct shard *shard, const struct spool_view *view, const struct lend_outcome *what,
                        const struct notice *notice, uint64_t bounce_id)
{
    struct event event = {
        .type = what->status == SPOOL_FORMAT_FAILED    ? EVENT_BOUNCE
                : what->status == SPOOL_FORMAT_EXPIRED ? EVENT_EXPIRY
                : what->status == SPOOL_FORMAT_REMOVED ? EVENT_REMOVAL
                                                       : EVENT_DEFERRAL,
        .id = view->id,
        .sender = envelope_find(view->envelope, ENVELOPE_SENDER),
        .recipient = notice->address,
        .reply_code = notice->reply_code,
        .reply = notice->reply,
        .host = notice->host,
        .attempts = notice->attempts,
        .arrival_ms = view->arrival_ms,
        .next_attempt_ms = (uint64_t)what->next_attempt_s * 1000,
        .notice_id = bounce_id,
    };
    memcpy(event.enhanced, notice->enhanced, sizeof event.enhanced);
    event_log_write(shard, &event);
}

/* The original from its first byte, as long as it is one piece of memory and not more than may be quoted. */
static struct bytes original_header(const struct spool_view *view, uint64_t bytes_max)
{
    struct bytes header = view->extent_count != 0
                              ? spool_view_body(view, 0)
                              : bytes_of(view->prologue.data, view->prologue.length + view->body.length);
    return bytes_slice(header, 0, header.length < bytes_max ? header.length : (size_t)bytes_max);
}

bool notice_build(struct delivery *delivery, const struct spool_view *view, const struct lend_outcome *what,
                  struct notice *notices, uint64_t bounce_id, struct buffer *text, struct buffer *envelope)
{
    struct dsn_recipient recipients[LEND_RECIPIENTS];
    int64_t now_s = (int64_t)(delivery->shard->wall_ms / 1000);
    for (unsigned i = 0; i < what->count; i++) {
        recipients[i] = (struct dsn_recipient){
            .address = notices[i].address,
            .action = what->status == SPOOL_FORMAT_EXPIRED ? DSN_EXPIRED : DSN_FAILED,
            .status = bytes_of_string(notices[i].status),
            .remote_mta = notices[i].host,
            .last_attempt_s = what->verdict >= LEND_UNSEEN ? now_s : 0,
        };
        if (notices[i].reply_code != 0) {
            recipients[i].diagnostic = bytes_of_string(notices[i].diagnostic);
        } else {
            recipients[i].reason = notices[i].reply;
        }
    }
    char id[24];
    char boundary[48];
    snprintf(id, sizeof id, "%016llx", (unsigned long long)view->id);
    snprintf(boundary, sizeof boundary, "%016llx.%016llx", (unsigned long long)bounce_id,
             (unsigned long long)rng_next(&delivery->shard->rng));
    struct bytes sender = envelope_find(view->envelope, ENVELOPE_SENDER);
    struct dsn dsn = {
        .reporting_mta = delivery->settings->hostname,
        .sender = sender,
        .queue_id = bytes_of_string(id),
        .arrival_s = (int64_t)(view->arrival_ms / 1000),
        .now_s = now_s,
        .recipients = recipients,
        .recipients_count = what->count,
        .header = original_header(view, delivery->settings->bounce_quote_bytes_max),
        .boundary = bytes_of_string(boundary),
    };
    return dsn_build(&dsn, text) == ERR_OK && envelope_add(envelope, ENVELOPE_SENDER, 0, bytes_of("", 0)) &&
           envelope_add(envelope, ENVELOPE_RECIPIENT, 0, sender);
}
