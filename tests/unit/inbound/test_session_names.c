/* MAIL and RCPT for domains that DNS is asked about; the answers are the test's. */
#include "dns/mail_domain.h"
#include "inbound/session.h"
#include "inbound_fixture.h"

/* --- DNS ---------------------------------------------------------------------------------------------------------- */

#define WAITING_MAX 64

/* By the first label: "null", "gone", "open", "fails" at once; "late-null" and so on when the test says so; "silent"
 * never. */
static struct {
    const char *label;
    enum mail_domain_answer answer;
} const labels[] = {
    {"null", MAIL_DOMAIN_NULL_MX},
    {"gone", MAIL_DOMAIN_MISSING},
    {"open", MAIL_DOMAIN_OPEN},
    {"fails", MAIL_DOMAIN_UNKNOWN},
};

static struct waiting_domain {
    struct mail_domain *domain;
    enum mail_domain_answer answer;
} waiting_domains[WAITING_MAX];
static _Atomic unsigned waiting_count;
static _Atomic unsigned asked_count;
static _Atomic unsigned cancelled_count;
static char last_name[256];
static char resolver_stands_here;

void mail_domain_init(struct mail_domain *domain, void (*done)(struct mail_domain *, enum mail_domain_answer))
{
    *domain = (struct mail_domain){.done = done};
}

bool mail_domain_ask(struct mail_domain *domain, struct resolver *resolver, struct bytes name,
                     enum mail_domain_answer *ret_answer)
{
    CHECK((char *)resolver == &resolver_stands_here);
    asked_count++;
    snprintf(last_name, sizeof last_name, "%.*s", (int)name.length, name.data);
    bool late = strncmp(last_name, "late-", 5) == 0;
    for (unsigned i = 0; i < sizeof labels / sizeof *labels; i++) {
        const char *label = last_name + (late ? 5 : 0);
        if (strncmp(label, labels[i].label, strlen(labels[i].label)) == 0) {
            *ret_answer = labels[i].answer;
        }
    }
    if (!late && strncmp(last_name, "silent", 6) != 0) {
        return true;
    }
    CHECK(waiting_count < WAITING_MAX);
    waiting_domains[waiting_count++] = (struct waiting_domain){domain, *ret_answer};
    return false;
}

void mail_domain_cancel(struct mail_domain *domain)
{
    for (unsigned i = 0; i < waiting_count; i++) {
        if (waiting_domains[i].domain == domain) {
            waiting_domains[i] = waiting_domains[--waiting_count];
            cancelled_count++;
        }
    }
}

static void answer_one(struct shard *shard, void *context)
{
    (void)shard, (void)context;
    CHECK(waiting_count != 0);
    struct waiting_domain first = waiting_domains[--waiting_count];
    first.domain->done(first.domain, first.answer);
}

static void copy_name(struct shard *shard, void *context)
{
    (void)shard;
    memcpy(context, last_name, sizeof last_name);
}

static void answer_late(void)
{
    WAIT_FOR(waiting_count == 1);
    fixture_look(0, answer_one, NULL);
}

/* --- the host ----------------------------------------------------------------------------------------------------- */

/* "null.routed.example" goes to a configured host, "other.example" by the MX of "null.example". */
static _Atomic bool to_a_host; /* so does the rest */

static struct inbound_route route_of(const struct shard *shard, struct bytes domain)
{
    (void)shard;
    if (bytes_equal(domain, BYTES("null.routed.example"))) {
        return (struct inbound_route){.mx_of = BYTES(""), .general = false};
    }
    if (bytes_equal(domain, BYTES("other.example"))) {
        return (struct inbound_route){.mx_of = BYTES("null.example"), .general = false};
    }
    return (struct inbound_route){.mx_of = to_a_host ? BYTES("") : domain, .general = true};
}

static void no_error(void *context, const char *message)
{
    (void)context;
    fail_msg("%s", message);
}

static void put_resolver(struct shard *shard, void *context)
{
    shard->resolver = context;
}

static void take_resolver(struct shard *shard, void *context)
{
    (void)context;
    shard->resolver = NULL;
}

static struct recipients *own;

static void set_up(bool null_mx, bool unknown)
{
    const struct recipients_domain domain = {.name = BYTES("null.own.example"), .mailboxes = "", .aliases = ""};
    fixture_defaults();
    own = recipients_load(&domain, 1, BYTES("null.own.example"), no_error, NULL);
    assert_non_null(own);
    fixture.settings.recipients = own;
    fixture.settings.route = route_of;
    fixture.listener.checks = (struct inbound_checks){null_mx, unknown, unknown};
    fixture.listener.timeouts.lookup_ms = 30000;
    to_a_host = false;
    waiting_count = asked_count = cancelled_count = 0;
}

static void start(void)
{
    fixture_start();
    fixture_look(0, put_resolver, &resolver_stands_here);
}

static void stop(void)
{
    fixture_look(0, take_resolver, NULL);
    fixture_stop();
    recipients_delete(own);
    assert_int_equal(waiting_count, 0);
}

static void expect_reply(int fd, const char *begin)
{
    char line[600] = "";
    client_reply_text(fd, line, sizeof line);
    if (strncmp(line, begin, strlen(begin)) != 0) {
        fail_msg("expected %s, got %s", begin, line);
    }
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *domain;
    const char *sender; /* the reply with both checks */
    const char *recipient;
    bool unknown; /* it is not of the null MX */
} cases[] = {
    {"null.example", "550 5.7.27 ", "556 5.1.10 ", false},
    {"gone.example", "550 5.1.8 ", "550 5.1.2 ", true},
    {"open.example", "250 2.1.0 ", "250 2.1.5 ", false},
    {"fails.example", "250 2.1.0 ", "250 2.1.5 ", false},
};

static void talk(bool null_mx, bool unknown, const char *prefix)
{
    set_up(null_mx, unknown);
    start();
    int fd = client_ready();
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[200];
        bool late = prefix[0] != '\0';
        bool on = cases[i].unknown ? unknown : null_mx;
        snprintf(line, sizeof line, "MAIL FROM:<a@%s%s>\r\n", prefix, cases[i].domain);
        client_send(fd, line);
        if (late && (null_mx || unknown)) {
            answer_late();
        }
        expect_reply(fd, on ? cases[i].sender : "250 2.1.0 ");
        client_send(fd, "RSET\r\nMAIL FROM:<>\r\n");
        client_expect(fd, "250 250");
        snprintf(line, sizeof line, "RCPT TO:<a@%s%s>\r\n", prefix, cases[i].domain);
        client_send(fd, line);
        if (late && (null_mx || unknown)) {
            answer_late();
        }
        expect_reply(fd, on ? cases[i].recipient : "250 2.1.5 ");
        client_send(fd, "RSET\r\n");
        client_expect(fd, "250");
    }
    close(fd);
    stop();
}

static void test_replies(void **state)
{
    (void)state;
    for (unsigned checks = 0; checks < 4; checks++) {
        talk((checks & 1) != 0, (checks & 2) != 0, "");
        talk((checks & 1) != 0, (checks & 2) != 0, "late-");
        assert_int_equal(asked_count, checks == 0 ? 0 : 8);
    }
}

static void test_not_asked(void **state)
{
    (void)state;
    set_up(true, true);
    start();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<a@Null.OWN.example>\r\nRSET\r\n"
                    "MAIL FROM:<a@null.routed.example>\r\nRSET\r\nMAIL FROM:<a@[192.0.2.1]>\r\n"
                    "RCPT TO:<a@null.own.example>\r\nRCPT TO:<a@[192.0.2.1]>\r\nRCPT TO:<Postmaster>\r\n"
                    "RCPT TO:<a@null.routed.example>\r\n");
    client_expect(fd, "250 250 250 250 250 250 250 250 250 250 250");
    assert_int_equal(asked_count, 0);
    client_send(fd, "RCPT TO:<a@NULL.Example>\r\n");
    client_expect(fd, "556");
    char name[sizeof last_name];
    fixture_look(0, copy_name, name);
    assert_string_equal(name, "null.example"); /* as routes have it */
    close(fd);
    stop();
}

/* The way of the mail decides whose MX counts: of a recipient the route's; of a sender, to whom only notices go, the
 * general host says nothing about him. */
static void test_routes(void **state)
{
    (void)state;
    set_up(true, true);
    start();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@open.example>\r\nRCPT TO:<a@other.example>\r\nRSET\r\n");
    client_expect(fd, "250 556 250");
    to_a_host = true;
    client_send(fd, "MAIL FROM:<a@null.example>\r\nMAIL FROM:<a@open.example>\r\nRCPT TO:<a@null.example>\r\n");
    client_expect(fd, "550 250 250");
    close(fd);
    stop();
}

/* Who is refused anyway is not asked about. */
static void test_refused_without_asking(void **state)
{
    (void)state;
    set_up(true, true);
    struct config_network elsewhere = {.address = {[10] = 0xff, 0xff, 192, 0, 2}, .prefix_bits = 120};
    fixture.listener.relay_networks.items = &elsewhere;
    start();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<>\r\nRCPT TO:<a@null.example>\r\n");
    expect_reply(fd, "250 ");
    expect_reply(fd, "550 5.7.1 ");
    assert_int_equal(asked_count, 0);
    close(fd);
    stop();
}

static void test_silence_is_no_refusal(void **state)
{
    (void)state;
    set_up(true, true);
    fixture.listener.timeouts.lookup_ms = 100;
    start();
    int fd = client_ready();
    uint64_t began_ms = clock_ms();
    client_send(fd, "MAIL FROM:<a@silent.example>\r\nRCPT TO:<a@silent.example>\r\nDATA\r\n" BODY);
    client_expect(fd, "250 250 354 250");
    assert_in_range(clock_ms() - began_ms, 200, 4000);
    assert_int_equal(cancelled_count, 2);
    close(fd);
    stop();
}

static void test_gone_while_waiting(void **state)
{
    (void)state;
    set_up(true, false);
    start();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@silent.example>\r\n");
    WAIT_FOR(waiting_count == 1);
    client_reset(fd);
    WAIT_FOR(now.sessions == 0);
    assert_int_equal(cancelled_count, 1);
    fd = client_ready();
    client_send(fd, "MAIL FROM:<a@silent.example>\r\n");
    WAIT_FOR(waiting_count == 1);
    stop();
    close(fd);
    assert_int_equal(cancelled_count, 2);
}

#define WAITERS 40
#define COMMITTERS 12

/* Each session that waits keeps a receive buffer. When these are short, nobody begins to wait, and those who do are let
 * go on. */
static void test_buffers_are_short(void **state)
{
    (void)state;
    set_up(true, false);
    fixture.receive_buffers = 64;
    start();
    int fds[WAITERS + COMMITTERS];
    for (unsigned i = 0; i < WAITERS; i++) {
        fds[i] = client_ready();
        client_send(fds[i], "MAIL FROM:<a@silent.example>\r\n");
        WAIT_FOR(waiting_count == i + 1);
    }
    fixture_hold(true);
    for (unsigned i = WAITERS; i < WAITERS + COMMITTERS; i++) {
        fds[i] = client_ready();
        client_send(fds[i], TRANSACTION BODY "NOOP\r\n"); /* the NOOP stays unread */
        client_expect(fds[i], "250 250 354");
    }
    client_expect(fds[0], "250"); /* who waits longest goes first */
    WAIT_FOR(now.buffers_free >= 16);
    assert_in_range(waiting_count, 1, WAITERS - 1);
    fixture_hold(false);
    for (unsigned i = 0; i < WAITERS + COMMITTERS; i++) {
        client_reset(fds[i]);
    }
    WAIT_FOR(now.sessions == 0 && now.buffers_free == 64 && waiting_count == 0);
    stop();
}

/* Who comes when they are short already does not wait at all. */
static void test_buffers_are_short_already(void **state)
{
    (void)state;
    set_up(true, false);
    fixture.receive_buffers = 64;
    start();
    int fds[56];
    for (unsigned i = 0; i < 56; i++) {
        fds[i] = client_ready();
        client_send(fds[i], "MAIL FROM:<a@silent.example>\r\n");
    }
    client_expect(fds[55], "250");
    assert_in_range(waiting_count, 40, 50);
    for (unsigned i = 0; i < 56; i++) {
        client_reset(fds[i]);
    }
    WAIT_FOR(now.sessions == 0 && now.buffers_free == 64 && waiting_count == 0);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_not_asked),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_refused_without_asking),
        cmocka_unit_test(test_silence_is_no_refusal),
        cmocka_unit_test(test_gone_while_waiting),
        cmocka_unit_test(test_buffers_are_short),
        cmocka_unit_test(test_buffers_are_short_already),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
