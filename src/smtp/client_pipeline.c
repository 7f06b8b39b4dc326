#include "smtp/client_pipeline.h"

#include "smtp/client_command.h"

static_assert(LIMIT_TRANSACTION_RECIPIENTS <= UINT8_MAX, "a run of expected replies is counted in 8 bits");

void smtp_client_pipeline_expect(struct smtp_client *c, enum smtp_client_pipeline_due due)
{
    if (c->expected_count != 0 && c->expected[c->expected_count - 1].kind == due) {
        CHECK(c->expected[c->expected_count - 1].count < UINT8_MAX);
        c->expected[c->expected_count - 1].count++;
        return;
    }
    CHECK(c->expected_count < SMTP_CLIENT_EXPECTED_MAX);
    c->expected[c->expected_count].kind = (uint8_t)due;
    c->expected[c->expected_count].count = 1;
    c->expected_count++;
}

enum smtp_client_pipeline_due smtp_client_pipeline_due(const struct smtp_client *c)
{
    CHECK(c->expected_count != 0);
    return c->expected[0].kind;
}

void smtp_client_pipeline_answered(struct smtp_client *c)
{
    CHECK(c->expected_count != 0 && c->expected[0].count != 0);
    if (--c->expected[0].count == 0) {
        c->expected_count--;
        memmove(&c->expected[0], &c->expected[1], c->expected_count * sizeof(c->expected[0]));
    }
}

void smtp_client_pipeline_drop_envelope(struct smtp_client *c)
{
    c->orphan_accepted = false;
    for (uint8_t i = 0; i < c->expected_count; i++) {
        if (c->expected[i].kind == SMTP_CLIENT_DUE_RCPT) {
            c->expected[i].kind = SMTP_CLIENT_DUE_ORPHAN_RCPT;
        } else if (c->expected[i].kind == SMTP_CLIENT_DUE_DATA) {
            c->expected[i].kind = SMTP_CLIENT_DUE_ORPHAN_DATA;
        }
        CHECK(c->expected[i].kind != SMTP_CLIENT_DUE_MAIL);
    }
    c->envelope = c->waiting;
    c->waiting = NULL;
    c->say = c->envelope != NULL ? SMTP_CLIENT_SAY_MAIL : SMTP_CLIENT_SAY_NOTHING;
    c->say_recipient = 0;
}

static enum smtp_client_pipeline_say next_command(const struct smtp_client *c)
{
    if (c->lone_dot_due) {
        return SMTP_CLIENT_SAY_LONE_DOT;
    }
    if (c->say == SMTP_CLIENT_SAY_MAIL && c->reset_due) {
        return SMTP_CLIENT_SAY_RSET;
    }
    if (c->say == SMTP_CLIENT_SAY_NOTHING && c->quitting && c->ready && c->sent == NULL && c->expected_count == 0) {
        return SMTP_CLIENT_SAY_QUIT;
    }
    if (c->say == SMTP_CLIENT_SAY_BDAT && c->envelope->answered != c->envelope->recipients_count) {
        return SMTP_CLIENT_SAY_NOTHING;
    }
    return c->say;
}

/* RFC 2920 3.1: only RSET, MAIL, RCPT, and the body with its dot may be followed by more before they are answered. */
static bool may_speak(const struct smtp_client *c)
{
    if (c->expected_count == 0) {
        return true;
    }
    if (!c->may_pipeline || (c->capabilities & SMTP_CLIENT_PIPELINING) == 0) {
        return false;
    }
    switch ((enum smtp_client_pipeline_due)c->expected[c->expected_count - 1].kind) {
    case SMTP_CLIENT_DUE_RSET:
    case SMTP_CLIENT_DUE_MAIL:
    case SMTP_CLIENT_DUE_RCPT:
    case SMTP_CLIENT_DUE_ORPHAN_RCPT:
    case SMTP_CLIENT_DUE_DOT:
    case SMTP_CLIENT_DUE_ORPHAN_DOT: return true;
    default: return false;
    }
}

/* The command was said: what comes after it. */
static void step(struct smtp_client *c, enum smtp_client_pipeline_say said)
{
    switch (said) {
    case SMTP_CLIENT_SAY_LONE_DOT: c->lone_dot_due = false; break;
    case SMTP_CLIENT_SAY_RSET: c->reset_due = false; break;
    case SMTP_CLIENT_SAY_MAIL: c->say = SMTP_CLIENT_SAY_RCPT; break;
    case SMTP_CLIENT_SAY_RCPT:
        if (++c->say_recipient == c->envelope->recipients_count) {
            c->say = c->envelope->chunked ? SMTP_CLIENT_SAY_BDAT : SMTP_CLIENT_SAY_DATA;
        }
        break;
    default: c->say = SMTP_CLIENT_SAY_NOTHING; break;
    }
}

enum smtp_client_pipeline_result smtp_client_pipeline_speak(struct smtp_client *c, struct buffer *out)
{
    static const uint8_t due[SMTP_CLIENT_SAY_COUNT] = {
        [SMTP_CLIENT_SAY_EHLO] = SMTP_CLIENT_DUE_EHLO,           [SMTP_CLIENT_SAY_HELO] = SMTP_CLIENT_DUE_HELO,
        [SMTP_CLIENT_SAY_LONE_DOT] = SMTP_CLIENT_DUE_ORPHAN_DOT, [SMTP_CLIENT_SAY_RSET] = SMTP_CLIENT_DUE_RSET,
        [SMTP_CLIENT_SAY_MAIL] = SMTP_CLIENT_DUE_MAIL,           [SMTP_CLIENT_SAY_RCPT] = SMTP_CLIENT_DUE_RCPT,
        [SMTP_CLIENT_SAY_DATA] = SMTP_CLIENT_DUE_DATA,           [SMTP_CLIENT_SAY_QUIT] = SMTP_CLIENT_DUE_QUIT,
        [SMTP_CLIENT_SAY_STARTTLS] = SMTP_CLIENT_DUE_STARTTLS,
    };
    enum smtp_client_pipeline_say say = next_command(c);
    if (say == SMTP_CLIENT_SAY_NOTHING || !may_speak(c)) {
        return SMTP_CLIENT_PIPELINE_SILENT;
    }
    size_t before = out->length;
    if (!smtp_client_command_append(c, say, out)) {
        out->length = before;
        return SMTP_CLIENT_PIPELINE_FULL;
    }
    if (say == SMTP_CLIENT_SAY_BDAT) {
        return SMTP_CLIENT_PIPELINE_BODY;
    }
    smtp_client_pipeline_expect(c, due[say]);
    step(c, say);
    return SMTP_CLIENT_PIPELINE_SAID;
}
