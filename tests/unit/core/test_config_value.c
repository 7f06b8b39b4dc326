#include "core/config_value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#define NOT_A_VALUE UINT64_MAX

static void test_sizes_and_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
        uint64_t ms;
    } cases[] = {
        {"0", 0, NOT_A_VALUE},
        {"4096", 4096, NOT_A_VALUE},
        {"64K", 65536, NOT_A_VALUE},
        {"50M", 52428800, NOT_A_VALUE},
        {"2G", 2147483648, NOT_A_VALUE},
        {"500ms", NOT_A_VALUE, 500},
        {"30s", NOT_A_VALUE, 30000},
        {"5m", NOT_A_VALUE, 300000},
        {"4h", NOT_A_VALUE, 14400000},
        {"4d", NOT_A_VALUE, 345600000},
        {"17179869183G", 18446744072635809792u, NOT_A_VALUE},
        {"17179869184G", NOT_A_VALUE, NOT_A_VALUE}, /* 2^64 */
        {"99999999999999999999d", NOT_A_VALUE, NOT_A_VALUE},
        {"", NOT_A_VALUE, NOT_A_VALUE},
        {"K", NOT_A_VALUE, NOT_A_VALUE},
        {"-1K", NOT_A_VALUE, NOT_A_VALUE},
        {"+1s", NOT_A_VALUE, NOT_A_VALUE},
        {"1 K", NOT_A_VALUE, NOT_A_VALUE},
        {"1k", NOT_A_VALUE, NOT_A_VALUE},
        {"1.5M", NOT_A_VALUE, NOT_A_VALUE},
        {"1h30m", NOT_A_VALUE, NOT_A_VALUE},
        {"1s ", NOT_A_VALUE, NOT_A_VALUE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = NOT_A_VALUE;
        uint64_t ms = NOT_A_VALUE;
        assert_int_equal(config_value_size(cases[i].text, &bytes), cases[i].bytes != NOT_A_VALUE);
        assert_int_equal(config_value_duration(cases[i].text, &ms), cases[i].ms != NOT_A_VALUE);
        assert_int_equal(bytes, cases[i].bytes);
        assert_int_equal(ms, cases[i].ms);
    }
}

/* The printed text is read back as the same value. */
static void test_sizes_and_durations_are_printed_in_their_largest_unit(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 999, 1000, 1024, 1500, 60000, 65536, 90000, 86400000, 1u << 30, 1ull << 40};
    char room[64];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        uint64_t back = NOT_A_VALUE;
        struct buffer out = buffer_of(room, sizeof room);
        config_value_put_size(&out, values[i]);
        room[out.length] = '\0';
        assert_true(config_value_size(room, &back));
        assert_int_equal(back, values[i]);
        out.length = 0;
        config_value_put_duration(&out, values[i]);
        room[out.length] = '\0';
        assert_true(config_value_duration(room, &back));
        assert_int_equal(back, values[i]);
    }
    struct buffer out = buffer_of(room, sizeof room);
    config_value_put_duration(&out, 90 * 60000);
    config_value_put_size(&out, 3u << 20);
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("90m3M")));
}

static void test_endpoints(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *printed; /* NULL: refused */
    } cases[] = {
        {"192.0.2.1", "192.0.2.1:25"},
        {"192.0.2.1:2525", "192.0.2.1:2525"},
        {"0.0.0.0:65535", "0.0.0.0:65535"},
        {"::", "[::]:25"},
        {"2001:DB8::1", "[2001:db8::1]:25"},
        {"[2001:db8::1]", "[2001:db8::1]:25"},
        {"[::1]:53", "[::1]:53"},
        {"", NULL},
        {":25", NULL},
        {"localhost", NULL},
        {"192.0.2.1:", NULL},
        {"192.0.2.1:0", NULL},
        {"192.0.2.1:65536", NULL},
        {"192.0.2.1:25x", NULL},
        {"192.0.2", NULL},
        {"192.0.2.256", NULL},
        {" 192.0.2.1", NULL},
        {"[192.0.2.1]:25", NULL},
        {"[::1", NULL},
        {"[::1]25", NULL},
        {"::1:", NULL},
        {"[fe80::1%eth0]:25", NULL},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee", NULL},
    };
    char room[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config_endpoint endpoint;
        bool good = config_value_endpoint(cases[i].text, 25, &endpoint);
        assert_int_equal(good, cases[i].printed != NULL);
        if (good) {
            struct buffer out = buffer_of(room, sizeof room);
            config_value_put_endpoint(&out, &endpoint);
            assert_true(bytes_equal(buffer_bytes(&out), bytes_of_string(cases[i].printed)));
        }
    }
}

static void test_networks(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        const char *printed; /* also of what was meant, when the text has bits behind the prefix */
    } cases[] = {
        {"10.0.0.0/8", true, "10.0.0.0/8"},
        {"192.0.2.1", true, "192.0.2.1/32"},
        {"0.0.0.0/0", true, "0.0.0.0/0"},
        {"2001:db8::/32", true, "2001:db8::/32"},
        {"::1", true, "::1/128"},
        {"::/0", true, "::/0"},
        {"10.0.0.1/8", false, "10.0.0.0/8"},
        {"192.0.2.129/25", false, "192.0.2.128/25"},
        {"2001:db8::1/32", false, "2001:db8::/32"},
        {"10.0.0.0/33", false, NULL},
        {"::/129", false, NULL},
        {"10.0.0.0/", false, NULL},
        {"10.0.0.0/a", false, NULL},
        {"10.0.0/8", false, NULL},
        {"/8", false, NULL},
        {"example.com", false, NULL},
    };
    char room[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config_network network;
        assert_int_equal(config_value_network(cases[i].text, &network), cases[i].good);
        if (cases[i].printed != NULL) {
            struct buffer out = buffer_of(room, sizeof room);
            config_value_put_network(&out, &network);
            assert_true(bytes_equal(buffer_bytes(&out), bytes_of_string(cases[i].printed)));
        }
    }
}

static void test_addresses_in_networks(void **state)
{
    (void)state;
    static const struct {
        const char *network;
        const char *address;
        bool inside;
    } cases[] = {
        {"10.0.0.0/8", "10.255.255.255", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.2", false},
        {"10.0.0.0/8", "::ffff:10.1.2.3", true},
        {"10.0.0.0/8", "::10.1.2.3", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"::/0", "203.0.113.9", true},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config_network networks[2];
        struct config_endpoint endpoint;
        assert_true(config_value_network("198.51.100.0/24", &networks[0]));
        assert_true(config_value_network(cases[i].network, &networks[1]));
        assert_true(config_value_endpoint(cases[i].address, 25, &endpoint));
        const struct sockaddr *address = (const struct sockaddr *)&endpoint.address;
        assert_int_equal(config_value_network_contains(networks, 2, address), cases[i].inside);
        assert_false(config_value_network_contains(networks, 0, address));
    }
    struct sockaddr_storage unix_address = {.ss_family = AF_UNIX};
    struct config_network all;
    assert_true(config_value_network("::/0", &all));
    assert_false(config_value_network_contains(&all, 1, (const struct sockaddr *)&unix_address));
}

static void test_hostnames(void **state)
{
    (void)state;
    static const char *const good[] = {"a",   "example.com", "xn--bcher-kva.example", "_dmarc.example.com",
                                       "1.2", "A-b.C"};
    static const char *const bad[] = {"",   ".",    "a.",  ".a",  "a..b",      "-a",
                                      "a-", "a-.b", "a b", "a/b", "b\xc3\xbc", "a\n"};
    char label[70];
    char name[300] = "";
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(config_value_hostname(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(config_value_hostname(bad[i]));
    }
    for (int length = 62; length <= 65; length++) {
        snprintf(label, sizeof label, "%0*d", length, 0);
        assert_int_equal(config_value_hostname(label), length <= 63);
    }
    for (int length = 254; length <= 257; length += 2) {
        for (int i = 0; i < length; i++) {
            name[i] = i % 2 == 0 ? 'a' : '.';
        }
        name[length - 1] = 'a';
        name[length] = '\0';
        assert_int_equal(config_value_hostname(name), length <= 255);
    }
}

static void test_rates(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t count;
        uint64_t period_ms;
        const char *again; /* NULL: not a rate */
    } cases[] = {
        {"off", 0, 0, "off"},
        {"100/1m", 100, 60000, "100/1m"},
        {"50M/1h", 52428800, 3600000, "50M/1h"},
        {"1/31d", 1, 2678400000, "1/31d"},
        {"1099511627776/1s", 1099511627776, 1000, "1024G/1s"},
        {"1099511627777/1s", 0, 0, NULL},
        {"0/1m", 0, 0, NULL},
        {"100", 0, 0, NULL},
        {"100/", 0, 0, NULL},
        {"/1m", 0, 0, NULL},
        {"100/60", 0, 0, NULL},
        {"100/999ms", 0, 0, NULL},
        {"100/32d", 0, 0, NULL},
        {"-1/1m", 0, 0, NULL},
        {"100/1m/1m", 0, 0, NULL},
        {"1000000000000000000000000000/1m", 0, 0, NULL},
        {"", 0, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config_rate rate = {0};
        char room[64];
        struct buffer text = buffer_of(room, sizeof room);
        assert_int_equal(config_value_rate(cases[i].text, &rate), cases[i].again != NULL);
        if (cases[i].again != NULL) {
            assert_int_equal(rate.count, cases[i].count);
            assert_int_equal(rate.period_ms, cases[i].period_ms);
            config_value_put_rate(&text, &rate);
            assert_true(bytes_equal(buffer_bytes(&text), bytes_of_string(cases[i].again)));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_and_durations),
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_sizes_and_durations_are_printed_in_their_largest_unit),
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_addresses_in_networks),
        cmocka_unit_test(test_hostnames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
