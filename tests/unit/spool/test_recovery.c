/* What a start makes of damaged files, and how long it takes. */
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/crc32c.h"
#include "spool/quarantine.h"
#include "unit/spool/rig.h"

#define MESSAGES 40
#define FIRST_BYTES 200

struct found {
    struct rig *rig;
    unsigned count;
    unsigned bad;
    uint64_t ids[MESSAGES];
    unsigned times[MESSAGES];
    bool finals[MESSAGES];
};

static unsigned body_length(unsigned i)
{
    return FIRST_BYTES + i * 37;
}

static void found_one(void *context, const struct spool_recovered *message)
{
    struct found *found = context;
    unsigned i = 0;
    while (i < MESSAGES && found->ids[i] != message->id) {
        i++;
    }
    found->bad += i == MESSAGES || message->recipients != 1;
    found->times[i < MESSAGES ? i : 0]++;
    found->count++;
}

static void begin(struct rig *rig, struct found *found)
{
    rig_init(rig);
    *found = (struct found){.rig = rig};
    rig->settings.segment_bytes = 64 << 10;
    rig->settings.batch_bytes = 16 << 10;
    rig->settings.recovered = found_one;
    rig->settings.context = found;
    assert_int_equal(rig_start(rig), ERR_OK);
}

/* Forty messages, every third delivered; over several segments. */
static void fill(struct rig *rig, struct found *found)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct letter letter;
        struct verdict verdict;
        letter_send(rig, &letter, 1, body_length(i) * 5);
        rig_turns(rig, 3);
        assert_int_equal(letter.result, ERR_OK);
        found->ids[i] = letter.id;
        free(letter.body);
        if (i % 3 == 0) {
            verdict_give(rig, &verdict, letter.append.slot, letter.id, 0, SPOOL_FORMAT_DELIVERED, 1, false);
            rig_turns(rig, 3);
            assert_int_equal(verdict.result, ERR_OK);
            found->finals[i] = true;
        }
    }
    rig_turns(rig, 20);
}

static void again(struct found *found)
{
    found->count = found->bad = 0;
    memset(found->times, 0, sizeof found->times);
}

struct file {
    char path[256];
    char *data;
    size_t length;
};

/* The segments, as bytes. */
static unsigned load(const struct rig *rig, struct file *files, unsigned capacity)
{
    unsigned count = 0;
    for (unsigned i = 0; i < 100 && count < capacity; i++) {
        struct file *file = &files[count];
        snprintf(file->path, sizeof file->path, "%s/%u/%08u.seg", rig->root, rig->settings.number, i);
        FILE *in = fopen(file->path, "rb");
        if (in == NULL) {
            continue;
        }
        file->data = malloc(64 << 10);
        file->length = fread(file->data, 1, 64 << 10, in);
        fclose(in);
        count++;
    }
    return count;
}

static void store(const struct rig *rig, const struct file *files, unsigned count)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%u", rig->root, rig->settings.number);
    rig_remove(path);
    CHECK(mkdir(path, 0700) == 0);
    for (unsigned i = 0; i < count; i++) {
        FILE *out = fopen(files[i].path, "wb");
        CHECK(out != NULL && fwrite(files[i].data, 1, files[i].length, out) == files[i].length);
        fclose(out);
    }
}

/* One byte is wrong: the start succeeds, at most one segment's worth of mail is affected, and only by being missing or,
 * when the byte is in an outcome, by being there again. No content is wrong and verifies. */
static void one_wrong_byte(struct rig *rig, struct found *found, struct file *files, unsigned count, bool sealed)
{
    const unsigned step = sealed ? 811 : 577;
    for (unsigned i = 0; i < count; i++) {
        for (size_t at = 0; at < files[i].length; at += at < 256 ? 5 : step) {
            files[i].data[at] = (char)(files[i].data[at] ^ 0x10);
            store(rig, files, count);
            files[i].data[at] = (char)(files[i].data[at] ^ 0x10);
            rig_shard(rig);
            again(found);
            enum err err = rig_open(rig);
            if (err == ERR_FORMAT) {
                continue;
            }
            assert_int_equal(err, ERR_OK);
            assert_int_equal(found->bad, 0);
            unsigned missing = 0;
            unsigned back = 0;
            for (unsigned m = 0; m < MESSAGES; m++) {
                assert_true(found->times[m] <= 1);
                missing += found->times[m] == 0 && !found->finals[m];
                back += found->times[m] == 1 && found->finals[m];
            }
            assert_true(missing <= 1);
            assert_true(back <= 1);
            spool_close(rig->spool);
            free(rig->ring);
        }
    }
}

static void a_wrong_byte_costs_one_message_at_most(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    struct file files[32];
    begin(&rig, &found);
    fill(&rig, &found);
    int loud = dup(STDERR_FILENO); /* every damage is logged */
    CHECK(loud >= 0 && freopen("/dev/null", "w", stderr) != NULL);
    unsigned count = load(&rig, files, 32);
    assert_true(count > 5);
    one_wrong_byte(&rig, &found, files, count, false);
    rig_remove(rig.root);
    CHECK(dup2(loud, STDERR_FILENO) >= 0);
}

static void a_damaged_seal_is_replaced_by_a_scan(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    struct file files[32];
    begin(&rig, &found);
    fill(&rig, &found);
    spool_close(rig.spool);
    unsigned count = load(&rig, files, 32);
    unsigned seals = 0;
    for (unsigned i = 0; i < count; i++) {
        struct spool_format_trailer trailer;
        memcpy(&trailer, files[i].data + files[i].length - sizeof trailer, sizeof trailer);
        if (trailer.magic == SPOOL_FORMAT_TRAILER_MAGIC) {
            files[i].data[(size_t)trailer.position * 64 + 100] ^= 1;
            seals++;
        }
    }
    assert_true(seals >= 2);
    store(&rig, files, count);
    rig_shard(&rig);
    again(&found);
    assert_int_equal(rig_open(&rig), ERR_OK);
    for (unsigned i = 0; i < MESSAGES; i++) {
        assert_int_equal(found.times[i], !found.finals[i]);
    }
    struct spool_statistics statistics;
    spool_statistics(rig.spool, &statistics);
    assert_int_equal(statistics.quarantined, seals);
    rig_free(&rig);
}

/* What a start writes by itself; it uses the call for nothing else. */
static struct {
    unsigned count;
    int flags;
    uint64_t bytes;
    struct spool_format_record first;
} written;

ssize_t pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    written.count++;
    written.flags = flags;
    written.bytes = pieces[0].iov_len;
    memcpy(&written.first, pieces[0].iov_base, sizeof written.first);
    return syscall(SYS_pwritev2, fd, pieces, (long)count, (long)offset, 0L, flags);
}

/* A write that failed may have left its records on pages that count as clean: what nothing vouches for is written
 * again. */
static void a_start_makes_durable_what_it_believes(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    uint64_t last = 0;
    begin(&rig, &found);
    for (unsigned i = 0; i < 3; i++) { /* a batch each */
        struct letter letter;
        letter_send(&rig, &letter, 1, body_length(i));
        rig_turns(&rig, 3);
        assert_int_equal(letter.result, ERR_OK);
        found.ids[i] = last = letter.id;
        free(letter.body);
    }
    rig_kill(&rig);
    memset(&written, 0, sizeof written);
    assert_int_equal(rig_start(&rig), ERR_OK);
    assert_int_equal(found.count, 3);
    assert_int_equal(written.count, 1);
    assert_int_equal(written.flags, RWF_DSYNC);
    assert_int_equal(written.first.message, last);
    assert_int_equal(written.bytes, (sizeof written.first + written.first.payload_bytes + SPOOL_FORMAT_ALIGN - 1) /
                                        SPOOL_FORMAT_ALIGN * SPOOL_FORMAT_ALIGN);
    rig_free(&rig);
}

static void a_damaged_body_is_noticed_by_its_reader(void **state)
{
    (void)state;
    struct rig rig;
    struct found found;
    begin(&rig, &found);
    struct letter letter;
    letter_send(&rig, &letter, 1, 5000);
    rig_turns(&rig, 3);
    struct spool_view view;
    assert_int_equal(spool_lend(rig.spool, letter.append.slot, letter.id, &view), ERR_OK);
    assert_int_equal(spool_view_read(&view), ERR_OK);
    assert_int_equal(spool_view_verify(&view), ERR_OK);
    char path[200];
    snprintf(path, sizeof path, "%s/3/%08u.seg", rig.root, 1);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "!", 1, 4096 + 3000), 1);
    close(fd);
    assert_int_equal(spool_view_verify(&view), ERR_CORRUPT);
    spool_return(rig.spool, &view);
    spool_quarantine(rig.spool, letter.append.slot, letter.id, "test");
    rig_turns(&rig, 3);
    rig_free(&rig);
}

/* --- refusals --------------------------------------------------------------------------------------------------- */

static void change_header(struct rig *rig, void (*change)(struct spool_format_segment *header))
{
    struct file files[32];
    unsigned count = load(rig, files, 32);
    for (unsigned copy = 0; copy < 2; copy++) {
        struct spool_format_segment header;
        char *at = files[0].data + copy * SPOOL_FORMAT_HEADER_COPY;
        memcpy(&header, at, sizeof header);
        change(&header);
        header.crc = crc32c(0, &header, offsetof(struct spool_format_segment, crc));
        memcpy(at, &header, sizeof header);
    }
    store(rig, files, count);
}

static void change_version(struct spool_format_segment *header)
{
    header->version = 7;
}

static void change_spool(struct spool_format_segment *header)
{
    header->spool = 4;
}

static void other_formats_are_refused(void **state)
{
    (void)state;
    void (*const changes[])(struct spool_format_segment *) = {change_version, change_spool};
    const char *const reasons[] = {"format version 7, this program reads version 1", "another number"};
    for (unsigned i = 0; i < 2; i++) {
        struct rig rig;
        struct found found;
        begin(&rig, &found);
        spool_close(rig.spool);
        change_header(&rig, changes[i]);
        assert_int_equal(rig_open(&rig), ERR_FORMAT);
        assert_non_null(strstr(rig.reason, reasons[i]));
        rig.spool = NULL;
        rig_free(&rig);
    }
}

/* --- numbers ---------------------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void count_one(void *context, const struct spool_recovered *message)
{
    struct envelope_iterator iterator = envelope_iterate(message->envelope);
    struct envelope_item item;
    while (envelope_next_recipient(&iterator, &item)) {
        ++*(unsigned *)context;
    }
}

static void many_messages_are_cheap(void **state)
{
    (void)state;
    const char *wanted = getenv("SPOOL_MESSAGES");
    unsigned count = wanted != NULL ? (unsigned)strtoul(wanted, NULL, 10) : 100000;
    struct rig rig;
    unsigned recovered = 0;
    rig_init(&rig);
    rig.settings.segment_bytes = rig.settings.batch_bytes = 0;
    rig.settings.recovered = count_one;
    rig.settings.context = &recovered;
    assert_int_equal(rig_open(&rig), ERR_OK);
    static struct letter letters[500];
    for (unsigned i = 0; i < count; i += 500) {
        for (unsigned j = 0; j < 500; j++) {
            if (i == 0) {
                letter_send(&rig, &letters[j], 1, 1024);
            } else {
                letters[j].id = spool_new_id(rig.spool);
                letter_append(&rig, &letters[j], SPOOL_FORMAT_RELAXED, false);
            }
        }
        for (letters[499].finished = false; !letters[499].finished;) {
            rig_turn(&rig);
        }
    }
    struct spool_statistics statistics;
    spool_statistics(rig.spool, &statistics);
    assert_int_equal(statistics.messages, count);
    double each = (double)statistics.index_bytes / count;
    for (int killed = 0; killed < 2; killed++) {
        if (killed) {
            rig_kill(&rig);
        } else {
            spool_close(rig.spool);
        }
        recovered = 0;
        double start = seconds();
        assert_int_equal(rig_open(&rig), ERR_OK);
        print_message("%u messages of 1 KiB: %.1f index bytes each, start after a %s: %.3f s\n", count, each,
                      killed ? "kill" : "clean stop", seconds() - start);
        assert_int_equal(recovered, count);
    }
    spool_statistics(rig.spool, &statistics);
    assert_true(statistics.index_bytes <= (uint64_t)count * 30 + (256 << 10));
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_byte_costs_one_message_at_most),
        cmocka_unit_test(a_damaged_seal_is_replaced_by_a_scan),
        cmocka_unit_test(a_start_makes_durable_what_it_believes),
        cmocka_unit_test(a_damaged_body_is_noticed_by_its_reader),
        cmocka_unit_test(other_formats_are_refused),
        cmocka_unit_test(many_messages_are_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
