/* Power cuts at any operation: seeded lives of a spool, each life ended by a cut (or a kill, or a clean stop) and
 * followed by the next on what the disk then holds. After every start the spool is compared with what was promised:
 *
 *   a message that was acknowledged is there, once, with its content, unless all its recipients were finished
 *   a recipient whose final outcome was acknowledged is not pending; one that has none is
 *   a message that was once not there never comes back
 *   a bounce is there if the outcome that was appended after it is
 *
 * Lives include recycling, compaction, extents, relaxed messages, full disks and failing writes. POWERCUT_SEED and
 * POWERCUT_ROUNDS choose other lives. */
#include <sys/random.h>
#include <sys/wait.h>

#include "spool/inspect.h"
#include "unit/spool/rig.h"

#define TRUTHS 4000
#define LIVES 4
#define RECIPIENTS 3
#define FAILED 256

enum fate { FATE_PENDING, FATE_SUBMITTED, FATE_FINAL };

struct truth {
    struct letter letter;
    struct verdict verdict;
    uint32_t slot;
    bool appended;
    bool promised; /* durable for sure */
    bool gone;     /* must not be found any more */
    bool verdict_busy;
    uint16_t verdict_recipient;
    enum spool_format_status verdict_status;
    enum fate fates[RECIPIENTS];
    uint16_t attempts_submitted[RECIPIENTS];
    uint16_t attempts_known[RECIPIENTS];
    struct truth *bounce; /* of its last final outcome */
    unsigned found;
    struct spool_state states[RECIPIENTS];
    struct spool_format_extent extents[8];
    unsigned extent_count;
    unsigned extents_done;
};

static struct truth *truths[TRUTHS];
static unsigned truth_count;
static struct rng dice;
static uint64_t seed;
static struct rig rig;
static jmp_buf cut;
static bool faults;
static char failed_files[FAILED][32]; /* names of files: a write or a sync failed */
static unsigned failed_count;
static bool space;
static char base[64];

#define EXPECT(condition)                                                                               \
    do {                                                                                                \
        if (!(condition)) {                                                                             \
            fprintf(stderr, "seed %llu line %d: %s\n", (unsigned long long)seed, __LINE__, #condition); \
            fflush(stderr);                                                                             \
            _exit(1);                                                                                   \
        }                                                                                               \
    } while (0)

/* Epochs come from here: a seed is one run. */
ssize_t getrandom(void *data, size_t length, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < length; i++) {
        ((unsigned char *)data)[i] = (unsigned char)rng_next(&rig.shard.rng);
    }
    return (ssize_t)length;
}

static struct truth *truth_of(uint64_t id)
{
    for (unsigned i = 0; i < truth_count; i++) {
        if (truths[i]->letter.id == id) {
            return truths[i];
        }
    }
    return NULL;
}

/* --- what happens in a life ------------------------------------------------------------------------------------- */

/* A relaxed message whose sync failed may be missing in the middle of its file, before others that got to the disk:
 * that is rightly told as damage. Files on which nothing has failed have none. */
static void note_failed(const struct fake_op *op)
{
    char link[40];
    char path[256];
    snprintf(link, sizeof link, "/proc/self/fd/%d", op->fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(path, '/');
    CHECK(slash != NULL && failed_count < FAILED);
    snprintf(failed_files[failed_count++], sizeof failed_files[0], "%.31s", slash + 1);
}

static void damaged(void *context, const char *file, uint64_t offset, uint64_t end, const char *what)
{
    (void)context;
    bool excused = false;
    for (unsigned i = 0; i < failed_count; i++) {
        excused = excused || strcmp(failed_files[i], file) == 0;
    }
    fprintf(stderr, "seed %llu: %s from %llu to %llu: %s\n", (unsigned long long)seed, file, (unsigned long long)offset,
            (unsigned long long)end, what);
    EXPECT(excused);
}

static int fault(const struct fake_op *op)
{
    if (!space && (op->kind == FAKE_ALLOCATE || op->kind == FAKE_OPEN)) {
        return -ENOSPC;
    }
    if (faults && (op->kind == FAKE_WRITE || op->kind == FAKE_SYNC) && rng_below(&dice, 250) == 0) {
        note_failed(op);
        if (rng_below(&dice, 2) == 0 && op->kind == FAKE_WRITE) {
            /* The bytes arrive, some of them, and the answer is still no. */
            struct iovec first = {op->pieces[0].iov_base, op->pieces[0].iov_len};
            struct fake_op part = *op;
            part.sync = false;
            part.pieces = rng_below(&dice, 2) == 0 ? &first : op->pieces;
            part.count = part.pieces == &first ? 1 : op->count;
            fake_write(rig.ring, &part, 0);
        }
        return -EIO;
    }
    return 0;
}

static void message_done(struct spool_append *append, enum err err)
{
    struct truth *truth = CONTAINER_OF(append, struct truth, letter.append);
    truth->letter.finished = true;
    truth->letter.result = err;
    truth->slot = append->slot;
    if (err == ERR_OK && (append->message.flags & SPOOL_FORMAT_RELAXED) == 0) {
        truth->promised = true;
    } else if (err != ERR_OK) {
        for (unsigned i = 0; i < truth->extent_count; i++) {
            spool_abandon_extent(rig.spool, &truth->extents[i]);
        }
        truth->extent_count = 0;
    }
}

static void verdict_known(struct spool_append *append, enum err err)
{
    struct verdict *verdict = CONTAINER_OF(append, struct verdict, append);
    struct truth *truth = CONTAINER_OF(verdict, struct truth, verdict);
    uint16_t recipient = truth->verdict_recipient;
    truth->verdict_busy = false;
    if (err == ERR_OK && truth->verdict_status >= SPOOL_FORMAT_DELIVERED) {
        truth->fates[recipient] = FATE_FINAL;
    } else if (err == ERR_OK) {
        truth->attempts_known[recipient] = truth->attempts_submitted[recipient];
    } else if (truth->fates[recipient] == FATE_SUBMITTED) {
        truth->fates[recipient] = FATE_SUBMITTED; /* may or may not be on the disk: both are right */
    }
}

static struct truth *new_message(uint16_t recipients, size_t body_length)
{
    if (truth_count == TRUTHS) {
        return NULL;
    }
    struct truth *truth = calloc(1, sizeof *truth);
    letter_write(&truth->letter, spool_new_id(rig.spool), recipients, body_length);
    truth->letter.append.done = message_done;
    EXPECT(truth_of(truth->letter.id) == NULL);
    truths[truth_count++] = truth;
    return truth;
}

static void append_message(struct truth *truth, uint32_t flags, bool reserve)
{
    const struct letter *letter = &truth->letter;
    size_t start = 0;
    for (unsigned i = 0; i < truth->extent_count; i++) {
        start += truth->extents[i].payload_bytes;
    }
    struct iovec body = {letter->body + start, letter->body_length - start};
    truth->appended = true;
    spool_append_message(rig.spool, &truth->letter.append,
                         &(struct spool_message){.id = letter->id,
                                                 .flags = flags,
                                                 .recipients = letter->recipients,
                                                 .reserve = reserve,
                                                 .envelope = bytes_of(letter->envelope, letter->envelope_length),
                                                 .prologue = bytes_of_string(letter->prologue),
                                                 .body = &body,
                                                 .body_pieces = 1,
                                                 .extents = truth->extents,
                                                 .extent_count = truth->extent_count});
}

static void extent_done(struct spool_append *append, enum err err)
{
    struct truth *truth = CONTAINER_OF(append, struct truth, letter.append);
    if (err != ERR_OK || rng_below(&dice, 20) == 0) {
        if (err == ERR_OK) {
            truth->extents[truth->extent_count++] = append->extent;
        }
        for (unsigned i = 0; i < truth->extent_count; i++) {
            spool_abandon_extent(rig.spool, &truth->extents[i]);
        }
        truth->extent_count = 0;
        truth->gone = true; /* the session gave up */
        return;
    }
    truth->extents[truth->extent_count++] = append->extent;
    if (truth->extent_count < truth->extents_done) {
        struct iovec piece = {truth->letter.body + truth->extent_count * 3000, 3000};
        spool_append_extent(rig.spool, append, truth->letter.id, &piece, 1);
        return;
    }
    append->done = message_done;
    append_message(truth, 0, false);
}

static void act_large(void)
{
    unsigned extents = 1 + (unsigned)rng_below(&dice, 7);
    struct truth *truth = new_message(1 + (uint16_t)rng_below(&dice, RECIPIENTS),
                                      extents * 3000 + rng_below(&dice, 500));
    if (truth == NULL) {
        return;
    }
    truth->extents_done = extents;
    truth->letter.append.done = extent_done;
    struct iovec piece = {truth->letter.body, 3000};
    spool_append_extent(rig.spool, &truth->letter.append, truth->letter.id, &piece, 1);
}

static void act_outcome(void)
{
    struct truth *truth = truth_count > 0 ? truths[rng_below(&dice, truth_count)] : NULL;
    if (truth == NULL || truth->gone || truth->verdict_busy || !truth->letter.finished ||
        truth->letter.result != ERR_OK || !spool_holds(rig.spool, truth->slot, truth->letter.id)) {
        return;
    }
    uint16_t recipient = (uint16_t)rng_below(&dice, truth->letter.recipients);
    if (truth->fates[recipient] != FATE_PENDING) {
        return;
    }
    bool final = rng_below(&dice, 3) != 0;
    bool bounces = final && rng_below(&dice, 4) == 0;
    truth->bounce = bounces ? new_message(1, 200 + rng_below(&dice, 1500)) : NULL;
    if (truth->bounce != NULL) {
        append_message(truth->bounce, SPOOL_FORMAT_BOUNCE, true);
    }
    truth->verdict_busy = true;
    truth->verdict_recipient = recipient;
    truth->verdict_status = !final ? SPOOL_FORMAT_DEFERRED : bounces ? SPOOL_FORMAT_FAILED : SPOOL_FORMAT_DELIVERED;
    if (final) {
        truth->fates[recipient] = FATE_SUBMITTED;
    } else {
        truth->attempts_submitted[recipient]++;
    }
    verdict_give(&rig, &truth->verdict, truth->slot, truth->letter.id, recipient, truth->verdict_status,
                 truth->attempts_submitted[recipient], truth->bounce != NULL);
    truth->verdict.append.done = verdict_known;
}

static void act(void)
{
    uint64_t what = rng_below(&dice, 100);
    if (what < 35) {
        struct truth *truth = new_message(1 + (uint16_t)rng_below(&dice, RECIPIENTS), rng_below(&dice, 4000));
        if (truth != NULL) {
            append_message(truth, rng_below(&dice, 8) == 0 ? SPOOL_FORMAT_RELAXED : 0, false);
        }
    } else if (what < 40) {
        act_large();
    } else if (what < 95) {
        act_outcome();
    } else if (what == 95) {
        space = !space;
    }
}

/* --- what is found ---------------------------------------------------------------------------------------------- */

static void found(void *context, const struct spool_recovered *message)
{
    (void)context;
    struct truth *truth = truth_of(message->id);
    EXPECT(truth != NULL);
    EXPECT(truth->appended);
    EXPECT(message->recipients == truth->letter.recipients);
    truth->found++;
    truth->slot = message->slot;
    memcpy(truth->states, message->states, message->recipients * sizeof truth->states[0]);
}

static bool truth_finished(const struct truth *truth)
{
    for (unsigned i = 0; i < truth->letter.recipients; i++) {
        if (truth->fates[i] == FATE_PENDING) {
            return false;
        }
    }
    return true;
}

static void check_states(struct truth *truth)
{
    for (unsigned i = 0; i < truth->letter.recipients; i++) {
        bool final = truth->states[i].status >= SPOOL_FORMAT_DELIVERED;
        EXPECT(final || truth->fates[i] != FATE_FINAL);
        EXPECT(!final || truth->fates[i] != FATE_PENDING);
        EXPECT(final || truth->states[i].attempts >= truth->attempts_known[i]);
        EXPECT(truth->states[i].attempts <= truth->attempts_submitted[i]);
        EXPECT(final || truth->states[i].attempts == 0 ||
               truth->states[i].next_attempt_s == 1000u + truth->states[i].attempts);
        truth->fates[i] = final ? FATE_FINAL : FATE_PENDING;
        truth->attempts_known[i] = truth->attempts_submitted[i] = truth->states[i].attempts;
    }
    EXPECT(letter_check(&rig, truth->slot, truth->letter.id, truth->letter.body_length));
}

static void check(void)
{
    for (unsigned i = 0; i < truth_count; i++) {
        struct truth *truth = truths[i];
        bool was_gone = truth->gone;
        EXPECT(truth->found <= 1);
        EXPECT(!was_gone || truth->found == 0);
        if (truth->promised && !was_gone && !truth_finished(truth)) {
            EXPECT(truth->found == 1);
        }
        unsigned finals = 0;
        if (truth->found == 1) {
            for (unsigned j = 0; j < truth->letter.recipients; j++) {
                finals += truth->states[j].status >= SPOOL_FORMAT_DELIVERED && truth->fates[j] == FATE_SUBMITTED &&
                          truth->verdict_recipient == j;
            }
            check_states(truth);
            truth->promised = true;
        }
        /* Its outcome is there: its bounce is, or was, too. */
        struct truth *bounce = truth->bounce;
        bool known = finals > 0 || (truth->found == 0 && truth->promised && !was_gone);
        if (bounce != NULL && known && !bounce->gone) {
            EXPECT(bounce->found == 1 || truth_finished(bounce));
        }
        truth->letter.finished = truth->found == 1;
        truth->letter.result = ERR_OK;
        truth->verdict_busy = false;
    }
    for (unsigned i = 0; i < truth_count; i++) {
        truths[i]->gone |= truths[i]->found == 0;
        truths[i]->found = 0;
        truths[i]->bounce = NULL;
    }
}

/* --- lives ------------------------------------------------------------------------------------------------------ */

static void begin_life(unsigned life)
{
    char path[160];
    for (unsigned i = 0; i < truth_count; i++) {
        truths[i]->found = 0; /* the start before may have been cut */
    }
    rig_shard(&rig);
    rng_seed(&rig.ring->rng, rng_next(&dice));
    rng_seed(&rig.shard.rng, rng_next(&dice));
    rig.shard.now_ms = 1000;
    rig.shard.wall_ms += life * 1000000;
    snprintf(rig.root, sizeof rig.root, "%s/%u", base, life);
    CHECK(mkdir(rig.root, 0700) == 0 || errno == EEXIST);
    rig.settings = (struct spool_settings){.root = rig.root,
                                           .number = 3,
                                           .segment_bytes = 96 << 10,
                                           .batch_bytes = 24 << 10,
                                           .spare_max = 4,
                                           .compaction_bytes_per_second = 8 << 20,
                                           .recovered = found};
    snprintf(path, sizeof path, "%s/3", rig.root);
    fake_adopt(rig.ring, path);
    rig.ring->model = true;
    rig.ring->shuffle = true;
    rig.ring->fault = fault;
    rig.ring->cut = &cut;
    rig.ring->cut_at = 1 + rng_below(&dice, rng_below(&dice, 4) == 0 ? 30 : 1500);
    space = true;
}

static void end_life(unsigned life)
{
    char from[160];
    char to[160];
    snprintf(from, sizeof from, "%s/3", rig.root);
    snprintf(to, sizeof to, "%s/%u", base, life + 1);
    CHECK(mkdir(to, 0700) == 0 || errno == EEXIST);
    snprintf(to, sizeof to, "%s/%u/3", base, life + 1);
    fake_crash(rig.ring, from, to);
}

/* The independent reader finds the same. */
static struct inspect_totals inspect(void)
{
    char directory[160];
    struct inspect_totals totals = {0};
    snprintf(directory, sizeof directory, "%s/3", rig.root);
    const struct inspect_settings settings = {.directory = directory, .damage = damaged};
    CHECK(mkdir(directory, 0700) == 0 || errno == EEXIST);
    EXPECT(inspect_run(&settings, &totals, rig.reason, sizeof rig.reason) == ERR_OK);
    return totals;
}

static void compare(const struct inspect_totals *totals)
{
    struct spool_statistics statistics;
    spool_statistics(rig.spool, &statistics);
    EXPECT(totals->messages == statistics.messages);
    EXPECT(totals->recipients == statistics.recipients);
}

static void live(unsigned life)
{
    begin_life(life);
    struct inspect_totals totals = inspect();
    if (setjmp(cut) == 0) {
        faults = false;
        enum err err = rig_open(&rig);
        if (err != ERR_OK) {
            fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, rig.reason);
        }
        EXPECT(err == ERR_OK);
        compare(&totals);
        check();
        faults = rng_below(&dice, 3) == 0;
        unsigned turns = 100 + (unsigned)rng_below(&dice, 400);
        for (unsigned i = 0; i < turns; i++) {
            for (uint64_t j = rng_below(&dice, 5); j > 0; j--) {
                act();
            }
            rig_turn(&rig);
        }
        if (rng_below(&dice, 3) == 0) {
            faults = false;
            space = true;
            spool_close(rig.spool);
        }
    }
    end_life(life);
}

static void check_at_last(void)
{
    begin_life(LIVES);
    rig.ring->cut_at = 0;
    faults = false;
    EXPECT(rig_open(&rig) == ERR_OK);
    check();
    struct inspect_totals totals = inspect();
    compare(&totals);
    spool_close(rig.spool);
    totals = inspect();
    EXPECT(rig_open(&rig) == ERR_OK);
    compare(&totals);
    spool_close(rig.spool);
}

static bool run(uint64_t which)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60);
        seed = which;
        rng_seed(&dice, seed);
        if (getenv("POWERCUT_SEED") == NULL) {
            CHECK(freopen("/dev/null", "w", stderr) != NULL);
        }
        for (unsigned life = 0; life < LIVES; life++) {
            live(life);
        }
        check_at_last();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void promises_survive_power_cuts(void **state)
{
    (void)state;
    const char *chosen = getenv("POWERCUT_SEED");
    const char *rounds = getenv("POWERCUT_ROUNDS");
    uint64_t first = chosen != NULL ? strtoull(chosen, NULL, 10) : 1;
    uint64_t count = rounds != NULL ? strtoull(rounds, NULL, 10) : chosen != NULL ? 1 : 120;
    unsigned failed = 0;
    for (uint64_t i = first; i < first + count; i++) {
        snprintf(base, sizeof base, "/tmp/powercut-XXXXXX");
        CHECK(mkdtemp(base) != NULL);
        if (!run(i)) {
            print_message("POWERCUT_SEED=%llu fails\n", (unsigned long long)i);
            failed++;
        }
        rig_remove(base);
    }
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(promises_survive_power_cuts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
