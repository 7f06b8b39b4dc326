/* The driver against a client on a real socket. */
#include "inbound_fixture.h"

#include "inbound/accounts.h"
#include "sasl/mechanism.h"

static void set_up(void)
{
    fixture_defaults();
}

static struct stored stored_copy[4];

static void copy_stored(struct shard *shard, void *context)
{
    (void)context;
    memcpy(stored_copy, shard->spool->stored, sizeof stored_copy);
}

static void expect_body(unsigned index, const char *body)
{
    fixture_look(0, copy_stored, NULL);
    struct stored *stored = &stored_copy[index];
    assert_int_equal(stored->length - stored->prologue_length, strlen(body));
    assert_memory_equal(stored->data + stored->prologue_length, body, strlen(body));
}

static void test_dialogue(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    int fd = client_connect();
    char line[600];
    assert_int_equal(client_reply_text(fd, line, sizeof line), 220);
    assert_string_equal(line, "220 mx.example.com ESMTP test\r\n");
    client_send(fd, "EHLO client.example\r\n");
    client_expect(fd, "250");
    client_send(fd, "MAIL FROM:<a@example.com>\r\n");
    client_expect(fd, "250");
    client_send(fd, "RCPT TO:<B@Example.ORG>\r\n");
    client_expect(fd, "250");
    client_send(fd, "DATA\r\n");
    client_expect(fd, "354");
    client_send(fd, BODY);
    assert_int_equal(client_reply_text(fd, line, sizeof line), 250);
    assert_string_equal(line, "250 2.0.0 queued as 0000000000000001\r\n");
    client_send(fd, "QUIT\r\n");
    client_expect(fd, "221");
    assert_true(client_at_end(fd));
    close(fd);
    expect_body(0, BODY);
    const char *prologue = stored_copy[0].data;
    const char *start = "Received: from client.example ([127.0.0.1])\r\n\tby mx.example.com with ESMTP id "
                        "0000000000000001\r\n\tfor <B@example.org>;\r\n\t";
    assert_memory_equal(prologue, start, strlen(start));
    assert_int_equal(stored_copy[0].recipients, 1);
    assert_int_equal(stored_copy[0].flags, SPOOL_FORMAT_DOT_FREE);
    assert_memory_equal(stored_copy[0].envelope,
                        "\1\0\15\0a@example.com\3\0\4\0\177\0\0\1\4\0\16\0client.example\2\0\15\0B@example.org", 64);
    WAIT_FOR(now.sessions == 0);
    struct snapshot now = snapshot_of(0);
    assert_int_equal(now.enqueued, 1);
    assert_int_equal(now.accepted, 1);
    assert_int_equal(now.commands, 5); /* EHLO MAIL RCPT DATA QUIT: the reply to the dot is DATA's */
    assert_int_equal(now.replies_taken, 0);
    assert_int_equal(now.body_memory, 0);
    fixture_stop();
}

static void test_pipelined(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    int fd = client_ready();
    client_send(fd, TRANSACTION BODY TRANSACTION "second\r\n.\r\n"
                                                 "NOOP\r\nQUIT\r\n");
    client_expect(fd, "250 250 354 250 250 250 354 250 250 221");
    assert_true(client_at_end(fd));
    close(fd);
    expect_body(0, BODY);
    expect_body(1, "second\r\n.\r\n");
    fixture_stop();
}

static void test_many_replies(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    int fd = client_ready();
    for (unsigned i = 0; i < 100; i++) {
        client_send(fd, "NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n");
    }
    for (unsigned i = 0; i < 1000; i++) {
        client_expect(fd, "250");
    }
    client_send(fd, TRANSACTION BODY "QUIT\r\n");
    client_expect(fd, "250 250 354 250 221");
    close(fd);
    fixture_stop();
}

#define WHOLE "EHLO client.example\r\n" TRANSACTION "Subject: x\r\n\r\n..\r\n.\r\nRSET\r\nQUIT\r\n"

static void test_split_at_each_byte(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    size_t length = strlen(WHOLE);
    for (size_t cut = 1; cut < length; cut++) {
        int fd = client_connect();
        client_send_bytes(fd, WHOLE, cut);
        pause_ms(1);
        client_send_bytes(fd, WHOLE + cut, length - cut);
        client_expect(fd, "220 250 250 250 354 250 250 221");
        assert_true(client_at_end(fd));
        close(fd);
    }
    expect_body(0, "Subject: x\r\n\r\n..\r\n.\r\n");
    WAIT_FOR(now.sessions == 0);
    assert_int_equal(snapshot_of(0).stored, length - 1);
    fixture_stop();
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    int fd = client_connect();
    for (const char *at = WHOLE; *at != '\0'; at++) {
        client_send_bytes(fd, at, 1);
        pause_ms(1);
    }
    client_expect(fd, "220 250 250 250 354 250 250 221");
    close(fd);
    expect_body(0, "Subject: x\r\n\r\n..\r\n.\r\n");
    fixture_stop();
}

/* Whatever the client has said when it goes, and however it goes, nothing is left of it; and nothing was accepted. */
static void test_disconnect_at_each_phase(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    const char *whole = "EHLO client.example\r\n" TRANSACTION "Subject: x\r\n\r\nmore than nothing\r\n.\r";
    for (size_t cut = 0; cut <= strlen(whole); cut += 3) {
        for (unsigned way = 0; way < 3; way++) {
            int fd = client_connect();
            client_send_bytes(fd, whole, cut);
            if (way == 0) {
                close(fd);
            } else if (way == 1) {
                client_reset(fd);
            } else {
                shutdown(fd, SHUT_WR);
                while (client_reply(fd) > 0) {
                }
                close(fd);
            }
        }
    }
    WAIT_FOR(now.sessions == 0 && now.receptions == 0);
    struct snapshot now = snapshot_of(0);
    assert_int_equal(now.stored, 0);
    assert_int_equal(now.replies_taken, 0);
    assert_int_equal(now.body_memory, 0);
    assert_int_equal(now.buffers_free, fixture.receive_buffers);
    fixture_stop();
}

/* The final dot has come: from here on the message is accepted, whoever is still there to hear it. */
static void test_disconnect_during_commit(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    for (unsigned way = 0; way < 2; way++) {
        fixture_hold(true);
        int fd = client_ready();
        client_send(fd, TRANSACTION BODY);
        client_expect(fd, "250 250 354");
        pause_ms(20);
        if (way == 0) {
            client_reset(fd);
            WAIT_FOR(now.sessions == 0);
            assert_int_equal(snapshot_of(0).receptions, 1);
        } else {
            shutdown(fd, SHUT_WR);
            pause_ms(20);
        }
        assert_int_equal(snapshot_of(0).enqueued, way);
        fixture_hold(false);
        WAIT_FOR(now.enqueued == way + 1 && now.receptions == 0);
        if (way == 1) {
            client_expect(fd, "250"); /* only its sending half was closed */
            assert_true(client_at_end(fd));
            close(fd);
        }
    }
    fixture_stop();
}

static void test_input_waits_for_the_commit(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    fixture_hold(true);
    int fd = client_ready();
    client_send(fd, TRANSACTION BODY TRANSACTION "second\r\n.\r\nQUIT\r\n");
    client_expect(fd, "250 250 354");
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, 100), 0); /* no 250 before the commit */
    fixture_hold(false);
    client_expect(fd, "250 250 250 354 250 221");
    close(fd);
    fixture_stop();
}

static void test_relaxed(void **state)
{
    (void)state;
    set_up();
    fixture.listener.durability = INBOUND_RELAXED;
    fixture_start();
    int fd = client_ready();
    char line[600];
    client_send(fd, TRANSACTION BODY);
    client_expect(fd, "250 250 354");
    assert_int_equal(client_reply_text(fd, line, sizeof line), 250);
    assert_string_equal(line, "250 2.0.0 queued (relaxed durability) as 0000000000000001\r\n");
    close(fd);
    fixture_look(0, copy_stored, NULL);
    assert_int_equal(stored_copy[0].flags, SPOOL_FORMAT_DOT_FREE | SPOOL_FORMAT_RELAXED);
    fixture_stop();
}

static void test_refusals(void **state)
{
    (void)state;
    set_up();
    struct config_network elsewhere = {.address = {[10] = 0xff, 0xff, 192, 0, 2}, .prefix_bits = 120};
    fixture.listener.relay_networks.items = &elsewhere;
    fixture_start();
    int fd = client_ready();
    client_send(fd,
                "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<Postmaster>\r\nDATA\r\nx\r\n.\r\n");
    char line[600];
    client_expect(fd, "250");
    assert_int_equal(client_reply_text(fd, line, sizeof line), 550);
    assert_memory_equal(line, "550 5.7.1 ", 10);
    client_expect(fd, "250 354 250");
    fixture_look(0, copy_stored, NULL);
    assert_int_equal(stored_copy[0].recipients, 1);
    assert_memory_equal(stored_copy[0].envelope + stored_copy[0].envelope_length - 25, "Postmaster@mx.example.com", 25);
    static const struct {
        enum spool_intake intake;
        bool queue_full;
        const char *codes;
    } cases[] = {
        {SPOOL_INTAKE_FULL, false, "452"}, {SPOOL_INTAKE_OPEN, true, "452"}, {SPOOL_INTAKE_OPEN, false, "250"}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture_intake(cases[i].intake);
        fixture_queue_full = cases[i].queue_full;
        client_send(fd, "MAIL FROM:<>\r\n");
        client_expect(fd, cases[i].codes);
    }
    client_send(fd, "RSET\r\n");
    client_expect(fd, "250");
    fixture_intake(SPOOL_INTAKE_FAILED);
    client_send(fd, "MAIL FROM:<>\r\n");
    client_expect(fd, "421");
    assert_true(client_at_end(fd));
    close(fd);
    fixture_stop();
}

/* Who lies about SIZE, or does not say it, is found out at the dot; nothing is left of it, and the next one is taken.
 */
static void test_size_for_a_priority(void **state)
{
    (void)state;
    set_up();
    fixture.listener.extensions |= SMTP_SERVER_MT_PRIORITY | SMTP_SERVER_CHUNKING;
    fixture.listener.priorities.low_bytes_max = 20;
    fixture_start();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com> MT-PRIORITY=-1 SIZE=21\r\n"
                    "MAIL FROM:<a@example.com> MT-PRIORITY=-1 SIZE=20\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" BODY
                    "RCPT TO:<b@example.org>\r\n"
                    "MAIL FROM:<a@example.com> MT-PRIORITY=-1\r\nRCPT TO:<b@example.org>\r\n"
                    "BDAT 12\r\n0123456789\r\nBDAT 12 LAST\r\n0123456789\r\n");
    client_expect(fd, "552 250 250 354 552 503 250 250 250 552");
    client_send(fd, "MAIL FROM:<a@example.com> MT-PRIORITY=-1\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
                    "0123456789\r\n.\r\n" TRANSACTION BODY);
    client_expect(fd, "250 250 354 250 250 250 354 250");
    WAIT_FOR(now.receptions == 0);
    assert_int_equal(snapshot_of(0).stored, 2);
    assert_int_equal(snapshot_of(0).rejected, 2);
    assert_int_equal(snapshot_of(0).body_memory, 0);
    fixture_queue_busy = true; /* nobody has asked for anything to be refused then */
    client_send(fd, "MAIL FROM:<a@example.com> MT-PRIORITY=-9\r\n");
    client_expect(fd, "250");
    close(fd);
    fixture_stop();
}

static void test_failed_commit(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    int fd = client_ready();
    static const struct {
        enum err err;
        const char *codes;
    } cases[] = {{ERR_NO_SPACE, "250 250 354 452"},
                 {ERR_IO, "250 250 354 451"},
                 {ERR_CLOSED, "250 250 354 451"},
                 {ERR_OK, "250 250 354 250"}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture_errors(cases[i].err);
        client_send(fd, TRANSACTION BODY);
        client_expect(fd, cases[i].codes);
    }
    close(fd);
    struct snapshot now = snapshot_of(0);
    assert_int_equal(now.enqueued, 1);
    assert_int_equal(now.rejected, 3);
    fixture_stop();
}

static void test_reset_forgets(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<lost@example.org>\r\nRSET\r\n" TRANSACTION BODY);
    client_expect(fd, "250 250 250 250 250 354 250");
    client_send(fd, TRANSACTION "bare\nline feed\r\n.\r\n" TRANSACTION BODY);
    client_expect(fd, "250 250 354 550 250 250 354 250");
    close(fd);
    WAIT_FOR(now.receptions == 0);
    fixture_look(0, copy_stored, NULL);
    assert_int_equal(snapshot_of(0).stored, 2);
    assert_int_equal(stored_copy[0].recipients, 1);
    assert_int_equal(stored_copy[1].recipients, 1);
    fixture_stop();
}

/* What a client sends behind its QUIT is read and thrown away: closing over it would be a reset, which may overtake the
 * replies. */
static void test_input_after_quit(void **state)
{
    (void)state;
    set_up();
    fixture_start();
    static char rest[100 * 1024];
    memset(rest, 'x', sizeof rest);
    int fd = client_ready();
    client_send(fd, TRANSACTION BODY "QUIT\r\n");
    client_send_bytes(fd, rest, sizeof rest);
    pause_ms(50);
    client_send_bytes(fd, rest, sizeof rest);
    client_expect(fd, "250 250 354 250 221");
    char c;
    assert_int_equal(recv(fd, &c, 1, 0), 0);
    assert_int_equal(snapshot_of(0).sessions, 1); /* it waits for our end, but not for long */
    uint64_t began_ms = clock_ms();
    WAIT_FOR(now.sessions == 0);
    assert_in_range(clock_ms() - began_ms, 1000, INBOUND_LINGER_MS + 500);
    close(fd);
    fixture_stop();
}

/* --- time --- */

static void expect_timeout(int fd, uint64_t began_ms, uint64_t limit_ms)
{
    char line[600];
    assert_int_equal(client_reply_text(fd, line, sizeof line), 421);
    assert_memory_equal(line, "421 4.4.2 ", 10);
    assert_true(client_at_end(fd));
    uint64_t took_ms = clock_ms() - began_ms;
    assert_true(took_ms >= limit_ms - 10 && took_ms < limit_ms + 1000);
    close(fd);
}

static void trickle(int fd, const char *text, unsigned every_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    while (*text != '\0' && poll(&poll_fd, 1, (int)every_ms) == 0) {
        if (send(fd, text++, 1, MSG_NOSIGNAL) != 1) {
            return;
        }
    }
}

static void test_command_timeout(void **state)
{
    (void)state;
    set_up();
    fixture.listener.timeouts.command_ms = 300;
    fixture_start();
    int idle = client_ready();
    expect_timeout(idle, clock_ms(), 300);
    int fd = client_ready();
    uint64_t began_ms = clock_ms();
    trickle(fd, "NOOP and nothing but a very long line that is never finished", 30);
    expect_timeout(fd, began_ms, 300);
    fd = client_ready(); /* one that answers in time stays as long as it likes */
    for (unsigned i = 0; i < 5; i++) {
        pause_ms(150);
        client_send(fd, "NOOP\r\n");
        client_expect(fd, "250");
    }
    close(fd);
    fixture_stop();
}

static void test_data_timeouts(void **state)
{
    (void)state;
    set_up();
    fixture.listener.timeouts.data_block_ms = 300;
    fixture.listener.timeouts.message_ms = 700;
    fixture_start();
    int fd = client_ready();
    client_send(fd, TRANSACTION "half a message\r\n");
    client_expect(fd, "250 250 354");
    expect_timeout(fd, clock_ms(), 300);
    fd = client_ready();
    client_send(fd, TRANSACTION);
    client_expect(fd, "250 250 354");
    uint64_t began_ms = clock_ms();
    trickle(fd, "never longer than fifty milliseconds without an octet, and yet too slow", 50);
    expect_timeout(fd, began_ms, 700);
    WAIT_FOR(now.sessions == 0 && now.receptions == 0);
    fixture_stop();
}

/* A message in chunks has the deadline of one message, not one for each chunk. */
static void test_chunks_without_end(void **state)
{
    (void)state;
    set_up();
    fixture.listener.extensions |= SMTP_SERVER_CHUNKING;
    fixture.listener.timeouts.message_ms = 700;
    fixture_start();
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n");
    client_expect(fd, "250 250");
    uint64_t began_ms = clock_ms();
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    while (clock_ms() < began_ms + 500) {
        client_send(fd, "BDAT 1\r\nx");
        client_expect(fd, "250");
        assert_int_equal(poll(&poll_fd, 1, 50), 0);
    }
    expect_timeout(fd, began_ms, 700);
    fd = client_ready(); /* the next message has its own, and between messages there is none */
    client_send(fd, "BDAT 1\r\nx");
    client_expect(fd, "503");
    pause_ms(800);
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n");
    client_expect(fd, "250 250");
    pause_ms(450); /* as long before its first chunk, and again from there */
    client_send(fd, "BDAT 1\r\nx");
    client_expect(fd, "250");
    pause_ms(450);
    client_send(fd, "BDAT 1 LAST\r\nx" TRANSACTION);
    client_expect(fd, "250 250 250 354");
    for (unsigned i = 0; i < 10; i++) {
        pause_ms(100);
        client_send(fd, BODY TRANSACTION);
        client_expect(fd, "250 250 250 354");
    }
    client_send(fd, BODY "QUIT\r\n");
    client_expect(fd, "250 221");
    close(fd);
    fixture_stop();
}

static void test_session_timeout(void **state)
{
    (void)state;
    set_up();
    fixture.listener.timeouts.session_ms = 400;
    fixture_start();
    int fd = client_ready();
    uint64_t began_ms = clock_ms();
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n");
    client_expect(fd, "250 250");
    pause_ms(600);
    client_send(fd, "DATA\r\nx\r\n.\r\n"); /* in a transaction it does not end */
    client_expect(fd, "354 250");
    expect_timeout(fd, began_ms, 600);
    fixture_stop();
}

/* A client that opens a transaction, and then only says that it is there. */
static void test_transaction_timeout(void **state)
{
    (void)state;
    set_up();
    fixture.listener.timeouts.message_ms = 400;
    fixture_start();
    int fd = client_ready();
    uint64_t began_ms = clock_ms();
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n");
    client_expect(fd, "250 250");
    for (unsigned i = 0; i < 3; i++) {
        pause_ms(50);
        client_send(fd, "NOOP\r\n");
        client_expect(fd, "250");
    }
    expect_timeout(fd, began_ms, 400);
    assert_int_equal(snapshot_of(0).stored, 0);
    fixture_stop();
}

static void test_slow_commit_is_not_the_clients_fault(void **state)
{
    (void)state;
    set_up();
    fixture.listener.timeouts = (struct inbound_timeouts){
        .command_ms = 200, .data_block_ms = 200, .message_ms = 200, .session_ms = 60000};
    fixture_start();
    fixture_hold(true);
    int fd = client_ready();
    client_send(fd, TRANSACTION BODY);
    client_expect(fd, "250 250 354");
    pause_ms(500);
    fixture_hold(false);
    client_expect(fd, "250");
    close(fd);
    fixture_stop();
}

/* --- receive buffers --- */

static unsigned push_noops(int *clients, unsigned count, unsigned for_ms)
{
    char noops[6 * 1024];
    for (size_t i = 0; i < sizeof noops; i += 6) {
        memcpy(noops + i, "NOOP\r\n", 6);
    }
    uint64_t sent = 0;
    uint64_t end_ms = clock_ms() + for_ms;
    while (clock_ms() < end_ms) {
        for (unsigned i = 0; i < count; i++) {
            ssize_t now = send(clients[i], noops, sizeof noops, MSG_NOSIGNAL | MSG_DONTWAIT);
            sent += now > 0 ? (uint64_t)now : 0;
        }
        pause_ms(1);
    }
    return (unsigned)(sent / 6);
}

#define DEAF 32 /* a few buffers each: more than there are */

static void connect_deaf(int *clients, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        clients[i] = client_connect();
    }
}

/* Clients that send commands and never read the replies: their unread input must not starve the others. */
static void test_hoarding(void **state)
{
    (void)state;
    set_up();
    fixture.receive_buffers = 64;
    fixture_start();
    int hoarders[DEAF];
    connect_deaf(hoarders, DEAF);
    unsigned rounds = 0;
    while (snapshot_of(0).buffers_free >= 16) {
        push_noops(hoarders, DEAF, 20);
        assert_true(rounds++ < 250);
    }
    int fd = client_ready();
    client_send(fd, TRANSACTION BODY "QUIT\r\n");
    client_expect(fd, "250 250 354 250 221");
    close(fd);
    WAIT_FOR(now.buffers_free >= 16);
    for (unsigned i = 0; i < DEAF; i++) {
        close(hoarders[i]);
    }
    WAIT_FOR(now.sessions == 0 && now.buffers_free == 64);
    fixture_stop();
}

/* The server is slow to answer `command`, and they go on sending. Some of them have to go, and then there is room. */
static void hoard_behind(const char *command)
{
    int hoarders[DEAF];
    fixture.receive_buffers = 64;
    fixture_start();
    connect_deaf(hoarders, DEAF);
    for (unsigned i = 0; i < DEAF; i++) {
        client_expect(hoarders[i], "220");
        client_send(hoarders[i], "EHLO client.example\r\n");
        client_expect(hoarders[i], "250");
        client_send(hoarders[i], command);
    }
    unsigned rounds = 0;
    while (snapshot_of(0).sessions == DEAF) {
        push_noops(hoarders, DEAF, 20);
        assert_true(rounds++ < 250);
    }
    WAIT_FOR(now.buffers_free >= 16);
    int fd = client_ready();
    client_send(fd, TRANSACTION BODY "QUIT\r\n");
    client_expect(fd, "250 250 354 250 221");
    close(fd);
    for (unsigned i = 0; i < DEAF; i++) {
        close(hoarders[i]);
    }
}

static void test_hoarding_behind_an_error(void **state)
{
    (void)state;
    set_up();
    fixture.listener.error_delay_ms = 20000;
    fixture.listener.error_delay_after = 1;
    hoard_behind("NONSENSE\r\n");
    fixture_stop();
}

static void test_hoarding_behind_a_login(void **state)
{
    struct accounts_settings settings = {.lockout = lockout_defaults(), .threads = 2, .queue_max = 64};
    struct accounts *accounts = NULL;
    (void)state;
    set_up();
    settings.lockout.address_failures_max = settings.lockout.account_failures_max = LOCKOUT_FAILURES_MAX;
    settings.lockout.delay_ms = settings.lockout.delay_ms_max = 20000;
    assert_int_equal(accounts_new(&settings, &accounts), 0);
    fixture.settings.accounts = accounts;
    fixture.listener.mechanisms = MECHANISM_BIT(MECHANISM_PLAIN);
    fixture.listener.auth_in_clear = true;
    fixture.listener.timeouts.auth_ms = 30000;
    hoard_behind("AUTH PLAIN AHVzZXIAd3Jvbmc=\r\n"); /* user, wrong */
    accounts_stop(accounts);
    fixture_stop();
    accounts_delete(accounts);
}

/* Reads all of them to their ends, in turns; the lines that came. */
static uint64_t drain(int *clients, unsigned count)
{
    uint64_t lines = 0;
    unsigned ended = 0;
    bool end[DEAF] = {false};
    char room[16384];
    while (ended < count) {
        for (unsigned i = 0; i < count; i++) {
            ssize_t length = end[i] ? 0 : recv(clients[i], room, sizeof room, MSG_DONTWAIT);
            for (ssize_t at = 0; at < length; at++) {
                lines += room[at] == '\n';
            }
            if (!end[i] && (length == 0 || (length < 0 && errno != EAGAIN))) {
                end[i] = true;
                ended++;
            }
        }
    }
    return lines;
}

/* The same, but they read in the end: whether in time or not, nothing is left of them, and in time they get it all. */
static void test_slow_readers(void **state)
{
    (void)state;
    set_up();
    fixture.receive_buffers = 64;
    fixture_start();
    int clients[DEAF];
    for (unsigned round = 0; round < 3; round++) {
        connect_deaf(clients, DEAF);
        uint64_t began_ms = clock_ms();
        uint64_t sent = push_noops(clients, DEAF, 20);
        for (unsigned i = 0; i < DEAF; i++) {
            shutdown(clients[i], SHUT_WR);
        }
        uint64_t got = drain(clients, DEAF);
        for (unsigned i = 0; i < DEAF; i++) {
            close(clients[i]);
        }
        if (clock_ms() - began_ms < INBOUND_OUTPUT_GRACE_MS) {
            assert_in_range(got, sent + DEAF, sent + 2 * DEAF); /* a last command may have been cut in two */
        }
        WAIT_FOR(now.sessions == 0 && now.buffers_free == 64);
    }
    fixture_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialogue),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_many_replies),
        cmocka_unit_test(test_split_at_each_byte),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_disconnect_at_each_phase),
        cmocka_unit_test(test_disconnect_during_commit),
        cmocka_unit_test(test_input_waits_for_the_commit),
        cmocka_unit_test(test_relaxed),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_size_for_a_priority),
        cmocka_unit_test(test_failed_commit),
        cmocka_unit_test(test_reset_forgets),
        cmocka_unit_test(test_input_after_quit),
        cmocka_unit_test(test_command_timeout),
        cmocka_unit_test(test_data_timeouts),
        cmocka_unit_test(test_chunks_without_end),
        cmocka_unit_test(test_session_timeout),
        cmocka_unit_test(test_transaction_timeout),
        cmocka_unit_test(test_slow_commit_is_not_the_clients_fault),
        cmocka_unit_test(test_hoarding),
        cmocka_unit_test(test_hoarding_behind_an_error),
        cmocka_unit_test(test_hoarding_behind_a_login),
        cmocka_unit_test(test_slow_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
