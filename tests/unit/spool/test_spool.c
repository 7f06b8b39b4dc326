/* The spool from outside: what is appended comes back, in the same life and in the next. */
#include "spool/quarantine.h"
#include "unit/spool/rig.h"

struct found {
    unsigned count;
    struct spool_recovered last;
    struct spool_state states[8];
    uint64_t ids[64];
    uint32_t slots[64];
};

static void found_one(void *context, const struct spool_recovered *message)
{
    struct found *found = context;
    found->last = *message;
    memcpy(found->states, message->states,
           (message->recipients < 8 ? message->recipients : 8) * sizeof found->states[0]);
    if (found->count < 64) {
        found->ids[found->count] = message->id;
        found->slots[found->count] = message->slot;
    }
    found->count++;
}

static uint32_t slot_of(const struct found *found, uint64_t id)
{
    for (unsigned i = 0; i < found->count && i < 64; i++) {
        if (found->ids[i] == id) {
            return found->slots[i];
        }
    }
    return SPOOL_SLOT_NONE;
}

static void begin(struct rig *rig, struct found *found)
{
    rig_init(rig);
    *found = (struct found){0};
    rig->settings.recovered = found_one;
    rig->settings.context = found;
    assert_int_equal(rig_start(rig), ERR_OK);
}

static void reopen(struct rig *rig, struct found *found, bool killed)
{
    if (killed) {
        rig_kill(rig);
    } else {
        spool_close(rig->spool);
    }
    *found = (struct found){0};
    assert_int_equal(rig_start(rig), ERR_OK);
}

static void a_message_comes_back(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letter;
    letter_send(&rig, &letter, 1, 3000);
    assert_false(letter.finished);
    rig_turns(&rig, 2);
    assert_true(letter.finished);
    assert_int_equal(letter.result, ERR_OK);
    assert_true(letter_check(&rig, letter.append.slot, letter.id, 3000));
    for (int killed = 0; killed < 2; killed++) {
        reopen(&rig, &found, killed);
        assert_int_equal(found.count, 1);
        assert_int_equal(found.last.id, letter.id);
        assert_int_equal(found.last.recipients, 1);
        assert_int_equal(found.states[0].status, SPOOL_FORMAT_PENDING);
        assert_true(letter_check(&rig, found.last.slot, letter.id, 3000));
        assert_true(spool_new_id(rig.spool) > letter.id);
    }
    rig_free(&rig);
}

static void finished_messages_are_gone(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letters[4];
    struct verdict verdicts[4];
    for (unsigned i = 0; i < 4; i++) {
        letter_send(&rig, &letters[i], 1, 500);
    }
    rig_turns(&rig, 2);
    verdict_give(&rig, &verdicts[0], letters[0].append.slot, letters[0].id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
    verdict_give(&rig, &verdicts[1], letters[1].append.slot, letters[1].id, 0, SPOOL_FORMAT_DEFERRED, 3, false);
    verdict_give(&rig, &verdicts[2], letters[2].append.slot, letters[2].id, 0, SPOOL_FORMAT_HELD, 0, false);
    rig_turns(&rig, 2);
    assert_int_equal(verdicts[0].result, ERR_OK);
    assert_false(spool_holds(rig.spool, letters[0].append.slot, letters[0].id));
    verdict_give(&rig, &verdicts[3], letters[0].append.slot, letters[0].id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
    rig_turns(&rig, 2);
    assert_int_equal(verdicts[3].result, ERR_NOT_FOUND);
    for (int killed = 0; killed < 2; killed++) {
        reopen(&rig, &found, killed);
        assert_int_equal(found.count, 3);
        struct spool_outcome outcome;
        char text[SPOOL_OUTCOME_BYTES(1)];
        struct buffer room = buffer_of(text, sizeof text);
        assert_int_equal(
            spool_recipient_state(rig.spool, slot_of(&found, letters[1].id), letters[1].id, 0, &room, &outcome),
            ERR_OK);
        assert_int_equal(outcome.status, SPOOL_FORMAT_DEFERRED);
        assert_int_equal(outcome.attempts, 3);
        assert_int_equal(outcome.next_attempt_s, 1003);
        assert_int_equal(outcome.reply_code, 450);
        assert_int_equal(outcome.enhanced[1], 2);
        assert_true(bytes_equal(outcome.reply, BYTES("450 4.2.1 try later")));
        assert_true(bytes_equal(outcome.host, BYTES("mx.example")));
    }
    rig_free(&rig);
}

static void recipients_are_counted_down(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letter;
    struct verdict verdicts[3];
    letter_send(&rig, &letter, 3, 500);
    rig_turns(&rig, 2);
    uint32_t slot = letter.append.slot;
    verdict_give(&rig, &verdicts[0], slot, letter.id, 1, SPOOL_FORMAT_DELIVERED, 1, false);
    verdict_give(&rig, &verdicts[1], slot, letter.id, 2, SPOOL_FORMAT_DEFERRED, 2, false);
    rig_turns(&rig, 2);
    reopen(&rig, &found, true);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.states[0].status, SPOOL_FORMAT_PENDING);
    assert_int_equal(found.states[1].status, SPOOL_FORMAT_DELIVERED);
    assert_int_equal(found.states[2].status, SPOOL_FORMAT_DEFERRED);
    assert_int_equal(found.states[2].attempts, 2);
    assert_int_equal(found.states[2].next_attempt_s, 1002);
    slot = found.last.slot;
    verdict_give(&rig, &verdicts[0], slot, letter.id, 0, SPOOL_FORMAT_FAILED, 1, false);
    verdict_give(&rig, &verdicts[1], slot, letter.id, 1, SPOOL_FORMAT_FAILED, 1, false); /* again: ignored */
    rig_turns(&rig, 2);
    assert_true(spool_holds(rig.spool, slot, letter.id));
    verdict_give(&rig, &verdicts[2], slot, letter.id, 2, SPOOL_FORMAT_EXPIRED, 1, false);
    rig_turns(&rig, 2);
    assert_false(spool_holds(rig.spool, slot, letter.id));
    reopen(&rig, &found, false);
    assert_int_equal(found.count, 0);
    rig_free(&rig);
}

/* The files that its first message needs are there when a new spool is open; there is nothing that it waits for. */
static void a_new_spool_is_ready(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    assert_int_equal(rig_open(&rig), ERR_OK);
    struct letter letter;
    letter_send(&rig, &letter, 1, 100);
    rig_turns(&rig, 2);
    assert_true(letter.finished);
    assert_int_equal(letter.result, ERR_OK);
    rig_free(&rig);
}

/* Until a segment is open and the spares are made. */
static void settle(struct rig *rig)
{
    struct letter letter;
    struct verdict verdict;
    letter_send(rig, &letter, 1, 100);
    rig_turns(rig, 3);
    verdict_give(rig, &verdict, letter.append.slot, letter.id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
    rig_turns(rig, 100);
    assert_true(verdict.finished);
}

static void a_turn_is_one_write(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letters[20];
    settle(&rig);
    uint64_t writes = rig.ring->writes;
    uint64_t syncs = rig.ring->syncs;
    for (unsigned i = 0; i < 20; i++) {
        letter_send(&rig, &letters[i], 1, 700);
    }
    rig_turns(&rig, 2);
    assert_int_equal(rig.ring->writes - writes, 1);
    assert_int_equal(rig.ring->syncs - syncs, 1);
    /* While one is in flight the others wait, and then share the next. */
    rig.ring->holding = true;
    for (unsigned i = 0; i < 20; i++) {
        letter_send(&rig, &letters[i], 1, 700);
        rig_turn(&rig);
    }
    assert_false(letters[0].finished);
    rig.ring->holding = false;
    rig_turns(&rig, 3);
    assert_true(letters[19].finished);
    assert_int_equal(rig.ring->writes - writes, 3);
    /* A batch has a limit. */
    for (unsigned i = 0; i < 20; i++) {
        letter_send(&rig, &letters[i], 1, 6000);
    }
    rig_turns(&rig, 4);
    assert_true(letters[19].finished);
    assert_int_equal(rig.ring->writes - writes, 5);
    rig_free(&rig);
}

static unsigned whole_blocks;

static int watch_blocks(const struct fake_op *op)
{
    uint64_t end = op->offset;
    for (unsigned i = 0; op->kind == FAKE_WRITE && i < op->count; i++) {
        end += op->pieces[i].iov_len;
    }
    whole_blocks += op->kind == FAKE_WRITE && end % 4096 == 0;
    return 0;
}

/* So that the kernel never has to read the end of a block from the disk before it can write the beginning. */
static void a_batch_ends_with_a_block(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letters[20];
    settle(&rig);
    rig.ring->fault = watch_blocks;
    whole_blocks = 0;
    uint64_t writes = rig.ring->writes;
    for (unsigned i = 0; i < 20; i++) {
        letter_send(&rig, &letters[i], 1, 700 + 997 * i % 4096);
        rig_turns(&rig, 3);
    }
    assert_int_equal(rig.ring->writes - writes, 20);
    assert_int_equal(whole_blocks, 20);
    for (unsigned i = 0; i < 20; i++) {
        assert_true(letter_check(&rig, letters[i].append.slot, letters[i].id, letters[i].body_length));
    }
    rig_free(&rig);
}

static int short_bytes; /* of the next write that is synced; after it such writes fail */

static int write_short(const struct fake_op *op)
{
    if (op->kind != FAKE_WRITE || !op->sync || short_bytes == 0) {
        return 0;
    }
    int result = short_bytes;
    short_bytes = -EIO;
    return result;
}

/* Whose records are all on the disk is stored, whatever becomes of the rest of the block; and no other is. */
static void a_short_write_counts_by_its_records(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    for (int whole = 0; whole < 2; whole++) {
        begin(&rig, &found);
        struct letter letter;
        settle(&rig);
        rig.ring->fault = write_short;
        letter_send(&rig, &letter, 1, 700);
        short_bytes = whole ? 1024 : 512; /* of 896 and the rest of the block */
        rig_turns(&rig, 3);
        short_bytes = 0;
        assert_true(letter.finished);
        assert_int_equal(letter.result, whole ? ERR_OK : ERR_IO);
        reopen(&rig, &found, true);
        assert_int_equal(found.count, whole);
        rig_free(&rig);
    }
}

static unsigned direct_writes;

static int refuse_direct(const struct fake_op *op)
{
    if (op->kind != FAKE_WRITE || (fcntl(op->fd, F_GETFL) & O_DIRECT) == 0) {
        return 0;
    }
    direct_writes++;
    return -EINVAL;
}

/* Zero bytes go past the page cache; a file system that wants another alignment gets them the other way. */
static void a_file_is_made_without_direct_writes(void **state)
{
    (void)state;
    struct rig rig;
    struct letter letter;
    rig_init(&rig);
    int probe = open(rig.root, O_TMPFILE | O_RDWR, 0600);
    bool can = probe >= 0 && fcntl(probe, F_SETFL, O_DIRECT) == 0;
    close(probe);
    direct_writes = 0;
    rig.ring->fault = refuse_direct;
    assert_int_equal(rig_start(&rig), ERR_OK);
    assert_int_equal(direct_writes != 0, can);
    letter_send(&rig, &letter, 1, 5000);
    rig_turns(&rig, 3);
    assert_int_equal(letter.result, ERR_OK);
    assert_true(letter_check(&rig, letter.append.slot, letter.id, 5000));
    rig_free(&rig);
}

static void relaxed_is_synced_later(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    settle(&rig);
    uint64_t syncs = rig.ring->syncs;
    struct letter letter;
    letter_write(&letter, spool_new_id(rig.spool), 1, 100);
    letter_append(&rig, &letter, SPOOL_FORMAT_RELAXED, false);
    rig_turns(&rig, 2);
    assert_true(letter.finished);
    assert_int_equal(rig.ring->syncs, syncs);
    rig_turns(&rig, 98);
    assert_int_equal(rig.ring->syncs, syncs);
    rig_turns(&rig, 10);
    assert_int_equal(rig.ring->syncs, syncs + 1);
    rig_free(&rig);
}

static void too_large_is_refused(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letter;
    letter_send(&rig, &letter, 1, 64 << 10);
    assert_false(letter.finished);
    rig_turns(&rig, 2);
    assert_int_equal(letter.result, ERR_FULL);
    struct spool_statistics statistics;
    spool_statistics(rig.spool, &statistics);
    assert_int_equal(statistics.messages, 0);
    rig_free(&rig);
}

/* --- extents ---------------------------------------------------------------------------------------------------- */

static void append_extents(struct rig *rig, struct letter *letter, struct spool_format_extent *extents, unsigned count,
                           size_t piece)
{
    for (unsigned i = 0; i < count; i++) {
        struct iovec body = {letter->body + i * piece, piece};
        letter->finished = false;
        spool_append_extent(rig->spool, &letter->append, letter->id, &body, 1);
        rig_turns(rig, 3);
        assert_true(letter->finished);
        assert_int_equal(letter->result, ERR_OK);
        extents[i] = letter->append.extent;
    }
}

static void large_messages_come_in_extents(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    rig_turns(&rig, 50);
    struct letter letter;
    struct spool_format_extent extents[30];
    letter_write(&letter, spool_new_id(rig.spool), 2, 30 * 20000 + 77);
    append_extents(&rig, &letter, extents, 30, 20000); /* over several segments */
    struct iovec tail = {letter.body + 30 * 20000, 77};
    letter.finished = false;
    spool_append_message(rig.spool, &letter.append,
                         &(struct spool_message){.id = letter.id,
                                                 .recipients = 2,
                                                 .envelope = bytes_of(letter.envelope, letter.envelope_length),
                                                 .prologue = bytes_of_string(letter.prologue),
                                                 .body = &tail,
                                                 .body_pieces = 1,
                                                 .extents = extents,
                                                 .extent_count = 30});
    rig_turns(&rig, 4);
    assert_int_equal(letter.result, ERR_OK);
    assert_true(letter_check(&rig, letter.append.slot, letter.id, letter.body_length));
    for (int killed = 0; killed < 2; killed++) {
        reopen(&rig, &found, killed);
        assert_int_equal(found.count, 1);
        assert_int_equal(found.last.body_bytes, letter.body_length);
        assert_true(letter_check(&rig, found.last.slot, letter.id, letter.body_length));
    }
    struct spool_statistics statistics;
    struct verdict verdicts[2];
    verdict_give(&rig, &verdicts[0], found.last.slot, letter.id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
    verdict_give(&rig, &verdicts[1], found.last.slot, letter.id, 1, SPOOL_FORMAT_DELIVERED, 1, false);
    rig_turns(&rig, 100);
    spool_statistics(rig.spool, &statistics);
    assert_int_equal(statistics.live_bytes, 0);
    assert_true(statistics.segments - statistics.spares <= 2);
    rig_free(&rig);
}

static void abandoned_extents_are_garbage(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    rig_turns(&rig, 50);
    struct letter letter;
    struct spool_format_extent extents[20];
    letter_write(&letter, spool_new_id(rig.spool), 1, 20 * 20000);
    append_extents(&rig, &letter, extents, 20, 20000);
    struct spool_statistics statistics;
    spool_statistics(rig.spool, &statistics);
    assert_true(statistics.live_bytes > 20 * 20000);
    for (unsigned i = 0; i < 20; i++) {
        spool_abandon_extent(rig.spool, &extents[i]);
    }
    rig_turns(&rig, 100);
    spool_statistics(rig.spool, &statistics);
    assert_int_equal(statistics.live_bytes, 0);
    assert_true(statistics.segments - statistics.spares <= 1);
    rig_free(&rig);
}

/* --- recycling -------------------------------------------------------------------------------------------------- */

static void segments_are_used_again(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letter;
    struct verdict verdict;
    struct letter keeper;
    letter_send(&rig, &keeper, 1, 100);
    for (unsigned i = 0; i < 600; i++) { /* about 20 segments */
        letter_send(&rig, &letter, 1, 8000);
        rig_turns(&rig, 3);
        assert_int_equal(letter.result, ERR_OK);
        verdict_give(&rig, &verdict, letter.append.slot, letter.id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
        rig_turns(&rig, 3);
        assert_int_equal(verdict.result, ERR_OK);
        free(letter.body);
    }
    rig_turns(&rig, 300);
    struct spool_statistics statistics;
    spool_statistics(rig.spool, &statistics);
    assert_int_equal(statistics.messages, 1);
    assert_true(statistics.segments < 16);
    for (int killed = 1; killed >= 0; killed--) {
        reopen(&rig, &found, killed);
        assert_int_equal(found.count, 1);
        assert_int_equal(found.last.id, keeper.id);
        assert_true(letter_check(&rig, found.last.slot, keeper.id, 100));
    }
    rig_free(&rig);
}

static void what_is_lent_stays(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letter;
    struct verdict verdict;
    letter_send(&rig, &letter, 1, 5000);
    rig_turns(&rig, 3);
    struct spool_view view;
    assert_int_equal(spool_lend(rig.spool, letter.append.slot, letter.id, &view), ERR_OK);
    assert_int_equal(spool_view_read(&view), ERR_OK);
    verdict_give(&rig, &verdict, letter.append.slot, letter.id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
    rig_turns(&rig, 3);
    struct letter other;
    for (unsigned i = 0; i < 300; i++) {
        letter_send(&rig, &other, 1, 8000);
        rig_turns(&rig, 3);
        verdict_give(&rig, &verdict, other.append.slot, other.id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
        rig_turns(&rig, 3);
    }
    assert_int_equal(spool_view_verify(&view), ERR_OK);
    for (size_t i = 0; i < 5000; i++) {
        assert_int_equal(view.body.data[i], letter_byte(letter.id, i));
    }
    spool_return(rig.spool, &view);
    rig_free(&rig);
}

/* --- refusals --------------------------------------------------------------------------------------------------- */

static void a_second_instance_is_refused(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct spool *second;
    char reason[200];
    assert_int_equal(spool_open(&rig.shard, &rig.settings, &second, reason, sizeof reason), ERR_LOCKED);
    char pid[32];
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    assert_non_null(strstr(reason, pid));
    rig_free(&rig);
}

static int fault_error;
static int fault_after;
static enum fake_kind fault_kind;

static int fault_some(const struct fake_op *op)
{
    if (op->kind != fault_kind || fault_error == 0) {
        return 0;
    }
    return fault_after-- > 0 ? 0 : fault_error;
}

static void a_full_disk_refuses_intake_only(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    fault_kind = FAKE_ALLOCATE;
    fault_error = -ENOSPC;
    fault_after = 0;
    rig.ring->fault = fault_some;
    struct letter letters[200];
    unsigned accepted = 0;
    while (accepted < 200) {
        letter_send(&rig, &letters[accepted], 1, 6000);
        rig_turns(&rig, 3);
        assert_true(letters[accepted].finished);
        if (letters[accepted].result != ERR_OK) {
            assert_int_equal(letters[accepted].result, ERR_NO_SPACE);
            break;
        }
        accepted++;
    }
    assert_true(accepted > 30 && accepted < 199);
    assert_int_equal(spool_intake_state(rig.spool), SPOOL_INTAKE_FULL);
    /* Outcomes and bounces go on. */
    struct letter bounce;
    struct verdict verdict;
    letter_write(&bounce, spool_new_id(rig.spool), 1, 1000);
    letter_append(&rig, &bounce, SPOOL_FORMAT_BOUNCE, true);
    verdict_give(&rig, &verdict, letters[0].append.slot, letters[0].id, 0, SPOOL_FORMAT_FAILED, 1, true);
    rig_turns(&rig, 3);
    assert_int_equal(bounce.result, ERR_OK);
    assert_int_equal(verdict.result, ERR_OK);
    assert_int_equal(spool_intake_state(rig.spool), SPOOL_INTAKE_FULL);
    struct letter refused;
    letter_send(&rig, &refused, 1, 6000);
    rig_turns(&rig, 3);
    assert_int_equal(refused.result, ERR_NO_SPACE);
    /* Space returns. */
    fault_error = 0;
    rig_turns(&rig, 600);
    assert_int_equal(spool_intake_state(rig.spool), SPOOL_INTAKE_OPEN);
    letter_send(&rig, &letters[accepted], 1, 6000);
    rig_turns(&rig, 5);
    assert_int_equal(letters[accepted].result, ERR_OK);
    reopen(&rig, &found, true);
    assert_int_equal(found.count, accepted + 1);
    rig_free(&rig);
}

static void a_full_disk_takes_mail_again_when_it_is_delivered(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    fault_kind = FAKE_ALLOCATE;
    fault_error = -ENOSPC;
    fault_after = 0;
    rig.ring->fault = fault_some;
    for (unsigned round = 0; round < 3; round++) {
        struct letter letters[200];
        struct verdict verdicts[200];
        unsigned accepted = 0;
        do {
            letter_send(&rig, &letters[accepted], 1, 6000);
            rig_turns(&rig, 3);
        } while (letters[accepted].result == ERR_OK && ++accepted < 200);
        assert_true(accepted > 10 && accepted < 200);
        assert_int_equal(spool_intake_state(rig.spool), SPOOL_INTAKE_FULL);
        for (unsigned i = 0; i < accepted; i++) {
            assert_int_equal(spool_intake_state(rig.spool), SPOOL_INTAKE_FULL);
            verdict_give(&rig, &verdicts[i], letters[i].append.slot, letters[i].id, 0, SPOOL_FORMAT_DELIVERED, 1,
                         false);
        }
        rig_turns(&rig, 50);
        assert_int_equal(spool_intake_state(rig.spool), SPOOL_INTAKE_OPEN);
        reopen(&rig, &found, round == 1);
        assert_int_equal(found.count, 0);
        rig.ring->fault = fault_some;
    }
    fault_error = 0;
    rig_free(&rig);
}

static void a_failed_sync_loses_nothing(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    rig_turns(&rig, 50);
    struct letter letters[6];
    for (unsigned i = 0; i < 3; i++) {
        letter_send(&rig, &letters[i], 1, 2000);
        rig_turns(&rig, 2);
    }
    fault_kind = FAKE_WRITE;
    fault_error = -EIO;
    fault_after = 0;
    rig.ring->fault = fault_some;
    letter_send(&rig, &letters[3], 1, 2000);
    rig_turns(&rig, 2);
    assert_int_equal(letters[3].result, ERR_IO);
    fault_error = 0;
    assert_int_equal(spool_intake_state(rig.spool), SPOOL_INTAKE_OPEN);
    letter_send(&rig, &letters[4], 1, 2000);
    rig_turns(&rig, 3);
    assert_int_equal(letters[4].result, ERR_OK);
    /* The first three move out of the suspect segment. */
    uint64_t bytes = rig.ring->written_bytes;
    rig_turns(&rig, 100);
    assert_true(rig.ring->written_bytes - bytes > 6000);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(letter_check(&rig, letters[i].append.slot, letters[i].id, 2000));
    }
    /* The second failure stops intake, and nothing else. */
    fault_error = -EIO;
    letter_send(&rig, &letters[5], 1, 2000);
    rig_turns(&rig, 2);
    assert_int_equal(letters[5].result, ERR_IO);
    fault_error = 0;
    assert_int_equal(spool_intake_state(rig.spool), SPOOL_INTAKE_FAILED);
    struct verdict verdict;
    verdict_give(&rig, &verdict, letters[0].append.slot, letters[0].id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
    rig_turns(&rig, 100);
    assert_int_equal(verdict.result, ERR_OK);
    reopen(&rig, &found, true);
    assert_int_equal(found.count, 3);
    rig_free(&rig);
}

static void an_outcome_fails_with_its_bounce(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letter;
    struct letter bounce;
    struct verdict verdict;
    letter_send(&rig, &letter, 1, 100);
    rig_turns(&rig, 3);
    letter_write(&bounce, spool_new_id(rig.spool), 1, 64 << 10); /* larger than a record may be */
    letter_append(&rig, &bounce, 0, true);
    verdict_give(&rig, &verdict, letter.append.slot, letter.id, 0, SPOOL_FORMAT_FAILED, 1, true);
    rig_turns(&rig, 3);
    assert_int_equal(bounce.result, ERR_FULL);
    assert_int_equal(verdict.result, ERR_IO);
    assert_true(spool_holds(rig.spool, letter.append.slot, letter.id));
    rig_free(&rig);
}

static void quarantine_is_remembered(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letters[2];
    letter_send(&rig, &letters[0], 1, 100);
    letter_send(&rig, &letters[1], 1, 100);
    rig_turns(&rig, 3);
    spool_quarantine(rig.spool, letters[0].append.slot, letters[0].id, "test");
    rig_turns(&rig, 3);
    for (int killed = 1; killed >= 0; killed--) {
        reopen(&rig, &found, killed);
        assert_int_equal(found.count, 1);
        assert_int_equal(found.last.id, letters[1].id);
        struct spool_statistics statistics;
        spool_statistics(rig.spool, &statistics);
        assert_int_equal(statistics.messages, 2);
    }
    struct verdict verdict;
    uint32_t slot = spool_find(rig.spool, letters[0].id);
    assert_int_not_equal(slot, SPOOL_SLOT_NONE);
    verdict_give(&rig, &verdict, slot, letters[0].id, 0, SPOOL_FORMAT_REMOVED, 0, false);
    rig_turns(&rig, 3);
    assert_int_equal(verdict.result, ERR_OK);
    assert_int_equal(spool_find(rig.spool, letters[0].id), SPOOL_SLOT_NONE);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_comes_back),
        cmocka_unit_test(finished_messages_are_gone),
        cmocka_unit_test(recipients_are_counted_down),
        cmocka_unit_test(a_new_spool_is_ready),
        cmocka_unit_test(a_turn_is_one_write),
        cmocka_unit_test(a_batch_ends_with_a_block),
        cmocka_unit_test(a_short_write_counts_by_its_records),
        cmocka_unit_test(a_file_is_made_without_direct_writes),
        cmocka_unit_test(relaxed_is_synced_later),
        cmocka_unit_test(too_large_is_refused),
        cmocka_unit_test(large_messages_come_in_extents),
        cmocka_unit_test(abandoned_extents_are_garbage),
        cmocka_unit_test(segments_are_used_again),
        cmocka_unit_test(what_is_lent_stays),
        cmocka_unit_test(a_second_instance_is_refused),
        cmocka_unit_test(a_full_disk_refuses_intake_only),
        cmocka_unit_test(a_full_disk_takes_mail_again_when_it_is_delivered),
        cmocka_unit_test(a_failed_sync_loses_nothing),
        cmocka_unit_test(an_outcome_fails_with_its_bounce),
        cmocka_unit_test(quarantine_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
