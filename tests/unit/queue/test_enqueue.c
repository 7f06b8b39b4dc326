#include "queue/enqueue.h"

#include <stdio.h>

#include "unit/queue/fake_owner.h"

static char envelope_text[1 << 16];
static struct buffer envelope;

static void begin_envelope(void)
{
    envelope = buffer_of(envelope_text, sizeof envelope_text);
    assert_true(envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("sender@example.net")));
}

static void add_recipient(const char *address)
{
    assert_true(envelope_add(&envelope, ENVELOPE_RECIPIENT, 0, bytes_of_string(address)));
    assert_true(envelope_add(&envelope, ENVELOPE_ORIGINAL_RECIPIENT, 0, BYTES("rfc822;a@b")));
}

static void enqueue(uint32_t slot)
{
    enqueue_message(&fake.shard, NULL, slot, fake.shard.wall_ms, buffer_bytes(&envelope));
}

static unsigned ready_at(const struct queue *queue, const char *domain)
{
    const struct destination *destination = fake_destination(queue, domain);
    return destination == NULL ? 0 : destination->ready;
}

/* --- splitting -------------------------------------------------------------------------------------------------- */

static void test_recipients_go_to_their_domains(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    begin_envelope();
    add_recipient("a@example.com");
    add_recipient("b@EXAMPLE.com");
    add_recipient("Postmaster");
    add_recipient("\"odd@local\"@example.org");
    add_recipient("c@Example.Com");
    add_recipient("d@[192.0.2.1]");
    enqueue(42);
    assert_int_equal(ready_at(queue, "example.com"), 3);
    assert_int_equal(ready_at(queue, "example.org"), 1);
    assert_int_equal(ready_at(queue, "[192.0.2.1]"), 1);
    assert_int_equal(ready_at(queue, ""), 1);
    assert_int_equal(queue->destinations.count, 4);
    uint32_t taken[8];
    static const uint16_t positions[] = {0, 1, 4};
    assert_int_equal(schedule_take(queue, fake_destination(queue, "example.com"), taken, 8), 3);
    for (unsigned i = 0; i < 3; i++) {
        const struct queue_entry *entry = schedule_entry(queue, taken[i]);
        assert_int_equal(entry->recipient, positions[i]);
        assert_int_equal(entry->slot, 42);
        assert_int_equal(entry->spool, FAKE_SPOOL);
        assert_int_equal(entry->arrival_s, FAKE_WALL_S);
        assert_int_equal(entry->attempts, 0);
    }
    assert_int_equal(fake.mail_count, 0);
    fake_end(queue);
}

static void test_runs_of_one_domain_are_one_mail(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    fake.shards = 2;
    begin_envelope();
    for (unsigned i = 0; i < 1000; i++) {
        char address[64];
        snprintf(address, sizeof address, "user%u@%s", i,
                 i < 700      ? "a.example"
                 : i % 2 != 0 ? "c.example"
                              : "b.example");
        add_recipient(address);
    }
    enqueue(1);
    /* 'a' and 'c' are odd: the other shard. One run of 700, then 150 of one each. */
    assert_int_equal(fake.mail_count, 151);
    assert_int_equal(ready_at(queue, "b.example"), 150);
    for (unsigned i = 0; i < fake.mail_count; i++) {
        assert_int_equal(fake.mails[i].kind, MAIL_ENQUEUE);
        assert_int_equal(fake.mails[i].to, 1);
        fake_deliver(i);
    }
    assert_int_equal(ready_at(queue, "a.example"), 700);
    assert_int_equal(ready_at(queue, "c.example"), 150);
    assert_false(fake_destination(queue, "a.example")->adopted);
    fake_end(queue);
}

static void test_a_recovered_message_goes_on_where_it_was(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    uint32_t later_s = fake_now_s() + 100;
    const struct spool_state states[] = {
        {.status = SPOOL_FORMAT_PENDING},
        {.status = SPOOL_FORMAT_DELIVERED, .attempts = 1},
        {.status = SPOOL_FORMAT_DEFERRED, .attempts = 3, .next_attempt_s = later_s},
        {.status = SPOOL_FORMAT_DEFERRED, .attempts = 70000 % 65536, .next_attempt_s = later_s},
        {.status = SPOOL_FORMAT_HELD, .attempts = 2},
        {.status = SPOOL_FORMAT_FAILED, .attempts = 1},
        {.status = SPOOL_FORMAT_REMOVED},
        {.status = SPOOL_FORMAT_PENDING},
    };
    begin_envelope();
    for (unsigned i = 0; i < sizeof states / sizeof *states; i++) {
        add_recipient("x@example.com");
    }
    struct spool_recovered message = {
        .slot = 9,
        .arrival_ms = (FAKE_WALL_S - 1000) * UINT64_C(1000),
        .recipients = sizeof states / sizeof *states,
        .envelope = buffer_bytes(&envelope),
        .states = states,
    };
    enqueue_recovered(queue, FAKE_SPOOL, &message);
    const struct destination *destination = fake_destination(queue, "example.com");
    assert_int_equal(destination->ready, 2);
    assert_int_equal(destination->deferred, 2);
    assert_int_equal(destination->held, 1);
    assert_int_equal(atomic_load(&fake.shard.metrics->queued_recipients), 5);
    static const struct {
        uint16_t recipient;
        uint8_t attempts;
        enum queue_place place;
    } expected[] = {
        {0, 0, QUEUE_READY},  {2, 3, QUEUE_CALENDAR}, {3, 255, QUEUE_CALENDAR},
        {4, 2, QUEUE_PARKED}, {7, 0, QUEUE_READY},
    };
    for (unsigned i = 0; i < 5; i++) {
        const struct queue_entry *entry = schedule_entry(queue, i);
        assert_int_equal(entry->recipient, expected[i].recipient);
        assert_int_equal(entry->attempts, expected[i].attempts);
        assert_int_equal(entry->place, expected[i].place);
        assert_int_equal(entry->arrival_s, FAKE_WALL_S - 1000);
    }
    fake_end(queue);
}

/* --- what senders ask for --------------------------------------------------------------------------------------- */

static void add_time(enum envelope_tag tag, uint64_t ms, const char *rest)
{
    char value[16];
    for (unsigned i = 0; i < 8; i++) {
        value[i] = (char)(ms >> (8 * i));
    }
    size_t length = strlen(rest);
    memcpy(value + 8, rest, length);
    assert_true(envelope_add(&envelope, tag, 0, bytes_of(value, 8 + length)));
}

static void add_recipient_with(unsigned notify)
{
    assert_true(envelope_add(&envelope, ENVELOPE_RECIPIENT, (uint8_t)notify, BYTES("x@example.com")));
}

/* The items of a message may stand before or behind its recipients. */
static void test_hold_and_priority(void **state)
{
    (void)state;
    for (unsigned behind = 0; behind < 2; behind++) {
        struct queue *queue = fake_queue();
        uint64_t hold_ms = fake.shard.wall_ms + 5000 * 1000;
        begin_envelope();
        for (unsigned part = 0; part < 2; part++) {
            if (part == behind) {
                add_time(ENVELOPE_HOLD_UNTIL, hold_ms, "");
                assert_true(envelope_add(&envelope, ENVELOPE_PRIORITY, 0, BYTES("\xfd"))); /* -3 */
            } else {
                add_recipient("a@example.com");
            }
        }
        enqueue(1);
        const struct queue_entry *entry = schedule_entry(queue, 0);
        uint32_t hold_s = (uint32_t)((hold_ms + 999) / 1000);
        assert_int_equal(entry->place, QUEUE_CALENDAR);
        assert_int_equal(entry->next_attempt_s, hold_s);
        assert_int_equal(entry->arrival_s, hold_s);
        assert_int_equal(entry->band, QUEUE_BAND_LOW);
        assert_int_equal(entry->deadline, 0);
        fake_pass(5001 * 1000);
        assert_int_equal(entry->place, QUEUE_READY);
        fake_end(queue);
    }
}

/* Until it is released, which is remembered with its state. */
static void test_a_message_may_come_held(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    begin_envelope();
    assert_true(envelope_add(&envelope, ENVELOPE_HELD, 0, BYTES("why")));
    add_recipient("a@example.com");
    enqueue(1);
    assert_int_equal(schedule_entry(queue, 0)->place, QUEUE_PARKED);
    assert_int_equal(schedule_entry(queue, 0)->next_attempt_s, schedule_entry(queue, 0)->arrival_s); /* since when */
    const struct spool_state states[] = {{.status = SPOOL_FORMAT_PENDING}, {.status = SPOOL_FORMAT_DEFERRED}};
    for (unsigned i = 0; i < 2; i++) {
        enqueue_recovered(queue, FAKE_SPOOL,
                          &(struct spool_recovered){.slot = 9 + i,
                                                    .arrival_ms = fake.shard.wall_ms,
                                                    .recipients = 1,
                                                    .envelope = buffer_bytes(&envelope),
                                                    .states = &states[i]});
        assert_int_equal(schedule_entry(queue, 1 + i)->place, i == 0 ? QUEUE_PARKED : QUEUE_READY);
        assert_int_equal(schedule_entry(queue, 1 + i)->next_attempt_s, i == 0 ? fake_now_s() : 0);
    }
    fake_end(queue);
}

static void test_deadlines(void **state)
{
    static const struct {
        const char *mode; /* of DELIVERBY; NULL: not given */
        unsigned notify;
        uint32_t deadline_s; /* from now */
        bool ends;
    } cases[] = {
        {NULL, 0, 0, false},
        {NULL, ENVELOPE_NOTIFY_DELAY, 4 * 3600, false},
        {NULL, ENVELOPE_NOTIFY_DELAY | ENVELOPE_NOTIFY_SUCCESS, 4 * 3600, false},
        {NULL, ENVELOPE_NOTIFY_FAILURE, 0, false},
        {NULL, ENVELOPE_NOTIFY_NEVER, 0, false},
        {"R\0", 0, 600, true},
        {"R\1", ENVELOPE_NOTIFY_NEVER, 600, true},
        {"R\1", ENVELOPE_NOTIFY_DELAY, 600, true},
        {"N", 0, 600, false},
        {"N\1", ENVELOPE_NOTIFY_DELAY, 600, false},
        {"N\1", ENVELOPE_NOTIFY_FAILURE, 0, false},
        {"N\1", ENVELOPE_NOTIFY_NEVER, 0, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct queue *queue = fake_queue();
        begin_envelope();
        if (cases[i].mode != NULL) {
            add_time(ENVELOPE_DELIVER_BY, fake.shard.wall_ms + 600 * 1000, cases[i].mode);
        }
        add_recipient_with(cases[i].notify);
        enqueue(1);
        const struct queue_entry *entry = schedule_entry(queue, 0);
        uint32_t deadline_s = queue_entry_deadline_s(entry);
        uint32_t expected_s = cases[i].deadline_s != 0 ? fake_now_s() + cases[i].deadline_s : 0;
        assert_true(deadline_s == expected_s || (expected_s % 2 != 0 && deadline_s == expected_s + 1));
        assert_int_equal(entry->ends, cases[i].ends);
        fake_end(queue);
    }
}

/* A restart neither forgets that the sender was told, nor delivers early what was to be kept. */
static void test_demands_survive_a_restart(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    const struct spool_state states[] = {
        {.status = SPOOL_FORMAT_PENDING},
        {.status = SPOOL_FORMAT_DEFERRED, .attempts = SPOOL_FORMAT_TOLD},
        {.status = SPOOL_FORMAT_DEFERRED, .attempts = SPOOL_FORMAT_TOLD | 7, .next_attempt_s = fake_now_s() + 20000},
        {.status = SPOOL_FORMAT_DEFERRED, .attempts = 0},              /* released by the operator */
        {.status = SPOOL_FORMAT_HELD, .next_attempt_s = fake_now_s()}, /* since when */
    };
    begin_envelope();
    add_time(ENVELOPE_HOLD_UNTIL, fake.shard.wall_ms + 10000 * 1000, "");
    add_time(ENVELOPE_DELIVER_BY, fake.shard.wall_ms + 15000 * 1000, "N");
    for (unsigned i = 0; i < 5; i++) {
        add_recipient_with(0);
    }
    struct spool_recovered message = {
        .slot = 9,
        .arrival_ms = fake.shard.wall_ms - 1000,
        .recipients = 5,
        .envelope = buffer_bytes(&envelope),
        .states = states,
    };
    enqueue_recovered(queue, FAKE_SPOOL, &message);
    static const struct {
        enum queue_place place;
        bool told;
        uint32_t wait_s;
    } expected[] = {
        {QUEUE_CALENDAR, false, 10000}, {QUEUE_CALENDAR, true, 10000}, {QUEUE_CALENDAR, true, 20000},
        {QUEUE_READY, false, 0},        {QUEUE_PARKED, false, 0},
    };
    for (unsigned i = 0; i < 5; i++) {
        const struct queue_entry *entry = schedule_entry(queue, i);
        assert_int_equal(entry->place, expected[i].place);
        assert_int_equal(queue_entry_told(entry), expected[i].told);
        assert_int_equal(entry->deadline != 0, !expected[i].told);
        bool none = entry->place == QUEUE_READY;
        assert_in_range(entry->next_attempt_s, none ? 0 : fake_now_s() + expected[i].wait_s,
                        none ? 0 : fake_now_s() + expected[i].wait_s + 1);
    }
    fake_end(queue);
}

static void test_forwarded_recipients_stay_where_they_come_to(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    begin_envelope();
    add_recipient("a@example.com");
    enqueue(5);
    uint32_t index;
    assert_int_equal(schedule_take(queue, fake_destination(queue, "example.com"), &index, 1), 1);
    schedule_entry(queue, index)->attempts = 4;
    enqueue_forward(queue, index, 1);
    assert_null(fake_destination(queue, "example.com"));
    assert_int_equal(fake.mail_count, 1);
    assert_int_equal(fake.mails[0].kind, MAIL_FORWARD);
    assert_int_equal(fake.mails[0].to, 1);
    fake_deliver(0);
    assert_int_equal(ready_at(queue, "example.com"), 1);
    assert_true(fake_destination(queue, "example.com")->adopted);
    assert_int_equal(schedule_entry(queue, 0)->slot, 5);
    assert_int_equal(schedule_entry(queue, 0)->attempts, 4);
    assert_int_equal(schedule_entry(queue, 0)->spool, FAKE_SPOOL);
    fake_end(queue);
}

/* The limit is one of all shards together, wherever the recipients are. */
static void test_full(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    begin_envelope();
    for (unsigned i = 0; i < 400; i++) {
        add_recipient("a@example.com");
    }
    enqueue(1);
    assert_false(enqueue_full(&fake.shard));
    fake.queued_elsewhere = 349;
    assert_false(enqueue_busy(&fake.shard));
    fake.queued_elsewhere = 350;
    assert_true(enqueue_busy(&fake.shard));
    fake.queued_elsewhere = 599;
    assert_false(enqueue_full(&fake.shard));
    fake.queued_elsewhere = 600;
    assert_true(enqueue_full(&fake.shard));
    fake_end(queue);
}

/* --- lending ---------------------------------------------------------------------------------------------------- */

static void test_borrow_answer_and_return(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    static char nothing;
    queue_add_spool(queue, FAKE_SPOOL, (struct spool *)(void *)&nothing);
    struct queue_entry entry = {.slot = 3, .id_low = (uint32_t)fake.slot_id + 3, .spool = FAKE_SPOOL};
    lend_borrow(queue, &entry, 11, 13);
    assert_int_equal(fake.mails[0].kind, MAIL_BORROW);
    fake_deliver(0);
    assert_int_equal(fake.mails[1].kind, MAIL_LENT);
    fake_deliver(1);
    assert_int_equal(fake_answer.job, 11);
    assert_int_equal(fake_answer.generation, 13);
    assert_int_equal(fake_answer.slot, 3);
    assert_int_equal(fake_answer.err, ERR_OK);
    assert_int_equal(fake_answer.view.id, fake.slot_id + 3);
    for (unsigned corrupt = 0; corrupt < 2; corrupt++) {
        lend_return(queue, FAKE_SPOOL, 3, &fake_answer.view, corrupt != 0);
        fake_deliver(fake.mail_count - 1);
        assert_int_equal(fake.returned, corrupt + 1);
        assert_int_equal(fake.quarantined, corrupt);
    }
    fake.lend_err = ERR_NOT_FOUND;
    fake_deliver(0);
    fake_deliver(fake.mail_count - 1);
    assert_int_equal(fake_answer.err, ERR_NOT_FOUND);
    fake_end(queue);
}

/* A message that left the queue must not be mistaken for the one that has its slot now. */
static void test_a_slot_with_another_message_is_not_lent(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    static char nothing;
    queue_add_spool(queue, FAKE_SPOOL, (struct spool *)(void *)&nothing);
    struct queue_entry entry = {.slot = 3, .id_low = (uint32_t)fake.slot_id + 2, .spool = FAKE_SPOOL};
    lend_borrow(queue, &entry, 11, 13);
    fake_deliver(0);
    fake_deliver(1);
    assert_int_equal(fake_answer.err, ERR_NOT_FOUND);
    /* One that lacks a piece leaves the queue. */
    entry.id_low++;
    fake.lend_err = ERR_CORRUPT;
    lend_borrow(queue, &entry, 11, 13);
    fake_deliver(fake.mail_count - 1);
    fake_deliver(fake.mail_count - 1);
    assert_int_equal(fake_answer.err, ERR_CORRUPT);
    assert_int_equal(fake.quarantined, 1);
    fake_end(queue);
}

static void test_a_report_is_cut_and_split(void **state)
{
    (void)state;
    struct queue *queue = fake_queue();
    char text[2000];
    memset(text, 't', sizeof text);
    struct lend_recipient recipients[LEND_RECIPIENTS * 2 + 1];
    unsigned count = sizeof recipients / sizeof *recipients;
    for (unsigned i = 0; i < count; i++) {
        recipients[i] = (struct lend_recipient){.recipient = (uint16_t)(i * 3), .attempts = (uint16_t)i};
    }
    struct lend_result result = {
        .status = SPOOL_FORMAT_DEFERRED,
        .next_attempt_s = 77,
        .reply_code = 451,
        .enhanced = {4, 7, 1},
        .text = bytes_of(text, sizeof text),
        .host = bytes_of(text, sizeof text),
    };
    struct queue_entry of = {.slot = 8, .id_low = 99, .spool = FAKE_SPOOL};
    lend_report(queue, &of, &result, recipients, count);
    assert_int_equal(fake.mail_count, 3);
    unsigned next = 0;
    for (unsigned i = 0; i < 3; i++) {
        const struct lend_outcome *outcome = fake.mails[i].payload;
        assert_int_equal(outcome->slot, 8);
        assert_int_equal(outcome->id_low, 99);
        assert_int_equal(outcome->verdict, LEND_ATTEMPTED);
        assert_int_equal(outcome->reply_code, 451);
        assert_int_equal(outcome->text_bytes, LIMIT_CLIENT_REPLY_BYTES);
        assert_int_equal(outcome->host_bytes, LEND_HOST_BYTES);
        assert_int_equal(fake.mails[i].length, sizeof *outcome -
                                                   (sizeof *outcome - offsetof(struct lend_outcome, tail)) +
                                                   LIMIT_CLIENT_REPLY_BYTES + LEND_HOST_BYTES);
        for (unsigned j = 0; j < outcome->count; j++, next++) {
            assert_int_equal(outcome->recipients[j].recipient, next * 3);
            assert_int_equal(outcome->recipients[j].attempts, next);
        }
    }
    assert_int_equal(next, count);
    lend_report(queue, &of, &(struct lend_result){.status = SPOOL_FORMAT_DELIVERED}, recipients, 1);
    assert_int_equal(fake.mails[3].length, offsetof(struct lend_outcome, tail));
    fake_end(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipients_go_to_their_domains),
        cmocka_unit_test(test_runs_of_one_domain_are_one_mail),
        cmocka_unit_test(test_a_recovered_message_goes_on_where_it_was),
        cmocka_unit_test(test_hold_and_priority),
        cmocka_unit_test(test_a_message_may_come_held),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_demands_survive_a_restart),
        cmocka_unit_test(test_forwarded_recipients_stay_where_they_come_to),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_borrow_answer_and_return),
        cmocka_unit_test(test_a_slot_with_another_message_is_not_lent),
        cmocka_unit_test(test_a_report_is_cut_and_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
