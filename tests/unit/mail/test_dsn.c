#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "mail/dsn.h"

static char room[64 * 1024];

static const struct dsn_recipient refused = {
    .address = {.data = "b@them.example", .length = 14},
    .action = DSN_FAILED,
    .status = {.data = "5.1.1", .length = 5},
    .remote_mta = {.data = "mx.them.example", .length = 15},
    .diagnostic = {.data = "550 5.1.1 no such user", .length = 22},
    .last_attempt_s = 60,
};

static struct dsn notification(const struct dsn_recipient *recipients, size_t count)
{
    return (struct dsn){
        .reporting_mta = BYTES("us.example"),
        .sender = BYTES("a@us.example"),
        .queue_id = BYTES("Q1"),
        .arrival_s = 1,
        .now_s = 3600,
        .recipients = recipients,
        .recipients_count = count,
        .header = BYTES("From: a@us.example\r\nSubject: hi\r\n..dotted: x\r\n\r\nbody\r\n.\r\n"),
        .boundary = BYTES("=_b1"),
    };
}

static const char *build(const struct dsn *dsn)
{
    struct buffer out = buffer_of(room, sizeof(room) - 1);
    assert_int_equal(dsn_build(dsn, &out), ERR_OK);
    room[out.length] = '\0';
    assert_int_equal(strlen(room), out.length);
    return room;
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) {
        n++;
    }
    return n;
}

static void a_bounce_is_this(void **state)
{
    (void)state;
    struct dsn dsn = notification(&refused, 1);
    assert_string_equal(build(&dsn), "From: Mail Delivery System <MAILER-DAEMON@us.example>\r\n"
                                     "To: <a@us.example>\r\n"
                                     "Subject: Undelivered mail returned to sender\r\n"
                                     "Date: Thu, 01 Jan 1970 01:00:00 +0000\r\n"
                                     "Message-ID: <=_b1@us.example>\r\n"
                                     "Auto-Submitted: auto-replied\r\n"
                                     "MIME-Version: 1.0\r\n"
                                     "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                                     " boundary=\"=_b1\"\r\n"
                                     "\r\n"
                                     "This is a delivery status notification in MIME format.\r\n"
                                     "\r\n--=_b1\r\n"
                                     "Content-Type: text/plain; charset=us-ascii\r\n"
                                     "\r\n"
                                     "This is the mail system at us.example.\r\n"
                                     "\r\n"
                                     "Your message could not be delivered to the recipients below.\r\n"
                                     "\r\n"
                                     "<b@them.example>: refused\r\n"
                                     "    host mx.them.example\r\n"
                                     "    said: 550 5.1.1 no such user\r\n"
                                     "\r\n--=_b1\r\n"
                                     "Content-Type: message/delivery-status\r\n"
                                     "\r\n"
                                     "Reporting-MTA: dns; us.example\r\n"
                                     "X-Ringpost-Queue-Id: Q1\r\n"
                                     "Arrival-Date: Thu, 01 Jan 1970 00:00:01 +0000\r\n"
                                     "\r\n"
                                     "Final-Recipient: rfc822; b@them.example\r\n"
                                     "Action: failed\r\n"
                                     "Status: 5.1.1\r\n"
                                     "Remote-MTA: dns; mx.them.example\r\n"
                                     "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
                                     "Last-Attempt-Date: Thu, 01 Jan 1970 00:01:00 +0000\r\n"
                                     "\r\n--=_b1\r\n"
                                     "Content-Type: text/rfc822-headers; charset=us-ascii\r\n"
                                     "\r\n"
                                     "From: a@us.example\r\n"
                                     "Subject: hi\r\n"
                                     "..dotted: x\r\n"
                                     "\r\n--=_b1--\r\n"
                                     ".\r\n");
}

static void several_recipients_in_one(void **state)
{
    (void)state;
    struct dsn_recipient recipients[3] = {refused, refused, refused};
    recipients[1].action = DSN_EXPIRED;
    recipients[1].remote_mta = recipients[1].diagnostic = (struct bytes){0};
    recipients[1].reason = BYTES("connection timed out");
    recipients[1].status = BYTES("5.4.7");
    recipients[2].original_recipient = BYTES("rfc822;c@them.example");
    struct dsn dsn = notification(recipients, 3);
    dsn.envelope_id = BYTES("QQ314");
    const char *text = build(&dsn);
    assert_int_equal(count(text, "\r\n\r\nFinal-Recipient: "), 2);
    assert_int_equal(count(text, "\r\n\r\nOriginal-Recipient: rfc822;c@them.example\r\nFinal-Recipient: "), 1);
    assert_int_equal(count(text, "Action: failed\r\n"), 3);
    assert_int_equal(count(text, "Diagnostic-Code: "), 2);
    assert_int_equal(count(text, ": given up, it was tried for too long\r\n    connection timed out\r\n"), 1);
    assert_int_equal(count(text, "\r\nOriginal-Envelope-Id: QQ314\r\n"), 1);
}

static void a_delay_says_so(void **state)
{
    (void)state;
    struct dsn_recipient late = refused;
    late.action = DSN_DELAYED;
    late.status = BYTES("4.4.1");
    late.retry_until_s = 7200;
    struct dsn dsn = notification(&late, 1);
    const char *text = build(&dsn);
    assert_int_equal(count(text, "Subject: Delayed mail (still being tried)\r\n"), 1);
    assert_int_equal(count(text, "Action: delayed\r\nStatus: 4.4.1\r\n"), 1);
    assert_int_equal(count(text, "Will-Retry-Until: Thu, 01 Jan 1970 02:00:00 +0000\r\n"), 1);
    assert_int_equal(count(text, "returned"), 0);
}

static void a_success_says_so(void **state)
{
    (void)state;
    struct dsn_recipient recipients[2] = {refused, refused};
    recipients[0].action = DSN_DELIVERED;
    recipients[0].status = BYTES("2.1.5");
    recipients[1].action = DSN_RELAYED;
    recipients[1].status = BYTES("2.0.0");
    recipients[1].diagnostic = BYTES("250 ok");
    struct dsn dsn = notification(recipients, 2);
    const char *text = build(&dsn);
    assert_int_equal(count(text, "Subject: Delivery report\r\n"), 1);
    assert_int_equal(count(text, "Action: delivered\r\nStatus: 2.1.5\r\n"), 1);
    assert_int_equal(count(text, "Action: relayed\r\nStatus: 2.0.0\r\n"), 1);
    assert_int_equal(count(text, "could not"), 0);
}

static void past_the_time_that_the_sender_set(void **state)
{
    (void)state;
    struct dsn_recipient late = refused;
    late.action = DSN_OVERDUE;
    late.status = BYTES("5.4.7");
    struct dsn dsn = notification(&late, 1);
    const char *text = build(&dsn);
    assert_int_equal(count(text, "Action: failed\r\nStatus: 5.4.7\r\n"), 1);
    assert_int_equal(count(text, "by the time you had set"), 1);
}

static void the_whole_original_is_returned(void **state)
{
    (void)state;
    static const char wire[] = "Subject: hi\r\n\r\n..a\r\n--=_b2\r\nb\xc3\xa4\r\n.\r\n";
    for (size_t cut = 0; cut < sizeof wire; cut++) { /* the final dot may lie in two pieces */
        struct bytes pieces[3] = {BYTES("Received: x\r\n"),
                                  {.data = wire, .length = cut},
                                  {.data = wire + cut, .length = sizeof wire - 1 - cut}};
        struct dsn dsn = notification(&refused, 1);
        dsn.whole = pieces;
        dsn.whole_count = 3;
        dsn.whole_is_8bit = true;
        const char *text = build(&dsn);
        assert_int_equal(count(text, "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
                                     "Received: x\r\nSubject: hi\r\n\r\n..a\r\n--=_b2\r\nb\xc3\xa4\r\n"
                                     "\r\n--=_b1--\r\n.\r\n"),
                         1);
        assert_int_equal(count(text, "text/rfc822-headers"), 0);
        assert_int_equal(count(text, "boundary=\"=_b1\"\r\nContent-Transfer-Encoding: 8bit\r\n"), 1);
    }
}

/* RFC 6533: characters stay what they are, in parts whose types say so. */
static void an_international_one(void **state)
{
    (void)state;
    struct dsn_recipient recipients[2] = {refused, refused};
    recipients[0].address = BYTES("j\xc3\xb6rg@them.example");
    recipients[0].original_recipient = BYTES("utf-8;j\xc3\xb6rg@them.example");
    recipients[0].diagnostic = BYTES("550 \xc3\xa4 \xff \xc2\x85 \xed\xa0\x80");
    struct dsn dsn = notification(recipients, 2);
    dsn.header = BYTES("Subject: gr\xc3\xbc\xc3\x9f\xff\r\n\r\n");
    dsn.utf8 = true;
    const char *text = build(&dsn);
    assert_int_equal(count(text, "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit"), 1);
    assert_int_equal(count(text, "Final-Recipient: utf-8; j\xc3\xb6rg@them.example\r\n"), 1);
    assert_int_equal(count(text, "Original-Recipient: utf-8;j\xc3\xb6rg@them.example\r\n"), 1);
    assert_int_equal(count(text, "Final-Recipient: rfc822; b@them.example\r\n"), 1);
    assert_int_equal(count(text, "Diagnostic-Code: smtp; 550 \xc3\xa4 ? ?? ???\r\n"), 1);
    assert_int_equal(count(text, "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
                                 "Subject: gr\xc3\xbc\xc3\x9f?\r\n"),
                     1);
    dsn.utf8 = false; /* the same octets where nobody said UTF-8 */
    text = build(&dsn);
    for (const char *c = text; *c != '\0'; c++) {
        assert_true((*c & 0x80) == 0);
    }
}

/* Wire form, 7-bit or UTF-8, bounded lines, our own structure and nobody else's. */
static void check_harmless(const char *text, bool utf8)
{
    struct bytes left = bytes_of_string(text);
    while (utf8 && left.length != 0) {
        uint32_t code = 0;
        size_t octets = utf8_take(left, &code);
        assert_true(octets != 0 && (code < 0x7f || code > 0x9f));
        bytes_advance(&left, octets);
    }
    size_t length = strlen(text);
    size_t column = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        assert_true(c == '\r' || c == '\n' || c == '\t' || (c >= ' ' && c <= '~') || (utf8 && (c & 0x80) != 0));
        assert_int_equal(c == '\r', text[i + 1] == '\n');
        assert_false(column == 0 && c == '.' && text[i + 1] != '.' && i != length - 3);
        column = c == '\n' ? 0 : column + 1;
        assert_true(column <= 999 + (text[i + 1 - column] == '.')); /* 998 and the CR; a stuffed dot is not counted */
    }
    assert_int_equal(count(text, "\r\n--"), 4);
    assert_int_equal(count(text, "\r\n--=_b1\r\n"), 3);
    assert_true(length > 5 && strcmp(text + length - 5, "\r\n.\r\n") == 0);
}

static void strangers_bytes_are_only_text(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    static const char *const pieces[] = {"\r\n",
                                         "\r",
                                         "\n",
                                         "--=_b1--",
                                         "--=_b1",
                                         ".",
                                         "\r\n.\r\n",
                                         "\xff\x80",
                                         "\xc3\xa4\xe2\x82\xac",
                                         "\xe2\x82",
                                         "\xc2\x85\xe2\x80\xa8",
                                         "\x01\x1b[",
                                         "Subject: x",
                                         ": ",
                                         " \t",
                                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static char hostile[40 * 1024];
    for (int round = 0; round < 2000; round++) {
        struct buffer text = buffer_of(hostile, 200 + (size_t)rng_below(&rng, sizeof(hostile) - 200));
        size_t repeat = 1 + (size_t)rng_below(&rng, 30);
        for (bool room_left = true; room_left;) {
            const char *piece = pieces[rng_below(&rng, sizeof(pieces) / sizeof(pieces[0]))];
            for (size_t i = 0; i < repeat && room_left; i++) {
                room_left = buffer_append_string(&text, piece);
            }
        }
        struct dsn_recipient recipient = refused;
        recipient.address = bytes_slice(buffer_bytes(&text), 0, 100);
        recipient.remote_mta = bytes_slice(buffer_bytes(&text), 10, 100);
        recipient.diagnostic = recipient.reason = buffer_bytes(&text);
        struct dsn dsn = notification(&recipient, 1);
        dsn.sender = bytes_slice(buffer_bytes(&text), 20, 100);
        dsn.envelope_id = dsn.queue_id = bytes_slice(buffer_bytes(&text), 30, 100);
        dsn.header = buffer_bytes(&text);
        recipient.original_recipient = bytes_slice(buffer_bytes(&text), 15, 100);
        recipient.action = (enum dsn_action)(round % (DSN_RELAYED + 1));
        dsn.utf8 = round % 2 != 0;
        check_harmless(build(&dsn), dsn.utf8);
    }
}

static void the_original_is_cut_at_a_line(void **state)
{
    (void)state;
    static char header[DSN_HEADER_BYTES_MAX + 4096];
    struct buffer text = buffer_of(header, sizeof(header));
    while (buffer_append_string(&text, "X-Filler: 0123456789012345678901234567890123456789\r\n")) {
    }
    struct dsn dsn = notification(&refused, 1);
    dsn.header = buffer_bytes(&text);
    const char *built = build(&dsn);
    unsigned lines = count(built, "X-Filler: 0123456789012345678901234567890123456789\r\n");
    assert_int_equal(lines, DSN_HEADER_BYTES_MAX / 52);
    assert_int_equal(count(built, "X-Filler"), lines);
    dsn.header = BYTES("");
    assert_int_equal(count(build(&dsn), "charset=us-ascii\r\n\r\n\r\n--=_b1--\r\n.\r\n"), 1);
}

static void what_does_not_fit_leaves_no_trace(void **state)
{
    (void)state;
    struct dsn dsn = notification(&refused, 1);
    size_t needed = strlen(build(&dsn));
    for (size_t capacity = 0; capacity <= needed; capacity++) {
        char *exact = malloc(capacity + 1);
        struct buffer out = buffer_of(exact, capacity);
        assert_int_equal(dsn_build(&dsn, &out), capacity < needed ? ERR_FULL : ERR_OK);
        assert_int_equal(out.length, capacity < needed ? 0 : needed);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bounce_is_this),
        cmocka_unit_test(several_recipients_in_one),
        cmocka_unit_test(a_delay_says_so),
        cmocka_unit_test(a_success_says_so),
        cmocka_unit_test(past_the_time_that_the_sender_set),
        cmocka_unit_test(the_whole_original_is_returned),
        cmocka_unit_test(an_international_one),
        cmocka_unit_test(strangers_bytes_are_only_text),
        cmocka_unit_test(the_original_is_cut_at_a_line),
        cmocka_unit_test(what_does_not_fit_leaves_no_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
