#include "smtp/reply.h"

#include "base/limits.h"

#define PREFIX_BYTES_MAX 16 /* "250-2.255.255 " and CRLF */

#define ENTRY(code_, class_, subject_, detail_, text_)                                       \
    {                                                                                        \
        .code = (code_), .enhanced = {(class_), (subject_), (detail_)}, .text = BYTES(text_) \
    }

/* The texts are for humans; programs go by the codes, which are of RFC 5321 4.2.3, RFC 7505 and RFC 5248's registry. */
static const struct reply catalogue[REPLY_COUNT] = {
    [REPLY_OK] = ENTRY(250, 2, 0, 0, "OK"),
    [REPLY_SENDER_OK] = ENTRY(250, 2, 1, 0, "Sender OK"),
    [REPLY_RECIPIENT_OK] = ENTRY(250, 2, 1, 5, "Recipient OK"),
    [REPLY_START_DATA] = ENTRY(354, 0, 0, 0, "End data with <CR><LF>.<CR><LF>"),
    [REPLY_QUEUED] = ENTRY(250, 2, 0, 0, "Queued"),
    [REPLY_HELP] = ENTRY(214, 2, 0, 0, "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP"),
    [REPLY_VRFY] = ENTRY(252, 2, 5, 0, "Cannot verify; send mail and see"),
    [REPLY_BYE] = ENTRY(221, 2, 0, 0, "Bye"),

    [REPLY_OVERLOAD] = ENTRY(421, 4, 3, 2, "Too many connections, try again later"),
    [REPLY_SHUTDOWN] = ENTRY(421, 4, 3, 2, "Shutting down, try again later"),
    [REPLY_IDLE] = ENTRY(421, 4, 4, 2, "Timeout"),
    [REPLY_TOO_MANY_ERRORS] = ENTRY(421, 4, 7, 0, "Too many errors"),
    [REPLY_NOT_SMTP] = ENTRY(421, 4, 7, 0, "This is not SMTP"),

    [REPLY_BAD_LINE] = ENTRY(500, 5, 5, 2, "Bare CR, bare LF or NUL; commands end in CRLF"),
    [REPLY_LINE_TOO_LONG] = ENTRY(500, 5, 5, 2, "Command line too long"),
    [REPLY_UNKNOWN_VERB] = ENTRY(500, 5, 5, 2, "Unknown command"),
    [REPLY_NOT_IMPLEMENTED] = ENTRY(502, 5, 5, 1, "Command not implemented"),
    [REPLY_BAD_ARGUMENT] = ENTRY(501, 5, 5, 4, "Bad argument"),
    [REPLY_BAD_SENDER] = ENTRY(501, 5, 1, 7, "Bad sender address syntax"),
    [REPLY_BAD_RECIPIENT] = ENTRY(501, 5, 1, 3, "Bad recipient address syntax"),
    [REPLY_BAD_SEQUENCE] = ENTRY(503, 5, 5, 1, "Bad sequence of commands"),
    [REPLY_NO_RECIPIENTS] = ENTRY(554, 5, 5, 1, "No valid recipients"),
    [REPLY_UNKNOWN_PARAMETER] = ENTRY(555, 5, 5, 4, "Unknown parameter"),
    [REPLY_NO_UTF8] = ENTRY(553, 5, 6, 7, "Non-ASCII address not permitted"),
    [REPLY_TOO_MANY_RECIPIENTS] = ENTRY(452, 4, 5, 3, "Too many recipients; send the rest in another transaction"),
    [REPLY_TOO_BIG] = ENTRY(552, 5, 3, 4, "Message too big"),
    [REPLY_PRIORITY_LOW] = ENTRY(550, 5, 7, 15, "Priority is too low"),
    [REPLY_PRIORITY_LOW_NOW] = ENTRY(450, 4, 7, 15, "Priority is too low while this host is busy, try again later"),
    [REPLY_PRIORITY_TOO_BIG] = ENTRY(552, 5, 7, 16, "Message too big for its priority"),
    [REPLY_BARE_LINE_END] = ENTRY(550, 5, 6, 11, "Message contains a bare CR or a bare LF"),
    [REPLY_BAD_CONTENT] = ENTRY(554, 5, 6, 0, "Message contains a NUL or an overlong line"),
    [REPLY_LOOP] = ENTRY(554, 5, 4, 6, "Too many hops, this looks like a mail loop"),

    [REPLY_NO_SERVICE] = ENTRY(554, 5, 3, 2, "No SMTP service here"),
    [REPLY_RELAY_DENIED] = ENTRY(550, 5, 7, 1, "Relaying denied"),
    [REPLY_UNKNOWN_USER] = ENTRY(550, 5, 1, 1, "No such mailbox"),
    [REPLY_MAILBOX_FULL] = ENTRY(552, 5, 2, 2, "Mailbox is over its quota"),
    [REPLY_MAILBOX_FULL_NOW] = ENTRY(452, 4, 2, 2, "Mailbox is over its quota, try again later"),
    [REPLY_UNKNOWN_DOMAIN] = ENTRY(550, 5, 1, 2, "No such domain"),
    [REPLY_UNKNOWN_SENDER_DOMAIN] = ENTRY(550, 5, 1, 8, "Sender domain does not exist"),
    [REPLY_NULL_MX_SENDER] = ENTRY(550, 5, 7, 27, "Sender domain accepts no mail (null MX)"),
    [REPLY_NULL_MX_RECIPIENT] = ENTRY(556, 5, 1, 10, "Recipient domain accepts no mail (null MX)"),
    [REPLY_RECIPIENT_POLICY] = ENTRY(550, 5, 5, 3, "Too many recipients"),
    [REPLY_NO_SPACE] = ENTRY(452, 4, 3, 1, "Insufficient storage, try again later"),
    [REPLY_SPOOL_ERROR] = ENTRY(451, 4, 3, 0, "Could not store the message, try again later"),
    [REPLY_BUSY] = ENTRY(451, 4, 7, 1, "Over quota or rate, try again later"),
    [REPLY_TLS_REQUIRED] = ENTRY(530, 5, 7, 0, "STARTTLS first"),

    [REPLY_GO_AHEAD] = ENTRY(220, 2, 0, 0, "Go ahead"),
    [REPLY_TLS_UNAVAILABLE] = ENTRY(454, 4, 7, 0, "TLS not available now"),
    [REPLY_TLS_PIPELINED] = ENTRY(503, 5, 5, 1, "Nothing may follow STARTTLS before its answer"),
    [REPLY_AUTHENTICATED] = ENTRY(235, 2, 7, 0, "Authenticated"),
    [REPLY_AUTH_REQUIRED] = ENTRY(530, 5, 7, 0, "Authentication required"),
    [REPLY_AUTH_FAILED] = ENTRY(535, 5, 7, 8, "Authentication failed"),
    [REPLY_AUTH_UNAVAILABLE] = ENTRY(454, 4, 7, 0, "Temporary authentication failure"),
    [REPLY_AUTH_MECHANISM] = ENTRY(504, 5, 5, 4, "Unknown authentication mechanism"),
    [REPLY_AUTH_ABORTED] = ENTRY(501, 5, 7, 0, "Authentication aborted"),
    [REPLY_AUTH_TOO_LONG] = ENTRY(500, 5, 5, 6, "Authentication exchange line too long"),
    [REPLY_BAD_BASE64] = ENTRY(501, 5, 5, 2, "Not base64"),
    [REPLY_BAD_CHUNK] = ENTRY(501, 5, 5, 4, "BDAT takes a number of octets and LAST; closing"),
    [REPLY_NOT_AUTHORISED] = ENTRY(550, 5, 7, 0, "Not authorised"),
    [REPLY_DELIVER_BY] = ENTRY(555, 5, 5, 4, "Delivery time below our minimum"),
    [REPLY_TOO_MANY_MAILS] = ENTRY(421, 4, 7, 0, "Too many messages in one session, come again"),
};

const struct reply *reply_of(enum reply_id id)
{
    CHECK((unsigned)id < REPLY_COUNT);
    return &catalogue[id];
}

/* "250-2.1.0 " or "250 2.1.0 ". */
static bool append_prefix(struct buffer *out, const struct reply *reply, bool last)
{
    bool ok = buffer_append_number(out, reply->code) && buffer_append(out, last ? BYTES(" ") : BYTES("-"));
    if (reply->enhanced[0] == 0) {
        return ok;
    }
    return ok && buffer_append_number(out, reply->enhanced[0]) && buffer_append(out, BYTES(".")) &&
           buffer_append_number(out, reply->enhanced[1]) && buffer_append(out, BYTES(".")) &&
           buffer_append_number(out, reply->enhanced[2]) && buffer_append(out, BYTES(" "));
}

static bool append_line(struct buffer *out, const struct reply *reply, struct bytes text, bool last)
{
    size_t line = out->length;
    if (!append_prefix(out, reply, last)) {
        return false;
    }
    size_t room = LIMIT_REPLY_LINE_BYTES - 2 - (out->length - line);
    size_t start = out->length;
    if (!buffer_append(out, bytes_slice(text, 0, text.length < room ? text.length : room)) ||
        !buffer_append(out, BYTES("\r\n"))) {
        return false;
    }
    for (size_t i = start; i < out->length - 2; i++) {
        if (out->data[i] < ' ' || out->data[i] > '~') {
            out->data[i] = '?';
        }
    }
    return true;
}

bool reply_append_text(struct buffer *out, const struct reply *reply, struct bytes text)
{
    CHECK(reply->code >= 200 && reply->code <= 599);
    CHECK(reply->enhanced[0] == 0 || reply->enhanced[0] == reply->code / 100);
    size_t start = out->length;
    for (;;) {
        const char *newline = text.length == 0 ? NULL : memchr(text.data, '\n', text.length);
        size_t length = newline == NULL ? text.length : (size_t)(newline - text.data);
        /* A line behind which the longest one would not fit becomes the last. */
        size_t behind = out->length - start + PREFIX_BYTES_MAX + length + LIMIT_REPLY_LINE_BYTES;
        bool last = newline == NULL || behind > REPLY_BYTES_MAX;
        if (!append_line(out, reply, bytes_slice(text, 0, length), last)) {
            out->length = start;
            return false;
        }
        if (last) {
            return true;
        }
        bytes_advance(&text, length + 1);
    }
}

bool reply_append(struct buffer *out, const struct reply *reply)
{
    return reply_append_text(out, reply, reply->text);
}
