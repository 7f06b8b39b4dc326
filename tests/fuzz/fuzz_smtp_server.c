#include <stdlib.h>

#include "smtp/orcpt.h"
#include "smtp/server.h"
#include "smtp/xclient.h"
#include "smtp/xtext.h"

/* The server machine under random talk. The first two octets choose how the rest is cut into inputs and what the driver
 * answers, and whether this is LMTP; then everything is the client's. Checked here: one reply per line of commands is
 * the transcripts' business; this looks for aborts, overruns, events out of order and envelopes that are neither
 * complete nor empty. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct driver {
    struct smtp_server server;
    uint32_t random;
    bool in_transaction;
    bool exchange; /* an AUTH exchange is open */
    unsigned recipients;
    struct dot stored; /* what the reader of the wire form thinks of the message */
    char output[SMTP_SERVER_OUTPUT_BYTES];
    struct buffer out;
};

static struct smtp_server_config config = {
    .hostname = {"mx.example", 10},
    .extensions = UINT32_MAX,
    .mechanisms_clear = {"PLAIN LOGIN", 11},
    .mechanisms_secure = {"PLAIN SCRAM-SHA-256-PLUS", 24},
    .future_release_seconds_max = 1000,
    .deliver_by_seconds_min = 10,
    .mail_max = 20,
    .message_bytes_max = 1000,
    .recipients_max = 3,
    .command_bytes_max = 512,
    .text_line_bytes_max = 100,
    .received_max = 5,
    .errors_max = 50,
};

static uint32_t random_below(struct driver *d, uint32_t bound)
{
    d->random = d->random * 1664525u + 1013904223u;
    return (d->random >> 16) % bound;
}

static void check_replies(struct driver *d)
{
    for (size_t i = 0; i < d->out.length; i++) {
        char c = d->out.data[i];
        EXPECT((c >= ' ' && c <= '~') || c == '\r' || c == '\n');
    }
    EXPECT(d->out.length == 0 || d->out.data[d->out.length - 1] == '\n');
    d->out.length = 0;
}

static void answer(struct driver *d, enum smtp_server_event event)
{
    check_replies(d);
    uint32_t choice = random_below(d, 16);
    bool accept = choice > 2;
    if (event == SMTP_SERVER_AUTH_STEP) {
        EXPECT(d->server.auth.first != d->exchange && !d->in_transaction && !d->server.authenticated);
        d->exchange = choice > 8;
    }
    if (event == SMTP_SERVER_AUTH_STEP && d->exchange) {
        smtp_server_challenge(&d->server, &d->out,
                              d->server.auth.response.length < 100 ? d->server.auth.response : BYTES("more"));
    } else if (accept) {
        smtp_server_accept(&d->server, &d->out);
    } else {
        smtp_server_refuse(&d->server, &d->out, reply_of(choice == 0 ? REPLY_SHUTDOWN : REPLY_BUSY));
    }
    if (event == SMTP_SERVER_STARTTLS_ASKED && accept) {
        smtp_server_secured(&d->server);
    } else if (event == SMTP_SERVER_MAIL) {
        EXPECT(!d->in_transaction);
        d->in_transaction = accept;
        d->recipients = 0;
    } else if (event == SMTP_SERVER_RCPT) {
        EXPECT(d->in_transaction && d->recipients < config.recipients_max);
        d->recipients += accept;
    } else if (event == SMTP_SERVER_DATA) {
        EXPECT(d->in_transaction && d->recipients != 0);
        d->in_transaction = accept;
        dot_init(&d->stored, config.text_line_bytes_max);
    } else if (event == SMTP_SERVER_END) {
        EXPECT(d->in_transaction && d->recipients != 0 && d->stored.ended);
        EXPECT(d->server.dot.bytes == d->stored.bytes && dot_message_bytes(&d->stored) <= config.message_bytes_max + 2);
        d->in_transaction = false;
    } else {
        EXPECT(!d->in_transaction);
    }
}

/* What an event brings lies within what it may. */
static void read_event(const struct driver *d, enum smtp_server_event event)
{
    const struct smtp_server *s = &d->server;
    struct xclient_attribute attribute;
    struct bytes rest = s->peer_attributes;
    if (event == SMTP_SERVER_XCLIENT_GIVEN || event == SMTP_SERVER_XFORWARD_GIVEN) {
        EXPECT(rest.length <= XCLIENT_LINE_BYTES_MAX);
        while (xclient_next(&rest, &attribute)) {
            EXPECT(xtext_printable(attribute.raw, false));
        }
    } else if (event == SMTP_SERVER_MAIL) {
        EXPECT(s->utf8 || !s->mail.path.utf8);
        EXPECT(xtext_printable(s->mail.params.envid, false) && xtext_printable(s->mail.params.auth, true));
    } else if (event == SMTP_SERVER_RCPT) {
        EXPECT(s->utf8 || !s->rcpt.path.utf8);
        EXPECT(s->rcpt.params.orcpt.length == 0 || orcpt_valid(s->rcpt.params.orcpt, s->utf8));
    } else if (event == SMTP_SERVER_END) {
        EXPECT(s->binary || (s->dot.seen & DOT_BAD) == 0);
    }
}

static void handle(struct driver *d, enum smtp_server_event event)
{
    switch (event) {
    case SMTP_SERVER_WANT_LINE:
        EXPECT(d->server.line_bytes <= SMTP_SERVER_AUTH_LINE_BYTES_MAX);
        d->server.line = realloc(d->server.line, d->server.line_bytes);
        break;
    case SMTP_SERVER_WANT_OUTPUT: check_replies(d); break;
    case SMTP_SERVER_BODY:
        EXPECT(!d->stored.ended && dot_scan(&d->stored, d->server.piece) == d->server.piece.length);
        break;
    case SMTP_SERVER_AUTH_CANCELLED:
        EXPECT(d->exchange);
        d->exchange = false;
        break;
    case SMTP_SERVER_HELO: EXPECT(!d->in_transaction); break;
    case SMTP_SERVER_DROPPED:
        EXPECT(d->in_transaction);
        d->in_transaction = false;
        break;
    default: read_event(d, event); answer(d, event);
    }
    EXPECT(d->in_transaction == smtp_server_in_transaction(&d->server));
}

/* False when the machine has closed. */
static bool feed(struct driver *d, const uint8_t *data, size_t size)
{
    char *block = malloc(size);
    memcpy(block, data, size);
    struct bytes input = bytes_of(block, size);
    enum smtp_server_event event;
    while ((event = smtp_server_next(&d->server, &input, &d->out)) != SMTP_SERVER_WANT_INPUT &&
           event != SMTP_SERVER_CLOSE) {
        handle(d, event);
    }
    EXPECT(event == SMTP_SERVER_CLOSE || input.length == 0);
    if (d->server.line_length == 0) {
        free(d->server.line);
        d->server.line = NULL;
    }
    free(block);
    return event != SMTP_SERVER_CLOSE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct driver d = {.random = data[1]};
    uint32_t piece_max = data[0];
    data += 2;
    size -= 2;
    d.out = buffer_of(d.output, sizeof(d.output));
    config.lmtp = d.random & 1;
    smtp_server_init(&d.server, &config);
    for (bool open = true; open && size != 0;) {
        size_t piece = piece_max == 0 ? size : 1 + random_below(&d, piece_max);
        piece = piece < size ? piece : size;
        open = feed(&d, data, piece);
        data += piece;
        size -= piece;
    }
    EXPECT(d.in_transaction == smtp_server_in_transaction(&d.server));
    free(d.server.line);
    return 0;
}
