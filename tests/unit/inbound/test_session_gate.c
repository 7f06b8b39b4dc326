/* Gates of our own in the place of the program's: what they do is said by the test, and when. */
#include "inbound/session.h"
#include "inbound_fixture.h"

#define GATES 2
#define SITTERS_MAX 32

enum order { PASS, REFUSE, WAIT };

static const struct reply no = {.code = 550, .enhanced = {5, 7, 77}, .text = {"The gate is shut", 16}};

/* Set between connections, or while all of them wait; read on the shard. */
static _Atomic unsigned order[GATES][SMTP_SERVER_CLOSE + 1];
static _Atomic unsigned asked[GATES];
static _Atomic unsigned dropped[GATES];
static _Atomic bool shut; /* what those who wait are told */
static struct server_session *sitters[SITTERS_MAX];
static _Atomic unsigned sitting;

static enum session_gate_answer ask(struct server_session *session, const struct reply **ret_refusal, unsigned gate)
{
    asked[gate]++;
    assert_ptr_equal(session->inbound->shard->inbound, session->inbound);
    switch (order[gate][session->machine.awaiting]) {
    case PASS: return SESSION_GATE_OPEN;
    case REFUSE: *ret_refusal = &no; return SESSION_GATE_SHUT;
    default: break;
    }
    CHECK(sitting < SITTERS_MAX);
    sitters[sitting++] = session;
    return SESSION_GATE_WAITING;
}

static enum session_gate_answer ask_first(struct server_session *session, const struct reply **ret_refusal)
{
    return ask(session, ret_refusal, 0);
}

static enum session_gate_answer ask_second(struct server_session *session, const struct reply **ret_refusal)
{
    return ask(session, ret_refusal, 1);
}

static void drop(struct server_session *session, unsigned gate)
{
    unsigned at = 0;
    while (sitters[at] != session) {
        at++;
        CHECK(at < sitting);
    }
    sitters[at] = sitters[--sitting];
    dropped[gate]++;
}

static void drop_first(struct server_session *session)
{
    drop(session, 0);
}

static void drop_second(struct server_session *session)
{
    drop(session, 1);
}

const struct session_gate session_gates[] = {
    {SESSION_GATE_MAIL | SESSION_GATE_RCPT | SESSION_GATE_DATA | SESSION_GATE_END, ask_first, drop_first},
    {SESSION_GATE_RCPT | SESSION_GATE_END, ask_second, drop_second},
    {0, NULL, NULL},
};

static void let_go(struct shard *shard, void *context)
{
    (void)shard, (void)context;
    struct server_session *all[SITTERS_MAX];
    unsigned count = sitting;
    memcpy(all, sitters, sizeof all);
    sitting = 0;
    for (unsigned i = 0; i < count; i++) {
        session_gate_answered(all[i], shut ? &no : NULL);
    }
}

static void answer_all(bool refuse)
{
    shut = refuse;
    fixture_look(0, let_go, NULL);
}

static void set_up(void)
{
    fixture_defaults();
    memset(order, 0, sizeof order);
    memset(asked, 0, sizeof asked);
    memset(dropped, 0, sizeof dropped);
    sitting = 0;
    fixture_start();
}

static void expect_silence(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, 30), 0);
}

static void expect_sitting(unsigned count)
{
    WAIT_FOR(sitting == count);
}

/* Somebody else's session, which takes every receive buffer and line block that was given back too early. */
static void disturb(void)
{
    char noise[1500];
    int fd = client_ready();
    memset(noise, 'x', sizeof noise);
    memcpy(noise, "NOOP ", 5);
    for (unsigned i = 0; i < 2 * fixture.receive_buffers; i++) {
        client_send_bytes(fd, noise, sizeof noise);
        pause_ms(1);
        client_send(fd, "\r\n");
        client_expect(fd, "250");
    }
    close(fd);
}

static char stored_envelope[65536];
static size_t stored_length;

static void copy_envelope(struct shard *shard, void *context)
{
    const struct stored *stored = &shard->spool->stored[*(unsigned *)context];
    memcpy(stored_envelope, stored->envelope, stored->envelope_length);
    stored_length = stored->envelope_length;
}

static bool envelope_has(unsigned index, const char *text)
{
    fixture_look(0, copy_envelope, &index);
    return memmem(stored_envelope, stored_length, text, strlen(text)) != NULL;
}

/* --- at once ------------------------------------------------------------------------------------------------------ */

static void test_open(void **state)
{
    (void)state;
    set_up();
    int fd = client_ready();
    client_send(fd, TRANSACTION BODY TRANSACTION BODY "QUIT\r\n");
    client_expect(fd, "250 250 354 250 250 250 354 250 221");
    close(fd);
    assert_int_equal(asked[0], 8);
    assert_int_equal(asked[1], 4);
    assert_int_equal(snapshot_of(0).stored, 2);
    fixture_stop();
}

/* By event: what is said, all in one write with what follows, when that event is refused. */
static const struct {
    unsigned event;
    const char *codes;
    unsigned stored;
} refusals[] = {
    {SMTP_SERVER_MAIL, "550 503 503", 0},
    {SMTP_SERVER_RCPT, "250 550 554", 0},
    {SMTP_SERVER_DATA, "250 250 550", 0},
    {SMTP_SERVER_END, "250 250 354 550", 0},
};

/* A body only where 354 was said: else it would be commands. */
static const char *transaction_of(unsigned event)
{
    return event == SMTP_SERVER_END ? TRANSACTION BODY "RSET\r\n" : TRANSACTION "RSET\r\n";
}

static void test_shut(void **state)
{
    (void)state;
    for (unsigned gate = 0; gate < GATES; gate++) {
        for (unsigned i = 0; i < sizeof refusals / sizeof *refusals; i++) {
            if ((session_gates[gate].events >> refusals[i].event & 1) == 0) {
                continue;
            }
            set_up();
            order[gate][refusals[i].event] = REFUSE;
            int fd = client_ready();
            client_send(fd, transaction_of(refusals[i].event));
            client_expect(fd, refusals[i].codes);
            client_expect(fd, "250");
            order[gate][refusals[i].event] = PASS;
            client_send(fd, TRANSACTION BODY); /* nothing is left of what was refused */
            client_expect(fd, "250 250 354 250");
            close(fd);
            WAIT_FOR(now.receptions == 0);
            assert_int_equal(snapshot_of(0).stored, 1);
            fixture_stop();
        }
    }
}

/* --- later -------------------------------------------------------------------------------------------------------- */

/* Nothing is said, and nothing read, before the answer; then it is as if it had come at once. */
static void test_later(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        for (unsigned refuse = 0; refuse < 2; refuse++) {
            set_up();
            order[0][refusals[i].event] = WAIT;
            int fd = client_ready();
            const char *said = refuse ? transaction_of(refusals[i].event) : TRANSACTION BODY "RSET\r\n";
            client_send(fd, said);
            client_expect(fd, i == 0 ? "" : i == 1 ? "250" : i == 2 ? "250 250" : "250 250 354");
            expect_sitting(1);
            expect_silence(fd);
            answer_all(refuse != 0);
            client_expect(fd, (refuse ? refusals[i].codes : "250 250 354 250") + 4 * i);
            client_expect(fd, "250");
            assert_int_equal(dropped[0], 0);
            close(fd);
            WAIT_FOR(now.sessions == 0 && now.receptions == 0);
            assert_int_equal(snapshot_of(0).stored, !refuse);
            assert_int_equal(snapshot_of(0).rejected, refuse && refusals[i].event == SMTP_SERVER_END);
            if (!refuse) {
                assert_true(envelope_has(0, "a@example.com") && envelope_has(0, "b@example.org"));
            }
            fixture_stop();
        }
    }
}

/* What the machine's spans point into stays: the receive buffer, or of a command that came in pieces the line block. */
static void test_command_stays(void **state)
{
    (void)state;
    set_up();
    fixture_stop();
    fixture.receive_buffers = 16;
    fixture_start();
    order[0][SMTP_SERVER_MAIL] = order[0][SMTP_SERVER_RCPT] = WAIT;
    int fd = client_ready();
    static const char *const commands[] = {"MAIL FROM:<somebody.else@example.com>\r\n",
                                           "RCPT TO:<his.friend@example.org>\r\n"};
    for (unsigned pieces = 0; pieces < 2; pieces++) {
        for (unsigned i = 0; i < 2; i++) {
            size_t cut = pieces ? 10 : 0;
            client_send_bytes(fd, commands[i], cut);
            pause_ms(5);
            client_send(fd, commands[i] + cut);
            expect_sitting(1);
            disturb();
            client_send(fd, "NOOP\r\n");
            expect_silence(fd);
            answer_all(false);
            client_expect(fd, "250 250");
        }
        client_send(fd, "DATA\r\n" BODY);
        client_expect(fd, "354 250");
        assert_true(envelope_has(pieces, "somebody.else@example.com") &&
                    envelope_has(pieces, "his.friend@example.org"));
    }
    close(fd);
    WAIT_FOR(now.sessions == 0);
    fixture_stop();
}

/* Both gates wait, one after the other, and the second one asks of what the first has let pass. */
static void test_two_gates(void **state)
{
    (void)state;
    set_up();
    order[0][SMTP_SERVER_RCPT] = order[1][SMTP_SERVER_RCPT] = WAIT;
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<one@example.org>\r\nRCPT TO:<two@example.org>\r\n");
    client_expect(fd, "250");
    for (unsigned i = 0; i < 2; i++) {
        expect_sitting(1);
        assert_int_equal(asked[1], i);
        answer_all(false);
        expect_sitting(1);
        assert_int_equal(asked[1], i + 1);
        expect_silence(fd);
        answer_all(i == 1);
        client_expect(fd, i == 1 ? "550" : "250");
    }
    client_send(fd, "DATA\r\n" BODY);
    client_expect(fd, "354 250");
    close(fd);
    assert_true(envelope_has(0, "one@example.org") && !envelope_has(0, "two@example.org"));
    fixture_stop();
}

/* Chunks: DATA is asked for once, with the octets of the first chunk behind it; END as well. */
static void test_chunks(void **state)
{
    (void)state;
    set_up();
    fixture_stop();
    fixture.listener.extensions |= SMTP_SERVER_CHUNKING;
    for (unsigned refuse = 0; refuse < 2; refuse++) {
        fixture_start();
        order[0][SMTP_SERVER_DATA] = WAIT;
        int fd = client_ready();
        client_send(fd, "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 6\r\nabcd\r\n"
                        "BDAT 6 LAST\r\nefgh\r\nNOOP\r\n");
        client_expect(fd, "250 250");
        expect_sitting(1);
        expect_silence(fd);
        order[0][SMTP_SERVER_END] = WAIT;
        answer_all(refuse != 0);
        if (refuse) {
            client_expect(fd, "550 503 250");
        } else {
            client_expect(fd, "250");
            expect_sitting(1);
            expect_silence(fd);
            answer_all(false);
            client_expect(fd, "250 250");
        }
        close(fd);
        WAIT_FOR(now.sessions == 0 && now.receptions == 0);
        assert_int_equal(snapshot_of(0).stored, !refuse);
        order[0][SMTP_SERVER_END] = PASS;
        fixture_stop();
    }
}

/* RFC 2033 4.2: also a refusal that comes later is said once for each recipient. */
static void test_lmtp(void **state)
{
    (void)state;
    set_up();
    fixture_stop();
    fixture.listener.lmtp = true;
    fixture_start();
    order[0][SMTP_SERVER_END] = WAIT;
    for (unsigned refuse = 0; refuse < 2; refuse++) {
        int fd = client_connect();
        client_send(fd, "LHLO client.example\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
                        "RCPT TO:<c@example.org>\r\nDATA\r\n" BODY "NOOP\r\n");
        client_expect(fd, "220 250 250 250 250 354");
        expect_sitting(1);
        answer_all(refuse != 0);
        client_expect(fd, refuse ? "550 550 250" : "250 250 250");
        close(fd);
    }
    fixture_stop();
}

/* --- ends --------------------------------------------------------------------------------------------------------- */

/* However the client goes while a gate has it waiting, the gate hears of it and nothing is left. */
static void test_gone_while_waiting(void **state)
{
    (void)state;
    set_up();
    for (unsigned i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        order[0][refusals[i].event] = WAIT;
        unsigned before = dropped[0];
        int fd = client_ready();
        client_send(fd, TRANSACTION BODY);
        expect_sitting(1);
        client_reset(fd);
        WAIT_FOR(now.sessions == 0 && now.receptions == 0);
        assert_int_equal(dropped[0], before + 1);
        assert_int_equal(sitting, 0);
        fd = client_ready();
        client_send(fd, TRANSACTION BODY);
        expect_sitting(1);
        shutdown(fd, SHUT_WR); /* only its sending half: it may still want to know */
        pause_ms(20);
        order[0][refusals[i].event] = PASS;
        answer_all(false);
        while (client_reply(fd) > 0) {
        }
        close(fd);
        WAIT_FOR(now.sessions == 0 && now.receptions == 0);
        assert_int_equal(dropped[0], before + 1);
        assert_int_equal(snapshot_of(0).stored, i + 1);
    }
    assert_int_equal(snapshot_of(0).buffers_free, fixture.receive_buffers);
    assert_int_equal(snapshot_of(0).replies_taken, 0);
    fixture_stop();
}

/* A stop does not wait longer for a gate than for a client: those who wait are let go at its deadline. */
static void test_stop_while_waiting(void **state)
{
    (void)state;
    set_up();
    order[0][SMTP_SERVER_MAIL] = order[0][SMTP_SERVER_END] = WAIT;
    int fds[2];
    fds[0] = client_ready();
    client_send(fds[0], TRANSACTION);
    expect_sitting(1);
    order[0][SMTP_SERVER_MAIL] = PASS;
    fds[1] = client_ready();
    client_send(fds[1], TRANSACTION BODY);
    expect_sitting(2);
    fixture_stop_after(10);
    fixture_join();
    assert_int_equal(dropped[0], 2);
    close(fds[0]);
    close(fds[1]);
}

/* Who was let pass while the host stops is told to come again. */
static void test_answer_after_the_stop_began(void **state)
{
    (void)state;
    set_up();
    order[0][SMTP_SERVER_MAIL] = WAIT;
    int fd = client_ready();
    client_send(fd, TRANSACTION);
    expect_sitting(1);
    fixture_stop_after(5000);
    answer_all(false);
    client_expect(fd, "421");
    assert_true(client_at_end(fd));
    close(fd);
    fixture_join();
    assert_int_equal(dropped[0], 0);
}

/* Its own time is the gate's affair: the client's, however short, does not run meanwhile. */
static void test_no_deadline_but_the_gates(void **state)
{
    (void)state;
    set_up();
    fixture_stop();
    fixture.listener.timeouts = (struct inbound_timeouts){.command_ms = 100};
    fixture.listener.timeouts.session_ms = 60000;
    fixture_start();
    order[0][SMTP_SERVER_MAIL] = WAIT;
    int fd = client_ready();
    client_send(fd, "MAIL FROM:<a@example.com>\r\n");
    expect_sitting(1);
    pause_ms(300);
    assert_int_equal(sitting, 1);
    answer_all(false);
    client_expect(fd, "250 421"); /* and then it does */
    assert_true(client_at_end(fd));
    close(fd);
    fixture_stop();
}

/* What an answer that came late lets begin, the transaction and the message, has its time from then on. */
static void test_times_begin_with_the_answer(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i += 2) { /* MAIL, DATA */
        set_up();
        fixture_stop();
        fixture.listener.timeouts.message_ms = 400;
        fixture_start();
        order[0][refusals[i].event] = WAIT;
        int fd = client_ready();
        client_send(fd, TRANSACTION);
        expect_sitting(1);
        pause_ms(300);
        order[0][refusals[i].event] = PASS;
        uint64_t answered_ms = clock_ms();
        answer_all(false);
        client_expect(fd, "250 250 354");
        while (clock_ms() < answered_ms + 200) { /* each octet is new data, but the time of the whole runs */
            client_send(fd, "x");
            pause_ms(20);
        }
        client_expect(fd, "421");
        assert_in_range(clock_ms() - answered_ms, 300, 3000);
        close(fd);
        WAIT_FOR(now.sessions == 0);
        fixture_stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_shut),
        cmocka_unit_test(test_later),
        cmocka_unit_test(test_command_stays),
        cmocka_unit_test(test_two_gates),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_lmtp),
        cmocka_unit_test(test_gone_while_waiting),
        cmocka_unit_test(test_stop_while_waiting),
        cmocka_unit_test(test_answer_after_the_stop_began),
        cmocka_unit_test(test_no_deadline_but_the_gates),
        cmocka_unit_test(test_times_begin_with_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
