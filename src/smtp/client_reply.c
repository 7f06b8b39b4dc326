/* What ends a line is a LF, whether a CR stands before it or not: with one delimiter and one reader there is nobody to
 * disagree with about where a reply ends, so a sloppy peer costs nothing. (Commands and message data are the opposite
 * case: there a bare LF is a smuggling tool, and the server machine refuses it.) A CR anywhere else is shown as '?'.
 *
 * In a multi-line reply the last line decides the code, as every sender does. */
#include "smtp/client_reply.h"

static_assert(LIMIT_CLIENT_REPLY_LINE_BYTES < UINT16_MAX && LIMIT_CLIENT_REPLY_LINES < UINT16_MAX,
              "counted in 16 bits");

void smtp_client_reply_clear(struct smtp_client_reply *reply)
{
    memset(reply, 0, sizeof(*reply));
}

struct bytes smtp_client_reply_line(const struct smtp_client_reply *reply)
{
    return bytes_of(reply->text + reply->line_text, (size_t)(reply->text_bytes - reply->line_text));
}

void smtp_client_reply_drop_line(struct smtp_client_reply *reply)
{
    reply->text_bytes = reply->line_text;
    reply->truncated = false;
}

struct bytes smtp_client_reply_text(const struct smtp_client_reply *reply)
{
    return bytes_of(reply->text, reply->text_bytes);
}

static void store(struct smtp_client_reply *reply, struct bytes text)
{
    size_t room = sizeof(reply->text) - reply->text_bytes;
    size_t n = text.length < room ? text.length : room;
    reply->truncated = reply->truncated || n < text.length;
    for (size_t i = 0; i < n; i++) {
        char c = text.data[i];
        reply->text[reply->text_bytes + i] = c >= ' ' && c <= '~' ? c : '?';
    }
    reply->text_bytes = (uint16_t)(reply->text_bytes + n);
}

/* More of the line. False when it grew too long. */
static bool take(struct smtp_client_reply *reply, struct bytes span)
{
    if (span.length > (size_t)(LIMIT_CLIENT_REPLY_LINE_BYTES - 2 - reply->line_bytes)) {
        return false;
    }
    for (; span.length != 0 && reply->line_bytes < sizeof(reply->head); reply->line_bytes++) {
        reply->head[reply->line_bytes] = span.data[0];
        bytes_advance(&span, 1);
    }
    if (span.length == 0) {
        return true;
    }
    if (reply->line_bytes == sizeof(reply->head) && reply->text_bytes != 0) {
        store(reply, BYTES(" "));
        reply->line_text = reply->text_bytes;
    }
    store(reply, span);
    reply->line_bytes = (uint16_t)(reply->line_bytes + span.length);
    return true;
}

/* A CR at the end of the input is held back until it is known whether a LF follows. */
static bool take_piece(struct smtp_client_reply *reply, struct bytes piece)
{
    if (piece.length == 0) {
        return true;
    }
    if (reply->carriage_return && !take(reply, BYTES("\r"))) {
        return false;
    }
    reply->carriage_return = piece.data[piece.length - 1] == '\r';
    return take(reply, bytes_slice(piece, 0, piece.length - (reply->carriage_return ? 1 : 0)));
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* One to three digits from the start of `text`, which is advanced past them. */
static bool take_number(struct bytes *text, uint16_t *ret_number)
{
    uint16_t number = 0;
    size_t digits = 0;
    for (; digits < text->length && digits < 3 && is_digit(text->data[digits]); digits++) {
        number = (uint16_t)(number * 10 + (text->data[digits] - '0'));
    }
    bytes_advance(text, digits);
    *ret_number = number;
    return digits != 0;
}

static bool take_dot(struct bytes *text)
{
    if (text->length == 0 || text->data[0] != '.') {
        return false;
    }
    bytes_advance(text, 1);
    return true;
}

/* "5.1.1" followed by a space or the end, of the same class as the code (RFC 2034 4). */
static void parse_status(struct smtp_client_reply *reply)
{
    struct bytes text = smtp_client_reply_line(reply);
    struct smtp_client_status status = {0};
    if (take_number(&text, &status.class) && take_dot(&text) && take_number(&text, &status.subject) &&
        take_dot(&text) && take_number(&text, &status.detail) && (text.length == 0 || text.data[0] == ' ') &&
        status.class == reply->code / 100) {
        reply->status = status;
    }
}

static enum smtp_client_reply_progress end_line(struct smtp_client_reply *reply)
{
    const char *head = reply->head;
    if (reply->line_bytes < 3 || head[0] < '2' || head[0] > '5' || !is_digit(head[1]) || !is_digit(head[2])) {
        return SMTP_CLIENT_REPLY_BAD;
    }
    bool more = reply->line_bytes > 3 && head[3] == '-';
    if (reply->line_bytes > 3 && !more && head[3] != ' ') {
        return SMTP_CLIENT_REPLY_BAD;
    }
    reply->code = (uint16_t)((head[0] - '0') * 100 + (head[1] - '0') * 10 + (head[2] - '0'));
    parse_status(reply);
    if (++reply->lines > LIMIT_CLIENT_REPLY_LINES) {
        return SMTP_CLIENT_REPLY_BAD;
    }
    if (more) {
        return SMTP_CLIENT_REPLY_LINE;
    }
    if (reply->status.class != reply->code / 100) {
        reply->status = (struct smtp_client_status){0};
    }
    reply->partial = false;
    return SMTP_CLIENT_REPLY_LAST;
}

enum smtp_client_reply_progress smtp_client_reply_feed(struct smtp_client_reply *reply, struct bytes *input)
{
    if (input->length == 0) {
        return SMTP_CLIENT_REPLY_MORE;
    }
    if (!reply->partial) {
        smtp_client_reply_clear(reply);
        reply->partial = true;
    }
    if (reply->line_bytes == 0 && !reply->carriage_return) {
        reply->line_text = reply->text_bytes;
    }
    const char *newline = memchr(input->data, '\n', input->length);
    size_t n = newline != NULL ? (size_t)(newline - input->data) : input->length;
    bool fits = take_piece(reply, bytes_slice(*input, 0, n));
    bytes_advance(input, n + (newline != NULL ? 1 : 0));
    if (!fits) {
        return SMTP_CLIENT_REPLY_BAD;
    }
    if (newline == NULL) {
        return SMTP_CLIENT_REPLY_MORE;
    }
    enum smtp_client_reply_progress progress = end_line(reply);
    reply->line_bytes = 0;
    reply->carriage_return = false;
    return progress;
}
