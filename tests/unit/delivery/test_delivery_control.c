/* What happens to delivery from its own side: the operator, the clock, a reload, a stop, a failing disk. */
#include <signal.h>
#include <sys/resource.h>

#include "core/event_log.h"
#include "delivery_rig.h"
#include "queue/schedule.h"

/* --- the operator, the clock, reload, stop ------------------------------------------------------------------------ */

static void act(struct shard *shard, void *context)
{
    struct manage_match all = {.domain = bytes_of("", 0)};
    manage_act(shard->queue, &all, *(enum queue_wish *)context);
}

static void operate(enum queue_wish wish)
{
    for (unsigned i = 0; i < rig.shards; i++) {
        shard_call(rig.group, i, act, &wish);
    }
}

static void test_operator(void **state)
{
    (void)state;
    static const enum queue_wish wishes[] = {QUEUE_HOLD,  QUEUE_RELEASE, QUEUE_RETRY, QUEUE_HOLD,   QUEUE_RELEASE,
                                             QUEUE_RETRY, QUEUE_BOUNCE,  QUEUE_HOLD,  QUEUE_REMOVE, QUEUE_RELEASE};
    struct host *host = begin(2, slow_dot);
    rig_run();
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        host->script = i % 3 == 1 ? closes_at_mail : slow_dot;
        rig_mails(10, "a.test b.test");
        usleep(20000);
        operate(wishes[i]);
    }
    operate(QUEUE_RELEASE);
    host->script = NULL;
    rig_settle();
    rig_end();
}

static const char *defers(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    return at == AT_RCPT && strncmp(line, "RCPT TO:<n", 10) == 0 ? "450 4.2.1 later" : NULL;
}

static void test_expires_while_the_site_is_suspended(void **state)
{
    (void)state;
    struct host *host = begin(1, closes_at_greeting);
    rig.queue.expire_ms = 100000;
    rig_run();
    rig_mails(10, "a.test b.test c.test d.test");
    usleep(300000);
    rig_wall_offset_ms = 200000;
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_EXPIRED));
    host->script = NULL; /* for the notifications */
    rig_end();
}

static bool all_are_back(void *context)
{
    (void)context;
    struct busy busy = {0};
    for (unsigned i = 0; i < rig.shards; i++) {
        shard_call(rig.group, i, look_busy, &busy);
    }
    return busy.entries == rig.recipients;
}

/* A server that was down for longer than mail may wait, or an operator who held it for so long, has not tried it. */
static void test_time_alone_ends_nothing(void **state)
{
    (void)state;
    for (unsigned held = 0; held < 2; held++) {
        struct host *host = begin(2, closes_at_mail);
        rig.queue.expire_ms = 100000;
        rig.may_leave = true;
        rig_run();
        wait_deferred(rig_mails(5, "a.test b.test"));
        if (held != 0) {
            operate(QUEUE_HOLD);
        }
        rig_stop(1000);
        rig_wall_offset_ms = 300000;
        host->script = NULL;
        rig.may_leave = false;
        rig_run();
        if (held != 0) { /* what is still on its way to its shard would not be released */
            assert_true(comes(all_are_back, NULL, RIG_PATIENCE_MS));
            operate(QUEUE_RELEASE);
        }
        rig_settle();
        assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
        rig_end();
    }
}

static void test_the_last_attempt_fails(void **state)
{
    (void)state;
    struct host *host = begin(1, defers);
    rig.queue.expire_ms = 100000;
    rig_run();
    wait_deferred(rig_mails(3, "a.test"));
    rig_wall_offset_ms = 300000;
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_EXPIRED));
    assert_string_equal(rig.text[0], "4.2.1 later");
    unsigned rounds = 0;
    assert_true(comes(is_quiet, &rounds, RIG_PATIENCE_MS));
    assert_int_equal(host->notices, 3);
    rig_end();
}

static void test_clock_is_set_back(void **state)
{
    (void)state;
    struct host *host = begin(1, closes_at_mail);
    rig_run();
    unsigned first = rig_mails(5, "a.test");
    wait_deferred(first);
    rig_wall_offset_ms = -3000;
    host->script = NULL;
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

static void reload(struct shard *shard, void *context)
{
    delivery_reload(shard->delivery, context);
}

/* Routes change under lookups, connections, refusals and waits. */
static void test_reload(void **state)
{
    (void)state;
    static struct delivery_route new_routes[1];
    struct host *host = begin(2, slow_dot);
    rig_name((struct name){.domain = "slow", .class = MX_HOSTS, .host_count = 1, .hosts = {host}, .delay_ms = 150});
    rig_name((struct name){.domain = "never", .class = MX_TEMPORARY, .delay_ms = 60000});
    rig_name((struct name){.domain = "resolving.test", .class = MX_TEMPORARY, .delay_ms = 60000});
    rig_name((struct name){.domain = "waiting.test", .class = MX_TEMPORARY, .ttl_ms = 60000});
    rig_route("slow.test", "slow");
    rig_route("never.test", "never");
    rig_route("resolving.test", NULL);
    rig_route("waiting.test", NULL);
    rig_run();
    rig_mails(5, "a.test slow.test never.test resolving.test waiting.test");
    usleep(30000);
    new_routes[0] = rig.routes[0];
    rig.other_settings = rig.settings;
    rig.other_settings.routes = new_routes;
    rig.other_settings.route_count = 1;
    for (unsigned i = 0; i < rig.shards; i++) {
        shard_call(rig.group, i, reload, &rig.other_settings);
    }
    memset(rig.routes + 1, 0xff, sizeof rig.routes[0]); /* not looked at by new work */
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

/* A stop at a random moment of every phase: what was not delivered stays in the spool, and the next start delivers it.
 */
static void stop_and_start(host_script *script, unsigned after_us, uint64_t grace_ms)
{
    struct host *host = begin(2, script);
    rig_name((struct name){.domain = "slow", .class = MX_HOSTS, .host_count = 1, .hosts = {host}, .delay_ms = 40});
    rig_route("slow.test", "slow");
    rig.may_leave = true;
    rig_run();
    rig_mails(10, "a.test*2 slow.test");
    rig_mail((struct letter){.domains = "a.test", .bytes = 5000000});
    usleep(after_us);
    rig_stop(grace_ms);
    rig.may_leave = false;
    host->script = NULL;
    rig_run();
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

static void test_stop(void **state)
{
    (void)state;
    for (unsigned at = AT_GREETING; at < AT_COUNT; at += at == AT_EHLO || at == AT_BODY ? 1 : 2) {
        stall_at[0] = at;
        stop_and_start(stalls, at * 3000, 300);
    }
    stop_and_start(slow_dot, 30000, 1000);
    stop_and_start(NULL, 1000, 1000);
}

/* --- a disk that fails -------------------------------------------------------------------------------------------- */

/* Every write to a file fails from now on, or none. */
static void disk_fails(bool fails)
{
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = fails ? 1 : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_outcomes_wait_for_the_disk(void **state)
{
    (void)state;
    struct host *host = begin(1, mixed_recipients);
    rig_run();
    rig_mails(10, "a.test*4");
    disk_fails(true);
    usleep(1500000);
    disk_fails(false);
    rig_settle();
    unsigned rounds = 0;
    assert_true(comes(is_quiet, &rounds, RIG_PATIENCE_MS));
    assert_int_equal(host->notices, 10);
    rig_end();
}

static bool nothing_is_queued(void *context)
{
    unsigned rounds = 3; /* one quiet look is enough */
    (void)context;
    return is_quiet(&rounds);
}

static void test_stop_with_a_failing_disk(void **state)
{
    (void)state;
    struct host *host = begin(1, slow_dot);
    rig.may_leave = true;
    rig.may_repeat = true;
    rig_run();
    rig_mails(20, "a.test");
    disk_fails(true);
    usleep(100000);
    rig_stop(300);
    disk_fails(false);
    assert_true(host->mails != 0);
    unsigned reported = rig.finished;
    rig.may_leave = false;
    rig_run();
    assert_true(comes(nothing_is_queued, NULL, RIG_PATIENCE_MS));
    assert_true(rig.finished >= reported);
    rig_end();
}

/* --- outcomes of one recipient, in order -------------------------------------------------------------------------- */

struct places {
    unsigned parked;
    unsigned all;
};

static void count_places(struct shard *shard, void *context)
{
    struct places *places = context;
    for (uint32_t i = 0; i < shard->queue->entries.begun; i++) {
        enum queue_place place = schedule_entry(shard->queue, i)->place;
        places->parked += place == QUEUE_PARKED;
        places->all += place != QUEUE_FREE;
    }
}

static struct places look(void)
{
    struct places places = {0};
    shard_call(rig.group, rig.owner, count_places, &places);
    return places;
}

/* One message that waits for an hour, and that memory knows nothing of any more. */
static struct host *begin_deferred(void)
{
    struct host *host = begin(1, defers);
    rig.queue.retry_ms[0] = 3600000;
    rig.may_leave = true;
    rig_run();
    wait_deferred(rig_mail((struct letter){.domains = "a.test", .bytes = 100000}));
    rig_stop(1000);
    rig_run();
    return host;
}

static void start_again(void)
{
    unsigned rounds = 0;
    assert_true(comes(is_quiet, &rounds, RIG_PATIENCE_MS));
    rig_stop(1000);
    rig_run();
}

static void end_deferred(struct host *host)
{
    host->script = NULL;
    operate(QUEUE_RELEASE);
    operate(QUEUE_RETRY);
    rig.may_leave = false;
    rig_settle();
    rig_end();
}

static struct queue_entry *only_entry(struct shard *shard)
{
    struct queue_entry *entry = schedule_entry(shard->queue, 0);
    CHECK(entry->place == QUEUE_CALENDAR);
    return entry;
}

/* To tell the sender of a delay the message is read from the disk; the hold has nothing to wait for. */
static void delay_then_hold(struct shard *shard, void *context)
{
    (void)context;
    lend_give_up(shard->queue, only_entry(shard), LEND_DELAYED);
    act(shard, &(enum queue_wish){QUEUE_HOLD});
}

static void test_a_hold_is_not_overtaken(void **state)
{
    (void)state;
    struct host *host = begin_deferred();
    assert_int_equal(shard_call(rig.group, rig.owner, delay_then_hold, NULL), 0);
    start_again();
    struct places places = look();
    assert_int_equal(places.parked, 1);
    assert_int_equal(host->notices, 1);
    end_deferred(host);
}

static void give(struct shard *shard, enum spool_format_status status, enum lend_verdict verdict)
{
    const struct queue_entry *entry = only_entry(shard);
    struct lend_outcome what = {
        .slot = entry->slot,
        .id_low = entry->id_low,
        .spool = entry->spool,
        .count = 1,
        .status = (uint8_t)status,
        .verdict = (uint8_t)verdict,
        .recipients = {{.recipient = entry->recipient, .attempts = 1}},
    };
    bounce_outcome(shard->delivery, &what, offsetof(struct lend_outcome, tail));
}

static void hold(struct shard *shard, void *context)
{
    (void)context;
    give(shard, SPOOL_FORMAT_HELD, LEND_HELD);
}

static void release_and_hold(struct shard *shard, void *context)
{
    (void)context;
    CHECK(!list_empty(&shard->delivery->failed_journals));
    give(shard, SPOOL_FORMAT_DEFERRED, LEND_RELEASED);
    hold(shard, NULL);
}

/* The disk is well again, and before it has said so the operator changes his mind once more. */
static void retry_and_release(struct shard *shard, void *context)
{
    (void)context;
    bounce_retry(&shard->delivery->journal_timer);
    give(shard, SPOOL_FORMAT_DEFERRED, LEND_RELEASED);
}

static void test_what_waits_for_the_disk_is_not_overtaken(void **state)
{
    (void)state;
    struct host *host = begin_deferred();
    disk_fails(true);
    assert_int_equal(shard_call(rig.group, rig.owner, hold, NULL), 0);
    usleep(100000);
    assert_int_equal(shard_call(rig.group, rig.owner, release_and_hold, NULL), 0);
    disk_fails(false);
    assert_int_equal(shard_call(rig.group, rig.owner, retry_and_release, NULL), 0);
    start_again();
    assert_int_equal(look().parked, 0);
    rig.may_repeat = true; /* it was tried at once after the start, and deferred */
    end_deferred(host);
}

/* --- no memory ---------------------------------------------------------------------------------------------------- */

static void open_events(struct shard *shard, void *context)
{
    struct event_log_settings settings = {
        .path = rig.root, .types = UINT32_MAX, .rotate_bytes = 1 << 20, .keep_files = 1};
    char reason[256];
    struct event_log *log = NULL;
    (void)context;
    CHECK(event_log_new(shard, &settings, &log, reason, sizeof reason) == 0);
}

static void close_events(struct shard *shard, void *context)
{
    (void)context;
    event_log_delete(shard->events);
}

static unsigned count_in_events(const char *wanted)
{
    char path[128];
    char line[4096];
    unsigned found = 0;
    snprintf(path, sizeof path, "%s/events-0.jsonl", rig.root);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        found += strstr(line, wanted) != NULL;
    }
    fclose(file);
    return found;
}

/* A message that could not be lent has a deferral that names it all the same. */
static void no_memory(const char *maildir)
{
    struct host *host = begin(1, NULL);
    (void)host;
    char directory[128];
    snprintf(directory, sizeof directory, "%s/%%u", rig.root);
    const struct delivery_local local = {.domain = BYTES("a.test"), .maildir = directory};
    rig.settings.locals = &local;
    rig.settings.local_count = maildir != NULL;
    rig.settings.local_jobs_max = 1;
    rig.may_repeat = maildir != NULL; /* no host accepts it */
    rig_run();
    assert_int_equal(shard_call(rig.group, 0, open_events, NULL), 0);
    rig.no_memory = true;
    unsigned first = rig_mail((struct letter){.domains = "a.test"});
    wait_deferred(first);
    char recipient[64];
    snprintf(recipient, sizeof recipient, "\"recipient\":\"n%u@a.test\"", first);
    unsigned rounds = 0;
    assert_true(comes(all_finished, NULL, RIG_PATIENCE_MS));
    assert_true(comes(is_quiet, &rounds, RIG_PATIENCE_MS));
    assert_int_equal(shard_call(rig.group, 0, close_events, NULL), 0);
    assert_int_equal(count_in_events("\"event\":\"deferral\""), 1);
    assert_int_equal(count_in_events("out of memory"), 1);
    assert_int_equal(count_in_events(recipient), 2); /* and the delivery */
    assert_string_equal(rig.first_text[first], "out of memory");
    if (maildir == NULL) {
        rig_end();
        return;
    }
    rig.finals[first] = 0; /* what rig_check asks a host for */
    rig.may_leave = true;
    rig_end();
}

static void test_no_memory_to_lend(void **state)
{
    (void)state;
    no_memory(NULL);
    no_memory("mailbox");
}

int main(void)
{
    cmocka_set_test_filter(getenv("ONLY"));
    const struct CMUnitTest tests[] = {
        TEST(test_operator),
        TEST(test_expires_while_the_site_is_suspended),
        TEST(test_time_alone_ends_nothing),
        TEST(test_the_last_attempt_fails),
        TEST(test_clock_is_set_back),
        TEST(test_reload),
        TEST(test_stop),
        TEST(test_outcomes_wait_for_the_disk),
        TEST(test_stop_with_a_failing_disk),
        TEST(test_a_hold_is_not_overtaken),
        TEST(test_no_memory_to_lend),
        TEST(test_what_waits_for_the_disk_is_not_overtaken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
