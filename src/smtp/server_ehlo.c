#include "base/limits.h"
#include "smtp/datetime.h"
#include "smtp/server_private.h"

/* The longest answer: a name of 255 octets, and every keyword with its longest values (see test_longest_replies). */
static_assert(LIMIT_DOMAIN_BYTES + SMTP_SERVER_MECHANISMS_BYTES_MAX + 512 <= SMTP_SERVER_OUTPUT_BYTES,
              "the answer to EHLO fits");

uint32_t server_ehlo_offered(const struct smtp_server *s)
{
    uint32_t offered = s->extensions;
    offered &= s->secure ? ~SMTP_SERVER_STARTTLS : ~SMTP_SERVER_REQUIRETLS;
    if (server_auth_mechanisms(s).length == 0) {
        offered &= ~SMTP_SERVER_AUTH;
    }
    if ((offered & SMTP_SERVER_CHUNKING) == 0) {
        offered &= ~SMTP_SERVER_BINARYMIME; /* RFC 3030 3 */
    }
    if ((offered & SMTP_SERVER_8BITMIME) == 0) {
        offered &= ~SMTP_SERVER_SMTPUTF8; /* RFC 6531 3.1 */
    }
    if (s->config->future_release_seconds_max == 0) {
        offered &= ~SMTP_SERVER_FUTURERELEASE;
    }
    return offered;
}

static void say_line(struct buffer *out, struct bytes text)
{
    CHECK(buffer_append(out, BYTES("250-")) && buffer_append(out, text) && buffer_append(out, BYTES("\r\n")));
}

static void say_number(struct buffer *out, const char *text, uint64_t number, const char *behind)
{
    CHECK(buffer_append_string(out, text) && buffer_append_number(out, number) && buffer_append_string(out, behind));
}

static void say_limits(const struct smtp_server_config *config, struct buffer *out)
{
    CHECK(buffer_append(out, BYTES("250-LIMITS")));
    if (config->mail_max != 0) {
        say_number(out, " MAILMAX=", config->mail_max, "");
    }
    say_number(out, " RCPTMAX=", config->recipients_max, "\r\n");
}

static void say_future_release(const struct smtp_server *s, struct buffer *out)
{
    uint32_t seconds = s->config->future_release_seconds_max;
    say_number(out, "250-FUTURERELEASE ", seconds, " ");
    CHECK(datetime_append(out, s->now_s + seconds) && buffer_append(out, BYTES("\r\n")));
}

static void say_extensions_with_values(const struct smtp_server *s, struct buffer *out, uint32_t offered)
{
    const struct smtp_server_config *config = s->config;
    if (offered & SMTP_SERVER_SIZE) {
        say_number(out, "250-SIZE ", config->message_bytes_max, "\r\n");
    }
    if ((offered & SMTP_SERVER_AUTH) && !s->authenticated) {
        CHECK(buffer_append(out, BYTES("250-AUTH ")) && buffer_append(out, server_auth_mechanisms(s)) &&
              buffer_append(out, BYTES("\r\n")));
    }
    if (offered & SMTP_SERVER_LIMITS) {
        say_limits(config, out);
    }
    if (offered & SMTP_SERVER_FUTURERELEASE) {
        say_future_release(s, out);
    }
    if ((offered & SMTP_SERVER_DELIVERBY) && config->deliver_by_seconds_min != 0) {
        say_number(out, "250-DELIVERBY ", config->deliver_by_seconds_min, "\r\n");
    } else if (offered & SMTP_SERVER_DELIVERBY) {
        say_line(out, BYTES("DELIVERBY"));
    }
}

void server_ehlo_say(const struct smtp_server *s, struct buffer *out)
{
    static const struct {
        uint32_t bit;
        struct bytes keyword;
    } keywords[] = {
        {SMTP_SERVER_8BITMIME, BYTES("8BITMIME")},
        {SMTP_SERVER_ENHANCEDSTATUSCODES, BYTES("ENHANCEDSTATUSCODES")},
        {SMTP_SERVER_STARTTLS, BYTES("STARTTLS")},
        {SMTP_SERVER_CHUNKING, BYTES("CHUNKING")},
        {SMTP_SERVER_BINARYMIME, BYTES("BINARYMIME")},
        {SMTP_SERVER_SMTPUTF8, BYTES("SMTPUTF8")},
        {SMTP_SERVER_DSN, BYTES("DSN")},
        {SMTP_SERVER_REQUIRETLS, BYTES("REQUIRETLS")},
        {SMTP_SERVER_MT_PRIORITY, BYTES("MT-PRIORITY")},
        {SMTP_SERVER_XCLIENT, BYTES("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT")},
        {SMTP_SERVER_XFORWARD, BYTES("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")},
    };
    uint32_t offered = server_ehlo_offered(s);
    say_line(out, s->config->hostname);
    if (offered & SMTP_SERVER_PIPELINING) {
        say_line(out, BYTES("PIPELINING"));
    }
    say_extensions_with_values(s, out, offered);
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        if (offered & keywords[i].bit) {
            say_line(out, keywords[i].keyword);
        }
    }
    CHECK(buffer_append(out, BYTES("250 HELP\r\n")));
}
