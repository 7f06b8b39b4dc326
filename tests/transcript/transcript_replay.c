#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/limits.h"
#include "transcript/transcript.h"

/* The driver of the tests. It is as unkind as the contract allows: input and line block are heap blocks of exactly the
 * promised size, given back at the first moment at which they may be, so that an address sanitizer sees every overrun
 * and every stale pointer. */

struct replay {
    const struct transcript *transcript;
    struct smtp_server server;
    size_t next; /* the next entry that is expected; CLIENT entries are passed over */
    char output[4096];
    struct buffer out;
    bool codes_optional; /* the reply may come without an enhanced status code: greeting, EHLO and HELO */
    bool in_transaction; /* what the driver believes; must always be what the machine says */
    bool closed;
    char *body;
    size_t body_length;
    size_t body_capacity;
};

static void print_escaped(const char *title, struct bytes text)
{
    fprintf(stderr, "  %s: ", title);
    for (size_t i = 0; i < text.length && i < 300; i++) {
        unsigned char c = (unsigned char)text.data[i];
        fprintf(stderr, c < ' ' || c > '~' ? "\\x%02x" : "%c", c);
    }
    fprintf(stderr, text.length > 300 ? "... (%zu octets)\n" : "\n", text.length);
}

static struct transcript_entry *expected(struct replay *r)
{
    const struct transcript *t = r->transcript;
    while (r->next < t->count && t->entries[r->next].kind == TRANSCRIPT_CLIENT) {
        r->next++;
    }
    return r->next < t->count ? &t->entries[r->next] : NULL;
}

/* Compares what happened with what was written. Returns the entry. */
static const struct transcript_entry *happened(struct replay *r, enum transcript_kind kind, struct bytes text)
{
    struct transcript_entry *entry = expected(r);
    bool prefix = kind == TRANSCRIPT_SERVER || (entry != NULL && entry->prefix);
    bool same = entry != NULL && entry->kind == kind && text.length >= entry->length &&
                (prefix || text.length == entry->length) && memcmp(text.data, entry->data, entry->length) == 0;
    if (same && kind == TRANSCRIPT_SERVER && text.length > entry->length) {
        same = text.data[entry->length] == ' ' || strchr(" -", entry->data[entry->length - 1]) != NULL;
    }
    if (!same) {
        fprintf(stderr, "%s:%d:\n", r->transcript->path, entry == NULL ? 0 : entry->line);
        print_escaped("expected", entry == NULL ? BYTES("nothing more") : bytes_of(entry->data, entry->length));
        print_escaped(kind == TRANSCRIPT_SERVER ? "reply" : "event", text);
        fail_msg("not as written");
    }
    r->next++;
    return entry;
}

/* What holds for every reply line whatever it says. */
static void check_reply_line(const struct replay *r, struct bytes line)
{
    assert_true(line.length + 2 <= LIMIT_REPLY_LINE_BYTES && line.length >= 4);
    for (size_t i = 0; i < line.length; i++) {
        assert_true(line.data[i] >= ' ' && line.data[i] <= '~');
    }
    assert_true(line.data[0] >= '2' && line.data[0] <= '5' && (line.data[3] == ' ' || line.data[3] == '-'));
    if (!r->codes_optional && line.data[0] != '3') {
        assert_true(line.length > 9 && line.data[4] == line.data[0] && line.data[5] == '.');
    }
}

static void drain(struct replay *r)
{
    struct bytes rest = buffer_bytes(&r->out);
    while (rest.length != 0) {
        const char *lf = memchr(rest.data, '\n', rest.length);
        assert_true(lf != NULL && lf > rest.data && lf[-1] == '\r');
        struct bytes line = bytes_of(rest.data, (size_t)(lf - 1 - rest.data));
        bytes_advance(&rest, line.length + 2);
        check_reply_line(r, line);
        happened(r, TRANSCRIPT_SERVER, line);
    }
    r->out.length = 0;
    r->codes_optional = false;
}

static void answer(struct replay *r, enum smtp_server_event event, const struct transcript_entry *entry)
{
    struct smtp_server *s = &r->server;
    bool refused = entry->refusal.code != 0;
    if (entry->stop) {
        smtp_server_stop(s, &r->out, reply_of(REPLY_SHUTDOWN));
    } else if (entry->refusal.code == 334) {
        smtp_server_challenge(s, &r->out, entry->refusal.text);
    } else if (refused) {
        smtp_server_refuse(s, &r->out, &entry->refusal);
    } else {
        smtp_server_accept(s, &r->out);
        r->codes_optional = event == SMTP_SERVER_XCLIENT_GIVEN; /* a greeting */
        if (event == SMTP_SERVER_STARTTLS_ASKED) {
            smtp_server_secured(s);
        }
    }
    if (event == SMTP_SERVER_MAIL && !refused && !entry->stop) {
        r->in_transaction = true;
    } else if (!entry->stop && (event == SMTP_SERVER_END || (event == SMTP_SERVER_DATA && refused))) {
        r->in_transaction = false;
    }
}

static void take_body(struct replay *r)
{
    struct bytes piece = r->server.piece;
    if (r->body_length + piece.length > r->body_capacity) {
        r->body_capacity = 2 * (r->body_length + piece.length);
        r->body = realloc(r->body, r->body_capacity);
        assert_non_null(r->body);
    }
    memcpy(r->body + r->body_length, piece.data, piece.length);
    r->body_length += piece.length;
}

/* The whole message, as one event before END. */
static void log_body(struct replay *r)
{
    assert_int_equal(r->body_length, r->server.dot.bytes);
    char *text = malloc(r->body_length + 5);
    assert_non_null(text);
    memcpy(text, "BODY ", 5);
    memcpy(text + 5, r->body, r->body_length);
    happened(r, TRANSCRIPT_EVENT, bytes_of(text, r->body_length + 5));
    free(text);
}

static void handle(struct replay *r, enum smtp_server_event event)
{
    static char space[2 * SMTP_SERVER_AUTH_LINE_BYTES_MAX];
    struct buffer text = buffer_of(space, sizeof(space));
    if (event == SMTP_SERVER_END) {
        log_body(r);
    }
    transcript_describe(&r->server, event, &text);
    if (event == SMTP_SERVER_HELO) {
        assert_false(r->in_transaction);
    }
    if (event == SMTP_SERVER_DROPPED) {
        assert_true(r->in_transaction);
        r->in_transaction = false;
    }
    const struct transcript_entry *entry = happened(r, TRANSCRIPT_EVENT, buffer_bytes(&text));
    if (r->server.awaiting != 0) {
        assert_int_equal(r->out.length, 0);
        answer(r, event, entry);
    }
    if (event == SMTP_SERVER_DATA || event == SMTP_SERVER_DROPPED) {
        r->body_length = 0;
    }
    r->closed = event == SMTP_SERVER_CLOSE;
}

/* A new block of the size that the machine wants, with what was in the old one. */
static void enlarge_line(struct smtp_server *s)
{
    char *line = malloc(s->line_bytes);
    assert_true(line != NULL && s->line_length < s->line_bytes);
    if (s->line_length != 0) {
        memcpy(line, s->line, s->line_length);
    }
    free(s->line);
    s->line = line;
}

/* Gives the machine one input, in a block of its own. */
static void feed(struct replay *r, struct bytes octets)
{
    char *block = malloc(octets.length);
    assert_true(block != NULL && octets.length != 0);
    memcpy(block, octets.data, octets.length);
    struct bytes input = bytes_of(block, octets.length);
    while (!r->closed) {
        enum smtp_server_event event = smtp_server_next(&r->server, &input, &r->out);
        r->codes_optional = event == SMTP_SERVER_HELO;
        drain(r);
        if (event == SMTP_SERVER_WANT_INPUT) {
            assert_int_equal(input.length, 0);
            break;
        } else if (event == SMTP_SERVER_WANT_LINE) {
            enlarge_line(&r->server);
        } else if (event == SMTP_SERVER_WANT_OUTPUT) {
            assert_int_equal(r->out.length, 0); /* what was in it has just gone */
        } else if (event == SMTP_SERVER_BODY) {
            take_body(r);
        } else {
            handle(r, event);
            drain(r);
        }
        assert_int_equal(r->in_transaction, smtp_server_in_transaction(&r->server));
    }
    if (r->server.line_length == 0) {
        free(r->server.line);
        r->server.line = NULL;
    }
    free(block);
}

static void begin(struct replay *r, const struct transcript *t)
{
    *r = (struct replay){.transcript = t, .codes_optional = true};
    r->out = buffer_of(r->output, sizeof(r->output));
    smtp_server_init(&r->server, &t->config);
    r->server.now_s = t->now_s;
    if (t->stranger) {
        r->server.extensions &= ~(SMTP_SERVER_XCLIENT | SMTP_SERVER_XFORWARD);
    }
    if (t->secure) {
        smtp_server_secured(&r->server);
    }
    if (t->refusing_greeting.code != 0) {
        smtp_server_greet_refusing(&r->server, &r->out, &t->refusing_greeting);
    } else {
        smtp_server_greet(&r->server, &r->out);
    }
    drain(r);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void feed_cut(struct replay *r, struct bytes all, enum transcript_cut cut, uint64_t seed)
{
    while (all.length != 0) {
        size_t length = all.length;
        if (cut == TRANSCRIPT_OCTETS) {
            length = 1;
        } else if (cut == TRANSCRIPT_RANDOM) {
            length = 1 + (size_t)(next_random(&seed) % (next_random(&seed) % 4 == 0 ? 700 : 12));
        }
        length = length < all.length ? length : all.length;
        feed(r, bytes_slice(all, 0, length));
        bytes_advance(&all, length);
    }
}

/* What the client says from entry *i on that may come in one input. *i becomes the next that may not. */
static struct buffer all_that_the_client_says(const struct transcript *t, size_t *i)
{
    size_t end = *i, length = 0;
    do {
        length += t->entries[end].kind == TRANSCRIPT_CLIENT ? t->entries[end].length : 0;
        end++;
    } while (end < t->count && !t->entries[end].apart);
    struct buffer all = buffer_of(malloc(length + 1), length);
    for (; *i < end; (*i)++) {
        if (t->entries[*i].kind == TRANSCRIPT_CLIENT) {
            assert_true(buffer_append(&all, bytes_of(t->entries[*i].data, t->entries[*i].length)));
        }
    }
    return all;
}

void transcript_replay(const struct transcript *t, enum transcript_cut cut, uint64_t seed)
{
    struct replay r;
    begin(&r, t);
    if (cut == TRANSCRIPT_LINES) {
        for (size_t i = 0; i < t->count; i++) {
            if (t->entries[i].kind == TRANSCRIPT_CLIENT) {
                if (r.next < i) {
                    expected(&r);
                }
                assert_true(r.next >= i); /* everything written above has happened */
                feed(&r, bytes_of(t->entries[i].data, t->entries[i].length));
            }
        }
    } else {
        for (size_t i = 0; i < t->count;) {
            struct buffer all = all_that_the_client_says(t, &i);
            feed_cut(&r, buffer_bytes(&all), cut, seed);
            free(all.data);
        }
    }
    struct transcript_entry *missing = expected(&r);
    if (missing != NULL) {
        print_escaped("still expected", bytes_of(missing->data, missing->length));
        fail_msg("%s:%d: did not happen", t->path, missing->line);
    }
    free(r.server.line);
    free(r.body);
}
