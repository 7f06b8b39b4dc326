#include "smtp/client_command.h"

#include "smtp/client_fit.h"
#include "smtp/xtext.h"

#define BY_SECONDS_MAX 999999999 /* RFC 2852 3: nine digits */

static_assert(
    LIMIT_CLIENT_COMMAND_BYTES >=
        LIMIT_ADDRESS_BYTES + 2 * LIMIT_CLIENT_PARAMETER_BYTES + 20 /* SIZE */ + 11 /* BY */ +
            sizeof("MAIL FROM:<> SIZE= BODY=BINARYMIME SMTPUTF8 RET=FULL ENVID= AUTH= REQUIRETLS MT-PRIORITY=-9 "
                   "BY=;RT\r\n"),
    "MAIL with everything fits into an empty buffer");
static_assert(LIMIT_CLIENT_COMMAND_BYTES >= LIMIT_ADDRESS_BYTES + LIMIT_CLIENT_PARAMETER_BYTES +
                                                sizeof("RCPT TO:<> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=\r\n"),
              "RCPT with everything fits into an empty buffer");

static bool has(const struct smtp_client *c, enum smtp_client_capability capability)
{
    return (c->capabilities & (uint32_t)capability) != 0;
}

/* " NAME=value", unless the value is none. */
static bool append_parameter(struct buffer *out, struct bytes name, struct bytes value)
{
    return !smtp_client_fit_parameter(value) || (buffer_append(out, name) && buffer_append(out, value));
}

static bool append_signed(struct buffer *out, int64_t number)
{
    return (number >= 0 || buffer_append(out, BYTES("-"))) &&
           buffer_append_number(out, (uint64_t)(number < 0 ? -number : number));
}

static bool append_by(const struct smtp_client_parameters *parameters, struct buffer *out)
{
    int64_t by_s = parameters->by_s;
    by_s = by_s > BY_SECONDS_MAX ? BY_SECONDS_MAX : by_s < -BY_SECONDS_MAX ? -BY_SECONDS_MAX : by_s;
    return buffer_append(out, BYTES(" BY=")) && append_signed(out, by_s) && buffer_append(out, BYTES(";")) &&
           buffer_append(out, bytes_of(&parameters->by_mode, 1)) &&
           (!parameters->by_trace || buffer_append(out, BYTES("T")));
}

static bool append_parameters(const struct smtp_client *c, struct buffer *out)
{
    const struct smtp_client_parameters *parameters = &c->envelope->parameters;
    bool fits = true;
    if (has(c, SMTP_CLIENT_DSN)) {
        struct bytes ret = parameters->ret == 'H'   ? BYTES(" RET=HDRS")
                           : parameters->ret == 'F' ? BYTES(" RET=FULL")
                                                    : BYTES("");
        fits = buffer_append(out, ret) && append_parameter(out, BYTES(" ENVID="), parameters->envelope_id);
    }
    if (has(c, SMTP_CLIENT_AUTH)) {
        fits = fits && append_parameter(out, BYTES(" AUTH="), parameters->auth);
    }
    if (parameters->require_tls && c->secure && has(c, SMTP_CLIENT_REQUIRETLS)) {
        fits = fits && buffer_append(out, BYTES(" REQUIRETLS"));
    }
    if (parameters->has_priority && has(c, SMTP_CLIENT_MT_PRIORITY)) {
        fits = fits && buffer_append(out, BYTES(" MT-PRIORITY=")) && append_signed(out, parameters->priority);
    }
    if (parameters->by_mode != 0 && has(c, SMTP_CLIENT_DELIVERBY)) {
        fits = fits && append_by(parameters, out);
    }
    return fits;
}

static bool append_mail(const struct smtp_client *c, struct buffer *out)
{
    const struct smtp_client_transaction *transaction = c->envelope;
    bool fits = buffer_append(out, BYTES("MAIL FROM:<")) && buffer_append(out, transaction->reverse_path) &&
                buffer_append(out, BYTES(">"));
    if (has(c, SMTP_CLIENT_SIZE)) {
        fits = fits && buffer_append(out, BYTES(" SIZE=")) && buffer_append_number(out, transaction->size_bytes);
    }
    if (transaction->binary) { /* smtp_client_fit() saw the extension, here and below */
        fits = fits && buffer_append(out, BYTES(" BODY=BINARYMIME"));
    } else if (transaction->has_8bit) {
        fits = fits && buffer_append(out, BYTES(" BODY=8BITMIME"));
    }
    if (transaction->utf8) {
        fits = fits && buffer_append(out, BYTES(" SMTPUTF8"));
    }
    return fits && append_parameters(c, out) && buffer_append(out, BYTES("\r\n"));
}

static bool append_notify(struct buffer *out, unsigned notify)
{
    static const struct {
        unsigned bit;
        struct bytes word;
    } words[] = {
        {SMTP_CLIENT_NOTIFY_SUCCESS, BYTES("SUCCESS")},
        {SMTP_CLIENT_NOTIFY_FAILURE, BYTES("FAILURE")},
        {SMTP_CLIENT_NOTIFY_DELAY, BYTES("DELAY")},
    };
    if (notify == 0) {
        return true;
    }
    if ((notify & SMTP_CLIENT_NOTIFY_NEVER) != 0) { /* goes with no other */
        return buffer_append(out, BYTES(" NOTIFY=NEVER"));
    }
    bool fits = buffer_append(out, BYTES(" NOTIFY="));
    bool first = true;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if ((notify & words[i].bit) != 0) {
            fits = fits && (first || buffer_append(out, BYTES(","))) && buffer_append(out, words[i].word);
            first = false;
        }
    }
    return fits;
}

/* Where a notification further on shall say that the message was meant to go, although an alias may change the address
 * on the way: what the sender said, else, when it is to hear anything at all, the address that it gave us. */
static bool append_original(struct buffer *out, const struct smtp_client_notify *notify, struct bytes address)
{
    if (smtp_client_fit_parameter(notify->original_recipient)) {
        return append_parameter(out, BYTES(" ORCPT="), notify->original_recipient);
    }
    char room[LIMIT_CLIENT_PARAMETER_BYTES];
    struct buffer original = buffer_of(room, sizeof(room));
    bool ascii = true;
    for (size_t i = 0; i < address.length; i++) {
        ascii = ascii && (address.data[i] & 0x80) == 0;
    }
    if (notify->notify == 0 || (notify->notify & SMTP_CLIENT_NOTIFY_NEVER) != 0 || !ascii ||
        !buffer_append(&original, BYTES("rfc822;")) || !xtext_encode(&original, address)) {
        return true;
    }
    return append_parameter(out, BYTES(" ORCPT="), buffer_bytes(&original));
}

static bool append_rcpt(const struct smtp_client *c, struct buffer *out)
{
    const struct smtp_client_transaction *transaction = c->envelope;
    struct bytes address = transaction->recipients[c->say_recipient];
    bool fits = buffer_append(out, BYTES("RCPT TO:<")) && buffer_append(out, address) && buffer_append(out, BYTES(">"));
    if (transaction->notify != NULL && has(c, SMTP_CLIENT_DSN)) {
        const struct smtp_client_notify *notify = &transaction->notify[c->say_recipient];
        fits = fits && append_notify(out, notify->notify) && append_original(out, notify, address);
    }
    return fits && buffer_append(out, BYTES("\r\n"));
}

bool smtp_client_command_append(const struct smtp_client *c, enum smtp_client_pipeline_say say, struct buffer *out)
{
    switch (say) {
    case SMTP_CLIENT_SAY_EHLO:
        return buffer_append(out, c->lmtp ? BYTES("LHLO ") : BYTES("EHLO ")) && buffer_append(out, c->helo_name) &&
               buffer_append(out, BYTES("\r\n"));
    case SMTP_CLIENT_SAY_HELO:
        return buffer_append(out, BYTES("HELO ")) && buffer_append(out, c->helo_name) &&
               buffer_append(out, BYTES("\r\n"));
    case SMTP_CLIENT_SAY_STARTTLS: return buffer_append(out, BYTES("STARTTLS\r\n"));
    case SMTP_CLIENT_SAY_LONE_DOT: return buffer_append(out, BYTES(".\r\n"));
    case SMTP_CLIENT_SAY_RSET: return buffer_append(out, BYTES("RSET\r\n"));
    case SMTP_CLIENT_SAY_MAIL: return append_mail(c, out);
    case SMTP_CLIENT_SAY_RCPT: return append_rcpt(c, out);
    case SMTP_CLIENT_SAY_DATA: return buffer_append(out, BYTES("DATA\r\n"));
    case SMTP_CLIENT_SAY_BDAT:
        return buffer_append(out, BYTES("BDAT ")) && buffer_append_number(out, c->envelope->chunk_bytes) &&
               buffer_append(out, BYTES(" LAST\r\n"));
    case SMTP_CLIENT_SAY_QUIT: return buffer_append(out, BYTES("QUIT\r\n"));
    default: CHECK(false); return false;
    }
}
