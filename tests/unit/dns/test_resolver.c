/* The resolver on a real shard, asking a server of our own on loopback that misbehaves by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dns/mx.h"
#include "unit/dns/dns_packet.h"

/* --- the server ------------------------------------------------------------------------------------------------- */

struct server {
    int udp;
    int tcp;
    struct config_endpoint endpoint;
    pthread_t thread;
    atomic_bool stop;
    atomic_uint queries; /* UDP and TCP */
    atomic_uint tcp_queries;
    unsigned lossy; /* questions of that name so far */
    unsigned garbage;
    struct dns_packet query;
    struct dns_packet reply;
};

static struct server server;

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* The question's name as text, and its type. */
static unsigned read_question(char *name, size_t size)
{
    size_t at = 12;
    size_t length = 0;
    while (server.query.data[at] != 0 && length + server.query.data[at] + 2 < size) {
        size_t label = server.query.data[at];
        memcpy(name + length, server.query.data + at + 1, label);
        length += label;
        name[length++] = '.';
        at += label + 1;
    }
    name[length == 0 ? 0 : length - 1] = '\0';
    return dns_packet_get16(&server.query, at + 1);
}

static void put_many_mx(const char *name)
{
    char host[300];
    for (unsigned i = 0; i < 50; i++) {
        snprintf(host, sizeof host, "mx%u.a-rather-long-name-to-fill-the-reply.%.200s", i, name);
        dns_packet_mx(&server.reply, name, 300, i, host);
    }
}

static void put_answer(const char *name, unsigned type)
{
    if (type == 15 && begins(name, "big")) {
        put_many_mx(name);
    } else if (type == 15 && !begins(name, "host")) {
        dns_packet_mx(&server.reply, name, 300, 10, "host1.example");
        dns_packet_mx(&server.reply, name, 300, 20, "host2.example");
    } else if (type == 1 && begins(name, "host")) {
        dns_packet_a(&server.reply, name, 300, 0xc0000201);
    } else {
        dns_packet_soa(&server.reply, "example", 60, 60);
    }
}

static unsigned flags_for(const char *name)
{
    if (begins(name, "servfail")) {
        return DNS_PACKET_REPLY | 2;
    }
    if (begins(name, "refused")) {
        return DNS_PACKET_REPLY | 5;
    }
    if (begins(name, "gone")) {
        return DNS_PACKET_REPLY | 3;
    }
    return DNS_PACKET_REPLY | (begins(name, "secure") ? 0x20 : 0);
}

static void build_reply(const char *name, unsigned type, unsigned id)
{
    unsigned flags = flags_for(name);
    dns_packet_begin(&server.reply, flags, name, type);
    if ((flags & 15) == 0) {
        put_answer(name, type);
    }
    if (begins(name, "malformed")) {
        server.reply.length -= 3;
    }
    dns_packet_set16(&server.reply, 0, id);
}

static void send_to(const struct sockaddr_in *peer)
{
    sendto(server.udp, server.reply.data, server.reply.length, 0, (const struct sockaddr *)peer, sizeof *peer);
}

/* What a forger or a broken server would send before, or instead of, the reply. */
static bool misbehave(const struct sockaddr_in *peer, const char *name, unsigned type, unsigned id)
{
    if (begins(name, "dead") || (begins(name, "lossy") && server.lossy++ == 0)) {
        return true;
    }
    if (begins(name, "garbage") && server.garbage++ == 0) {
        sendto(server.udp, "\xff\xff\xff", 3, 0, (const struct sockaddr *)peer, sizeof *peer);
        sendto(server.udp, "", 0, 0, (const struct sockaddr *)peer, sizeof *peer);
    }
    if (begins(name, "forged")) {
        build_reply("forged", type, id ^ 1);
        send_to(peer);
        build_reply("other.example", type, id);
        send_to(peer);
    }
    if (begins(name, "big")) {
        dns_packet_begin(&server.reply, DNS_PACKET_REPLY | 0x0200, name, type);
        dns_packet_set16(&server.reply, 0, id);
        send_to(peer);
        return true;
    }
    if (begins(name, "old") && dns_packet_get16(&server.query, DNS_PACKET_ADDITIONAL) != 0) { /* knows no EDNS */
        dns_packet_begin(&server.reply, DNS_PACKET_REPLY | 1, name, type);
        dns_packet_set16(&server.reply, 0, id);
        send_to(peer);
        return true;
    }
    return false;
}

static void serve_udp(void)
{
    char name[256];
    struct sockaddr_in peer;
    socklen_t peer_length = sizeof peer;
    ssize_t length = recvfrom(server.udp, server.query.data, sizeof server.query.data, 0, (struct sockaddr *)&peer,
                              &peer_length);
    if (length < 17) {
        return;
    }
    atomic_fetch_add(&server.queries, 1);
    unsigned type = read_question(name, sizeof name);
    unsigned id = dns_packet_get16(&server.query, 0);
    if (!misbehave(&peer, name, type, id)) {
        build_reply(name, type, id);
        send_to(&peer);
    }
}

static void serve_tcp(void)
{
    char name[256];
    uint8_t head[2];
    int fd = accept(server.tcp, NULL, NULL);
    CHECK(fd >= 0);
    if (recv(fd, head, 2, MSG_WAITALL) == 2) {
        size_t length = (size_t)head[0] << 8 | head[1];
        if (recv(fd, server.query.data, length, MSG_WAITALL) == (ssize_t)length) {
            atomic_fetch_add(&server.queries, 1);
            atomic_fetch_add(&server.tcp_queries, 1);
            unsigned type = read_question(name, sizeof name);
            build_reply(name, type, dns_packet_get16(&server.query, 0));
            head[0] = (uint8_t)(server.reply.length >> 8);
            head[1] = (uint8_t)server.reply.length;
            send(fd, head, 2, MSG_NOSIGNAL);
            send(fd, server.reply.data, server.reply.length, MSG_NOSIGNAL);
        }
    }
    close(fd);
}

static void *serve(void *context)
{
    while (!atomic_load(&server.stop)) {
        struct pollfd fds[] = {{.fd = server.udp, .events = POLLIN}, {.fd = server.tcp, .events = POLLIN}};
        poll(fds, 2, 20);
        if ((fds[0].revents & POLLIN) != 0) {
            serve_udp();
        }
        if ((fds[1].revents & POLLIN) != 0) {
            serve_tcp();
        }
    }
    return context;
}

/* The same free port by UDP and TCP. */
static void open_sockets(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    for (;;) {
        address.sin_port = 0;
        server.udp = socket(AF_INET, SOCK_DGRAM, 0);
        server.tcp = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(bind(server.udp, (struct sockaddr *)&address, sizeof address) == 0);
        CHECK(getsockname(server.udp, (struct sockaddr *)&address, &length) == 0);
        if (bind(server.tcp, (struct sockaddr *)&address, sizeof address) == 0 && listen(server.tcp, 16) == 0) {
            break;
        }
        close(server.udp);
        close(server.tcp);
    }
    server.endpoint.length = length;
    memcpy(&server.endpoint.address, &address, sizeof address);
}

static int server_start(void **state)
{
    (void)state;
    memset(&server, 0, sizeof server);
    open_sockets();
    return pthread_create(&server.thread, NULL, serve, NULL);
}

static int server_stop(void **state)
{
    (void)state;
    atomic_store(&server.stop, true);
    pthread_join(server.thread, NULL);
    close(server.udp);
    close(server.tcp);
    return 0;
}

/* --- one shard -------------------------------------------------------------------------------------------------- */

/* A test is a function that runs on the shard once it loops; it ends by calling finish. What it finds it writes down,
 * and the test's own thread looks at it after the shard has stopped. */
static struct {
    struct resolver_settings settings;
    void (*begin)(void);
    struct shard *shard;
    struct resolver *resolver;
    struct timer timer;
    uint64_t queries;
    uint64_t failures;
    uint64_t cache_hits;
    bool closed;
} bench;

static unsigned open_asks;

static void bench_closed(void *context)
{
    (void)context;
    bench.closed = true;
    bench.queries = atomic_load(&bench.shard->metrics->dns_queries);
    bench.failures = atomic_load(&bench.shard->metrics->dns_failures);
    bench.cache_hits = atomic_load(&bench.shard->metrics->dns_cache_hits);
    bench.shard->stopping = true;
}

static void bench_close(struct timer *timer)
{
    (void)timer;
    resolver_close(bench.resolver, bench_closed, NULL);
}

static void after(uint64_t ms, void (*fired)(struct timer *timer))
{
    wheel_timer_init(&bench.timer, fired);
    shard_arm(bench.shard, &bench.timer, ms);
}

static void finish(void)
{
    after(0, bench_close);
}

static void bench_begin(struct timer *timer)
{
    (void)timer;
    bench.begin();
}

static int bench_start(struct shard *shard, void *context)
{
    char reason[200];
    (void)context;
    bench.shard = shard;
    int result = resolver_new(shard, &bench.settings, &bench.resolver, reason, sizeof reason);
    after(0, bench_begin);
    return result;
}

static void run(void (*begin)(void))
{
    const struct shard_group_settings settings = {
        .shards = 1,
        .ring = {.entries = 256, .receive_buffers = 8, .receive_buffer_bytes = 4096},
        .start = bench_start,
    };
    struct shard_group *group;
    char reason[200] = "";
    memset(&bench, 0, sizeof bench);
    open_asks = 0;
    bench.settings = (struct resolver_settings){
        .servers = &server.endpoint,
        .server_count = 1,
        .timeout_ms = 250,
        .tries = 2,
        .cache_entries_max = 5000,
    };
    bench.begin = begin;
    if (shard_group_start(&settings, &group, reason, sizeof reason) != 0) {
        fail_msg("%s", reason);
    }
    shard_group_join(group);
    assert_true(bench.closed);
}

/* --- answers ---------------------------------------------------------------------------------------------------- */

struct asker {
    struct resolver_ask ask;
    bool done;
    enum answer_status status;
    unsigned count;
    uint32_t ttl_s;
    bool authentic;
    char cause[64];
    bool inside; /* done ran inside the ask call */
};

static struct asker askers[2000];
static bool asking;

static void note(struct asker *asker, const struct answer *answer)
{
    asker->done = true;
    asker->status = answer->status;
    asker->count = answer->count;
    asker->ttl_s = answer->ttl_s;
    asker->authentic = answer->authentic;
    snprintf(asker->cause, sizeof asker->cause, "%s", answer->cause != NULL ? answer->cause : "");
}

static void asker_done(struct resolver_ask *ask, const struct answer *answer)
{
    struct asker *asker = CONTAINER_OF(ask, struct asker, ask);
    asker->inside = asking;
    note(asker, answer);
    if (--open_asks == 0) {
        finish();
    }
}

static const struct answer *ask(struct asker *asker, const char *name, enum answer_type type)
{
    memset(asker, 0, sizeof *asker);
    resolver_ask_init(&asker->ask, asker_done);
    open_asks++;
    asking = true;
    const struct answer *answer = resolver_ask(bench.resolver, &asker->ask, bytes_of_string(name), type);
    asking = false;
    if (answer != NULL) {
        open_asks--;
        note(asker, answer);
    }
    return answer;
}

static const struct {
    const char *name;
    enum answer_status status;
    unsigned count;
    const char *cause; /* NULL: c-ares's versions differ */
} replies[] = {
    {"plain.example", ANSWER_RECORDS, 2, ""},
    {"secure.example", ANSWER_RECORDS, 2, ""},
    {"host.example", ANSWER_NO_DATA, 0, ""},
    {"gone.example", ANSWER_NO_DOMAIN, 0, ""},
    {"servfail.example", ANSWER_TEMPORARY, 0, "SERVFAIL"},
    {"refused.example", ANSWER_TEMPORARY, 0, "REFUSED"},
    {"lossy.example", ANSWER_RECORDS, 2, ""},
    {"dead.example", ANSWER_TEMPORARY, 0, "timeout"},
    {"garbage.example", ANSWER_RECORDS, 2, ""},
    {"forged.example", ANSWER_RECORDS, 2, ""},
    {"malformed.example", ANSWER_TEMPORARY, 0, NULL},
    {"big.example", ANSWER_RECORDS, 50, ""},
};

#define REPLIES (sizeof replies / sizeof replies[0])

static size_t reply_number;

static void ask_one(void)
{
    CHECK(ask(&askers[0], replies[reply_number].name, ANSWER_MX) == NULL);
}

/* Each on a channel of its own: newer versions of c-ares let questions pay for what another one's reply broke. */
static void every_kind_of_reply(void **state)
{
    (void)state;
    for (reply_number = 0; reply_number < REPLIES; reply_number++) {
        run(ask_one);
        print_message("%s\n", replies[reply_number].name);
        assert_true(askers[0].done);
        assert_false(askers[0].inside);
        assert_int_equal(askers[0].status, replies[reply_number].status);
        assert_int_equal(askers[0].count, replies[reply_number].count);
        if (replies[reply_number].cause != NULL) {
            assert_string_equal(askers[0].cause, replies[reply_number].cause);
        }
        assert_int_equal(askers[0].authentic, begins(replies[reply_number].name, "secure"));
        assert_int_equal(bench.queries, 1);
        assert_int_equal(bench.failures, replies[reply_number].status == ANSWER_TEMPORARY);
    }
    assert_int_equal(atomic_load(&server.tcp_queries), 1);
}

static void ask_everything(void)
{
    for (size_t i = 0; i < REPLIES; i++) {
        CHECK(ask(&askers[i], replies[i].name, ANSWER_MX) == NULL);
    }
}

static void all_at_once(void **state)
{
    (void)state;
    run(ask_everything);
    for (size_t i = 0; i < REPLIES; i++) {
        assert_true(askers[i].done);
        assert_true(askers[i].status == replies[i].status || askers[i].status == ANSWER_TEMPORARY);
    }
}

/* A server that knows no EDNS switches it off for the whole channel, so it has a test of its own. */
static void ask_old_server(void)
{
    CHECK(ask(&askers[0], "old.example", ANSWER_MX) == NULL);
}

static void a_server_without_edns(void **state)
{
    (void)state;
    run(ask_old_server);
    assert_int_equal(askers[0].status, ANSWER_RECORDS);
}

/* --- one question for many askers ------------------------------------------------------------------------------- */

static void ask_the_same(void)
{
    for (unsigned i = 0; i < 100; i++) {
        CHECK(ask(&askers[i], i % 2 == 0 ? "plain.example" : "PLAIN.example.", ANSWER_MX) == NULL);
    }
    resolver_ask_cancel(&askers[50].ask);
    resolver_ask_cancel(&askers[50].ask);
    open_asks--;
}

static void one_question_for_many(void **state)
{
    (void)state;
    run(ask_the_same);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(askers[i].done, i != 50);
        assert_int_equal(askers[i].count, i != 50 ? 2 : 0);
    }
    assert_int_equal(bench.queries, 1);
    assert_int_equal(atomic_load(&server.queries), 1);
}

static unsigned cached_rounds;

static void ask_again(struct resolver_ask *first, const struct answer *answer)
{
    const uint64_t forever = UINT64_C(1) << 40;
    note(&askers[0], answer);
    const struct answer *cached = ask(&askers[1], "gone.example", ANSWER_MX);
    cached_rounds += cached != NULL && cached->status == ANSWER_NO_DOMAIN;
    bench.shard->now_ms += 61000; /* as long as the answer may live */
    CHECK(ask(&askers[2], "gone.example", ANSWER_MX) == NULL);
    bench.shard->now_ms -= 61000;
    CHECK(first == &askers[0].ask && bench.shard->now_ms < forever);
}

static void ask_twice(void)
{
    ask(&askers[0], "gone.example", ANSWER_MX);
    open_asks--;
    askers[0].ask.done = ask_again;
}

static void negatives_are_cached(void **state)
{
    (void)state;
    cached_rounds = 0;
    run(ask_twice);
    assert_int_equal(cached_rounds, 1);
    assert_int_equal(askers[2].status, ANSWER_NO_DOMAIN);
    assert_int_equal(bench.cache_hits, 1);
    assert_int_equal(atomic_load(&server.queries), 2);
}

static uint64_t sent_at_once;

static void ask_a_lot(void)
{
    char name[64];
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "plain%u.example", i);
        CHECK(ask(&askers[i], name, ANSWER_MX) == NULL);
    }
    sent_at_once = atomic_load(&bench.shard->metrics->dns_queries);
}

static void more_questions_than_fit(void **state)
{
    (void)state;
    run(ask_a_lot);
    for (unsigned i = 0; i < 2000; i++) {
        assert_int_equal(askers[i].status, ANSWER_RECORDS);
    }
    assert_int_equal(sent_at_once, RESOLVER_IN_FLIGHT_MAX);
    assert_int_equal(bench.queries, 2000);
}

/* Those that can be done without leave room for the others: of 2000 they get half of what fits, and one that is on the
 * wire already can be shared by any number. */
static void ask_some_that_are_spare(void)
{
    char name[64];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "plain%u.example", i);
        memset(&askers[i], 0, sizeof askers[i]);
        resolver_ask_init(&askers[i].ask, asker_done);
        const struct answer *answer = resolver_ask_spare(bench.resolver, &askers[i].ask, bytes_of_string(name),
                                                         ANSWER_MX);
        CHECK((answer == NULL) == (i < RESOLVER_SPARE_MAX));
        CHECK(answer == NULL || answer->status == ANSWER_TEMPORARY);
        open_asks += answer == NULL;
    }
    CHECK(ask(&askers[1000], "plain1000.example", ANSWER_MX) == NULL); /* of the others there is room */
    resolver_ask_init(&askers[1001].ask, asker_done);
    CHECK(resolver_ask_spare(bench.resolver, &askers[1001].ask, BYTES("plain0.example"), ANSWER_MX) == NULL);
    open_asks++;
    sent_at_once = atomic_load(&bench.shard->metrics->dns_queries);
}

static void spare_questions_take_half(void **state)
{
    (void)state;
    run(ask_some_that_are_spare);
    assert_int_equal(sent_at_once, RESOLVER_SPARE_MAX + 1);
    assert_int_equal(bench.queries, RESOLVER_SPARE_MAX + 1);
    assert_int_equal(askers[0].status, ANSWER_RECORDS);
    assert_int_equal(askers[1000].status, ANSWER_RECORDS);
    assert_int_equal(askers[1001].status, ANSWER_RECORDS);
}

/* --- the edges -------------------------------------------------------------------------------------------------- */

static void ask_nonsense(void)
{
    CHECK(ask(&askers[0], "a..b", ANSWER_MX)->status == ANSWER_NO_DOMAIN);
    CHECK(ask(&askers[1], "a b.example", ANSWER_MX)->status == ANSWER_NO_DOMAIN);
    finish();
}

static void names_that_are_none(void **state)
{
    (void)state;
    run(ask_nonsense);
    assert_int_equal(bench.queries, 0);
}

static void leave(void)
{
    CHECK(ask(&askers[0], "dead.example", ANSWER_MX) == NULL);
    for (unsigned i = 1; i < 1000; i++) {
        char name[64];
        snprintf(name, sizeof name, "dead%u.example", i);
        ask(&askers[i], name, ANSWER_MX);
    }
    for (unsigned i = 0; i < 1000; i++) {
        resolver_ask_cancel(&askers[i].ask);
    }
    after(20, bench_close);
}

static void closed_with_questions_in_flight(void **state)
{
    (void)state;
    run(leave);
    assert_false(askers[0].done);
}

static void no_server(void **state)
{
    struct sockaddr_in *address = (struct sockaddr_in *)&server.endpoint.address;
    struct sockaddr_in free_port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof free_port;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&free_port, sizeof free_port), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&free_port, &length), 0);
    close(fd);
    address->sin_port = free_port.sin_port;
    run(ask_old_server);
    assert_int_equal(askers[0].status, ANSWER_TEMPORARY);
    assert_false(askers[0].inside);
}

static void bad_settings(void **state)
{
    static const struct config_endpoint unix_socket = {.address.ss_family = AF_UNIX, .length = 4};
    static struct config_endpoint many[40];
    struct shard shard = {0};
    struct resolver_settings settings = {
        .servers = &unix_socket, .server_count = 1, .timeout_ms = 100, .tries = 1, .cache_entries_max = 10};
    struct resolver *resolver = NULL;
    char reason[200] = "";
    (void)state;
    assert_int_equal(resolver_new(&shard, &settings, &resolver, reason, sizeof reason), -EINVAL);
    assert_non_null(strstr(reason, "DNS"));
    for (size_t i = 0; i < 40; i++) {
        many[i] = server.endpoint;
    }
    settings.servers = many;
    settings.server_count = 40;
    assert_int_equal(resolver_new(&shard, &settings, &resolver, reason, sizeof reason), -EINVAL);
    assert_null(resolver);
}

/* --- routing on top --------------------------------------------------------------------------------------------- */

static struct mx_lookup lookup;
static bool cached_at_once;

static const struct mx_settings mx_settings;

static void routed(struct mx_lookup *finished)
{
    struct mx_lookup again;
    CHECK(finished->result->class == MX_HOSTS && finished->result->host_count == 2);
    mx_lookup_init(&again, routed);
    cached_at_once = mx_lookup_start(&again, bench.resolver, &mx_settings, BYTES("plain.example"));
    mx_lookup_release(&again);
    finish();
}

static void route(void)
{
    mx_lookup_init(&lookup, routed);
    CHECK(!mx_lookup_start(&lookup, bench.resolver, &mx_settings, BYTES("plain.example")));
}

static void mail_routing(void **state)
{
    (void)state;
    cached_at_once = false;
    run(route);
    assert_true(cached_at_once);
    assert_true(bytes_equal(lookup.result->site, BYTES("host1.example,host2.example")));
    assert_int_equal(bench.queries, 5);
    assert_int_equal(bench.cache_hits, 5);
    mx_lookup_release(&lookup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind_of_reply, server_start, server_stop),
        cmocka_unit_test_setup_teardown(all_at_once, server_start, server_stop),
        cmocka_unit_test_setup_teardown(a_server_without_edns, server_start, server_stop),
        cmocka_unit_test_setup_teardown(one_question_for_many, server_start, server_stop),
        cmocka_unit_test_setup_teardown(negatives_are_cached, server_start, server_stop),
        cmocka_unit_test_setup_teardown(more_questions_than_fit, server_start, server_stop),
        cmocka_unit_test_setup_teardown(spare_questions_take_half, server_start, server_stop),
        cmocka_unit_test_setup_teardown(names_that_are_none, server_start, server_stop),
        cmocka_unit_test_setup_teardown(closed_with_questions_in_flight, server_start, server_stop),
        cmocka_unit_test_setup_teardown(no_server, server_start, server_stop),
        cmocka_unit_test_setup_teardown(bad_settings, server_start, server_stop),
        cmocka_unit_test_setup_teardown(mail_routing, server_start, server_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
