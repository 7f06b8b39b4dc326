#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "dns/answer.h"
#include "unit/dns/dns_packet.h"

static struct dns_packet packet;
static struct answer_store store;
static struct answer answer;

/* Every reply is read from a block of exactly its size, so that a sanitizer sees one byte too many. */
static void read_packet(const char *name, enum answer_type type)
{
    uint8_t *exact = malloc(packet.length != 0 ? packet.length : 1);
    assert_non_null(exact);
    memcpy(exact, packet.data, packet.length);
    answer_read(exact, packet.length, bytes_of_string(name), type, &store, &answer);
    free(exact);
}

static void expect_data(unsigned record, const char *data)
{
    assert_in_range(record, 0, answer.count - 1);
    struct bytes got = answer.records[record].data;
    if (!bytes_equal(got, bytes_of_string(data))) {
        fail_msg("record %u: \"%.*s\", expected \"%s\"", record, (int)got.length, got.data, data);
    }
}

static void expect_cause(const char *cause)
{
    assert_int_equal(answer.status, ANSWER_TEMPORARY);
    assert_string_equal(answer.cause, cause);
    assert_int_equal(answer.count, 0);
    assert_false(answer.authentic);
}

static void mx_records(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY | 0x20, "example.ORG", 15);
    dns_packet_mx(&packet, "Example.org", 300, 10, "MX1.example.NET");
    dns_packet_mx(&packet, "other.org", 1, 1, "not.asked.for");
    dns_packet_mx(&packet, "example.org", 200, 65535, "");
    dns_packet_mx(&packet, "example.org", 400, 5, "a b.example.net");
    read_packet("example.org", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_RECORDS);
    assert_int_equal(answer.count, 3);
    assert_int_equal(answer.records[0].preference, 10);
    assert_int_equal(answer.records[1].preference, 65535);
    expect_data(0, "mx1.example.net");
    expect_data(1, ".");
    expect_data(2, ""); /* kept, because "no usable MX" is not "no MX" */
    assert_int_equal(answer.ttl_s, 200);
    assert_true(answer.authentic);
    assert_int_equal(answer.aliases, 0);
    assert_true(bytes_equal(answer.canonical, BYTES("example.org")));
}

static void other_types(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 1);
    dns_packet_a(&packet, "a.example", 60, 0xc0000201);
    read_packet("a.example.", ANSWER_A); /* a final dot in the question means the same */
    assert_int_equal(answer.status, ANSWER_RECORDS);
    assert_memory_equal(answer.records[0].data.data, "\xc0\x00\x02\x01", 4);
    assert_false(answer.authentic);

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 28);
    dns_packet_record(&packet, DNS_PACKET_ANSWER, "a.example", 28, 60);
    dns_packet_put(&packet, "0123456789abcdef", 16);
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_AAAA);
    expect_data(0, "0123456789abcdef");

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 16);
    dns_packet_record(&packet, DNS_PACKET_ANSWER, "a.example", 16, 60);
    dns_packet_put(&packet,
                   "\x04v=SP\x00\x05"
                   "F1 ~a",
                   12);
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_TXT);
    expect_data(0, "v=SPF1 ~a");

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "_25._tcp.a.example", 52);
    dns_packet_record(&packet, DNS_PACKET_ANSWER, "_25._tcp.a.example", 52, 60);
    dns_packet_put(&packet, "\x03\x01\x01hash", 7);
    dns_packet_end(&packet);
    read_packet("_25._tcp.a.example", ANSWER_TLSA);
    expect_data(0, "\x03\x01\x01hash");

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 5);
    dns_packet_cname(&packet, "a.example", 60, "B.example");
    read_packet("a.example", ANSWER_CNAME);
    expect_data(0, "b.example");
    assert_int_equal(answer.aliases, 0);
}

static void aliases_in_any_order(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 1);
    dns_packet_a(&packet, "c.example", 500, 0x01020304);
    dns_packet_cname(&packet, "b.example", 70, "c.example");
    dns_packet_cname(&packet, "a.example", 90, "b.example");
    read_packet("a.example", ANSWER_A);
    assert_int_equal(answer.status, ANSWER_RECORDS);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.aliases, 2);
    assert_int_equal(answer.ttl_s, 70);
    assert_true(bytes_equal(answer.canonical, BYTES("c.example")));
}

static void put_chain(unsigned aliases)
{
    char owner[32];
    char target[32];
    for (unsigned i = 0; i < aliases; i++) {
        snprintf(owner, sizeof owner, "n%u.example", i);
        snprintf(target, sizeof target, "n%u.example", i + 1);
        dns_packet_cname(&packet, owner, 60, target);
    }
    dns_packet_a(&packet, target, 60, 1);
}

static void alias_chains_end(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "n0.example", 1);
    put_chain(8);
    read_packet("n0.example", ANSWER_A);
    assert_int_equal(answer.status, ANSWER_RECORDS);
    assert_int_equal(answer.aliases, 8);

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "n0.example", 1);
    put_chain(9);
    read_packet("n0.example", ANSWER_A);
    expect_cause("CNAME chain too long");

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 1);
    dns_packet_cname(&packet, "a.example", 60, "b.example");
    dns_packet_cname(&packet, "b.example", 60, "a.example");
    read_packet("a.example", ANSWER_A);
    expect_cause("CNAME chain too long");

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 1);
    dns_packet_cname(&packet, "a.example", 60, "b\x01.example");
    read_packet("a.example", ANSWER_A);
    expect_cause("CNAME to no host name");
}

static void negatives(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15); /* NODATA; the lesser of TTL and MINIMUM */
    dns_packet_soa(&packet, "example", 900, 300);
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_NO_DATA);
    assert_int_equal(answer.ttl_s, 300);
    assert_true(bytes_equal(answer.canonical, BYTES("a.example")));

    dns_packet_begin(&packet, DNS_PACKET_REPLY | 3, "a.example", 15);
    dns_packet_soa(&packet, "example", 100, 300);
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_NO_DOMAIN);
    assert_int_equal(answer.ttl_s, 100);

    dns_packet_begin(&packet, DNS_PACKET_REPLY | 3, "a.example", 15); /* RFC 6604: the rcode is of the chain's end */
    dns_packet_cname(&packet, "a.example", 60, "gone.example");
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_NO_DOMAIN);

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15); /* nothing says how long */
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_NO_DATA);
    assert_int_equal(answer.ttl_s, 0);
}

static void alias_without_its_end(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
    dns_packet_cname(&packet, "a.example", 60, "b.example");
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_ALIAS);
    assert_true(bytes_equal(answer.canonical, BYTES("b.example")));
    assert_int_equal(answer.ttl_s, 60);

    dns_packet_soa(&packet, "example", 900, 300); /* with an SOA the reply speaks about the end: it has no MX */
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_NO_DATA);
    assert_true(bytes_equal(answer.canonical, BYTES("b.example")));
}

/* Whatever is doubtful must not look like "no such record". */
static void refusals(void **state)
{
    static const struct {
        unsigned flags;
        const char *cause;
    } cases[] = {
        {0x8181, "FORMERR"},
        {0x8182, "SERVFAIL"},
        {0x8184, "NOTIMP"},
        {0x8185, "REFUSED"},
        {0x8186, "error reply"},
        {0x8380, "truncated reply"},
        {0x0180, "malformed reply"},
        {0xa980, "malformed reply"},
        {0x8100, "referral from a server that does not resolve"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dns_packet_begin(&packet, cases[i].flags, "a.example", 15);
        read_packet("a.example", ANSWER_MX);
        expect_cause(cases[i].cause);
    }
    dns_packet_begin(&packet, 0x8400, "a.example", 15); /* authoritative: it may say no without recursion */
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_NO_DATA);

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15); /* BADVERS lives in OPT's TTL (RFC 6891) */
    dns_packet_record(&packet, DNS_PACKET_ADDITIONAL, "", 41, 1u << 24);
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_MX);
    expect_cause("extended error");

    dns_packet_begin(&packet, DNS_PACKET_REPLY | 3, "a.example", 15);
    dns_packet_mx(&packet, "a.example", 60, 1, "b.example");
    read_packet("a.example", ANSWER_MX);
    expect_cause("NXDOMAIN with records");
}

static void other_questions(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "b.example", 15);
    read_packet("a.example", ANSWER_MX);
    expect_cause("reply to another question");
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 1);
    read_packet("a.example", ANSWER_MX);
    expect_cause("reply to another question");
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
    dns_packet_set16(&packet, packet.length - 2, 3); /* class CHAOS */
    read_packet("a.example", ANSWER_MX);
    expect_cause("reply to another question");
    for (unsigned questions = 0; questions <= 2; questions += 2) {
        dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
        dns_packet_set16(&packet, 4, questions);
        read_packet("a.example", ANSWER_MX);
        expect_cause("reply to another question");
    }
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "x", 15); /* one label "a.example" is not the name a.example */
    packet.length = 12;
    dns_packet_put(&packet,
                   "\x09"
                   "a.example\x00\x00\x0f\x00\x01",
                   15);
    read_packet("a.example", ANSWER_MX);
    expect_cause("reply to another question");
}

static void wrong_counts_and_cuts(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
    dns_packet_mx(&packet, "a.example", 60, 1, "b.example");
    for (size_t section = DNS_PACKET_ANSWER; section <= DNS_PACKET_ADDITIONAL; section += 2) {
        unsigned count = dns_packet_get16(&packet, section);
        dns_packet_set16(&packet, section, count + 1);
        read_packet("a.example", ANSWER_MX);
        expect_cause("malformed reply");
        dns_packet_set16(&packet, section, 65535);
        read_packet("a.example", ANSWER_MX);
        expect_cause("too many records");
        dns_packet_set16(&packet, section, count);
    }
    size_t whole = packet.length;
    for (packet.length = 0; packet.length < whole; packet.length++) {
        read_packet("a.example", ANSWER_MX);
        assert_int_equal(answer.status, ANSWER_TEMPORARY);
    }
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_RECORDS);
}

static void wrong_data(void **state)
{
    static const struct {
        enum answer_type type;
        const char *data;
        size_t length;
    } cases[] = {
        {ANSWER_A, "abc", 3},      {ANSWER_A, "abcde", 5},    {ANSWER_A, "", 0},
        {ANSWER_AAAA, "abcd", 4},  {ANSWER_MX, "\0\1", 2},    {ANSWER_MX, "\0", 1},
        {ANSWER_MX, "\0\1\1b", 4}, {ANSWER_MX, "\0\1\0x", 4}, {ANSWER_MX, "\0\1\x40x\0", 5},
        {ANSWER_TXT, "\5abcd", 5}, {ANSWER_TLSA, "\3\1", 2},  {ANSWER_CNAME, "\1b\0\0", 4},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", cases[i].type);
        dns_packet_record(&packet, DNS_PACKET_ANSWER, "a.example", cases[i].type, 60);
        dns_packet_put(&packet, cases[i].data, cases[i].length);
        dns_packet_end(&packet);
        read_packet("a.example", cases[i].type);
        expect_cause("malformed record");
    }
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
    dns_packet_record(&packet, DNS_PACKET_AUTHORITY, "example", 6, 60);
    dns_packet_put_name(&packet, "ns.example");
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_MX);
    expect_cause("malformed record");
}

/* The MX target's name is the given bytes, at `at` in the packet. */
static size_t begin_name(void)
{
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
    dns_packet_record(&packet, DNS_PACKET_ANSWER, "a.example", 15, 60);
    dns_packet_put16(&packet, 10);
    return packet.length;
}

static void compression(void **state)
{
    (void)state;
    begin_name();
    dns_packet_put(&packet, "\2mx\xc0\x0c", 5); /* mx + the question's name */
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_RECORDS);
    expect_data(0, "mx.a.example");

    size_t at = begin_name(); /* to itself */
    dns_packet_put16(&packet, 0xc000u | (unsigned)at);
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_MX);
    expect_cause("malformed record");

    at = begin_name(); /* a label, then back to it: endless */
    dns_packet_put(&packet, "\1x", 2);
    dns_packet_put16(&packet, 0xc000u | (unsigned)at);
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_MX);
    expect_cause("malformed record");

    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example",
                     15); /* forward, to a good name: an owner behind its record */
    dns_packet_set16(&packet, DNS_PACKET_ANSWER, 1);
    dns_packet_put16(&packet, 0xc000u | (unsigned)(packet.length + 2));
    dns_packet_put(&packet, "\1b\0\1\0\1\0\0\0\1\0\0", 13);
    read_packet("a.example", ANSWER_MX);
    expect_cause("malformed reply");

    begin_name(); /* forward, out of the packet */
    dns_packet_put16(&packet, 0xffff);
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_MX);
    expect_cause("malformed record");
}

static void chains_of_pointers_are_bounded(void **state)
{
    (void)state;
    for (unsigned pointers = 63; pointers <= 64; pointers++) {
        dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
        dns_packet_record(&packet, DNS_PACKET_ANSWER, "z", 16, 60); /* a TXT whose data is the chain */
        size_t at = packet.length;
        dns_packet_put16(&packet, 0xc00c);
        for (unsigned i = 1; i < pointers; i++) {
            dns_packet_put16(&packet, 0xc000u | (unsigned)at);
            at += 2;
        }
        dns_packet_end(&packet);
        dns_packet_record(&packet, DNS_PACKET_ANSWER, "a.example", 15, 60);
        dns_packet_put16(&packet, 10);
        dns_packet_put16(&packet, 0xc000u | (unsigned)at);
        dns_packet_end(&packet);
        read_packet("a.example", ANSWER_MX);
        assert_int_equal(answer.status, pointers == 63 ? ANSWER_RECORDS : ANSWER_TEMPORARY);
    }
}

static void longest_name(void **state)
{
    (void)state;
    char name[256];
    memset(name, 'x', sizeof name);
    for (size_t i = 63; i < 253; i += 64) {
        name[i] = '.';
    }
    name[253] = '\0'; /* labels of 63, 63, 63 and 61: 255 bytes on the wire */
    begin_name();
    dns_packet_put_name(&packet, name);
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_MX);
    expect_data(0, name);

    name[253] = 'x'; /* one more */
    name[254] = '\0';
    begin_name();
    dns_packet_put_name(&packet, name);
    dns_packet_end(&packet);
    read_packet("a.example", ANSWER_MX);
    expect_cause("malformed record");
}

static void many_records(void **state)
{
    (void)state;
    char host[32];
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(host, sizeof host, "mx%u.example", i);
        dns_packet_mx(&packet, "a.example", 60, i, host);
    }
    read_packet("a.example", ANSWER_MX);
    assert_int_equal(answer.status, ANSWER_RECORDS);
    assert_int_equal(answer.count, ANSWER_RECORDS_MAX);
    expect_data(63, "mx63.example");

    static char text[255];
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 16); /* a TXT of 60 kB does not fit and is left out */
    for (unsigned big = 0; big < 2; big++) {
        dns_packet_record(&packet, DNS_PACKET_ANSWER, "a.example", 16, 60);
        for (unsigned i = 0; i < (big == 0 ? 236 : 1); i++) {
            dns_packet_put(&packet, "\xff", 1);
            dns_packet_put(&packet, text, sizeof text);
        }
        dns_packet_end(&packet);
    }
    read_packet("a.example", ANSWER_TXT);
    assert_int_equal(answer.status, ANSWER_RECORDS);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.records[0].data.length, 255);
}

static void times_to_live(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 1);
    dns_packet_a(&packet, "a.example", 0x80000000, 1); /* RFC 2181 8 */
    read_packet("a.example", ANSWER_A);
    assert_int_equal(answer.ttl_s, 0);
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 1);
    dns_packet_a(&packet, "a.example", 0x7fffffff, 1);
    read_packet("a.example", ANSWER_A);
    assert_int_equal(answer.ttl_s, 0x7fffffff);
}

static void copies(void **state)
{
    (void)state;
    dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
    dns_packet_cname(&packet, "a.example", 60, "b.example");
    dns_packet_mx(&packet, "b.example", 60, 7, "mx1.example");
    dns_packet_mx(&packet, "b.example", 60, 8, "mx2.example");
    read_packet("a.example", ANSWER_MX);
    struct answer *copy = answer_copy(&answer);
    assert_non_null(copy);
    memset(&store, 0xee, sizeof store);
    answer = *copy;
    assert_int_equal(answer.count, 2);
    expect_data(0, "mx1.example");
    expect_data(1, "mx2.example");
    assert_int_equal(answer.records[1].preference, 8);
    assert_true(bytes_equal(answer.canonical, BYTES("b.example")));
    free(copy);
    assert_non_null(copy = answer_copy(&(struct answer){.status = ANSWER_NO_DOMAIN}));
    assert_int_equal(copy->status, ANSWER_NO_DOMAIN);
    free(copy);
}

/* Flips bytes of a good reply: whatever comes out, nothing is read or written outside. For the sanitizers. */
static void damaged_replies(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    for (unsigned round = 0; round < 20000; round++) {
        dns_packet_begin(&packet, DNS_PACKET_REPLY, "a.example", 15);
        dns_packet_cname(&packet, "a.example", 60, "b.example");
        dns_packet_mx(&packet, "b.example", 60, 7, "mx1.example");
        dns_packet_soa(&packet, "example", 9, 9);
        for (unsigned flips = 1 + (unsigned)rng_below(&rng, 4); flips > 0; flips--) {
            packet.data[12 + rng_below(&rng, packet.length - 12)] = (uint8_t)rng_next(&rng);
        }
        read_packet("a.example", ANSWER_MX);
        assert_in_range(answer.count, 0, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mx_records),
        cmocka_unit_test(other_types),
        cmocka_unit_test(aliases_in_any_order),
        cmocka_unit_test(alias_chains_end),
        cmocka_unit_test(negatives),
        cmocka_unit_test(alias_without_its_end),
        cmocka_unit_test(refusals),
        cmocka_unit_test(other_questions),
        cmocka_unit_test(wrong_counts_and_cuts),
        cmocka_unit_test(wrong_data),
        cmocka_unit_test(compression),
        cmocka_unit_test(chains_of_pointers_are_bounded),
        cmocka_unit_test(longest_name),
        cmocka_unit_test(many_records),
        cmocka_unit_test(times_to_live),
        cmocka_unit_test(copies),
        cmocka_unit_test(damaged_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
