#include "core/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "base/rng.h"

static void test_nothing_is_seen_before_publish(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new();
    enum mail_kind kind;
    size_t length;
    assert_false(mailbox_publish(mailbox));
    assert_true(mailbox_put(mailbox, MAIL_CALL, "hello", 5));
    assert_false(mailbox_pending(mailbox));
    assert_null(mailbox_next(mailbox, &kind, &length));
    assert_true(mailbox_publish(mailbox));
    assert_false(mailbox_publish(mailbox));
    assert_true(mailbox_pending(mailbox));
    const char *payload = mailbox_next(mailbox, &kind, &length);
    assert_int_equal(kind, MAIL_CALL);
    assert_int_equal(length, 5);
    assert_memory_equal(payload, "hello", 5);
    assert_int_equal((uintptr_t)payload % 8, 0);
    assert_false(mailbox_pending(mailbox));
    assert_null(mailbox_next(mailbox, &kind, &length));
    mailbox_delete(mailbox);
}

/* Fills the ring with messages of one size; the consumer's release, not its taking, makes room again. */
static void check_filling(size_t length)
{
    struct mailbox *mailbox = mailbox_new();
    static const char payload[LIMIT_MAIL_BYTES];
    enum mail_kind kind;
    size_t got;
    size_t count = 0;
    while (mailbox_put(mailbox, MAIL_OUTCOME, payload, length)) {
        count++;
    }
    size_t cells = (8 + length + MAILBOX_CELL_BYTES - 1) / MAILBOX_CELL_BYTES;
    assert_int_equal(count, MAILBOX_CELLS / cells);
    assert_true(mailbox_publish(mailbox));
    for (size_t i = 0; i < count; i++) {
        assert_non_null(mailbox_next(mailbox, &kind, &got));
        assert_int_equal(got, length);
    }
    assert_null(mailbox_next(mailbox, &kind, &got));
    assert_false(mailbox_put(mailbox, MAIL_OUTCOME, payload, length));
    mailbox_release(mailbox);
    assert_true(mailbox_put(mailbox, MAIL_OUTCOME, payload, length));
    mailbox_delete(mailbox);
}

static void test_fills_up_and_empties(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 56, 57, 120, 121, 500, LIMIT_MAIL_BYTES};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        check_filling(lengths[i]);
    }
}

/* The n-th message of a stress test: its length, kind and every byte follow from n. */
static size_t make_message(uint64_t n, unsigned char *out, enum mail_kind *ret_kind)
{
    struct rng rng;
    rng_seed(&rng, n);
    size_t length = rng_below(&rng, 4) == 0 ? rng_below(&rng, LIMIT_MAIL_BYTES + 1) : rng_below(&rng, 100);
    *ret_kind = (enum mail_kind)(1 + rng_below(&rng, MAIL_KINDS - 1));
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = rng_next(&rng);
        memcpy(out + at, &word, length - at < 8 ? length - at : 8);
    }
    return length;
}

/* The consumer frees just a little at a time, so that the ring is full, at every offset of its end. */
static void test_a_full_ring_overwrites_nothing(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new();
    unsigned char payload[LIMIT_MAIL_BYTES];
    enum mail_kind kind;
    enum mail_kind expected_kind;
    size_t length;
    uint64_t sent = 0;
    for (uint64_t received = 0; received < 30000; received++) {
        length = make_message(sent, payload, &kind);
        while (mailbox_put(mailbox, kind, payload, length)) {
            length = make_message(++sent, payload, &kind);
        }
        mailbox_publish(mailbox);
        const void *taken = mailbox_next(mailbox, &kind, &length);
        assert_non_null(taken);
        assert_int_equal(length, make_message(received, payload, &expected_kind));
        assert_int_equal(kind, expected_kind);
        assert_memory_equal(taken, payload, length);
        mailbox_release(mailbox);
    }
    mailbox_delete(mailbox);
}

#define MESSAGES 100000

static void *produce(void *argument)
{
    struct mailbox *mailbox = argument;
    unsigned char payload[LIMIT_MAIL_BYTES];
    for (uint64_t n = 0; n < MESSAGES; n++) {
        enum mail_kind kind;
        size_t length = make_message(n, payload, &kind);
        while (!mailbox_put(mailbox, kind, payload, length)) {
            mailbox_publish(mailbox);
            sched_yield();
        }
        if (n % 7 == 0) {
            mailbox_publish(mailbox);
        }
    }
    mailbox_publish(mailbox);
    return NULL;
}

static void test_order_and_content_between_two_threads(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new();
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produce, mailbox), 0);
    for (uint64_t n = 0; n < MESSAGES;) {
        enum mail_kind kind;
        enum mail_kind expected_kind;
        size_t length;
        unsigned char expected[LIMIT_MAIL_BYTES];
        const void *payload = mailbox_next(mailbox, &kind, &length);
        if (payload) {
            assert_int_equal(length, make_message(n, expected, &expected_kind));
            assert_int_equal(kind, expected_kind);
            assert_memory_equal(payload, expected, length);
            n++;
        }
        if (!payload || n % 11 == 0) {
            mailbox_release(mailbox);
        }
        if (!payload) {
            sched_yield();
        }
    }
    pthread_join(producer, NULL);
    assert_false(mailbox_pending(mailbox));
    mailbox_delete(mailbox);
}

/* The wake protocol as shards use it, with a semaphore in the place of the ring. */

#define WAKES 20000

static struct {
    struct mailbox *mailbox;
    _Atomic int sleeping;
    sem_t wake;
} sleeper;

static void *produce_and_wake(void *argument)
{
    for (uint32_t n = 0; n < WAKES; n++) {
        while (!mailbox_put(sleeper.mailbox, MAIL_CALL, &n, sizeof n)) {
            sched_yield();
        }
        mailbox_publish(sleeper.mailbox);
        if (atomic_exchange(&sleeper.sleeping, 0)) {
            sem_post(&sleeper.wake);
        }
    }
    return argument;
}

static void sleep_until_woken(void)
{
    struct timespec limit;
    atomic_store(&sleeper.sleeping, 1);
    if (mailbox_pending(sleeper.mailbox)) {
        if (atomic_exchange(&sleeper.sleeping, 0)) {
            return;
        }
    }
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 20;
    assert_int_equal(sem_timedwait(&sleeper.wake, &limit), 0); /* else a message lies in front of a sleeper */
}

static void test_no_wake_is_lost(void **state)
{
    (void)state;
    pthread_t producer;
    sleeper.mailbox = mailbox_new();
    sem_init(&sleeper.wake, 0, 0);
    assert_int_equal(pthread_create(&producer, NULL, produce_and_wake, NULL), 0);
    for (uint32_t n = 0; n < WAKES;) {
        enum mail_kind kind;
        size_t length;
        const void *payload;
        while ((payload = mailbox_next(sleeper.mailbox, &kind, &length))) {
            assert_memory_equal(payload, &n, sizeof n);
            n++;
        }
        mailbox_release(sleeper.mailbox);
        if (n < WAKES) {
            sleep_until_woken();
        }
    }
    pthread_join(producer, NULL);
    sem_destroy(&sleeper.wake);
    mailbox_delete(sleeper.mailbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_seen_before_publish),
        cmocka_unit_test(test_fills_up_and_empties),
        cmocka_unit_test(test_a_full_ring_overwrites_nothing),
        cmocka_unit_test(test_order_and_content_between_two_threads),
        cmocka_unit_test(test_no_wake_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
