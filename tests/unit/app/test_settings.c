#include "app/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

static char reported[4096];

static void report(void *context, const char *line)
{
    (void)context;
    size_t used = strlen(reported);
    snprintf(reported + used, sizeof reported - used, "%s\n", line);
}

/* Settings from a text; NULL with the errors in `reported`. */
static struct settings *load(const char *text)
{
    char path[] = "/tmp/test_settings.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    reported[0] = '\0';
    struct settings *settings = settings_load(path, report, NULL);
    unlink(path);
    return settings;
}

static struct settings *load_good(const char *text)
{
    struct settings *settings = load(text);
    if (settings == NULL) {
        fail_msg("%s", reported);
    }
    return settings;
}

static void test_empty_file_is_a_working_configuration(void **state)
{
    (void)state;
    struct settings *settings = load_good("");
    assert_string_not_equal(settings->hostname, "");
    assert_int_equal(settings->listeners_count, 1);
    assert_int_equal(settings->listeners[0].port, 25);
    assert_string_equal(settings->listeners[0].name, "127.0.0.1:25");
    assert_string_equal(settings->listeners[0].hostname, settings->hostname);
    assert_int_equal(settings->listeners[0].message_bytes_max, LIMIT_MESSAGE_BYTES_DEFAULT);
    assert_int_equal(settings->listeners[0].recipients_max, LIMIT_RECIPIENTS_DEFAULT);
    assert_int_equal(settings->listeners[0].text_line_bytes_max, LIMIT_TEXT_LINE_BYTES_DEFAULT);
    assert_int_equal(settings->listeners[0].command_bytes_max, LIMIT_COMMAND_BYTES_DEFAULT);
    assert_int_equal(settings->listeners[0].received_max, LIMIT_RECEIVED_DEFAULT);
    assert_int_equal(settings->listeners[0].errors_max, LIMIT_ERRORS_DEFAULT);
    assert_int_equal(settings->listeners[0].timeouts.command_ms, 300000);
    assert_int_equal(settings->spool.segment_bytes, LIMIT_SEGMENT_BYTES_DEFAULT);
    assert_int_equal(settings->limits.receive_buffers, LIMIT_RECEIVE_BUFFERS);
    assert_int_equal(settings->limits.receive_buffer_bytes, LIMIT_RECEIVE_BUFFER_BYTES);
    assert_int_equal(settings->limits.ring_entries, LIMIT_RING_ENTRIES);
    assert_true(settings->shards.count >= 1 && settings->shards.inbound == 0);
    assert_int_equal(settings->routes_count, 1);
    assert_string_equal(settings->routes[0].domain, "*");
    assert_int_equal(settings->routes[0].hop, SETTINGS_HOP_MX);
    assert_string_equal(settings->routes[0].host, "");
    assert_int_equal(settings->routes[0].connections_max, 20);
    assert_int_equal(settings->delivery.timeouts.dot_ms, 600000);
    assert_int_equal(settings->events.types, (1u << SETTINGS_EVENTS) - 1);
    assert_int_equal(settings->stop_timeout_ms, 30000);
    settings_free(settings);
}

/* --- the reference file ------------------------------------------------------------------------------------------- */

/* The keys of a list that is empty by default stand in a comment: "#     { key = ...; other = ...; }". */
static void assert_keys_explained(const char *text, const struct config_key *keys)
{
    for (const struct config_key *key = keys; key->name != NULL; key++) {
        char words[256];
        snprintf(words, sizeof words, " %s = ", key->name);
        if (strstr(text, words) == NULL) {
            fail_msg("deploy/ringpost.conf does not explain %s", key->name);
        }
    }
}

static char *file_text(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 1 << 20);
    assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
    fclose(file);
    return text;
}

static void assert_keys_present(const struct settings *reference, const struct config_key *keys, const char *around)
{
    for (const struct config_key *key = keys; key->name != NULL; key++) {
        char path[256];
        snprintf(path, sizeof path, "%s%s%s", around, around[0] != '\0' ? "." : "", key->name);
        if (!config_present(reference->config, path)) {
            fail_msg("deploy/ringpost.conf lacks %s", path);
        }
        if (key->type == CONFIG_LIST) {
            snprintf(path + strlen(path), sizeof path - strlen(path), "[0]");
        }
        if (key->type == CONFIG_LIST && !config_present(reference->config, path)) {
            char *text = file_text("deploy/ringpost.conf");
            assert_keys_explained(text, key->keys);
            free(text);
        } else if (key->keys != NULL) {
            assert_keys_present(reference, key->keys, path);
        }
    }
}

static void no_difference(void *context, const char *path, bool restart, const char *from, const char *to)
{
    (void)context;
    (void)restart;
    fail_msg("%s is %s in deploy/ringpost.conf, its default is %s", path, from, to);
}

static void test_reference_has_every_key_with_its_default(void **state)
{
    (void)state;
    struct settings *reference = settings_load("deploy/ringpost.conf", report, NULL);
    struct settings *empty = load_good("");
    assert_non_null(reference);
    assert_keys_present(reference, settings_keys, "");
    settings_diff(reference, empty, no_difference, NULL);
    settings_free(reference);
    settings_free(empty);
}

/* --- values ------------------------------------------------------------------------------------------------------- */

static void test_listener_address_may_hold_the_port(void **state)
{
    (void)state;
    struct settings *settings = load_good("listeners = ( { address = \"[::1]:2525\"; }, { address = \"::1\"; } );");
    assert_int_equal(settings->listeners[0].port, 2525);
    assert_string_equal(settings->listeners[0].address, "::1");
    assert_string_equal(settings->listeners[0].name, "[::1]:2525");
    assert_int_equal(settings->listeners[0].endpoint.length, sizeof(struct sockaddr_in6));
    struct sockaddr_in6 address;
    memcpy(&address, &settings->listeners[0].endpoint.address, sizeof address);
    assert_int_equal(ntohs(address.sin6_port), 2525);
    assert_string_equal(settings->listeners[1].name, "[::1]:25");
    settings_free(settings);
}

static void test_routes_are_ordered_by_specificity(void **state)
{
    (void)state;
    struct settings *settings = load_good(
        "routes = ( { domain = \"*\"; next_hop = \"[2001:DB8::1]:26\"; },"
        "{ domain = \".example.com\"; next_hop = \"mx:Other.example\"; port = 27; },"
        "{ domain = \"z.example\"; next_hop = \"relay.example:28\"; connections_max = 3; },"
        "{ domain = \".a.example\"; next_hop = \"lmtp:Store.example\"; tls = \"verify\"; },"
        "{ domain = \".b.example\"; next_hop = \"lmtp:[2001:db8::2]:2424\"; tls = \"off\"; },"
        "{ domain = \".c.example\"; next_hop = \"lmtp:unix:/Run/lmtp\"; },"
        "{ domain = \".mail.example.com\"; next_hop = \"192.0.2.1\"; } );");
    static const struct {
        const char *domain;
        enum settings_next_hop hop;
        const char *host;
        unsigned port;
        unsigned connections_max;
    } expected[] = {
        {"z.example", SETTINGS_HOP_HOST, "relay.example", 28, 3},
        {".mail.example.com", SETTINGS_HOP_HOST, "192.0.2.1", 25, 20},
        {".example.com", SETTINGS_HOP_MX, "other.example", 27, 20},
        {".a.example", SETTINGS_HOP_LMTP, "store.example", 24, 20},
        {".b.example", SETTINGS_HOP_LMTP, "2001:db8::2", 2424, 20},
        {".c.example", SETTINGS_HOP_LMTP, "unix:/Run/lmtp", 24, 20},
        {"*", SETTINGS_HOP_HOST, "2001:db8::1", 26, 20},
    };
    assert_int_equal(settings->routes_count, sizeof expected / sizeof *expected);
    for (unsigned i = 0; i < settings->routes_count; i++) {
        assert_string_equal(settings->routes[i].domain, expected[i].domain);
        assert_int_equal(settings->routes[i].hop, expected[i].hop);
        assert_string_equal(settings->routes[i].host, expected[i].host);
        assert_int_equal(settings->routes[i].port, expected[i].port);
        assert_int_equal(settings->routes[i].connections_max, expected[i].connections_max);
    }
    assert_int_equal(settings->routes[0].tls, SETTINGS_ROUTE_MAY);
    assert_int_equal(settings->routes[3].tls, SETTINGS_ROUTE_VERIFY);
    assert_int_equal(settings->routes[4].tls, SETTINGS_ROUTE_OFF);
    settings_free(settings);
}

static void test_schedule_is_written_out(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t minutes[8]; /* up to a 0 */
    } cases[] = {
        {"", {20, 40, 80, 160, 240}},
        {"retry = { initial = \"10m\"; factor = 3; max = \"90m\"; };", {10, 30, 90}},
        {"retry = { initial = \"10m\"; factor = 1; };", {10}},
        {"retry = { initial = \"1h\"; max = \"1h\"; };", {60}},
        {"retry = { schedule = ( \"5m\", 120, \"1h\" ); };", {5, 2, 60}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct settings *settings = load_good(cases[i].text);
        unsigned count = 0;
        for (; cases[i].minutes[count] != 0; count++) {
            assert_true(count < settings->retry.schedule_ms_count);
            assert_int_equal(settings->retry.schedule_ms[count], cases[i].minutes[count] * 60000);
        }
        assert_int_equal(settings->retry.schedule_ms_count, count);
        settings_free(settings);
    }
}

static void test_split_shards(void **state)
{
    (void)state;
    struct settings *settings = load_good("shards = { inbound = 2; delivery = 3; };");
    assert_int_equal(settings->shards.count, 5);
    settings_free(settings);
}

static void test_all_errors_are_reported(void **state)
{
    (void)state;
    assert_null(load("hostname = 1;\nlog = { level = 2; };\nlimits = { ring_entries = 100; };\n"));
    unsigned lines = 0;
    for (const char *at = reported; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, 3);
    assert_non_null(strstr(reported, ":3: limits.ring_entries is 100, expected a power of two\n"));
}

/* --- reload ------------------------------------------------------------------------------------------------------- */

struct changes {
    char text[1024];
};

static void note_change(void *context, const char *path, bool restart, const char *from, const char *to)
{
    struct changes *changes = context;
    size_t used = strlen(changes->text);
    snprintf(changes->text + used, sizeof changes->text - used, "%s%s %s -> %s\n", restart ? "!" : "", path, from, to);
}

static void test_reload_tells_what_needs_a_restart(void **state)
{
    (void)state;
    static const struct {
        const char *from;
        const char *to;
        unsigned restarts;
        const char *changes;
    } cases[] = {
        {"", "", 0, ""},
        {"log = { level = \"info\"; };", "log = { level = \"debug\"; };", 0, "log.level \"info\" -> \"debug\"\n"},
        {"", "spool = { path = \"/tmp\"; };", 1, "!spool.path \"/var/spool/ringpost\" -> \"/tmp\"\n"},
        {"shards = { count = 2; };", "shards = { count = 3; };", 1, "!shards.count 2 -> 3\n"},
        {"listeners = ( { name = \"a\"; port = 26; } );", "listeners = ( { name = \"a\"; port = 27; } );", 1,
         "!listeners[a].port 26 -> 27\n"},
        {"listeners = ( { port = 26; }, { port = 27; } );", "listeners = ( { port = 27; } );", 1,
         "!listeners[127.0.0.1:26] 127.0.0.1:26 -> \n"},
        {"listeners = ( { port = 26; }, { port = 27; } );",
         "listeners = ( { port = 27; }, { port = 26; errors_max = 5; } );", 0,
         "listeners[127.0.0.1:26].errors_max 20 -> 5\n"},
        {"", "listeners = ( { relay_networks = \"10.0.0.0/8\"; } );", 0,
         "listeners[127.0.0.1:25].relay_networks ( \"127.0.0.0/8\", \"::1/128\" ) -> ( \"10.0.0.0/8\" )\n"},
        {"routes = ( { domain = \"a.example\"; } );", "routes = ( { domain = \"b.example\"; } );", 0,
         "routes[a.example] a.example -> \nroutes[b.example]  -> b.example\n"},
        {"", "retry = { expire = \"5d\"; }; delivery = { timeouts = { dot = \"20m\"; }; };", 0,
         "delivery.timeouts.dot \"10m\" -> \"20m\"\nretry.expire \"4d\" -> \"5d\"\n"},
        {"", "admin = { listen = \"off\"; }; stop_timeout = 5;", 1,
         "!admin.listen \"127.0.0.1:9925\" -> \"off\"\nstop_timeout \"30s\" -> \"5s\"\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct settings *from = load_good(cases[i].from);
        struct settings *to = load_good(cases[i].to);
        struct changes changes = {.text = ""};
        assert_int_equal(settings_diff(from, to, note_change, &changes), cases[i].restarts);
        assert_string_equal(changes.text, cases[i].changes);
        settings_free(from);
        settings_free(to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_file_is_a_working_configuration),
        cmocka_unit_test(test_reference_has_every_key_with_its_default),
        cmocka_unit_test(test_listener_address_may_hold_the_port),
        cmocka_unit_test(test_routes_are_ordered_by_specificity),
        cmocka_unit_test(test_schedule_is_written_out),
        cmocka_unit_test(test_split_shards),
        cmocka_unit_test(test_all_errors_are_reported),
        cmocka_unit_test(test_reload_tells_what_needs_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
