/* What a client says about its message, as the spool gets it: every parameter, aliases, and the bounds. */
#include "inbound/envelope_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>

#include "spool/envelope.h"

#define WALL_MS 1795296440000ull

static struct body_pool pool;
static _Atomic uint64_t gauge;
static struct profile profile;
static struct peer peer;
static struct reception_client client;
static struct envelope_writer writer;

static int set_up(void **state)
{
    (void)state;
    body_pool_init(&pool, 8u << 20, &gauge);
    profile = (struct profile){.smtp = {.hostname = BYTES("mx.example")}};
    peer = (struct peer){.address = {[10] = 0xff, 0xff, 192, 0, 2, 1}};
    client = (struct reception_client){.peer = &peer, .helo = BYTES("client.example"), .profile = &profile};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    envelope_writer_free(&writer);
    assert_int_equal(pool.bytes, 0);
    body_pool_free(&pool);
    return 0;
}

static struct address address_of(const char *text)
{
    struct address address;
    assert_int_equal(address_parse(bytes_of_string(text), &address), ADDRESS_OK);
    return address;
}

static enum err begin(const struct params_mail *params)
{
    const struct envelope_writer_setup setup = {.pool = &pool, .wall_ms = WALL_MS};
    struct address sender = address_of("a@example.com");
    return envelope_writer_begin(&writer, &setup, &client, &sender, params);
}

static enum err add(const char *recipient, const struct params_rcpt *params, const struct recipients_answer *answer)
{
    static const struct params_rcpt none;
    static const struct recipients_answer mailbox = {.verdict = RECIPIENTS_MAILBOX};
    struct address address = address_of(recipient);
    return envelope_writer_add(&writer, &address, params != NULL ? params : &none, answer != NULL ? answer : &mailbox);
}

static void assert_item(enum envelope_tag tag, struct bytes value)
{
    struct bytes found = envelope_find(buffer_bytes(&writer.bytes), tag);
    assert_non_null(found.data);
    assert_int_equal(found.length, value.length);
    assert_memory_equal(found.data, value.data, value.length);
}

static void assert_no_item(enum envelope_tag tag)
{
    assert_null(envelope_find(buffer_bytes(&writer.bytes), tag).data);
}

static const struct params_mail full = {
    .given = PARAMS_GIVEN_RET | PARAMS_GIVEN_ENVID | PARAMS_GIVEN_AUTH | PARAMS_GIVEN_REQUIRETLS |
             PARAMS_GIVEN_PRIORITY | PARAMS_GIVEN_HOLD_FOR | PARAMS_GIVEN_BY | PARAMS_GIVEN_SMTPUTF8,
    .ret = 'H',
    .envid = {"QQ+2B1", 6},
    .auth = {"e+3Dmc2@example.com", 19},
    .priority = 5,
    .hold_for_s = 60,
    .by_s = -1,
    .by_mode = 'N',
    .by_trace = true,
};

static void test_every_parameter(void **state)
{
    (void)state;
    client.trusted = true;
    client.account = BYTES("ann@example.com");
    client.tenant = BYTES("shop");
    assert_int_equal(begin(&full), ERR_OK);
    assert_int_equal(add("b@example.net", NULL, NULL), ERR_OK);
    uint32_t recipients = 0;
    assert_int_equal(envelope_check(buffer_bytes(&writer.bytes), &recipients), ERR_OK);
    assert_int_equal(recipients, 1);
    assert_item(ENVELOPE_SENDER, BYTES("a@example.com"));
    assert_item(ENVELOPE_CLIENT_ADDRESS, bytes_of("\300\0\2\1", 4));
    assert_item(ENVELOPE_HELO, BYTES("client.example"));
    assert_item(ENVELOPE_RETURN, BYTES("H"));
    assert_item(ENVELOPE_ID, BYTES("QQ+2B1"));
    assert_item(ENVELOPE_AUTH_PARAMETER, BYTES("e+3Dmc2@example.com"));
    assert_item(ENVELOPE_PRIORITY, bytes_of("\5", 1));
    uint64_t hold_ms = WALL_MS + 60000;
    assert_item(ENVELOPE_HOLD_UNTIL, bytes_of(&hold_ms, 8));
    struct {
        uint64_t at_ms;
        char rest[2];
    } by = {WALL_MS - 1000, {'N', 1}};
    assert_item(ENVELOPE_DELIVER_BY, bytes_of(&by, 10));
    assert_item(ENVELOPE_AUTHENTICATED, BYTES("ann@example.com"));
    assert_item(ENVELOPE_TENANT, BYTES("shop"));
    assert_int_equal(writer.flags, SPOOL_FORMAT_SMTPUTF8 | SPOOL_FORMAT_REQUIRETLS);
}

static void test_nothing_given_nothing_written(void **state)
{
    (void)state;
    assert_int_equal(begin(&(struct params_mail){.ret = 'F', .priority = 3, .hold_for_s = 5}), ERR_OK);
    for (int tag = ENVELOPE_ID; tag <= ENVELOPE_AUTH_PARAMETER; tag++) {
        assert_no_item((enum envelope_tag)tag);
    }
    assert_int_equal(writer.flags, 0);
}

/* RFC 4954 5, RFC 6710 5.1. */
static void test_strangers_are_not_believed(void **state)
{
    (void)state;
    assert_int_equal(begin(&full), ERR_OK);
    assert_item(ENVELOPE_AUTH_PARAMETER, BYTES("<>"));
    assert_item(ENVELOPE_PRIORITY, bytes_of("\0", 1));
    envelope_writer_free(&writer);
    struct params_mail low = full;
    low.priority = -5;
    assert_int_equal(begin(&low), ERR_OK);
    assert_item(ENVELOPE_PRIORITY, bytes_of("\373", 1));
}

static void test_absolute_hold(void **state)
{
    (void)state;
    uint64_t until_ms = 1800000000000ull;
    assert_int_equal(begin(&(struct params_mail){.given = PARAMS_GIVEN_HOLD_UNTIL, .hold_until_s = 1800000000}),
                     ERR_OK);
    assert_item(ENVELOPE_HOLD_UNTIL, bytes_of(&until_ms, 8));
}

static void test_recipients_and_their_parameters(void **state)
{
    (void)state;
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    const struct params_rcpt params = {.given = PARAMS_GIVEN_NOTIFY | PARAMS_GIVEN_ORCPT,
                                       .notify = PARAMS_NOTIFY_SUCCESS | PARAMS_NOTIFY_DELAY,
                                       .orcpt = BYTES("rfc822;x+2By@example.org")};
    assert_int_equal(add("Case.Kept@Example.NET", &params, NULL), ERR_OK);
    assert_true(bytes_equal(envelope_writer_only_recipient(&writer), BYTES("Case.Kept@example.net")));
    assert_int_equal(add("Postmaster", NULL, NULL), ERR_OK);
    assert_int_equal(envelope_writer_only_recipient(&writer).length, 0);
    struct envelope_item item;
    assert_true(envelope_recipient(buffer_bytes(&writer.bytes), 0, &item));
    assert_int_equal(item.flags, ENVELOPE_NOTIFY_SUCCESS | ENVELOPE_NOTIFY_DELAY);
    assert_item(ENVELOPE_ORIGINAL_RECIPIENT, BYTES("rfc822;x+2By@example.org"));
    assert_true(envelope_recipient(buffer_bytes(&writer.bytes), 1, &item));
    assert_true(bytes_equal(item.value, BYTES("Postmaster@mx.example")));
    assert_int_equal(item.flags, 0);
}

/* RFC 3461 5.2.7.3: a notification names the address that the sender wrote. */
static void test_alias(void **state)
{
    (void)state;
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    const struct bytes targets[] = {BYTES("x@one.test"), BYTES("y@two.test")};
    const struct recipients_answer alias = {RECIPIENTS_FORWARD, 2, targets};
    const struct params_rcpt params = {.given = PARAMS_GIVEN_NOTIFY, .notify = PARAMS_NOTIFY_FAILURE};
    assert_int_equal(add("info+a@own.test", &params, &alias), ERR_OK);
    assert_int_equal(writer.recipients, 2);
    assert_int_equal(envelope_writer_only_recipient(&writer).length, 0);
    struct envelope_iterator at = envelope_iterate(buffer_bytes(&writer.bytes));
    struct envelope_item item;
    for (unsigned i = 0; i < 2; i++) {
        assert_true(envelope_next_recipient(&at, &item));
        assert_true(bytes_equal(item.value, targets[i]));
        assert_int_equal(item.flags, ENVELOPE_NOTIFY_FAILURE);
        assert_true(envelope_next(&at, &item));
        assert_int_equal(item.tag, ENVELOPE_ORIGINAL_RECIPIENT);
        assert_true(bytes_equal(item.value, BYTES("rfc822;info+2Ba@own.test")));
    }
}

/* --- the same one twice --- */

static void expect_recipients(const char *const *wanted, const uint8_t *flags, unsigned count)
{
    struct envelope_iterator at = envelope_iterate(buffer_bytes(&writer.bytes));
    struct envelope_item item;
    for (unsigned i = 0; i < count; i++) {
        assert_true(envelope_next_recipient(&at, &item));
        assert_true(bytes_equal(item.value, bytes_of_string(wanted[i])));
        assert_int_equal(item.flags, flags != NULL ? flags[i] : 0);
    }
    assert_false(envelope_next_recipient(&at, &item));
    assert_int_equal(writer.recipients, count);
}

/* Postfix's duplicate_filter; RFC 5321 says nothing against it. The local part is its host's to know. */
static void test_the_same_one_twice(void **state)
{
    (void)state;
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    static const char *const given[] = {"b@example.net", "B@example.net", "b@Example.NET", "c@example.net",
                                        "b@example.net", "Postmaster",    "postmaster",    "Postmaster@mx.example"};
    for (unsigned i = 0; i < sizeof given / sizeof *given; i++) {
        assert_int_equal(add(given[i], NULL, NULL), ERR_OK);
    }
    static const char *const wanted[] = {"b@example.net", "B@example.net", "c@example.net", "Postmaster@mx.example",
                                         "postmaster@mx.example"};
    expect_recipients(wanted, NULL, 5);
    assert_int_equal(envelope_writer_only_recipient(&writer).length, 0);
}

static void test_aliases_meet(void **state)
{
    (void)state;
    const struct bytes targets[] = {BYTES("x@one.test"), BYTES("y@two.test"), BYTES("z@two.test")};
    const struct recipients_answer first = {RECIPIENTS_FORWARD, 2, targets};
    const struct recipients_answer second = {RECIPIENTS_FORWARD, 2, targets + 1};
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    assert_int_equal(add("x@one.test", NULL, NULL), ERR_OK);
    assert_int_equal(add("info@own.test", NULL, &first), ERR_OK);
    assert_int_equal(add("sales@own.test", NULL, &second), ERR_OK);
    assert_int_equal(add("info@own.test", NULL, &first), ERR_OK);
    assert_int_equal(add("z@TWO.test", NULL, NULL), ERR_OK);
    static const char *const wanted[] = {"x@one.test", "y@two.test", "z@two.test"};
    expect_recipients(wanted, NULL, 3);
    assert_item(ENVELOPE_ORIGINAL_RECIPIENT, BYTES("rfc822;info@own.test")); /* of y: x was written by the sender */
}

/* RFC 3461 4.1, 4.2: nothing that was asked for is lost; the ORCPT is the first one's. */
static void test_parameters_of_the_same_one(void **state)
{
    (void)state;
    enum {
        NONE = 0,
        NEVER = PARAMS_NOTIFY_NEVER,
        SUCCESS = PARAMS_NOTIFY_SUCCESS,
        FAILURE = PARAMS_NOTIFY_FAILURE,
        DELAY = PARAMS_NOTIFY_DELAY
    };
    static const uint8_t cases[][3] = {
        {NONE, NONE, NONE},
        {NEVER, NEVER, NEVER},
        {NEVER, NONE, NONE},
        {NEVER, SUCCESS, SUCCESS},
        {NONE, FAILURE, NONE},
        {NONE, SUCCESS, SUCCESS | FAILURE},
        {NONE, DELAY, DELAY | FAILURE},
        {NONE, SUCCESS | FAILURE, SUCCESS | FAILURE},
        {SUCCESS, DELAY, SUCCESS | DELAY},
        {SUCCESS, FAILURE, SUCCESS | FAILURE},
    };
    const struct recipients_answer alias = {RECIPIENTS_FORWARD, 1, &BYTES("b@example.net")};
    for (unsigned i = 0; i < 4 * sizeof cases / sizeof *cases; i++) {
        const uint8_t *row = cases[i / 4];
        assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
        struct params_rcpt one = {
            .given = PARAMS_GIVEN_ORCPT, .notify = row[i % 2], .orcpt = BYTES("rfc822;one@a.test")};
        struct params_rcpt two = {
            .given = PARAMS_GIVEN_ORCPT, .notify = row[1 - i % 2], .orcpt = BYTES("rfc822;two@a.test")};
        assert_int_equal(add("b@example.net", &one, NULL), ERR_OK);
        assert_int_equal(add("b@example.net", &two, i % 4 < 2 ? NULL : &alias), ERR_OK);
        static const char *const wanted[] = {"b@example.net"};
        expect_recipients(wanted, &row[2], 1);
        assert_item(ENVELOPE_ORIGINAL_RECIPIENT, BYTES("rfc822;one@a.test"));
        envelope_writer_free(&writer);
    }
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
}

/* As many as there can be, each of them twice: quickly, and within the pool. */
static void test_many_of_the_same(void **state)
{
    (void)state;
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < LIMIT_RECIPIENTS_CEILING; i++) {
            char text[64];
            snprintf(text, sizeof text, "u%u@b.test", i);
            assert_int_equal(add(text, NULL, NULL), ERR_OK);
        }
        assert_int_equal(writer.recipients, LIMIT_RECIPIENTS_CEILING);
    }
    assert_int_equal(writer.given, 2 * LIMIT_RECIPIENTS_CEILING);
    assert_int_equal(add("more@b.test", NULL, NULL), ERR_FULL);
    assert_in_range(pool.bytes, 1, RECEPTION_ENVELOPE_BYTES_MAX + 1024 * 1024);
}

/* --- bounds --- */

static char target_text[1000][64];
static struct bytes targets_of_all[1000];

static const struct recipients_answer *thousand_of(unsigned round)
{
    static struct recipients_answer answer;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(target_text[i], sizeof target_text[i], "target%u-%u@example.test", round, i);
        targets_of_all[i] = bytes_of_string(target_text[i]);
    }
    answer = (struct recipients_answer){RECIPIENTS_FORWARD, 1000, targets_of_all};
    return &answer;
}

/* What an alias leaves that did not fit is nothing: neither an item nor the memory of one. */
static void test_an_alias_is_taken_back(void **state)
{
    (void)state;
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    assert_int_equal(add("first@own.test", NULL, NULL), ERR_OK);
    pool.bytes_max = 48 * 1024; /* the table, and half of the envelope that it would take */
    assert_int_equal(add("all@own.test", NULL, thousand_of(0)), ERR_NO_MEMORY);
    assert_int_equal(writer.recipients, 1);
    pool.bytes_max = 8u << 20;
    for (unsigned i = 0; i < 1000; i += 7) {
        assert_int_equal(add(target_text[i], NULL, NULL), ERR_OK);
    }
    assert_int_equal(writer.recipients, 1 + 143);
    assert_int_equal(add("all@own.test", NULL, thousand_of(0)), ERR_OK);
    assert_int_equal(writer.recipients, 1001);
    assert_int_equal(add("first@own.test", NULL, NULL), ERR_OK);
    assert_int_equal(writer.recipients, 1001);
}

/* All of an alias or nothing of it. */
static void test_bounds(void **state)
{
    (void)state;
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    enum err err = ERR_OK;
    for (unsigned round = 0; err == ERR_OK; round++) {
        uint32_t recipients = writer.recipients;
        size_t length = writer.bytes.length;
        err = add("all@own.test", NULL, thousand_of(round));
        assert_int_equal(writer.recipients, recipients + (err == ERR_OK ? 1000 : 0));
        assert_true(err == ERR_OK || writer.bytes.length == length);
    }
    assert_int_equal(err, ERR_FULL);
    assert_true(writer.recipients <= LIMIT_RECIPIENTS_CEILING);
    uint32_t counted = 0;
    assert_int_equal(envelope_check(buffer_bytes(&writer.bytes), &counted), ERR_OK);
    assert_int_equal(counted, writer.recipients);
    pool.bytes_max = pool.bytes;
    envelope_writer_free(&writer);
    pool.bytes_max = 4096;
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    assert_int_equal(add("all@own.test", NULL, thousand_of(0)), ERR_NO_MEMORY);
    assert_int_equal(writer.recipients, 0);
    assert_int_equal(add("one@own.test", NULL, NULL), ERR_OK);
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

static uint32_t remove_recipient(const char *text)
{
    struct address address = address_of(text);
    uint32_t removed = 99;
    assert_int_equal(envelope_writer_remove(&writer, &address, &removed), ERR_OK);
    return removed;
}

static void assert_recipients(unsigned count, const char *const *expected)
{
    uint32_t counted = 0;
    struct envelope_item item;
    assert_int_equal(envelope_check(buffer_bytes(&writer.bytes), &counted), ERR_OK);
    assert_int_equal(counted, count);
    assert_int_equal(writer.recipients, count);
    for (unsigned i = 0; i < count; i++) {
        assert_true(envelope_recipient(buffer_bytes(&writer.bytes), i, &item));
        assert_true(bytes_equal(item.value, bytes_of_string(expected[i])));
    }
}

static void test_recipients_are_removed(void **state)
{
    (void)state;
    const struct bytes targets[] = {BYTES("t1@x.test"), BYTES("t2@x.test")};
    const struct recipients_answer alias = {.verdict = RECIPIENTS_FORWARD, .targets = targets, .targets_count = 2};
    const struct params_rcpt original = {.given = PARAMS_GIVEN_ORCPT, .orcpt = BYTES("rfc822;before+40x.test")};
    assert_int_equal(begin(&full), ERR_OK);
    assert_int_equal(add("a@X.test", NULL, NULL), ERR_OK);
    assert_int_equal(add("b@x.test", &original, NULL), ERR_OK);
    assert_int_equal(add("all@x.test", NULL, &alias), ERR_OK);
    assert_int_equal(add("c@x.test", NULL, NULL), ERR_OK);
    assert_int_equal(remove_recipient("nobody@x.test"), 0);
    assert_recipients(5, (const char *[]){"a@x.test", "b@x.test", "t1@x.test", "t2@x.test", "c@x.test"});
    assert_int_equal(remove_recipient("a@x.TEST"), 1);
    assert_int_equal(remove_recipient("all@x.test"), 2); /* an alias, by the name that the client gave */
    assert_int_equal(remove_recipient("before@x.test"), 1);
    assert_recipients(1, (const char *[]){"c@x.test"});
    assert_no_item(ENVELOPE_ORIGINAL_RECIPIENT);
    assert_item(ENVELOPE_ID, full.envid);
    assert_int_equal(remove_recipient("c@x.test"), 1);
    assert_int_equal(writer.recipients, 0);
    assert_int_equal(add("new@x.test", NULL, NULL), ERR_OK);
    assert_recipients(1, (const char *[]){"new@x.test"});
}

/* Enough of them for a table. */
static void test_many_recipients_and_a_removal(void **state)
{
    (void)state;
    char text[64];
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "user%u@x.test", i);
        assert_int_equal(add(text, NULL, NULL), ERR_OK);
    }
    assert_int_equal(remove_recipient("user7@x.test"), 1);
    assert_int_equal(writer.recipients, 199);
    for (unsigned i = 0; i < 200; i++) { /* only the one that is gone is new */
        snprintf(text, sizeof text, "user%u@x.test", i);
        assert_int_equal(add(text, NULL, NULL), ERR_OK);
    }
    assert_int_equal(writer.recipients, 200);
}

static void test_sender_and_hold(void **state)
{
    (void)state;
    struct address other = address_of("other@EXAMPLE.org");
    struct bytes null_text = BYTES("<>");
    struct address null_sender;
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    assert_int_equal(add("a@x.test", NULL, NULL), ERR_OK);
    assert_int_equal(envelope_writer_set_sender(&writer, &other), ERR_OK);
    assert_item(ENVELOPE_SENDER, BYTES("other@example.org"));
    assert_int_equal(envelope_writer_hold(&writer, BYTES("first")), ERR_OK);
    assert_int_equal(envelope_writer_hold(&writer, BYTES("second")), ERR_OK);
    assert_item(ENVELOPE_HELD, BYTES("second"));
    assert_int_equal(address_parse_path(&null_text, false, &null_sender), ADDRESS_OK);
    assert_int_equal(envelope_writer_set_sender(&writer, &null_sender), ERR_OK);
    assert_item(ENVELOPE_SENDER, BYTES(""));
    assert_recipients(1, (const char *[]){"a@x.test"});
}

static void test_changes_without_memory(void **state)
{
    (void)state;
    struct address other = address_of("other@example.org");
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    assert_int_equal(add("a@x.test", NULL, NULL), ERR_OK);
    pool.bytes_max = 10;
    assert_int_equal(envelope_writer_set_sender(&writer, &other), ERR_NO_MEMORY);
    assert_item(ENVELOPE_SENDER, BYTES("a@example.com"));
    assert_recipients(1, (const char *[]){"a@x.test"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_parameter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_given_nothing_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_strangers_are_not_believed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_absolute_hold, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recipients_and_their_parameters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_alias, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_same_one_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_aliases_meet, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parameters_of_the_same_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_of_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_alias_is_taken_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recipients_are_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_recipients_and_a_removal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sender_and_hold, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changes_without_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
