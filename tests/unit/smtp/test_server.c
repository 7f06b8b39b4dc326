#include "smtp/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/rng.h"

#define TEXT(literal)                  \
    {                                  \
        (literal), sizeof(literal) - 1 \
    }

/* Dialogues are in tests/transcript/server. Here: random ones, against a model of the envelope that is told by the
 * replies alone, as a client would tell it. */

static struct smtp_server_config small_config(void)
{
    return (struct smtp_server_config){
        .hostname = BYTES("mx.example"),
        .extensions = SMTP_SERVER_EXTENSIONS_ALL,
        .message_bytes_max = 300,
        .recipients_max = 3,
        .command_bytes_max = 512,
        .text_line_bytes_max = 80,
        .received_max = 3,
        .errors_max = 0,
    };
}

enum saying { SAY_EHLO, SAY_MAIL, SAY_RCPT, SAY_DATA, SAY_RSET, SAY_BODY, SAY_OTHER };

static const struct {
    enum saying saying;
    struct bytes text;
} sayings[] = {
    {SAY_EHLO, TEXT("EHLO a.example\r\n")},
    {SAY_EHLO, TEXT("HELO [192.0.2.1]\r\n")},
    {SAY_MAIL, TEXT("MAIL FROM:<a@b>\r\n")},
    {SAY_MAIL, TEXT("MAIL FROM:<> SIZE=9\r\n")},
    {SAY_MAIL, TEXT("MAIL FROM:<a@b> SIZE=301\r\n")},
    {SAY_MAIL, TEXT("MAIL FROM:<a@b\r\n")},
    {SAY_MAIL, TEXT("MAIL FROM:<a@b> X=1\r\n")},
    {SAY_RCPT, TEXT("RCPT TO:<c@d>\r\n")},
    {SAY_RCPT, TEXT("RCPT TO:<c@d>\r\n")},
    {SAY_RCPT, TEXT("RCPT TO:<Postmaster>\r\n")},
    {SAY_RCPT, TEXT("RCPT TO:<\xff@d>\r\n")},
    {SAY_RCPT, TEXT("RCPT TO:<c@d> X\r\n")},
    {SAY_DATA, TEXT("DATA\r\n")},
    {SAY_DATA, TEXT("DATA\r\n")},
    {SAY_DATA, TEXT("DATA\r\n")},
    {SAY_OTHER, TEXT("DATA x\r\n")},
    {SAY_RSET, TEXT("RSET\r\n")},
    {SAY_OTHER, TEXT("RSET x\r\n")},
    {SAY_OTHER, TEXT("NOOP\r\n")},
    {SAY_OTHER, TEXT("VRFY \xc3\xa9\r\n")},
    {SAY_OTHER, TEXT("EHLO a+b\r\n")},
    {SAY_OTHER, TEXT("BDAT 5 LAST\r\n")},
    {SAY_OTHER, TEXT("STARTTLS\r\n")},
    {SAY_OTHER, TEXT("EXPN x\r\n")},
    {SAY_OTHER, TEXT("RCPT TO:<c@d>\nDATA\r\n")},
    {SAY_OTHER, TEXT("DATA\0\r\n")},
    {SAY_OTHER, TEXT("RSET\rQUIT\r\n")},
    {SAY_OTHER, TEXT("HELP\r\n")},
};

static const struct {
    bool good;
    struct bytes text;
} bodies[] = {
    {true, TEXT(".\r\n")},
    {true, TEXT("a: b\r\n\r\n..x\r\n.\r\n")},
    {true, TEXT("MAIL FROM:<x@y>\r\n.\r\n")},
    {false, TEXT("a\nb\r\n.\r\n")},
    {false, TEXT("\n.\r\nRCPT TO:<x@y>\r\n.\r\n")},
    {false, TEXT("a\0b\r\n.\r\n")},
    {false, TEXT("Received:x\r\nReceived:y\r\nReceived:z\r\n.\r\n")},
};

/* What the client knows: its commands in order, and what each reply made of the transaction. */
struct model {
    enum saying said[64]; /* a ring of commands without a reply yet */
    unsigned first, count;
    bool greeted, mail;
    unsigned recipients;
};

struct session {
    struct smtp_server_config config;
    struct smtp_server server;
    struct rng rng;
    struct model model;
    bool driver_mail; /* what the driver believes */
    unsigned driver_recipients;
    uint64_t body_bytes;
    unsigned accepted;
    char output[SMTP_SERVER_OUTPUT_BYTES + 200];
    struct buffer out;
};

static void model_reply(struct model *model, unsigned code)
{
    enum saying saying = model->said[model->first++ % 64];
    model->count--;
    bool good = code < 400;
    if (saying == SAY_EHLO && good) {
        model->greeted = true;
        model->mail = false;
    } else if (saying == SAY_MAIL) {
        assert_false(good && (model->mail || !model->greeted));
        model->mail |= good;
        model->recipients = good ? 0 : model->recipients;
    } else if (saying == SAY_RCPT) {
        assert_false(good && !model->mail);
        model->recipients += good;
    } else if (saying == SAY_DATA) {
        assert_false(good && (!model->mail || model->recipients == 0));
        model->mail &= good || code == 503 || code == 554; /* out of order changes nothing; the driver's no ends it */
    } else if (saying == SAY_BODY || (saying == SAY_RSET && good)) {
        model->mail = false;
    }
}

/* Reads the replies. After each the machine's envelope must be the model's: complete or empty, never in between. */
static void drain(struct session *s)
{
    size_t start = 0;
    for (size_t i = 0; i < s->out.length; i++) {
        if (s->out.data[i] == '\n') {
            if (s->out.data[start + 3] == ' ') {
                model_reply(&s->model, (unsigned)strtoul(s->out.data + start, NULL, 10));
            }
            start = i + 1;
        }
    }
    assert_int_equal(start, s->out.length);
    s->out.length = 0;
    if (s->server.awaiting == 0 && !smtp_server_in_body(&s->server)) {
        assert_int_equal(s->model.mail, smtp_server_in_transaction(&s->server));
        assert_int_equal(s->driver_mail, s->model.mail);
        if (s->model.mail) {
            assert_int_equal(s->server.recipients, s->model.recipients);
            assert_int_equal(s->driver_recipients, s->model.recipients);
        } else {
            assert_int_equal(s->server.recipients, 0);
        }
    }
}

static void answer(struct session *s, enum smtp_server_event event)
{
    bool accept = rng_below(&s->rng, 4) != 0;
    if (buffer_room(&s->out) < REPLY_BYTES_MAX) {
        drain(s);
    }
    if (accept) {
        smtp_server_accept(&s->server, &s->out);
    } else {
        smtp_server_refuse(&s->server, &s->out,
                           reply_of(rng_below(&s->rng, 2) ? REPLY_SPOOL_ERROR : REPLY_UNKNOWN_USER));
    }
    if (event == SMTP_SERVER_MAIL && accept) {
        s->driver_mail = true;
        s->driver_recipients = 0;
    } else if (event == SMTP_SERVER_RCPT) {
        s->driver_recipients += accept;
        assert_true(s->driver_recipients <= s->config.recipients_max);
    } else if (event == SMTP_SERVER_DATA) {
        s->body_bytes = 0;
        s->driver_mail = accept;
    } else if (event == SMTP_SERVER_END) {
        assert_true(s->driver_mail && s->driver_recipients != 0);
        assert_int_equal(s->body_bytes, s->server.dot.bytes);
        s->accepted += accept;
        s->driver_mail = false;
    }
}

static void event_seen(struct session *s, enum smtp_server_event event)
{
    switch (event) {
    case SMTP_SERVER_WANT_LINE: s->server.line = malloc(s->config.command_bytes_max); break;
    case SMTP_SERVER_WANT_OUTPUT: drain(s); break;
    case SMTP_SERVER_BODY: s->body_bytes += s->server.piece.length; break;
    case SMTP_SERVER_HELO: assert_false(s->driver_mail); break;
    case SMTP_SERVER_DROPPED:
        assert_true(s->driver_mail);
        s->driver_mail = false;
        break;
    case SMTP_SERVER_CLOSE: fail_msg("nothing here closes"); break;
    default: answer(s, event);
    }
}

/* Gives the machine text, cut at random. */
static void say(struct session *s, struct bytes text)
{
    while (text.length != 0) {
        size_t length = rng_below(&s->rng, 3) == 0 ? text.length : 1 + (size_t)rng_below(&s->rng, text.length);
        char *block = malloc(length);
        memcpy(block, text.data, length);
        struct bytes input = bytes_of(block, length);
        bytes_advance(&text, length);
        enum smtp_server_event event;
        while ((event = smtp_server_next(&s->server, &input, &s->out)) != SMTP_SERVER_WANT_INPUT) {
            event_seen(s, event);
        }
        assert_int_equal(input.length, 0);
        if (s->server.line_length == 0) {
            free(s->server.line);
            s->server.line = NULL;
        }
        free(block);
    }
}

/* Half of the time anything, half of the time what leads on to a message. */
static size_t choose(struct session *s)
{
    bool anything = rng_below(&s->rng, 2) == 0;
    bool in_transaction = smtp_server_in_transaction(&s->server);
    enum saying next = !in_transaction ? SAY_MAIL : s->server.recipients == 0 ? SAY_RCPT : SAY_DATA;
    size_t choice;
    do {
        choice = (size_t)rng_below(&s->rng, sizeof(sayings) / sizeof(sayings[0]));
    } while (!anything && sayings[choice].saying != next);
    return choice;
}

static void say_something(struct session *s)
{
    size_t choice = choose(s);
    s->model.said[(s->model.first + s->model.count++) % 64] = sayings[choice].saying;
    say(s, sayings[choice].text);
    if (smtp_server_in_body(&s->server)) {
        size_t body = (size_t)rng_below(&s->rng, sizeof(bodies) / sizeof(bodies[0]));
        unsigned accepted = s->accepted;
        if (s->out.length > 0) {
            drain(s); /* the 354 */
        }
        s->model.said[(s->model.first + s->model.count++) % 64] = SAY_BODY;
        say(s, bodies[body].text);
        assert_false(smtp_server_in_transaction(&s->server));
        assert_true(bodies[body].good || s->accepted == accepted);
    }
}

static void test_envelope_is_complete_or_empty(void **state)
{
    (void)state;
    unsigned accepted = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct session s = {.config = small_config()};
        rng_seed(&s.rng, seed);
        s.out = buffer_of(s.output, sizeof(s.output));
        smtp_server_init(&s.server, &s.config);
        for (int i = 0; i < 300; i++) {
            say_something(&s);
            if (rng_below(&s.rng, 3) == 0 || s.model.count > 50) {
                drain(&s);
                assert_int_equal(s.model.count, 0); /* one reply per command */
            }
        }
        drain(&s);
        assert_int_equal(s.model.count, 0);
        accepted += s.accepted;
        free(s.server.line);
    }
    assert_true(accepted > 1000); /* the random talk does get somewhere */
}

static void test_wants_output_before_it_consumes(void **state)
{
    (void)state;
    struct smtp_server_config config = small_config();
    struct smtp_server server;
    char space[SMTP_SERVER_OUTPUT_BYTES];
    struct buffer out = buffer_of(space, sizeof(space));
    struct bytes input = BYTES("NOOP\r\nNOOP\r\n");
    smtp_server_init(&server, &config);
    out.length = 1;
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_WANT_OUTPUT);
    assert_int_equal(input.length, 12);
    assert_int_equal(out.length, 1);
    out.length = 0;
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_WANT_OUTPUT);
    assert_int_equal(input.length, 6);
    out.length = 0;
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_WANT_INPUT);
    assert_int_equal(input.length, 0);
}

/* Replies of the greatest size fit into what the machine asked for. */
static void test_longest_replies(void **state)
{
    (void)state;
    char name[255], space[SMTP_SERVER_OUTPUT_BYTES];
    memset(name, 'a', sizeof(name));
    struct smtp_server_config config = small_config();
    config.hostname = bytes_of(name, sizeof(name));
    config.message_bytes_max = INT64_MAX;
    struct smtp_server server;
    smtp_server_init(&server, &config);
    struct buffer out = buffer_of(space, sizeof(space));
    smtp_server_greet(&server, &out);
    assert_true(out.length <= LIMIT_REPLY_LINE_BYTES);
    out.length = 0;
    struct bytes input = BYTES("EHLO a\r\nMAIL FROM:<>\r\n");
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_HELO);
    out.length = 0;
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_MAIL);
    char text[5000];
    memset(text, '\n', sizeof(text));
    struct reply reply = {.code = 451, .enhanced = {4, 7, 1}, .text = bytes_of(text, sizeof(text))};
    smtp_server_refuse(&server, &out, &reply);
    assert_true(out.length <= sizeof(space));
}

/* RFC 2034 4: no enhanced status code in a greeting, whatever the reply brings. */
static void test_refusing_greeting(void **state)
{
    (void)state;
    struct smtp_server_config config = small_config();
    struct smtp_server server;
    char space[SMTP_SERVER_OUTPUT_BYTES];
    struct buffer out = buffer_of(space, sizeof(space));
    smtp_server_init(&server, &config);
    smtp_server_greet_refusing(&server, &out, reply_of(REPLY_NO_SERVICE));
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("554 No SMTP service here\r\n")));
}

static void test_text_of_the_driver(void **state)
{
    (void)state;
    struct smtp_server_config config = small_config();
    struct smtp_server server;
    char space[4096];
    struct buffer out = buffer_of(space, sizeof(space));
    struct bytes input = BYTES("HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n.\r\n");
    smtp_server_init(&server, &config);
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_HELO);
    enum smtp_server_event event;
    while ((event = smtp_server_next(&server, &input, &out)) != SMTP_SERVER_END) {
        if (event != SMTP_SERVER_BODY) {
            smtp_server_accept(&server, &out);
        }
    }
    out.length = 0;
    smtp_server_accept_text(&server, &out, BYTES("Queued as 4fZk2p"));
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("250 2.0.0 Queued as 4fZk2p\r\n")));
}

/* A million refused commands, recipients and resets change nothing in a session but its count of errors. */
static void test_endless_client(void **state)
{
    (void)state;
    struct smtp_server_config config = small_config();
    struct smtp_server server;
    char space[SMTP_SERVER_OUTPUT_BYTES];
    struct buffer out = buffer_of(space, sizeof(space));
    smtp_server_init(&server, &config);
    struct bytes input = BYTES("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<a@b>\r\nRCPT TO:<a@b>\r\n");
    enum smtp_server_event event;
    while ((event = smtp_server_next(&server, &input, &out)) != SMTP_SERVER_WANT_INPUT) {
        if (server.awaiting != 0) {
            smtp_server_accept(&server, &out);
        }
        out.length = 0;
    }
    for (int i = 0; i < 1000000; i++) {
        input = BYTES("RCPT TO:<c@d>\r\n");
        out.length = 0;
        assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_WANT_INPUT);
        assert_int_equal(memcmp(space, "452 4.5.3 ", 10), 0);
    }
    assert_int_equal(server.recipients, 3);
    assert_null(server.line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope_is_complete_or_empty),
        cmocka_unit_test(test_wants_output_before_it_consumes),
        cmocka_unit_test(test_longest_replies),
        cmocka_unit_test(test_refusing_greeting),
        cmocka_unit_test(test_text_of_the_driver),
        cmocka_unit_test(test_endless_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
