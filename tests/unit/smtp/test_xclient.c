#include "smtp/xclient.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

/* Dialogues are in tests/transcript/server/xclient*.smtp. */
static void test_attributes(void **state)
{
    (void)state;
    struct bytes rest = BYTES("NAME=a+20b  addr=IPV6:::1 PORT=[unavailable]");
    struct xclient_attribute attribute;
    assert_true(xclient_valid(rest, false) && xclient_valid(rest, true));
    assert_true(xclient_next(&rest, &attribute));
    assert_true(attribute.name == XCLIENT_NAME && bytes_equal(attribute.raw, BYTES("a+20b")));
    assert_true(xclient_next(&rest, &attribute));
    assert_true(attribute.name == XCLIENT_ADDR && !attribute.unavailable);
    uint8_t octets[16];
    assert_int_equal(xclient_address(attribute.raw, octets), AF_INET6);
    assert_memory_equal(octets, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    assert_true(xclient_next(&rest, &attribute));
    assert_true(attribute.name == XCLIENT_PORT && attribute.unavailable && attribute.raw.length == 0);
    assert_false(xclient_next(&rest, &attribute));
}

static void test_by_command(void **state)
{
    (void)state;
    assert_true(xclient_valid(BYTES("LOGIN=a DESTADDR=192.0.2.1 DESTPORT=1"), false));
    assert_false(xclient_valid(BYTES("LOGIN=a"), true));
    assert_false(xclient_valid(BYTES("DESTADDR=192.0.2.1"), true));
    assert_false(xclient_valid(BYTES("DESTPORT=1"), true));
    assert_true(xclient_valid(BYTES("IDENT=a SOURCE=local"), true));
    assert_false(xclient_valid(BYTES("IDENT=a"), false));
    assert_false(xclient_valid(BYTES("SOURCE=LOCAL"), false));
    assert_true(xclient_valid(BYTES("NAME="), false));
    assert_false(xclient_valid(BYTES(""), false));
    assert_false(xclient_valid(BYTES("NAME=a ="), false));
}

static void test_addresses(void **state)
{
    (void)state;
    uint8_t octets[16];
    assert_int_equal(xclient_address(BYTES("192.0.2.1"), octets), AF_INET);
    assert_memory_equal(octets, "\xc0\0\2\1", 4);
    assert_int_equal(xclient_address(BYTES("ipv6:2001:db8::1"), octets), AF_INET6);
    assert_int_equal(xclient_address(BYTES("2001:db8::1"), octets), 0);
    assert_int_equal(xclient_address(BYTES("IPV6:192.0.2.1"), octets), 0);
    assert_int_equal(xclient_address(BYTES("IPV6:"), octets), 0);
    assert_int_equal(xclient_address(BYTES(""), octets), 0);
    assert_int_equal(xclient_address(BYTES("192.0.2.1\0"), octets), 0);
    assert_int_equal(xclient_address(BYTES("192.0.2.1\0.5"), octets), 0);
    assert_int_equal(xclient_address(BYTES("1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa"), octets), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_by_command),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
