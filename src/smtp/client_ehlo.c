#include "smtp/client_ehlo.h"

void smtp_client_ehlo_clear(struct smtp_client *c)
{
    c->capabilities = 0;
    c->size_limit = 0;
    c->mail_max = 0;
    c->recipients_max = LIMIT_TRANSACTION_RECIPIENTS;
    c->domains_max = 0;
    c->by_s_min = 0;
}

/* The next word, up to a space or the end. False when there is none. */
static bool take_word(struct bytes *text, struct bytes *ret_word)
{
    while (text->length != 0 && text->data[0] == ' ') {
        bytes_advance(text, 1);
    }
    size_t n = 0;
    while (n < text->length && text->data[n] != ' ') {
        n++;
    }
    *ret_word = bytes_slice(*text, 0, n);
    bytes_advance(text, n);
    return n != 0;
}

/* "NAME=5" with a value that makes sense (RFC 9422 3: one to six digits, not zero). */
static bool limit_is(struct bytes word, struct bytes name, uint32_t *ret_limit)
{
    uint64_t number;
    if (word.length <= name.length || word.data[name.length] != '=' ||
        !bytes_equal_nocase(bytes_slice(word, 0, name.length), name) ||
        !bytes_parse_number(bytes_slice(word, name.length + 1, word.length - name.length - 1), &number) ||
        number == 0 || number > UINT32_MAX) {
        return false;
    }
    *ret_limit = (uint32_t)number;
    return true;
}

static void read_limits(struct smtp_client *c, struct bytes words)
{
    struct bytes word;
    while (take_word(&words, &word)) {
        uint32_t limit;
        if (limit_is(word, BYTES("MAILMAX"), &limit)) {
            c->mail_max = limit;
        } else if (limit_is(word, BYTES("RCPTMAX"), &limit)) {
            c->recipients_max = limit < LIMIT_TRANSACTION_RECIPIENTS ? limit : LIMIT_TRANSACTION_RECIPIENTS;
        } else if (limit_is(word, BYTES("RCPTDOMAINMAX"), &limit)) {
            c->domains_max = limit;
        }
    }
}

static void read_size(struct smtp_client *c, struct bytes words)
{
    struct bytes word;
    uint64_t limit;
    if (take_word(&words, &word) && bytes_parse_number(word, &limit)) {
        c->size_limit = limit;
    }
}

/* RFC 2852 2: the shortest time that it promises to keep. */
static void read_deliver_by(struct smtp_client *c, struct bytes words)
{
    struct bytes word;
    uint64_t minimum_s;
    if (take_word(&words, &word) && bytes_parse_number(word, &minimum_s)) {
        c->by_s_min = minimum_s < UINT32_MAX ? (uint32_t)minimum_s : UINT32_MAX;
    }
}

void smtp_client_ehlo_line(struct smtp_client *c, struct bytes line)
{
    static const struct {
        struct bytes keyword;
        enum smtp_client_capability capability;
        void (*read_parameters)(struct smtp_client *c, struct bytes words);
    } keywords[] = {
        {BYTES("PIPELINING"), SMTP_CLIENT_PIPELINING, NULL},
        {BYTES("SIZE"), SMTP_CLIENT_SIZE, read_size},
        {BYTES("8BITMIME"), SMTP_CLIENT_8BITMIME, NULL},
        {BYTES("SMTPUTF8"), SMTP_CLIENT_SMTPUTF8, NULL},
        {BYTES("DSN"), SMTP_CLIENT_DSN, NULL},
        {BYTES("CHUNKING"), SMTP_CLIENT_CHUNKING, NULL},
        {BYTES("STARTTLS"), SMTP_CLIENT_STARTTLS, NULL},
        {BYTES("ENHANCEDSTATUSCODES"), SMTP_CLIENT_ENHANCED_STATUS_CODES, NULL},
        {BYTES("AUTH"), SMTP_CLIENT_AUTH, NULL},
        {BYTES("BINARYMIME"), SMTP_CLIENT_BINARYMIME, NULL},
        {BYTES("REQUIRETLS"), SMTP_CLIENT_REQUIRETLS, NULL},
        {BYTES("MT-PRIORITY"), SMTP_CLIENT_MT_PRIORITY, NULL},
        {BYTES("DELIVERBY"), SMTP_CLIENT_DELIVERBY, read_deliver_by},
        {BYTES("LIMITS"), 0, read_limits},
    };
    struct bytes keyword;
    if (!take_word(&line, &keyword)) {
        return;
    }
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        if (bytes_equal_nocase(keyword, keywords[i].keyword)) {
            c->capabilities |= keywords[i].capability;
            if (keywords[i].read_parameters != NULL) {
                keywords[i].read_parameters(c, line);
            }
        }
    }
}
