/* A segment that a write failed on: what is needed leaves it, and then the file goes; and until then it does no harm to
 * the others. */
#include "core/metric.h"
#include "unit/spool/rig.h"

static struct rig rig;

/* --- a disk that fails here and there --------------------------------------------------------------------------- */

static bool batches_fail;
static char failed[256];    /* the file on which one did */
static bool emptying_fails; /* of that file; of the first that is tried, when there is none */
static unsigned refusals;

static void path_of(const struct fake_op *op, char ret_path[sizeof failed])
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", op->fd);
    ssize_t n = readlink(link, ret_path, sizeof failed - 1);
    ret_path[n > 0 ? n : 0] = '\0';
}

static int fault(const struct fake_op *op)
{
    char path[sizeof failed];
    if (op->kind != FAKE_WRITE || !op->sync) {
        return 0;
    }
    path_of(op, path);
    if (op->offset != 0 && batches_fail) {
        memcpy(failed, path, sizeof failed);
        return -EIO;
    }
    if (op->offset == 0 && emptying_fails && (failed[0] == '\0' || strcmp(path, failed) == 0)) {
        memcpy(failed, path, sizeof failed);
        refusals++;
        return -EIO;
    }
    return 0;
}

static void begin(void)
{
    rig_init(&rig);
    rig.shard.metrics = metric_set_new();
    batches_fail = emptying_fails = false;
    failed[0] = '\0';
    refusals = 0;
    rig.ring->fault = fault;
    assert_int_equal(rig_start(&rig), ERR_OK);
}

static void end(void)
{
    struct metric_set *metrics = rig.shard.metrics;
    spool_close(rig.spool);
    rig.spool = NULL;
    assert_int_equal(metrics->suspect_segments, 0);
    metric_set_delete(metrics);
    rig_free(&rig);
}

static void kill_and_start(void)
{
    struct metric_set *metrics = rig.shard.metrics;
    rig_kill(&rig);
    metric_set_delete(metrics);
    rig.shard.metrics = metric_set_new();
    rig.ring->fault = fault;
    assert_int_equal(rig_start(&rig), ERR_OK);
}

static uint64_t messages(void)
{
    struct spool_statistics now;
    spool_statistics(rig.spool, &now);
    return now.messages;
}

static uint64_t used(void)
{
    struct spool_statistics now;
    spool_statistics(rig.spool, &now);
    return now.segments - now.spares;
}

static bool failed_is_there(void)
{
    return failed[0] != '\0' && access(failed, F_OK) == 0;
}

static void write_one(struct letter *letter, size_t bytes)
{
    letter_send(&rig, letter, 1, bytes);
    rig_turns(&rig, 3);
    assert_true(letter->finished);
    free(letter->body);
}

static void give(const struct letter *letter, enum spool_format_status status)
{
    struct verdict verdict;
    verdict_give(&rig, &verdict, letter->append.slot, letter->id, 0, status, 1, false);
    rig_turns(&rig, 3);
    assert_int_equal(verdict.result, ERR_OK);
}

/* Three messages, and then a write that fails behind them. */
static void fail_behind(struct letter letters[3])
{
    struct letter lost;
    for (unsigned i = 0; i < 3; i++) {
        write_one(&letters[i], 2000);
        assert_int_equal(letters[i].result, ERR_OK);
    }
    batches_fail = true;
    write_one(&lost, 2000);
    batches_fail = false;
    assert_int_equal(lost.result, ERR_IO);
}

/* --- tests ------------------------------------------------------------------------------------------------------ */

static void it_goes_when_nothing_in_it_is_needed(void **state)
{
    (void)state;
    struct letter letters[3];
    begin();
    fail_behind(letters);
    assert_int_equal(rig.shard.metrics->suspect_segments, 1);
    assert_true(failed_is_there());
    rig_turns(&rig, 100);
    assert_int_equal(rig.shard.metrics->suspect_segments, 0);
    assert_false(failed_is_there());
    for (unsigned i = 0; i < 3; i++) {
        assert_true(letter_check(&rig, letters[i].append.slot, letters[i].id, 2000));
    }
    assert_int_equal(spool_intake_state(rig.spool), SPOOL_INTAKE_OPEN);
    kill_and_start();
    assert_int_equal(messages(), 3);
    end();
}

/* An outcome in it is what keeps a message from coming back. */
static void it_stays_while_it_has_what_finished_mail(void **state)
{
    (void)state;
    struct letter letters[3];
    struct letter passing;
    struct letter finished;
    begin();
    write_one(&finished, 2000);
    do { /* until the next segment is open: the first stays, it is nearly all live */
        write_one(&passing, 40000);
    } while (passing.append.segment == finished.append.segment);
    give(&finished, SPOOL_FORMAT_DELIVERED);
    fail_behind(letters);
    rig_turns(&rig, 300);
    assert_int_equal(rig.shard.metrics->suspect_segments, 1);
    uint64_t expected = messages();
    kill_and_start();
    assert_int_equal(messages(), expected);
    assert_int_equal(spool_find(rig.spool, finished.id), SPOOL_SLOT_NONE);
    end();
}

static void what_cannot_be_emptied_is_tried_again_ever_less_often(void **state)
{
    (void)state;
    struct letter letters[3];
    begin();
    emptying_fails = true;
    fail_behind(letters);
    rig_turns(&rig, 100 * 100); /* 100 s: after 1, 2, 4, 8, 16 and 32 of them, and the first time */
    assert_in_range(refusals, 6, 8);
    assert_int_equal(rig.shard.metrics->suspect_segments, 1);
    assert_true(failed_is_there());
    emptying_fails = false;
    rig_turns(&rig, 100 * 100);
    assert_int_equal(rig.shard.metrics->suspect_segments, 0);
    assert_false(failed_is_there());
    end();
}

/* Mail that waits for a tenth of the flow's time, behind a failed write. The worst excess over what the files may take,
 * in segments. */
static uint64_t flow(uint64_t *ret_compacted)
{
    enum { FLOW = 2000, EACH = 10, WAITS = 40 };
    struct letter waiting[WAITS];
    unsigned count = 0;
    uint64_t worst = 0;
    uint64_t before = rig.shard.metrics->spool_compacted_bytes;
    for (unsigned i = 0; i < FLOW; i++) {
        struct letter passing;
        write_one(&passing, 4096);
        assert_int_equal(passing.result, ERR_OK);
        if (i % EACH != 0) {
            give(&passing, SPOOL_FORMAT_DELIVERED);
        } else {
            if (count >= WAITS) {
                give(&waiting[count % WAITS], SPOOL_FORMAT_DELIVERED);
            }
            waiting[count++ % WAITS] = passing;
        }
        struct spool_statistics now;
        spool_statistics(rig.spool, &now);
        uint64_t fair = now.live_bytes / 10 * 13 / rig.settings.segment_bytes + 7; /* two while it moves */
        worst = used() > fair + worst ? used() - fair : worst;
    }
    for (unsigned i = 0; i < WAITS; i++) {
        give(&waiting[i], SPOOL_FORMAT_DELIVERED);
    }
    *ret_compacted = rig.shard.metrics->spool_compacted_bytes - before;
    return worst;
}

static void afterwards_space_is_made_as_before(void **state)
{
    (void)state;
    uint64_t before;
    uint64_t after;
    struct letter letters[3];
    begin();
    assert_int_equal(flow(&before), 0);
    fail_behind(letters);
    assert_in_range(flow(&after), 0, 2); /* it and the one behind it */
    rig_turns(&rig, 500);
    assert_int_equal(rig.shard.metrics->suspect_segments, 0);
    assert_int_equal(flow(&after), 0);
    assert_true(after < 2 * before);
    end();
}

/* One that stays is not the end of making space, and what came out of it is not moved for ever. */
static void one_that_stays_does_not_hold_the_others(void **state)
{
    (void)state;
    enum { COUNT = 8 };
    uint64_t before;
    uint64_t after;
    struct letter letters[3];
    struct letter large[COUNT];
    begin();
    assert_int_equal(flow(&before), 0);
    fail_behind(letters);
    emptying_fails = true;
    for (unsigned i = 0; i < COUNT; i++) { /* they fill the one behind it, so that what it had comes into a third one */
        letter_send(&rig, &large[i], 1, 38000);
    }
    rig_turns(&rig, 20);
    assert_int_not_equal(large[0].append.segment, large[COUNT - 1].append.segment);
    assert_in_range(flow(&after), 0, 3);
    assert_int_equal(rig.shard.metrics->suspect_segments, 1);
    assert_true(after < 2 * before);
    emptying_fails = false;
    assert_int_equal(flow(&after), 0);
    end();
}

/* What it held before may be on the disk still, and what finished that mail is in the others. */
static void nothing_is_emptied_before_what_a_start_found_empty(void **state)
{
    (void)state;
    enum { COUNT = 16 };
    struct letter letters[COUNT];
    begin();
    for (unsigned i = 0; i < COUNT; i++) {
        write_one(&letters[i], 40000);
    }
    emptying_fails = true; /* of the first that is tried */
    kill_and_start();
    assert_true(refusals > 0 && used() > 2);
    uint64_t before = rig.shard.metrics->spool_segments_recycled;
    for (unsigned i = 0; i < COUNT; i++) {
        letters[i].append.slot = spool_find(rig.spool, letters[i].id);
        give(&letters[i], SPOOL_FORMAT_DELIVERED);
    }
    rig_turns(&rig, 300);
    assert_int_equal(rig.shard.metrics->spool_segments_recycled, before);
    emptying_fails = false;
    rig_turns(&rig, 3000);
    assert_true(used() <= 2);
    end();
}

/* --- what records say of those before them ---------------------------------------------------------------------- */

static bool syncs_fail;

static int fault_of_syncs(const struct fake_op *op)
{
    char path[sizeof failed];
    path_of(op, path);
    return syncs_fail && op->kind == FAKE_SYNC && strstr(path, ".seg") != NULL ? -EIO : fault(op);
}

/* The first record of the segment that the append went to. */
static struct spool_format_record first_record(const struct spool_append *append)
{
    char path[200];
    struct spool_format_record record = {0};
    for (uint32_t file = 1; file < 20; file++) {
        snprintf(path, sizeof path, "%s/%u/%08u.seg", rig.root, rig.settings.number, file);
        int fd = open(path, O_RDONLY);
        struct spool_format_record at;
        bool here = fd >= 0 && pread(fd, &at, sizeof at, (off_t)append->position * SPOOL_FORMAT_ALIGN) == sizeof at &&
                    at.magic == SPOOL_FORMAT_RECORD_MAGIC && at.message == append->id;
        if (here) {
            assert_int_equal(pread(fd, &record, sizeof record, SPOOL_FORMAT_HEADER_BYTES), sizeof record);
        }
        close(fd);
    }
    assert_int_equal(record.magic, SPOOL_FORMAT_RECORD_MAGIC);
    return record;
}

static void write_relaxed(struct letter *letter)
{
    letter_write(letter, spool_new_id(rig.spool), 1, 100);
    letter_append(&rig, letter, SPOOL_FORMAT_RELAXED, false);
    rig_turns(&rig, 2);
    assert_int_equal(letter->result, ERR_OK);
}

/* Else the next batch, torn by a power cut, is taken for one with damage in it: an outcome counts whose notification
 * was in front of it. */
static void later_records_know_what_was_not_synced(void **state)
{
    (void)state;
    struct letter letters[2];
    struct letter relaxed;
    struct letter next;
    begin();
    write_one(&letters[0], 100);
    write_relaxed(&relaxed);
    rig.ring->fault = fault_of_syncs; /* behind relaxed bytes a batch is a write, and a sync of the file */
    syncs_fail = true;
    write_one(&letters[1], 100);
    syncs_fail = false;
    assert_int_equal(letters[1].result, ERR_IO);
    write_one(&next, 100);
    assert_int_equal(next.result, ERR_OK);
    struct spool_format_record record = first_record(&next.append);
    assert_int_equal(record.sequence, 3);
    assert_int_equal(record.unsure, 1);
    end();
}

/* It was acknowledged: it counts for as long as the process's death is all that happens. */
static void a_relaxed_message_counts_after_its_sync_failed(void **state)
{
    (void)state;
    struct letter relaxed;
    struct letter next;
    begin();
    write_one(&next, 100);
    write_relaxed(&relaxed);
    rig.ring->fault = fault_of_syncs;
    syncs_fail = true;
    while (rig.shard.metrics->suspect_segments == 0) {
        rig_turn(&rig);
    }
    syncs_fail = false;
    letter_send(&rig, &next, 1, 100); /* in front of the copy of the relaxed one */
    while (!next.finished) {
        rig_turn(&rig);
    }
    assert_int_equal(next.result, ERR_OK);
    kill_and_start();
    assert_int_equal(messages(), 3);
    assert_int_not_equal(spool_find(rig.spool, relaxed.id), SPOOL_SLOT_NONE);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_goes_when_nothing_in_it_is_needed),
        cmocka_unit_test(it_stays_while_it_has_what_finished_mail),
        cmocka_unit_test(what_cannot_be_emptied_is_tried_again_ever_less_often),
        cmocka_unit_test(afterwards_space_is_made_as_before),
        cmocka_unit_test(one_that_stays_does_not_hold_the_others),
        cmocka_unit_test(nothing_is_emptied_before_what_a_start_found_empty),
        cmocka_unit_test(later_records_know_what_was_not_synced),
        cmocka_unit_test(a_relaxed_message_counts_after_its_sync_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
