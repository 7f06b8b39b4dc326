#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtp/xclient.h"
#include "transcript/transcript.h"

#define ADD(...) assert_true(buffer_append_format(text, __VA_ARGS__))

static void add_bytes(struct buffer *text, const char *before, struct bytes bytes, const char *behind)
{
    assert_true(buffer_append_string(text, before) && buffer_append(text, bytes) && buffer_append_string(text, behind));
}

static void describe_mail(const struct smtp_server *s, struct buffer *text)
{
    static const char *const bodies[] = {" 7BIT", " 8BITMIME", " BINARYMIME"};
    const struct params_mail *params = &s->mail.params;
    uint32_t given = params->given;
    add_bytes(text, "MAIL <", s->mail.path.mailbox, ">");
    assert_true(s->utf8 || !s->mail.path.utf8);
    if (given & PARAMS_GIVEN_SIZE) {
        ADD(" SIZE=%llu", (unsigned long long)params->size);
    }
    ADD("%s", given & PARAMS_GIVEN_BODY ? bodies[params->body] : "");
    ADD("%s", given & PARAMS_GIVEN_SMTPUTF8 ? " SMTPUTF8" : "");
    if (given & PARAMS_GIVEN_RET) {
        ADD(" RET=%c", params->ret);
    }
    if (given & PARAMS_GIVEN_ENVID) {
        add_bytes(text, " ENVID=", params->envid, "");
    }
    if (given & PARAMS_GIVEN_AUTH) {
        add_bytes(text, " AUTH=", params->auth, "");
    }
    ADD("%s", given & PARAMS_GIVEN_REQUIRETLS ? " REQUIRETLS" : "");
    if (given & PARAMS_GIVEN_PRIORITY) {
        ADD(" PRIORITY=%d", params->priority);
    }
    if (given & PARAMS_GIVEN_HOLD_FOR) {
        ADD(" HOLDFOR=%u", params->hold_for_s);
    }
    if (given & PARAMS_GIVEN_HOLD_UNTIL) {
        ADD(" HOLDUNTIL=%llu", (unsigned long long)params->hold_until_s);
    }
    if (given & PARAMS_GIVEN_BY) {
        ADD(" BY=%d;%c%s", params->by_s, params->by_mode, params->by_trace ? "T" : "");
    }
}

static void describe_rcpt(const struct smtp_server *s, struct buffer *text)
{
    const struct params_rcpt *params = &s->rcpt.params;
    add_bytes(text, "RCPT <", s->rcpt.path.mailbox, ">");
    if (params->given & PARAMS_GIVEN_NOTIFY) {
        ADD(" NOTIFY=%u", params->notify);
    }
    if (params->given & PARAMS_GIVEN_ORCPT) {
        add_bytes(text, " ORCPT=", params->orcpt, "");
    }
}

static void describe_attributes(const struct smtp_server *s, struct buffer *text)
{
    static const char *const names[] = {"NAME",  "ADDR",     "PORT",     "PROTO", "HELO",
                                        "LOGIN", "DESTADDR", "DESTPORT", "IDENT", "SOURCE"};
    struct bytes rest = s->peer_attributes;
    struct xclient_attribute attribute;
    while (xclient_next(&rest, &attribute)) {
        ADD(" %s", names[attribute.name]);
        add_bytes(text, "=", attribute.unavailable ? BYTES("-") : attribute.raw, "");
    }
}

static void describe_auth(const struct smtp_server *s, struct buffer *text)
{
    assert_int_equal(s->auth.first, s->auth.mechanism.length != 0);
    add_bytes(text, "AUTH ", s->auth.first ? s->auth.mechanism : BYTES("..."), "");
    if (s->auth.has_response) {
        add_bytes(text, " \"", s->auth.response, "\"");
    }
}

static void describe_end(const struct smtp_server *s, struct buffer *text)
{
    ADD("END bytes=%llu message=%llu stuffed=%llu received=%u", (unsigned long long)s->dot.bytes,
        (unsigned long long)dot_message_bytes(&s->dot), (unsigned long long)s->dot.stuffed, s->dot.received);
    ADD("%s%s%s", s->dot.seen & DOT_EIGHT_BIT ? " 8bit" : "", s->binary ? " binary" : "",
        s->crlf_added ? " crlf-added" : "");
}

void transcript_describe(const struct smtp_server *s, enum smtp_server_event event, struct buffer *text)
{
    static const char *const drops[] = {"reset", "helo", "close", "content"};
    switch (event) {
    case SMTP_SERVER_HELO: add_bytes(text, "HELO ", s->helo, s->extended ? " ESMTP" : " SMTP"); break;
    case SMTP_SERVER_STARTTLS_ASKED: ADD("STARTTLS"); break;
    case SMTP_SERVER_AUTH_STEP: describe_auth(s, text); break;
    case SMTP_SERVER_AUTH_CANCELLED: ADD("AUTH cancelled"); break;
    case SMTP_SERVER_XCLIENT_GIVEN:
        ADD("XCLIENT");
        describe_attributes(s, text);
        break;
    case SMTP_SERVER_XFORWARD_GIVEN:
        ADD("XFORWARD");
        describe_attributes(s, text);
        break;
    case SMTP_SERVER_MAIL: describe_mail(s, text); break;
    case SMTP_SERVER_RCPT: describe_rcpt(s, text); break;
    case SMTP_SERVER_DATA: ADD(s->chunked ? "DATA chunked" : "DATA"); break;
    case SMTP_SERVER_END: describe_end(s, text); break;
    case SMTP_SERVER_DROPPED: ADD("DROPPED %s", drops[s->drop]); break;
    case SMTP_SERVER_CLOSE: ADD("CLOSE"); break;
    default: fail_msg("event %d is not for the log", event);
    }
}
