/* What a client says about its message, as the spool gets it: every parameter, aliases, and the bounds. */
#include "inbound/envelope_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

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

/* All of an alias or nothing of it. */
static void test_bounds(void **state)
{
    (void)state;
    static struct bytes targets[1000];
    for (unsigned i = 0; i < 1000; i++) {
        targets[i] = BYTES("target@example.test");
    }
    const struct recipients_answer alias = {RECIPIENTS_FORWARD, 1000, targets};
    assert_int_equal(begin(&(struct params_mail){0}), ERR_OK);
    enum err err = ERR_OK;
    while (err == ERR_OK) {
        uint32_t recipients = writer.recipients;
        size_t length = writer.bytes.length;
        err = add("all@own.test", NULL, &alias);
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
    assert_int_equal(add("all@own.test", NULL, &alias), ERR_NO_MEMORY);
    assert_int_equal(writer.recipients, 0);
    assert_int_equal(add("one@own.test", NULL, NULL), ERR_OK);
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
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
