#include "core/tls_ticket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define PERIOD_S 100
#define PERIOD_MS 100000u

struct sealed {
    uint8_t name[TLS_TICKET_NAME_BYTES];
    uint8_t nonce[TLS_TICKET_NONCE_BYTES];
    uint8_t tag[TLS_TICKET_TAG_BYTES];
    uint8_t data[50];
};

static const uint8_t secret[50] = "the master secret of somebody";

static struct sealed seal(struct tls_ticket_keys *keys, uint64_t now_ms)
{
    struct sealed sealed;
    memcpy(sealed.data, secret, sizeof secret);
    tls_ticket_seal(keys, now_ms, sealed.name, sealed.nonce, sealed.tag, sealed.data, sizeof sealed.data);
    return sealed;
}

/* Works on a copy. */
static enum tls_ticket_opened look(struct tls_ticket_keys *keys, uint64_t now_ms, struct sealed sealed)
{
    enum tls_ticket_opened opened = tls_ticket_open(keys, now_ms, sealed.name, sealed.nonce, sealed.tag, sealed.data,
                                                    sizeof sealed.data);
    if (opened != TLS_TICKET_BAD) {
        assert_memory_equal(sealed.data, secret, sizeof secret);
    }
    return opened;
}

static void test_seals_and_opens(void **state)
{
    (void)state;
    struct tls_ticket_keys keys;
    tls_ticket_init(&keys, PERIOD_S);
    struct sealed a = seal(&keys, 1);
    struct sealed b = seal(&keys, 1);
    assert_memory_not_equal(a.data, secret, sizeof secret);
    assert_memory_not_equal(a.data, b.data, sizeof secret); /* another nonce */
    assert_int_equal(look(&keys, 2, a), TLS_TICKET_GOOD);
    assert_int_equal(look(&keys, 2, b), TLS_TICKET_GOOD);
    tls_ticket_free(&keys);
}

static void test_forgeries(void **state)
{
    (void)state;
    struct tls_ticket_keys keys;
    tls_ticket_init(&keys, PERIOD_S);
    struct sealed good = seal(&keys, 1);
    for (size_t i = 0; i < sizeof good; i++) {
        struct sealed bad = good;
        ((uint8_t *)&bad)[i] ^= 1;
        assert_int_equal(look(&keys, 2, bad), TLS_TICKET_BAD);
    }
    struct tls_ticket_keys others;
    tls_ticket_init(&others, PERIOD_S);
    assert_int_equal(look(&others, 2, good), TLS_TICKET_BAD);
    memcpy(good.name, others.current.name, sizeof good.name);
    assert_int_equal(look(&others, 2, good), TLS_TICKET_BAD);
    tls_ticket_free(&others);
    tls_ticket_free(&keys);
}

/* A key seals for one period and opens for two. */
static void test_ages(void **state)
{
    (void)state;
    struct tls_ticket_keys keys;
    tls_ticket_init(&keys, PERIOD_S);
    struct sealed first = seal(&keys, 1000);
    struct sealed late = seal(&keys, 1000 + PERIOD_MS - 1);
    assert_memory_equal(first.name, late.name, sizeof first.name);
    struct sealed second = seal(&keys, 1000 + PERIOD_MS);
    assert_memory_not_equal(first.name, second.name, sizeof first.name);
    assert_int_equal(look(&keys, 1000 + PERIOD_MS, first), TLS_TICKET_AGING);
    assert_int_equal(look(&keys, 1000 + 2 * PERIOD_MS - 1, late), TLS_TICKET_AGING);
    assert_int_equal(look(&keys, 1000 + 2 * PERIOD_MS, late), TLS_TICKET_BAD);
    assert_int_equal(look(&keys, 1000 + 2 * PERIOD_MS, second), TLS_TICKET_AGING);
    assert_int_equal(look(&keys, 1000 + 9 * PERIOD_MS, second), TLS_TICKET_BAD);
    assert_false(keys.previous.valid); /* nobody was there for two periods: the key is gone, not only refused */
    tls_ticket_free(&keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seals_and_opens),
        cmocka_unit_test(test_forgeries),
        cmocka_unit_test(test_ages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
