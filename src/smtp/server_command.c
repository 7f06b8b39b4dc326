#include "base/limits.h"
#include "smtp/server_private.h"
#include "smtp/xclient.h"

/* One function per verb. Each either fails, having changed nothing but the count of errors, or answers, or gives the
 * event that asks the driver. */

#define IN(phase) (1u << (phase))
#define ANY_PHASE (IN(PHASE_START) | IN(PHASE_READY) | IN(PHASE_TRANSACTION) | IN(PHASE_CHUNKS))

typedef enum smtp_server_event command_function(struct smtp_server *s, struct bytes argument, struct buffer *out);

static enum smtp_server_event do_helo(struct smtp_server *s, struct bytes argument, struct buffer *out, bool extended)
{
    if (syntax_helo(argument) != REPLY_OK) {
        return server_fail(s, out, syntax_helo(argument));
    }
    CHECK(!smtp_server_in_transaction(s));
    s->phase = PHASE_READY;
    s->extended = extended;
    s->chunks_discarding = false;
    s->helo = argument;
    if (extended) {
        server_ehlo_say(s, out);
    } else {
        CHECK(buffer_append(out, BYTES("250 ")) && buffer_append(out, s->config->hostname) &&
              buffer_append(out, BYTES("\r\n")));
    }
    return SMTP_SERVER_HELO;
}

/* RFC 2033 4.1: LMTP has LHLO instead of both, not besides. */
static enum smtp_server_event do_ehlo(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    return s->config->lmtp ? server_fail(s, out, REPLY_UNKNOWN_VERB) : do_helo(s, argument, out, true);
}

static enum smtp_server_event do_plain_helo(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    return s->config->lmtp ? server_fail(s, out, REPLY_UNKNOWN_VERB) : do_helo(s, argument, out, false);
}

static enum smtp_server_event do_lhlo(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    return s->config->lmtp ? do_helo(s, argument, out, true) : server_fail(s, out, REPLY_NOT_IMPLEMENTED);
}

bool server_command_is_helo(const struct smtp_server *s, enum syntax_verb verb, struct bytes argument)
{
    bool helo = s->config->lmtp ? verb == SYNTAX_LHLO : verb == SYNTAX_EHLO || verb == SYNTAX_HELO;
    return helo && syntax_helo(argument) == REPLY_OK;
}

static struct params_rules rules_of(const struct smtp_server *s, bool utf8)
{
    static const struct {
        uint32_t extension;
        uint32_t params;
    } map[] = {
        {SMTP_SERVER_SIZE, PARAMS_GIVEN_SIZE},
        {SMTP_SERVER_8BITMIME, PARAMS_GIVEN_BODY},
        {SMTP_SERVER_BINARYMIME, PARAMS_GIVEN_BODY | PARAMS_OFFERED_BINARY},
        {SMTP_SERVER_AUTH, PARAMS_GIVEN_AUTH},
        {SMTP_SERVER_SMTPUTF8, PARAMS_GIVEN_SMTPUTF8},
        {SMTP_SERVER_DSN, PARAMS_GIVEN_RET | PARAMS_GIVEN_ENVID | PARAMS_GIVEN_NOTIFY | PARAMS_GIVEN_ORCPT},
        {SMTP_SERVER_REQUIRETLS, PARAMS_GIVEN_REQUIRETLS},
        {SMTP_SERVER_MT_PRIORITY, PARAMS_GIVEN_PRIORITY},
        {SMTP_SERVER_FUTURERELEASE, PARAMS_GIVEN_HOLD_FOR | PARAMS_GIVEN_HOLD_UNTIL},
        {SMTP_SERVER_DELIVERBY, PARAMS_GIVEN_BY},
    };
    struct params_rules rules = {.hold_s_max = s->config->future_release_seconds_max,
                                 .now_s = s->now_s,
                                 .deliver_by_min = s->config->deliver_by_seconds_min,
                                 .utf8 = utf8};
    uint32_t offered = server_ehlo_offered(s);
    for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
        rules.offered |= offered & map[i].extension ? map[i].params : 0;
    }
    return rules;
}

static enum smtp_server_event do_mail(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    const struct smtp_server_config *config = s->config;
    if (config->auth_required && !s->authenticated) {
        return server_fail(s, out, REPLY_AUTH_REQUIRED);
    }
    if (config->mail_max != 0 && s->mails >= config->mail_max) {
        server_say_and_close(s, out, REPLY_TOO_MANY_MAILS); /* RFC 9422 4.1 */
        return NO_EVENT;
    }
    s->mails++;
    struct params_rules rules = rules_of(s, (server_ehlo_offered(s) & SMTP_SERVER_SMTPUTF8) != 0);
    enum reply_id reply = syntax_mail(argument, &rules, &s->mail.path, &s->mail.params);
    if (reply != REPLY_OK) {
        return server_fail(s, out, reply);
    }
    if (config->message_bytes_max != 0 && s->mail.params.size > config->message_bytes_max) {
        server_say(out, REPLY_TOO_BIG);
        return NO_EVENT;
    }
    s->binary = s->mail.params.body == PARAMS_BODY_BINARYMIME;
    s->utf8 = (s->mail.params.given & PARAMS_GIVEN_SMTPUTF8) != 0;
    return SMTP_SERVER_MAIL;
}

static enum smtp_server_event do_rcpt(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    struct params_rules rules = rules_of(s, s->utf8);
    enum reply_id reply = syntax_rcpt(argument, &rules, &s->rcpt.path, &s->rcpt.params);
    if (reply != REPLY_OK) {
        return server_fail(s, out, reply);
    }
    if (s->recipients >= s->config->recipients_max) {
        server_say(out, REPLY_TOO_MANY_RECIPIENTS); /* the client's business as usual, not an error */
        return NO_EVENT;
    }
    return SMTP_SERVER_RCPT;
}

static enum smtp_server_event do_data(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)argument;
    if (s->recipients == 0) {
        return server_fail(s, out, s->config->lmtp ? REPLY_BAD_SEQUENCE : REPLY_NO_RECIPIENTS);
    }
    if (s->binary) {
        return server_fail(s, out, REPLY_BAD_SEQUENCE); /* RFC 3030 3: only BDAT can carry it */
    }
    s->chunked = false;
    return SMTP_SERVER_DATA;
}

static enum smtp_server_event do_rset(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)argument;
    server_say(out, REPLY_OK);
    s->chunks_discarding = false;
    return smtp_server_in_transaction(s) ? server_drop(s, SMTP_SERVER_DROP_RESET) : NO_EVENT;
}

static enum smtp_server_event do_noop(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)s, (void)argument;
    server_say(out, REPLY_OK);
    return NO_EVENT;
}

static enum smtp_server_event do_quit(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)argument;
    server_say_and_close(s, out, REPLY_BYE);
    return NO_EVENT;
}

static enum smtp_server_event do_vrfy(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    enum reply_id reply = syntax_vrfy(argument, (server_ehlo_offered(s) & SMTP_SERVER_SMTPUTF8) != 0);
    if (reply != REPLY_OK) {
        return server_fail(s, out, reply);
    }
    server_say(out, REPLY_VRFY);
    return NO_EVENT;
}

static enum smtp_server_event do_help(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)s, (void)argument;
    server_say(out, REPLY_HELP);
    return NO_EVENT;
}

static enum smtp_server_event do_starttls(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    (void)argument;
    if ((s->extensions & SMTP_SERVER_STARTTLS) == 0) {
        return server_fail(s, out, REPLY_NOT_IMPLEMENTED);
    }
    return s->secure ? server_fail(s, out, REPLY_BAD_SEQUENCE) : SMTP_SERVER_STARTTLS_ASKED;
}

/* XCLIENT and XFORWARD. Whoever may not say it is told so (550), unless nobody may here. */
static enum smtp_server_event do_peer(struct smtp_server *s, struct bytes argument, struct buffer *out, bool forward)
{
    uint32_t extension = forward ? SMTP_SERVER_XFORWARD : SMTP_SERVER_XCLIENT;
    size_t verb_bytes = sizeof("XCLIENT \r\n") - 1 + forward;
    if ((s->extensions & extension) == 0) {
        bool others_may = (s->config->extensions & extension) != 0;
        return server_fail(s, out, others_may ? REPLY_NOT_AUTHORISED : REPLY_NOT_IMPLEMENTED);
    }
    if (argument.length + verb_bytes > XCLIENT_LINE_BYTES_MAX || !xclient_valid(argument, forward)) {
        return server_fail(s, out, REPLY_BAD_ARGUMENT);
    }
    s->peer_attributes = argument;
    return forward ? SMTP_SERVER_XFORWARD_GIVEN : SMTP_SERVER_XCLIENT_GIVEN;
}

static enum smtp_server_event do_xclient(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    return do_peer(s, argument, out, false);
}

static enum smtp_server_event do_xforward(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    return do_peer(s, argument, out, true);
}

static const struct {
    uint8_t phases;     /* where it is legal; elsewhere 503 */
    bool takes_nothing; /* an argument is an error: 501 */
    bool before_tls;    /* also where TLS is required and not there yet */
    command_function *run;
} commands[SYNTAX_VERB_COUNT] = {
    [SYNTAX_EHLO] = {ANY_PHASE, false, true, do_ehlo},
    [SYNTAX_HELO] = {ANY_PHASE, false, true, do_plain_helo},
    [SYNTAX_LHLO] = {ANY_PHASE, false, true, do_lhlo},
    [SYNTAX_MAIL] = {IN(PHASE_READY), false, false, do_mail},
    [SYNTAX_RCPT] = {IN(PHASE_TRANSACTION), false, false, do_rcpt},
    [SYNTAX_DATA] = {IN(PHASE_TRANSACTION), true, false, do_data},
    [SYNTAX_RSET] = {ANY_PHASE, true, true, do_rset},
    [SYNTAX_NOOP] = {ANY_PHASE, false, true, do_noop},
    [SYNTAX_QUIT] = {ANY_PHASE | IN(PHASE_REFUSED), true, true, do_quit},
    [SYNTAX_VRFY] = {ANY_PHASE, false, false, do_vrfy},
    [SYNTAX_HELP] = {ANY_PHASE, false, false, do_help},
    [SYNTAX_STARTTLS] = {IN(PHASE_READY), true, true, do_starttls},
    [SYNTAX_AUTH] = {IN(PHASE_READY), false, false, server_auth_command},
    [SYNTAX_BDAT] = {ANY_PHASE, false, true, server_bdat_command}, /* looks itself: octets follow, whatever is said */
    [SYNTAX_XCLIENT] = {IN(PHASE_START) | IN(PHASE_READY), false, false, do_xclient},
    [SYNTAX_XFORWARD] = {IN(PHASE_START) | IN(PHASE_READY), false, false, do_xforward},
};

/* A verb of an extension that is off is unknown everywhere, not out of order here. */
static bool is_off(const struct smtp_server *s, enum syntax_verb verb)
{
    static const uint32_t needed[SYNTAX_VERB_COUNT] = {
        [SYNTAX_STARTTLS] = SMTP_SERVER_STARTTLS, [SYNTAX_AUTH] = SMTP_SERVER_AUTH,
        [SYNTAX_BDAT] = SMTP_SERVER_CHUNKING,     [SYNTAX_XCLIENT] = SMTP_SERVER_XCLIENT,
        [SYNTAX_XFORWARD] = SMTP_SERVER_XFORWARD,
    };
    return needed[verb] != 0 && ((s->extensions | s->config->extensions) & needed[verb]) == 0;
}

enum smtp_server_event server_command_execute(struct smtp_server *s, enum syntax_verb verb, struct bytes argument,
                                              struct buffer *out)
{
    if (verb == SYNTAX_HTTP) {
        server_say_and_close(s, out, REPLY_NOT_SMTP);
        return NO_EVENT;
    }
    if (s->phase == PHASE_REFUSED && verb != SYNTAX_QUIT) {
        return server_fail(s, out, REPLY_BAD_SEQUENCE);
    }
    if (commands[verb].run == NULL) {
        return server_fail(s, out, verb == SYNTAX_ABSENT ? REPLY_NOT_IMPLEMENTED : REPLY_UNKNOWN_VERB);
    }
    if (is_off(s, verb)) {
        return server_fail(s, out, REPLY_NOT_IMPLEMENTED);
    }
    if (s->config->tls_required && !s->secure && !commands[verb].before_tls) {
        return server_fail(s, out, REPLY_TLS_REQUIRED);
    }
    if ((commands[verb].phases & IN(s->phase)) == 0) {
        return server_fail(s, out, REPLY_BAD_SEQUENCE);
    }
    if (commands[verb].takes_nothing && argument.length != 0) {
        return server_fail(s, out, REPLY_BAD_ARGUMENT);
    }
    return commands[verb].run(s, argument, out);
}
