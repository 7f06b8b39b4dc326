/* Logins on a shard: worker, delay, lockout, the client that goes away; and the table of accounts under them. */
#include "inbound/login.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "unit/core/one_shard.h"
#include "unit/sasl/sasl_fixture.h"

#define FAST PENCIL
#define ZEROS "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define ANOTHER "{SCRAM-SHA-256}4096," ZEROS "," ZEROS "," ZEROS

struct bench {
    struct shard_group *group;
    struct accounts *accounts;
    struct accounts_settings settings;
    char path[64];
};

/* One client, on the shard. */
struct client {
    struct bench *bench;
    struct login *login;
    enum mechanism mechanism;
    struct bytes response;
    unsigned address;
    enum login_event event;
    bool resumed;
    uint64_t begun_ms;
    uint64_t ended_ms;
};

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void bench_open(struct bench *bench)
{
    bench->settings = (struct accounts_settings){
        .lockout = lockout_defaults(), .threads = 2, .queue_max = 64, .recent_ms = 60000};
    bench->settings.lockout.delay_ms = 0;
    bench->settings.lockout.delay_ms_max = 0;
    bench->group = shards_start(1, 8, 512);
    assert_int_equal(accounts_new(&bench->settings, &bench->accounts), 0);
    snprintf(bench->path, sizeof bench->path, "/tmp/test_login.%d", getpid());
    write_file(bench->path, "user:" FAST "\nother:" FAST "\n");
    assert_true(accounts_load(bench->accounts, bench->path, fixture_print, NULL));
}

static void bench_close(struct bench *bench)
{
    accounts_stop(bench->accounts);
    shards_stop(bench->group);
    accounts_delete(bench->accounts);
    unlink(bench->path);
}

static void resumed(void *context)
{
    struct client *client = context;
    client->resumed = true;
    client->event = login_resumed(client->login);
    client->ended_ms = clock_monotonic_ms();
}

static void begin(struct shard *shard, void *context)
{
    struct client *client = context;
    struct login_setup setup = {
        .shard = shard,
        .accounts = client->bench->accounts,
        .peer = {.address = {[10] = 0xff, 0xff, 10, 0, 0, (uint8_t)client->address}},
        .offered = MECHANISM_ALL,
        .resume = resumed,
        .context = client,
    };
    client->login = login_new(&setup);
    assert_non_null(client->login);
    client->begun_ms = client->ended_ms = clock_monotonic_ms();
    client->resumed = false;
    client->event = login_begin(client->login, client->mechanism, true, client->response);
}

static void drop(struct shard *shard, void *context)
{
    struct client *client = context;
    (void)shard;
    login_delete(client->login);
    client->login = NULL;
}

static bool is_over(struct shard *shard, void *context)
{
    const struct client *client = context;
    (void)shard;
    return client->event != LOGIN_WAIT;
}

/* Begins and waits for the verdict; the login stays. */
static enum login_event attempt(struct bench *bench, struct client *client, struct bytes response)
{
    client->bench = bench;
    client->mechanism = MECHANISM_PLAIN;
    client->response = response;
    on_shard(bench->group, begin, client);
    assert_true(comes_true(bench->group, is_over, client));
    return client->event;
}

static enum login_event attempt_once(struct bench *bench, unsigned address, struct bytes response,
                                     enum login_reply *ret_reply)
{
    struct client client = {.address = address};
    enum login_event event = attempt(bench, &client, response);
    *ret_reply = login_reply(client.login);
    on_shard(bench->group, drop, &client);
    return event;
}

static void test_right_and_wrong(void **state)
{
    struct bench bench;
    struct client client = {.address = 1};
    enum login_reply reply;
    (void)state;
    bench_open(&bench);
    assert_int_equal(attempt(&bench, &client, BYTES("\0User\0pencil")), LOGIN_DONE);
    assert_true(client.resumed); /* a worker did it */
    struct login_identity identity = login_take(client.login);
    on_shard(bench.group, drop, &client);
    assert_bytes_equal(identity.account->name, "user");
    /* The second time it is known. */
    assert_int_equal(attempt(&bench, &client, BYTES("\0user\0pencil")), LOGIN_DONE);
    assert_false(client.resumed);
    on_shard(bench.group, drop, &client);
    assert_int_equal(attempt_once(&bench, 1, BYTES("\0user\0pencils"), &reply), LOGIN_REFUSED);
    assert_int_equal(reply, LOGIN_REPLY_BAD);
    assert_int_equal(attempt_once(&bench, 1, BYTES("\0nobody\0pencil"), &reply), LOGIN_REFUSED);
    assert_int_equal(reply, LOGIN_REPLY_BAD);
    assert_int_equal(attempt_once(&bench, 1, BYTES("user"), &reply), LOGIN_REFUSED);
    assert_int_equal(reply, LOGIN_REPLY_MALFORMED);
    login_identity_give(&identity);
    login_identity_give(&identity);
    bench_close(&bench);
}

static void test_a_refusal_waits(void **state)
{
    struct bench bench;
    struct client client = {.address = 1};
    (void)state;
    bench_open(&bench);
    bench.settings.lockout.delay_ms = 60;
    bench.settings.lockout.delay_ms_max = 120;
    accounts_set(bench.accounts, &bench.settings);
    static const uint64_t delays_ms[] = {60, 120, 120};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(attempt(&bench, &client, BYTES("\0user\0wrong")), LOGIN_REFUSED);
        assert_true(client.ended_ms - client.begun_ms + 1 >= delays_ms[i]);
        assert_string_equal(login_cause(client.login), "refused");
        on_shard(bench.group, drop, &client);
    }
    /* A client that goes away while it waits. */
    client.response = BYTES("\0user\0wrong");
    on_shard(bench.group, begin, &client);
    on_shard(bench.group, drop, &client);
    bench_close(&bench);
}

static void test_lockout_and_its_reply(void **state)
{
    struct bench bench;
    enum login_reply reply;
    (void)state;
    bench_open(&bench);
    bench.settings.lockout.account_failures_max = 3;
    accounts_set(bench.accounts, &bench.settings);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(attempt_once(&bench, i, BYTES("\0user\0wrong"), &reply), LOGIN_REFUSED);
        assert_int_equal(reply, LOGIN_REPLY_BAD);
    }
    assert_int_equal(accounts_locked(bench.accounts), 1);
    assert_int_equal(attempt_once(&bench, 9, BYTES("\0user\0pencil"), &reply), LOGIN_REFUSED);
    assert_int_equal(reply, LOGIN_REPLY_LATER);
    struct client client = {.address = 9};
    assert_int_equal(attempt(&bench, &client, BYTES("\0user\0pencil")), LOGIN_REFUSED);
    assert_string_equal(login_cause(client.login), "account-locked");
    on_shard(bench.group, drop, &client);
    assert_int_equal(attempt_once(&bench, 9, BYTES("\0other\0pencil"), &reply), LOGIN_DONE);
    bench_close(&bench);
}

static void begin_and_drop(struct shard *shard, void *context)
{
    begin(shard, context);
    drop(shard, context);
}

/* Its guess counts although nobody waits for the answer. */
static void test_the_client_goes_while_the_worker_works(void **state)
{
    struct bench bench;
    (void)state;
    bench_open(&bench);
    bench.settings.lockout.account_failures_max = 3;
    accounts_set(bench.accounts, &bench.settings);
    struct client client = {.bench = &bench, .mechanism = MECHANISM_PLAIN, .response = BYTES("\0user\0wrong")};
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
    for (unsigned i = 0; i < 3; i++) {
        on_shard(bench.group, begin_and_drop, &client);
    }
    while (accounts_locked(bench.accounts) == 0 && clock_monotonic_ms() < end_ms) {
        usleep(1000);
    }
    assert_int_equal(accounts_locked(bench.accounts), 1);
    assert_false(client.resumed);
    bench_close(&bench);
}

#define CROWD 20
#define PLACES 2

/* What keeps the only worker busy until the test lets it go. */
struct plug {
    struct worker_job job;
    struct worker_pool *pool;
    atomic_bool running;
    atomic_bool released;
};

static void hold(struct worker_job *job)
{
    struct plug *plug = CONTAINER_OF(job, struct plug, job);
    atomic_store(&plug->running, true);
    while (!atomic_load(&plug->released)) {
        usleep(1000);
    }
}

static void let_go(struct worker_job *job)
{
    (void)job;
}

static void put_in(struct shard *shard, void *context)
{
    struct plug *plug = context;
    assert_int_equal(worker_submit(plug->pool, shard, &plug->job), 0);
}

static bool is_running(struct shard *shard, void *context)
{
    struct plug *plug = context;
    (void)shard;
    return atomic_load(&plug->running);
}

static void begin_crowd(struct shard *shard, void *context)
{
    struct client *clients = context;
    for (unsigned i = 0; i < CROWD; i++) {
        begin(shard, &clients[i]);
    }
}

static bool all_over(struct shard *shard, void *context)
{
    struct client *clients = context;
    for (unsigned i = 0; i < CROWD; i++) {
        if (!is_over(shard, &clients[i])) {
            return false;
        }
    }
    return true;
}

static void test_a_full_queue_is_temporary(void **state)
{
    struct bench bench;
    static struct client clients[CROWD];
    struct plug plug = {.job = {.run = hold, .done = let_go}};
    (void)state;
    bench_open(&bench);
    accounts_stop(bench.accounts);
    accounts_delete(bench.accounts);
    bench.settings.queue_max = PLACES;
    bench.settings.threads = 1;
    assert_int_equal(accounts_new(&bench.settings, &bench.accounts), 0);
    assert_true(accounts_load(bench.accounts, bench.path, fixture_print, NULL));
    plug.pool = accounts_workers(bench.accounts);
    on_shard(bench.group, put_in, &plug);
    assert_true(comes_true(bench.group, is_running, &plug));
    for (unsigned i = 0; i < CROWD; i++) {
        clients[i] = (struct client){
            .bench = &bench, .mechanism = MECHANISM_PLAIN, .response = BYTES("\0user\0pencil"), .address = i};
    }
    on_shard(bench.group, begin_crowd, clients);
    for (unsigned i = PLACES; i < CROWD; i++) {
        assert_int_equal(clients[i].event, LOGIN_REFUSED);
        assert_int_equal(login_reply(clients[i].login), LOGIN_REPLY_LATER);
        assert_string_equal(login_cause(clients[i].login), "busy");
    }
    atomic_store(&plug.released, true);
    assert_true(comes_true(bench.group, all_over, clients));
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(clients[i].event, i < PLACES ? LOGIN_DONE : LOGIN_REFUSED);
        on_shard(bench.group, drop, &clients[i]);
    }
    assert_int_equal(accounts_locked(bench.accounts), 0);
    bench_close(&bench);
}

static void answer(struct shard *shard, void *context)
{
    struct client *client = context;
    char room[VERIFIER_REQUEST_BYTES_MAX];
    struct buffer out = buffer_of(room, sizeof room);
    (void)shard;
    assert_int_equal(client->event, LOGIN_ASK);
    assert_true(login_question(client->login, &out));
    assert_bytes_equal(buffer_bytes(&out), "verify mechanism=XOAUTH2 user=user address=10.0.0.1 token=abc\n");
    client->event = login_answer(client->login, BYTES("invalid"));
    assert_int_equal(client->event, LOGIN_CHALLENGE);
    assert_true(login_challenge(client->login).length > 2);
    client->event = login_respond(client->login, BYTES(""));
}

static void test_tokens(void **state)
{
    struct bench bench;
    struct client client = {.bench = &bench,
                            .address = 1,
                            .mechanism = MECHANISM_XOAUTH2,
                            .response = BYTES("user=user\1auth=Bearer abc\1\1")};
    (void)state;
    bench_open(&bench);
    on_shard(bench.group, begin, &client);
    on_shard(bench.group, answer, &client);
    assert_int_equal(client.event, LOGIN_REFUSED);
    assert_int_equal(login_reply(client.login), LOGIN_REPLY_BAD);
    assert_bytes_equal(login_name(client.login), "user");
    on_shard(bench.group, drop, &client);
    bench_close(&bench);
}

static void answer_no(struct shard *shard, void *context)
{
    struct client *client = context;
    (void)shard;
    assert_int_equal(client->event, LOGIN_ASK);
    client->event = login_answer(client->login, BYTES("invalid"));
}

/* Who reads that a token is bad, and leaves: it counts, and was said late, as for any other guess. */
static void test_the_client_goes_when_its_token_is_refused(void **state)
{
    struct bench bench;
    (void)state;
    bench_open(&bench);
    bench.settings.lockout.account_failures_max = 3;
    bench.settings.lockout.delay_ms = bench.settings.lockout.delay_ms_max = 60;
    accounts_set(bench.accounts, &bench.settings);
    struct client client = {.bench = &bench,
                            .address = 1,
                            .mechanism = MECHANISM_XOAUTH2,
                            .response = BYTES("user=user\1auth=Bearer abc\1\1")};
    for (unsigned i = 0; i < 3; i++) {
        on_shard(bench.group, begin, &client);
        on_shard(bench.group, answer_no, &client);
        assert_true(comes_true(bench.group, is_over, &client));
        assert_int_equal(client.event, LOGIN_CHALLENGE);
        assert_true(client.ended_ms - client.begun_ms + 1 >= 60);
        on_shard(bench.group, drop, &client);
    }
    assert_int_equal(accounts_locked(bench.accounts), 1);
    on_shard(bench.group, begin, &client);
    assert_int_equal(client.event, LOGIN_REFUSED);
    assert_string_equal(login_cause(client.login), "account-locked");
    on_shard(bench.group, drop, &client);
    bench_close(&bench);
}

/* --- the file ------------------------------------------------------------------------------------------------- */

/* The second look at what was written in place: it has stood still. */
static enum accounts_change look_twice(struct bench *bench)
{
    assert_int_equal(accounts_load_if_changed(bench->accounts, bench->path, fixture_print, NULL), ACCOUNTS_SAME);
    return accounts_load_if_changed(bench->accounts, bench->path, fixture_print, NULL);
}

static void test_a_reload_is_all_or_nothing(void **state)
{
    struct bench bench;
    enum login_reply reply;
    (void)state;
    bench_open(&bench);
    struct client client = {.address = 1};
    assert_int_equal(attempt(&bench, &client, BYTES("\0user\0pencil")), LOGIN_DONE);
    struct login_identity identity = login_take(client.login);
    on_shard(bench.group, drop, &client);
    assert_int_equal(accounts_load_if_changed(bench.accounts, bench.path, fixture_print, NULL), ACCOUNTS_SAME);
    write_file(bench.path, "other:" FAST "\nbroken\n");
    assert_int_equal(look_twice(&bench), ACCOUNTS_BAD);
    assert_int_equal(accounts_load_if_changed(bench.accounts, bench.path, fixture_print, NULL), ACCOUNTS_SAME);
    assert_int_equal(attempt_once(&bench, 1, BYTES("\0user\0pencil"), &reply), LOGIN_DONE);
    write_file(bench.path, "other:" FAST "\n# fine\n");
    assert_int_equal(look_twice(&bench), ACCOUNTS_LOADED);
    /* Known a moment ago, and gone: */
    assert_int_equal(attempt_once(&bench, 1, BYTES("\0user\0pencil"), &reply), LOGIN_REFUSED);
    assert_bytes_equal(identity.account->name, "user"); /* who is in, is in */
    login_identity_give(&identity);
    unlink(bench.path);
    assert_int_equal(accounts_load_if_changed(bench.accounts, bench.path, fixture_print, NULL), ACCOUNTS_BAD);
    assert_int_equal(accounts_load_if_changed(bench.accounts, bench.path, fixture_print, NULL), ACCOUNTS_SAME);
    assert_int_equal(attempt_once(&bench, 1, BYTES("\0other\0pencil"), &reply), LOGIN_DONE);
    bench_close(&bench);
}

static unsigned accounts_in(struct bench *bench)
{
    const struct credentials *credentials = accounts_credentials(bench->accounts);
    unsigned count = credentials_count(credentials);
    credentials_give(credentials);
    return count;
}

/* An editor empties the file, writes half of it, and is done; looks come in between. */
static void test_a_file_that_is_written_in_place(void **state)
{
    struct bench bench;
    char other[80];
    (void)state;
    bench_open(&bench);
    static const char *const stages[] = {"", "user:" FAST "\n", "user:" FAST "\nother:" FAST "\nthird:" FAST "\n"};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        write_file(bench.path, stages[i]);
        assert_int_equal(accounts_load_if_changed(bench.accounts, bench.path, fixture_print, NULL), ACCOUNTS_SAME);
        assert_int_equal(accounts_in(&bench), 2);
    }
    assert_int_equal(accounts_load_if_changed(bench.accounts, bench.path, fixture_print, NULL), ACCOUNTS_LOADED);
    assert_int_equal(accounts_in(&bench), 3);
    /* It stays empty: the disk was full. */
    write_file(bench.path, "");
    assert_int_equal(look_twice(&bench), ACCOUNTS_BAD);
    assert_int_equal(accounts_load_if_changed(bench.accounts, bench.path, fixture_print, NULL), ACCOUNTS_SAME);
    assert_int_equal(accounts_in(&bench), 3);
    /* One that takes its place is whole. */
    snprintf(other, sizeof other, "%s.new", bench.path);
    write_file(other, "user:" FAST "\n");
    assert_int_equal(rename(other, bench.path), 0);
    assert_int_equal(accounts_load_if_changed(bench.accounts, bench.path, fixture_print, NULL), ACCOUNTS_LOADED);
    assert_int_equal(accounts_in(&bench), 1);
    /* Who wants none says so. */
    write_file(bench.path, "# none\n");
    assert_true(accounts_load(bench.accounts, bench.path, fixture_print, NULL));
    assert_int_equal(accounts_in(&bench), 0);
    bench_close(&bench);
}

/* Who is in stays in until the next look; then it depends on what has become of the account. */
static void test_an_identity_is_renewed(void **state)
{
    struct bench bench;
    struct client client = {.address = 1};
    (void)state;
    bench_open(&bench);
    assert_int_equal(attempt(&bench, &client, BYTES("\0user\0pencil")), LOGIN_DONE);
    struct login_identity identity = login_take(client.login);
    on_shard(bench.group, drop, &client);
    assert_true(login_identity_renew(&identity, bench.accounts));
    static const struct {
        const char *text;
        bool stays;
    } files[] = {
        {"user:" FAST " sender=@a.test\n", true},
        {"user:" FAST " disabled\n", false},
        {"other:" FAST "\n", false},
        {"user:-\n", false},
        {"user:" ANOTHER "\n", false},
        {"user:" FAST " sender=@b.test\n", true},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        write_file(bench.path, files[i].text);
        assert_true(accounts_load(bench.accounts, bench.path, fixture_print, NULL));
        assert_int_equal(login_identity_renew(&identity, bench.accounts), files[i].stays);
        assert_bytes_equal(identity.account->name, "user");
    }
    assert_bytes_equal(credentials_sender(identity.credentials, identity.account, 0), "@b.test");
    login_identity_give(&identity);
    bench_close(&bench);
}

static void keep_line(void *context, const char *line)
{
    snprintf(context, 512, "%s", line);
}

static void test_files_that_cannot_be_read(void **state)
{
    char line[512];
    char path[64];
    (void)state;
    assert_null(accounts_read("/nonexistent/file", keep_line, line));
    assert_string_equal(line,
                        "/nonexistent/file: cannot be opened: No such file or directory, expected a password file");
    assert_null(accounts_read("/tmp", keep_line, line));
    assert_string_equal(line,
                        "/tmp: is no regular file of a sensible size: Invalid argument, expected a password file");
    assert_null(accounts_read("/dev/zero", keep_line, line));
    snprintf(path, sizeof path, "/tmp/test_login.fifo.%d", getpid());
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_null(accounts_read(path, keep_line, line)); /* and does not wait for a writer */
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right_and_wrong),
        cmocka_unit_test(test_a_refusal_waits),
        cmocka_unit_test(test_lockout_and_its_reply),
        cmocka_unit_test(test_the_client_goes_while_the_worker_works),
        cmocka_unit_test(test_a_full_queue_is_temporary),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_the_client_goes_when_its_token_is_refused),
        cmocka_unit_test(test_a_reload_is_all_or_nothing),
        cmocka_unit_test(test_a_file_that_is_written_in_place),
        cmocka_unit_test(test_an_identity_is_renewed),
        cmocka_unit_test(test_files_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
