/* steady: a spool under a steady flow for a long time, of which a part waits: how much is written, how much space it
 * takes, and what compaction does to those who wait for a commit.
 *
 *     steady ROOT MESSAGES PER_SECOND DEFERRED_PERCENT SPAN SEGMENT_KIB
 *
 * Messages of 4 KiB arrive at that rate (0: as fast as it goes, 50 at once). Each is lent, read and delivered; of every
 * hundred so many are deferred instead, three times, and delivered when SPAN later messages have come. With small
 * segments a minute shows what takes a day with large ones: what counts is how many segments the deferred mail fills.
 * One line of JSON at the end.
 */
#include <string.h>
#include <unistd.h>

#include "spool_rig.h"

#define WRITERS 200
#define BODY_BYTES 4096
#define ATTEMPTS 3 /* of a deferred message, the delivery not counted */

struct writer {
    struct spool_append append;
    struct spool_append outcome;
    struct list node;
    bool deferring;
    uint64_t begun_ns;
    char room[SPOOL_OUTCOME_BYTES(1)];
};

struct waiting {
    uint64_t id;
    uint32_t slot;
    uint64_t due; /* when so many messages have come */
    unsigned attempts;
};

static struct {
    struct rig rig;
    struct spool_settings settings;
    struct writer writers[WRITERS];
    struct list idle;
    unsigned running;
    uint64_t messages, appended, per_second, percent, span, started_ns;
    struct waiting *waiting; /* a ring of those that wait, in the order of their times for each attempt */
    uint64_t first[ATTEMPTS + 1], last[ATTEMPTS + 1], capacity;
    struct iovec body;
    struct buffer envelope;
    char envelope_room[200];
    struct histogram commit, outcome;
    uint64_t space_max, live_max, sums, files_max;
    double ratio_max;
} run;

static void outcome_of(struct writer *writer, const struct waiting *what, enum spool_format_status status);

static struct waiting *queue_slot(unsigned attempt, uint64_t index)
{
    return &run.waiting[attempt * run.capacity + index % run.capacity];
}

static void wait_again(struct waiting what)
{
    what.attempts++;
    what.due = run.appended + run.span / ATTEMPTS;
    if (run.last[what.attempts] - run.first[what.attempts] == run.capacity) {
        rig_die("too many wait");
    }
    *queue_slot(what.attempts, run.last[what.attempts]++) = what;
}

static void outcome_done(struct spool_append *append, enum err err)
{
    struct writer *writer = CONTAINER_OF(append, struct writer, outcome);
    if (err != ERR_OK) {
        rig_die(err_name(err));
    }
    histogram_record(&run.outcome, (clock_monotonic_ns() - writer->begun_ns) / 1000);
    run.running--;
    list_push_back(&run.idle, &writer->node);
}

static void outcome_of(struct writer *writer, const struct waiting *what, enum spool_format_status status)
{
    bool later = status == SPOOL_FORMAT_DEFERRED;
    const struct spool_outcome outcome = {.status = status,
                                          .attempts = (uint16_t)(what->attempts + 1),
                                          .next_attempt_s = later ? UINT32_MAX : 0,
                                          .reply_code = later ? 451 : 250,
                                          .reply = later ? BYTES("4.2.1 come back later") : BYTES(""),
                                          .host = later ? BYTES("mx.example.org [192.0.2.1]") : BYTES("")};
    struct buffer room = buffer_of(writer->room, sizeof writer->room);
    struct spool_view view;
    if (spool_lend(run.rig.spool, what->slot, what->id, &view) != ERR_OK || spool_view_read(&view) != ERR_OK) {
        rig_die("a message is lost");
    }
    spool_return(run.rig.spool, &view);
    if (later) {
        wait_again(*what);
    }
    writer->outcome.done = outcome_done;
    writer->begun_ns = clock_monotonic_ns();
    spool_append_outcomes(run.rig.spool, &writer->outcome, what->slot, what->id, &outcome, 1, false, &room);
}

static void message_done(struct spool_append *append, enum err err)
{
    struct writer *writer = CONTAINER_OF(append, struct writer, append);
    if (err != ERR_OK) {
        rig_die(err_name(err));
    }
    histogram_record(&run.commit, (clock_monotonic_ns() - writer->begun_ns) / 1000);
    const struct waiting what = {.id = append->id, .slot = append->slot};
    outcome_of(writer, &what, append->id % 100 < run.percent ? SPOOL_FORMAT_DEFERRED : SPOOL_FORMAT_DELIVERED);
}

static void append_one(struct writer *writer)
{
    run.appended++;
    run.running++;
    writer->append.done = message_done;
    writer->begun_ns = clock_monotonic_ns();
    spool_append_message(run.rig.spool, &writer->append,
                         &(struct spool_message){.id = spool_new_id(run.rig.spool),
                                                 .arrival_ms = run.rig.shard.wall_ms,
                                                 .recipients = 1,
                                                 .envelope = buffer_bytes(&run.envelope),
                                                 .body = &run.body,
                                                 .body_pieces = 1});
}

static bool retry_one(struct writer *writer)
{
    for (unsigned attempt = 1; attempt <= ATTEMPTS; attempt++) {
        if (run.first[attempt] < run.last[attempt] && queue_slot(attempt, run.first[attempt])->due <= run.appended) {
            struct waiting what = *queue_slot(attempt, run.first[attempt]++);
            run.running++;
            outcome_of(writer, &what, attempt < ATTEMPTS ? SPOOL_FORMAT_DEFERRED : SPOOL_FORMAT_DELIVERED);
            return true;
        }
    }
    return false;
}

static void drive(void)
{
    struct list *node;
    uint64_t due = run.per_second == 0 ? UINT64_MAX
                                       : (clock_monotonic_ns() - run.started_ns) / 1000 * run.per_second / 1000000;
    while ((node = list_pop_front(&run.idle)) != NULL) {
        struct writer *writer = LIST_OWNER(node, struct writer, node);
        if (retry_one(writer)) {
            continue;
        }
        if (run.appended < run.messages && run.appended < due && run.running < (run.per_second == 0 ? 50 : WRITERS)) {
            append_one(writer);
        } else {
            list_push_back(&run.idle, &writer->node);
            return;
        }
    }
}

/* What the files take against what is needed, once the flow is steady. */
static void look(void)
{
    struct spool_statistics now;
    spool_statistics(run.rig.spool, &now);
    if (run.appended < run.messages / 2) {
        return;
    }
    uint64_t files = (uint64_t)now.segments * run.settings.segment_bytes;
    uint64_t used = (uint64_t)(now.segments - now.spares) * run.settings.segment_bytes;
    uint64_t beyond = used > 4ull * run.settings.segment_bytes ? used - 4ull * run.settings.segment_bytes : 0;
    double ratio = now.live_bytes > 0 ? (double)beyond / (double)now.live_bytes : 0;
    run.ratio_max = ratio > run.ratio_max && now.live_bytes > run.settings.segment_bytes ? ratio : run.ratio_max;
    run.space_max = used > run.space_max ? used : run.space_max;
    run.files_max = files > run.files_max ? files : run.files_max;
    run.live_max = now.live_bytes > run.live_max ? now.live_bytes : run.live_max;
}

struct written {
    uint64_t log, compacted, overhead, messages;
};

static struct written written_now(void)
{
    const struct metric_set *metrics = run.rig.shard.metrics;
    return (struct written){.log = metrics->spool_written_bytes,
                            .compacted = metrics->spool_compacted_bytes,
                            .overhead = metrics->spool_overhead_bytes,
                            .messages = run.appended};
}

static double quantile_ms(const struct histogram *histogram, double q)
{
    return (double)histogram_quantile(histogram, q) / 1000;
}

static void print_latencies(const char *name, const struct histogram *histogram)
{
    printf("\"%s_ms\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"p999\": %.3f, \"max\": %.3f}, ", name,
           quantile_ms(histogram, 0.5), quantile_ms(histogram, 0.9), quantile_ms(histogram, 0.99),
           quantile_ms(histogram, 0.999), quantile_ms(histogram, 1));
}

static void print_result(const struct written *half, double seconds)
{
    struct written end = written_now();
    double body = (double)(end.messages - half->messages) * BODY_BYTES;
    printf("{\"messages\": %llu, \"seconds\": %.1f, \"deferred_percent\": %llu, \"span\": %llu, \"segment_kib\": %u, ",
           (unsigned long long)run.messages, seconds, (unsigned long long)run.percent, (unsigned long long)run.span,
           run.settings.segment_bytes >> 10);
    printf("\"write_amplification\": %.3f, \"moved\": %.3f, \"overhead\": %.3f, ",
           (double)(end.log - half->log + end.overhead - half->overhead) / body,
           (double)(end.compacted - half->compacted) / body, (double)(end.overhead - half->overhead) / body);
    print_latencies("commit", &run.commit);
    print_latencies("outcome", &run.outcome);
    printf("\"live_mib\": %.1f, \"used_mib\": %.1f, \"files_mib\": %.1f, \"used_beyond_4_segments_to_live\": %.2f}\n",
           (double)run.live_max / (1 << 20), (double)run.space_max / (1 << 20), (double)run.files_max / (1 << 20),
           run.ratio_max);
}

static void begin(char **argv)
{
    run.messages = strtoull(argv[2], NULL, 10);
    run.per_second = strtoull(argv[3], NULL, 10);
    run.percent = strtoull(argv[4], NULL, 10);
    run.span = strtoull(argv[5], NULL, 10);
    run.capacity = run.span * 2 + WRITERS;
    run.waiting = calloc((ATTEMPTS + 1) * run.capacity, sizeof *run.waiting);
    run.settings = (struct spool_settings){.root = argv[1],
                                           .segment_bytes = (uint32_t)strtoul(argv[6], NULL, 10) << 10};
    uint32_t half = run.settings.segment_bytes / 2;
    run.settings.batch_bytes = half < LIMIT_BATCH_BYTES ? half : 0;
    run.settings.outcome_wait_ms = 5;
    char *body = malloc(BODY_BYTES);
    memset(body, 'x', BODY_BYTES);
    run.body = (struct iovec){.iov_base = body, .iov_len = BODY_BYTES};
    run.envelope = buffer_of(run.envelope_room, sizeof run.envelope_room);
    envelope_add(&run.envelope, ENVELOPE_SENDER, 0, BYTES("sender@source.test"));
    envelope_add(&run.envelope, ENVELOPE_RECIPIENT, 0, BYTES("somebody@example.org"));
    list_init(&run.idle);
    for (unsigned i = 0; i < WRITERS; i++) {
        list_push_back(&run.idle, &run.writers[i].node);
    }
    rig_open(&run.rig, &run.settings);
    run.started_ns = clock_monotonic_ns();
}

int main(int argc, char **argv)
{
    struct written half = {0};
    if (argc != 7) {
        rig_die("steady ROOT MESSAGES PER_SECOND DEFERRED_PERCENT SPAN SEGMENT_KIB");
    }
    begin(argv);
    while (run.appended < run.messages || run.running > 0) {
        drive();
        rig_turn(&run.rig, 1);
        look();
        if (half.messages == 0 && run.appended >= run.messages / 2) {
            half = written_now();
            memset(&run.commit, 0, sizeof run.commit);
            memset(&run.outcome, 0, sizeof run.outcome);
        }
        if (getenv("TRACE") != NULL && run.appended / 20000 != run.sums) {
            struct spool_statistics now;
            run.sums = run.appended / 20000;
            spool_statistics(run.rig.spool, &now);
            fprintf(stderr, "%8llu appended, live %6.1f MiB, %u segments, %u spare, moved %.1f MiB\n",
                    (unsigned long long)run.appended, (double)now.live_bytes / (1 << 20), now.segments, now.spares,
                    (double)run.rig.shard.metrics->spool_compacted_bytes / (1 << 20));
        }
    }
    print_result(&half, (double)(clock_monotonic_ns() - run.started_ns) / 1e9);
    rig_close(&run.rig);
    return 0;
}
