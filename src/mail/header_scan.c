#include "mail/header_scan.h"

enum state {
    BEGIN, /* of a line */
    NAME,
    BLANK, /* between a name and its colon: obsolete syntax (RFC 5322 4.5) */
    REST,  /* of the line */
};

static void name_ended(struct header_scan *scan)
{
    struct bytes name = bytes_of(scan->name, scan->length < sizeof scan->name ? scan->length : sizeof scan->name);
    bool whole = scan->length <= sizeof scan->name;
    scan->date |= whole && bytes_equal_nocase(name, BYTES("date"));
    scan->message_id |= whole && bytes_equal_nocase(name, BYTES("message-id"));
    scan->some = true;
    scan->state = REST;
}

static void name_octet(struct header_scan *scan, char c)
{
    if (scan->length < sizeof scan->name) {
        scan->name[scan->length] = c;
    }
    scan->length = (uint8_t)(scan->length + (scan->length <= sizeof scan->name));
    scan->state = NAME;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void take(struct header_scan *scan, char c)
{
    bool in_name = c > ' ' && c < 0x7f && c != ':';
    if (scan->state == REST) {
        scan->state = c == '\n' ? BEGIN : REST;
    } else if (scan->state != BEGIN && c == ':') {
        name_ended(scan);
    } else if (scan->state == NAME && in_name) {
        name_octet(scan, c);
    } else if (scan->state != BEGIN && is_blank(c)) {
        scan->state = BLANK;
    } else if (scan->state == BEGIN && scan->some && is_blank(c)) {
        scan->state = REST;                                   /* the line before goes on */
    } else if (scan->state == BEGIN && in_name && c != '.') { /* a line with a dot is stuffed, or the end */
        scan->length = 0;
        name_octet(scan, c);
    } else {
        scan->over = true;
        scan->headless = !scan->some && (scan->state != BEGIN || c != '\r');
    }
}

void header_scan(struct header_scan *scan, struct bytes piece)
{
    for (size_t i = 0; i < piece.length && !scan->over; i++) {
        if (scan->state == REST) { /* most octets */
            const char *end = memchr(piece.data + i, '\n', piece.length - i);
            if (end == NULL) {
                return;
            }
            i = (size_t)(end - piece.data);
        }
        take(scan, piece.data[i]);
    }
}
