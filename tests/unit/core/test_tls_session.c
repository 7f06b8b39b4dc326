/* Two sessions, memory to memory: what a peer can do that no well-behaved library would. */
#include "core/tls_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>

#include "support/tls_files.h"

struct end {
    struct tls_session session;
    struct end *other;
    size_t pulled;
    bool deaf; /* takes nothing */
};

static struct tls_context *server_context;
static struct tls_context *client_context;

static size_t pull(struct tls_session *session, void *data, size_t length)
{
    struct end *end = CONTAINER_OF(session, struct end, session);
    struct bytes from = tls_session_output(&end->other->session);
    size_t n = from.length < length ? from.length : length;
    if (n == 0 || end->deaf) {
        return 0;
    }
    memcpy(data, from.data, n);
    tls_session_sent(&end->other->session, n);
    end->pulled += n;
    return n;
}

static void make_pair(struct end *server, struct end *client)
{
    *server = (struct end){.other = client};
    *client = (struct end){.other = server};
    assert_int_equal(tls_session_init_server(&server->session, server_context, pull), 0);
    assert_int_equal(tls_session_init_client(&client->session, client_context, "", TLS_VERIFY_NONE, pull), 0);
    for (int i = 0; i < 6; i++) {
        tls_session_advance(&client->session);
        tls_session_advance(&server->session);
    }
    tls_session_advance(&client->session); /* the tickets */
    assert_int_equal(client->session.phase, TLS_PHASE_OPEN);
    assert_int_equal(server->session.phase, TLS_PHASE_OPEN);
    assert_null(server->session.output);
    assert_null(server->session.input);
}

static void free_pair(struct end *server, struct end *client)
{
    tls_session_free(&server->session);
    tls_session_free(&client->session);
}

static void say(struct end *end, const char *text)
{
    union {
        const char *constant;
        void *variable;
    } pointer = {.constant = text};
    struct iovec piece = {.iov_base = pointer.variable, .iov_len = strlen(text)};
    struct iovec *next = &piece;
    size_t count = 1;
    assert_int_equal(tls_session_write(&end->session, &next, &count), 0);
    assert_int_equal(count, 0);
}

static void expect(struct end *end, const char *text)
{
    tls_session_advance(&end->session);
    struct bytes input = tls_session_input(&end->session);
    assert_int_equal(input.length, strlen(text));
    assert_memory_equal(input.data, text, input.length);
    tls_session_consume(&end->session, input.length);
    assert_null(end->session.input); /* nothing is held while there is nothing to read */
}

/* Key updates that ask for an answer, from a peer that never reads: the answers stand in one block, and then nothing
 * more is taken from it. When it reads, all goes on. */
static void test_answers_are_bounded(void **state)
{
    (void)state;
    static struct end server;
    static struct end client;
    make_pair(&server, &client);
    client.deaf = true;
    unsigned updates = 0;
    for (size_t before = SIZE_MAX; before != server.pulled; updates++) {
        before = server.pulled;
        say(&client, "x");
        assert_int_equal(wolfSSL_update_keys(client.session.engine), WOLFSSL_SUCCESS);
        tls_session_advance(&server.session);
        if (tls_session_input(&server.session).length != 0) {
            tls_session_consume(&server.session, tls_session_input(&server.session).length);
        }
        tls_session_advance(&server.session);
    }
    assert_in_range(updates, 100, 2000);
    assert_int_equal(server.session.phase, TLS_PHASE_OPEN);
    assert_in_range(tls_session_output(&server.session).length, TLS_BLOCK_BYTES / 2, TLS_BLOCK_BYTES);
    client.deaf = false;
    tls_session_advance(&client.session);
    assert_int_equal(tls_session_output(&server.session).length, 0);
    tls_session_advance(&server.session);
    while (tls_session_input(&server.session).length != 0) {
        tls_session_consume(&server.session, tls_session_input(&server.session).length);
        tls_session_advance(&server.session);
    }
    say(&client, "hello");
    expect(&server, "hello");
    free_pair(&server, &client);
}

/* The same with a peer that reads, and never says anything: it is told to go. */
static void test_nothing_but_key_updates(void **state)
{
    (void)state;
    static struct end server;
    static struct end client;
    make_pair(&server, &client);
    for (unsigned i = 0; i < 10000 && server.session.phase == TLS_PHASE_OPEN; i++) {
        assert_int_equal(wolfSSL_update_keys(client.session.engine), WOLFSSL_SUCCESS);
        tls_session_advance(&server.session);
        tls_session_advance(&client.session);
    }
    assert_int_equal(server.session.phase, TLS_PHASE_FAILED);
    assert_int_equal(server.session.error, -EPROTO);
    assert_string_equal(server.session.reason, "too much without content");
    assert_in_range(server.pulled, 64 * 1024, 80 * 1024);
    free_pair(&server, &client);
}

static void test_close_notify(void **state)
{
    (void)state;
    static struct end server;
    static struct end client;
    make_pair(&server, &client);
    say(&client, "last");
    tls_session_goodbye(&client.session);
    tls_session_goodbye(&client.session); /* says it once */
    tls_session_advance(&server.session);
    assert_int_equal(server.session.phase, TLS_PHASE_ENDED);
    assert_int_equal(tls_session_input(&server.session).length, 4); /* what came before it is there to be read */
    tls_session_consume(&server.session, 4);
    say(&server, "bye"); /* the other direction is still open */
    tls_session_goodbye(&server.session);
    assert_true(tls_session_output(&server.session).length != 0);
    free_pair(&server, &client);
}

/* Pieces of all sizes become few records, and come out as they went in. */
static void test_gathering(void **state)
{
    (void)state;
    static struct end server;
    static struct end client;
    static uint8_t out[60000];
    make_pair(&server, &client);
    for (size_t i = 0; i < sizeof out; i++) {
        out[i] = (uint8_t)(i * 31 + i / 256);
    }
    struct iovec pieces[] = {{out, 10},        {out + 10, 1},       {out + 11, 0},
                             {out + 11, 9000}, {out + 9011, 50980}, {out + 59991, 9}};
    struct iovec *next = pieces;
    size_t count = sizeof pieces / sizeof *pieces;
    size_t at = 0;
    while (at < sizeof out) {
        assert_int_equal(tls_session_write(&client.session, &next, &count), 0);
        assert_in_range(tls_session_output(&client.session).length, 1, TLS_BLOCK_BYTES);
        tls_session_advance(&server.session);
        struct bytes input = tls_session_input(&server.session);
        assert_true(input.length != 0 && at + input.length <= sizeof out);
        assert_memory_equal(input.data, out + at, input.length);
        at += input.length;
        tls_session_consume(&server.session, input.length);
    }
    assert_int_equal(count, 0);
    free_pair(&server, &client);
}

int main(void)
{
    char reason[256];
    struct tls_certificate certificate = {.chain_file = tls_files_path("ecdsa.pem"),
                                          .key_file = tls_files_path("ecdsa.key")};
    struct tls_server_settings server = {
        .certificates = &certificate, .certificates_count = 1, .ticket_key_seconds = 3600};
    struct tls_client_settings client = {.trust = false};
    if (tls_context_new_server(&server, &server_context, reason, sizeof reason) != 0 ||
        tls_context_new_client(&client, &client_context, reason, sizeof reason) != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_bounded),
        cmocka_unit_test(test_nothing_but_key_updates),
        cmocka_unit_test(test_close_notify),
        cmocka_unit_test(test_gathering),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tls_context_give(server_context);
    tls_context_give(client_context);
    return failed;
}
