#include "inbound/session_event.h"

#include "core/event_log.h"
#include "spool/envelope.h"

static struct event event_of(const struct session_event *about, enum event_type type, char text[PEER_TEXT_BYTES])
{
    return (struct event){.type = type, .listener = about->listener, .client = peer_text(about->peer, text)};
}

void session_event_reception(const struct session_event *about)
{
    if (!event_log_wants(about->shard, EVENT_RECEPTION)) {
        return;
    }
    char client[PEER_TEXT_BYTES];
    struct event event = event_of(about, EVENT_RECEPTION, client);
    event.id = about->id;
    event.sender = envelope_find(about->envelope, ENVELOPE_SENDER);
    event.recipients = about->recipients;
    event.message_bytes = about->message_bytes;
    event.relaxed = about->relaxed;
    event.tls = about->tls != NULL ? bytes_of_string(about->tls) : BYTES("");
    event.user = envelope_find(about->envelope, ENVELOPE_AUTHENTICATED);
    struct bytes priority = envelope_find(about->envelope, ENVELOPE_PRIORITY);
    event.priority = (int8_t)(priority.length == 1 ? priority.data[0] : 0);
    event_log_write(about->shard, &event);
}

void session_event_rejection(const struct session_event *about)
{
    if (!event_log_wants(about->shard, EVENT_REJECTION)) {
        return;
    }
    char client[PEER_TEXT_BYTES];
    struct event event = event_of(about, EVENT_REJECTION, client);
    event.phase = about->phase;
    event.sender = about->sender;
    event.recipient = about->recipient;
    event.user = about->user;
    event.reply_code = about->reply->code;
    memcpy(event.enhanced, about->reply->enhanced, sizeof event.enhanced);
    event.reply = about->reply->text;
    event_log_write(about->shard, &event);
}

void session_event_filter(const struct session_event *about)
{
    if (!event_log_wants(about->shard, EVENT_FILTER)) {
        return;
    }
    char client[PEER_TEXT_BYTES];
    struct event event = event_of(about, EVENT_FILTER, client);
    event.id = about->id;
    event.sender = about->sender;
    event.recipients = about->recipients;
    event.message_bytes = about->message_bytes;
    event.user = about->user;
    event.filter = about->filter;
    event.action = about->action;
    event.reply = about->reason;
    event_log_write(about->shard, &event);
}
