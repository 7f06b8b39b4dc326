/* Mail routing against a resolver that answers from a table. It takes the place of src/dns/resolver.c at link time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "dns/mx.h"

/* --- the resolver ----------------------------------------------------------------------------------------------- */

/* `data`: records separated by ';'; "@name " before them: the canonical name; "!servfail", "!timeout", "!nodata",
 * "!alias name". A name without any line does not exist, a type without a line has no data. */
struct line {
    const char *name;
    enum answer_type type;
    const char *data;
};

struct pending {
    struct resolver_ask *ask;
    const struct line *line;
    char name[256];
    enum answer_type type;
};

static const struct line zone[] = {
    {"plain.example", ANSWER_MX, "20 mx2.plain.example;10 MX1.plain.example"},
    {"mx1.plain.example", ANSWER_A, "192.0.2.1"},
    {"mx2.plain.example", ANSWER_A, "192.0.2.2"},
    {"mx2.plain.example", ANSWER_AAAA, "2001:db8::2"},

    {"implicit.example", ANSWER_A, "192.0.2.3"},
    {"implicit6.example", ANSWER_AAAA, "2001:db8::3"},
    {"empty.example", ANSWER_TXT, "x"},
    {"implicit-fails.example", ANSWER_A, "!servfail"},
    {"implicit-half.example", ANSWER_A, "192.0.2.4"},
    {"implicit-half.example", ANSWER_AAAA, "!timeout"},
    {"implicit-us.example", ANSWER_A, "192.0.2.99"},

    {"mx-fails.example", ANSWER_MX, "!servfail"},
    {"mx-fails.example", ANSWER_A, "192.0.2.5"},
    {"mx-times-out.example", ANSWER_MX, "!timeout"},

    {"null.example", ANSWER_MX, "0 ."},
    {"null.example", ANSWER_A, "192.0.2.6"},
    {"null-and-more.example", ANSWER_MX, "0 .;10 mx1.plain.example"},
    {"two-nulls.example", ANSWER_MX, "0 .;10 ."},
    {"bad-target.example", ANSWER_MX, "10 "},
    {"bad-target.example", ANSWER_A, "192.0.2.7"},
    {"null-and-bad.example", ANSWER_MX, "0 .;10 "},
    {"bad-and-good.example", ANSWER_MX, "5 ;10 mx1.plain.example"},

    {"no-address.example", ANSWER_MX, "10 gone.example;20 empty.example"},
    {"no-address.example", ANSWER_A, "192.0.2.8"},
    {"one-fails.example", ANSWER_MX, "10 gone.example;20 implicit-fails.example"},
    {"one-fails-one-works.example", ANSWER_MX, "10 implicit-fails.example;20 mx1.plain.example"},

    {"we-are-last.example", ANSWER_MX, "10 mx1.plain.example;20 Us.Example;20 mx2.plain.example;30 mx3.example"},
    {"we-are-by-address.example", ANSWER_MX, "10 mx1.plain.example;20 implicit-us.example;30 mx2.plain.example"},
    {"we-are-first.example", ANSWER_MX, "10 us.example;20 mx1.plain.example"},
    {"we-are-equal.example", ANSWER_MX, "10 us.example;10 mx1.plain.example"},
    {"we-are-an-alias.example", ANSWER_MX, "10 mx1.plain.example;20 alias-of-us.example"},
    {"alias-of-us.example", ANSWER_A, "@us.example 192.0.2.200"},
    {"we-and-broken.example", ANSWER_MX, "10 gone.example;20 us.example"},
    {"we-and-failing.example", ANSWER_MX, "10 implicit-fails.example;20 us.example"},
    {"us.example", ANSWER_A, "192.0.2.99"},
    {"loopback.example", ANSWER_MX, "10 localhost.loopback.example"},
    {"localhost.loopback.example", ANSWER_A, "127.0.0.1"},
    {"any.example", ANSWER_A, "0.0.0.0"},
    {"mapped.example", ANSWER_AAAA, "::ffff:192.0.2.99"},

    {"alias.example", ANSWER_MX, "@target.example 10 mx1.plain.example"},
    {"alias-implicit.example", ANSWER_MX, "!nodata @implicit.example"},
    {"alias-open.example", ANSWER_MX, "!alias plain.example"},
    {"alias-open-implicit.example", ANSWER_MX, "!alias implicit.example"},
    {"signed.example", ANSWER_MX, "10 mx1.plain.example"},
    {"signed-alias.example", ANSWER_MX, "@target.example 10 mx1.plain.example"},
    {"alias-open-signed.example", ANSWER_MX, "!alias signed.example"},
    {"alias-to-nothing.example", ANSWER_MX, "!alias gone.example"},
    {"alias-loop.example", ANSWER_MX, "!alias alias-loop.example"},
    {"mx-alias.example", ANSWER_MX, "10 host-alias.example"},
    {"host-alias.example", ANSWER_A, "!alias mx1.plain.example"},
    {"host-alias.example", ANSWER_AAAA, "!alias mx1.plain.example"},

    {"repeated.example", ANSWER_MX, "20 mx1.plain.example;10 mx1.plain.example;30 mx1.plain.example"},
    {"many-addresses.example", ANSWER_A,
     "198.51.100.1;198.51.100.2;198.51.100.3;198.51.100.4;198.51.100.5;"
     "198.51.100.6;198.51.100.7;198.51.100.8;198.51.100.9;198.51.100.10;"
     "198.51.100.11;198.51.100.12;198.51.100.13;198.51.100.14;198.51.100.15;"
     "198.51.100.16;198.51.100.17;198.51.100.18;198.51.100.19;198.51.100.20"},
    {"three.example", ANSWER_MX, "10 a.three.example;10 b.three.example;10 c.three.example;20 d.three.example"},
    {"a.three.example", ANSWER_A, "198.51.100.1"},
    {"b.three.example", ANSWER_A, "198.51.100.2"},
    {"c.three.example", ANSWER_A, "198.51.100.3"},
    {"d.three.example", ANSWER_A, "198.51.100.4"},
    {"dual.example", ANSWER_A, "198.51.100.1"},
    {"dual.example", ANSWER_AAAA, "2001:db8::1"},
};

static struct shard shard;
static bool delayed; /* answers come later, in any order */
static struct pending pending[128];
static unsigned pending_count;
static unsigned asked;
static char texts[ANSWER_RECORDS_MAX][256];
static struct answer_record records[ANSWER_RECORDS_MAX];
static struct answer answer;

struct shard *resolver_shard(const struct resolver *resolver)
{
    (void)resolver;
    return &shard;
}

void resolver_ask_init(struct resolver_ask *ask, void (*done)(struct resolver_ask *ask, const struct answer *answer))
{
    list_init(&ask->node);
    ask->done = done;
}

void resolver_ask_cancel(struct resolver_ask *ask)
{
    for (unsigned i = 0; i < pending_count; i++) {
        if (pending[i].ask == ask) {
            pending[i] = pending[--pending_count];
            return;
        }
    }
}

static void add_record(enum answer_type type, const char *data, size_t length)
{
    char *text = texts[answer.count];
    struct answer_record *record = &records[answer.count++];
    snprintf(text, sizeof texts[0], "%.*s", (int)length, data);
    record->preference = 0;
    record->data = bytes_of_string(text);
    if (type == ANSWER_MX) {
        char *end;
        record->preference = (uint16_t)strtoul(text, &end, 10);
        record->data = bytes_of_string(end + 1);
        for (char *at = end; *at != '\0'; at++) {
            *at = bytes_ascii_lower(*at);
        }
    } else if (type == ANSWER_A || type == ANSWER_AAAA) {
        struct mx_address address;
        assert_true(mx_address_parse(record->data, &address));
        record->data.length = type == ANSWER_A ? 4 : 16;
        memcpy(text, address.bytes, record->data.length);
    }
}

static const char *take_special(const char *data)
{
    answer.status = ANSWER_RECORDS;
    if (*data == '!') {
        size_t length = strcspn(data + 1, " ");
        const char *rest = data[1 + length] == '\0' ? "" : data + 2 + length;
        struct bytes word = bytes_of(data + 1, length);
        if (bytes_equal(word, BYTES("nodata"))) {
            answer.status = ANSWER_NO_DATA;
        } else if (bytes_equal(word, BYTES("alias"))) {
            answer.status = ANSWER_ALIAS;
            answer.aliases = 1;
            answer.canonical = bytes_of_string(rest);
            return "";
        } else {
            answer.status = ANSWER_TEMPORARY;
            answer.cause = bytes_equal(word, BYTES("servfail")) ? "SERVFAIL" : "timeout";
        }
        data = rest;
    }
    if (*data == '@') {
        size_t length = strcspn(data + 1, " ");
        answer.canonical = bytes_of(data + 1, length);
        answer.aliases = 1;
        data += 1 + length + (data[1 + length] == ' ');
    }
    return data;
}

/* "hop3.example" is an alias of "hop2.example" and so on to "hop0.example", which is one of "plain.example"; no reply
 * tells more than one step. */
static bool look_up_hop(const char *name)
{
    static char target[32];
    if (strncmp(name, "hop", 3) != 0) {
        return false;
    }
    snprintf(target, sizeof target, "hop%c.example", name[3] - 1);
    answer = (struct answer){
        .status = ANSWER_ALIAS,
        .expires_ms = shard.now_ms + 60000,
        .aliases = 1,
        .canonical = bytes_of_string(name[3] == '0' ? "plain.example" : target),
    };
    return true;
}

static void look_up(const char *name, enum answer_type type)
{
    if (look_up_hop(name)) {
        return;
    }
    const struct line *found = NULL;
    bool exists = false;
    for (size_t i = 0; i < sizeof zone / sizeof zone[0]; i++) {
        if (strcasecmp(zone[i].name, name) == 0) {
            exists = true;
            found = zone[i].type == type ? &zone[i] : found;
        }
    }
    answer = (struct answer){
        .status = exists ? ANSWER_NO_DATA : ANSWER_NO_DOMAIN,
        .expires_ms = shard.now_ms + 60000,
        .canonical = bytes_of_string(name),
        .authentic = strncmp(name, "signed", 6) == 0,
        .records = records,
    };
    if (found == NULL) {
        return;
    }
    const char *data = take_special(found->data);
    while (*data != '\0') {
        size_t length = strcspn(data, ";");
        add_record(type, data, length);
        data += length + (data[length] == ';');
    }
}

const struct answer *resolver_ask(struct resolver *resolver, struct resolver_ask *ask, struct bytes name,
                                  enum answer_type type)
{
    static char copy[256];
    (void)resolver;
    asked++;
    name.length -= name.data[name.length - 1] == '.';
    snprintf(copy, sizeof copy, "%.*s", (int)name.length, name.data);
    if (delayed) {
        struct pending *later = &pending[pending_count++];
        later->ask = ask;
        later->type = type;
        memcpy(later->name, copy, sizeof later->name);
        return NULL;
    }
    memset(texts, 0xee, sizeof texts); /* the last answer is gone */
    look_up(copy, type);
    return &answer;
}

static void answer_pending(void)
{
    while (pending_count != 0) {
        unsigned picked = (unsigned)rng_below(&shard.rng, pending_count);
        struct pending now = pending[picked];
        pending[picked] = pending[--pending_count];
        look_up(now.name, now.type);
        now.ask->done(now.ask, &answer);
    }
}

/* --- helpers ---------------------------------------------------------------------------------------------------- */

static struct mx_settings settings;
static unsigned done_calls;

static void done(struct mx_lookup *lookup)
{
    assert_non_null(lookup->result);
    done_calls++;
}

/* "10 mx1.example 192.0.2.1 2001:db8::1, 20 ..." or "no-domain: reason". */
static const char *render(const struct mx_result *result)
{
    static char text[4096];
    struct buffer out = buffer_of(text, sizeof text - 1);
    if (result->class != MX_HOSTS) {
        assert_int_equal(result->host_count, 0);
        assert_int_equal(result->site.length, 0);
        buffer_append_format(&out, "%s: %.*s", mx_class_name(result->class), (int)result->reason.length,
                             result->reason.data);
    }
    for (unsigned i = 0; i < result->host_count; i++) {
        const struct mx_host *host = &result->hosts[i];
        buffer_append_format(&out, "%s%u %.*s", i != 0 ? ", " : "", host->preference, (int)host->name.length,
                             host->name.data);
        for (unsigned j = 0; j < host->address_count; j++) {
            char address[MX_ADDRESS_TEXT_BYTES];
            buffer_append_format(&out, " %s", mx_address_text(&host->addresses[j], address));
        }
    }
    text[out.length] = '\0';
    return text;
}

typedef bool start_function(struct mx_lookup *lookup, struct resolver *resolver, const struct mx_settings *settings,
                            struct bytes name);

/* Once with everything cached, once with every answer coming later; the same must come out. */
static void expect(start_function *start, const char *name, const char *expected)
{
    struct mx_lookup lookup;
    for (unsigned later = 0; later <= 1; later++) {
        delayed = later != 0;
        done_calls = 0;
        mx_lookup_init(&lookup, done);
        bool at_once = start(&lookup, NULL, &settings, bytes_of_string(name));
        assert_int_equal(at_once, lookup.result != NULL);
        assert_true(later || at_once);
        answer_pending();
        assert_int_equal(done_calls, at_once ? 0 : 1);
        assert_string_equal(render(lookup.result), expected);
        assert_in_range(lookup.result->expires_ms, shard.now_ms + 1, UINT64_MAX);
        mx_lookup_release(&lookup);
        assert_null(lookup.result);
    }
    delayed = false;
}

static int setup(void **state)
{
    static const struct bytes own_names[] = {{"us.example", 10}};
    static const struct mx_address own_addresses[] = {{.family = AF_INET, .bytes = {192, 0, 2, 99}}};
    (void)state;
    rng_seed(&shard.rng, 42);
    shard.now_ms = 1000;
    settings = (struct mx_settings){
        .own_names = own_names, .own_name_count = 1, .own_addresses = own_addresses, .own_address_count = 1};
    asked = 0;
    return 0;
}

/* --- RFC 5321 5.1, line by line --------------------------------------------------------------------------------- */

static void decisions(void **state)
{
    static const struct {
        const char *domain;
        const char *expected;
    } cases[] = {
        /* the list, best preference first, whatever the case */
        {"plain.example", "10 mx1.plain.example 192.0.2.1, 20 mx2.plain.example 2001:db8::2 192.0.2.2"},
        {"PLAIN.example.", "10 mx1.plain.example 192.0.2.1, 20 mx2.plain.example 2001:db8::2 192.0.2.2"},
        {"repeated.example", "10 mx1.plain.example 192.0.2.1"},
        /* NXDOMAIN is permanent; SERVFAIL and timeout are not, and are no reason to look for an address */
        {"gone.example", "no-domain: gone.example does not exist"},
        {"mx-fails.example", "temporary: SERVFAIL for MX of mx-fails.example"},
        {"mx-times-out.example", "temporary: timeout for MX of mx-times-out.example"},
        {"a..b", "no-domain: not a domain name"},
        {"", "no-domain: not a domain name"},
        {"[192.0.2", "no-domain: not a domain name"},
        /* no MX: the domain itself */
        {"implicit.example", "0 implicit.example 192.0.2.3"},
        {"implicit6.example", "0 implicit6.example 2001:db8::3"},
        {"empty.example", "no-route: empty.example has neither MX nor address records"},
        {"implicit-fails.example", "temporary: SERVFAIL for the address of implicit-fails.example"},
        {"implicit-half.example", "0 implicit-half.example 192.0.2.4"},
        /* null MX (RFC 7505) */
        {"null.example", "null-mx: null.example accepts no mail (null MX)"},
        {"two-nulls.example", "null-mx: two-nulls.example accepts no mail (null MX)"},
        {"null-and-more.example", "10 mx1.plain.example 192.0.2.1"},
        /* MX that are of no use: an error, not the domain's address */
        {"bad-target.example", "no-route: the MX records of bad-target.example name no host"},
        {"null-and-bad.example", "no-route: the MX records of null-and-bad.example name no host"},
        {"bad-and-good.example", "10 mx1.plain.example 192.0.2.1"},
        {"no-address.example", "no-route: no MX host of no-address.example has an address"},
        {"one-fails.example", "temporary: SERVFAIL for the address of an MX host of one-fails.example"},
        {"one-fails-one-works.example", "20 mx1.plain.example 192.0.2.1"},
        /* we are one of them: that preference and worse are out */
        {"we-are-last.example", "10 mx1.plain.example 192.0.2.1"},
        {"we-are-by-address.example", "10 mx1.plain.example 192.0.2.1"},
        {"we-are-an-alias.example", "10 mx1.plain.example 192.0.2.1"},
        {"we-are-first.example", "loop: mail for we-are-first.example loops back to this host"},
        {"we-are-equal.example", "loop: mail for we-are-equal.example loops back to this host"},
        {"we-and-broken.example", "no-route: no MX host of we-and-broken.example has an address"},
        {"we-and-failing.example", "temporary: SERVFAIL for the address of an MX host of we-and-failing.example"},
        {"implicit-us.example", "loop: mail for implicit-us.example loops back to this host"},
        {"us.example", "loop: mail for us.example loops back to this host"},
        {"loopback.example", "loop: mail for loopback.example loops back to this host"},
        {"any.example", "loop: mail for any.example loops back to this host"},
        {"mapped.example", "loop: mail for mapped.example loops back to this host"},
        /* CNAME: what it leads to counts as the initial name */
        {"alias.example", "10 mx1.plain.example 192.0.2.1"},
        {"alias-implicit.example", "0 implicit.example 192.0.2.3"},
        {"alias-open.example", "10 mx1.plain.example 192.0.2.1, 20 mx2.plain.example 2001:db8::2 192.0.2.2"},
        {"alias-open-implicit.example", "0 implicit.example 192.0.2.3"},
        {"alias-to-nothing.example", "no-domain: alias-to-nothing.example does not exist"},
        {"alias-loop.example", "temporary: CNAME chain too long for MX of alias-loop.example"},
        {"hop7.example", "10 mx1.plain.example 192.0.2.1, 20 mx2.plain.example 2001:db8::2 192.0.2.2"},
        {"hop8.example", "temporary: CNAME chain too long for MX of hop8.example"},
        {"mx-alias.example", "10 host-alias.example 192.0.2.1"},
        /* address literals (RFC 5321 4.1.3) */
        {"[192.0.2.1]", "0 [192.0.2.1] 192.0.2.1"},
        {"[IPv6:2001:DB8::1]", "0 [ipv6:2001:db8::1] 2001:db8::1"},
        {"[IPv6:192.0.2.1]", "no-domain: not a domain name"},
        {"[192.0.2.99]", "loop: mail for [192.0.2.99] loops back to this host"},
        {"[127.0.0.1]", "loop: mail for [127.0.0.1] loops back to this host"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect(mx_lookup_start, cases[i].domain, cases[i].expected);
    }
}

static void named_hosts(void **state)
{
    static const struct {
        const char *host;
        const char *expected;
    } cases[] = {
        {"plain.example", "temporary: plain.example has no address"}, /* its MX is not asked for */
        {"MX2.plain.example.", "0 mx2.plain.example 2001:db8::2 192.0.2.2"},
        {"us.example", "0 us.example 192.0.2.99"}, /* on this machine, if the administrator says so */
        {"localhost", "0 localhost ::1 127.0.0.1"},
        {"127.0.0.1", "0 [127.0.0.1] 127.0.0.1"},
        {"[192.0.2.99]", "0 [192.0.2.99] 192.0.2.99"},
        {"2001:db8::5", "0 [ipv6:2001:db8::5] 2001:db8::5"},
        {"[2001:db8::5]", "0 [ipv6:2001:db8::5] 2001:db8::5"},
        /* a typo in a configuration must not bounce the queue */
        {"gone.example", "temporary: gone.example does not exist"},
        {"no host", "temporary: not a host name"},
        {"implicit-fails.example", "temporary: SERVFAIL for the address of implicit-fails.example"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect(mx_lookup_host, cases[i].host, cases[i].expected);
    }
}

/* Whose hosts cannot have been put in by somebody on the way? */
static void sure_hosts(void **state)
{
    static const struct {
        const char *domain;
        bool sure;
    } cases[] = {
        {"plain.example", false},
        {"signed.example", true},
        {"signed-alias.example", true},
        {"implicit.example", true}, /* the domain itself, whatever the answer */
        {"alias.example", false},
        {"alias-implicit.example", false}, /* what a CNAME leads to is not */
        {"alias-open-implicit.example", false},
        {"alias-open-signed.example", false}, /* only the end of the chain was validated */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mx_lookup lookup;
        mx_lookup_init(&lookup, done);
        assert_true(mx_lookup_start(&lookup, NULL, &settings, bytes_of_string(cases[i].domain)));
        if (lookup.result->class != MX_HOSTS || lookup.result->sure != cases[i].sure) {
            fail_msg("%s: sure %d", cases[i].domain, lookup.result->sure);
        }
        mx_lookup_release(&lookup);
    }
}

static void codes(void **state)
{
    static const struct {
        enum mx_class class;
        const char *code;
        unsigned reply;
        bool permanent;
    } cases[] = {
        {MX_NULL, "5.1.10", 556, true}, {MX_NO_DOMAIN, "5.1.2", 550, true},  {MX_NO_ROUTE, "5.4.4", 550, true},
        {MX_LOOP, "5.4.6", 554, true},  {MX_TEMPORARY, "4.4.3", 451, false}, {MX_HOSTS, "2.0.0", 250, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_string_equal(mx_enhanced_code(cases[i].class), cases[i].code);
        assert_int_equal(mx_reply_code(cases[i].class), cases[i].reply);
        assert_int_equal(mx_permanent(cases[i].class), cases[i].permanent);
    }
}

static void loopback_can_be_remote(void **state)
{
    (void)state;
    settings.loopback_is_remote = true;
    expect(mx_lookup_start, "loopback.example", "10 localhost.loopback.example 127.0.0.1");
    expect(mx_lookup_start, "[127.0.0.1]", "0 [127.0.0.1] 127.0.0.1");
}

static void families(void **state)
{
    (void)state;
    settings.family = MX_IPV4_FIRST;
    expect(mx_lookup_start, "dual.example", "0 dual.example 198.51.100.1 2001:db8::1");
    expect(mx_lookup_host, "localhost", "0 localhost 127.0.0.1 ::1");
    settings.family = MX_IPV4_ONLY;
    expect(mx_lookup_start, "dual.example", "0 dual.example 198.51.100.1");
    expect(mx_lookup_start, "implicit6.example", "no-route: implicit6.example has neither MX nor address records");
    expect(mx_lookup_host, "localhost", "0 localhost 127.0.0.1");
    asked = 0;
    expect(mx_lookup_start, "dual.example", "0 dual.example 198.51.100.1");
    assert_int_equal(asked, 4); /* MX and A, twice: AAAA is not asked for */
    settings.family = MX_IPV6_ONLY;
    expect(mx_lookup_start, "dual.example", "0 dual.example 2001:db8::1");
    expect(mx_lookup_host, "localhost", "0 localhost ::1");
}

static void equal_preferences_are_shuffled(void **state)
{
    (void)state;
    unsigned first[3] = {0};
    for (unsigned i = 0; i < 3000; i++) {
        struct mx_lookup lookup;
        mx_lookup_init(&lookup, done);
        assert_true(mx_lookup_start(&lookup, NULL, &settings, BYTES("three.example")));
        const struct mx_result *result = lookup.result;
        assert_int_equal(result->host_count, 4);
        first[result->hosts[0].name.data[0] - 'a']++;
        assert_int_equal(result->hosts[3].name.data[0], 'd');
        assert_true(
            bytes_equal(result->site, BYTES("a.three.example,b.three.example,c.three.example,d.three.example")));
        mx_lookup_release(&lookup);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_in_range(first[i], 900, 1100);
    }
}

static void addresses_are_bounded_and_spread(void **state)
{
    (void)state;
    unsigned beginnings = 0;
    bool seen[21] = {false};
    for (unsigned i = 0; i < 500; i++) {
        struct mx_lookup lookup;
        mx_lookup_init(&lookup, done);
        assert_true(mx_lookup_start(&lookup, NULL, &settings, BYTES("many-addresses.example")));
        const struct mx_host *host = &lookup.result->hosts[0];
        assert_int_equal(host->address_count, MX_HOST_ADDRESSES_MAX);
        uint8_t first = host->addresses[0].bytes[3];
        beginnings += !seen[first];
        seen[first] = true;
        for (unsigned j = 1; j < host->address_count; j++) {
            assert_false(mx_address_equal(&host->addresses[0], &host->addresses[j]));
        }
        mx_lookup_release(&lookup);
    }
    assert_int_equal(beginnings, 20);
}

static void results_outlive_their_lookup(void **state)
{
    (void)state;
    struct mx_lookup lookup;
    mx_lookup_init(&lookup, done);
    assert_true(mx_lookup_start(&lookup, NULL, &settings, BYTES("plain.example")));
    struct mx_result *kept = mx_result_retain(lookup.result);
    assert_int_equal(kept->expires_ms, shard.now_ms + 60000);
    assert_false(kept->sure);
    mx_lookup_release(&lookup);
    assert_true(mx_lookup_start(&lookup, NULL, &settings, BYTES("implicit.example")));
    assert_true(lookup.result->sure);
    mx_lookup_release(&lookup);
    assert_string_equal(render(kept), "10 mx1.plain.example 192.0.2.1, 20 mx2.plain.example 2001:db8::2 192.0.2.2");
    mx_result_release(kept);
    mx_result_release(NULL);
}

/* Stopped at every point of its way: nothing is called, nothing is left behind. */
static void stopped_lookups(void **state)
{
    (void)state;
    delayed = true;
    done_calls = 0;
    for (unsigned answers = 0; answers < 5; answers++) {
        struct mx_lookup lookup;
        mx_lookup_init(&lookup, done);
        assert_false(mx_lookup_start(&lookup, NULL, &settings, BYTES("plain.example")));
        for (unsigned i = 0; i < answers; i++) {
            struct pending now = pending[0];
            pending[0] = pending[--pending_count];
            look_up(now.name, now.type);
            now.ask->done(now.ask, &answer);
        }
        mx_lookup_release(&lookup);
        assert_int_equal(pending_count, 0);
        mx_lookup_release(&lookup);
    }
    assert_int_equal(done_calls, 0);
    delayed = false;
}

static void restart(struct mx_lookup *lookup)
{
    done_calls++;
    mx_lookup_release(lookup);
    if (done_calls < 3) {
        assert_false(mx_lookup_start(lookup, NULL, &settings, BYTES("plain.example")));
    }
}

static void started_again_in_done(void **state)
{
    (void)state;
    struct mx_lookup lookup;
    delayed = true;
    done_calls = 0;
    mx_lookup_init(&lookup, restart);
    assert_false(mx_lookup_start(&lookup, NULL, &settings, BYTES("gone.example")));
    answer_pending();
    assert_int_equal(done_calls, 3);
    delayed = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(decisions, setup),
        cmocka_unit_test_setup(sure_hosts, setup),
        cmocka_unit_test_setup(named_hosts, setup),
        cmocka_unit_test_setup(codes, setup),
        cmocka_unit_test_setup(loopback_can_be_remote, setup),
        cmocka_unit_test_setup(families, setup),
        cmocka_unit_test_setup(equal_preferences_are_shuffled, setup),
        cmocka_unit_test_setup(addresses_are_bounded_and_spread, setup),
        cmocka_unit_test_setup(results_outlive_their_lookup, setup),
        cmocka_unit_test_setup(stopped_lookups, setup),
        cmocka_unit_test_setup(started_again_in_done, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
