/* One thing that happened to mail, and its JSON line. The schema is include/ringpost/event.h. */
#ifndef CORE_EVENT_H
#define CORE_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define EVENT_TEXT_BYTES 512   /* longer values are cut, at a character */
#define EVENT_LINE_BYTES 20480 /* the longest line: six texts of octets that become six each */

enum event_type {
    EVENT_RECEPTION,
    EVENT_DELIVERY,
    EVENT_DEFERRAL,
    EVENT_BOUNCE,
    EVENT_EXPIRY,
    EVENT_REJECTION,
    EVENT_REMOVAL,
    EVENT_FILTER,
    EVENT_TYPES,
};

/* Only the fields that the type has are looked at; those that are not known stay zero. */
struct event {
    enum event_type type;
    uint64_t id; /* 0: none */
    struct bytes sender;
    struct bytes recipient;
    /* reception, rejection */
    struct bytes listener;
    struct bytes client;
    unsigned recipients;
    uint64_t message_bytes;
    bool relaxed;
    int priority; /* MT-PRIORITY */
    const char *phase;
    struct bytes tls;
    struct bytes user;
    /* filter */
    struct bytes filter;
    const char *action;
    /* what was answered */
    unsigned reply_code;
    uint8_t enhanced[3];
    struct bytes reply;
    struct bytes host;
    /* the rest */
    unsigned attempts;
    uint64_t arrival_ms;      /* wall clock */
    uint64_t next_attempt_ms; /* wall clock */
    uint64_t notice_id;
};

/* "reception" and so on. */
const char *event_name(enum event_type type);

/* Appends the line, line feed included; false, and nothing appended, without EVENT_LINE_BYTES of room. */
bool event_format(struct buffer *out, const struct event *event, unsigned shard, uint64_t wall_ms);

/* Appends a JSON string with its quotes. Octets that are no UTF-8 become U+FFFD each. At most EVENT_TEXT_BYTES of
 * `text`, and six times that plus two of `out`, which must have the room. */
void event_put_string(struct buffer *out, struct bytes text);

#endif
