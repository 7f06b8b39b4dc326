/* Delivery against hosts that behave, that refuse, and that break off wherever they can. */
#include "delivery_rig.h"

/* --- hosts that take everything ----------------------------------------------------------------------------------- */

static void everything_is_delivered(unsigned shards, unsigned first, unsigned count)
{
    struct host *host = begin(shards, NULL);
    rig.settings.first_shard = first;
    rig.settings.shard_count = count;
    rig_run();
    rig_mails(60, "a.test*3 b.test c.test");
    rig_mail((struct letter){.domains = "a.test", .bytes = 3000000});
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    assert_true(host->open_most <= 4);
    rig_end();
}

static void test_delivered(void **state)
{
    (void)state;
    everything_is_delivered(1, 0, 1);
}

static void test_delivered_by_two_shards(void **state)
{
    (void)state;
    everything_is_delivered(2, 0, 2);
}

static void test_delivered_by_another_shard(void **state)
{
    (void)state;
    everything_is_delivered(2, 1, 1);
}

/* Domains whose site belongs to the other shard move there, and their retries with them. */
static const char *first_is_deferred(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    return at == AT_MAIL && talk->number == 1 && talk->transactions == 1 ? "450 4.2.0 not now" : NULL;
}

static void test_forwarded_between_shards(void **state)
{
    (void)state;
    static char domains[16][16];
    rig_init(2);
    struct host *host = host_new(first_is_deferred);
    rig_route("*", NULL);
    for (unsigned i = 0; i < 16; i++) {
        snprintf(domains[i], sizeof domains[i], "d%u.test", i);
        rig_name((struct name){
            .domain = domains[i], .class = MX_HOSTS, .host_count = 1, .hosts = {host}, .delay_ms = i % 3 * 10});
    }
    rig_run();
    for (unsigned i = 0; i < 16; i++) {
        rig_mails(5, domains[i]);
    }
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

/* --- hosts that end every connection ------------------------------------------------------------------------------ */

static const char *says_421_at_mail(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    return at == AT_MAIL ? "!421 4.7.0 too busy" : NULL;
}

static const char *closes_after_ehlo(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    return at == AT_EHLO ? "!250 host" : NULL;
}

static const char *says_421_after_ehlo(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    return at == AT_EHLO ? "!250 host\r\n421 4.7.0 go away" : NULL;
}

static const char *closes_at_data(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    return at == AT_DATA ? TALK_CLOSE : NULL;
}

static const char *closes_at_dot(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    return at == AT_DOT ? TALK_CLOSE : NULL;
}

/* A host, and the domain "d<its number>.test" that it takes mail for. */
static struct host *add_host(host_script *script)
{
    static char domains[RIG_HOSTS][16];
    char *domain = domains[rig.host_count];
    snprintf(domain, sizeof domains[0], "d%u.test", rig.host_count);
    struct host *host = host_new(script);
    rig_names_host(domain, host);
    rig_route(domain, domain);
    return host;
}

static const char *domain_of(const struct host *host)
{
    static char domain[16];
    snprintf(domain, sizeof domain, "d%u.test", (unsigned)(host - rig.hosts));
    return domain;
}

/* Half a second of it, while 20 messages wait: some connections, not hundreds; then all is well. */
static void test_useless_hosts(void **state)
{
    (void)state;
    static host_script *const scripts[] = {closes_at_greeting, closes_after_ehlo, says_421_after_ehlo, closes_at_mail,
                                           says_421_at_mail,   closes_at_data,    closes_at_dot};
    struct host *hosts[sizeof scripts / sizeof scripts[0]];
    begin(1, NULL);
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        hosts[i] = add_host(scripts[i]);
    }
    rig_run();
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        rig_mails(20, domain_of(hosts[i]));
    }
    usleep(300000);
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        assert_in_range(hosts[i]->connections, 1, 8);
        hosts[i]->script = NULL;
    }
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

/* One message per connection, the next one is cut off: progress, and nobody is deferred. */
static const char *one_per_connection(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    return at == AT_MAIL && talk->transactions > 1 ? TALK_CLOSE : NULL;
}

static void test_one_message_per_connection(void **state)
{
    (void)state;
    struct host *host = begin(1, one_per_connection);
    rig_run();
    rig_mails(40, "a.test");
    rig_settle();
    assert_in_range(host->connections, 30, 60);
    for (unsigned i = 0; i < rig.recipients; i++) {
        assert_int_equal(rig.deferrals[i], 0);
    }
    rig_end();
}

/* --- hosts that stall --------------------------------------------------------------------------------------------- */

static void test_timeouts(void **state)
{
    (void)state;
    static const struct {
        enum talk_at at;
        size_t bytes;
        const char *text;
    } cases[] = {
        {AT_GREETING, 0, "timed out waiting for the greeting"},
        {AT_EHLO, 0, "timed out waiting for the reply to EHLO"},
        {AT_MAIL, 0, "timed out waiting for the reply to MAIL"},
        {AT_RCPT, 0, "timed out waiting for the reply to RCPT"},
        {AT_DATA, 0, "timed out waiting for the reply to DATA"},
        {AT_BODY, 20000000, "timed out sending the message"},
        {AT_DOT, 0, "timed out waiting for the reply to the final dot; the message may arrive twice"},
    };
    unsigned numbers[sizeof cases / sizeof cases[0]];
    begin(1, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stall_at[add_host(stalls) - rig.hosts] = cases[i].at;
    }
    for (unsigned phase = 0; phase < SMTP_CLIENT_PHASE_COUNT; phase++) {
        rig.settings.timeouts.phase_ms[phase] = 500;
    }
    rig_run();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        numbers[i] = rig_mail((struct letter){.domains = domain_of(&rig.hosts[i + 1]), .bytes = cases[i].bytes});
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        wait_deferred(numbers[i]);
        assert_string_equal(rig.first_text[numbers[i]], cases[i].text);
        rig.hosts[i + 1].script = NULL;
    }
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

/* Reads a little now and then. */
static const char *sips(struct talk *talk, enum talk_at at, const char *line)
{
    char bytes[40000];
    (void)line;
    while (at == AT_BODY && recv(talk->fd, bytes, sizeof bytes, 0) > 0) {
        usleep(20000);
    }
    return at == AT_BODY ? TALK_CLOSE : NULL;
}

static void test_a_body_that_takes_too_long(void **state)
{
    (void)state;
    struct host *host = begin(1, sips);
    rig.settings.timeouts.phase_ms[SMTP_CLIENT_PHASE_BODY] = 2000;
    rig.settings.timeouts.message_ms = 4000;
    rig_run();
    uint64_t began_ms = clock_monotonic_ms();
    unsigned number = rig_mail((struct letter){.domains = "a.test", .bytes = 24u << 20});
    wait_deferred(number);
    assert_in_range(clock_monotonic_ms() - began_ms, 3900, 9000);
    assert_string_equal(rig.first_text[number], "timed out sending the message");
    host->script = NULL;
    rig_settle();
    assert_int_equal(rig.status[number], SPOOL_FORMAT_DELIVERED);
    rig_end();
}

static _Atomic enum talk_at wait_at; /* AT_GREETING: nowhere */

static const char *waits(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    while (at == wait_at && at != AT_GREETING && !talk->host->ending) {
        usleep(10000);
    }
    return NULL;
}

static void look_lent(struct shard *shard, void *context)
{
    (void)shard;
    *(unsigned *)context = rig_lent();
}

static bool lent_is(void *context)
{
    unsigned lent = 0;
    shard_call(rig.group, rig.owner, look_lent, &lent);
    return lent == *(unsigned *)context;
}

/* While a host lets us wait, what it was to get lies in memory, and not in a segment that nobody else may use. */
static void wait_for_copies(enum talk_at at, unsigned count, const struct letter *letters, unsigned still_lent)
{
    wait_at = at;
    begin(2, waits);
    rig.settings.copy_after_ms = 100;
    rig.settings.copy_memory_max = 1u << 20;
    rig_run();
    for (unsigned i = 0; i < count; i++) {
        rig_mail(letters[i]);
    }
    usleep(500000); /* so that all of them are on their way */
    assert_true(comes(lent_is, &still_lent, 2000));
    assert_int_equal(rig.finished, 0);
    wait_at = AT_GREETING;
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

static void test_copied_before_the_body(void **state)
{
    (void)state;
    const struct letter letters[] = {
        {.domains = "a.test", .bytes = 20000},
        {.domains = "a.test b.test c.test", .sender = ""},
        {.domains = "a.test", .bytes = 5000, .eight_bit = true},
        {.domains = "a.test", .bytes = 300000}, /* in two parts, and they stay */
    };
    wait_for_copies(AT_DATA, 4, letters, 2);
}

static void test_copied_behind_the_body(void **state)
{
    (void)state;
    const struct letter letters[] = {
        {.domains = "a.test", .bytes = 20000},
        {.domains = "a.test b.test c.test", .sender = ""},
        {.domains = "a.test", .bytes = 300000},
        {.domains = "a.test", .bytes = 3u << 20},
    };
    wait_for_copies(AT_DOT, 4, letters, 0);
}

static bool is_final(void *context)
{
    return rig.finals[*(unsigned *)context] != 0;
}

/* Reads no body, and talks instead. */
static const char *babbles(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    if (at != AT_BODY) {
        return NULL;
    }
    usleep(200000); /* right behind the 354 it would end the connection */
    while (!talk->host->ending && talk->host->script != NULL) {
        if (send(talk->fd, "250 ok\r\n", 8, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
            break;
        }
        usleep(5000);
    }
    return TALK_CLOSE;
}

/* Hosts that read nothing and have much to say: they must not keep the receive buffers that others need. */
static void test_hoarding(void **state)
{
    (void)state;
    char domains[RIG_HOSTS * 16];
    struct buffer list = buffer_of(domains, sizeof domains - 1);
    begin(1, NULL);
    while (rig.host_count < RIG_HOSTS) {
        CHECK(buffer_append_format(&list, "%s%s", list.length != 0 ? " " : "", domain_of(add_host(babbles))));
    }
    domains[list.length] = '\0';
    rig.settings.timeouts.phase_ms[SMTP_CLIENT_PHASE_BODY] = 30000;
    rig_run();
    for (unsigned i = 0; i < 4; i++) {
        rig_mail((struct letter){.domains = domains, .bytes = 8u << 20});
    }
    usleep(1500000);
    unsigned number = rig_mail((struct letter){.domains = "a.test"});
    unsigned delivered = number;
    assert_true(comes(is_final, &delivered, 2900));
    assert_int_equal(rig.deferrals[number], 0);
    for (unsigned i = 1; i < rig.host_count; i++) {
        rig.hosts[i].script = NULL;
    }
    rig.may_leave = true; /* 480 MB that nobody needs */
    rig_end();
}

static void test_quit_without_an_answer(void **state)
{
    (void)state;
    begin(1, stalls);
    rig.settings.timeouts.idle_ms = 100;
    rig.settings.timeouts.phase_ms[SMTP_CLIENT_PHASE_QUIT] = 200;
    stall_at[0] = AT_QUIT;
    rig_run();
    rig_mails(3, "a.test");
    rig_settle();
    rig_end();
}

/* --- bodies ------------------------------------------------------------------------------------------------------- */

static _Atomic unsigned bodies;

static const char *breaks_the_first_body(struct talk *talk, enum talk_at at, const char *line)
{
    char bytes[100000];
    (void)line;
    if (at == AT_BODY && bodies++ == 0) {
        for (size_t length = 0; length < 3000000;) {
            ssize_t n = recv(talk->fd, bytes, sizeof bytes, 0);
            length += n > 0 ? (size_t)n : length;
        }
        return TALK_CLOSE;
    }
    return NULL;
}

static const char *refuses_during_body(struct talk *talk, enum talk_at at, const char *line)
{
    char bytes[100000];
    (void)line;
    if (at == AT_BODY) {
        for (size_t length = 0; length < 1000000;) {
            ssize_t n = recv(talk->fd, bytes, sizeof bytes, 0);
            length += n > 0 ? (size_t)n : length;
        }
        return "!552 5.3.4 too large for me";
    }
    return NULL;
}

/* A reply that no honest host can give: the message is not there yet. */
static const char *accepts_during_body(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    char bytes[100000];
    if (at == AT_BODY && bodies++ == 0) {
        recv(talk->fd, bytes, sizeof bytes, 0);
        loopback_write(talk->fd, "250 2.0.0 kept\r\n", 16);
        usleep(50000);
        return TALK_CLOSE;
    }
    return NULL;
}

static void test_body_is_cut_off(void **state)
{
    (void)state;
    struct host *host = begin(1, breaks_the_first_body);
    bodies = 0;
    rig_run();
    unsigned number = rig_mail((struct letter){.domains = "a.test", .bytes = 50u << 20});
    wait_deferred(number);
    assert_string_equal(rig.first_text[number], "lost the connection while sending the message");
    rig_settle();
    assert_in_range(host->last_body_bytes, 50u << 20, (50u << 20) + 1000);
    rig_end();
}

static void test_body_is_refused_early(void **state)
{
    (void)state;
    struct host *host = begin(1, refuses_during_body);
    rig_run();
    unsigned number = rig_mail((struct letter){.domains = "a.test", .bytes = 20u << 20, .sender = ""});
    rig_settle();
    print_message("        %s\n", rig.text[number]);
    (void)host;
    rig_end();
}

static void test_body_is_accepted_too_early(void **state)
{
    (void)state;
    begin(1, accepts_during_body);
    bodies = 0;
    rig_run();
    unsigned number = rig_mail((struct letter){.domains = "a.test", .bytes = 20u << 20});
    wait_deferred(number);
    rig_settle();
    assert_int_equal(rig.status[number], SPOOL_FORMAT_DELIVERED);
    rig_end();
}

static const char *no_8bitmime(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    if (at == AT_DOT && talk->eight_bit) {
        return "554 5.6.3 eight bits";
    }
    return at == AT_EHLO ? "250-host\r\n250 PIPELINING" : NULL;
}

static void test_converted(void **state)
{
    (void)state;
    begin(1, no_8bitmime);
    rig_run();
    for (unsigned i = 0; i < 20; i++) {
        rig_mail((struct letter){.domains = "a.test*2", .bytes = i * 50000, .eight_bit = true});
    }
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

/* --- recipients --------------------------------------------------------------------------------------------------- */

static const char *three_at_a_time(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    return at == AT_RCPT && talk->accepted_count == 3 ? "452 4.5.3 too many recipients" : NULL;
}

static const char *announces_limits(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    if (at == AT_MAIL && talk->transactions > 2) {
        return "451 4.7.0 I had said MAILMAX=2";
    }
    if (at == AT_RCPT && talk->recipients > 2) {
        return "550 5.5.3 I had said RCPTMAX=2";
    }
    return at == AT_EHLO ? "250-host\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=2 RCPTMAX=2 RCPTDOMAINMAX=1" : NULL;
}

static void test_excess_recipients(void **state)
{
    (void)state;
    begin(1, three_at_a_time);
    rig_run();
    rig_mails(4, "a.test*10");
    rig_settle();
    for (unsigned i = 0; i < rig.recipients; i++) {
        assert_int_equal(rig.deferrals[i], 0);
    }
    rig_end();
}

static void test_limits(void **state)
{
    (void)state;
    begin(1, announces_limits);
    rig_run();
    uint64_t begin_ms = clock_monotonic_ms();
    rig_mails(6, "a.test*3 b.test c.test*2 a.test");
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    assert_in_range(clock_monotonic_ms() - begin_ms, 0, 900);
    rig_end();
}

static void test_mixed_recipients(void **state)
{
    (void)state;
    struct host *host = begin(2, mixed_recipients);
    rig_run();
    rig_mails(10, "a.test*8");
    rig_settle();
    for (unsigned i = 0; i < rig.recipients; i++) {
        assert_int_equal(rig.status[i], i % 4 == 1 ? SPOOL_FORMAT_FAILED : SPOOL_FORMAT_DELIVERED);
    }
    unsigned rounds = 0;
    assert_true(comes(is_quiet, &rounds, RIG_PATIENCE_MS));
    assert_int_equal(host->notices, 20); /* each refusal is told when it comes */
    rig_end();
}

/* --- DNS ---------------------------------------------------------------------------------------------------------- */

static void test_dns_refuses(void **state)
{
    (void)state;
    rig_init(1);
    struct host *host = host_new(NULL);
    rig_route("*", NULL);
    rig_names_host("sender.test", host);
    rig_name((struct name){.domain = "null.test", .class = MX_NULL});
    rig_name((struct name){.domain = "gone.test", .class = MX_NO_DOMAIN, .delay_ms = 20});
    rig_run();
    rig_mail((struct letter){.domains = "null.test*250 gone.test*250"});
    for (unsigned i = 0; i < 300; i++) {
        rig_mail((struct letter){.domains = i % 2 != 0 ? "null.test" : "gone.test", .sender = ""});
    }
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_FAILED));
    rig_end();
}

static void test_dns_recovers(void **state)
{
    (void)state;
    rig_init(1);
    struct host *host = host_new(NULL);
    rig_route("*", NULL);
    rig_names_host("sender.test", host);
    rig_name((struct name){.domain = "a.test", .class = MX_TEMPORARY, .ttl_ms = 100});
    rig_run();
    unsigned first = rig_mails(5, "a.test");
    wait_deferred(first);
    rig_names_host("a.test", host);
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

/* The name of a configured host: not found while its messages expire, or are removed, under the lookup. */
static void test_dns_ends_the_last_recipient(void **state)
{
    (void)state;
    struct host *host = begin(1, NULL);
    (void)host;
    rig_name((struct name){.domain = "broken", .class = MX_TEMPORARY, .ttl_ms = 100, .delay_ms = 300});
    rig_route("broken.test", "broken");
    rig.queue.expire_ms = 5000;
    rig_run();
    rig_mail((struct letter){.domains = "broken.test", .sender = ""});
    usleep(50000);
    rig_wall_offset_ms = 6000;
    rig_settle();
    assert_int_equal(rig.status[0], SPOOL_FORMAT_EXPIRED);
    rig_end();
}

/* Its name expires and cannot be found again, while it is busy: the addresses known so far serve on, without a spin. */
static const char *very_slow_dot(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    if (at == AT_DOT) {
        usleep(200000);
    }
    return NULL;
}

static void count_enters(struct shard *shard, void *context)
{
    *(uint64_t *)context = ring_counters(shard->ring)->enters;
}

static void test_dns_fails_under_load(void **state)
{
    (void)state;
    struct host *host = begin(1, very_slow_dot);
    rig_name((struct name){.domain = "host", .class = MX_HOSTS, .host_count = 1, .hosts = {host}, .ttl_ms = 100});
    rig_run();
    rig_mails(30, "a.test");
    rig_name((struct name){.domain = "host", .class = MX_TEMPORARY, .ttl_ms = 5000});
    usleep(100000);
    rig_mail((struct letter){.domains = "a.test"});
    uint64_t before = 0;
    uint64_t after = 0;
    shard_call(rig.group, 0, count_enters, &before);
    usleep(300000);
    shard_call(rig.group, 0, count_enters, &after);
    assert_in_range(after - before, 0, 1000);
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

/* --- several hosts, limits of connections ------------------------------------------------------------------------- */

static const char *refuses_greeting(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    return at == AT_GREETING ? "!554 5.7.0 not you" : NULL;
}

static void test_second_host(void **state)
{
    (void)state;
    rig_init(1);
    struct host *refusing = host_new(refuses_greeting);
    struct host *silent = host_new(closes_at_greeting);
    struct host *good = host_new(NULL);
    struct host dead = {.address = good->address};
    dead.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 99); /* nobody listens */
    rig_route("*", NULL);
    rig_name((struct name){
        .domain = "a.test", .class = MX_HOSTS, .host_count = 4, .hosts = {&dead, refusing, silent, good}});
    rig_run();
    rig_mails(10, "a.test*2");
    rig_settle();
    assert_true(refusing->connections != 0 && silent->connections != 0);
    for (unsigned i = 0; i < rig.recipients; i++) {
        assert_int_equal(rig.deferrals[i], 0);
    }
    rig_end();
}

/* The second connection is refused while the first works, and then the first one ends. */
static const char *one_connection_only(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    if (at == AT_DOT) {
        usleep(20000);
    }
    return at == AT_GREETING && talk->number == 2 ? "!421 4.7.0 one is enough" : NULL;
}

static void test_refused_beside_a_working_one(void **state)
{
    (void)state;
    begin(1, one_connection_only);
    rig.routes[0].connections_max = 2;
    rig.routes[0].messages_per_connection_max = 5;
    rig_run();
    rig_mails(12, "a.test");
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

/* All sites together may have two connections; idle ones of one site make room for another. */
static void test_connections_of_all_sites(void **state)
{
    (void)state;
    begin(1, NULL);
    rig.settings.connections_max = 2;
    rig.settings.timeouts.idle_ms = 60000;
    for (unsigned i = 0; i < 8; i++) {
        add_host(NULL);
    }
    rig_run();
    for (unsigned i = 0; i < 40; i++) {
        rig_mail((struct letter){.domains = domain_of(&rig.hosts[1 + i % 8])});
    }
    rig_settle();
    usleep(50000);
    rig_mails(2, "d1.test d3.test d7.test");
    rig_settle();
    assert_true(all_have_status(0, rig.recipients, SPOOL_FORMAT_DELIVERED));
    rig_end();
}

int main(void)
{
    cmocka_set_test_filter(getenv("ONLY"));
    const struct CMUnitTest tests[] = {
        TEST(test_delivered),
        TEST(test_delivered_by_two_shards),
        TEST(test_delivered_by_another_shard),
        TEST(test_forwarded_between_shards),
        TEST(test_useless_hosts),
        TEST(test_one_message_per_connection),
        TEST(test_timeouts),
        TEST(test_a_body_that_takes_too_long),
        TEST(test_copied_before_the_body),
        TEST(test_copied_behind_the_body),
        TEST(test_hoarding),
        TEST(test_quit_without_an_answer),
        TEST(test_body_is_cut_off),
        TEST(test_body_is_refused_early),
        TEST(test_body_is_accepted_too_early),
        TEST(test_converted),
        TEST(test_excess_recipients),
        TEST(test_limits),
        TEST(test_mixed_recipients),
        TEST(test_dns_refuses),
        TEST(test_dns_recovers),
        TEST(test_dns_ends_the_last_recipient),
        TEST(test_dns_fails_under_load),
        TEST(test_second_host),
        TEST(test_refused_beside_a_working_one),
        TEST(test_connections_of_all_sites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
