#include "inbound/prologue.h"

#include "base/check.h"
#include "mail/date.h"
#include "mail/received.h"

static struct bytes tls_text(struct buffer *text, const struct tls_facts *tls)
{
    bool ok = tls != NULL && buffer_append_string(text, tls->version) && buffer_append(text, BYTES(" with cipher ")) &&
              buffer_append_string(text, tls->cipher) && buffer_append(text, BYTES(" (")) &&
              buffer_append_number(text, tls->bits) && buffer_append(text, BYTES(" bits)"));
    return ok ? buffer_bytes(text) : BYTES("");
}

/* RFC 6409 8.2, 8.3: a submitted message gets what it lacks. When it has no header at all, one begins and ends here. */
static void complete_header(struct buffer *out, const struct prologue *prologue)
{
    const struct header_scan *header = prologue->header;
    if (!header->date) {
        CHECK(buffer_append(out, BYTES("Date: ")) && date_append(out, (int64_t)(prologue->arrival_ms / 1000)) &&
              buffer_append(out, BYTES("\r\n")));
    }
    if (!header->message_id) {
        CHECK(buffer_append(out, BYTES("Message-ID: <")) && buffer_append(out, prologue->id) &&
              buffer_append(out, BYTES("@")) && buffer_append(out, prologue->client->profile->smtp.hostname) &&
              buffer_append(out, BYTES(">\r\n")));
    }
    CHECK(!header->headless || buffer_append(out, BYTES("\r\n")));
}

void prologue_write(struct buffer *out, const struct prologue *prologue)
{
    const struct reception_client *client = prologue->client;
    char peer[PEER_TEXT_BYTES];
    char tls[RECEIVED_TLS_BYTES_MAX];
    struct buffer tls_buffer = buffer_of(tls, sizeof tls);
    struct received_session session = {
        .extended = client->extended,
        .lmtp = client->profile->smtp.lmtp,
        .utf8 = prologue->utf8,
        .secure = client->tls != NULL,
        .authenticated = client->account.length != 0,
    };
    struct received received = {
        .helo = client->trace_helo,
        .peer_address = peer_text(client->trace_peer, peer),
        .tls = tls_text(&tls_buffer, client->tls),
        .host = client->profile->smtp.hostname,
        .protocol = received_protocol(&session),
        .id = prologue->id,
        .recipient = prologue->recipient,
        .has_priority = prologue->priority.length == 1,
        .priority = (int8_t)(prologue->priority.length == 1 ? prologue->priority.data[0] : 0),
        .time_unix_s = (int64_t)(prologue->arrival_ms / 1000),
    };
    CHECK(received_append(out, &received));
    if (client->profile->role == INBOUND_SUBMISSION) {
        complete_header(out, prologue);
    }
}
