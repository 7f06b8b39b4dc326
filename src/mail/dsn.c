/* Everything quoted here was written by strangers: the original's header by whoever sent it, the diagnostics by whoever
 * refused it. Three rules keep them from becoming more than text:
 *  - one function, quote(), lets strangers' bytes in: printable ASCII passes, and in an internationalised notification
 *    well-formed UTF-8; every other octet becomes a '?';
 *  - the original's header is taken apart into lines and put together again, so line ends and dot-stuffing are ours;
 *    a line that starts like a boundary delimiter is disarmed, so the MIME structure is ours too;
 *  - each line is cut off at 998 octets.
 * An original that is returned whole is quoted as it is, dots and all; its lines were judged when it was received, and
 * the boundary is one that nobody could foresee.
 * A notification about ordinary mail is plain 7-bit text and needs no extension of any peer. */
#include "mail/dsn.h"

#include <stdio.h>

#include "base/utf8.h"
#include "mail/date.h"

enum { LINE_BYTES_MAX = 998 };

/* What is appended to, and whether all of it fitted so far. */
struct writer {
    struct buffer *out;
    bool fits;
    bool utf8;
};

static void put(struct writer *w, struct bytes text)
{
    w->fits = w->fits && buffer_append(w->out, text);
}

static void put_string(struct writer *w, const char *text)
{
    put(w, bytes_of_string(text));
}

static void quote(struct writer *w, struct bytes text)
{
    if (!w->fits || buffer_room(w->out) < text.length) {
        w->fits = false;
        return;
    }
    while (text.length != 0) {
        char c = text.data[0];
        uint32_t code = 0;
        size_t octets = w->utf8 && (c & 0x80) != 0 ? utf8_take(text, &code) : 0;
        if (octets != 0 && code > 0x9f) {
            buffer_append(w->out, bytes_slice(text, 0, octets));
        } else {
            octets = 1;
            w->out->data[w->out->length++] = c == '\t' || (c >= ' ' && c <= '~') ? c : '?';
        }
        bytes_advance(&text, octets);
    }
}

/* "Name: type; value", unless the value is empty. The names and types are ours and short. */
static void put_field(struct writer *w, const char *name, struct bytes value)
{
    if (value.length != 0) {
        size_t room = LINE_BYTES_MAX - strlen(name);
        put_string(w, name);
        quote(w, bytes_slice(value, 0, value.length < room ? value.length : room));
        put_string(w, "\r\n");
    }
}

static void put_date(struct writer *w, const char *name, int64_t unix_s)
{
    if (unix_s != 0) {
        put_string(w, name);
        w->fits = w->fits && date_append(w->out, unix_s);
        put_string(w, "\r\n");
    }
}

static void put_delimiter(struct writer *w, const struct dsn *dsn, const char *content_type)
{
    put_string(w, "\r\n--");
    put(w, dsn->boundary);
    put_string(w, "\r\nContent-Type: ");
    put_string(w, content_type);
    put_string(w, "\r\n\r\n");
}

/* What one notification is about. */
enum kind { FAILURE, DELAY, SUCCESS };

static const struct {
    enum kind kind;
    const char *action;
    const char *words; /* behind the address */
} actions[] = {
    [DSN_FAILED] = {FAILURE, "Action: failed\r\n", ">: refused\r\n"},
    [DSN_EXPIRED] = {FAILURE, "Action: failed\r\n", ">: given up, it was tried for too long\r\n"},
    [DSN_OVERDUE] = {FAILURE, "Action: failed\r\n", ">: given up, not delivered by the time you had set\r\n"},
    [DSN_DELAYED] = {DELAY, "Action: delayed\r\n", ">: not delivered yet\r\n"},
    [DSN_DELIVERED] = {SUCCESS, "Action: delivered\r\n", ">: delivered\r\n"},
    [DSN_RELAYED] = {SUCCESS, "Action: relayed\r\n",
                     ">: passed on to a host that does not tell what becomes of it\r\n"},
};

static enum kind kind_of(const struct dsn *dsn)
{
    return actions[dsn->recipients[0].action].kind;
}

static void put_header(struct writer *w, const struct dsn *dsn)
{
    put_string(w, "From: Mail Delivery System <MAILER-DAEMON@");
    quote(w, dsn->reporting_mta);
    put_string(w, ">\r\nTo: <");
    quote(w, dsn->sender);
    static const char *const subjects[] = {
        [FAILURE] = ">\r\nSubject: Undelivered mail returned to sender\r\n",
        [DELAY] = ">\r\nSubject: Delayed mail (still being tried)\r\n",
        [SUCCESS] = ">\r\nSubject: Delivery report\r\n",
    };
    put_string(w, subjects[kind_of(dsn)]);
    put_date(w, "Date: ", dsn->now_s);
    put_string(w, "Message-ID: <");
    put(w, dsn->boundary);
    put_string(w, "@");
    quote(w, dsn->reporting_mta);
    put_string(w, ">\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; "
                  "report-type=delivery-status;\r\n boundary=\"");
    put(w, dsn->boundary);
    put_string(w, dsn->utf8 || dsn->whole_is_8bit ? "\"\r\nContent-Transfer-Encoding: 8bit\r\n" : "\"\r\n");
    put_string(w, "\r\nThis is a delivery status notification in MIME format.\r\n");
}

static void put_explanation(struct writer *w, const struct dsn *dsn)
{
    static const char *const words[] = {
        [FAILURE] = ".\r\n\r\nYour message could not be delivered to the recipients below.\r\n",
        [DELAY] = (".\r\n\r\nYour message could not be delivered yet. Nothing needs to be done: it is still being\r\n"
                   "tried, and you will be told if it fails for good.\r\n"),
        [SUCCESS] = ".\r\n\r\nYou asked to be told what became of your message.\r\n",
    };
    put_delimiter(w, dsn,
                  dsn->utf8 ? "text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit"
                            : "text/plain; charset=us-ascii");
    put_string(w, "This is the mail system at ");
    quote(w, dsn->reporting_mta);
    put_string(w, words[kind_of(dsn)]);
    for (size_t i = 0; i < dsn->recipients_count; i++) {
        const struct dsn_recipient *recipient = &dsn->recipients[i];
        put_string(w, "\r\n<");
        quote(w, recipient->address);
        put_string(w, actions[recipient->action].words);
        put_field(w, "    ", recipient->reason);
        put_field(w, "    host ", recipient->remote_mta);
        put_field(w, "    said: ", recipient->diagnostic);
    }
}

static bool is_ascii(struct bytes text)
{
    for (size_t i = 0; i < text.length; i++) {
        if ((text.data[i] & 0x80) != 0) {
            return false;
        }
    }
    return true;
}

static void put_status(struct writer *w, const struct dsn *dsn)
{
    put_delimiter(w, dsn,
                  dsn->utf8 ? "message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit"
                            : "message/delivery-status");
    put_field(w, "Reporting-MTA: dns; ", dsn->reporting_mta);
    put_field(w, "Original-Envelope-Id: ", dsn->envelope_id);
    put_field(w, "X-Ringpost-Queue-Id: ", dsn->queue_id);
    put_date(w, "Arrival-Date: ", dsn->arrival_s);
    for (size_t i = 0; i < dsn->recipients_count; i++) {
        const struct dsn_recipient *recipient = &dsn->recipients[i];
        put_string(w, "\r\n");
        put_field(w, "Original-Recipient: ", recipient->original_recipient);
        put_field(w, is_ascii(recipient->address) ? "Final-Recipient: rfc822; " : "Final-Recipient: utf-8; ",
                  recipient->address);
        put_string(w, actions[recipient->action].action);
        put_field(w, "Status: ", recipient->status);
        put_field(w, "Remote-MTA: dns; ", recipient->remote_mta);
        put_field(w, "Diagnostic-Code: smtp; ", recipient->diagnostic);
        put_date(w, "Last-Attempt-Date: ", recipient->last_attempt_s);
        put_date(w, "Will-Retry-Until: ", kind_of(dsn) == DELAY ? recipient->retry_until_s : 0);
    }
}

/* Takes a line off the original, without its end and stuffed dot. False at the end of its header. */
static bool take_line(struct bytes *rest, struct bytes *ret_line)
{
    const char *newline = rest->length == 0 ? NULL : memchr(rest->data, '\n', rest->length);
    if (newline == NULL) {
        return false; /* a piece of a line, where the header was cut off: not quoted */
    }
    struct bytes line = bytes_slice(*rest, 0, (size_t)(newline - rest->data));
    bytes_advance(rest, line.length + 1);
    if (line.length != 0 && line.data[line.length - 1] == '\r') {
        line.length--;
    }
    if (line.length != 0 && line.data[0] == '.') {
        bytes_advance(&line, 1);
    }
    *ret_line = line;
    return line.length != 0;
}

/* All but the final dot, which is the last three octets, wherever the pieces end. */
static void put_whole(struct writer *w, const struct dsn *dsn)
{
    const char *type = dsn->utf8 ? "message/global" : "message/rfc822";
    char content_type[80];
    size_t left = 0;
    snprintf(content_type, sizeof content_type, "%s%s", type,
             dsn->utf8 || dsn->whole_is_8bit ? "\r\nContent-Transfer-Encoding: 8bit" : "");
    put_delimiter(w, dsn, content_type);
    for (size_t i = 0; i < dsn->whole_count; i++) {
        left += dsn->whole[i].length;
    }
    left = left > 3 ? left - 3 : 0;
    for (size_t i = 0; i < dsn->whole_count; i++) {
        size_t length = dsn->whole[i].length < left ? dsn->whole[i].length : left;
        put(w, bytes_slice(dsn->whole[i], 0, length));
        left -= length;
    }
}

static void put_original(struct writer *w, const struct dsn *dsn)
{
    if (dsn->whole != NULL) {
        put_whole(w, dsn);
        return;
    }
    put_delimiter(w, dsn,
                  dsn->utf8 ? "message/global-headers\r\nContent-Transfer-Encoding: 8bit"
                            : "text/rfc822-headers; charset=us-ascii");
    struct bytes rest = dsn->header;
    if (rest.length > DSN_HEADER_BYTES_MAX) {
        rest.length = DSN_HEADER_BYTES_MAX;
    }
    struct bytes line;
    while (take_line(&rest, &line)) {
        line.length = line.length < LINE_BYTES_MAX ? line.length : LINE_BYTES_MAX;
        if (line.data[0] == '.') {
            put_string(w, ".");
        } else if (line.length >= 2 && line.data[0] == '-' && line.data[1] == '-') {
            put_string(w, "?");
            bytes_advance(&line, 1);
        }
        quote(w, line);
        put_string(w, "\r\n");
    }
}

static bool boundary_is_safe(struct bytes boundary)
{
    for (size_t i = 0; i < boundary.length; i++) {
        char c = boundary.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
              c == '-' || c == '=')) {
            return false;
        }
    }
    return boundary.length != 0 && boundary.length <= DSN_BOUNDARY_BYTES_MAX;
}

enum err dsn_build(const struct dsn *dsn, struct buffer *out)
{
    CHECK(dsn->recipients_count != 0 && dsn->sender.length != 0 && boundary_is_safe(dsn->boundary));
    for (size_t i = 0; i < dsn->recipients_count; i++) {
        CHECK(actions[dsn->recipients[i].action].kind == kind_of(dsn));
    }
    struct writer w = {.out = out, .fits = true, .utf8 = dsn->utf8};
    size_t before = out->length;
    put_header(&w, dsn);
    put_explanation(&w, dsn);
    put_status(&w, dsn);
    put_original(&w, dsn);
    put_string(&w, "\r\n--");
    put(&w, dsn->boundary);
    put_string(&w, "--\r\n.\r\n");
    if (!w.fits) {
        out->length = before;
        return ERR_FULL;
    }
    return ERR_OK;
}
