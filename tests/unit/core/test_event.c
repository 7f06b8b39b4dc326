#include "core/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>

#include "base/rng.h"

#define WALL_MS 1795296440123ull /* 2026-11-21T21:27:20.123Z */

static char room[2 * EVENT_LINE_BYTES];

static struct bytes line_of(const struct event *event)
{
    struct buffer out = buffer_of(room, sizeof room);
    assert_true(event_format(&out, event, 3, WALL_MS));
    assert_int_equal(room[out.length - 1], '\n');
    return buffer_bytes(&out);
}

static void assert_line(const struct event *event, const char *expected)
{
    struct bytes line = line_of(event);
    assert_int_equal(line.length, strlen(expected));
    assert_memory_equal(line.data, expected, line.length);
}

static void test_one_line_of_every_type(void **state)
{
    (void)state;
    struct event event = {
        .type = EVENT_RECEPTION,
        .id = 0x0100000000000abc,
        .sender = BYTES("a@example.com"),
        .recipient = BYTES("b@example.net"),
        .listener = BYTES("relay"),
        .client = BYTES("192.0.2.1"),
        .recipients = 2,
        .message_bytes = 4096,
        .phase = "rcpt",
        .reply_code = 550,
        .enhanced = {5, 7, 1},
        .reply = BYTES("no"),
        .host = BYTES("mx.example.net [192.0.2.7]"),
        .attempts = 3,
        .arrival_ms = WALL_MS - 1500,
        .next_attempt_ms = WALL_MS + 60000,
        .notice_id = 0x0100000000000abd,
        .tls = BYTES("TLSv1.3"),
        .user = BYTES("ann"),
        .priority = -3,
    };
#define HEAD(type) \
    "{\"event\":\"" type "\",\"time\":\"2026-11-21T21:27:20.123Z\",\"shard\":3,\"id\":\"0100000000000abc\","
#define TRIED                                                                                               \
    "\"sender\":\"a@example.com\",\"recipient\":\"b@example.net\",\"host\":\"mx.example.net [192.0.2.7]\"," \
    "\"code\":550,\"status\":\"5.7.1\",\"reply\":\"no\",\"attempts\":3,\"queued_ms\":1500"
    assert_line(&event,
                HEAD("reception") "\"listener\":\"relay\",\"client\":\"192.0.2.1\",\"sender\":\"a@example.com\","
                                  "\"recipients\":2,\"bytes\":4096,\"durability\":\"sync\","
                                  "\"tls\":\"TLSv1.3\",\"user\":\"ann\",\"priority\":-3}\n");
    event.type = EVENT_DELIVERY;
    assert_line(&event, HEAD("delivery") TRIED ",\"tls\":\"TLSv1.3\"}\n");
    event.type = EVENT_DEFERRAL;
    assert_line(&event, HEAD("deferral") TRIED ",\"next_attempt\":\"2026-11-21T21:28:20.123Z\"}\n");
    event.type = EVENT_BOUNCE;
    assert_line(&event, HEAD("bounce") TRIED ",\"notice\":\"0100000000000abd\"}\n");
    event.type = EVENT_EXPIRY;
    event.notice_id = 0;
    assert_line(&event, HEAD("expiry") TRIED ",\"notice\":\"\"}\n");
    event.type = EVENT_REJECTION;
    assert_line(&event,
                HEAD("rejection") "\"listener\":\"relay\",\"client\":\"192.0.2.1\",\"sender\":\"a@example.com\","
                                  "\"phase\":\"rcpt\",\"recipient\":\"b@example.net\",\"code\":550,"
                                  "\"status\":\"5.7.1\",\"reply\":\"no\",\"user\":\"ann\"}\n");
}

static void test_what_is_not_known_is_empty(void **state)
{
    (void)state;
    struct event event = {.type = EVENT_BOUNCE};
    assert_line(&event,
                "{\"event\":\"bounce\",\"time\":\"2026-11-21T21:27:20.123Z\",\"shard\":3,\"id\":\"\",\"sender\":\"\","
                "\"recipient\":\"\",\"host\":\"\",\"code\":0,\"status\":\"\",\"reply\":\"\",\"attempts\":0,"
                "\"queued_ms\":1795296440123,\"notice\":\"\"}\n");
}

static void test_strings_are_escaped(void **state)
{
    (void)state;
    static const struct {
        struct bytes text;
        const char *expected;
    } cases[] = {
        {BYTES(""), "\"\""},
        {BYTES("a\"b\\c"), "\"a\\\"b\\\\c\""},
        {BYTES("a\r\nb\0\x7f"), "\"a\\u000d\\u000ab\\u0000\\u007f\""},
        {BYTES("b\xc3\xbc\xe2\x82\xac\xf0\x9f\x93\xa7"), "\"b\xc3\xbc\xe2\x82\xac\xf0\x9f\x93\xa7\""},
        {BYTES("\xc3"), "\"\xef\xbf\xbd\""},                                                 /* cut off */
        {BYTES("\xc0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\""},                                 /* overlong */
        {BYTES("\xe0\x9f\xbf"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},                 /* overlong */
        {BYTES("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},                 /* a surrogate */
        {BYTES("\xf4\x90\x80\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* beyond Unicode */
        {BYTES("\xe2\x82z"), "\"\xef\xbf\xbd\xef\xbf\xbdz\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer out = buffer_of(room, sizeof room);
        event_put_string(&out, cases[i].text);
        assert_true(bytes_equal(buffer_bytes(&out), bytes_of_string(cases[i].expected)));
    }
}

static void test_long_text_is_cut_at_a_character(void **state)
{
    (void)state;
    char text[EVENT_TEXT_BYTES + 8];
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 <= sizeof text; i += 3) {
            memcpy(text + i, "\xe2\x82\xac", 3);
        }
        struct buffer out = buffer_of(room, sizeof room);
        event_put_string(&out, bytes_of(text, sizeof text - 2));
        assert_true(out.length - 2 <= EVENT_TEXT_BYTES && out.length - 2 > EVENT_TEXT_BYTES - 3);
        assert_int_equal((out.length - 2 - shift) % 3, 0);
    }
}

static void test_worst_line_fits(void **state)
{
    (void)state;
    char text[EVENT_TEXT_BYTES];
    memset(text, 1, sizeof text);
    struct bytes worst = bytes_of(text, sizeof text);
    struct event event = {
        .id = UINT64_MAX,
        .sender = worst,
        .recipient = worst,
        .listener = worst,
        .client = worst,
        .reply = worst,
        .host = worst,
        .phase = "connect",
        .recipients = UINT32_MAX,
        .message_bytes = UINT64_MAX,
        .reply_code = UINT32_MAX,
        .enhanced = {255, 255, 255},
        .attempts = UINT32_MAX,
        .next_attempt_ms = WALL_MS,
    };
    for (event.type = 0; event.type < EVENT_TYPES; event.type++) {
        struct buffer out = buffer_of(room, EVENT_LINE_BYTES - 1);
        assert_false(event_format(&out, &event, 63, WALL_MS));
        assert_int_equal(out.length, 0);
        out.capacity = EVENT_LINE_BYTES;
        assert_true(event_format(&out, &event, 63, WALL_MS));
    }
}

/* Whatever a peer sends, a line is one line and strict JSON. */
static void test_random_octets_give_json(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    for (unsigned round = 0; round < 3000; round++) {
        char text[4][600];
        struct bytes texts[4];
        for (unsigned i = 0; i < 4; i++) {
            size_t length = rng_below(&rng, sizeof text[i]);
            for (size_t j = 0; j < length; j++) {
                text[i][j] = (char)(round % 2 == 0 ? rng_next(&rng) : rng_below(&rng, 128));
            }
            texts[i] = bytes_of(text[i], length);
        }
        struct event event = {.type = (enum event_type)rng_below(&rng, EVENT_TYPES),
                              .sender = texts[0],
                              .recipient = texts[1],
                              .reply = texts[2],
                              .client = texts[3]};
        struct bytes line = line_of(&event);
        assert_ptr_equal(memchr(line.data, '\n', line.length), line.data + line.length - 1);
        json_t *json = json_loadb(line.data, line.length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        assert_non_null(json);
        assert_string_equal(json_string_value(json_object_get(json, "event")), event_name(event.type));
        json_decref(json);
    }
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        uint64_t wall_ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {951782399999, "2000-02-28T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {951868800000, "2000-03-01T00:00:00.000Z"},
        {1735689599999, "2024-12-31T23:59:59.999Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct event event = {.type = EVENT_DELIVERY};
        struct buffer out = buffer_of(room, sizeof room);
        assert_true(event_format(&out, &event, 0, cases[i].wall_ms));
        assert_memory_equal(strchr(room, ',') + sizeof ",\"time\":\"" - 1, cases[i].text, 24);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line_of_every_type),
        cmocka_unit_test(test_what_is_not_known_is_empty),
        cmocka_unit_test(test_strings_are_escaped),
        cmocka_unit_test(test_long_text_is_cut_at_a_character),
        cmocka_unit_test(test_worst_line_fits),
        cmocka_unit_test(test_random_octets_give_json),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
