#include "base/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

static struct wheel wheel;

/* A timer that knows when it fired. */
struct probe {
    struct timer timer;
    unsigned fired;
    uint64_t fired_at;
};

static void note(struct timer *timer)
{
    struct probe *probe = CONTAINER_OF(timer, struct probe, timer);
    assert_false(wheel_armed(timer));
    probe->fired++;
    probe->fired_at = wheel.now_ms;
}

static struct probe new_probe(void)
{
    return (struct probe){.fired = 0};
}

static void arm(struct probe *probe, uint64_t expires_ms)
{
    wheel_timer_init(&probe->timer, note);
    wheel_arm(&wheel, &probe->timer, expires_ms);
}

static void test_fires_on_its_millisecond(void **state)
{
    (void)state;
    static const uint64_t starts[] = {0, 1, 255, 256, 65535, UINT32_MAX - 1, UINT32_MAX, UINT64_C(1) << 40};
    static const uint64_t distances[] = {0,          1,          2,          254,           255,
                                         256,        257,        511,        65535,         65536,
                                         65537,      300000,     16777215,   16777216,      4294967294,
                                         4294967295, 4294967296, 4294967297, 1099511627776, 1099511627777};
    for (unsigned s = 0; s < sizeof starts / sizeof *starts; s++) {
        for (unsigned d = 0; d < sizeof distances / sizeof *distances; d++) {
            struct probe probe = new_probe();
            uint64_t expires = starts[s] + distances[d];
            wheel_init(&wheel, starts[s]);
            arm(&probe, expires);
            if (distances[d] > 0) {
                wheel_advance(&wheel, expires - 1);
                assert_int_equal(probe.fired, 0);
                assert_int_equal(wheel.armed, 1);
            }
            wheel_advance(&wheel, expires);
            assert_int_equal(probe.fired, 1);
            assert_int_equal(wheel.armed, 0);
            assert_true(wheel_next_ms(&wheel) == UINT64_MAX);
        }
    }
}

static void test_next_ms_leads_to_the_expiry_in_few_steps(void **state)
{
    (void)state;
    static const uint64_t distances[] = {3, 300, 300000, 3600000, 86400000, 345600000};
    for (unsigned d = 0; d < sizeof distances / sizeof *distances; d++) {
        struct probe probe = new_probe();
        wheel_init(&wheel, 123456789);
        arm(&probe, 123456789 + distances[d]);
        unsigned steps = 0;
        while (probe.fired == 0) {
            uint64_t next = wheel_next_ms(&wheel);
            assert_true(next > wheel.now_ms && next <= 123456789 + distances[d]);
            wheel_advance(&wheel, next);
            steps++;
        }
        assert_true(probe.fired_at == 123456789 + distances[d]);
        assert_true(steps <= WHEEL_LEVELS);
    }
}

static void test_disarm_and_rearm(void **state)
{
    (void)state;
    struct probe probe = new_probe();
    wheel_init(&wheel, 1000);
    arm(&probe, 5000);
    assert_true(wheel_armed(&probe.timer));
    wheel_disarm(&wheel, &probe.timer);
    wheel_disarm(&wheel, &probe.timer);
    assert_false(wheel_armed(&probe.timer));
    assert_int_equal(wheel.armed, 0);
    assert_true(wheel_next_ms(&wheel) == UINT64_MAX); /* the slot's bit is cleared */
    wheel_arm(&wheel, &probe.timer, 5000);
    wheel_arm(&wheel, &probe.timer, 1100);
    assert_int_equal(wheel.armed, 1);
    assert_int_equal(wheel_next_ms(&wheel), 1100);
    wheel_advance(&wheel, 10000);
    assert_int_equal(probe.fired, 1);
}

static void test_never_expiring(void **state)
{
    (void)state;
    struct probe probe = new_probe();
    wheel_init(&wheel, 1);
    arm(&probe, UINT64_MAX);
    wheel_advance(&wheel, UINT64_C(100) * 365 * 86400 * 1000);
    assert_int_equal(probe.fired, 0);
    assert_int_equal(wheel.armed, 1);
}

static struct probe again;
static struct probe victim;

static void arm_self_for_now(struct timer *timer)
{
    note(timer);
    wheel_arm(&wheel, timer, wheel.now_ms);
}

static void disarm_victim(struct timer *timer)
{
    note(timer);
    wheel_disarm(&wheel, &victim.timer);
}

static void test_fired_may_arm_for_now(void **state)
{
    (void)state;
    wheel_init(&wheel, 100);
    again = new_probe();
    wheel_timer_init(&again.timer, arm_self_for_now);
    wheel_arm(&wheel, &again.timer, 50); /* in the past */
    for (unsigned i = 1; i < 5; i++) {
        assert_int_equal(wheel_next_ms(&wheel), 100);
        wheel_advance(&wheel, 100); /* once per advance, not for ever */
        assert_int_equal(again.fired, i);
    }
}

static void test_fired_may_disarm_what_is_due_as_well(void **state)
{
    (void)state;
    wheel_init(&wheel, 100);
    again = victim = new_probe();
    wheel_timer_init(&again.timer, disarm_victim);
    wheel_arm(&wheel, &again.timer, 200);
    arm(&victim, 200);
    wheel_advance(&wheel, 300);
    assert_int_equal(again.fired, 1);
    assert_int_equal(victim.fired, 0);
    assert_int_equal(wheel.armed, 0);
}

/* The property: after any sequence of calls the wheel fires what a plain table of expiries says, and nothing else. */

#define TIMERS 200

static struct {
    struct timer timer;
    uint64_t expires_ms;
    bool armed;
    bool due; /* of those, must fire in the advance that runs */
} model[TIMERS];

static struct rng rng;
static uint64_t advancing_to;
static uint64_t last_fired;

static void change_something(void);

static void model_fired(struct timer *timer)
{
    size_t i = (size_t)((char *)timer - (char *)&model[0].timer) / sizeof model[0];
    assert_true(model[i].armed && model[i].due);
    assert_true(model[i].expires_ms <= advancing_to);
    assert_true(model[i].expires_ms >= last_fired); /* in order */
    last_fired = model[i].expires_ms;
    model[i].armed = model[i].due = false;
    while (rng_below(&rng, 3) == 0) {
        change_something();
    }
}

static void change_something(void)
{
    size_t i = rng_below(&rng, TIMERS);
    if (rng_below(&rng, 4) == 0) {
        wheel_disarm(&wheel, &model[i].timer);
        model[i].armed = model[i].due = false;
    } else {
        uint64_t distance = rng_next(&rng) >> (64 - rng_below(&rng, 36) - 1);
        model[i].expires_ms = wheel.now_ms + distance;
        model[i].armed = true;
        model[i].due = false;
        wheel_arm(&wheel, &model[i].timer, model[i].expires_ms);
    }
}

static void check_against_model(void)
{
    unsigned armed = 0;
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < TIMERS; i++) {
        assert_int_equal(wheel_armed(&model[i].timer), model[i].armed);
        armed += model[i].armed;
        first = model[i].armed && model[i].expires_ms < first ? model[i].expires_ms : first;
    }
    assert_int_equal(wheel.armed, armed);
    uint64_t next = wheel_next_ms(&wheel);
    assert_true(armed == 0 ? next == UINT64_MAX : next >= wheel.now_ms && next <= first);
}

static void advance_with_model(uint64_t now_ms)
{
    for (size_t i = 0; i < TIMERS; i++) {
        model[i].due = model[i].armed && model[i].expires_ms <= now_ms;
    }
    advancing_to = now_ms;
    last_fired = 0;
    wheel_advance(&wheel, now_ms);
    for (size_t i = 0; i < TIMERS; i++) {
        assert_false(model[i].due);
    }
}

static void run_model(uint64_t seed)
{
    rng_seed(&rng, seed);
    wheel_init(&wheel, rng_next(&rng) >> (20 + rng_below(&rng, 44)));
    for (size_t i = 0; i < TIMERS; i++) {
        wheel_timer_init(&model[i].timer, model_fired);
        model[i].armed = model[i].due = false;
    }
    for (unsigned step = 0; step < 300; step++) {
        for (uint64_t changes = rng_below(&rng, 8); changes > 0; changes--) {
            change_something();
        }
        check_against_model();
        uint64_t gap = rng_next(&rng) >> (64 - rng_below(&rng, 34) - 1);
        uint64_t next = wheel_next_ms(&wheel);
        advance_with_model(rng_below(&rng, 2) == 0 && next != UINT64_MAX ? next : wheel.now_ms + gap);
    }
}

static void test_agrees_with_a_plain_table(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        run_model(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fires_on_its_millisecond),
        cmocka_unit_test(test_next_ms_leads_to_the_expiry_in_few_steps),
        cmocka_unit_test(test_disarm_and_rearm),
        cmocka_unit_test(test_never_expiring),
        cmocka_unit_test(test_fired_may_arm_for_now),
        cmocka_unit_test(test_fired_may_disarm_what_is_due_as_well),
        cmocka_unit_test(test_agrees_with_a_plain_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
