#include "core/stream_tls.h"

#include <sys/socket.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>

#include "base/rng.h"
#include "core/tls_session.h"
#include "unit/core/tls_parties.h"

#define BUFFERS 32
#define BUFFER_BYTES 2048

static struct tls_context *usual;
static struct tls_context *believing; /* in our authority */
static struct tls_context *gullible;

static bool is_clean(struct shard *shard, void *context)
{
    (void)context;
    return ring_buffers_free(shard->ring) == BUFFERS && list_empty(&shard->starved) && list_empty(&shard->later) &&
           shard->metrics->tls_sessions == 0;
}

static unsigned descriptors_before;

static int set_up(void **state)
{
    descriptors_before = loopback_descriptors();
    *state = shards_start(1, BUFFERS, BUFFER_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    struct shard_group *group = *state;
    assert_true(comes_true(group, is_clean, NULL));
    shards_stop(group);
    assert_int_equal(loopback_descriptors(), descriptors_before);
    return 0;
}

static char content[1 << 20];
static char received[1 << 20];

static struct party server_party(void)
{
    return (struct party){.manner = ECHO, .context = usual};
}

static struct party client_party(size_t bytes)
{
    return (struct party){.manner = CLIENT,
                          .context = believing,
                          .name = "mx.example.org",
                          .verify = TLS_VERIFY_NAME,
                          .say = content,
                          .say_bytes = bytes,
                          .got = received};
}

static void connect_them(struct shard_group *group, struct party *client, struct party *server)
{
    int ends[2];
    loopback_pair(ends);
    client->fd = ends[0];
    server->fd = ends[1];
    on_shard(group, party_open_and_start, server);
    on_shard(group, party_open_and_start, client);
    assert_int_equal(client->start_result, 0);
    assert_int_equal(server->start_result, 0);
    assert_true(comes_true(group, party_is_secured, client));
    assert_true(comes_true(group, party_is_secured, server));
}

static void expect_echo(struct shard_group *group, struct party *client)
{
    assert_true(comes_true(group, party_got_all, client));
    assert_string_equal(stream_tls_reason(&client->stream), "");
    assert_int_equal(client->stream.error, 0);
    assert_int_equal(client->got_bytes, client->say_bytes);
    assert_memory_equal(client->got, client->say, client->say_bytes);
}

/* --- it works ------------------------------------------------------------------------------------------------------
 */

static void test_every_octet_comes_back(void **state)
{
    static const size_t sizes[] = {1, 4096, 16384, 16385, 40000, sizeof content};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct party server = server_party();
        struct party client = client_party(sizes[i]);
        connect_them(*state, &client, &server);
        expect_echo(*state, &client);
        party_finish(*state, &client, false);
        assert_true(comes_true(*state, party_is_over, &server));
        assert_true(server.stream.eof); /* by close_notify, before any FIN */
        assert_int_equal(server.stream.error, 0);
        party_finish(*state, &server, false);
    }
}

static void test_facts(void **state)
{
    struct party server = server_party();
    struct party client = client_party(10);
    connect_them(*state, &client, &server);
    expect_echo(*state, &client);
    const struct tls_facts *of_client = stream_tls_facts(&client.stream);
    const struct tls_facts *of_server = stream_tls_facts(&server.stream);
    assert_string_equal(of_client->version, "TLSv1.3");
    assert_string_equal(of_client->cipher, "TLS_AES_128_GCM_SHA256");
    assert_int_equal(of_client->bits, 128);
    assert_true(of_client->verified && of_client->peer_certificate && !of_client->resumed);
    assert_string_equal(of_client->peer_name, "mx.example.org");
    assert_string_equal(of_client->peer_subject, "/O=Example/CN=mx.example.org");
    assert_string_equal(of_client->peer_problem, "");
    assert_string_equal(of_server->server_name, "mx.example.org");
    assert_string_equal(of_server->cipher, of_client->cipher);
    assert_false(of_server->peer_certificate || of_server->verified);
    assert_int_equal(of_server->exporter_bytes, TLS_EXPORTER_BYTES);
    assert_int_equal(of_server->server_end_point_bytes, 32);
    assert_int_equal(of_client->server_end_point_bytes, 32);
    assert_memory_equal(of_server->server_end_point, of_client->server_end_point, 32);
    assert_memory_equal(of_client->server_end_point, of_client->peer_fingerprint, 32); /* its signature has SHA-256 */
    party_finish(*state, &client, false);
    party_finish(*state, &server, true);
}

static void test_after_plaintext(void **state)
{
    struct party server = server_party();
    struct party client = client_party(100);
    server.after_plaintext = true;
    connect_them(*state, &client, &server);
    expect_echo(*state, &client);
    party_finish(*state, &client, true);
    party_finish(*state, &server, false);
}

/* --- what does not go together ---------------------------------------------------------------------------------------
 */

static bool has_input(struct shard *shard, void *context)
{
    (void)shard;
    return stream_input(&((struct party *)context)->stream).length != 0;
}

/* Plaintext that is there already must not become the beginning of a TLS session, on neither side. */
static void test_unread_plaintext_stops_it(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct party party = i == 0 ? server_party() : client_party(10);
        int ends[2];
        loopback_pair(ends);
        party.fd = ends[0];
        party.after_plaintext = true;
        on_shard(*state, party_open, &party);
        assert_true(loopback_write(ends[1], "NOOP\r\n", 6));
        assert_true(comes_true(*state, has_input, &party));
        on_shard(*state, party_start, &party);
        assert_int_equal(party.start_result, -EPROTO);
        assert_null(party.stream.tls);
        assert_int_equal(stream_input(&party.stream).length, 6); /* and nothing has changed */
        party_finish(*state, &party, false);
        close(ends[1]);
    }
}

static void test_a_maximum_of_sessions(void **state)
{
    struct party server = server_party();
    struct party client = client_party(10);
    tls_session_limit(2);
    assert_true(tls_session_room());
    connect_them(*state, &client, &server);
    assert_false(tls_session_room());
    struct party third = client_party(10);
    int ends[2];
    loopback_pair(ends);
    third.fd = ends[0];
    on_shard(*state, party_open_and_start, &third);
    assert_int_equal(third.start_result, -EBUSY);
    party_finish(*state, &third, false);
    party_finish(*state, &client, false);
    assert_true(tls_session_room());
    party_finish(*state, &server, false);
    tls_session_limit(0);
    close(ends[1]);
}

static void expect_server_refuses(struct shard_group *group, const void *data, size_t length, const char *reason,
                                  int alert)
{
    unsigned char answer[7] = {0};
    struct party server = server_party();
    int ends[2];
    loopback_pair(ends);
    server.fd = ends[0];
    assert_true(loopback_write(ends[1], data, length));
    on_shard(group, party_open_and_start, &server);
    assert_true(comes_true(group, party_is_over, &server));
    assert_int_equal(server.stream.error, -EPROTO);
    assert_string_equal(stream_tls_reason(&server.stream), reason);
    party_finish(group, &server, false);
    if (alert != 0) {
        const unsigned char expected[7] = {21, 3, 1, 0, 2, 2, (unsigned char)alert};
        assert_true(loopback_read(ends[1], answer, sizeof answer));
        assert_memory_equal(answer, expected, sizeof answer);
    } else {
        assert_false(loopback_read(ends[1], answer, 1));
    }
    close(ends[1]);
}

static void test_what_is_no_client_hello(void **state)
{
    static unsigned char large[TLS_BLOCK_BYTES] = {22, 3, 1, 0x40, 0, 1, 0, 0x60, 0};
    expect_server_refuses(*state, "EHLO me\r\n", 9, "no TLS", 0);
    expect_server_refuses(*state, "\x16\x03\x01\0\0", 5, "bad record length", 10);
    expect_server_refuses(*state, "\x15\x03\x01\0\x02\x02\x28", 7, "alert instead of ClientHello", 10);
    expect_server_refuses(*state, "\x80\x2e\x01\x03\x01", 5, "SSL 2 instead of TLS", 70);
    expect_server_refuses(*state, large, sizeof large, "ClientHello too long", 50);
}

/* --- the wire
 * ---------------------------------------------------------------------------------------------------------- */

static void test_pieces_of_any_size(void **state)
{
    static const size_t sizes[] = {1, 2, 3, 5, 17, 1000, 16384};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct party server = server_party();
        struct party client = client_party(sizes[i] < 100 ? 3000 : 100000);
        struct wire wire = {.piece = sizes[i]};
        wire_start(&wire, &client, &server);
        on_shard(*state, party_open_and_start, &server);
        on_shard(*state, party_open_and_start, &client);
        expect_echo(*state, &client);
        party_finish(*state, &client, false);
        pthread_join(wire.thread, NULL);
        assert_true(comes_true(*state, party_is_over, &server));
        party_finish(*state, &server, false);
    }
}

/* One conversation of 40 octets, cut after `at` octets of one direction. True when there was so much. */
static bool cut_at(struct shard_group *group, int direction, size_t at, bool reset)
{
    struct party server = server_party();
    struct party client = client_party(40);
    struct wire wire = {.piece = 65536, .reset = reset};
    wire.cut[direction] = at;
    wire_start(&wire, &client, &server);
    on_shard(group, party_open_and_start, &server);
    on_shard(group, party_open_and_start, &client);
    assert_true(comes_true(group, party_got_all, &client));
    bool all = client.got_bytes == 40;
    if (all) {
        party_finish(group, &client, at % 2 != 0);
    }
    assert_true(comes_true(group, party_is_over, &server));
    if (!all) {
        party_finish(group, &client, at % 2 != 0);
    }
    party_finish(group, &server, at % 3 == 0);
    pthread_join(wire.thread, NULL);
    return wire.carried[direction] == at;
}

/* FIN and RST at every place up to and behind the end of the conversation: both sides come to an end, and nothing is
 * left (tear_down). */
static void test_cuts_at_every_octet(void **state)
{
    for (int direction = 0; direction < 2; direction++) {
        size_t at = 1;
        while (cut_at(*state, direction, at, at % 2 == 0)) {
            at++;
        }
        assert_in_range(at, 300, 4000);
    }
}

/* --- pressure
 * ----------------------------------------------------------------------------------------------------------- */

static bool is_at_rest(struct shard *shard, void *context)
{
    const struct stream *stream = &((struct party *)context)->stream;
    (void)shard;
    return stream->secured && stream->buffers != 0 && !stream->receive.in_flight;
}

static void start_to_echo(struct shard *shard, void *context)
{
    struct party *party = context;
    (void)shard;
    party->manner = ECHO;
    party_echo(party);
}

/* A driver that does not read: one block of plaintext, some buffers, then the socket fills up; and when it reads, all
 * is there. */
static void test_unread_input_is_bounded(void **state)
{
    struct party server = server_party();
    struct party client = client_party(sizeof content);
    server.manner = IGNORE;
    connect_them(*state, &client, &server);
    assert_true(comes_true(*state, is_at_rest, &server));
    usleep(20000);
    assert_in_range(server.stream.received_bytes, 1, TLS_BLOCK_BYTES + 20000 + BUFFERS * BUFFER_BYTES);
    on_shard(*state, start_to_echo, &server);
    expect_echo(*state, &client);
    party_finish(*state, &client, false);
    party_finish(*state, &server, false);
}

static void say_again(struct shard *shard, void *context)
{
    struct party *party = context;
    (void)shard;
    struct iovec piece = {.iov_base = content, .iov_len = sizeof content};
    stream_send(&party->stream, &piece, 1);
}

/* The server has more to say than the client, which does not read, and the sockets take. */
static void stop_in_the_middle(struct shard_group *group, struct party *client, struct party *server)
{
    connect_them(group, client, server);
    int bytes = 4096;
    setsockopt(server->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    client->manner = IGNORE;
    on_shard(group, say_again, server);
    assert_true(comes_true(group, is_at_rest, client));
    usleep(20000);
    assert_true(stream_sending(&server->stream));
}

/* A peer that does not read: what is encrypted ahead of it is one block. */
static void test_unsent_output_is_bounded(void **state)
{
    struct party server = server_party();
    struct party client = client_party(0);
    stop_in_the_middle(*state, &client, &server);
    uint64_t before = server.stream.sent_bytes;
    assert_in_range(before, 1, 700000);
    party_finish(*state, &server, false); /* with a send in flight: no close_notify, but an end */
    assert_true(comes_true(*state, is_at_rest, &client));
    party_finish(*state, &client, true);
}

static size_t unsent;

static void note_unsent(struct stream *stream)
{
    unsent = stream->unsent;
}

static void start_to_read(struct shard *shard, void *context)
{
    struct party *party = context;
    (void)shard;
    party->manner = CLIENT;
    party->said = true;
    party_converse(party);
}

/* A send that ends in the middle: what counts as sent is what the peer can decrypt. */
static void test_what_is_unsent_cannot_be_read(void **state)
{
    struct party server = server_party();
    struct party client = client_party(0);
    stop_in_the_middle(*state, &client, &server);
    server.stream.joined = note_unsent;
    party_finish(*state, &server, false);
    assert_in_range(unsent, 1, sizeof content - 1);
    client.say_bytes = sizeof content;
    on_shard(*state, start_to_read, &client);
    assert_true(comes_true(*state, party_is_over, &client));
    assert_int_equal(client.got_bytes, sizeof content - unsent);
    assert_memory_equal(client.got, content, client.got_bytes);
    party_finish(*state, &client, true);
}

/* A client of its own, on a descriptor. */
struct hand_made {
    struct tls_session session;
    int fd;
};

static size_t pull_from_socket(struct tls_session *session, void *data, size_t length)
{
    ssize_t got = recv(CONTAINER_OF(session, struct hand_made, session)->fd, data, length, MSG_DONTWAIT);
    return got > 0 ? (size_t)got : 0;
}

static void push_to_socket(struct hand_made *client)
{
    struct bytes output = tls_session_output(&client->session);
    ssize_t sent = send(client->fd, output.data, output.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
        tls_session_sent(&client->session, (size_t)sent);
    } else {
        usleep(1000);
    }
}

static void shake_hands(struct hand_made *client)
{
    assert_int_equal(tls_session_init_client(&client->session, gullible, "", TLS_VERIFY_NONE, pull_from_socket), 0);
    while (client->session.phase < TLS_PHASE_OPEN || tls_session_output(&client->session).length != 0) {
        tls_session_advance(&client->session);
        push_to_socket(client);
    }
}

/* Asks for answers, with an octet of content to each, so that it looks alive. */
static void ask_for_answers(struct hand_made *client, unsigned number)
{
    for (unsigned i = 0; i < number; i++) {
        struct iovec piece = {.iov_base = content, .iov_len = 1};
        struct iovec *next = &piece;
        size_t count = 1;
        assert_int_equal(wolfSSL_update_keys(client->session.engine), WOLFSSL_SUCCESS);
        assert_int_equal(tls_session_write(&client->session, &next, &count), 0);
    }
}

struct look {
    struct party *party;
    bool over;
    unsigned free_buffers;
    char reason[TLS_REASON_BYTES];
};

static void look_whether_over(struct shard *shard, void *context)
{
    struct look *look = context;
    look->over = party_is_over(shard, look->party);
}

static void take_what_comes(struct shard *shard, void *context)
{
    struct party *party = context;
    (void)shard;
    party->manner = CLIENT; /* only keeps */
    party->got = received;
    party->say_bytes = sizeof received;
    party->said = true;
}

static void copy_reason(struct shard *shard, void *context)
{
    struct look *look = context;
    snprintf(look->reason, sizeof look->reason, "%s", stream_tls_reason(&look->party->stream));
    look->free_buffers = ring_buffers_free(shard->ring);
}

/* A peer that makes the library answer, and reads no answer: when there is no room for more of them it is told to go.
 * The driver has nothing under way and would wait for the next command, and what lies in the receive buffers meanwhile
 * would be missing elsewhere. */
static void test_unread_answers_do_not_hoard(void **state)
{
    struct party server = server_party();
    static struct hand_made client;
    int ends[2];
    int bytes = 4096; /* for the answers; not TCP, which drops what comes to a closed window, acknowledgements too */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    server.fd = ends[1];
    client = (struct hand_made){.fd = ends[0]};
    on_shard(*state, party_open_and_start, &server);
    shake_hands(&client);
    assert_true(comes_true(*state, party_is_secured, &server));
    on_shard(*state, take_what_comes, &server);
    struct look look = {.party = &server};
    for (unsigned tries = 0; tries < 10000 && !look.over; tries++) {
        if (tls_session_output(&client.session).length == 0) {
            ask_for_answers(&client, 100);
        }
        push_to_socket(&client);
        on_shard(*state, look_whether_over, &look);
    }
    assert_true(look.over);
    on_shard(*state, copy_reason, &look);
    assert_string_equal(look.reason, "the peer asks for answers and reads none");
    assert_int_equal(look.free_buffers, BUFFERS);
    party_finish(*state, &server, true);
    tls_session_free(&client.session);
    close(ends[0]);
}

int main(void)
{
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < sizeof content; i++) {
        content[i] = (char)rng_next(&rng);
    }
    usual = usual_server_context();
    believing = client_context(tls_files_path("authority.pem"));
    gullible = client_context(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_octet_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_facts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_after_plaintext, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unread_plaintext_stops_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_maximum_of_sessions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_client_hello, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pieces_of_any_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cuts_at_every_octet, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unread_input_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unsent_output_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_unsent_cannot_be_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unread_answers_do_not_hoard, set_up, tear_down),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tls_context_give(usual);
    tls_context_give(believing);
    tls_context_give(gullible);
    return failed;
}
