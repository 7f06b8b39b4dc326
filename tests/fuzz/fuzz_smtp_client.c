/* smtp/client against a hostile server. The first bytes of the input choose what the driver does, the rest is what the
 * server says, cut into pieces by the 0xff octets in it. */
#include <stdint.h>
#include <stdlib.h>

#include "smtp/client.h"

enum { TRANSACTIONS = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct driver {
    struct smtp_client client;
    struct smtp_client_reply reply;
    struct smtp_client_transaction transactions[TRANSACTIONS];
    unsigned begun;
    unsigned done;
    unsigned bodies;
    bool closed;
    bool binary;
    char out_bytes[LIMIT_CLIENT_COMMAND_BYTES];
    struct buffer out;
};

/* Whatever is said consists of whole commands, 7-bit lines that end in CRLF. */
static void check_out(struct driver *d)
{
    for (size_t i = 0; i < d->out.length; i++) {
        char c = d->out.data[i];
        CHECK((c >= ' ' && c <= '~') || (c == '\r' && i + 1 < d->out.length && d->out.data[i + 1] == '\n') ||
              (c == '\n' && i != 0 && d->out.data[i - 1] == '\r'));
    }
    CHECK(d->out.length == 0 || d->out.data[d->out.length - 1] == '\n');
    d->out.length = 0;
}

static void check_reply(const struct smtp_client_reply *reply)
{
    struct bytes text = smtp_client_reply_text(reply);
    CHECK(text.length <= LIMIT_CLIENT_REPLY_BYTES);
    for (size_t i = 0; i < text.length; i++) {
        CHECK(text.data[i] >= ' ' && text.data[i] <= '~');
    }
    CHECK(reply->status.class == 0 || reply->status.class == reply->code / 100);
}

static void begin(struct driver *d)
{
    static const struct smtp_client_notify notify[] = {{2, {"rfc822;b", 8}}, {4, {NULL, 0}}, {0, {NULL, 0}}};
    static const struct bytes recipients[] = {{"b@them.example", 14}, {"c@them.example", 14}, {"d@else.example", 14}};
    while (d->begun < TRANSACTIONS && smtp_client_can_begin(&d->client)) {
        struct smtp_client_transaction *t = &d->transactions[d->begun];
        *t = (struct smtp_client_transaction){
            .reverse_path = BYTES("a@us.example"),
            .recipients = recipients,
            .recipients_count = (uint16_t)(1 + d->begun % 3),
            .size_bytes = 1000 * d->begun,
            .has_8bit = d->begun == 2,
            .binary = d->binary && d->begun != 1,
            .chunk_bytes = 1000 * d->begun,
            .notify = notify,
            .parameters = {.ret = 'H', .auth = BYTES("<>"), .require_tls = d->begun == 3}};
        if (smtp_client_fit(&d->client, t) != SMTP_CLIENT_FIT_YES) {
            return;
        }
        smtp_client_begin(&d->client, t);
        d->begun++;
    }
}

static void drive(struct driver *d, struct bytes input)
{
    while (!d->closed) {
        begin(d);
        enum smtp_client_event event = smtp_client_next(&d->client, &input, &d->out);
        check_out(d);
        check_reply(&d->reply);
        switch (event) {
        case SMTP_CLIENT_WANT_INPUT: CHECK(input.length == 0); return;
        case SMTP_CLIENT_BODY: d->bodies++; break;
        case SMTP_CLIENT_DONE:
            d->done++;
            CHECK(d->client.transaction >= d->transactions && d->client.transaction < d->transactions + d->begun);
            CHECK(d->client.fate != SMTP_CLIENT_DELIVERED || d->bodies != 0);
            break;
        case SMTP_CLIENT_RECIPIENT: CHECK(d->client.recipient < d->client.transaction->recipients_count); break;
        case SMTP_CLIENT_CLOSED: d->closed = true; break;
        case SMTP_CLIENT_START_TLS:
            CHECK(input.length == 0);
            smtp_client_secured(&d->client, true);
            break;
        case SMTP_CLIENT_FINAL:
            CHECK(!smtp_client_refused(d->client.transaction, d->client.recipient) && d->bodies != 0);
            break;
        default: break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct driver *d = calloc(1, sizeof(*d));
    CHECK(d != NULL);
    d->out = buffer_of(d->out_bytes, sizeof(d->out_bytes));
    smtp_client_init(&d->client, BYTES("us.example"), (data[0] & 1) != 0, &d->reply);
    smtp_client_use_tls(&d->client, (enum smtp_client_tls)((data[0] >> 3 & 3) % 3));
    if ((data[0] & 32) != 0) {
        smtp_client_use_lmtp(&d->client);
    }
    d->binary = (data[0] & 64) != 0;
    size_t at = 1;
    while (at < size && !d->closed) {
        const uint8_t *cut = memchr(data + at, 0xff, size - at);
        size_t end = cut != NULL ? (size_t)(cut - data) : size;
        drive(d, bytes_of(data + at, end - at));
        at = end + 1;
    }
    if ((data[0] & 2) != 0) {
        smtp_client_quit(&d->client);
        drive(d, (struct bytes){0});
    }
    smtp_client_lost(&d->client, (data[0] & 4) != 0);
    drive(d, (struct bytes){0});
    CHECK(d->closed && d->done == d->begun && smtp_client_spent(&d->client));
    free(d);
    return 0;
}
