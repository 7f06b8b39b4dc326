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
        .extensions = UINT32_MAX, /* all of them */
        .mechanisms_clear = BYTES("PLAIN LOGIN"),
        .mechanisms_secure = BYTES("PLAIN LOGIN"),
        .future_release_seconds_max = 100,
        .message_bytes_max = 300,
        .recipients_max = 3,
        .command_bytes_max = 512,
        .text_line_bytes_max = 80,
        .received_max = 3,
        .errors_max = 0,
    };
}

enum saying {
    SAY_EHLO,
    SAY_MAIL,
    SAY_RCPT,
    SAY_DATA,
    SAY_CHUNK,
    SAY_LAST_CHUNK,
    SAY_RSET,
    SAY_BODY,
    SAY_AGAIN, /* STARTTLS, XCLIENT: 220 and the session begins again */
    SAY_OTHER,
};

#define X10 "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define X301 X100 X100 X100 "x"

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
    {SAY_EHLO, TEXT("LHLO a.example\r\n")},
    {SAY_MAIL, TEXT("MAIL FROM:<a@b> BODY=BINARYMIME\r\n")},
    {SAY_MAIL, TEXT("MAIL FROM:<\xc3\xa9@b> SMTPUTF8 RET=HDRS ENVID=x MT-PRIORITY=-3\r\n")},
    {SAY_MAIL, TEXT("MAIL FROM:<a@b> HOLDFOR=1 HOLDUNTIL=1970-01-01T00:00:00Z\r\n")},
    {SAY_RCPT, TEXT("RCPT TO:<c@d> NOTIFY=DELAY,FAILURE ORCPT=rfc822;c@d\r\n")},
    {SAY_RCPT, TEXT("RCPT TO:<c@d> NOTIFY=NEVER,DELAY\r\n")},
    {SAY_CHUNK, TEXT("BDAT 3\r\nx\r\n")},
    {SAY_CHUNK, TEXT("BDAT 0\r\n")},
    {SAY_CHUNK, TEXT("BDAT 3\r\n\r\n.")},
    {SAY_CHUNK, TEXT("BDAT 1\r\n\r")},
    {SAY_CHUNK, TEXT("BDAT 1\r\n\n")},
    {SAY_CHUNK, TEXT("BDAT 6\r\nQUIT\r\n")},
    {SAY_CHUNK, TEXT("BDAT 301\r\n" X301)},
    {SAY_CHUNK, TEXT("BDAT 202\r\n" X100 "\r\n" X100)},
    {SAY_LAST_CHUNK, TEXT("BDAT 0 LAST\r\n")},
    {SAY_LAST_CHUNK, TEXT("BDAT 5 LAST\r\n\r\n.\r\n")},
    {SAY_LAST_CHUNK, TEXT("BDAT 6 LAST\r\nRSET\r\n")},
    {SAY_LAST_CHUNK, TEXT("BDAT 3 LAST\r\na\nb")},
    {SAY_OTHER, TEXT("AUTH PLAIN\r\n")},
    {SAY_OTHER, TEXT("AUTH PLAIN\r\n")},
    {SAY_OTHER, TEXT("AUTH LOGIN AGEAYg==\r\n")},
    {SAY_OTHER, TEXT("AUTH LOGIN A\r\n")},
    {SAY_OTHER, TEXT("AGEAYg==\r\n")},
    {SAY_AGAIN, TEXT("STARTTLS\r\n")},
    {SAY_AGAIN, TEXT("XCLIENT NAME=x ADDR=192.0.2.1\r\n")},
    {SAY_OTHER, TEXT("XFORWARD NAME=x\r\n")},
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
    bool exchange; /* an AUTH exchange is open */
    char body[4096];
    size_t body_bytes;
    unsigned accepted, chunked, authenticated, begun_again;
    char output[SMTP_SERVER_OUTPUT_BYTES + 200];
    struct buffer out;
};

static void model_reply(struct model *model, unsigned code)
{
    enum saying saying = model->said[model->first++ % 64];
    model->count--;
    bool good = code == 250; /* what is said inside an AUTH exchange may get 235 or 334 */
    if (saying == SAY_EHLO && good) {
        model->greeted = true;
        model->mail = false;
    } else if (saying == SAY_AGAIN && code == 220) {
        assert_false(model->mail);
        model->greeted = false;
    } else if (saying == SAY_MAIL) {
        assert_false(good && (model->mail || !model->greeted));
        model->mail |= good;
        model->recipients = good ? 0 : model->recipients;
    } else if (saying == SAY_RCPT) {
        assert_false(good && !model->mail);
        model->recipients += good;
    } else if (saying == SAY_DATA && code >= 354) {
        assert_false(code == 354 && (!model->mail || model->recipients == 0));
        model->mail &= code == 354 || code == 503 || code == 554 || code == 501; /* the driver's no ends it */
    } else if (saying == SAY_CHUNK) {
        assert_false(good && (!model->mail || model->recipients == 0));
        model->mail &= good;
    } else if (saying == SAY_LAST_CHUNK) {
        assert_false(good && (!model->mail || model->recipients == 0));
        model->mail = false;
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

/* Whatever the way it came, what is stored is one message for the reader of the wire form: all of it. */
static void check_body(const struct session *s)
{
    struct dot dot;
    dot_init(&dot, s->config.text_line_bytes_max);
    assert_int_equal(dot_scan(&dot, bytes_of(s->body, s->body_bytes)), s->body_bytes);
    assert_true(dot.ended && (s->server.binary || (dot.seen & DOT_BAD) == 0));
    assert_int_equal(dot_message_bytes(&dot), dot_message_bytes(&s->server.dot));
}

static void answer(struct session *s, enum smtp_server_event event)
{
    if (event == SMTP_SERVER_AUTH_STEP) {
        assert_true(s->server.auth.first != s->exchange && !s->driver_mail);
        s->exchange = false;
        s->authenticated++;
    }
    if (event == SMTP_SERVER_END) {
        check_body(s);
        s->chunked += s->server.chunked;
    }
    bool accept = rng_below(&s->rng, 4) != 0;
    if (buffer_room(&s->out) < REPLY_BYTES_MAX) {
        drain(s);
    }
    if (accept) {
        smtp_server_accept(&s->server, &s->out);
    } else if (event == SMTP_SERVER_AUTH_STEP && rng_below(&s->rng, 2)) {
        smtp_server_challenge(&s->server, &s->out, BYTES("challenge"));
        s->exchange = true;
    } else {
        smtp_server_refuse(&s->server, &s->out,
                           reply_of(rng_below(&s->rng, 2) ? REPLY_SPOOL_ERROR : REPLY_UNKNOWN_USER));
    }
    if (event == SMTP_SERVER_STARTTLS_ASKED && accept) {
        smtp_server_secured(&s->server);
        s->begun_again++;
    } else if (event == SMTP_SERVER_MAIL && accept) {
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
        s->accepted += accept;
        s->driver_mail = false;
    }
}

static void event_seen(struct session *s, enum smtp_server_event event)
{
    switch (event) {
    case SMTP_SERVER_WANT_LINE: s->server.line = realloc(s->server.line, s->server.line_bytes); break;
    case SMTP_SERVER_WANT_OUTPUT: drain(s); break;
    case SMTP_SERVER_BODY:
        assert_true(s->driver_mail && s->body_bytes + s->server.piece.length <= sizeof(s->body));
        memcpy(s->body + s->body_bytes, s->server.piece.data, s->server.piece.length);
        s->body_bytes += s->server.piece.length;
        break;
    case SMTP_SERVER_AUTH_CANCELLED:
        assert_true(s->exchange);
        s->exchange = false;
        break;
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

static bool is_chunk(enum saying saying)
{
    return saying == SAY_CHUNK || saying == SAY_LAST_CHUNK;
}

/* Half of the time anything, half of the time what leads on to a message. */
static size_t choose(struct session *s)
{
    bool anything = rng_below(&s->rng, 2) == 0;
    bool in_transaction = smtp_server_in_transaction(&s->server);
    enum saying next = !in_transaction ? SAY_MAIL : s->server.recipients == 0 ? SAY_RCPT : SAY_DATA;
    bool no_chunks = s->config.lmtp || s->exchange; /* their octets would be lines, each with its reply */
    if (s->server.chunked || (next == SAY_DATA && !no_chunks && rng_below(&s->rng, 2))) {
        next = rng_below(&s->rng, 3) == 0 ? SAY_LAST_CHUNK : SAY_CHUNK;
    }
    size_t choice;
    do {
        choice = (size_t)rng_below(&s->rng, sizeof(sayings) / sizeof(sayings[0]));
    } while (!anything ? sayings[choice].saying != next : no_chunks && is_chunk(sayings[choice].saying));
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
        for (uint32_t i = 0; i < (s->config.lmtp ? s->server.recipients : 1); i++) {
            s->model.said[(s->model.first + s->model.count++) % 64] = SAY_BODY; /* each will have its answer */
        }
        say(s, bodies[body].text);
        assert_false(smtp_server_in_transaction(&s->server));
        assert_true(bodies[body].good || s->accepted == accepted);
    }
}

static void test_envelope_is_complete_or_empty(void **state)
{
    (void)state;
    unsigned accepted = 0, chunked = 0, authenticated = 0, begun_again = 0;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        struct session s = {.config = small_config()};
        rng_seed(&s.rng, seed);
        if (seed % 4 == 0) { /* where the last chunk may have many answers: LMTP by DATA only, here */
            s.config.lmtp = true;
            s.config.extensions &= ~SMTP_SERVER_CHUNKING;
        }
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
        chunked += s.chunked;
        authenticated += s.authenticated;
        begun_again += s.begun_again;
        free(s.server.line);
    }
    print_message("%u accepted, %u by chunks, %u AUTH steps, %u STARTTLS\n", accepted, chunked, authenticated,
                  begun_again);
    assert_true(accepted > 1000 && chunked > 100 && authenticated > 100 &&
                begun_again > 100); /* it does get somewhere */
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
    config.recipients_max = config.mail_max = UINT32_MAX;
    config.future_release_seconds_max = config.deliver_by_seconds_min = 999999999;
    char mechanisms[SMTP_SERVER_MECHANISMS_BYTES_MAX];
    memset(mechanisms, 'M', sizeof(mechanisms));
    config.mechanisms_clear = bytes_of(mechanisms, sizeof(mechanisms));
    struct smtp_server server;
    smtp_server_init(&server, &config);
    server.now_s = UINT32_MAX;
    struct buffer out = buffer_of(space, sizeof(space));
    smtp_server_greet(&server, &out);
    assert_true(out.length <= LIMIT_REPLY_LINE_BYTES);
    out.length = 0;
    struct bytes input = BYTES("EHLO a\r\nMAIL FROM:<>\r\n");
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_HELO);
    assert_true(out.length > 850 && out.length <= SMTP_SERVER_OUTPUT_BYTES);
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

/* RFC 3207 4.2, CVE-2011-0411: whatever stands behind STARTTLS in the same input makes the machine refuse and close;
 * and when the event does come nothing is left of the input. */
static void test_plaintext_behind_starttls(void **state)
{
    (void)state;
    static const char text[] = "EHLO a\r\nSTARTTLS\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<b@c>\r\n";
    struct smtp_server_config config = small_config();
    for (size_t cut = 1; cut < sizeof(text); cut++) {
        struct smtp_server server;
        char space[4096], line[512];
        struct buffer out = buffer_of(space, sizeof(space));
        struct bytes input = bytes_of(text, cut);
        smtp_server_init(&server, &config);
        enum smtp_server_event event;
        while ((event = smtp_server_next(&server, &input, &out)) == SMTP_SERVER_HELO ||
               event == SMTP_SERVER_WANT_LINE) {
            server.line = line;
        }
        if (cut < sizeof("EHLO a\r\nSTARTTLS\r\n") - 1) {
            assert_int_equal(event, SMTP_SERVER_WANT_INPUT);
        } else if (cut == sizeof("EHLO a\r\nSTARTTLS\r\n") - 1) {
            assert_int_equal(event, SMTP_SERVER_STARTTLS_ASKED);
            assert_int_equal(input.length, 0);
        } else {
            assert_int_equal(event, SMTP_SERVER_CLOSE);
            assert_false(server.secure);
            assert_non_null(memmem(space, out.length, "\r\n503 5.5.1 ", 12));
            assert_null(memmem(space, out.length, "\r\n220", 5));
        }
    }
}

/* All that a client has to say, and the driver says yes. */
static void run(struct smtp_server *server, struct bytes input, struct buffer *out)
{
    enum smtp_server_event event;
    while ((event = smtp_server_next(server, &input, out)) != SMTP_SERVER_WANT_INPUT) {
        if (server->awaiting != 0) {
            smtp_server_accept(server, out);
        }
        out->length = 0;
    }
}

/* 21Nails, Postfix 20260805: a million chunks of one octet are one message, and leave nothing behind. */
static void test_a_million_chunks(void **state)
{
    (void)state;
    struct smtp_server_config config = small_config();
    config.message_bytes_max = 0;
    config.text_line_bytes_max = UINT32_MAX;
    struct smtp_server server;
    char space[SMTP_SERVER_OUTPUT_BYTES];
    struct buffer out = buffer_of(space, sizeof(space));
    smtp_server_init(&server, &config);
    run(&server, BYTES("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\n"), &out);
    for (int i = 0; i < 1000000; i++) {
        run(&server, BYTES("BDAT 1\r\nx"), &out);
    }
    assert_null(server.line);
    assert_int_equal(server.dot.bytes, 1000000);
    run(&server, BYTES("BDAT 0 LAST\r\n"), &out);
    assert_int_equal(dot_message_bytes(&server.dot), 1000002);
    assert_false(smtp_server_in_transaction(&server));
    for (int i = 0; i < 1000000; i++) {
        run(&server, BYTES("RSET\r\nBDAT 1\r\nx"), &out);
    }
    assert_null(server.line);
    assert_false(smtp_server_in_transaction(&server));
}

/* CVE-2018-6789: base64 of every length up to what a line holds and beyond, as a response in the machine's own block.
 */
static void test_auth_of_every_length(void **state)
{
    (void)state;
    struct smtp_server_config config = small_config();
    char space[SMTP_SERVER_OUTPUT_BYTES];
    struct buffer out = buffer_of(space, sizeof(space));
    static char text[12500];
    for (size_t length = 0; length < sizeof(text) - 2; length += length < 300 || length > 12000 ? 1 : 97) {
        struct smtp_server server;
        smtp_server_init(&server, &config);
        run(&server, BYTES("EHLO a\r\n"), &out);
        struct bytes input = BYTES("AUTH PLAIN\r\n");
        server.line = malloc(512);
        server.line_bytes = 512;
        assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_AUTH_STEP);
        smtp_server_challenge(&server, &out, BYTES(""));
        memset(text, 'A', length);
        memcpy(text + length, "\r\n", 2);
        input = bytes_of(text, length + 2);
        out.length = 0;
        enum smtp_server_event event = smtp_server_next(&server, &input, &out);
        if (event == SMTP_SERVER_WANT_LINE) {
            assert_true(length + 2 > 512 && length + 2 <= SMTP_SERVER_AUTH_LINE_BYTES_MAX);
            free(server.line);
            server.line = malloc(server.line_bytes);
            event = smtp_server_next(&server, &input, &out);
        }
        bool good = length % 4 == 0 && length + 2 <= SMTP_SERVER_AUTH_LINE_BYTES_MAX;
        assert_int_equal(event, good ? SMTP_SERVER_AUTH_STEP : SMTP_SERVER_AUTH_CANCELLED);
        assert_int_equal(good ? server.auth.response.length : 0, good ? length / 4 * 3 : 0);
        assert_memory_equal(space, length + 2 > SMTP_SERVER_AUTH_LINE_BYTES_MAX ? "500 5.5.6 " : "501 5.5.2 ",
                            good ? 0 : 10);
        free(server.line);
    }
}

/* The longest challenge fits into what a driver has to keep free. */
static void test_longest_challenge(void **state)
{
    (void)state;
    struct smtp_server_config config = small_config();
    struct smtp_server server;
    char space[SMTP_SERVER_OUTPUT_BYTES], line[512], challenge[SMTP_SERVER_CHALLENGE_BYTES_MAX] = {0};
    struct buffer out = buffer_of(space, sizeof(space));
    smtp_server_init(&server, &config);
    run(&server, BYTES("EHLO a\r\n"), &out);
    server.line = line;
    server.line_bytes = sizeof(line);
    struct bytes input = BYTES("AUTH PLAIN\r\n");
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_AUTH_STEP);
    smtp_server_challenge(&server, &out, bytes_of(challenge, sizeof(challenge)));
    assert_int_equal(out.length, 4 + 960 + 2);
}

/* Stopped while LMTP's answers go out: all recipients get theirs, and no 421 is taken for one. */
static void test_stop_between_answers(void **state)
{
    (void)state;
    struct smtp_server_config config = small_config();
    config.lmtp = true;
    struct smtp_server server;
    char space[4096];
    struct buffer out = buffer_of(space, sizeof(space));
    smtp_server_init(&server, &config);
    run(&server, BYTES("LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n"), &out);
    struct bytes input = BYTES(".\r\nNOOP\r\n");
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_BODY);
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_END);
    smtp_server_accept_text(&server, &out, BYTES("yes"));
    smtp_server_stop(&server, &out, reply_of(REPLY_SHUTDOWN));
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_CLOSE);
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("250 2.0.0 yes\r\n250 2.0.0 yes\r\n250 2.0.0 yes\r\n")));
}

/* A whole reply of the driver, as RFC 6710 wants it for a priority that was lowered. */
static void test_reply_of_the_driver(void **state)
{
    (void)state;
    struct smtp_server_config config = small_config();
    struct smtp_server server;
    char space[4096];
    struct buffer out = buffer_of(space, sizeof(space));
    smtp_server_init(&server, &config);
    run(&server, BYTES("EHLO a\r\n"), &out);
    struct bytes input = BYTES("MAIL FROM:<> MT-PRIORITY=9\r\n");
    assert_int_equal(smtp_server_next(&server, &input, &out), SMTP_SERVER_MAIL);
    struct reply reply = {.code = 250, .enhanced = {2, 3, 6}, .text = BYTES("0 is the new priority assigned")};
    smtp_server_accept_reply(&server, &out, &reply);
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("250 2.3.6 0 is the new priority assigned\r\n")));
    assert_true(smtp_server_in_transaction(&server));
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
        cmocka_unit_test(test_plaintext_behind_starttls),
        cmocka_unit_test(test_a_million_chunks),
        cmocka_unit_test(test_auth_of_every_length),
        cmocka_unit_test(test_longest_challenge),
        cmocka_unit_test(test_stop_between_answers),
        cmocka_unit_test(test_reply_of_the_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
