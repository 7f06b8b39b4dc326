#include "base/base64.h"
#include "smtp/line.h"
#include "smtp/server_private.h"

/* AUTH (RFC 4954): the frame of an exchange, not its contents.
 *
 *     C: AUTH mechanism [initial-response]     -> AUTH_STEP, first
 *     S: 334 challenge                         <- smtp_server_challenge
 *     C: response                              -> AUTH_STEP
 *     S: 235 / 535 / 454                       <- smtp_server_accept, smtp_server_refuse
 *
 * Between 334 and the final answer every line is a response, whatever it looks like: what a client pipelined behind
 * AUTH is decoded as base64 and fails, and is never executed. The lines are longer than commands, so they have a larger
 * line block, and they always lie in it, because they are decoded where they are. */

bool server_auth_is_line(const struct smtp_server *s, struct bytes stash, struct bytes input)
{
    return s->in_exchange ||
           (line_begins(stash, input, BYTES("AUTH ")) && (server_ehlo_offered(s) & SMTP_SERVER_AUTH) != 0);
}

struct bytes server_auth_mechanisms(const struct smtp_server *s)
{
    return s->secure ? s->config->mechanisms_secure : s->config->mechanisms_clear;
}

/* The name as the list has it. */
static bool find_mechanism(struct bytes list, struct bytes name, struct bytes *ret_name)
{
    while (list.length != 0) {
        const char *space = memchr(list.data, ' ', list.length);
        size_t length = space == NULL ? list.length : (size_t)(space - list.data);
        if (bytes_equal_nocase(bytes_slice(list, 0, length), name)) {
            *ret_name = bytes_slice(list, 0, length);
            return true;
        }
        bytes_advance(&list, space == NULL ? length : length + 1);
    }
    return false;
}

/* Decodes a response that lies in the line block, in its place. */
static bool decode(struct smtp_server *s, struct bytes text, struct bytes *ret_octets)
{
    size_t length;
    char *place = s->line + (text.data - s->line);
    if (!base64_decode(text, place, &length)) {
        return false;
    }
    *ret_octets = bytes_of(place, length);
    return true;
}

static enum reply_id objection(const struct smtp_server *s)
{
    bool tls_helps = !s->secure && s->config->mechanisms_secure.length != 0;
    if ((s->extensions & SMTP_SERVER_AUTH) == 0) {
        return REPLY_NOT_IMPLEMENTED;
    }
    if (server_auth_mechanisms(s).length == 0) {
        return tls_helps ? REPLY_TLS_REQUIRED : REPLY_NOT_IMPLEMENTED;
    }
    return s->authenticated ? REPLY_BAD_SEQUENCE : REPLY_OK;
}

enum smtp_server_event server_auth_command(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    enum reply_id refusal = objection(s);
    if (refusal != REPLY_OK) {
        return server_fail(s, out, refusal);
    }
    if (s->config->errors_max != 0 && s->errors >= s->config->errors_max) {
        server_say_and_close(s, out, REPLY_TOO_MANY_ERRORS); /* refused exchanges count, see smtp_server_refuse */
        return NO_EVENT;
    }
    const char *space = argument.length == 0 ? NULL : memchr(argument.data, ' ', argument.length);
    struct bytes name = bytes_slice(argument, 0, space == NULL ? argument.length : (size_t)(space - argument.data));
    struct bytes text = bytes_slice(argument, name.length, argument.length - name.length);
    struct bytes mechanism, response = {0};
    if (name.length == 0) {
        return server_fail(s, out, REPLY_BAD_ARGUMENT);
    }
    if (!find_mechanism(server_auth_mechanisms(s), name, &mechanism)) {
        return server_fail(s, out, REPLY_AUTH_MECHANISM);
    }
    if (text.length != 0) {
        bytes_advance(&text, 1);
    }
    bool empty = bytes_equal(text, BYTES("=")); /* an initial response of no octets */
    if (text.length != 0 && !empty && !decode(s, text, &response)) {
        return server_fail(s, out, REPLY_BAD_BASE64);
    }
    s->auth.mechanism = mechanism;
    s->auth.response = response;
    s->auth.has_response = text.length != 0;
    s->auth.first = true;
    return SMTP_SERVER_AUTH_STEP;
}

enum smtp_server_event server_auth_cancel(struct smtp_server *s, struct buffer *out, enum reply_id id)
{
    s->in_exchange = false;
    server_fail(s, out, id);
    return SMTP_SERVER_AUTH_CANCELLED;
}

enum smtp_server_event server_auth_response(struct smtp_server *s, struct bytes line, struct buffer *out)
{
    struct bytes response;
    if (bytes_equal(line, BYTES("*"))) {
        return server_auth_cancel(s, out, REPLY_AUTH_ABORTED);
    }
    if (!decode(s, line, &response)) {
        return server_auth_cancel(s, out, REPLY_BAD_BASE64);
    }
    s->in_exchange = false;
    s->auth.mechanism = (struct bytes){0};
    s->auth.response = response;
    s->auth.has_response = true;
    s->auth.first = false;
    return SMTP_SERVER_AUTH_STEP;
}
