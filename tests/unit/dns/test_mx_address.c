#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>

#include "dns/mx_address.h"

static struct mx_address parsed(const char *text)
{
    struct mx_address address;
    assert_true(mx_address_parse(bytes_of_string(text), &address));
    return address;
}

static void texts(void **state)
{
    static const char *const good[] = {"192.0.2.1", "0.0.0.0", "2001:db8::1", "::", "::ffff:192.0.2.1"};
    static const char *const bad[] = {"",
                                      "192.0.2",
                                      "192.0.2.256",
                                      "192.0.2.1 ",
                                      "[192.0.2.1]",
                                      "::1%lo",
                                      "x",
                                      "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa"};
    char text[MX_ADDRESS_TEXT_BYTES];
    struct mx_address address;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        address = parsed(good[i]);
        assert_string_equal(mx_address_text(&address, text), good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mx_address_parse(bytes_of_string(bad[i]), &address));
    }
    assert_false(mx_address_parse(bytes_of("1.2.3.4\0x", 9), &address));
}

static void literals(void **state)
{
    static const char *const bad[] = {"",
                                      "[",
                                      "[]",
                                      "192.0.2.1",
                                      "[192.0.2.1",
                                      "[IPv6:",
                                      "[IPv6:]",
                                      "[IPv4:1.2.3.4]",
                                      "[IPv6:192.0.2.1]",
                                      "[ 192.0.2.1]"};
    struct mx_address address;
    (void)state;
    assert_true(mx_address_parse_literal(BYTES("[192.0.2.1]"), &address));
    assert_int_equal(address.family, AF_INET);
    assert_true(mx_address_parse_literal(BYTES("[ipv6:2001:db8::1]"), &address));
    assert_int_equal(address.family, AF_INET6);
    assert_true(mx_address_parse_literal(BYTES("[2001:db8::1]"), &address));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mx_address_parse_literal(bytes_of_string(bad[i]), &address));
    }
}

static void sockets(void **state)
{
    struct sockaddr_storage socket;
    char text[INET6_ADDRSTRLEN];
    (void)state;
    struct mx_address address = parsed("192.0.2.7");
    assert_int_equal(mx_address_socket(&address, 25, &socket), sizeof(struct sockaddr_in));
    struct sockaddr_in v4;
    memcpy(&v4, &socket, sizeof v4);
    assert_int_equal(v4.sin_family, AF_INET);
    assert_int_equal(ntohs(v4.sin_port), 25);
    assert_string_equal(inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text), "192.0.2.7");
    address = parsed("2001:db8::7");
    assert_int_equal(mx_address_socket(&address, 2525, &socket), sizeof(struct sockaddr_in6));
    struct sockaddr_in6 v6;
    memcpy(&v6, &socket, sizeof v6);
    assert_int_equal(v6.sin6_family, AF_INET6);
    assert_int_equal(ntohs(v6.sin6_port), 2525);
    assert_string_equal(inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text), "2001:db8::7");
}

static bool equal(const char *a, const char *b)
{
    struct mx_address left = parsed(a);
    struct mx_address right = parsed(b);
    return mx_address_equal(&left, &right);
}

static bool loopback(const char *text)
{
    struct mx_address address = parsed(text);
    return mx_address_loopback(&address);
}

static void comparisons(void **state)
{
    (void)state;
    assert_true(equal("192.0.2.1", "::ffff:192.0.2.1"));
    assert_false(equal("192.0.2.1", "192.0.2.2"));
    assert_false(equal("192.0.2.1", "::192.0.2.1"));
    assert_true(equal("2001:db8::1", "2001:DB8:0::1"));
    assert_true(loopback("127.0.0.1") && loopback("127.255.0.3") && loopback("0.0.0.0"));
    assert_true(loopback("::1") && loopback("::") && loopback("::ffff:127.0.0.1"));
    assert_false(loopback("128.0.0.1") || loopback("::2") || loopback("1.0.0.0") || loopback("fe80::1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(literals),
        cmocka_unit_test(sockets),
        cmocka_unit_test(comparisons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
