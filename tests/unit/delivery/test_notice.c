/* Notifications about envelopes whose every field is whatever octets a disk may give back. */
#include "delivery/notice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "spool/envelope.h"

static struct shard shard = {.wall_ms = UINT64_C(1700000000000)};
static struct queue queue = {.settings = {.expire_ms = 345600000}};
static struct delivery_settings settings = {
    .hostname = {.data = "mx.test", .length = 7}, .bounces = true, .bounce_quote_bytes_max = 50000};
static struct delivery delivery = {.shard = &shard, .queue = &queue, .settings = &settings};
static struct rng rng;

static char envelope_room[65536];
static struct buffer envelope;
static char record[65536];

static struct spool_view view_of(const char *prologue, struct bytes body, uint32_t flags)
{
    struct buffer room = buffer_of(record, sizeof record);
    assert_true(buffer_append_string(&room, prologue) && buffer_append(&room, body));
    return (struct spool_view){
        .id = 0x0100000000000007,
        .record = buffer_bytes(&room),
        .arrival_ms = shard.wall_ms - 1000,
        .body_bytes = body.length,
        .flags = flags,
        .envelope = buffer_bytes(&envelope),
        .prologue = bytes_slice(buffer_bytes(&room), 0, strlen(prologue)),
        .body = bytes_slice(buffer_bytes(&room), strlen(prologue), body.length),
    };
}

static struct bytes any_octets(char room[static 600], size_t max)
{
    static const char *const pieces[] = {"\r\n", "\r\n.\r\n", "\r\n--", "--", ".",
                                         "\n",   "\xc3\xa4",  "+0D+0A", "+",  ";"};
    size_t length = 0;
    while (length < max) {
        if (rng_below(&rng, 3) == 0) {
            const char *piece = pieces[rng_below(&rng, sizeof pieces / sizeof *pieces)];
            size_t octets = strlen(piece) < max - length ? strlen(piece) : max - length;
            memcpy(room + length, piece, octets);
            length += octets;
        } else {
            room[length++] = (char)rng_below(&rng, 256);
        }
        if (rng_below(&rng, 80) == 0) {
            break;
        }
    }
    return bytes_of(room, length);
}

/* Our boundary, whatever it is, stands where it stands in every notification; no line is bare, too long or a dot. */
static void check_structure(const char *text, size_t length, bool utf8)
{
    char boundary[80];
    const char *at = strstr(text, "boundary=\"");
    assert_non_null(at);
    snprintf(boundary, sizeof boundary, "\r\n--%.33s", at + strlen("boundary=\""));
    unsigned delimiters = 0;
    for (const char *found = text; (found = strstr(found, "\r\n--")) != NULL; found++) {
        assert_int_equal(strncmp(found, boundary, strlen(boundary)), 0);
        delimiters++;
    }
    assert_int_equal(delimiters, 4);
    assert_int_equal(strlen(text), length);
    assert_true(length > 5 && strcmp(text + length - 5, "\r\n.\r\n") == 0);
    size_t column = 0;
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t octets = utf8_take(bytes_of(text + i, length - i), &code);
        assert_true(octets != 0 && (code < 0x80 || (utf8 && code > 0x9f)));
        assert_true(code >= ' ' || code == '\t' || code == '\r' || code == '\n');
        assert_true(code != 0x7f && (code != '\n' || text[i - 1] == '\r') && (code != '\r' || text[i + 1] == '\n'));
        assert_false(column == 0 && code == '.' && text[i + 1] != '.' && i != length - 3);
        column = code == '\n' ? 0 : column + octets;
        assert_true(column <= 1000);
        i += octets;
    }
}

static void test_hostile_envelopes(void **state)
{
    static const uint8_t verdicts[] = {LEND_ATTEMPTED, LEND_UNSEEN,  LEND_EXPIRED,
                                       LEND_OVERDUE,   LEND_DELAYED, LEND_BOUNCED};
    (void)state;
    rng_seed(&rng, 5);
    rng_seed(&shard.rng, 6);
    for (unsigned round = 0; round < 3000; round++) {
        char octets[600];
        envelope = buffer_of(envelope_room, sizeof envelope_room);
        struct lend_outcome what = {.verdict = verdicts[round % 6], .count = (uint8_t)(1 + rng_below(&rng, 4))};
        assert_true(envelope_add(&envelope, ENVELOPE_SENDER, 0, any_octets(octets, 250)));
        envelope_add(&envelope, ENVELOPE_ID, 0, any_octets(octets, 90));
        envelope_add(&envelope, ENVELOPE_RETURN, 0, bytes_of("H", 1));
        envelope_add(&envelope, ENVELOPE_PRIORITY, 0, any_octets(octets, 1));
        for (unsigned i = 0; i < what.count; i++) {
            envelope_add(&envelope, ENVELOPE_RECIPIENT, i == 0 ? 0 : (uint8_t)rng_below(&rng, 256),
                         any_octets(octets, 250));
            envelope_add(&envelope, ENVELOPE_ORIGINAL_RECIPIENT, 0, any_octets(octets, 600));
            what.recipients[i].recipient = (uint16_t)i;
        }
        if (envelope_find(buffer_bytes(&envelope), ENVELOPE_SENDER).length == 0) {
            continue;
        }
        what.status = what.verdict == LEND_DELAYED                                   ? SPOOL_FORMAT_DEFERRED
                      : what.verdict == LEND_EXPIRED || what.verdict == LEND_OVERDUE ? SPOOL_FORMAT_EXPIRED
                                                                                     : SPOOL_FORMAT_FAILED;
        what.reply_code = round % 3 == 0 ? 0 : 550;
        struct bytes text = any_octets(octets, 500);
        memcpy(what.tail, text.data, text.length);
        what.text_bytes = (uint16_t)text.length;
        text = any_octets(octets, LEND_HOST_BYTES);
        memcpy(what.tail + what.text_bytes, text.data, text.length);
        what.host_bytes = (uint8_t)text.length;
        bool utf8 = round % 2 != 0;
        struct spool_view view = view_of("Received: from x\r\n", BYTES("Subject: x\r\n\r\nb\r\n.\r\n"),
                                         utf8 ? SPOOL_FORMAT_SMTPUTF8 : 0);
        struct buffer built;
        struct buffer to;
        uint32_t flags;
        assert_true(notice_possible(&what) && notice_wanted(&view, &what));
        notice_build(&delivery, &view, &what, 99, &built, &to, &flags);
        char *copy = calloc(1, built.length + 1);
        memcpy(copy, built.data, built.length);
        check_structure(copy, built.length, utf8);
        uint32_t recipients;
        assert_int_equal(envelope_check(buffer_bytes(&to), &recipients), ERR_OK);
        assert_int_equal(recipients, 1);
        assert_int_equal(envelope_find(buffer_bytes(&to), ENVELOPE_SENDER).length, 0);
        assert_int_equal(flags & ~SPOOL_FORMAT_HAS_8BIT, SPOOL_FORMAT_BOUNCE | (utf8 ? SPOOL_FORMAT_SMTPUTF8 : 0));
        bool ascii = true;
        for (size_t i = 0; i < built.length; i++) {
            ascii = ascii && (copy[i] & 0x80) == 0;
        }
        /* else it could only go where SMTPUTF8 is, though it does without */
        assert_int_equal((flags & SPOOL_FORMAT_HAS_8BIT) == 0, ascii);
        free(copy);
        free(built.data);
        free(to.data);
    }
}

/* Every NOTIFY against every fate (RFC 3461 4.1). */
static void test_who_is_told(void **state)
{
    (void)state;
    for (unsigned notify = 0; notify < 16; notify++) {
        envelope = buffer_of(envelope_room, sizeof envelope_room);
        envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("a@a"));
        envelope_add(&envelope, ENVELOPE_RECIPIENT, (uint8_t)notify, BYTES("b@b"));
        struct spool_view view = view_of("", BYTES(".\r\n"), 0);
        struct lend_outcome failed = {.status = SPOOL_FORMAT_FAILED, .verdict = LEND_ATTEMPTED, .count = 1};
        struct lend_outcome late = {.status = SPOOL_FORMAT_DEFERRED, .verdict = LEND_DELAYED, .count = 1};
        struct lend_outcome relayed = {
            .status = SPOOL_FORMAT_DELIVERED, .verdict = LEND_ATTEMPTED, .count = 1, .facts = LEND_ASKED};
        struct lend_outcome passed = relayed;
        struct lend_outcome deferred = {.status = SPOOL_FORMAT_DEFERRED, .verdict = LEND_ATTEMPTED, .count = 1};
        struct lend_outcome removed = {.status = SPOOL_FORMAT_REMOVED, .verdict = LEND_REMOVED, .count = 1};
        passed.facts |= LEND_PEER_HAS_DSN;
        assert_int_equal(notice_wanted(&view, &failed), notify == 0 || (notify & ENVELOPE_NOTIFY_FAILURE) != 0);
        assert_int_equal(notice_wanted(&view, &late), notify == 0 || (notify & ENVELOPE_NOTIFY_DELAY) != 0);
        assert_int_equal(notice_wanted(&view, &relayed), (notify & ENVELOPE_NOTIFY_SUCCESS) != 0);
        assert_true(notice_possible(&failed) && notice_possible(&late) && notice_possible(&relayed));
        assert_false(notice_possible(&passed) || notice_possible(&deferred) || notice_possible(&removed));
    }
}

/* RET=FULL, and what speaks against it. */
static void test_what_is_returned(void **state)
{
    static const struct {
        const char *ret;
        uint32_t flags;
        uint8_t status;
        bool whole;
    } cases[] = {
        {"F", 0, SPOOL_FORMAT_FAILED, true},
        {"F", SPOOL_FORMAT_HAS_8BIT, SPOOL_FORMAT_EXPIRED, true},
        {"H", 0, SPOOL_FORMAT_FAILED, false},
        {"", 0, SPOOL_FORMAT_FAILED, false},
        {"F", SPOOL_FORMAT_REQUIRETLS, SPOOL_FORMAT_FAILED, false},
        {"F", SPOOL_FORMAT_BINARY, SPOOL_FORMAT_FAILED, false},
        {"F", 0, SPOOL_FORMAT_DELIVERED, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        envelope = buffer_of(envelope_room, sizeof envelope_room);
        envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("a@a"));
        if (cases[i].ret[0] != '\0') {
            envelope_add(&envelope, ENVELOPE_RETURN, 0, bytes_of_string(cases[i].ret));
        }
        envelope_add(&envelope, ENVELOPE_RECIPIENT, ENVELOPE_NOTIFY_SUCCESS | ENVELOPE_NOTIFY_FAILURE, BYTES("b@b"));
        struct spool_view view = view_of("Received: y\r\n", BYTES("S: x\r\n\r\nthe body\r\n.\r\n"), cases[i].flags);
        struct lend_outcome what = {.status = cases[i].status,
                                    .verdict = LEND_ATTEMPTED,
                                    .count = 1,
                                    .facts = LEND_ASKED,
                                    .enhanced = {5, 1, 1}};
        struct buffer built;
        struct buffer to;
        uint32_t flags;
        notice_build(&delivery, &view, &what, 99, &built, &to, &flags);
        assert_int_equal(memmem(built.data, built.length, "the body", 8) != NULL, cases[i].whole);
        assert_int_equal(memmem(built.data, built.length, "message/rfc822", 14) != NULL, cases[i].whole);
        assert_non_null(memmem(built.data, built.length, "S: x\r\n", 6));
        assert_int_equal(flags & SPOOL_FORMAT_HAS_8BIT, cases[i].whole ? cases[i].flags & SPOOL_FORMAT_HAS_8BIT : 0);
        assert_int_equal(flags & SPOOL_FORMAT_REQUIRETLS, cases[i].flags & SPOOL_FORMAT_REQUIRETLS);
        free(built.data);
        free(to.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_envelopes),
        cmocka_unit_test(test_who_is_told),
        cmocka_unit_test(test_what_is_returned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
