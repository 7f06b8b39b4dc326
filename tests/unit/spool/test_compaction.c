/* Space by moving what waits: how much is kept, how much is moved, and what must not be moved in circles. */
#include "unit/spool/rig.h"

static void deliver(struct rig *rig, struct letter *letter)
{
    struct verdict verdict;
    verdict_give(rig, &verdict, letter->append.slot, letter->id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
    rig_turns(rig, 3);
    assert_int_equal(verdict.result, ERR_OK);
}

static unsigned files_in_use(const struct rig *rig)
{
    struct spool_statistics now;
    spool_statistics(rig->spool, &now);
    return now.segments - now.spares;
}

/* Peers that read slowly hold segments that nothing else is needed from. What was moved out of one gains nothing by
 * being moved once more: each time another file would be left behind. */
static void slow_readers_do_not_multiply_the_files(void **state)
{
    (void)state;
    enum { READERS = 6, EACH = 7, BETWEEN = 25 }; /* what waits is more than a segment */
    struct rig rig;
    rig_init(&rig);
    assert_int_equal(rig_start(&rig), ERR_OK);
    struct letter lent[READERS], waiting[READERS * EACH], passing;
    struct spool_view views[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        letter_send(&rig, &lent[i], 1, 8000);
        for (unsigned j = 0; j < EACH; j++) {
            letter_send(&rig, &waiting[EACH * i + j], 1, 8000);
        }
        rig_turns(&rig, 3);
        assert_int_equal(spool_lend(rig.spool, lent[i].append.slot, lent[i].id, &views[i]), ERR_OK);
        deliver(&rig, &lent[i]);
        for (unsigned j = 0; j < BETWEEN; j++) {
            letter_send(&rig, &passing, 1, 8000);
            rig_turns(&rig, 3);
            deliver(&rig, &passing);
        }
    }
    rig_turns(&rig, 10000);
    assert_in_range(files_in_use(&rig), READERS, 2 * READERS);
    for (unsigned i = 0; i < READERS; i++) {
        spool_return(rig.spool, &views[i]);
    }
    rig_turns(&rig, 1000);
    assert_in_range(files_in_use(&rig), 1, 5);
    for (unsigned i = 0; i < READERS * EACH; i++) {
        assert_true(letter_check(&rig, waiting[i].append.slot, waiting[i].id, 8000));
    }
    rig_free(&rig);
}

/* A steady flow, a tenth of which waits and is tried again and again: space goes by what waits, and what is written for
 * moving it does not grow with the attempts. */
static void waiting_mail_does_not_hold_the_files(void **state)
{
    (void)state;
    enum { FLOW = 2400, EACH = 10 };
    static struct letter letters[FLOW / EACH];
    struct rig rig;
    rig_init(&rig);
    rig.shard.metrics = metric_set_new();
    assert_int_equal(rig_start(&rig), ERR_OK);
    struct spool_statistics now;
    uint64_t worst = 0;
    for (unsigned i = 0; i < FLOW; i++) {
        struct letter passing;
        struct verdict verdict;
        bool waits = i % EACH == 0;
        struct letter *letter = waits ? &letters[i / EACH] : &passing;
        letter_send(&rig, letter, 1, 4096);
        rig_turns(&rig, 2);
        assert_int_equal(letter->result, ERR_OK);
        free(letter->body);
        letter = waits ? letter : &passing;
        verdict_give(&rig, &verdict, letter->append.slot, letter->id, 0,
                     waits ? SPOOL_FORMAT_DEFERRED : SPOOL_FORMAT_DELIVERED, 1, false);
        rig_turns(&rig, 2);
        if (i > EACH) { /* one of those that wait is tried once more */
            const struct letter *again = &letters[(i * 7) % (i / EACH)];
            verdict_give(&rig, &verdict, again->append.slot, again->id, 0, SPOOL_FORMAT_DEFERRED, 2, false);
            rig_turns(&rig, 2);
            assert_int_equal(verdict.result, ERR_OK);
        }
        spool_statistics(rig.spool, &now);
        uint64_t used = (uint64_t)(now.segments - now.spares) * rig.settings.segment_bytes;
        uint64_t fair = now.live_bytes / 10 * 13 + 6ull * rig.settings.segment_bytes; /* two while it moves */
        worst = used > fair && used - fair > worst ? used - fair : worst;
    }
    double messages = (double)rig.shard.metrics->spool_message_bytes;
    double written = (double)rig.shard.metrics->spool_written_bytes / messages;
    print_message("%u messages: %.2f bytes written each, %.2f of them moved; %u segments for %.1f\n", FLOW, written,
                  (double)rig.shard.metrics->spool_compacted_bytes / messages, now.segments - now.spares,
                  (double)now.live_bytes / rig.settings.segment_bytes);
    assert_int_equal(worst, 0);
    assert_true(written < 2);
    spool_close(rig.spool);
    metric_set_delete(rig.shard.metrics);
    rig.spool = NULL;
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_readers_do_not_multiply_the_files),
        cmocka_unit_test(waiting_mail_does_not_hold_the_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
