#include "delivery/plain_hosts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct plain_hosts hosts;

static struct mx_address address(const char *text)
{
    struct mx_address parsed;
    assert_true(mx_address_parse(bytes_of_string(text), &parsed));
    return parsed;
}

static void test_a_host_is_remembered_for_a_while(void **state)
{
    (void)state;
    struct mx_address host = address("192.0.2.1");
    struct mx_address other = address("192.0.2.2");
    struct mx_address same_octets = address("c000:201::"); /* as IPv6 */
    assert_false(plain_hosts_has(&hosts, &host, 25, 1000));
    plain_hosts_note(&hosts, &host, 25, 1000);
    assert_true(plain_hosts_has(&hosts, &host, 25, 1000));
    assert_true(plain_hosts_has(&hosts, &host, 25, 1000 + PLAIN_HOSTS_MS - 1));
    assert_false(plain_hosts_has(&hosts, &host, 25, 1000 + PLAIN_HOSTS_MS));
    assert_false(plain_hosts_has(&hosts, &host, 26, 1000));
    assert_false(plain_hosts_has(&hosts, &other, 25, 1000));
    assert_false(plain_hosts_has(&hosts, &same_octets, 25, 1000));
}

/* However many there are: some are displaced, none is mistaken for another. */
static void test_many_hosts_take_no_more_room(void **state)
{
    (void)state;
    unsigned kept = 0;
    for (unsigned i = 0; i < 3 * PLAIN_HOSTS_PLACES; i++) {
        struct mx_address host = {.family = AF_INET, .bytes = {10, 0, (uint8_t)(i >> 8), (uint8_t)i}};
        plain_hosts_note(&hosts, &host, 25, 1);
    }
    for (unsigned i = 0; i < 6 * PLAIN_HOSTS_PLACES; i++) {
        struct mx_address host = {.family = AF_INET, .bytes = {10, 0, (uint8_t)(i >> 8), (uint8_t)i}};
        bool has = plain_hosts_has(&hosts, &host, 25, 1);
        kept += has;
        assert_true(!has || i < 3 * PLAIN_HOSTS_PLACES);
    }
    assert_in_range(kept, PLAIN_HOSTS_PLACES / 2, PLAIN_HOSTS_PLACES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_host_is_remembered_for_a_while),
        cmocka_unit_test(test_many_hosts_take_no_more_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
