#include "smtp/server.h"

#include "base/limits.h"
#include "smtp/line.h"
#include "smtp/syntax.h"

/* One call of next makes steps until one of them has something to say. A step reads one command, or a piece of a
 * message.
 *
 *               EHLO            MAIL            RCPT+ DATA          CRLF.CRLF
 *     PHASE_START --> PHASE_READY --> PHASE_TRANSACTION --> PHASE_BODY --> PHASE_READY
 *                         ^                 | RSET EHLO QUIT                 ^
 *                         +-----------------+--------------------------------+
 *
 * The envelope is complete or empty after every reply because only four places write the phase: smtp_server_accept
 * moves on by one arrow, end_transaction goes back to PHASE_READY and forgets the recipients, EHLO leaves PHASE_START,
 * and greet_refusing enters PHASE_REFUSED for good. A command that fails touches nothing but the count of errors. */

enum phase {
    PHASE_START,
    PHASE_REFUSED, /* greeted with 554 */
    PHASE_READY,
    PHASE_TRANSACTION,
    PHASE_BODY,
};

#define IN(phase) (1u << (phase))
#define ANY_PHASE (IN(PHASE_START) | IN(PHASE_READY) | IN(PHASE_TRANSACTION))

/* What a command step leaves to next. */
#define NO_EVENT SMTP_SERVER_WANT_INPUT

static_assert(LIMIT_REPLY_LINE_BYTES + 4 * 64 <= SMTP_SERVER_OUTPUT_BYTES, "the answer to EHLO fits");

void smtp_server_init(struct smtp_server *s, const struct smtp_server_config *config)
{
    CHECK(config->hostname.length != 0 && config->hostname.length <= LIMIT_DOMAIN_BYTES);
    CHECK(config->command_bytes_max >= 512 && config->recipients_max > 0 && config->received_max > 0);
    CHECK(config->message_bytes_max <= INT64_MAX);
    *s = (struct smtp_server){.config = config, .phase = PHASE_START};
}

bool smtp_server_in_body(const struct smtp_server *s)
{
    return s->phase == PHASE_BODY;
}

bool smtp_server_in_transaction(const struct smtp_server *s)
{
    return s->phase == PHASE_TRANSACTION || s->phase == PHASE_BODY;
}

static void end_transaction(struct smtp_server *s)
{
    CHECK(smtp_server_in_transaction(s));
    s->phase = PHASE_READY;
    s->recipients = 0;
}

static enum smtp_server_event drop_transaction(struct smtp_server *s, enum smtp_server_drop why)
{
    end_transaction(s);
    s->drop = (uint8_t)why;
    return SMTP_SERVER_DROPPED;
}

static void say_reply(struct buffer *out, const struct reply *reply)
{
    CHECK(reply_append(out, reply));
}

static void say(struct buffer *out, enum reply_id id)
{
    say_reply(out, reply_of(id));
}

static void say_and_close(struct smtp_server *s, struct buffer *out, enum reply_id id)
{
    say(out, id);
    s->closing = true;
}

/* Refuses something that a correct client does not send. */
static void fail(struct smtp_server *s, struct buffer *out, enum reply_id id)
{
    s->errors++;
    if (s->config->errors_max != 0 && s->errors >= s->config->errors_max) {
        say_and_close(s, out, REPLY_TOO_MANY_ERRORS);
    } else {
        say(out, id);
    }
}

void smtp_server_greet(struct smtp_server *s, struct buffer *out)
{
    CHECK(s->phase == PHASE_START);
    CHECK(buffer_append(out, BYTES("220 ")) && buffer_append(out, s->config->hostname) &&
          buffer_append(out, BYTES(" ESMTP ringpost\r\n")));
}

void smtp_server_greet_refusing(struct smtp_server *s, struct buffer *out, const struct reply *reply)
{
    CHECK(s->phase == PHASE_START);
    struct reply greeting = *reply;
    greeting.enhanced[0] = 0; /* RFC 2034 4: not in the greeting */
    say_reply(out, &greeting);
    s->phase = PHASE_REFUSED;
}

static void append_line(struct buffer *out, const char *prefix, struct bytes text)
{
    CHECK(buffer_append_string(out, prefix) && buffer_append(out, text) && buffer_append(out, BYTES("\r\n")));
}

static void say_extensions(const struct smtp_server_config *config, struct buffer *out)
{
    append_line(out, "250-", config->hostname);
    if (config->extensions & SMTP_SERVER_PIPELINING) {
        append_line(out, "250-", BYTES("PIPELINING"));
    }
    if (config->extensions & SMTP_SERVER_SIZE) {
        CHECK(buffer_append(out, BYTES("250-SIZE ")) && buffer_append_number(out, config->message_bytes_max) &&
              buffer_append(out, BYTES("\r\n")));
    }
    if (config->extensions & SMTP_SERVER_8BITMIME) {
        append_line(out, "250-", BYTES("8BITMIME"));
    }
    if (config->extensions & SMTP_SERVER_ENHANCEDSTATUSCODES) {
        append_line(out, "250-", BYTES("ENHANCEDSTATUSCODES"));
    }
    append_line(out, "250 ", BYTES("HELP"));
}

static enum smtp_server_event do_helo(struct smtp_server *s, struct bytes argument, struct buffer *out, bool extended)
{
    if (syntax_helo(argument) != REPLY_OK) {
        fail(s, out, syntax_helo(argument));
        return NO_EVENT;
    }
    CHECK(!smtp_server_in_transaction(s));
    s->phase = PHASE_READY;
    s->extended = extended;
    s->helo = argument;
    if (extended) {
        say_extensions(s->config, out);
    } else {
        append_line(out, "250 ", s->config->hostname);
    }
    return SMTP_SERVER_HELO;
}

static enum smtp_server_event do_ehlo(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    return do_helo(s, argument, out, true);
}

static enum smtp_server_event do_plain_helo(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    return do_helo(s, argument, out, false);
}

static enum smtp_server_event do_mail(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    enum reply_id reply = syntax_mail(argument, &s->mail.path, &s->mail.params);
    if (reply != REPLY_OK) {
        fail(s, out, reply);
        return NO_EVENT;
    }
    if (s->config->message_bytes_max != 0 && s->mail.params.size > s->config->message_bytes_max) {
        say(out, REPLY_TOO_BIG);
        return NO_EVENT;
    }
    return SMTP_SERVER_MAIL;
}

static enum smtp_server_event do_rcpt(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    enum reply_id reply = syntax_rcpt(argument, &s->rcpt.path);
    if (reply != REPLY_OK) {
        fail(s, out, reply);
        return NO_EVENT;
    }
    if (s->recipients >= s->config->recipients_max) {
        say(out, REPLY_TOO_MANY_RECIPIENTS); /* the client's business as usual, not an error */
        return NO_EVENT;
    }
    return SMTP_SERVER_RCPT;
}

static enum smtp_server_event do_data(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)argument;
    if (s->recipients == 0) {
        fail(s, out, REPLY_NO_RECIPIENTS);
        return NO_EVENT;
    }
    return SMTP_SERVER_DATA;
}

static enum smtp_server_event do_rset(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)argument;
    say(out, REPLY_OK);
    return smtp_server_in_transaction(s) ? drop_transaction(s, SMTP_SERVER_DROP_RESET) : NO_EVENT;
}

static enum smtp_server_event do_noop(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)s, (void)argument;
    say(out, REPLY_OK);
    return NO_EVENT;
}

static enum smtp_server_event do_quit(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)argument;
    say_and_close(s, out, REPLY_BYE);
    return NO_EVENT;
}

static enum smtp_server_event do_vrfy(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    enum reply_id reply = syntax_vrfy(argument);
    if (reply != REPLY_OK) {
        fail(s, out, reply);
    } else {
        say(out, REPLY_VRFY);
    }
    return NO_EVENT;
}

static enum smtp_server_event do_help(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)s, (void)argument;
    say(out, REPLY_HELP);
    return NO_EVENT;
}

static const struct {
    uint8_t phases;     /* where it is legal; elsewhere 503 */
    bool takes_nothing; /* an argument is an error: 501 */
    enum smtp_server_event (*run)(struct smtp_server *s, struct bytes argument, struct buffer *out);
} commands[SYNTAX_VERB_COUNT] = {
    [SYNTAX_EHLO] = {ANY_PHASE, false, do_ehlo},
    [SYNTAX_HELO] = {ANY_PHASE, false, do_plain_helo},
    [SYNTAX_MAIL] = {IN(PHASE_READY), false, do_mail},
    [SYNTAX_RCPT] = {IN(PHASE_TRANSACTION), false, do_rcpt},
    [SYNTAX_DATA] = {IN(PHASE_TRANSACTION), true, do_data},
    [SYNTAX_RSET] = {ANY_PHASE, true, do_rset},
    [SYNTAX_NOOP] = {ANY_PHASE, false, do_noop},
    [SYNTAX_QUIT] = {ANY_PHASE | IN(PHASE_REFUSED), true, do_quit},
    [SYNTAX_VRFY] = {ANY_PHASE, false, do_vrfy},
    [SYNTAX_HELP] = {ANY_PHASE, false, do_help},
};

static enum smtp_server_event execute(struct smtp_server *s, enum syntax_verb verb, struct bytes argument,
                                      struct buffer *out)
{
    if (verb == SYNTAX_HTTP) {
        say_and_close(s, out, REPLY_NOT_SMTP);
        return NO_EVENT;
    }
    if (s->phase == PHASE_REFUSED && verb != SYNTAX_QUIT) {
        fail(s, out, REPLY_BAD_SEQUENCE);
        return NO_EVENT;
    }
    if (commands[verb].run == NULL) {
        fail(s, out, verb == SYNTAX_ABSENT ? REPLY_NOT_IMPLEMENTED : REPLY_UNKNOWN_VERB);
        return NO_EVENT;
    }
    if ((commands[verb].phases & IN(s->phase)) == 0) {
        fail(s, out, REPLY_BAD_SEQUENCE);
        return NO_EVENT;
    }
    if (commands[verb].takes_nothing && argument.length != 0) {
        fail(s, out, REPLY_BAD_ARGUMENT);
        return NO_EVENT;
    }
    return commands[verb].run(s, argument, out);
}

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Refuses a malformed line. What is left of it goes by without another reply. */
static enum smtp_server_event refuse_line(struct smtp_server *s, struct buffer *out, enum reply_id id)
{
    s->skip = (uint8_t)line_skip_begin(bytes_of(s->line, s->line_length));
    s->line_length = 0;
    fail(s, out, id);
    return NO_EVENT;
}

/* The command whose last taken octets are in input. In place when it is there as a whole, otherwise joined in the line
 * block (but not yet counted as read). Without its CRLF. */
static struct bytes whole_command(struct smtp_server *s, struct bytes input, size_t taken)
{
    if (s->line_length == 0) {
        return bytes_slice(input, 0, taken - 2);
    }
    CHECK(taken <= s->config->command_bytes_max - s->line_length);
    memcpy(s->line + s->line_length, input.data, taken);
    return bytes_of(s->line, s->line_length + taken - 2);
}

static enum smtp_server_event stash_partial(struct smtp_server *s, struct bytes *input, size_t taken)
{
    if (s->line == NULL) {
        return SMTP_SERVER_WANT_LINE;
    }
    CHECK(taken == input->length && taken < s->config->command_bytes_max - s->line_length);
    memcpy(s->line + s->line_length, input->data, taken);
    s->line_length += (uint32_t)taken;
    bytes_advance(input, taken);
    return NO_EVENT;
}

static enum smtp_server_event step_command(struct smtp_server *s, struct bytes *input, struct buffer *out)
{
    CHECK(s->line_length == 0 || s->line != NULL);
    char first = input->data[0];
    if (s->line_length == 0 && !is_letter(first) && first != '\r' && first != '\n') {
        say_and_close(s, out, REPLY_NOT_SMTP);
        return NO_EVENT;
    }
    size_t taken = 0;
    switch (line_find(bytes_of(s->line, s->line_length), *input, s->config->command_bytes_max, &taken)) {
    case LINE_PARTIAL: return stash_partial(s, input, taken);
    case LINE_BAD: return refuse_line(s, out, REPLY_BAD_LINE);
    case LINE_TOO_LONG: return refuse_line(s, out, REPLY_LINE_TOO_LONG);
    case LINE_COMPLETE: break;
    }
    struct bytes argument;
    enum syntax_verb verb = syntax_split(whole_command(s, *input, taken), &argument);
    if ((verb == SYNTAX_EHLO || verb == SYNTAX_HELO) && smtp_server_in_transaction(s) &&
        syntax_helo(argument) == REPLY_OK) {
        return drop_transaction(s, SMTP_SERVER_DROP_HELO); /* and read the same command again */
    }
    bytes_advance(input, taken);
    s->line_length = 0;
    return execute(s, verb, argument, out);
}

/* What is wrong with the message so far, REPLY_OK if nothing. Once wrong it stays wrong, so whatever this says before
 * the end it also says, or another fault, at the end. */
static enum reply_id judge_message(const struct smtp_server *s)
{
    const struct smtp_server_config *config = s->config;
    uint64_t message_bytes = s->dot.bytes - s->dot.stuffed;
    if (s->dot.seen & (DOT_BARE_CR | DOT_BARE_LF)) {
        return REPLY_BARE_LINE_END;
    }
    if (s->dot.seen & (DOT_NUL | DOT_LONG_LINE)) {
        return REPLY_BAD_CONTENT;
    }
    if (config->message_bytes_max != 0 && message_bytes > config->message_bytes_max + sizeof(".\r\n") - 1) {
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
    if (judge_message(s) != REPLY_OK) {
        return NO_EVENT; /* nobody needs it any more; read on to its end */
    }
    s->piece = piece;
    return SMTP_SERVER_BODY;
}

static enum smtp_server_event end_of_message(struct smtp_server *s, struct buffer *out)
{
    enum reply_id refusal = judge_message(s);
    if (refusal == REPLY_OK) {
        return SMTP_SERVER_END;
    }
    s->refusal = (uint8_t)refusal;
    fail(s, out, refusal);
    return drop_transaction(s, SMTP_SERVER_DROP_CONTENT);
}

static bool wants_answer(enum smtp_server_event event)
{
    return event == SMTP_SERVER_MAIL || event == SMTP_SERVER_RCPT || event == SMTP_SERVER_DATA ||
           event == SMTP_SERVER_END;
}

static enum smtp_server_event step(struct smtp_server *s, struct bytes *input, struct buffer *out)
{
    if (s->phase == PHASE_BODY) {
        return s->dot.ended ? end_of_message(s, out) : step_body(s, input);
    }
    if (s->skip != LINE_SKIP_NOTHING) {
        line_skip_on(&s->skip, input);
        return NO_EVENT;
    }
    return step_command(s, input, out);
}

enum smtp_server_event smtp_server_next(struct smtp_server *s, struct bytes *input, struct buffer *out)
{
    CHECK(s->awaiting == 0);
    for (;;) {
        if (s->closing) {
            return smtp_server_in_transaction(s) ? drop_transaction(s, SMTP_SERVER_DROP_CLOSE) : SMTP_SERVER_CLOSE;
        }
        bool at_end = s->phase == PHASE_BODY && s->dot.ended;
        if (input->length == 0 && !at_end) {
            return SMTP_SERVER_WANT_INPUT;
        }
        if (buffer_room(out) < SMTP_SERVER_OUTPUT_BYTES && (s->phase != PHASE_BODY || at_end)) {
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

static const enum reply_id accepted_replies[] = {
    [SMTP_SERVER_MAIL] = REPLY_SENDER_OK,
    [SMTP_SERVER_RCPT] = REPLY_RECIPIENT_OK,
    [SMTP_SERVER_DATA] = REPLY_START_DATA,
    [SMTP_SERVER_END] = REPLY_QUEUED,
};

void smtp_server_accept_text(struct smtp_server *s, struct buffer *out, struct bytes text)
{
    enum smtp_server_event event = (enum smtp_server_event)s->awaiting;
    CHECK(wants_answer(event));
    CHECK(reply_append_text(out, reply_of(accepted_replies[event]), text));
    s->awaiting = 0;
    if (event == SMTP_SERVER_MAIL) {
        s->phase = PHASE_TRANSACTION;
    } else if (event == SMTP_SERVER_RCPT) {
        s->recipients++;
    } else if (event == SMTP_SERVER_DATA) {
        s->phase = PHASE_BODY;
        dot_init(&s->dot, s->config->text_line_bytes_max);
    } else {
        end_transaction(s);
        s->errors = 0;
    }
}

void smtp_server_accept(struct smtp_server *s, struct buffer *out)
{
    enum smtp_server_event event = (enum smtp_server_event)s->awaiting;
    CHECK(wants_answer(event));
    smtp_server_accept_text(s, out, reply_of(accepted_replies[event])->text);
}

void smtp_server_refuse(struct smtp_server *s, struct buffer *out, const struct reply *reply)
{
    CHECK(wants_answer((enum smtp_server_event)s->awaiting));
    CHECK(reply->code >= 400 && reply->code <= 599);
    say_reply(out, reply);
    if (s->awaiting == SMTP_SERVER_DATA || s->awaiting == SMTP_SERVER_END) {
        end_transaction(s);
    }
    s->awaiting = 0;
    s->closing = reply->code == 421 || reply->code == 521;
}

void smtp_server_stop(struct smtp_server *s, struct buffer *out, const struct reply *reply)
{
    CHECK(reply->code == 421);
    say_reply(out, reply);
    s->awaiting = 0;
    s->closing = true;
}
