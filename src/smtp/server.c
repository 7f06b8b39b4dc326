#include "smtp/server.h"

#include "base/base64.h"
#include "base/limits.h"
#include "smtp/line.h"
#include "smtp/server_private.h"

/* One call of next makes steps until one of them has something to say. A step reads one command, or a piece of a
 * message.
 *
 *               EHLO            MAIL            RCPT+ DATA          CRLF.CRLF
 *     PHASE_START --> PHASE_READY --> PHASE_TRANSACTION --> PHASE_BODY --> PHASE_READY
 *       ^               |   ^                 | RSET EHLO QUIT                 ^
 *       | STARTTLS      |   +-----------------+--------------------------------+
 *       | XCLIENT       |   |                 | BDAT                BDAT LAST  |
 *       +---------------+   |                 +----------> PHASE_CHUNKS -------+
 *
 * The envelope is complete or empty after every reply because only four places write the phase: the answers move on by
 * one arrow (accepted), end_transaction goes back to PHASE_READY and forgets the recipients, EHLO leaves PHASE_START,
 * and greet_refusing enters PHASE_REFUSED for good. A command that fails touches nothing but the count of errors; what
 * fails in a message, or in a chunk of it, ends the transaction. */

void smtp_server_init(struct smtp_server *s, const struct smtp_server_config *config)
{
    CHECK(config->hostname.length != 0 && config->hostname.length <= LIMIT_DOMAIN_BYTES);
    CHECK(config->command_bytes_max >= 512 && config->recipients_max > 0 && config->received_max > 0);
    CHECK(config->message_bytes_max <= INT64_MAX);
    CHECK(config->mechanisms_clear.length <= SMTP_SERVER_MECHANISMS_BYTES_MAX &&
          config->mechanisms_secure.length <= SMTP_SERVER_MECHANISMS_BYTES_MAX);
    CHECK(config->future_release_seconds_max <= 999999999);
    *s = (struct smtp_server){.config = config, .phase = PHASE_START, .extensions = config->extensions};
}

bool smtp_server_in_body(const struct smtp_server *s)
{
    return s->phase == PHASE_BODY || s->chunk != CHUNK_NONE;
}

bool smtp_server_in_transaction(const struct smtp_server *s)
{
    return s->phase == PHASE_TRANSACTION || s->phase == PHASE_BODY || s->phase == PHASE_CHUNKS;
}

static void end_transaction(struct smtp_server *s)
{
    CHECK(smtp_server_in_transaction(s));
    s->phase = PHASE_READY;
    s->recipients = 0;
    s->chunked = s->binary = s->utf8 = false;
}

enum smtp_server_event server_drop(struct smtp_server *s, enum smtp_server_drop why)
{
    end_transaction(s);
    s->drop = (uint8_t)why;
    return SMTP_SERVER_DROPPED;
}

void server_say_reply(struct buffer *out, const struct reply *reply)
{
    CHECK(reply_append(out, reply));
}

void server_say(struct buffer *out, enum reply_id id)
{
    server_say_reply(out, reply_of(id));
}

void server_say_and_close(struct smtp_server *s, struct buffer *out, enum reply_id id)
{
    server_say(out, id);
    s->closing = true;
}

enum smtp_server_event server_fail(struct smtp_server *s, struct buffer *out, enum reply_id id)
{
    s->errors++;
    if (s->config->errors_max != 0 && s->errors >= s->config->errors_max) {
        server_say_and_close(s, out, REPLY_TOO_MANY_ERRORS);
    } else {
        server_say(out, id);
    }
    return NO_EVENT;
}

void smtp_server_greet(struct smtp_server *s, struct buffer *out)
{
    CHECK(s->phase == PHASE_START);
    CHECK(buffer_append(out, BYTES("220 ")) && buffer_append(out, s->config->hostname) &&
          buffer_append_string(out, s->config->lmtp ? " LMTP ringpost\r\n" : " ESMTP ringpost\r\n"));
}

void smtp_server_greet_refusing(struct smtp_server *s, struct buffer *out, const struct reply *reply)
{
    CHECK(s->phase == PHASE_START);
    struct reply greeting = *reply;
    greeting.enhanced[0] = 0; /* RFC 2034 4: not in the greeting */
    server_say_reply(out, &greeting);
    s->phase = PHASE_REFUSED;
}

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Refuses a malformed line. What is left of it goes by without another reply; what is left of a BDAT is not known. */
static enum smtp_server_event refuse_line(struct smtp_server *s, struct bytes input, struct buffer *out,
                                          enum reply_id id)
{
    struct bytes stash = bytes_of(s->line, s->line_length);
    if (!s->in_exchange && line_begins(stash, input, BYTES("BDAT")) && (s->extensions & SMTP_SERVER_CHUNKING) != 0) {
        server_say_and_close(s, out, id);
        return NO_EVENT;
    }
    s->skip = (uint8_t)line_skip_begin(stash);
    s->line_length = 0;
    return s->in_exchange ? server_auth_cancel(s, out, id) : server_fail(s, out, id);
}

/* True when the line block takes so many octets more. Otherwise says in line_bytes what is needed. */
static bool has_room(struct smtp_server *s, size_t more)
{
    uint32_t usual = s->config->command_bytes_max;
    size_t needed = s->line_length + more;
    if (s->line != NULL && needed <= s->line_bytes) {
        return true;
    }
    CHECK(needed <= usual || needed <= SMTP_SERVER_AUTH_LINE_BYTES_MAX);
    s->line_bytes = needed <= usual ? usual : SMTP_SERVER_AUTH_LINE_BYTES_MAX;
    return false;
}

/* The command whose last taken octets are in input, joined in the line block (but not yet counted as read). */
static struct bytes join(struct smtp_server *s, struct bytes input, size_t taken)
{
    memcpy(s->line + s->line_length, input.data, taken);
    return bytes_of(s->line, s->line_length + taken);
}

static enum smtp_server_event stash_partial(struct smtp_server *s, struct bytes *input, size_t taken)
{
    CHECK(taken == input->length);
    if (!has_room(s, taken)) {
        return SMTP_SERVER_WANT_LINE;
    }
    s->line_length += (uint32_t)join(s, *input, taken).length - s->line_length;
    bytes_advance(input, taken);
    return NO_EVENT;
}

static enum smtp_server_event run_command(struct smtp_server *s, struct bytes command, struct bytes *input,
                                          size_t taken, struct buffer *out)
{
    struct bytes argument;
    enum syntax_verb verb = syntax_split(command, &argument);
    if (smtp_server_in_transaction(s) && server_command_is_helo(s, verb, argument)) {
        return server_drop(s, SMTP_SERVER_DROP_HELO); /* and read the same command again */
    }
    bytes_advance(input, taken);
    s->line_length = 0;
    enum smtp_server_event event = server_command_execute(s, verb, argument, out);
    if (event == SMTP_SERVER_STARTTLS_ASKED && input->length != 0) {
        server_say_and_close(s, out, REPLY_TLS_PIPELINED);
        return NO_EVENT;
    }
    return event;
}

static enum smtp_server_event step_command(struct smtp_server *s, struct bytes *input, struct buffer *out)
{
    CHECK(s->line_length == 0 || s->line != NULL);
    struct bytes stash = bytes_of(s->line, s->line_length);
    char first = input->data[0];
    if (s->line_length == 0 && !is_letter(first) && first != '\r' && first != '\n' && !s->in_exchange) {
        server_say_and_close(s, out, REPLY_NOT_SMTP);
        return NO_EVENT;
    }
    bool of_auth = server_auth_is_line(s, stash, *input);
    uint32_t bytes_max = s->config->command_bytes_max;
    if (of_auth && bytes_max < SMTP_SERVER_AUTH_LINE_BYTES_MAX) {
        bytes_max = SMTP_SERVER_AUTH_LINE_BYTES_MAX;
    }
    size_t taken = 0;
    switch (line_find(stash, *input, bytes_max, &taken)) {
    case LINE_PARTIAL: return stash_partial(s, input, taken);
    case LINE_BAD: return refuse_line(s, *input, out, REPLY_BAD_LINE);
    case LINE_TOO_LONG: return refuse_line(s, *input, out, of_auth ? REPLY_AUTH_TOO_LONG : REPLY_LINE_TOO_LONG);
    case LINE_COMPLETE: break;
    }
    struct bytes command = bytes_slice(*input, 0, taken);
    if (of_auth || stash.length != 0) {
        if (!has_room(s, taken)) {
            return SMTP_SERVER_WANT_LINE;
        }
        command = join(s, *input, taken);
    }
    command.length -= 2; /* CRLF */
    if (!s->in_exchange) {
        return run_command(s, command, input, taken, out);
    }
    bytes_advance(input, taken);
    s->line_length = 0;
    return server_auth_response(s, command, out);
}

enum reply_id server_judge(const struct smtp_server *s)
{
    const struct smtp_server_config *config = s->config;
    uint64_t message_bytes = s->dot.bytes - s->dot.stuffed;
    uint32_t seen = s->binary ? 0 : s->dot.seen;
    if (seen & (DOT_BARE_CR | DOT_BARE_LF)) {
        return REPLY_BARE_LINE_END;
    }
    if (seen & (DOT_NUL | DOT_LONG_LINE)) {
        return REPLY_BAD_CONTENT;
    }
    if (!s->chunked && config->message_bytes_max != 0 &&
        message_bytes > config->message_bytes_max + sizeof(".\r\n") - 1) {
        return REPLY_TOO_BIG;
    }
    if (s->dot.received >= config->received_max) {
        return REPLY_LOOP;
    }
    return REPLY_OK;
}

static enum smtp_server_event step_body(struct smtp_server *s, struct bytes *input)
{
    struct bytes piece = bytes_slice(*input, 0, dot_scan(&s->dot, *input));
    bytes_advance(input, piece.length);
    if (server_judge(s) != REPLY_OK) {
        return NO_EVENT; /* nobody needs it any more; read on to its end */
    }
    s->piece = piece;
    return SMTP_SERVER_BODY;
}

void server_repeat(struct smtp_server *s, const struct reply *reply, uint32_t answers)
{
    if (!s->config->lmtp || s->closing || answers == 0) {
        return;
    }
    size_t length = reply->text.length < sizeof(s->repeated.text) ? reply->text.length : sizeof(s->repeated.text);
    s->repeats = answers - 1;
    s->repeated.code = reply->code;
    memcpy(s->repeated.enhanced, reply->enhanced, sizeof(reply->enhanced));
    s->repeated.length = (uint8_t)length;
    memcpy(s->repeated.text, reply->text.data, length);
}

static void say_repeated(struct smtp_server *s, struct buffer *out)
{
    struct reply reply = {.code = s->repeated.code, .text = bytes_of(s->repeated.text, s->repeated.length)};
    memcpy(reply.enhanced, s->repeated.enhanced, sizeof(reply.enhanced));
    server_say_reply(out, &reply);
    s->repeats--;
}

enum smtp_server_event server_drop_content(struct smtp_server *s, struct buffer *out, enum reply_id refusal)
{
    bool whole = s->phase == PHASE_BODY || s->chunk_is_last;
    s->refusal = (uint8_t)refusal;
    server_fail(s, out, refusal);
    if (whole) {
        server_repeat(s, reply_of(refusal), s->recipients);
    }
    return server_drop(s, SMTP_SERVER_DROP_CONTENT);
}

static enum smtp_server_event end_of_message(struct smtp_server *s, struct buffer *out)
{
    enum reply_id refusal = server_judge(s);
    return refusal == REPLY_OK ? SMTP_SERVER_END : server_drop_content(s, out, refusal);
}

static const enum reply_id accepted_replies[] = {
    [SMTP_SERVER_STARTTLS_ASKED] = REPLY_GO_AHEAD, [SMTP_SERVER_AUTH_STEP] = REPLY_AUTHENTICATED,
    [SMTP_SERVER_XCLIENT_GIVEN] = REPLY_OK,        [SMTP_SERVER_XFORWARD_GIVEN] = REPLY_OK,
    [SMTP_SERVER_MAIL] = REPLY_SENDER_OK,          [SMTP_SERVER_RCPT] = REPLY_RECIPIENT_OK,
    [SMTP_SERVER_DATA] = REPLY_START_DATA,         [SMTP_SERVER_END] = REPLY_QUEUED,
};

static bool wants_answer(enum smtp_server_event event)
{
    return event == SMTP_SERVER_MAIL || event == SMTP_SERVER_RCPT || event == SMTP_SERVER_DATA ||
           event == SMTP_SERVER_END || event == SMTP_SERVER_STARTTLS_ASKED || event == SMTP_SERVER_AUTH_STEP ||
           event == SMTP_SERVER_XCLIENT_GIVEN || event == SMTP_SERVER_XFORWARD_GIVEN;
}

static enum smtp_server_event step(struct smtp_server *s, struct bytes *input, struct buffer *out)
{
    if (s->chunk != CHUNK_NONE) {
        return server_bdat_step(s, input, out);
    }
    if (s->phase == PHASE_BODY) {
        return s->dot.ended ? end_of_message(s, out) : step_body(s, input);
    }
    if (s->skip != LINE_SKIP_NOTHING) {
        line_skip_on(&s->skip, input);
        return NO_EVENT;
    }
    return step_command(s, input, out);
}

/* In the middle of a message: nothing is said, and more input is needed. */
static bool reads_message(const struct smtp_server *s)
{
    return s->chunk != CHUNK_NONE ? s->chunk_left != 0 : s->phase == PHASE_BODY && !s->dot.ended;
}

enum smtp_server_event smtp_server_next(struct smtp_server *s, struct bytes *input, struct buffer *out)
{
    CHECK(s->awaiting == 0);
    for (;;) {
        bool room = buffer_room(out) >= SMTP_SERVER_OUTPUT_BYTES;
        if (s->repeats != 0 && !room) {
            return SMTP_SERVER_WANT_OUTPUT;
        }
        if (s->repeats != 0) {
            say_repeated(s, out);
            continue;
        }
        if (s->closing) {
            return smtp_server_in_transaction(s) ? server_drop(s, SMTP_SERVER_DROP_CLOSE) : SMTP_SERVER_CLOSE;
        }
        CHECK(s->phase != PHASE_TLS);
        bool at_end = !reads_message(s) && smtp_server_in_body(s);
        if (input->length == 0 && !at_end) {
            return SMTP_SERVER_WANT_INPUT;
        }
        if (!room && !reads_message(s)) {
            return SMTP_SERVER_WANT_OUTPUT;
        }
        enum smtp_server_event event = step(s, input, out);
        if (wants_answer(event)) {
            s->awaiting = (uint8_t)event;
        }
        if (event != NO_EVENT) {
            return event;
        }
    }
}

/* As after the greeting. What was refused still counts. */
static void begin_again(struct smtp_server *s)
{
    s->phase = PHASE_START;
    s->extended = false;
    s->authenticated = false;
    s->chunks_discarding = false;
}

/* Moves on: the event was accepted and answered with reply. */
static void accepted(struct smtp_server *s, enum smtp_server_event event, const struct reply *reply)
{
    switch (event) {
    case SMTP_SERVER_STARTTLS_ASKED: s->phase = PHASE_TLS; break;
    case SMTP_SERVER_AUTH_STEP: s->authenticated = true; break;
    case SMTP_SERVER_MAIL:
        s->phase = PHASE_TRANSACTION;
        s->chunks_discarding = false;
        break;
    case SMTP_SERVER_RCPT: s->recipients++; break;
    case SMTP_SERVER_DATA:
        dot_init(&s->dot, s->config->text_line_bytes_max);
        s->phase = s->chunked ? PHASE_CHUNKS : PHASE_BODY;
        s->chunk = s->chunked ? CHUNK_TAKE : CHUNK_NONE;
        s->crlf_added = false;
        break;
    case SMTP_SERVER_END:
        server_repeat(s, reply, s->recipients);
        end_transaction(s);
        s->errors = 0;
        break;
    default: break;
    }
}

void smtp_server_accept_reply(struct smtp_server *s, struct buffer *out, const struct reply *reply)
{
    enum smtp_server_event event = (enum smtp_server_event)s->awaiting;
    CHECK(wants_answer(event) && reply->code >= 200 && reply->code <= 399);
    s->awaiting = 0;
    if (event == SMTP_SERVER_XCLIENT_GIVEN) {
        begin_again(s);
        smtp_server_greet(s, out);
        return;
    }
    if (event != SMTP_SERVER_DATA || !s->chunked) {
        server_say_reply(out, reply);
    }
    accepted(s, event, reply);
}

void smtp_server_accept_text(struct smtp_server *s, struct buffer *out, struct bytes text)
{
    CHECK(wants_answer((enum smtp_server_event)s->awaiting));
    struct reply reply = *reply_of(accepted_replies[s->awaiting]);
    reply.text = text;
    smtp_server_accept_reply(s, out, &reply);
}

void smtp_server_accept(struct smtp_server *s, struct buffer *out)
{
    CHECK(wants_answer((enum smtp_server_event)s->awaiting));
    smtp_server_accept_reply(s, out, reply_of(accepted_replies[s->awaiting]));
}

void smtp_server_refuse(struct smtp_server *s, struct buffer *out, const struct reply *reply)
{
    enum smtp_server_event event = (enum smtp_server_event)s->awaiting;
    CHECK(wants_answer(event) && reply->code >= 400 && reply->code <= 599);
    s->awaiting = 0;
    if (event == SMTP_SERVER_DATA && s->chunked) {
        s->late.reply = *reply;
        s->late.answers = s->chunk_is_last ? s->recipients : 1;
        s->chunk = CHUNK_LATE;
        end_transaction(s);
        return;
    }
    server_say_reply(out, reply);
    s->closing = reply->code == 421 || reply->code == 521;
    /* Who guesses passwords gets no further than errors_max; who guesses recipients is slower from then on. */
    s->errors += event == SMTP_SERVER_AUTH_STEP || (event == SMTP_SERVER_RCPT && reply->code >= 500);
    if (event == SMTP_SERVER_END) {
        server_repeat(s, reply, s->recipients);
    }
    if (event == SMTP_SERVER_DATA || event == SMTP_SERVER_END) {
        end_transaction(s);
    }
}

void smtp_server_challenge(struct smtp_server *s, struct buffer *out, struct bytes challenge)
{
    CHECK(s->awaiting == SMTP_SERVER_AUTH_STEP && challenge.length <= SMTP_SERVER_CHALLENGE_BYTES_MAX);
    CHECK(buffer_append(out, BYTES("334 ")) && base64_encode(out, challenge) && buffer_append(out, BYTES("\r\n")));
    s->awaiting = 0;
    s->in_exchange = true;
}

void smtp_server_secured(struct smtp_server *s)
{
    CHECK(s->phase == PHASE_TLS || (s->phase == PHASE_START && !s->secure));
    CHECK(s->line_length == 0);
    begin_again(s);
    s->secure = true;
}

void smtp_server_stop(struct smtp_server *s, struct buffer *out, const struct reply *reply)
{
    CHECK(reply->code == 421);
    if (s->repeats == 0) { /* or it would be taken for one recipient's answer */
        server_say_reply(out, reply);
    }
    s->awaiting = 0;
    s->closing = true;
}
