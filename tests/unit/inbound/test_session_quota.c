/* RCPT of mailboxes that have a quota; what the worker says is the test's, and when. */
#include "inbound/session.h"
#include "inbound_fixture.h"

#define QUESTIONS_MAX 8

static struct maildir_quota *questions[QUESTIONS_MAX];
static _Atomic unsigned question_count;
static _Atomic unsigned asked_count;
static _Atomic uint64_t asked_bytes;
static char asked_directory[MAILDIR_QUOTA_PATH_BYTES];
static _Atomic bool no_worker;

bool maildir_quota_ask(struct maildir_quota *quota, struct shard *shard)
{
    (void)shard;
    asked_count++;
    asked_bytes = quota->bytes;
    memcpy(asked_directory, quota->directory, sizeof asked_directory);
    if (no_worker) {
        return false;
    }
    CHECK(question_count < QUESTIONS_MAX && quota->limits.bytes_max == 1000);
    questions[question_count++] = quota;
    return true;
}

bool maildir_quota_added(struct maildir_quota *quota, struct shard *shard)
{
    (void)quota, (void)shard;
    fail();
    return false;
}

static void answer_one(struct shard *shard, void *context)
{
    (void)shard;
    CHECK(question_count != 0);
    struct maildir_quota *quota = questions[--question_count];
    quota->over = *(bool *)context;
    quota->done(quota);
}

static void copy_directory(struct shard *shard, void *context)
{
    (void)shard;
    memcpy(context, asked_directory, sizeof asked_directory);
}

static void expect_directory(const char *directory)
{
    char asked[MAILDIR_QUOTA_PATH_BYTES];
    fixture_look(0, copy_directory, asked);
    assert_string_equal(asked, directory);
}

static void answer(bool over)
{
    WAIT_FOR(question_count == 1);
    fixture_look(0, answer_one, &over);
}

/* "free@" has no quota, "hard@" is refused for good. */
static bool mailbox_of(const struct shard *shard, const struct address *address, struct inbound_mailbox *ret_mailbox)
{
    (void)shard;
    struct bytes local = address_local(address);
    ret_mailbox->quota = (struct maildir_limits){1000, 0};
    ret_mailbox->refuses = bytes_equal(local, BYTES("hard"));
    memset(ret_mailbox->directory, 0, sizeof ret_mailbox->directory);
    memcpy(ret_mailbox->directory, local.data, local.length);
    return !bytes_equal(local, BYTES("free"));
}

static struct recipients *own;

static void no_error(void *context, const char *message)
{
    (void)context;
    fail_msg("%s", message);
}

static void set_up(void)
{
    const struct recipients_domain domain = {.name = BYTES("own.example"), .mailboxes = "", .aliases = ""};
    fixture_defaults();
    own = recipients_load(&domain, 1, BYTES("own.example"), no_error, NULL);
    fixture.settings.recipients = own;
    fixture.settings.mailbox = mailbox_of;
    fixture.listener.timeouts.lookup_ms = 30000;
    fixture.listener.extensions |= SMTP_SERVER_SIZE;
    question_count = asked_count = 0;
    no_worker = false;
    fixture_start();
}

static void tear_down(void)
{
    fixture_stop();
    recipients_delete(own);
    assert_int_equal(question_count, 0);
}

static void expect_reply(int fd, const char *begin)
{
    char line[600] = "";
    client_reply_text(fd, line, sizeof line);
    if (strncmp(line, begin, strlen(begin)) != 0) {
        fail_msg("expected %s, got %s", begin, line);
    }
}

static void test_replies(void **state)
{
    (void)state;
    static const struct {
        const char *recipient;
        bool over;
        const char *reply;
    } cases[] = {{"anna", false, "250 2.1.5 "},
                 {"anna", true, "452 4.2.2 "},
                 {"hard", false, "250 2.1.5 "},
                 {"hard", true, "552 5.2.2 "}};
    set_up();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com> SIZE=123\r\n");
    client_expect(fd, "250");
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[100];
        snprintf(line, sizeof line, "RCPT TO:<%s@Own.Example>\r\nNOOP\r\n", cases[i].recipient);
        client_send(fd, line);
        answer(cases[i].over);
        expect_reply(fd, cases[i].reply);
        client_expect(fd, "250");
        expect_directory(cases[i].recipient);
        assert_int_equal(asked_bytes, 123);
    }
    client_send(fd, "DATA\r\n" BODY "MAIL FROM:<a@example.com>\r\nRCPT TO:<anna@own.example>\r\n");
    client_expect(fd, "354 250 250");
    answer(false);
    client_expect(fd, "250");
    assert_int_equal(asked_bytes, 0); /* of the one before */
    close(fd);
    tear_down();
}

static void test_not_asked(void **state)
{
    (void)state;
    set_up();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<free@own.example>\r\nRCPT TO:<anna@example.org>\r\n"
                    "RCPT TO:<Postmaster>\r\n");
    client_expect(fd, "250 250 250 250");
    assert_int_equal(asked_count, 0);
    no_worker = true; /* who cannot be asked has said nothing */
    client_send(fd, "RCPT TO:<anna@own.example>\r\n");
    client_expect(fd, "250");
    assert_int_equal(asked_count, 1);
    close(fd);
    tear_down();
}

static void test_no_longer_than_configured(void **state)
{
    (void)state;
    set_up();
    fixture_stop();
    fixture.listener.timeouts.lookup_ms = 100;
    fixture_start();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<anna@own.example>\r\n");
    client_expect(fd, "250 250");
    answer(true); /* too late, and nobody is there */
    client_send(fd, "NOOP\r\n");
    client_expect(fd, "250");
    close(fd);
    tear_down();
}

static void count_questions(struct shard *shard, void *context)
{
    *(unsigned *)context = shard->inbound->question_count;
}

/* The session goes at once; the stop waits until the worker has let go of the question. */
static void test_gone_while_asked(void **state)
{
    (void)state;
    set_up();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<anna@own.example>\r\n");
    WAIT_FOR(question_count == 1);
    client_reset(fd);
    WAIT_FOR(now.sessions == 0);
    unsigned left = 0;
    fixture_look(0, count_questions, &left);
    assert_int_equal(left, 1);
    fixture_stop_after(0);
    pause_ms(50);
    assert_int_equal(fixture.stopped, 0);
    answer(true);
    fixture_join();
    recipients_delete(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_not_asked),
        cmocka_unit_test(test_no_longer_than_configured),
        cmocka_unit_test(test_gone_while_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
