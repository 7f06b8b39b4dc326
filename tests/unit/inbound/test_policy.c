/* Who may send what: the rules that need no session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "inbound/policy.h"

static struct peer peer_named(const char *text)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1) {
        return peer_of((struct sockaddr *)&ipv4);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &ipv6.sin6_addr), 1);
    return peer_of((struct sockaddr *)&ipv6);
}

static void test_networks(void **state)
{
    (void)state;
    struct config_network networks[] = {
        {.address = {[10] = 0xff, 0xff, 10, 1, 0x40}, .prefix_bits = 96 + 18},
        {.address = {[10] = 0xff, 0xff, 192, 0, 2, 7}, .prefix_bits = 128},
        {.address = {0x20, 0x01, 0x0d, 0xb8}, .prefix_bits = 33},
    };
    struct profile profile = {.relay_networks = {networks, 3}};
    static const struct {
        const char *address;
        bool may_relay;
    } cases[] = {
        {"10.1.64.0", true},  {"10.1.127.255", true}, {"10.1.128.0", false},      {"10.1.63.255", false},
        {"192.0.2.7", true},  {"192.0.2.6", false},   {"2001:db8:7fff::1", true}, {"2001:db8:8000::1", false},
        {"127.0.0.1", false}, {"::1", false},         {"::ffff:192.0.2.7", true}, {"::192.0.2.7", false},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peer peer = peer_named(cases[i].address);
        assert_int_equal(policy_connect(&profile, &peer).may_relay, cases[i].may_relay);
    }
    networks[0].prefix_bits = 0; /* everybody */
    struct peer anyone = peer_named("203.0.113.1");
    assert_true(policy_connect(&profile, &anyone).may_relay);
    struct peer local = {{0}};
    profile.relay_networks.count = 0; /* nobody but who opened a unix socket */
    assert_true(policy_connect(&profile, &local).may_relay);
    profile.role = INBOUND_MX;
    assert_false(policy_connect(&profile, &local).may_relay);
    assert_false(policy_connect(&profile, &anyone).may_relay);
}

static void test_recipients(void **state)
{
    (void)state;
    struct address address;
    struct inbound inbound = {0};
    struct recipients_answer answer;
    struct policy_client friend = {.may_relay = true};
    struct policy_client stranger = {.may_relay = false};
    assert_int_equal(address_parse(BYTES("a@example.org"), &address), ADDRESS_OK);
    assert_null(policy_recipient(&inbound, &friend, false, &address, &answer));
    assert_int_equal(answer.verdict, RECIPIENTS_FOREIGN);
    assert_int_equal(policy_recipient(&inbound, &stranger, false, &address, &answer)->code, 550);
    assert_null(policy_recipient(&inbound, &stranger, true, &address, &answer));
    assert_int_equal(address_parse(BYTES("postmaster@example.org"), &address), ADDRESS_OK);
    assert_int_equal(policy_recipient(&inbound, &stranger, false, &address, &answer)->code, 550);
    assert_int_equal(address_parse(BYTES("postMaster"), &address), ADDRESS_OK);
    assert_null(policy_recipient(&inbound, &stranger, false, &address, &answer));
    assert_int_equal(answer.verdict, RECIPIENTS_MAILBOX);
}

static void test_storage_replies(void **state)
{
    (void)state;
    static const struct {
        enum err err;
        unsigned code;
        uint8_t enhanced[3];
    } cases[] = {{ERR_NO_SPACE, 452, {4, 3, 1}},
                 {ERR_NO_MEMORY, 452, {4, 3, 1}},
                 {ERR_IO, 451, {4, 3, 0}},
                 {ERR_CLOSED, 451, {4, 3, 0}}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct reply *reply = policy_storage_reply(cases[i].err);
        assert_int_equal(reply->code, cases[i].code);
        assert_memory_equal(reply->enhanced, cases[i].enhanced, 3);
    }
}

/* RFC 6710 4.1, 5: by default everything is taken. */
static bool busy;

bool enqueue_busy(const struct shard *shard)
{
    (void)shard;
    return busy;
}

bool enqueue_full(const struct shard *shard)
{
    (void)shard;
    return false;
}

static void assert_priority(const struct profile *profile, int priority, uint64_t bytes, unsigned code, unsigned detail)
{
    struct inbound inbound = {0};
    const struct reply *reply = policy_priority(&inbound, profile, priority, bytes);
    if (code == 0) {
        assert_null(reply);
    } else {
        assert_non_null(reply);
        assert_int_equal(reply->code, code);
        assert_int_equal(reply->enhanced[0], code / 100);
        assert_int_equal(reply->enhanced[1], 7);
        assert_int_equal(reply->enhanced[2], detail);
    }
}

static void test_priorities(void **state)
{
    (void)state;
    struct profile profile = {.priorities = {.min = -9, .min_busy = -9}};
    for (int priority = -9; priority <= 9; priority++) {
        busy = (priority & 1) != 0;
        assert_priority(&profile, priority, UINT64_MAX, 0, 0);
    }
    profile.priorities = (struct inbound_priorities){-4, 2, 1000, 500};
    for (unsigned i = 0; i < 2; i++) {
        busy = i == 1;
        assert_priority(&profile, -9, 0, 550, 15);
        assert_priority(&profile, -5, 0, 550, 15);
        assert_priority(&profile, -4, 0, busy ? 450 : 0, 15);
        assert_priority(&profile, 0, UINT64_MAX, busy ? 450 : 0, 15);
        assert_priority(&profile, 1, 501, busy ? 450 : 552, busy ? 15 : 16);
        assert_priority(&profile, 2, 500, 0, 0);
        assert_priority(&profile, 2, 501, 552, 16);
        assert_priority(&profile, 9, 501, 552, 16);
    }
    busy = false;
    assert_priority(&profile, -1, 1000, 0, 0);
    assert_priority(&profile, -1, 1001, 552, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_recipients),
        cmocka_unit_test(test_storage_replies),
        cmocka_unit_test(test_priorities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
