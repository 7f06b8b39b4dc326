#include "sasl/lockout.h"

#include "unit/sasl/sasl_fixture.h"

#define T0 1000000u

static const struct lockout_settings small = {
    .entries = 64,
    .account_failures_max = 3,
    .address_failures_max = 6,
    .time_ms = 1000,
    .time_ms_max = 4000,
    .forget_ms = 100000,
    .delay_ms = 100,
    .delay_ms_max = 400,
};

struct address {
    uint8_t octets[16];
};

static struct address ipv4(unsigned number)
{
    return (struct address){{[10] = 0xff, 0xff, 10, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number}};
}

static struct lockout *fresh(const struct lockout_settings *settings)
{
    struct lockout *lockout = lockout_new(settings, &fixture_crypto, fixture_secret);
    assert_non_null(lockout);
    return lockout;
}

static enum lockout_verdict ask(struct lockout *lockout, const char *name, struct address address, uint64_t now_ms)
{
    struct lockout_attempt attempt;
    enum lockout_verdict verdict = lockout_enter(lockout, text_of(name), address.octets, now_ms, &attempt);
    if (verdict == LOCKOUT_OPEN) {
        lockout_leave(lockout, &attempt);
    }
    return verdict;
}

static uint64_t guess(struct lockout *lockout, const char *name, struct address address, uint64_t now_ms)
{
    struct lockout_attempt attempt;
    assert_int_equal(lockout_enter(lockout, text_of(name), address.octets, now_ms, &attempt), LOCKOUT_OPEN);
    return lockout_fail(lockout, &attempt, now_ms);
}

static void succeed(struct lockout *lockout, const char *name, struct address address, uint64_t now_ms)
{
    struct lockout_attempt attempt;
    assert_int_equal(lockout_enter(lockout, text_of(name), address.octets, now_ms, &attempt), LOCKOUT_OPEN);
    lockout_succeed(lockout, &attempt, now_ms);
}

static void test_an_account_from_everywhere(void **state)
{
    struct lockout *lockout = fresh(&small);
    (void)state;
    assert_int_equal(guess(lockout, "a", ipv4(1), T0), 100);
    assert_int_equal(guess(lockout, "a", ipv4(2), T0), 200);
    assert_int_equal(guess(lockout, "a", ipv4(3), T0), 400);
    assert_int_equal(ask(lockout, "a", ipv4(4), T0 + 999), LOCKOUT_ACCOUNT);
    assert_int_equal(ask(lockout, "b", ipv4(4), T0 + 999), LOCKOUT_OPEN);
    assert_int_equal(lockout_locked(lockout, T0 + 999), 1);
    assert_int_equal(ask(lockout, "a", ipv4(4), T0 + 1000), LOCKOUT_OPEN);
    /* Each further lock is twice as long, up to the longest. */
    uint64_t now_ms = T0 + 1000;
    for (uint64_t locked_ms = 2000; locked_ms <= 8000; locked_ms *= 2) {
        uint64_t expected_ms = locked_ms < 4000 ? locked_ms : 4000;
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(guess(lockout, "a", ipv4(100 + i), now_ms), 400);
        }
        assert_int_equal(ask(lockout, "a", ipv4(4), now_ms + expected_ms - 1), LOCKOUT_ACCOUNT);
        assert_int_equal(ask(lockout, "a", ipv4(4), now_ms + expected_ms), LOCKOUT_OPEN);
        now_ms += 50000;
    }
    lockout_delete(lockout);
}

static void test_an_address_with_many_names(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    struct lockout *lockout = fresh(&small);
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        guess(lockout, names[i], ipv4(1), T0);
    }
    assert_int_equal(ask(lockout, "g", ipv4(1), T0), LOCKOUT_ADDRESS);
    assert_int_equal(ask(lockout, "", ipv4(1), T0), LOCKOUT_ADDRESS);
    assert_int_equal(ask(lockout, "g", ipv4(2), T0), LOCKOUT_OPEN);
    lockout_delete(lockout);
}

static void test_ipv6_counts_by_64(void **state)
{
    struct lockout *lockout = fresh(&small);
    struct address address = {{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1}};
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        address.octets[15] = (uint8_t)i;
        guess(lockout, "", address, T0);
    }
    address.octets[8] = 99;
    assert_int_equal(ask(lockout, "a", address, T0), LOCKOUT_ADDRESS);
    address.octets[7] = 2;
    assert_int_equal(ask(lockout, "a", address, T0), LOCKOUT_OPEN);
    lockout_delete(lockout);
}

static void test_all_is_forgotten_in_time(void **state)
{
    struct lockout *lockout = fresh(&small);
    (void)state;
    guess(lockout, "a", ipv4(1), T0);
    guess(lockout, "a", ipv4(1), T0);
    assert_int_equal(guess(lockout, "a", ipv4(1), T0 + small.forget_ms), 100);
    guess(lockout, "a", ipv4(2), T0 + small.forget_ms);
    guess(lockout, "a", ipv4(2), T0 + small.forget_ms); /* locked until + 1000 */
    uint64_t later_ms = T0 + 2 * small.forget_ms + 1000;
    assert_int_equal(guess(lockout, "a", ipv4(3), later_ms), 100);
    lockout_delete(lockout);
}

/* The owner is at home: whoever guesses elsewhere does not lock him out. */
static void test_a_known_address_is_not_locked_out(void **state)
{
    struct lockout *lockout = fresh(&small);
    (void)state;
    succeed(lockout, "a", ipv4(1), T0);
    for (unsigned i = 0; i < 3; i++) {
        guess(lockout, "a", ipv4(50 + i), T0);
    }
    assert_int_equal(ask(lockout, "a", ipv4(2), T0), LOCKOUT_ACCOUNT);
    assert_int_equal(ask(lockout, "a", ipv4(1), T0), LOCKOUT_OPEN);
    /* But it is as an address. */
    for (unsigned i = 0; i < 6; i++) {
        guess(lockout, "a", ipv4(1), T0);
    }
    assert_int_equal(ask(lockout, "a", ipv4(1), T0), LOCKOUT_ADDRESS);
    assert_int_equal(ask(lockout, "a", ipv4(1), T0 + 1000 + LOCKOUT_KNOWN_MS - 1001), LOCKOUT_OPEN);
    lockout_delete(lockout);
}

static void test_known_for_a_week(void **state)
{
    struct lockout *lockout = fresh(&small);
    uint64_t week_ms = LOCKOUT_KNOWN_MS;
    (void)state;
    succeed(lockout, "a", ipv4(1), T0);
    for (unsigned i = 0; i < 3; i++) {
        guess(lockout, "a", ipv4(50 + i), T0 + week_ms - 10);
    }
    assert_int_equal(ask(lockout, "a", ipv4(1), T0 + week_ms - 1), LOCKOUT_OPEN);
    assert_int_equal(ask(lockout, "a", ipv4(1), T0 + week_ms), LOCKOUT_ACCOUNT);
    lockout_delete(lockout);
}

/* An account of one's own does not wash one's address, nor anybody's account. */
static void test_success_forgives_nothing(void **state)
{
    struct lockout *lockout = fresh(&small);
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        succeed(lockout, "mine", ipv4(1), T0);
        guess(lockout, name, ipv4(1), T0);
    }
    assert_int_equal(ask(lockout, "z", ipv4(1), T0), LOCKOUT_ADDRESS);
    lockout_delete(lockout);
}

/* A thousand guesses side by side are no more than the limit. */
static void test_guesses_at_once(void **state)
{
    static struct lockout_attempt attempts[1000];
    struct lockout *lockout = fresh(&small);
    unsigned open = 0;
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        struct address address = ipv4(i);
        open += lockout_enter(lockout, BYTES("a"), address.octets, T0, &attempts[open]) == LOCKOUT_OPEN;
    }
    assert_int_equal(open, LOCKOUT_PENDING_MAX);
    for (unsigned i = 0; i < open; i++) {
        lockout_fail(lockout, &attempts[i], T0);
    }
    assert_int_equal(ask(lockout, "a", ipv4(2000), T0 + 999), LOCKOUT_ACCOUNT);
    /* From now on those under way count as failed. */
    open = 0;
    for (unsigned i = 0; i < 1000; i++) {
        struct address address = ipv4(i + 3000);
        open += lockout_enter(lockout, BYTES("a"), address.octets, T0 + 1000, &attempts[open]) == LOCKOUT_OPEN;
    }
    assert_int_equal(open, 3);
    /* Attempts that are given up free their place. */
    lockout_leave(lockout, &attempts[0]);
    assert_int_equal(ask(lockout, "a", ipv4(2000), T0 + 1000), LOCKOUT_OPEN);
    lockout_delete(lockout);
}

/* Floods of other names and addresses, many times the table: a locked account stays locked. */
static void test_floods_do_not_unlock(void **state)
{
    struct lockout *lockout = fresh(&small);
    unsigned unlocked = 0;
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        guess(lockout, "victim", ipv4(1 + i), T0);
    }
    for (unsigned i = 0; i < 20000; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%u", i);
        guess(lockout, name, ipv4(1000 + i), T0 + 1 + i / 100);
        unlocked += ask(lockout, "victim", ipv4(7), T0 + 1 + i / 100) == LOCKOUT_OPEN;
    }
    assert_int_equal(unlocked, 0);
    lockout_delete(lockout);
}

/* Nor does one that is only close to its lock lose its failures. */
static void test_floods_do_not_forgive(void **state)
{
    struct lockout *lockout = fresh(&small);
    (void)state;
    guess(lockout, "victim", ipv4(1), T0);
    guess(lockout, "victim", ipv4(2), T0);
    for (unsigned i = 0; i < 20000; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%u", i);
        guess(lockout, name, ipv4(1000 + i), T0 + 1);
    }
    guess(lockout, "victim", ipv4(3), T0 + 2);
    assert_int_equal(ask(lockout, "victim", ipv4(4), T0 + 3), LOCKOUT_ACCOUNT);
    lockout_delete(lockout);
}

static void test_limits_that_change(void **state)
{
    struct lockout *lockout = fresh(&small);
    struct lockout_settings other = small;
    (void)state;
    guess(lockout, "a", ipv4(1), T0);
    guess(lockout, "a", ipv4(1), T0);
    other.account_failures_max = 1;
    lockout_set(lockout, &other);
    assert_int_equal(ask(lockout, "a", ipv4(1), T0), LOCKOUT_OPEN);
    guess(lockout, "a", ipv4(1), T0);
    assert_int_equal(ask(lockout, "a", ipv4(1), T0), LOCKOUT_ACCOUNT);
    struct lockout_settings defaults = lockout_defaults();
    lockout_delete(lockout);
    lockout = fresh(&defaults);
    lockout_delete(lockout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_account_from_everywhere),
        cmocka_unit_test(test_an_address_with_many_names),
        cmocka_unit_test(test_ipv6_counts_by_64),
        cmocka_unit_test(test_all_is_forgotten_in_time),
        cmocka_unit_test(test_a_known_address_is_not_locked_out),
        cmocka_unit_test(test_known_for_a_week),
        cmocka_unit_test(test_success_forgives_nothing),
        cmocka_unit_test(test_guesses_at_once),
        cmocka_unit_test(test_floods_do_not_unlock),
        cmocka_unit_test(test_floods_do_not_forgive),
        cmocka_unit_test(test_limits_that_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
