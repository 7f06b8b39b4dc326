#include <stdlib.h>

#include "smtp/server.h"

/* The server machine under random talk. The first two octets choose how the rest is cut into inputs and what the driver
 * answers; then everything is the client's. Checked here: one reply per line of commands is the transcripts' business;
 * this looks for aborts, overruns, events out of order and envelopes that are neither complete nor empty. */

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
    unsigned recipients;
    uint64_t body_bytes;
    char output[SMTP_SERVER_OUTPUT_BYTES];
    struct buffer out;
};

static const struct smtp_server_config config = {
    .hostname = {"mx.example", 10},
    .extensions = SMTP_SERVER_EXTENSIONS_ALL,
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
    if (accept) {
        smtp_server_accept(&d->server, &d->out);
    } else {
        smtp_server_refuse(&d->server, &d->out, reply_of(choice == 0 ? REPLY_SHUTDOWN : REPLY_BUSY));
    }
    if (event == SMTP_SERVER_MAIL) {
        EXPECT(!d->in_transaction);
        d->in_transaction = accept;
        d->recipients = 0;
    } else if (event == SMTP_SERVER_RCPT) {
        EXPECT(d->in_transaction && d->recipients < config.recipients_max);
        d->recipients += accept;
    } else if (event == SMTP_SERVER_DATA) {
        EXPECT(d->in_transaction && d->recipients != 0);
        d->in_transaction = accept;
        d->body_bytes = 0;
    } else {
        EXPECT(d->in_transaction && d->recipients != 0);
        EXPECT(d->server.dot.bytes == d->body_bytes && (d->server.dot.seen & DOT_BAD) == 0);
        EXPECT(dot_message_bytes(&d->server.dot) <= config.message_bytes_max);
        d->in_transaction = false;
    }
}

static void handle(struct driver *d, enum smtp_server_event event)
{
    switch (event) {
    case SMTP_SERVER_WANT_LINE:
        EXPECT(d->server.line == NULL);
        d->server.line = malloc(config.command_bytes_max);
        break;
    case SMTP_SERVER_WANT_OUTPUT: check_replies(d); break;
    case SMTP_SERVER_BODY: d->body_bytes += d->server.piece.length; break;
    case SMTP_SERVER_HELO: EXPECT(!d->in_transaction); break;
    case SMTP_SERVER_DROPPED:
        EXPECT(d->in_transaction);
        d->in_transaction = false;
        break;
    default: answer(d, event);
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
