#include "queue/schedule.h"

#include <stdio.h>

#include "queue/ready.h"
#include "unit/queue/fake_owner.h"

static const char domain[] = "example.com";

/* With a time for the next attempt it has been tried once. */
static void add(struct queue *queue, uint32_t slot, unsigned recipients, uint32_t next_attempt_s)
{
    struct schedule_item item = {
        .attempts = next_attempt_s != 0,
        .slot = slot,
        .arrival_s = fake_now_s(),
        .next_attempt_s = next_attempt_s,
        .spool = FAKE_SPOOL,
    };
    schedule_add(queue, bytes_of_string(domain), &item, recipients);
}

static uint32_t take_one(struct queue *queue)
{
    uint32_t index = SLOTS_NONE;
    struct destination *destination = fake_destination(queue, domain);
    assert_non_null(destination);
    assert_int_equal(schedule_take(queue, destination, &index, 1), 1);
    return index;
}

static void wish_all(struct queue *queue, enum queue_wish wish)
{
    for (uint32_t i = 0; i < queue->entries.begun; i++) {
        schedule_entry(queue, i)->wish = (unsigned)wish & 7u;
    }
}

/* --- taking ----------------------------------------------------------------------------------------------------- */

static void test_takes_one_message_at_a_time_in_order(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    uint32_t taken[10];
    add(queue, 1, 3, 0);
    add(queue, 2, 2, 0);
    add(queue, 1, 1, 0);
    struct destination *destination = fake_destination(queue, domain);
    assert_int_equal(destination->ready, 6);
    assert_int_equal(schedule_peek(queue, destination)->slot, 1);
    assert_int_equal(schedule_take(queue, destination, taken, 2), 2);
    assert_int_equal(schedule_take(queue, destination, taken + 2, 10), 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(schedule_entry(queue, taken[i])->slot, 1);
        assert_int_equal(schedule_entry(queue, taken[i])->recipient, i);
    }
    assert_int_equal(destination->out, 3);
    schedule_return(queue, taken[2]);
    schedule_return(queue, taken[1]);
    assert_int_equal(schedule_take(queue, destination, taken + 1, 10), 2);
    assert_int_equal(schedule_entry(queue, taken[1])->recipient, 1);
    assert_int_equal(schedule_entry(queue, taken[1])->attempts, 0);
    assert_int_equal(schedule_take(queue, destination, taken + 3, 10), 2);
    assert_int_equal(schedule_take(queue, destination, taken + 5, 10), 1);
    assert_int_equal(schedule_take(queue, destination, taken + 6, 10), 0);
    assert_int_equal(fake.idle_calls, 0);
    for (unsigned i = 0; i < 6; i++) {
        schedule_finish(queue, taken[i]);
    }
    assert_int_equal(fake.idle_calls, 1);
    assert_null(fake_destination(queue, domain));
    assert_int_equal(atomic_load(&fake.shard.metrics->queued_recipients), 0);
    assert_int_equal(fake.mail_count, 0);
    fake_end(queue);
}

/* What is left of a message that is gone waits until it is borrowed; its slot may be another's by then. */
static void test_a_slot_that_was_used_again_is_another_message(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    uint32_t taken[10];
    struct schedule_item item = {.slot = 1, .id_low = 7, .arrival_s = fake_now_s(), .spool = FAKE_SPOOL};
    schedule_add(queue, bytes_of_string(domain), &item, 1);
    item.id_low = 8;
    schedule_add(queue, bytes_of_string(domain), &item, 2);
    struct destination *destination = fake_destination(queue, domain);
    assert_int_equal(schedule_take(queue, destination, taken, 10), 1);
    assert_int_equal(schedule_take(queue, destination, taken + 1, 10), 2);
    for (unsigned i = 0; i < 3; i++) {
        schedule_finish(queue, taken[i]);
    }
    fake_end(queue);
}

static void test_what_expired_is_given_up_when_it_has_failed(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    uint32_t taken[10];
    add(queue, 1, 3, 0);
    fake_pass(345600 * UINT64_C(1000) - 2000);
    add(queue, 2, 1, 0);
    struct destination *destination = fake_destination(queue, domain);
    schedule_unreachable(queue, destination, BYTES("timed out"));
    fake_pass(3000);
    schedule_expire(queue, destination);                       /* nothing has failed since */
    schedule_error(queue, destination, BYTES("mailbox full")); /* nor has what another one met to do with it */
    schedule_expire(queue, destination);
    assert_int_equal(schedule_take(queue, destination, taken, 10), 3); /* their last attempt */
    assert_int_equal(fake_verdicts(LEND_EXPIRED), 0);
    schedule_return(queue, taken[0]);
    schedule_return(queue, taken[1]);
    schedule_return(queue, taken[2]);
    schedule_unreachable(queue, destination, BYTES("timed out"));
    schedule_expire(queue, destination);
    assert_int_equal(fake_verdicts(LEND_EXPIRED), 3);
    assert_int_equal(destination->ready, 1);
    fake_pass(345600 * UINT64_C(1000));
    schedule_unreachable(queue, destination, BYTES("timed out"));
    schedule_expire(queue, destination);
    assert_int_equal(fake_verdicts(LEND_EXPIRED), 4);
    assert_null(fake_destination(queue, domain));
    assert_int_equal(fake.idle_calls, 1);
    fake_end(queue);
}

/* What is held does not age, also when it is still held after a start. */
static void test_what_was_held_is_no_older(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    uint32_t taken[2];
    add(queue, 1, 1, 0);
    fake_pass(100000 * UINT64_C(1000));
    wish_all(queue, QUEUE_HOLD);
    schedule_sweep(queue);
    assert_int_equal(fake_verdicts(LEND_HELD), 1);
    fake_pass(500000 * UINT64_C(1000));
    struct schedule_item item = {.slot = 2,
                                 .arrival_s = fake_now_s() - 600000,
                                 .next_attempt_s = fake_now_s() - 500000,
                                 .attempts = 1,
                                 .held = true,
                                 .spool = FAKE_SPOOL};
    schedule_add(queue, bytes_of_string(domain), &item, 1);
    wish_all(queue, QUEUE_RELEASE);
    schedule_sweep(queue);
    struct destination *destination = fake_destination(queue, domain);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(schedule_take(queue, destination, &taken[i], 1), 1);
        assert_int_equal(schedule_entry(queue, taken[i])->arrival_s, fake_now_s() - 100000);
        schedule_finish(queue, taken[i]);
    }
    fake_end(queue);
}

/* Delivery keeps a destination by counting up `out`. */
static void test_a_kept_destination_outlives_its_entries(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    add(queue, 1, 1, 0);
    struct destination *destination = fake_destination(queue, domain);
    schedule_error(queue, destination, BYTES("connection refused"));
    assert_string_equal(destination->last_error, "connection refused");
    char long_text[1000];
    memset(long_text, 'x', sizeof long_text);
    schedule_error(queue, destination, bytes_of(long_text, sizeof long_text));
    assert_int_equal(strlen(destination->last_error), QUEUE_ERROR_BYTES - 1);
    destination->out++;
    schedule_finish(queue, take_one(queue));
    assert_int_equal(fake.idle_calls, 0);
    destination->out--;
    schedule_settle(queue, destination);
    assert_int_equal(fake.idle_calls, 1);
    assert_null(fake_destination(queue, domain));
    fake_end(queue);
}

/* --- the calendar ----------------------------------------------------------------------------------------------- */

/* Due at its second, at most one second late, and not before. */
static void check_due(struct queue *queue, uint32_t wait_s)
{
    struct destination *destination = fake_destination(queue, domain);
    fake_pass((wait_s - 1) * UINT64_C(1000));
    assert_int_equal(destination->ready, 0);
    fake_pass(2000);
    assert_int_equal(destination->ready, 1);
}

static void test_deferred_entries_come_at_their_time(void **state)
{
    (void)state;
    static const uint32_t waits[] = {1, 2, 60, 1200, 4095, 4096, 4097, 5000, 8192, 14400, 15800};
    struct queue *queue = fake_queue();
    add(queue, 1, 1, 0);
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        uint32_t index = take_one(queue);
        schedule_defer(queue, index, fake_now_s() + waits[i]);
        assert_int_equal(fake_destination(queue, domain)->deferred, 1);
        check_due(queue, waits[i]);
        assert_int_equal(schedule_entry(queue, index)->attempts, i + 1);
        assert_int_equal(queue->deferred, 0);
        assert_false(wheel_armed(&queue->calendar_timer));
    }
    schedule_defer(queue, take_one(queue), fake_now_s()); /* already due */
    assert_int_equal(fake_destination(queue, domain)->ready, 1);
    fake_end(queue);
}

static void test_an_earlier_entry_moves_the_timer(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    uint32_t base_s = fake_now_s();
    add(queue, 1, 1, base_s + 14400);
    fake_pass(10000);
    add(queue, 2, 1, base_s + 3000);
    add(queue, 3, 1, base_s + 20);
    add(queue, 4, 1, base_s + 3000 + QUEUE_CALENDAR_SLOTS); /* the same list as 2, a round later */
    struct destination *destination = fake_destination(queue, domain);
    static const uint32_t due_s[] = {20, 3000, 3000 + QUEUE_CALENDAR_SLOTS, 14400};
    static const uint32_t slots[] = {3, 2, 4, 1};
    for (unsigned i = 0; i < 4; i++) {
        fake_pass((base_s + due_s[i] - 1 - fake_now_s()) * UINT64_C(1000));
        assert_int_equal(destination->ready, 0);
        fake_pass(2000);
        assert_int_equal(destination->ready, 1);
        uint32_t index = take_one(queue);
        assert_int_equal(schedule_entry(queue, index)->slot, slots[i]);
        schedule_finish(queue, index);
    }
    assert_int_equal(fake.idle_calls, 1);
    fake_end(queue);
}

/* The wall clock is what next attempts are written in, and it may be set. */
static void test_the_clock_is_set_back(void **state)
{
    (void)state;
    static const uint64_t steps_s[] = {5, 3600, 5000, 86400, 4 * 365 * 86400};
    for (size_t i = 0; i < sizeof steps_s / sizeof *steps_s; i++) {
        struct queue *queue = fake_queue();
        add(queue, 1, 1, fake_now_s() + 600);
        fake_pass(1000);
        fake.shard.wall_ms -= steps_s[i] * 1000;
        add(queue, 2, 1, fake_now_s() + 60);
        struct destination *destination = fake_destination(queue, domain);
        check_due(queue, 60);
        assert_int_equal(schedule_peek(queue, destination)->slot, 2);
        fake_pass(530000);
        assert_int_equal(destination->ready, 1);
        fake_pass(12000); /* 600 seconds are 600 seconds */
        assert_int_equal(destination->ready, 2);
        fake_end(queue);
    }
}

/* What was journaled with the wrong time comes no later than the longest wait and a round. */
static void test_a_time_too_far_away_is_now(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    add(queue, 1, 1, fake_now_s() + 400 * 86400);
    fake_pass((14400 + QUEUE_CALENDAR_SLOTS) * UINT64_C(1000));
    assert_int_equal(fake_destination(queue, domain)->ready, 1);
    fake_end(queue);
}

/* --- times that senders name ------------------------------------------------------------------------------------- */

static void add_demanding(struct queue *queue, uint32_t slot, uint32_t next_attempt_s, uint32_t deadline_s, bool ends,
                          unsigned band)
{
    struct schedule_item item = {
        .slot = slot,
        .arrival_s = fake_now_s(),
        .next_attempt_s = next_attempt_s,
        .spool = FAKE_SPOOL,
        .deadline_s = deadline_s,
        .ends = ends,
        .band = (uint8_t)band,
    };
    schedule_add(queue, bytes_of_string(domain), &item, 1);
}

/* A message for later is not early, however far away that is and whatever the clock does. */
static void test_a_message_for_later(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    uint32_t hold_s = fake_now_s() + 30 * 86400;
    add_demanding(queue, 1, hold_s, 0, false, 0);
    struct destination *destination = fake_destination(queue, domain);
    fake.shard.wall_ms -= 3600 * 1000;
    fake_pass(UINT64_C(29) * 86400 * 1000);
    assert_int_equal(destination->ready, 0);
    fake_pass((hold_s - 1 - fake_now_s()) * UINT64_C(1000));
    assert_int_equal(destination->ready, 0);
    fake_pass(2000);
    assert_int_equal(destination->ready, 1);
    fake_end(queue);
}

static void test_deadlines(void **state)
{
    (void)state;
    for (unsigned in_calendar = 0; in_calendar < 2; in_calendar++) {
        struct queue *queue = fake_queue();
        uint32_t next_s = in_calendar ? fake_now_s() + 7200 : 0;
        add_demanding(queue, 1, next_s, fake_now_s() + 600, true, 0);
        add_demanding(queue, 2, next_s, fake_now_s() + 1200, false, 0);
        add_demanding(queue, 3, next_s, 0, false, 0);
        struct destination *destination = fake_destination(queue, domain);
        fake_pass(599000);
        assert_int_equal(fake_verdicts(LEND_OVERDUE), 0);
        fake_pass(5000);
        assert_int_equal(fake_verdicts(LEND_OVERDUE), 1);
        assert_int_equal(destination->ready + destination->deferred, 2);
        assert_int_equal(fake_verdicts(LEND_DELAYED), 0);
        fake_pass(600000);
        assert_int_equal(fake_verdicts(LEND_DELAYED), 1);
        fake_pass(4000000);
        assert_int_equal(fake_verdicts(LEND_DELAYED), 1);
        assert_int_equal(in_calendar ? destination->deferred : destination->ready, 2);
        assert_int_equal(lend_attempts(schedule_entry(queue, 1), 1), SPOOL_FORMAT_TOLD | 1);
        assert_int_equal(lend_attempts(schedule_entry(queue, 2), 1), 1);
        fake_pass(7200000);
        assert_int_equal(destination->ready, 2);
        fake_end(queue);
    }
}

/* One that is out when its time comes is looked at when it is back. */
static void test_deadline_of_one_that_is_out(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    add_demanding(queue, 1, 0, fake_now_s() + 60, true, 0);
    add_demanding(queue, 2, 0, fake_now_s() + 60, false, 0);
    uint32_t first = take_one(queue);
    uint32_t second = take_one(queue);
    fake_pass(300000);
    assert_int_equal(fake_verdicts(LEND_OVERDUE) + fake_verdicts(LEND_DELAYED), 0);
    schedule_defer(queue, second, fake_now_s() + 600);
    assert_int_equal(fake_verdicts(LEND_DELAYED), 1);
    schedule_defer(queue, first, fake_now_s() + 600);
    assert_int_equal(fake_verdicts(LEND_OVERDUE), 1);
    assert_int_equal(fake_destination(queue, domain)->deferred, 1);
    fake_end(queue);
}

static void test_priority_goes_first(void **state)
{
    static const int priorities[] = {0, -9, 1, 9, -1, 3, 4, 0};
    static const uint32_t order[] = {4, 7, 3, 6, 1, 8, 2, 5};
    (void)state;
    struct queue *queue = fake_queue();
    for (uint32_t i = 0; i < 8; i++) {
        add_demanding(queue, i + 1, 0, 0, false, ready_band(priorities[i]));
    }
    for (unsigned i = 0; i < 8; i++) {
        uint32_t index = take_one(queue);
        assert_int_equal(schedule_entry(queue, index)->slot, order[i]);
        schedule_finish(queue, index);
    }
    fake_end(queue);
}

static void test_the_clock_is_set_forward(void **state)
{
    (void)state;
    static const uint64_t steps_s[] = {5, 3600, 5000, 86400};
    for (size_t i = 0; i < sizeof steps_s / sizeof *steps_s; i++) {
        struct queue *queue = fake_queue();
        add(queue, 1, 1, fake_now_s() + 100);
        add(queue, 2, 1, fake_now_s() + 600);
        fake.shard.wall_ms += steps_s[i] * 1000;
        fake_pass(101000);
        assert_int_equal(fake_destination(queue, domain)->ready, steps_s[i] >= 600 ? 2 : 1);
        fake_pass(600000);
        assert_int_equal(fake_destination(queue, domain)->ready, 2);
        fake_end(queue);
    }
}

/* --- wishes ----------------------------------------------------------------------------------------------------- */

static const char *const place_names[] = {"free", "ready", "calendar", "out", "parked"};

/* Brings one entry to a place, wishes, and lets the wish be looked at. Returns where the entry is then. */
static enum queue_place after_wish(struct queue *queue, enum queue_place place, enum queue_wish wish)
{
    struct schedule_item item = {
        .slot = 1,
        .arrival_s = fake_now_s(),
        .next_attempt_s = place == QUEUE_CALENDAR ? fake_now_s() + 1000 : 0,
        .spool = FAKE_SPOOL,
        .held = place == QUEUE_PARKED,
    };
    schedule_add(queue, bytes_of_string(domain), &item, 1);
    uint32_t index = place == QUEUE_OUT ? take_one(queue) : 0;
    assert_int_equal(schedule_entry(queue, index)->place, place);
    schedule_entry(queue, index)->wish = (unsigned)wish & 7u;
    schedule_sweep(queue);
    if (place == QUEUE_OUT) {
        assert_int_equal(schedule_entry(queue, index)->place, QUEUE_OUT);
        schedule_defer(queue, index, fake_now_s() + 1000);
    }
    enum queue_place now = schedule_entry(queue, index)->place;
    assert_true(now == QUEUE_FREE || schedule_entry(queue, index)->wish == QUEUE_NO_WISH);
    assert_true((now == QUEUE_FREE) == (fake_destination(queue, domain) == NULL));
    assert_int_equal(fake.idle_calls, now == QUEUE_FREE);
    return now;
}

static void test_wishes_are_carried_out_wherever_the_entry_is(void **state)
{
    (void)state;
    static const struct {
        enum queue_place place;
        enum queue_wish wish;
        enum queue_place then;
        int verdict; /* -1: none */
    } cases[] = {
        {QUEUE_READY, QUEUE_HOLD, QUEUE_PARKED, LEND_HELD},
        {QUEUE_READY, QUEUE_RELEASE, QUEUE_READY, -1},
        {QUEUE_READY, QUEUE_RETRY, QUEUE_READY, -1},
        {QUEUE_READY, QUEUE_REMOVE, QUEUE_FREE, LEND_REMOVED},
        {QUEUE_READY, QUEUE_BOUNCE, QUEUE_FREE, LEND_BOUNCED},
        {QUEUE_CALENDAR, QUEUE_NO_WISH, QUEUE_CALENDAR, -1},
        {QUEUE_CALENDAR, QUEUE_HOLD, QUEUE_PARKED, LEND_HELD},
        {QUEUE_CALENDAR, QUEUE_RELEASE, QUEUE_CALENDAR, -1},
        {QUEUE_CALENDAR, QUEUE_RETRY, QUEUE_READY, -1},
        {QUEUE_CALENDAR, QUEUE_REMOVE, QUEUE_FREE, LEND_REMOVED},
        {QUEUE_CALENDAR, QUEUE_BOUNCE, QUEUE_FREE, LEND_BOUNCED},
        {QUEUE_OUT, QUEUE_NO_WISH, QUEUE_CALENDAR, -1},
        {QUEUE_OUT, QUEUE_HOLD, QUEUE_PARKED, LEND_HELD},
        {QUEUE_OUT, QUEUE_RETRY, QUEUE_READY, -1},
        {QUEUE_OUT, QUEUE_REMOVE, QUEUE_FREE, LEND_REMOVED},
        {QUEUE_OUT, QUEUE_BOUNCE, QUEUE_FREE, LEND_BOUNCED},
        {QUEUE_PARKED, QUEUE_NO_WISH, QUEUE_PARKED, -1},
        {QUEUE_PARKED, QUEUE_RELEASE, QUEUE_READY, LEND_RELEASED},
        {QUEUE_PARKED, QUEUE_REMOVE, QUEUE_FREE, LEND_REMOVED},
        {QUEUE_PARKED, QUEUE_BOUNCE, QUEUE_FREE, LEND_BOUNCED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct queue *queue = fake_queue();
        enum queue_place then = after_wish(queue, cases[i].place, cases[i].wish);
        if (then != cases[i].then) {
            fail_msg("%s, wish %d: now %s", place_names[cases[i].place], (int)cases[i].wish, place_names[then]);
        }
        assert_int_equal(fake.mail_count, cases[i].verdict >= 0);
        assert_true(cases[i].verdict < 0 || fake_verdicts((enum lend_verdict)cases[i].verdict) == 1);
        fake_end(queue);
    }
}

static void test_wishes_meet_entries_that_are_returned_or_finished(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    uint32_t taken[3];
    add(queue, 1, 3, 0);
    struct destination *destination = fake_destination(queue, domain);
    assert_int_equal(schedule_take(queue, destination, taken, 3), 3);
    schedule_entry(queue, taken[0])->wish = QUEUE_REMOVE;
    schedule_entry(queue, taken[1])->wish = QUEUE_HOLD;
    schedule_entry(queue, taken[2])->wish = QUEUE_BOUNCE;
    schedule_return(queue, taken[0]);
    schedule_return(queue, taken[1]);
    schedule_finish(queue, taken[2]); /* delivered meanwhile: the wish came too late */
    assert_int_equal(fake_verdicts(LEND_REMOVED), 1);
    assert_int_equal(fake_verdicts(LEND_HELD), 1);
    assert_int_equal(fake_verdicts(LEND_BOUNCED), 0);
    assert_int_equal(destination->held, 1);
    assert_int_equal(destination->ready, 0);
    fake_end(queue);
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

static size_t resident_bytes(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*s %zu", &pages), 1);
    fclose(file);
    return pages * 4096;
}

static void test_a_million_recipients(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    size_t before = resident_bytes();
    for (uint32_t i = 0; i < 1000000; i++) {
        add(queue, i, 1, i % 2 != 0 ? fake_now_s() + 1 + i % 10000 : 0);
    }
    size_t each = (resident_bytes() - before) / 1000000;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they have books of their own */
    assert_in_range(each, 31, 34);
#else
    assert_true(each >= 31);
#endif
    assert_int_equal(queue->deferred, 500000);
    fake_pass(10001000);
    assert_int_equal(fake_destination(queue, domain)->ready, 1000000);
    fake_end(queue);
}

/* One outcome for what is said of many, and so one notice; but not of two messages, nor of different ends. */
static void test_what_has_one_end_is_one_outcome(void **state)
{
    (void)state;
    static const struct {
        enum queue_wish wish;
        enum lend_verdict verdict;
    } cases[] = {{QUEUE_BOUNCE, LEND_BOUNCED},
                 {QUEUE_REMOVE, LEND_REMOVED},
                 {QUEUE_HOLD, LEND_HELD},
                 {QUEUE_NO_WISH, LEND_EXPIRED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct queue *queue = fake_queue();
        add(queue, 1, 65, 0);
        add(queue, 2, 2, 0);
        struct destination *destination = fake_destination(queue, domain);
        if (cases[i].wish == QUEUE_NO_WISH) {
            fake_pass(345601 * UINT64_C(1000));
            schedule_unreachable(queue, destination, BYTES("timed out"));
            schedule_expire(queue, destination);
        } else {
            wish_all(queue, cases[i].wish);
            schedule_sweep(queue);
        }
        assert_int_equal(fake_verdicts(cases[i].verdict), 67);
        static const unsigned counts[] = {LEND_RECIPIENTS, LEND_RECIPIENTS, 5, 2};
        assert_int_equal(fake.mail_count, 4);
        unsigned recipient = 0;
        for (unsigned j = 0; j < 4; j++) {
            const struct lend_outcome *outcome = fake.mails[j].payload;
            assert_int_equal(outcome->slot, j < 3 ? 1 : 2);
            assert_int_equal(outcome->count, counts[j]);
            for (unsigned k = 0; k < outcome->count; k++) {
                assert_int_equal(outcome->recipients[k].recipient, recipient++ % 65);
            }
        }
        fake_end(queue);
    }
}

/* Each of those that were tried has met something else. */
static void test_those_that_were_tried_expire_one_by_one(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    struct schedule_item item = {.slot = 1, .arrival_s = fake_now_s(), .attempts = 2, .spool = FAKE_SPOOL};
    schedule_add(queue, bytes_of_string(domain), &item, 3);
    fake_pass(345601 * UINT64_C(1000));
    struct destination *destination = fake_destination(queue, domain);
    schedule_unreachable(queue, destination, BYTES("timed out"));
    schedule_expire(queue, destination);
    assert_int_equal(fake_verdicts(LEND_EXPIRED), 3);
    assert_int_equal(fake.mail_count, 3);
    fake_end(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_one_message_at_a_time_in_order),
        cmocka_unit_test(test_a_slot_that_was_used_again_is_another_message),
        cmocka_unit_test(test_what_expired_is_given_up_when_it_has_failed),
        cmocka_unit_test(test_what_was_held_is_no_older),
        cmocka_unit_test(test_what_has_one_end_is_one_outcome),
        cmocka_unit_test(test_those_that_were_tried_expire_one_by_one),
        cmocka_unit_test(test_a_kept_destination_outlives_its_entries),
        cmocka_unit_test(test_deferred_entries_come_at_their_time),
        cmocka_unit_test(test_an_earlier_entry_moves_the_timer),
        cmocka_unit_test(test_the_clock_is_set_back),
        cmocka_unit_test(test_the_clock_is_set_forward),
        cmocka_unit_test(test_a_time_too_far_away_is_now),
        cmocka_unit_test(test_a_message_for_later),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_deadline_of_one_that_is_out),
        cmocka_unit_test(test_priority_goes_first),
        cmocka_unit_test(test_wishes_are_carried_out_wherever_the_entry_is),
        cmocka_unit_test(test_wishes_meet_entries_that_are_returned_or_finished),
        cmocka_unit_test(test_a_million_recipients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
