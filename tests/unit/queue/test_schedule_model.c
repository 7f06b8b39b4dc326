/* Thousands of random operations on a queue with the books kept beside it: every recipient is in exactly one place,
 * ends exactly once, and is where the operations on it say; all lists and counts agree at every step. */
#include "unit/queue/fake_owner.h"

#define SLOTS 20000u /* messages; the slot numbers a recipient, as each has one */
#define DOMAINS 7u
#define HELD_OUT 256u

struct book {
    uint32_t index; /* of the entry, once it is known */
    enum queue_place place;
    unsigned domain;
    unsigned ends;
    uint32_t due_s;
    uint32_t deadline_s; /* 0: none */
    unsigned told;
};

struct model {
    struct queue *queue;
    struct rng rng;
    struct book books[SLOTS];
    uint32_t begun;
    uint32_t out[HELD_OUT];
    unsigned outs;
};

static struct model model;

static unsigned below(unsigned bound)
{
    return (unsigned)rng_below(&model.rng, bound);
}

static struct bytes domain_name(unsigned number)
{
    static const char *const names[DOMAINS] = {"a.example", "b.example", "c.example", "d.example",
                                               "e.example", "",          "g"};
    return bytes_of_string(names[number]);
}

static struct destination *domain_destination(unsigned number)
{
    return map_find(&model.queue->destinations, domain_name(number));
}

/* What the queue reported ends or moves recipients. */
static void read_reports(void)
{
    for (unsigned i = 0; i < fake.mail_count; i++) {
        const struct lend_outcome *outcome = fake.mails[i].payload;
        struct book *book = &model.books[outcome->slot];
        assert_int_equal(fake.mails[i].kind, MAIL_OUTCOME);
        assert_int_equal(outcome->count, 1);
        if (outcome->verdict == LEND_HELD) {
            book->place = QUEUE_PARKED;
        } else if (outcome->verdict == LEND_RELEASED) {
            assert_int_equal(book->place, QUEUE_PARKED);
            book->place = QUEUE_READY;
        } else if (outcome->verdict == LEND_DELAYED) {
            assert_true(book->deadline_s != 0 && book->deadline_s <= fake_now_s());
            assert_int_equal(book->told++, 0);
        } else {
            assert_true(outcome->verdict != LEND_OVERDUE ||
                        (book->deadline_s != 0 && book->deadline_s <= fake_now_s()));
            book->place = QUEUE_FREE;
            book->ends++;
        }
    }
    fake_forget_mail();
}

static unsigned check_ready_list(const struct queue *queue, const struct destination *destination)
{
    unsigned count = 0;
    for (unsigned band = 0; band < QUEUE_BANDS; band++) {
        uint32_t last = SLOTS_NONE;
        for (uint32_t index = destination->ready_first[band]; index != SLOTS_NONE; count++) {
            const struct queue_entry *entry = schedule_entry(queue, index);
            assert_int_equal(entry->place, QUEUE_READY);
            assert_int_equal(entry->band, band);
            assert_int_equal(entry->destination, destination->index);
            if (entry->deadline != 0) {
                assert_true(destination->deadline_s != 0);
                assert_true(destination->deadline_s <= queue_entry_deadline_s(entry));
                assert_true(wheel_armed(&queue->deadline_timer));
                assert_true(queue_entry_deadline_s(entry) + 64 >= fake_now_s()); /* not overlooked */
            }
            last = index;
            index = entry->next;
        }
        assert_int_equal(destination->ready_last[band], last);
    }
    assert_int_equal(destination->ready, count);
    return count;
}

static unsigned check_calendar(const struct queue *queue)
{
    unsigned count = 0;
    for (uint32_t at = 0; at < QUEUE_CALENDAR_SLOTS; at++) {
        bool used = (queue->calendar_used[at / 64] >> (at % 64) & 1) != 0;
        assert_int_equal(used, queue->calendar[at] != SLOTS_NONE);
        for (uint32_t index = queue->calendar[at]; index != SLOTS_NONE; count++) {
            const struct queue_entry *entry = schedule_entry(queue, index);
            assert_int_equal(entry->place, QUEUE_CALENDAR);
            uint32_t deadline_s = queue_entry_deadline_s(entry);
            uint32_t due_s = deadline_s != 0 && deadline_s < entry->next_attempt_s ? deadline_s : entry->next_attempt_s;
            assert_int_equal(due_s % QUEUE_CALENDAR_SLOTS, at);
            assert_true(due_s + 2 >= fake_now_s());
            assert_true(entry->next_attempt_s > queue->calendar_swept_s);
            assert_true(entry->next_attempt_s + 2 >= fake_now_s()); /* not overlooked */
            index = entry->next;
        }
    }
    assert_int_equal(queue->deferred, count);
    assert_true(count == 0 || wheel_armed(&queue->calendar_timer));
    return count;
}

static void check_books(void)
{
    unsigned counts[DOMAINS][QUEUE_PARKED + 1] = {{0}};
    unsigned live = 0;
    for (uint32_t slot = 0; slot < model.begun; slot++) {
        const struct book *book = &model.books[slot];
        assert_int_equal(book->ends, book->place == QUEUE_FREE);
        live += book->ends == 0;
        if (book->ends == 0) {
            const struct queue_entry *entry = schedule_entry(model.queue, book->index);
            assert_int_equal(entry->slot, slot);
            /* Only time moves an entry from the calendar without our doing. */
            bool came_due = book->place == QUEUE_CALENDAR && entry->place == QUEUE_READY && book->due_s <= fake_now_s();
            assert_true(entry->place == book->place || came_due);
            counts[book->domain][entry->place]++;
        }
    }
    unsigned ready = 0;
    for (unsigned i = 0; i < DOMAINS; i++) {
        const struct destination *destination = domain_destination(i);
        unsigned sum = counts[i][QUEUE_READY] + counts[i][QUEUE_CALENDAR] + counts[i][QUEUE_OUT] +
                       counts[i][QUEUE_PARKED];
        assert_int_equal(destination != NULL, sum != 0);
        if (destination != NULL) {
            ready += check_ready_list(model.queue, destination);
            assert_int_equal(destination->ready, counts[i][QUEUE_READY]);
            assert_int_equal(destination->deferred, counts[i][QUEUE_CALENDAR]);
            assert_int_equal(destination->out, counts[i][QUEUE_OUT]);
            assert_int_equal(destination->held, counts[i][QUEUE_PARKED]);
        }
    }
    check_calendar(model.queue);
    assert_int_equal(model.queue->entries.used, live);
    assert_int_equal(atomic_load(&fake.shard.metrics->queued_recipients), live);
}

/* --- operations ------------------------------------------------------------------------------------------------- */

static void find_index(struct book *book, uint32_t slot)
{
    for (uint32_t index = 0; index < model.queue->entries.begun; index++) {
        const struct queue_entry *entry = schedule_entry(model.queue, index);
        if (entry->place != QUEUE_FREE && entry->slot == slot) {
            book->index = index;
            return;
        }
    }
    fail();
}

static void do_add(void)
{
    if (model.begun == SLOTS) {
        return;
    }
    uint32_t slot = model.begun++;
    struct book *book = &model.books[slot];
    bool later = below(3) == 0;
    struct schedule_item item = {
        .slot = slot,
        .arrival_s = fake_now_s() - below(1000),
        .next_attempt_s = later ? fake_now_s() + 1 + below(9000) : 0,
        .spool = FAKE_SPOOL,
        .held = below(10) == 0,
        .band = (uint8_t)below(QUEUE_BANDS),
        .deadline_s = below(4) == 0 ? fake_now_s() + 1 + below(20000) : 0,
    };
    item.ends = item.deadline_s != 0 && below(2) == 0;
    *book = (struct book){
        .deadline_s = item.deadline_s,
        .domain = below(DOMAINS),
        .place = item.held ? QUEUE_PARKED
                 : later   ? QUEUE_CALENDAR
                           : QUEUE_READY,
        .due_s = item.next_attempt_s,
    };
    schedule_add(model.queue, domain_name(book->domain), &item, 1);
    find_index(book, slot);
}

static void do_take(void)
{
    struct destination *destination = domain_destination(below(DOMAINS));
    uint32_t index;
    if (destination == NULL || model.outs == HELD_OUT || schedule_take(model.queue, destination, &index, 1) == 0) {
        return;
    }
    struct book *book = &model.books[schedule_entry(model.queue, index)->slot];
    read_reports();
    assert_int_equal(book->index, index);
    book->place = QUEUE_OUT;
    model.out[model.outs++] = index;
}

static void do_give_back(void)
{
    if (model.outs == 0) {
        return;
    }
    unsigned which = below(model.outs);
    uint32_t index = model.out[which];
    model.out[which] = model.out[--model.outs];
    const struct queue_entry *entry = schedule_entry(model.queue, index);
    struct book *book = &model.books[entry->slot];
    bool hurry = entry->wish == QUEUE_RETRY || entry->wish == QUEUE_RELEASE;
    switch (below(3)) {
    case 0:
        book->place = QUEUE_FREE;
        book->ends++;
        schedule_finish(model.queue, index);
        break;
    case 1:
        book->place = QUEUE_READY;
        schedule_return(model.queue, index);
        break;
    default:
        book->due_s = fake_now_s() + below(9000);
        book->place = hurry || book->due_s <= fake_now_s() ? QUEUE_READY : QUEUE_CALENDAR;
        schedule_defer(model.queue, index, book->due_s);
        break;
    }
}

static void do_wish(void)
{
    if (model.begun == 0) {
        return;
    }
    for (unsigned i = below(4); i != 0; i--) {
        struct book *book = &model.books[below(model.begun)];
        if (book->ends == 0) {
            unsigned wish = below(QUEUE_BOUNCE + 1);
            struct queue_entry *entry = schedule_entry(model.queue, book->index);
            if (wish == QUEUE_RETRY && entry->place == QUEUE_CALENDAR) {
                book->due_s = 0; /* ready from the next walk on */
            }
            entry->wish = wish & 7u;
        }
    }
    if (below(2) == 0) {
        schedule_sweep(model.queue);
    }
}

static void do_expire(void)
{
    struct destination *destination = domain_destination(below(DOMAINS));
    if (destination != NULL) {
        schedule_expire(model.queue, destination);
    }
}

/* Entries that came due are on the books as ready from here on. */
static void do_pass(void)
{
    fake_pass(below(20) == 0 ? below(40000000) : below(300000));
    for (uint32_t slot = 0; slot < model.begun; slot++) {
        struct book *book = &model.books[slot];
        if (book->place == QUEUE_CALENDAR && schedule_entry(model.queue, book->index)->place == QUEUE_READY) {
            assert_true(book->due_s <= fake_now_s());
            book->place = QUEUE_READY;
        }
    }
}

static void run(uint64_t seed, unsigned steps)
{
    static void (*const operations[])(void) = {do_add,       do_add,       do_add,  do_take,   do_take,
                                               do_give_back, do_give_back, do_wish, do_expire, do_pass};
    memset(&model, 0, sizeof model);
    rng_seed(&model.rng, seed);
    model.queue = fake_queue();
    for (unsigned step = 0; step < steps; step++) {
        operations[below(sizeof operations / sizeof *operations)]();
        read_reports();
        check_books();
    }
    fake_end(model.queue);
}

static void test_random_operations_against_the_books(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        print_message("seed %u\n", (unsigned)seed);
        run(seed, 1500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_against_the_books),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
