#include "delivery/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

static struct delivery_route routes[] = {
    {.domain = BYTES("*"), .by_mx = true, .port = 25},
    {.domain = BYTES("example.com"), .host = BYTES("exact"), .port = 26},
    {.domain = BYTES(".example.com"), .host = BYTES("below"), .port = 27},
    {.domain = BYTES(".mail.example.com"), .host = BYTES("deeper"), .port = 28},
    {.domain = BYTES(".org"), .host = BYTES("top"), .port = 29},
    {.domain = BYTES("provider.net"), .host = BYTES("hub.net"), .by_mx = true, .port = 25},
    {.domain = BYTES("example.com"), .host = BYTES("never"), .port = 30}, /* the first of two counts */
};

static struct delivery_settings settings = {
    .routes = routes,
    .route_count = sizeof routes / sizeof *routes,
    .first_shard = 3,
    .shard_count = 5,
};

static struct delivery delivery = {.settings = &settings};

static unsigned port_of(const char *domain)
{
    return route_find(&delivery, bytes_of_string(domain))->port;
}

static void test_the_most_specific_route_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *domain;
        unsigned port;
    } cases[] = {
        {"example.com", 26},
        {"www.example.com", 27},
        {"a.b.example.com", 27},
        {"mail.example.com", 27},
        {"x.mail.example.com", 28},
        {"myexample.com", 25},
        {"example.com.au", 25},
        {"com", 25},
        {"example.org", 29},
        {"org", 25},
        {"", 25},
        {"[192.0.2.1]", 25},
        {"provider.net", 25},
        {"Example.com", 25}, /* keys are in lower case */
    };
    route_index(&delivery);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (port_of(cases[i].domain) != cases[i].port) {
            fail_msg("%s went to port %u", cases[i].domain, port_of(cases[i].domain));
        }
    }
    assert_true(bytes_equal(route_find(&delivery, BYTES("example.com"))->host, BYTES("exact")));
}

static void test_other_routes_after_a_reload(void **state)
{
    (void)state;
    static const struct delivery_route other[] = {{.domain = BYTES("*"), .host = BYTES("smart"), .port = 587}};
    struct delivery_settings reloaded = {.routes = other, .route_count = 1, .shard_count = 1};
    route_index(&delivery);
    delivery.settings = &reloaded;
    route_index(&delivery);
    assert_int_equal(port_of("example.com"), 587);
    delivery.settings = &settings;
    route_index(&delivery);
    assert_int_equal(port_of("example.com"), 26);
}

static void test_a_site_is_named_by_host_and_port(void **state)
{
    (void)state;
    const struct {
        struct delivery_route route;
        const char *key;
        bool sure;
    } cases[] = {
        {{.port = 65535}, "mx.example.com:65535", false},
        {{.port = 25, .by_mx = true}, "mx.example.com:25/mx", false},
        {{.port = 25, .by_mx = true}, "mx.example.com:25/mx-sure", true},
        {{.port = 25, .policy = BYTES("/off")}, "mx.example.com:25/off", false},
        {{.port = 24, .lmtp = true}, "lmtp:mx.example.com:24", false},
    };
    char key[DELIVERY_SITE_KEY_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length = route_site_key(&cases[i].route, BYTES("mx.example.com"), cases[i].sure, key);
        assert_true(bytes_equal(bytes_of(key, length), bytes_of_string(cases[i].key)));
    }
    char longest[MX_SITE_BYTES];
    memset(longest, 'h', sizeof longest);
    struct delivery_route route = {
        .port = 65535, .by_mx = true, .lmtp = true, .policy = bytes_of(longest, DELIVERY_POLICY_BYTES)};
    route_site_key(&route, bytes_of(longest, sizeof longest), true, key); /* it fits */
}

static void test_a_socket_is_told_from_a_host(void **state)
{
    (void)state;
    assert_true(route_is_unix(&(struct delivery_route){.host = BYTES("unix:/x")}));
    assert_false(route_is_unix(&(struct delivery_route){.host = BYTES("unix.example")}));
    assert_false(route_is_unix(&(struct delivery_route){.host = BYTES("unix")}));
    assert_false(route_is_unix(&(struct delivery_route){.host = BYTES("")}));
}

/* Domains that go to one place have one shard: that of the host, or of the domain whose MX is asked. */
static void test_a_domain_has_one_shard(void **state)
{
    (void)state;
    char key[DELIVERY_SITE_KEY_BYTES];
    unsigned used[8] = {0};
    route_index(&delivery);
    for (unsigned i = 0; i < 500; i++) {
        char name[32];
        int length = snprintf(name, sizeof name, "domain%u.example", i);
        unsigned shard = route_shard(&delivery, bytes_of(name, (size_t)length));
        assert_in_range(shard, 3, 7);
        assert_int_equal(shard, route_shard_of_key(&delivery, bytes_of(name, (size_t)length)));
        used[shard]++;
    }
    for (unsigned shard = 3; shard <= 7; shard++) {
        assert_in_range(used[shard], 50, 200);
    }
    const struct delivery_route *below = route_find(&delivery, BYTES("x.example.com"));
    unsigned expected = route_shard_of_key(&delivery, bytes_of(key, route_site_key(below, BYTES("below"), true, key)));
    assert_int_equal(route_shard(&delivery, BYTES("a.example.com")), expected);
    assert_int_equal(route_shard(&delivery, BYTES("b.c.example.com")), expected);
    expected = route_shard_of_key(&delivery, BYTES("hub.net"));
    assert_int_equal(route_shard(&delivery, BYTES("provider.net")), expected);
    settings.shard_count = 1;
    assert_int_equal(route_shard(&delivery, BYTES("domain1.example")), 3);
    settings.shard_count = 5;
}

static int forget(void **state)
{
    (void)state;
    map_free(&delivery.routes);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_most_specific_route_is_found), cmocka_unit_test(test_other_routes_after_a_reload),
        cmocka_unit_test(test_a_site_is_named_by_host_and_port), cmocka_unit_test(test_a_socket_is_told_from_a_host),
        cmocka_unit_test(test_a_domain_has_one_shard),
    };
    return cmocka_run_group_tests(tests, NULL, forget);
}
