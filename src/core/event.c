/* Formatting costs a few hundred nanoseconds, because there may be several events per message: the room for the longest
 * line is asked for once, then everything is plain stores behind a moving pointer, and text that needs no escape is one
 * memcpy. */
#include "core/event.h"

#include <assert.h>

#include "base/check.h"
#include "ringpost/event.h"

#define TEXTS_MAX 6           /* of one event */
#define BESIDE_BYTES_MAX 1000 /* keys, numbers, times */

static_assert(EVENT_LINE_BYTES >= TEXTS_MAX * (6 * EVENT_TEXT_BYTES + 2) + BESIDE_BYTES_MAX, "a line always fits");

const char *event_name(enum event_type type)
{
    static const char *const names[] = {
        [EVENT_RECEPTION] = RINGPOST_EVENT_RECEPTION, [EVENT_DELIVERY] = RINGPOST_EVENT_DELIVERY,
        [EVENT_DEFERRAL] = RINGPOST_EVENT_DEFERRAL,   [EVENT_BOUNCE] = RINGPOST_EVENT_BOUNCE,
        [EVENT_EXPIRY] = RINGPOST_EVENT_EXPIRY,       [EVENT_REJECTION] = RINGPOST_EVENT_REJECTION,
        [EVENT_REMOVAL] = RINGPOST_EVENT_REMOVAL,     [EVENT_FILTER] = RINGPOST_EVENT_FILTER,
    };
    CHECK(type < EVENT_TYPES);
    return names[type];
}

/* Room was made sure of. */
static inline void put(struct buffer *out, struct bytes bytes)
{
    memcpy(out->data + out->length, bytes.data, bytes.length);
    out->length += bytes.length;
}

/* Octets of the well-formed UTF-8 character (RFC 3629) at the beginning of `text`, or 0. Not for ASCII. */
static size_t utf8_length(const unsigned char *text, size_t length)
{
    unsigned char lead = text[0];
    size_t needed = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (needed == 0 || needed > length) {
        return 0;
    }
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;  /* else overlong */
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf; /* else a surrogate, or beyond Unicode */
    if (text[1] < low || text[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < needed; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return needed;
}

static bool plain(unsigned char c)
{
    return c >= ' ' && c < 0x7f && c != '"' && c != '\\';
}

#define EACH(octet) (0x0101010101010101ull * (octet)) /* eight octets, all the same */

/* Has one of eight octets a value below `bound`, or equal to zero for bound 1? Exact for octets without their highest
 * bit. */
static inline uint64_t any_below(uint64_t eight, unsigned char bound)
{
    return (eight - EACH(bound)) & ~eight & EACH(0x80);
}

/* How many octets need no escape, from the first on. Eight at a time as long as all eight are plain. */
static size_t plain_run(const unsigned char *text, size_t length)
{
    size_t run = 0;
    uint64_t eight;
    for (; run + sizeof eight <= length; run += sizeof eight) {
        memcpy(&eight, text + run, sizeof eight);
        if (((eight | (eight + EACH(1))) & EACH(0x80)) != 0 || any_below(eight, ' ') != 0 ||
            any_below(eight ^ EACH('"'), 1) != 0 || any_below(eight ^ EACH('\\'), 1) != 0) {
            break;
        }
    }
    while (run < length && plain(text[run])) {
        run++;
    }
    return run;
}

/* Appends what stands for the beginning of `text`, which is not plain. Returns how much of it that was. */
static size_t put_special(struct buffer *out, const unsigned char *text, size_t length)
{
    size_t character = text[0] < 0x80 ? 1 : utf8_length(text, length);
    if (character > 1) {
        put(out, bytes_of(text, character));
    } else if (character == 0) {
        put(out, BYTES("\xef\xbf\xbd"));
    } else if (text[0] == '"' || text[0] == '\\') {
        put(out, bytes_of((char[]){'\\', (char)text[0]}, 2));
    } else {
        static const char hex[] = "0123456789abcdef";
        put(out, bytes_of((char[]){'\\', 'u', '0', '0', hex[text[0] >> 4], hex[text[0] & 15]}, 6));
    }
    return character != 0 ? character : 1;
}

void event_put_string(struct buffer *out, struct bytes text)
{
    const unsigned char *at = (const unsigned char *)text.data;
    size_t left = text.length;
    if (left > EVENT_TEXT_BYTES) {
        for (left = EVENT_TEXT_BYTES; left > EVENT_TEXT_BYTES - 4 && (at[left] & 0xc0) == 0x80; left--) {
        }
    }
    put(out, BYTES("\""));
    while (left != 0) {
        size_t run = plain_run(at, left);
        put(out, bytes_of(at, run));
        at += run;
        left -= run;
        if (left != 0) {
            size_t taken = put_special(out, at, left);
            at += taken;
            left -= taken;
        }
    }
    put(out, BYTES("\""));
}

static char *put_digits(char *at, unsigned number, unsigned digits)
{
    for (unsigned i = digits; i-- > 0; number /= 10) {
        at[i] = (char)('0' + number % 10);
    }
    return at + digits;
}

/* "2026-11-21T21:27:20.123Z". The date is Howard Hinnant's civil_from_days: years begin in March, so that the leap day
 * is a year's last, and eras of 400 years are all alike. */
static void put_time(struct buffer *out, uint64_t wall_ms)
{
    uint64_t days = wall_ms / 86400000 + 719468;
    unsigned ms = (unsigned)(wall_ms % 86400000);
    unsigned day_of_era = (unsigned)(days % 146097);
    unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted = (5 * day_of_year + 2) / 153;
    unsigned month = shifted < 10 ? shifted + 3 : shifted - 9;
    unsigned year = (unsigned)(days / 146097) * 400 + year_of_era + (month <= 2);
    char text[26] = "\"0000-00-00T00:00:00.000Z";
    put_digits(text + 1, year, 4);
    put_digits(text + 6, month, 2);
    put_digits(text + 9, day_of_year - (153 * shifted + 2) / 5 + 1, 2);
    put_digits(text + 12, ms / 3600000, 2);
    put_digits(text + 15, ms / 60000 % 60, 2);
    put_digits(text + 18, ms / 1000 % 60, 2);
    put_digits(text + 21, ms % 1000, 3);
    text[25] = '"';
    put(out, bytes_of(text, sizeof text));
}

static void put_id(struct buffer *out, uint64_t id)
{
    char text[18] = "\"";
    for (unsigned i = 0; i < 16; i++) {
        text[1 + i] = "0123456789abcdef"[id >> (60 - 4 * i) & 15];
    }
    text[17] = '"';
    put(out, id != 0 ? bytes_of(text, sizeof text) : BYTES("\"\""));
}

#define PUT_TEXT(out, key, text) (put(out, BYTES(",\"" key "\":")), event_put_string(out, text))
#define PUT_NUMBER(out, key, number) (put(out, BYTES(",\"" key "\":")), (void)buffer_append_number(out, number))
#define PUT_ID(out, key, id) (put(out, BYTES(",\"" key "\":")), put_id(out, id))
#define PUT_TIME(out, key, ms) (put(out, BYTES(",\"" key "\":")), put_time(out, ms))

static void put_answer(struct buffer *out, const struct event *event)
{
    PUT_NUMBER(out, "code", event->reply_code);
    put(out, BYTES(",\"status\":\""));
    if (event->enhanced[0] != 0) {
        for (unsigned i = 0; i < 3; i++) {
            put(out, i == 0 ? BYTES("") : BYTES("."));
            buffer_append_number(out, event->enhanced[i]);
        }
    }
    put(out, BYTES("\""));
    PUT_TEXT(out, "reply", event->reply);
}

static void put_reception(struct buffer *out, const struct event *event)
{
    PUT_TEXT(out, "listener", event->listener);
    PUT_TEXT(out, "client", event->client);
    PUT_TEXT(out, "sender", event->sender);
    PUT_NUMBER(out, "recipients", event->recipients);
    PUT_NUMBER(out, "bytes", event->message_bytes);
    put(out, event->relaxed ? BYTES(",\"durability\":\"relaxed\"") : BYTES(",\"durability\":\"sync\""));
    PUT_TEXT(out, "tls", event->tls);
    PUT_TEXT(out, "user", event->user);
    buffer_append_format(out, ",\"priority\":%d", event->priority);
}

static void put_rejection(struct buffer *out, const struct event *event)
{
    PUT_TEXT(out, "listener", event->listener);
    PUT_TEXT(out, "client", event->client);
    PUT_TEXT(out, "sender", event->sender);
    PUT_TEXT(out, "phase", event->phase != NULL ? bytes_of_string(event->phase) : BYTES(""));
    PUT_TEXT(out, "recipient", event->recipient);
    put_answer(out, event);
    PUT_TEXT(out, "user", event->user);
}

static void put_filter(struct buffer *out, const struct event *event)
{
    PUT_TEXT(out, "listener", event->listener);
    PUT_TEXT(out, "client", event->client);
    PUT_TEXT(out, "sender", event->sender);
    PUT_NUMBER(out, "recipients", event->recipients);
    PUT_NUMBER(out, "bytes", event->message_bytes);
    PUT_TEXT(out, "milter", event->filter);
    PUT_TEXT(out, "action", event->action != NULL ? bytes_of_string(event->action) : BYTES(""));
    PUT_TEXT(out, "reply", event->reply);
    PUT_TEXT(out, "user", event->user);
}

static void put_attempt(struct buffer *out, const struct event *event, uint64_t wall_ms)
{
    PUT_TEXT(out, "sender", event->sender);
    PUT_TEXT(out, "recipient", event->recipient);
    PUT_TEXT(out, "host", event->host);
    put_answer(out, event);
    PUT_NUMBER(out, "attempts", event->attempts);
    PUT_NUMBER(out, "queued_ms", wall_ms > event->arrival_ms ? wall_ms - event->arrival_ms : 0);
    if (event->type == EVENT_DELIVERY) {
        PUT_TEXT(out, "tls", event->tls);
    } else if (event->type == EVENT_DEFERRAL) {
        PUT_TIME(out, "next_attempt", event->next_attempt_ms);
    } else if (event->type == EVENT_BOUNCE || event->type == EVENT_EXPIRY) {
        PUT_ID(out, "notice", event->notice_id);
    }
}

bool event_format(struct buffer *out, const struct event *event, unsigned shard, uint64_t wall_ms)
{
    size_t before = out->length;
    if (buffer_room(out) < EVENT_LINE_BYTES) {
        return false;
    }
    put(out, BYTES("{\"event\":\""));
    put(out, bytes_of_string(event_name(event->type)));
    put(out, BYTES("\""));
    PUT_TIME(out, "time", wall_ms);
    PUT_NUMBER(out, "shard", shard);
    PUT_ID(out, "id", event->id);
    if (event->type == EVENT_RECEPTION) {
        put_reception(out, event);
    } else if (event->type == EVENT_REJECTION) {
        put_rejection(out, event);
    } else if (event->type == EVENT_FILTER) {
        put_filter(out, event);
    } else {
        put_attempt(out, event, wall_ms);
    }
    put(out, BYTES("}\n"));
    CHECK(out->length - before <= EVENT_LINE_BYTES);
    return true;
}
