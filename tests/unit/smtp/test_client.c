/* smtp/client against a model of a server that goes wrong at every reply in every way. Whatever happens, what the
 * client says about a message must be what the server did with it. (Exact dialogues are in tests/transcript/client.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "smtp/client.h"

enum { MESSAGES = 4, RECIPIENTS_MAX = 100, WIRE_BYTES = 64 * 1024 };

enum fault {
    FAULT_NONE,
    FAULT_4XX,
    FAULT_5XX,
    FAULT_421,       /* and close */
    FAULT_DROP,      /* before the command takes effect */
    FAULT_DROP_DONE, /* after it took effect */
    FAULT_GARBAGE,   /* and close */
    FAULT_COUNT,
};

/* --- the server ----------------------------------------------------------------------------------------------------
 */

struct peer {
    bool pipelining;
    bool lax_data; /* 354 even when there is no recipient */
    unsigned replies;
    unsigned fault_at;
    enum fault fault;
    struct rng *random_faults; /* or NULL */

    char line[1024];
    size_t line_length;
    struct buffer out;
    bool closed;
    bool mail_open;
    bool in_data;
    bool in_chunk; /* the line that comes is the chunk */
    bool lmtp;
    unsigned recipients; /* bit i: recipient i of the message */
    int message;         /* whose envelope this is, from the reverse path */
    int body_of;         /* whose body came, -1: none */
    unsigned delivered[MESSAGES];
    unsigned out_of_order;
    bool reset_refused; /* what was said in one group with the RSET met the old envelope */
    unsigned said_quit;
};

/* Which fault strikes the reply that is due now. */
static enum fault next_fault(struct peer *peer)
{
    unsigned n = peer->replies++;
    if (peer->random_faults != NULL) {
        return rng_below(peer->random_faults, 12) == 0 ? (enum fault)rng_below(peer->random_faults, FAULT_COUNT)
                                                       : FAULT_NONE;
    }
    return n == peer->fault_at ? peer->fault : FAULT_NONE;
}

static void say(struct peer *peer, const char *text)
{
    assert_true(buffer_append_string(&peer->out, text));
}

/* True when the command may take effect; else the fault has answered it. */
static bool survives(struct peer *peer, enum fault fault)
{
    static const char *const texts[FAULT_COUNT] = {
        [FAULT_4XX] = "450 4.0.0 fault\r\n", [FAULT_5XX] = "550-5.0.0 fault\r\n550 5.0.0 fault\r\n",
        [FAULT_421] = "421 4.3.2 fault\r\n", [FAULT_DROP] = "",
        [FAULT_GARBAGE] = "fault\r\n",
    };
    if (fault == FAULT_NONE || fault == FAULT_DROP_DONE) {
        return true;
    }
    say(peer, texts[fault]);
    peer->closed = fault != FAULT_4XX && fault != FAULT_5XX;
    return false;
}

static void answer(struct peer *peer, enum fault fault, const char *text)
{
    if (fault == FAULT_DROP_DONE) {
        peer->closed = true;
    } else {
        say(peer, text);
    }
}

static void on_mail(struct peer *peer, enum fault fault, const char *line)
{
    if (peer->mail_open) {
        peer->out_of_order += !peer->reset_refused;
        say(peer, "503 nested MAIL\r\n");
    } else if (survives(peer, fault)) {
        assert_int_equal(sscanf(line, "MAIL FROM:<m%d@us.example>", &peer->message), 1);
        peer->mail_open = true;
        peer->recipients = 0;
        answer(peer, fault, "250 2.1.0 ok\r\n");
    }
}

static void on_rcpt(struct peer *peer, enum fault fault, const char *line)
{
    int message, i;
    assert_int_equal(sscanf(line, "RCPT TO:<r%d.%d", &message, &i), 2);
    if (!peer->mail_open) {
        say(peer, "503 need MAIL\r\n");
    } else if (survives(peer, fault)) {
        assert_true(message == peer->message || peer->reset_refused);
        if (strstr(line, "refused") != NULL) {
            answer(peer, fault, "550 5.1.1 no\r\n");
        } else {
            peer->recipients |= 1u << i;
            answer(peer, fault, "250 2.1.5 ok\r\n");
        }
    }
}

static void on_data(struct peer *peer, enum fault fault)
{
    if (!survives(peer, fault)) {
        return;
    }
    if ((!peer->mail_open || peer->recipients == 0) && !peer->lax_data) {
        answer(peer, fault, "503 need RCPT\r\n");
        return;
    }
    peer->in_data = true;
    peer->body_of = -1;
    answer(peer, fault, "354 go\r\n");
}

/* One recipient's verdict (LMTP), or all of them together. */
static void on_verdict(struct peer *peer, enum fault fault, unsigned recipients)
{
    if (!survives(peer, fault)) {
        return;
    }
    assert_false(peer->reset_refused);
    assert_int_equal(peer->body_of, peer->message); /* neither empty nor another's */
    assert_int_equal(peer->delivered[peer->message] & recipients, 0);
    peer->delivered[peer->message] |= recipients;
    answer(peer, fault, "250 2.0.0 queued\r\n");
}

static void on_dot(struct peer *peer)
{
    peer->in_data = false;
    unsigned recipients = peer->mail_open ? peer->recipients : 0;
    peer->mail_open = false;
    peer->recipients = 0;
    if (recipients == 0) {
        if (survives(peer, next_fault(peer))) {
            assert_int_equal(peer->body_of, -1); /* a lone dot */
            answer(peer, FAULT_NONE, "554 no recipients\r\n");
        }
    } else if (!peer->lmtp) {
        on_verdict(peer, next_fault(peer), recipients);
    } else {
        for (unsigned i = 0; i < 32 && !peer->closed; i++) {
            if ((recipients >> i & 1) != 0) {
                on_verdict(peer, next_fault(peer), 1u << i);
            }
        }
    }
}

/* Whatever is wrong with it, the chunk is read (RFC 3030 2). */
static void on_chunk(struct peer *peer, const char *line)
{
    peer->in_chunk = false;
    assert_int_equal(sscanf(line, "body %d", &peer->body_of), 1);
    if (!peer->mail_open || peer->recipients == 0) {
        peer->out_of_order += !peer->reset_refused;
        say(peer, "503 need RCPT\r\n");
    } else {
        on_dot(peer);
    }
}

static void on_line(struct peer *peer, const char *line)
{
    if (peer->in_chunk) {
        on_chunk(peer, line);
        return;
    }
    if (strcmp(line, "BDAT 8 LAST") == 0) {
        peer->in_chunk = true;
        return;
    }
    if (peer->in_data) {
        if (strcmp(line, ".") == 0) {
            on_dot(peer);
        } else {
            assert_int_equal(sscanf(line, "body %d", &peer->body_of), 1);
        }
        return;
    }
    enum fault fault = next_fault(peer);
    if (strncmp(line, "MAIL ", 5) == 0) {
        on_mail(peer, fault, line);
    } else if (strncmp(line, "RCPT ", 5) == 0) {
        on_rcpt(peer, fault, line);
    } else if (strcmp(line, "DATA") == 0) {
        on_data(peer, fault);
    } else if (!survives(peer, fault)) {
        peer->reset_refused = peer->reset_refused || strcmp(line, "RSET") == 0;
    } else {
        if (strncmp(line, peer->lmtp ? "LHLO " : "EHLO ", 5) == 0) {
            answer(peer, fault,
                   peer->pipelining ? "250-peer\r\n250-SIZE 0\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 PIPELINING\r\n"
                                    : "250-peer\r\n250-CHUNKING\r\n250 BINARYMIME\r\n");
        } else if (strncmp(line, "HELO ", 5) == 0) {
            peer->pipelining = false;
            answer(peer, fault, "250 peer\r\n");
        } else if (strcmp(line, "RSET") == 0) {
            peer->mail_open = false;
            answer(peer, fault, "250 ok\r\n");
        } else {
            assert_string_equal(line, "QUIT");
            peer->said_quit++;
            answer(peer, fault, "221 bye\r\n");
            peer->closed = true;
        }
    }
}

/* Takes what the client wrote. A server without pipelining never gets two commands at once. */
static void peer_take(struct peer *peer, struct bytes wire)
{
    unsigned commands = 0;
    for (size_t i = 0; i < wire.length && !peer->closed; i++) {
        assert_true(peer->line_length < sizeof(peer->line) - 1);
        peer->line[peer->line_length++] = wire.data[i];
        if (wire.data[i] == '\n') {
            assert_true(peer->line_length >= 2 && peer->line[peer->line_length - 2] == '\r');
            peer->line[peer->line_length - 2] = '\0';
            peer->line_length = 0;
            bool was_text = peer->in_data;
            on_line(peer, peer->line);
            commands += !peer->in_chunk && (!was_text || !peer->in_data);
        }
    }
    assert_true(peer->pipelining || commands <= 1);
}

/* --- the driver ----------------------------------------------------------------------------------------------------
 */

struct world {
    struct peer peer;
    struct smtp_client client;
    struct smtp_client_reply reply;
    struct smtp_client_transaction transactions[MESSAGES];
    struct bytes recipients[MESSAGES][RECIPIENTS_MAX];
    char addresses[MESSAGES][RECIPIENTS_MAX + 1][40];
    enum smtp_client_fate fates[MESSAGES][RECIPIENTS_MAX]; /* ACCEPTED until its verdict is in */
    unsigned answers[MESSAGES];
    unsigned done[MESSAGES];
    unsigned begun;
    unsigned finished;
    unsigned messages;
    bool ready;
    bool closed;
    unsigned writes;
    struct buffer wire;    /* bodies and commands, in order */
    struct buffer command; /* next() appends here */
    char wire_bytes[WIRE_BYTES], peer_bytes[WIRE_BYTES], command_bytes[4096];
};

/* Message m has m % 3 + 1 recipients, of which the last one is refused when m is odd. */
static struct world *new_world(unsigned messages)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->messages = messages;
    w->wire = buffer_of(w->wire_bytes, sizeof(w->wire_bytes));
    w->command = buffer_of(w->command_bytes, sizeof(w->command_bytes));
    w->peer.out = buffer_of(w->peer_bytes, sizeof(w->peer_bytes));
    w->peer.fault_at = UINT32_MAX;
    w->peer.pipelining = true;
    smtp_client_init(&w->client, BYTES("us.example"), true, &w->reply);
    for (unsigned m = 0; m < messages; m++) {
        struct smtp_client_transaction *t = &w->transactions[m];
        t->recipients_count = (uint16_t)(m % 3 + 1);
        for (unsigned i = 0; i < t->recipients_count; i++) {
            bool refused = m % 2 == 1 && i + 1u == t->recipients_count;
            snprintf(w->addresses[m][i], 40, "r%u.%u@%s", m, i, refused ? "refused" : "good");
            w->recipients[m][i] = bytes_of_string(w->addresses[m][i]);
        }
        snprintf(w->addresses[m][RECIPIENTS_MAX], 40, "m%u@us.example", m);
        t->reverse_path = bytes_of_string(w->addresses[m][RECIPIENTS_MAX]);
        t->recipients = w->recipients[m];
        t->size_bytes = 100;
    }
    return w;
}

static void on_recipient(struct world *w)
{
    size_t m = (size_t)(w->client.transaction - w->transactions);
    assert_int_equal(w->client.recipient, w->answers[m]++);
    assert_int_equal(w->done[m], 0);
    w->fates[m][w->client.recipient] = w->client.fate;
}

static void on_final(struct world *w)
{
    size_t m = (size_t)(w->client.transaction - w->transactions);
    assert_int_equal(w->done[m], 0);
    assert_int_equal(w->fates[m][w->client.recipient], SMTP_CLIENT_ACCEPTED);
    assert_false(smtp_client_refused(w->client.transaction, w->client.recipient));
    w->fates[m][w->client.recipient] = w->client.fate;
}

static void on_done(struct world *w)
{
    size_t m = (size_t)(w->client.transaction - w->transactions);
    assert_int_equal(w->done[m]++, 0);
    w->finished++;
    assert_int_not_equal(w->client.fate, SMTP_CLIENT_ACCEPTED);
    for (uint16_t i = 0; i < w->transactions[m].recipients_count; i++) {
        bool refused = smtp_client_refused(&w->transactions[m], i);
        assert_true(w->client.lmtp || refused == (w->fates[m][i] != SMTP_CLIENT_ACCEPTED));
        if (w->fates[m][i] == SMTP_CLIENT_ACCEPTED) {
            assert_true(!w->client.lmtp || w->client.fate != SMTP_CLIENT_DELIVERED);
            w->fates[m][i] = w->client.fate;
        }
    }
}

static void flush_commands(struct world *w)
{
    assert_true(buffer_append(&w->wire, buffer_bytes(&w->command)));
    w->command.length = 0;
}

static void begin(struct world *w)
{
    while (w->begun < w->messages && smtp_client_can_begin(&w->client)) {
        if (smtp_client_fit(&w->client, &w->transactions[w->begun]) == SMTP_CLIENT_FIT_CONVERT) {
            w->transactions[w->begun].binary = false; /* after HELO */
        }
        assert_int_equal(smtp_client_fit(&w->client, &w->transactions[w->begun]), SMTP_CLIENT_FIT_YES);
        smtp_client_begin(&w->client, &w->transactions[w->begun++]);
        assert_true(w->begun - w->finished <= 2);
    }
}

static void drive(struct world *w, struct bytes input)
{
    while (!w->closed) {
        begin(w);
        enum smtp_client_event event = smtp_client_next(&w->client, &input, &w->command);
        flush_commands(w);
        switch (event) {
        case SMTP_CLIENT_WANT_INPUT: assert_int_equal(input.length, 0); return;
        case SMTP_CLIENT_WANT_OUTPUT: break;
        case SMTP_CLIENT_READY: w->ready = true; break;
        case SMTP_CLIENT_RECIPIENT: on_recipient(w); break;
        case SMTP_CLIENT_BODY:
            assert_true(buffer_append_format(&w->wire, "body %d\r\n%s", (int)(w->client.transaction - w->transactions),
                                             w->client.transaction->chunked ? "" : ".\r\n"));
            break;
        case SMTP_CLIENT_FINAL: on_final(w); break;
        case SMTP_CLIENT_DONE: on_done(w); break;
        case SMTP_CLIENT_CLOSED: w->closed = true; break;
        case SMTP_CLIENT_START_TLS: fail();
        }
    }
}

/* Replies go to the client, `step` bytes at a time. */
static void pass_replies(struct world *w, size_t step)
{
    static char copy[WIRE_BYTES];
    size_t length = w->peer.out.length;
    memcpy(copy, w->peer.out.data, length);
    w->peer.out.length = 0;
    for (size_t at = 0; at < length; at += step) {
        drive(w, bytes_of(copy + at, length - at < step ? length - at : step));
    }
}

static void run(struct world *w, size_t step)
{
    if (survives(&w->peer, next_fault(&w->peer))) {
        say(&w->peer, "220 peer ESMTP\r\n");
    }
    while (!w->closed) {
        pass_replies(w, step);
        if (!w->closed && w->peer.closed && w->peer.out.length == 0) {
            smtp_client_lost(&w->client, true);
            drive(w, (struct bytes){0});
        }
        if (w->ready && w->begun == w->messages) {
            smtp_client_quit(&w->client);
            drive(w, (struct bytes){0});
        }
        if (w->wire.length != 0) {
            w->writes++;
            peer_take(&w->peer, buffer_bytes(&w->wire));
            w->wire.length = 0;
        } else {
            assert_true(w->closed || w->peer.closed || w->peer.out.length != 0); /* nobody waits for nothing */
        }
    }
}

/* What the client believes is what the server did. */
static void check(const struct world *w)
{
    assert_int_equal(w->peer.out_of_order, 0);
    for (unsigned m = 0; m < w->begun; m++) {
        assert_int_equal(w->done[m], 1);
        for (uint16_t i = 0; i < w->transactions[m].recipients_count; i++) {
            bool delivered = (w->peer.delivered[m] >> i & 1) != 0;
            switch (w->fates[m][i]) {
            case SMTP_CLIENT_DELIVERED: assert_true(delivered); break;
            case SMTP_CLIENT_UNKNOWN: break;
            default: assert_false(delivered); break;
            }
        }
    }
}

/* --- tests ---------------------------------------------------------------------------------------------------------
 */

static void all_goes_well(void **state)
{
    (void)state;
    struct world *w = new_world(MESSAGES);
    run(w, 1000);
    check(w);
    assert_int_equal(w->client.cause, SMTP_CLIENT_CAUSE_QUIT);
    assert_int_equal(w->peer.said_quit, 1);
    assert_int_equal(w->peer.delivered[0], 1);
    assert_int_equal(w->peer.delivered[1], 1);
    assert_int_equal(w->peer.delivered[2], 7);
    assert_int_equal(w->peer.delivered[3], 0);
    /* EHLO; envelope 0; then one write per message: body 0 + envelope 1, ..., body 2 + envelope 3; QUIT. */
    assert_int_equal(w->writes, 1 + 1 + 3 + 1);
    free(w);
}

static void use(struct world *w, bool lmtp, bool binary)
{
    w->peer.lmtp = lmtp;
    if (lmtp) {
        smtp_client_use_lmtp(&w->client);
    }
    for (unsigned m = 0; m < w->messages; m++) {
        w->transactions[m].binary = binary && m != 1; /* from the one to the other, and back */
        w->transactions[m].chunk_bytes = 8;
    }
}

static void every_fault_at_every_reply(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 16; kind++) {
        for (enum fault fault = FAULT_4XX; fault < FAULT_COUNT; fault++) {
            unsigned replies = UINT32_MAX;
            for (unsigned at = 0; at < replies; at++) {
                for (size_t step = 1; step < 2000; step += 1000) {
                    struct world *w = new_world(MESSAGES);
                    w->peer.pipelining = (kind & 1) != 0;
                    w->peer.lax_data = (kind & 2) != 0;
                    use(w, (kind & 4) != 0, (kind & 8) != 0);
                    w->peer.fault = fault;
                    w->peer.fault_at = at;
                    run(w, step);
                    check(w);
                    if (w->peer.replies <= at) {
                        replies = at; /* it did not come so far: all places were tried */
                    }
                    free(w);
                }
            }
            assert_true(replies > 10);
        }
    }
}

static void many_faults_at_random(void **state)
{
    (void)state;
    unsigned delivered = 0;
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct world *w = new_world(MESSAGES);
        w->peer.random_faults = &rng;
        w->peer.pipelining = rng_below(&rng, 3) != 0;
        w->peer.lax_data = rng_below(&rng, 3) == 0;
        use(w, rng_below(&rng, 3) == 0, rng_below(&rng, 3) == 0);
        run(w, 1 + (size_t)rng_below(&rng, 60));
        check(w);
        delivered += w->peer.delivered[0] != 0;
        free(w);
    }
    assert_true(delivered > 1000);
}

/* 100 recipients of the longest addresses through the smallest output buffer. */
static void long_groups_pass_a_small_buffer(void **state)
{
    (void)state;
    static char address[LIMIT_ADDRESS_BYTES];
    memset(address, 'a', sizeof(address));
    struct bytes recipients[LIMIT_TRANSACTION_RECIPIENTS];
    for (size_t i = 0; i < LIMIT_TRANSACTION_RECIPIENTS; i++) {
        recipients[i] = bytes_of(address, sizeof(address));
    }
    struct smtp_client_transaction t = {.reverse_path = bytes_of(address, sizeof(address)),
                                        .recipients = recipients,
                                        .recipients_count = LIMIT_TRANSACTION_RECIPIENTS,
                                        .has_8bit = true,
                                        .parameters = {.smtputf8 = true},
                                        .size_bytes = UINT64_MAX};
    struct smtp_client c;
    struct smtp_client_reply reply;
    char bytes[LIMIT_CLIENT_COMMAND_BYTES];
    struct buffer out = buffer_of(bytes, sizeof(bytes));
    smtp_client_init(&c, BYTES("us.example"), true, &reply);
    struct bytes input = BYTES("220 x\r\n");
    assert_int_equal(smtp_client_next(&c, &input, &out), SMTP_CLIENT_WANT_INPUT);
    input = BYTES("250-x\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE\r\n");
    assert_int_equal(smtp_client_next(&c, &input, &out), SMTP_CLIENT_READY);
    assert_int_equal(smtp_client_fit(&c, &t), SMTP_CLIENT_FIT_YES);
    smtp_client_begin(&c, &t);
    out.length = 0;
    size_t total = 0;
    unsigned turns = 0;
    while (smtp_client_next(&c, &input, &out) == SMTP_CLIENT_WANT_OUTPUT) {
        assert_true(out.length != 0);
        total += out.length;
        out.length = 0;
        turns++;
    }
    total += out.length;
    assert_true(turns >= LIMIT_TRANSACTION_RECIPIENTS / 5);
    assert_int_equal(total, LIMIT_TRANSACTION_RECIPIENTS * (LIMIT_ADDRESS_BYTES + strlen("RCPT TO:<>\r\n")) +
                                LIMIT_ADDRESS_BYTES +
                                strlen("MAIL FROM:<> SIZE=18446744073709551615 BODY=8BITMIME SMTPUTF8\r\nDATA\r\n"));
    assert_int_equal(smtp_client_phase(&c), SMTP_CLIENT_PHASE_MAIL);
}

/* Output that does not drain never keeps replies from being read. */
static void reading_goes_on_while_output_is_full(void **state)
{
    (void)state;
    struct world *w = new_world(3);
    struct bytes input = BYTES("220 x\r\n");
    smtp_client_next(&w->client, &input, &w->command);
    input = BYTES("250-x\r\n250 PIPELINING\r\n");
    assert_int_equal(smtp_client_next(&w->client, &input, &w->command), SMTP_CLIENT_READY);
    smtp_client_begin(&w->client, &w->transactions[2]);
    struct buffer out = buffer_of(w->command_bytes, LIMIT_CLIENT_COMMAND_BYTES);
    out.length = LIMIT_CLIENT_COMMAND_BYTES - 60; /* room for MAIL and one RCPT */
    assert_int_equal(smtp_client_next(&w->client, &input, &out), SMTP_CLIENT_WANT_OUTPUT);
    input = BYTES("250 ok\r\n250 ok\r\n");
    assert_int_equal(smtp_client_next(&w->client, &input, &out), SMTP_CLIENT_RECIPIENT);
    assert_int_equal(smtp_client_next(&w->client, &input, &out), SMTP_CLIENT_WANT_OUTPUT);
    assert_int_equal(input.length, 0);
    free(w);
}

static void addresses_cannot_inject(void **state)
{
    (void)state;
    struct world *w = new_world(1);
    struct smtp_client_transaction *t = &w->transactions[0];
    for (int octet = 0; octet < 256; octet++) {
        char text[] = "a?b@c", quoted[] = "\"a?b\"@c", escaped[] = "\"a\\?b\"@c";
        text[1] = quoted[2] = escaped[3] = (char)octet;
        bool control = octet < ' ' || octet == 0x7f;
        bool special = octet == ' ' || octet == '<' || octet == '>' || octet == '"';
        const struct {
            struct bytes address;
            bool refused;
        } rows[] = {
            {bytes_of(text, 5), control || special},
            {bytes_of(quoted, 7), control || octet == '"'},
            {bytes_of(escaped, 8), control},
        };
        for (size_t i = 0; i < 3; i++) {
            for (int reverse = 0; reverse < 2; reverse++) {
                t->recipients = reverse ? w->recipients[0] : &rows[i].address;
                t->reverse_path = reverse ? rows[i].address : BYTES("");
                enum smtp_client_fit fit = smtp_client_fit(&w->client, t);
                enum smtp_client_fit other = octet > 127 ? SMTP_CLIENT_FIT_NEEDS_UTF8 : SMTP_CLIENT_FIT_YES;
                assert_int_equal(fit, rows[i].refused ? SMTP_CLIENT_FIT_ADDRESS : other);
            }
        }
    }
    struct bytes too_long = bytes_of(w->wire_bytes, LIMIT_ADDRESS_BYTES + 1);
    memset(w->wire_bytes, 'a', too_long.length);
    t->reverse_path = BYTES("");
    t->recipients = &too_long;
    assert_int_equal(smtp_client_fit(&w->client, t), SMTP_CLIENT_FIT_ADDRESS);
    too_long.length = 0;
    assert_int_equal(smtp_client_fit(&w->client, t), SMTP_CLIENT_FIT_ADDRESS);
    free(w);
}

static void phases_follow_what_is_owed(void **state)
{
    (void)state;
    struct world *w = new_world(1);
    static const struct {
        const char *reply;
        enum smtp_client_phase phase; /* before it */
    } rows[] = {
        {"220 x\r\n", SMTP_CLIENT_PHASE_GREETING},
        {"250-x\r\n250 PIPELINING\r\n", SMTP_CLIENT_PHASE_EHLO},
        {"250 ok\r\n", SMTP_CLIENT_PHASE_MAIL},
        {"250 ok\r\n", SMTP_CLIENT_PHASE_RCPT},
        {"354 ok\r\n", SMTP_CLIENT_PHASE_DATA},
        {"250 ok\r\n", SMTP_CLIENT_PHASE_DOT},
        {"4", SMTP_CLIENT_PHASE_IDLE},
        {"21 x\r\n", SMTP_CLIENT_PHASE_QUIT},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(smtp_client_phase(&w->client), rows[i].phase);
        drive(w, bytes_of_string(rows[i].reply));
    }
    assert_int_equal(w->client.cause, SMTP_CLIENT_CAUSE_SHUTDOWN);
    assert_true(smtp_client_spent(&w->client));
    assert_string_equal(smtp_client_phase_name(SMTP_CLIENT_PHASE_QUIT), "quit");
    assert_string_equal(smtp_client_fate_name(SMTP_CLIENT_UNKNOWN), "unknown");
    assert_string_equal(smtp_client_cause_name(SMTP_CLIENT_CAUSE_LOST), "lost");
    free(w);
}

static void no_reply_survives_a_lost_connection(void **state)
{
    (void)state;
    struct world *w = new_world(1);
    drive(w, BYTES("220 x\r\n"));
    drive(w, BYTES("250 x\r\n"));
    drive(w, BYTES("250 2.1.0 fine\r\n"));
    smtp_client_lost(&w->client, false);
    drive(w, (struct bytes){0});
    assert_int_equal(w->reply.code, 0);
    assert_int_equal(smtp_client_reply_text(&w->reply).length, 0);
    assert_int_equal(w->fates[0][0], SMTP_CLIENT_UNSENT);
    free(w);
}

static void a_refused_hello_keeps_its_text(void **state)
{
    (void)state;
    struct world *w = new_world(0);
    drive(w, BYTES("220 x\r\n"));
    drive(w, BYTES("451-4.7.1 not\r\n451 now\r\n"));
    assert_int_equal(w->client.cause, SMTP_CLIENT_CAUSE_REFUSED);
    assert_int_equal(w->client.phase, SMTP_CLIENT_PHASE_EHLO);
    assert_true(bytes_equal(smtp_client_reply_text(&w->reply), BYTES("4.7.1 not now")));
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_goes_well),
        cmocka_unit_test(every_fault_at_every_reply),
        cmocka_unit_test(many_faults_at_random),
        cmocka_unit_test(long_groups_pass_a_small_buffer),
        cmocka_unit_test(reading_goes_on_while_output_is_full),
        cmocka_unit_test(addresses_cannot_inject),
        cmocka_unit_test(phases_follow_what_is_owed),
        cmocka_unit_test(no_reply_survives_a_lost_connection),
        cmocka_unit_test(a_refused_hello_keeps_its_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
