#include "milter/milter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "milter/milter_say.h"
#include "milter/milter_wire.h"

/* A literal with its NULs, without the last one. */
#define PACKET(letter, literal) (&(struct milter_packet){letter, BYTES(literal)})

static enum milter_meaning take(struct milter *milter, enum milter_step step, const struct milter_packet *packet)
{
    static struct milter_reply reply;
    return milter_take(milter, step, packet, &reply);
}

static struct milter negotiated(const char options[12])
{
    struct milter milter = {0};
    const struct milter_packet packet = {'O', bytes_of(options, 12)};
    assert_int_equal(take(&milter, MILTER_STEP_OPTIONS, &packet), MILTER_CONTINUE);
    return milter;
}

/* Version 6, every action, every step wanted and answered. */
static struct milter talking(void)
{
    return negotiated("\0\0\0\6\0\0\1\xff\0\0\0\0");
}

/* --- what we say --- */

static void test_packets(void **state)
{
    (void)state;
    char room[256];
    struct buffer out = buffer_of(room, sizeof room);
    assert_true(milter_say_options(&out));
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("\0\0\0\15O\0\0\0\6\0\0\1\xff\0\x1f\xf7\xff")));
    out.length = 0;
    assert_true(milter_say_connect(&out, BYTES("h"), '4', 258, BYTES("192.0.2.1")));
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("\0\0\0\20Ch\0004\1\002192.0.2.1\0")));
    out.length = 0;
    assert_true(milter_say_connect(&out, BYTES("localhost"), 'U', 0, BYTES("")));
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("\0\0\0\14Clocalhost\0U")));
    out.length = 0;
    const struct bytes texts[] = {BYTES("<a@b>"), BYTES("SIZE=1")};
    assert_true(milter_say_step(&out, MILTER_STEP_MAIL, texts, 2));
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("\0\0\0\16M<a@b>\0SIZE=1\0")));
    out.length = 0;
    assert_true(milter_say_body(&out, 258) && milter_say_abort(&out) && milter_say_quit(&out));
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("\0\0\1\3B\0\0\0\1A\0\0\0\1Q")));
}

static void test_macros_without_a_value_are_left_out(void **state)
{
    (void)state;
    char room[64];
    struct buffer out = buffer_of(room, sizeof room);
    const struct milter_macro some[] = {
        {"i", BYTES("1f")}, {"{auth_authen}", BYTES("")}, {"j", BYTES("h")}, {.name = NULL}};
    const struct milter_macro none[] = {{"i", BYTES("")}, {.name = NULL}};
    assert_true(milter_say_macros(&out, MILTER_STEP_MAIL, some));
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("\0\0\0\13DMi\0001f\0j\0h\0")));
    out.length = 0;
    assert_true(milter_say_macros(&out, MILTER_STEP_MAIL, none));
    assert_int_equal(out.length, 0);
}

static void test_all_or_nothing(void **state)
{
    (void)state;
    char room[32];
    const struct bytes text = BYTES("<somebody@example.com>");
    for (size_t capacity = 0; capacity < MILTER_HEAD_BYTES + text.length + 1; capacity++) {
        struct buffer out = buffer_of(room, capacity);
        assert_false(milter_say_step(&out, MILTER_STEP_RCPT, &text, 1));
        assert_int_equal(out.length, 0);
    }
}

/* --- packets of a filter --- */

static void test_any_cut_reads_the_same(void **state)
{
    (void)state;
    const struct bytes whole = BYTES("\0\0\0\1c\0\0\0\14y550 5.7.1 n\0\0\0\1p");
    for (size_t cut = 0; cut <= whole.length; cut++) {
        char block[16];
        struct milter_reader reader;
        struct milter_packet packet;
        char letters[4] = "";
        unsigned count = 0;
        milter_reader_init(&reader, block, sizeof block);
        struct bytes parts[] = {bytes_slice(whole, 0, cut), bytes_slice(whole, cut, whole.length - cut)};
        for (unsigned i = 0; i < 2; i++) {
            while (milter_read(&reader, &parts[i], &packet) == MILTER_READ_PACKET) {
                letters[count++] = packet.letter;
                assert_true(packet.letter != 'y' || bytes_equal(packet.data, BYTES("550 5.7.1 n")));
            }
            assert_int_equal(parts[i].length, 0);
        }
        assert_string_equal(letters, "cyp");
        assert_true(milter_reader_empty(&reader));
    }
}

static void test_lengths_that_cannot_be(void **state)
{
    (void)state;
    const struct bytes bad[] = {BYTES("\0\0\0\0"), BYTES("\0\0\0\21"), BYTES("\xff\xff\xff\xff"), BYTES("\x80\0\0\1c")};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        char block[16];
        struct milter_reader reader;
        struct milter_packet packet;
        struct bytes input = bad[i];
        milter_reader_init(&reader, block, sizeof block);
        assert_int_equal(milter_read(&reader, &input, &packet), MILTER_READ_BROKEN);
    }
}

/* --- options --- */

static void test_options(void **state)
{
    (void)state;
    struct milter milter = negotiated("\0\0\0\2\0\0\0\1\0\0\0\0");
    assert_true(milter.ready && milter.version == 2 && milter.actions == MILTER_MAY_ADD_HEADERS);
    const struct milter_packet *bad[] = {
        PACKET('c', ""),                                            /* no options */
        PACKET('O', ""),                                            /* too short */
        PACKET('O', "\0\0\0\6\0\0\0\0\0\0\0"),                      /* one octet too short */
        PACKET('O', "\0\0\0\7\0\0\0\0\0\0\0\0"),                    /* a version that we do not have */
        PACKET('O', "\0\0\0\1\0\0\0\0\0\0\0\0"),                    /* or not any more */
        PACKET('O', "\0\0\0\6\0\0\2\0\0\0\0\0"),                    /* an action that was not offered */
        PACKET('O', "\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\1"),            /* a list of macros without the list */
        PACKET('O', "\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\1{rcpt_host}"), /* that does not end */
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct milter other = {0};
        assert_int_equal(take(&other, MILTER_STEP_OPTIONS, bad[i]), MILTER_BROKEN);
        assert_false(other.ready);
    }
    struct milter other = {0};
    assert_int_equal(take(&other, MILTER_STEP_OPTIONS, PACKET('O', "\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\1i j\0\0\0\0\2\0")),
                     MILTER_CONTINUE);
}

static void test_steps_that_are_not_wanted(void **state)
{
    (void)state;
    static const struct {
        enum milter_step step;
        uint32_t no;
        uint32_t silent;
    } cases[] = {
        {MILTER_STEP_CONNECT, MILTER_NO_CONNECT, MILTER_SILENT_CONNECT},
        {MILTER_STEP_HELO, MILTER_NO_HELO, MILTER_SILENT_HELO},
        {MILTER_STEP_MAIL, MILTER_NO_MAIL, MILTER_SILENT_MAIL},
        {MILTER_STEP_RCPT, MILTER_NO_RCPT, MILTER_SILENT_RCPT},
        {MILTER_STEP_DATA, MILTER_NO_DATA, MILTER_SILENT_DATA},
        {MILTER_STEP_HEADER, MILTER_NO_HEADERS, MILTER_SILENT_HEADER},
        {MILTER_STEP_END_OF_HEADER, MILTER_NO_END_OF_HEADER, MILTER_SILENT_END_OF_HEADER},
        {MILTER_STEP_BODY, MILTER_NO_BODY, MILTER_SILENT_BODY},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct milter milter = talking();
        assert_true(milter_wants(&milter, cases[i].step) && milter_answers(&milter, cases[i].step));
        milter.steps = cases[i].silent;
        assert_true(milter_wants(&milter, cases[i].step) && !milter_answers(&milter, cases[i].step));
        milter.steps = cases[i].no;
        assert_false(milter_wants(&milter, cases[i].step));
        assert_true(milter_wants(&milter, MILTER_STEP_END) && milter_answers(&milter, MILTER_STEP_END));
    }
    struct milter old = negotiated("\0\0\0\3\0\0\0\0\0\0\0\0");
    assert_false(milter_wants(&old, MILTER_STEP_DATA)); /* of version 4 */
}

/* --- answers --- */

static void test_words(void **state)
{
    (void)state;
    static const struct {
        char letter;
        enum milter_meaning connect;
        enum milter_meaning rcpt;
        enum milter_meaning end;
    } words[] = {
        {'c', MILTER_CONTINUE, MILTER_CONTINUE, MILTER_CONTINUE},
        {'p', MILTER_PROGRESS, MILTER_PROGRESS, MILTER_PROGRESS},
        {'a', MILTER_ACCEPT, MILTER_ACCEPT, MILTER_ACCEPT},
        {'d', MILTER_BROKEN, MILTER_DISCARD, MILTER_DISCARD},
        {'r', MILTER_REFUSE, MILTER_REFUSE, MILTER_REFUSE},
        {'t', MILTER_REFUSE, MILTER_REFUSE, MILTER_REFUSE},
        {'4', MILTER_REFUSE, MILTER_REFUSE, MILTER_REFUSE},
        {'f', MILTER_REFUSE, MILTER_REFUSE, MILTER_REFUSE},
        {'s', MILTER_CONTINUE, MILTER_CONTINUE, MILTER_BROKEN},
        {'O', MILTER_BROKEN, MILTER_BROKEN, MILTER_BROKEN},
        {'?', MILTER_BROKEN, MILTER_BROKEN, MILTER_BROKEN},
        {'h', MILTER_BROKEN, MILTER_BROKEN, MILTER_BROKEN},
    };
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        const struct milter_packet packet = {words[i].letter, BYTES("")};
        const struct milter_packet longer = {words[i].letter, BYTES("x")};
        struct milter milter = talking();
        assert_int_equal(take(&milter, MILTER_STEP_CONNECT, &packet), words[i].connect);
        milter = talking();
        assert_int_equal(take(&milter, MILTER_STEP_RCPT, &packet), words[i].rcpt);
        milter = talking();
        assert_int_equal(take(&milter, MILTER_STEP_END, &packet), words[i].end);
        milter = talking();
        assert_int_equal(take(&milter, MILTER_STEP_RCPT, &longer), MILTER_BROKEN);
    }
}

static void test_reply_codes(void **state)
{
    (void)state;
    static const struct {
        struct bytes text;
        unsigned code;
        uint8_t enhanced[3];
        struct bytes said;
    } good[] = {
        {BYTES("550 5.7.1 go away\0"), 550, {5, 7, 1}, BYTES("go away")},
        {BYTES("451 4.3.2 later\r\n\0"), 451, {4, 3, 2}, BYTES("later")},
        {BYTES("554 no 100%% of it %x\0"), 554, {5, 7, 1}, BYTES("no 100% of it x")},
        {BYTES("550-5.1.1 one\r\n550 5.1.1 two\0"), 550, {5, 1, 1}, BYTES("one\ntwo")},
        {BYTES("550 4.7.1 of another class\0"), 550, {5, 7, 1}, BYTES("4.7.1 of another class")},
        {BYTES("450 4.7.999 large\0"), 450, {4, 7, 1}, BYTES("4.7.999 large")},
        {BYTES("421 4.7.0\0"), 421, {4, 7, 0}, BYTES("")},
        {BYTES("550\0"), 550, {5, 7, 1}, BYTES("")},
        {BYTES("550 5.7.1 a\x01\x80\rb\0"), 550, {5, 7, 1}, BYTES("a???b")},
    };
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        struct milter milter = talking();
        struct milter_reply reply;
        const struct milter_packet packet = {'y', good[i].text};
        assert_int_equal(milter_take(&milter, MILTER_STEP_MAIL, &packet, &reply), MILTER_REFUSE);
        assert_int_equal(reply.code, good[i].code);
        assert_memory_equal(reply.enhanced, good[i].enhanced, 3);
        assert_true(bytes_equal(reply.text, good[i].said));
    }
    const struct bytes bad[] = {BYTES(""),
                                BYTES("\0"),
                                BYTES("5\0"),
                                BYTES("55"),
                                BYTES("250 ok\0"),
                                BYTES("55x"),
                                BYTES("550x no\0"),
                                BYTES("-50 "),
                                BYTES("550-a\r\n551 b\0"),
                                BYTES("550-a\r\n\r\n550 b\0")};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct milter milter = talking();
        const struct milter_packet packet = {'y', bad[i]};
        assert_int_equal(take(&milter, MILTER_STEP_MAIL, &packet), MILTER_BROKEN);
    }
}

static void test_a_long_text_is_cut(void **state)
{
    (void)state;
    char text[2048];
    memset(text, 'x', sizeof text);
    memcpy(text, "550 5.7.1 ", 10);
    struct milter milter = talking();
    struct milter_reply reply;
    assert_int_equal(
        milter_take(&milter, MILTER_STEP_MAIL, &(struct milter_packet){'y', bytes_of(text, sizeof text)}, &reply),
        MILTER_REFUSE);
    assert_int_equal(reply.text.length, MILTER_TEXT_BYTES_MAX);
}

/* --- scopes --- */

static void test_accept_lasts_for_the_transaction(void **state)
{
    (void)state;
    struct milter milter = talking();
    assert_true(milter_wants(&milter, MILTER_STEP_MAIL));
    assert_int_equal(take(&milter, MILTER_STEP_MAIL, PACKET('a', "")), MILTER_ACCEPT);
    assert_false(milter_wants(&milter, MILTER_STEP_RCPT) || milter_wants(&milter, MILTER_STEP_END));
    assert_true(milter_end_transaction(&milter)); /* it is to be told */
    assert_true(milter_wants(&milter, MILTER_STEP_MAIL));
}

static void test_accept_at_helo_lasts_for_the_session(void **state)
{
    (void)state;
    struct milter milter = talking();
    assert_true(milter_wants(&milter, MILTER_STEP_HELO));
    assert_int_equal(take(&milter, MILTER_STEP_HELO, PACKET('a', "")), MILTER_ACCEPT);
    assert_false(milter_wants(&milter, MILTER_STEP_MAIL));
    assert_false(milter_end_transaction(&milter));
    assert_false(milter_wants(&milter, MILTER_STEP_MAIL));
}

static void test_skip_lasts_until_another_step(void **state)
{
    (void)state;
    struct milter milter = talking();
    assert_true(milter_wants(&milter, MILTER_STEP_BODY));
    assert_int_equal(take(&milter, MILTER_STEP_BODY, PACKET('s', "")), MILTER_CONTINUE);
    assert_false(milter_wants(&milter, MILTER_STEP_BODY) || milter_wants(&milter, MILTER_STEP_BODY));
    assert_true(milter_wants(&milter, MILTER_STEP_END));
    assert_true(milter_wants(&milter, MILTER_STEP_BODY));
}

static void test_a_filter_that_answered_the_end_is_not_told(void **state)
{
    (void)state;
    struct milter milter = talking();
    assert_false(milter_end_transaction(&milter));
    assert_true(milter_wants(&milter, MILTER_STEP_MAIL) && milter_wants(&milter, MILTER_STEP_END));
    assert_int_equal(take(&milter, MILTER_STEP_END, PACKET('p', "")), MILTER_PROGRESS);
    assert_int_equal(take(&milter, MILTER_STEP_END, PACKET('r', "")), MILTER_REFUSE);
    assert_false(milter_end_transaction(&milter));
}

/* --- edits --- */

static void test_edits(void **state)
{
    (void)state;
    static const struct {
        char letter;
        struct bytes data;
        enum milter_edit edit;
        uint32_t index;
        struct bytes name;
        struct bytes value;
        uint32_t action;
    } good[] = {
        {'h', BYTES("X-A\0b\0"), MILTER_ADD_HEADER, 0, BYTES("X-A"), BYTES("b"), MILTER_MAY_ADD_HEADERS},
        {'i', BYTES("\0\0\1\0X\0\0"), MILTER_INSERT_HEADER, 256, BYTES("X"), BYTES(""), MILTER_MAY_ADD_HEADERS},
        {'m', BYTES("\0\0\0\1X\0c\0"), MILTER_CHANGE_HEADER, 1, BYTES("X"), BYTES("c"), MILTER_MAY_CHANGE_HEADERS},
        {'+', BYTES("<a@b>\0"), MILTER_ADD_RCPT, 0, BYTES("<a@b>"), BYTES(""), MILTER_MAY_ADD_RCPT},
        {'2', BYTES("<a@b>\0"), MILTER_ADD_RCPT, 0, BYTES("<a@b>"), BYTES(""), MILTER_MAY_ADD_RCPT_PARAMETERS},
        {'2', BYTES("<a@b>\0NOTIFY=NEVER\0"), MILTER_ADD_RCPT, 0, BYTES("<a@b>"), BYTES("NOTIFY=NEVER"),
         MILTER_MAY_ADD_RCPT_PARAMETERS},
        {'-', BYTES("<a@b>\0"), MILTER_DELETE_RCPT, 0, BYTES("<a@b>"), BYTES(""), MILTER_MAY_DELETE_RCPT},
        {'e', BYTES("<>\0"), MILTER_CHANGE_FROM, 0, BYTES("<>"), BYTES(""), MILTER_MAY_CHANGE_FROM},
        {'b', BYTES("a\0b"), MILTER_REPLACE_BODY, 0, BYTES(""), BYTES("a\0b"), MILTER_MAY_CHANGE_BODY},
        {'q', BYTES("why\0"), MILTER_QUARANTINE, 0, BYTES(""), BYTES("why"), MILTER_MAY_QUARANTINE},
    };
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        struct milter milter = talking();
        struct milter_reply reply = {0};
        struct milter_packet packet = {good[i].letter, good[i].data};
        assert_int_equal(milter_take(&milter, MILTER_STEP_END, &packet, &reply), MILTER_EDIT);
        assert_int_equal(reply.edit, good[i].edit);
        assert_int_equal(reply.index, good[i].index);
        assert_true(bytes_equal(reply.name, good[i].name) && bytes_equal(reply.value, good[i].value));
        assert_int_equal(take(&milter, MILTER_STEP_BODY, &packet), MILTER_BROKEN); /* too early */
        milter.actions &= ~good[i].action;
        assert_int_equal(take(&milter, MILTER_STEP_END, &packet), MILTER_BROKEN); /* not announced */
    }
}

static void test_edits_that_are_cut(void **state)
{
    (void)state;
    static const struct milter_packet bad[] = {
        {'h', BYTES("X-A\0b")},        {'h', BYTES("X-A\0")},        {'h', BYTES("X-A\0b\0c")}, {'i', BYTES("\0\0\0")},
        {'i', BYTES("\0\0\0\1X\0")},   {'m', BYTES("\0\0\0\1X\0c")}, {'+', BYTES("")},          {'+', BYTES("<a@b>")},
        {'+', BYTES("<a@b>\0x\0")},    {'-', BYTES("<a@b>\0\0")},    {'e', BYTES("<>\0A=b")},   {'q', BYTES("why")},
        {'2', BYTES("<a@b>\0a\0b\0")},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct milter milter = talking();
        char *exact = malloc(bad[i].data.length + 1); /* what lies behind it is the sanitizer's */
        memcpy(exact, bad[i].data.data, bad[i].data.length);
        const struct milter_packet packet = {bad[i].letter, bytes_of(exact, bad[i].data.length)};
        assert_int_equal(take(&milter, MILTER_STEP_END, &packet), MILTER_BROKEN);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packets),
        cmocka_unit_test(test_macros_without_a_value_are_left_out),
        cmocka_unit_test(test_all_or_nothing),
        cmocka_unit_test(test_any_cut_reads_the_same),
        cmocka_unit_test(test_lengths_that_cannot_be),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_steps_that_are_not_wanted),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_reply_codes),
        cmocka_unit_test(test_a_long_text_is_cut),
        cmocka_unit_test(test_accept_lasts_for_the_transaction),
        cmocka_unit_test(test_accept_at_helo_lasts_for_the_session),
        cmocka_unit_test(test_skip_lasts_until_another_step),
        cmocka_unit_test(test_a_filter_that_answered_the_end_is_not_told),
        cmocka_unit_test(test_edits),
        cmocka_unit_test(test_edits_that_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
