/* Client addresses in one form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "inbound/peer.h"

static void expect(struct peer peer, const char *text, const void *octets, size_t length)
{
    char room[PEER_TEXT_BYTES];
    struct bytes written = peer_text(&peer, room);
    assert_true(bytes_equal(written, bytes_of_string(text)));
    assert_true(bytes_equal(peer_bytes(&peer), bytes_of(octets, length)));
    assert_int_equal(peer_is_ipv4(&peer), length == 4);
}

static void test_forms(void **state)
{
    (void)state;
    static const char *const ipv4[] = {"0.0.0.0", "255.255.255.255", "192.0.2.10", "127.0.0.1"};
    static const char *const ipv6[] = {"::1", "2001:db8::1", "2001:db8:1111:2222:3333:4444:5555:6666"};
    for (unsigned i = 0; i < sizeof ipv4 / sizeof *ipv4; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        assert_int_equal(inet_pton(AF_INET, ipv4[i], &address.sin_addr), 1);
        expect(peer_of((struct sockaddr *)&address), ipv4[i], &address.sin_addr, 4);
    }
    for (unsigned i = 0; i < sizeof ipv6 / sizeof *ipv6; i++) {
        struct sockaddr_in6 address = {.sin6_family = AF_INET6};
        assert_int_equal(inet_pton(AF_INET6, ipv6[i], &address.sin6_addr), 1);
        expect(peer_of((struct sockaddr *)&address), ipv6[i], &address.sin6_addr, 16);
    }
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6};
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.1", &mapped.sin6_addr), 1);
    expect(peer_of((struct sockaddr *)&mapped), "192.0.2.1", "\300\0\2\1", 4);
}

static void test_unix_socket(void **state)
{
    (void)state;
    struct sockaddr address = {.sa_family = AF_UNIX};
    struct peer peer = peer_of(&address);
    char text[PEER_TEXT_BYTES];
    assert_true(peer_is_local(&peer) && !peer_is_ipv4(&peer));
    assert_int_equal(peer_bytes(&peer).length, 0);
    assert_int_equal(peer_text(&peer, text).length, 0);
    struct sockaddr_in any = {.sin_family = AF_INET};
    peer = peer_of((struct sockaddr *)&any);
    assert_false(peer_is_local(&peer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_unix_socket)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
