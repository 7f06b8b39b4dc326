/* The sending side of SMTP. What may be sent at all is client_fit.c, how it is worded client_command.c, what may be
 * said before what is answered client_pipeline.c.
 *
 * One round trip per message. A group of pipelined commands must end with DATA, because the body may only follow a 354.
 * But the body itself may begin a group (RFC 2920 3.1), so on a warm connection everything after a 354 goes out at
 * once:
 *
 *     us:   | body A, dot A, MAIL B, RCPT B, RCPT B, DATA B |         | body B, dot B, MAIL C, ...
 *     peer: |                                               | 250 A, 250, 250, 550, 354 |
 *
 * Hence up to two transactions exist: `sent` (dot A) and `envelope` (MAIL B ...); a third pointer, `waiting`, holds
 * what was begun before the first one's 354. The replies in flight are matched by counting alone: `expected` is the
 * list of what is owed, as runs, so a hundred RCPTs take two bytes.
 *
 * A body that goes by BDAT needs no 354: the replies to MAIL and RCPT decide, then "BDAT n LAST", the body and the next
 * envelope are one group. It is the same number of writes, reads and round trips, and no fewer octets; so BDAT is for
 * binary bodies, which nothing else can carry, and DATA, which every host has practised, for all the rest.
 *
 * LMTP differs in the name of its EHLO and in having a reply to the body for each accepted recipient, in order.
 *
 * TLS comes between two EHLOs. What the peer says in the clear is not to be trusted behind it: capabilities are
 * forgotten, and octets that came along with the 220 end the connection, because they would pass for replies that were
 * said under TLS.
 *
 * What can go wrong with a group, and what is done:
 *  - MAIL is refused, or every RCPT: the transaction is DONE at once, the replies to the rest of its commands become
 *    orphans. If the orphaned DATA gets a 354 all the same, a lone dot ends it; the peer must not deliver that (RFC
 * 2920 3.2 (4)). If it holds a recipient that it accepted, it might, and we cut the connection instead.
 *  - An envelope that led to no dot stays behind at the peer: RSET goes ahead of the next MAIL, in the same group.
 *  - 421 (or garbage) answers one command. The transaction whose own command it is takes the blame; others are UNSENT.
 *    A 421 to the MAIL of a second transaction is about the connection, whatever it says: UNSENT as well.
 *  - Bytes that come while nothing is owed are no replies: they could only be taken for the answer to what is said
 *    next. So before we say anything into silence, the input must be empty.
 *
 * Waiting for output never stops reading: WANT_OUTPUT is returned only when the input is used up, so two sides that
 * both wait for the other to read cannot happen (RFC 2920 3.1, "deadlock"). */
#include "smtp/client.h"

#include "smtp/client_ehlo.h"
#include "smtp/client_fit.h"
#include "smtp/client_pipeline.h"

static bool name_is_safe(struct bytes name)
{
    for (size_t i = 0; i < name.length; i++) {
        if (name.data[i] <= ' ' || name.data[i] > '~') {
            return false;
        }
    }
    return name.length != 0 && name.length <= LIMIT_DOMAIN_BYTES;
}

/* --- the driver's calls ------------------------------------------------------------------------------------------- */

void smtp_client_init(struct smtp_client *c, struct bytes helo_name, bool may_pipeline, struct smtp_client_reply *reply)
{
    CHECK(name_is_safe(helo_name));
    *c = (struct smtp_client){.helo_name = helo_name, .may_pipeline = may_pipeline, .reply = reply};
    smtp_client_ehlo_clear(c);
    smtp_client_reply_clear(reply);
    smtp_client_pipeline_expect(c, SMTP_CLIENT_DUE_GREETING);
}

void smtp_client_use_lmtp(struct smtp_client *c)
{
    c->lmtp = true;
}

void smtp_client_use_tls(struct smtp_client *c, enum smtp_client_tls tls)
{
    c->tls = tls;
}

void smtp_client_secured(struct smtp_client *c, bool trusted)
{
    CHECK(c->handshaking && c->cause == SMTP_CLIENT_CAUSE_NONE && c->expected_count == 0);
    c->handshaking = false;
    c->secure = true;
    c->trusted = trusted;
    smtp_client_ehlo_clear(c);
    c->say = SMTP_CLIENT_SAY_EHLO;
}

/* A reply that nobody asked for has begun to arrive. */
static bool unsolicited(const struct smtp_client *c, const struct bytes *input)
{
    return c->expected_count == 0 && (c->reply->partial || input->length != 0);
}

static bool may_ever_begin(const struct smtp_client *c)
{
    return c->cause == SMTP_CLIENT_CAUSE_NONE && !c->quitting && (c->mail_max == 0 || c->begun < c->mail_max);
}

bool smtp_client_can_begin(const struct smtp_client *c)
{
    bool crowded = c->waiting != NULL || (c->sent != NULL && c->envelope != NULL);
    return c->ready && may_ever_begin(c) && !crowded && !unsolicited(c, &(struct bytes){0});
}

bool smtp_client_spent(const struct smtp_client *c)
{
    return !may_ever_begin(c) && c->sent == NULL && c->envelope == NULL && c->waiting == NULL;
}

void smtp_client_begin(struct smtp_client *c, struct smtp_client_transaction *transaction)
{
    CHECK(smtp_client_can_begin(c) && smtp_client_fit(c, transaction) == SMTP_CLIENT_FIT_YES);
    transaction->answered = 0;
    transaction->accepted = 0;
    transaction->finals = 0;
    transaction->final_next = 0;
    transaction->any_delivered = false;
    transaction->chunked = transaction->binary;
    transaction->utf8 = smtp_client_fit_utf8(c, transaction);
    memset(transaction->refused, 0, sizeof(transaction->refused));
    c->begun++;
    if (c->envelope != NULL) {
        c->waiting = transaction;
    } else {
        c->envelope = transaction;
        c->say = SMTP_CLIENT_SAY_MAIL;
    }
}

void smtp_client_quit(struct smtp_client *c)
{
    c->quitting = true;
}

bool smtp_client_refused(const struct smtp_client_transaction *transaction, uint16_t i)
{
    CHECK(i < transaction->recipients_count);
    return (transaction->refused[i / 64] >> (i % 64) & 1) != 0;
}

enum smtp_client_phase smtp_client_phase(const struct smtp_client *c)
{
    static const uint8_t phases[SMTP_CLIENT_DUE_COUNT] = {
        [SMTP_CLIENT_DUE_GREETING] = SMTP_CLIENT_PHASE_GREETING, [SMTP_CLIENT_DUE_EHLO] = SMTP_CLIENT_PHASE_EHLO,
        [SMTP_CLIENT_DUE_HELO] = SMTP_CLIENT_PHASE_EHLO,         [SMTP_CLIENT_DUE_RSET] = SMTP_CLIENT_PHASE_MAIL,
        [SMTP_CLIENT_DUE_MAIL] = SMTP_CLIENT_PHASE_MAIL,         [SMTP_CLIENT_DUE_RCPT] = SMTP_CLIENT_PHASE_RCPT,
        [SMTP_CLIENT_DUE_DATA] = SMTP_CLIENT_PHASE_DATA,         [SMTP_CLIENT_DUE_DOT] = SMTP_CLIENT_PHASE_DOT,
        [SMTP_CLIENT_DUE_QUIT] = SMTP_CLIENT_PHASE_QUIT,         [SMTP_CLIENT_DUE_ORPHAN_RCPT] = SMTP_CLIENT_PHASE_RCPT,
        [SMTP_CLIENT_DUE_ORPHAN_DATA] = SMTP_CLIENT_PHASE_DATA,  [SMTP_CLIENT_DUE_ORPHAN_DOT] = SMTP_CLIENT_PHASE_DOT,
        [SMTP_CLIENT_DUE_STARTTLS] = SMTP_CLIENT_PHASE_TLS,
    };
    if (c->expected_count != 0) {
        return phases[smtp_client_pipeline_due(c)];
    }
    if (c->handshaking) {
        return SMTP_CLIENT_PHASE_TLS;
    }
    return unsolicited(c, &(struct bytes){0}) ? SMTP_CLIENT_PHASE_QUIT : SMTP_CLIENT_PHASE_IDLE;
}

/* --- how a connection ends ---------------------------------------------------------------------------------------- */

/* `blamed`, which may be NULL, gets `fate`; next() then hands back every transaction, and last says CLOSED. */
static void end(struct smtp_client *c, enum smtp_client_cause cause, struct smtp_client_transaction *blamed,
                enum smtp_client_fate fate)
{
    CHECK(c->cause == SMTP_CLIENT_CAUSE_NONE && cause != SMTP_CLIENT_CAUSE_NONE);
    c->end_phase = smtp_client_phase(c);
    c->end_of = blamed;
    c->end_fate = fate;
    c->cause = cause;
}

void smtp_client_lost(struct smtp_client *c, bool dot_sent)
{
    if (c->cause != SMTP_CLIENT_CAUSE_NONE) {
        return;
    }
    bool after_quit = c->expected_count != 0 && smtp_client_pipeline_due(c) == SMTP_CLIENT_DUE_QUIT;
    c->dot_sent = dot_sent;
    smtp_client_reply_clear(c->reply);
    end(c, after_quit ? SMTP_CLIENT_CAUSE_QUIT : SMTP_CLIENT_CAUSE_LOST, c->sent,
        dot_sent ? SMTP_CLIENT_UNKNOWN : SMTP_CLIENT_UNSENT);
}

/* The oldest reply due is no reply at all, or one that cannot be an answer to its command. */
static void end_by_garbage(struct smtp_client *c)
{
    struct smtp_client_transaction *blamed = NULL;
    switch (smtp_client_pipeline_due(c)) {
    case SMTP_CLIENT_DUE_MAIL:
    case SMTP_CLIENT_DUE_RCPT:
    case SMTP_CLIENT_DUE_DATA: blamed = c->envelope; break;
    case SMTP_CLIENT_DUE_DOT: blamed = c->sent; break;
    default: break;
    }
    end(c, SMTP_CLIENT_CAUSE_PROTOCOL, blamed, blamed == c->sent ? SMTP_CLIENT_UNKNOWN : SMTP_CLIENT_TRANSIENT);
}

static void end_by_421(struct smtp_client *c)
{
    bool first = c->begun - (c->waiting != NULL ? 1u : 0u) == 1;
    struct smtp_client_transaction *blamed = NULL;
    enum smtp_client_cause cause = SMTP_CLIENT_CAUSE_SHUTDOWN;
    switch (smtp_client_pipeline_due(c)) {
    case SMTP_CLIENT_DUE_GREETING:
    case SMTP_CLIENT_DUE_EHLO:
    case SMTP_CLIENT_DUE_HELO:
    case SMTP_CLIENT_DUE_STARTTLS: cause = SMTP_CLIENT_CAUSE_REFUSED; break;
    case SMTP_CLIENT_DUE_MAIL: blamed = first ? c->envelope : NULL; break;
    case SMTP_CLIENT_DUE_RCPT:
    case SMTP_CLIENT_DUE_DATA: blamed = c->envelope; break;
    case SMTP_CLIENT_DUE_DOT: blamed = c->sent; break;
    case SMTP_CLIENT_DUE_QUIT: cause = SMTP_CLIENT_CAUSE_QUIT; break;
    default: break;
    }
    end(c, cause, blamed, SMTP_CLIENT_TRANSIENT);
}

static enum smtp_client_event done(struct smtp_client *c, struct smtp_client_transaction *transaction,
                                   enum smtp_client_fate fate, enum smtp_client_phase phase)
{
    c->transaction = transaction;
    c->fate = fate;
    c->phase = phase;
    return SMTP_CLIENT_DONE;
}

static enum smtp_client_event close_down(struct smtp_client *c)
{
    struct smtp_client_transaction **places[] = {&c->sent, &c->envelope, &c->waiting};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct smtp_client_transaction *transaction = *places[i];
        if (transaction != NULL) {
            *places[i] = NULL;
            return done(c, transaction, transaction == c->end_of ? c->end_fate : SMTP_CLIENT_UNSENT, c->end_phase);
        }
    }
    c->transaction = NULL;
    c->phase = c->end_phase;
    return SMTP_CLIENT_CLOSED;
}

/* --- replies ------------------------------------------------------------------------------------------------------ */

/* What a reply led to: an event for the driver, or (NONE) nothing that it needs to know. */
#define NONE SMTP_CLIENT_WANT_INPUT

static enum smtp_client_fate fate_of(uint16_t code)
{
    return code / 100 == 2 ? SMTP_CLIENT_DELIVERED : code / 100 == 4 ? SMTP_CLIENT_TRANSIENT : SMTP_CLIENT_PERMANENT;
}

static enum smtp_client_event on_greeting(struct smtp_client *c, bool positive)
{
    if (!positive) {
        end(c, SMTP_CLIENT_CAUSE_REFUSED, NULL, SMTP_CLIENT_UNSENT);
        return NONE;
    }
    smtp_client_pipeline_answered(c);
    c->say = SMTP_CLIENT_SAY_EHLO;
    return NONE;
}

static enum smtp_client_event on_hello(struct smtp_client *c, bool positive)
{
    bool extended = smtp_client_pipeline_due(c) == SMTP_CLIENT_DUE_EHLO;
    if (!positive && !(extended && c->reply->code / 100 == 5 && !c->lmtp)) {
        end(c, SMTP_CLIENT_CAUSE_REFUSED, NULL, SMTP_CLIENT_UNSENT);
        return NONE;
    }
    smtp_client_pipeline_answered(c);
    if (!positive) {
        smtp_client_ehlo_clear(c);
        c->say = SMTP_CLIENT_SAY_HELO;
        return NONE;
    }
    c->capabilities |= extended ? SMTP_CLIENT_ESMTP : 0u;
    if (c->tls != SMTP_CLIENT_TLS_OFF && !c->secure) {
        if ((c->capabilities & SMTP_CLIENT_STARTTLS) != 0) {
            c->say = SMTP_CLIENT_SAY_STARTTLS;
            return NONE;
        }
        if (c->tls == SMTP_CLIENT_TLS_REQUIRE) {
            smtp_client_reply_clear(c->reply); /* it was friendly */
            end(c, SMTP_CLIENT_CAUSE_NO_TLS, NULL, SMTP_CLIENT_UNSENT);
            return NONE;
        }
    }
    c->ready = true;
    return SMTP_CLIENT_READY;
}

static enum smtp_client_event on_starttls(struct smtp_client *c, bool positive)
{
    if (!positive) {
        end(c, SMTP_CLIENT_CAUSE_NO_TLS, NULL, SMTP_CLIENT_UNSENT);
        return NONE;
    }
    smtp_client_pipeline_answered(c);
    c->handshaking = true;
    return SMTP_CLIENT_START_TLS;
}

static enum smtp_client_event on_reset(struct smtp_client *c, bool positive)
{
    if (!positive) {
        end(c, SMTP_CLIENT_CAUSE_REFUSED, NULL, SMTP_CLIENT_UNSENT);
        return NONE;
    }
    smtp_client_pipeline_answered(c);
    return NONE;
}

static enum smtp_client_event on_mail(struct smtp_client *c, bool positive)
{
    struct smtp_client_transaction *transaction = c->envelope;
    smtp_client_pipeline_answered(c);
    c->reset_due = positive;
    if (positive) {
        return NONE;
    }
    smtp_client_pipeline_drop_envelope(c);
    return done(c, transaction, fate_of(c->reply->code), SMTP_CLIENT_PHASE_MAIL);
}

/* RFC 5321 4.5.3.1.10: too many recipients is 452, from old servers 552. Both codes also mean a full mailbox or disk,
 * so it must not be the first recipient, and a status code, if there is one, has to agree (X.5.3). */
static bool too_many_recipients(const struct smtp_client *c)
{
    const struct smtp_client_status *status = &c->reply->status;
    return (c->reply->code == 452 || c->reply->code == 552) && c->envelope->accepted != 0 &&
           (status->class == 0 || (status->subject == 5 && status->detail == 3));
}

static enum smtp_client_event on_rcpt(struct smtp_client *c, bool positive)
{
    struct smtp_client_transaction *transaction = c->envelope;
    uint16_t i = transaction->answered++;
    smtp_client_pipeline_answered(c);
    c->transaction = transaction;
    c->recipient = i;
    c->phase = SMTP_CLIENT_PHASE_RCPT;
    c->excess = !positive && too_many_recipients(c);
    if (positive) {
        transaction->accepted++;
        c->fate = SMTP_CLIENT_ACCEPTED;
    } else {
        transaction->refused[i / 64] |= UINT64_C(1) << (i % 64);
        c->fate = c->excess ? SMTP_CLIENT_TRANSIENT : fate_of(c->reply->code);
    }
    return SMTP_CLIENT_RECIPIENT;
}

/* The body of the envelope may go out. */
static enum smtp_client_event start_body(struct smtp_client *c)
{
    struct smtp_client_transaction *transaction = c->envelope;
    CHECK(c->sent == NULL && transaction->accepted != 0);
    smtp_client_pipeline_drop_envelope(c);
    c->sent = transaction;
    c->reset_due = false;
    for (uint16_t i = 0; i < (c->lmtp ? transaction->accepted : 1); i++) {
        smtp_client_pipeline_expect(c, SMTP_CLIENT_DUE_DOT);
    }
    c->transaction = transaction;
    c->phase = SMTP_CLIENT_PHASE_BODY;
    return SMTP_CLIENT_BODY;
}

static enum smtp_client_event on_data(struct smtp_client *c, bool go_ahead)
{
    struct smtp_client_transaction *transaction = c->envelope;
    smtp_client_pipeline_answered(c);
    if (go_ahead) {
        return start_body(c);
    }
    smtp_client_pipeline_drop_envelope(c);
    return done(c, transaction, fate_of(c->reply->code), SMTP_CLIENT_PHASE_DATA);
}

/* LMTP: the verdicts come in the order of the accepted recipients (RFC 2033 4.2). */
static enum smtp_client_event on_final(struct smtp_client *c)
{
    struct smtp_client_transaction *transaction = c->sent;
    while (smtp_client_refused(transaction, transaction->final_next)) {
        transaction->final_next++;
    }
    c->transaction = transaction;
    c->recipient = transaction->final_next++;
    c->fate = fate_of(c->reply->code);
    c->phase = SMTP_CLIENT_PHASE_DOT;
    transaction->finals++;
    transaction->any_delivered = transaction->any_delivered || c->fate == SMTP_CLIENT_DELIVERED;
    return SMTP_CLIENT_FINAL;
}

static bool all_final(const struct smtp_client *c)
{
    return c->lmtp && c->sent != NULL && c->sent->finals == c->sent->accepted;
}

static enum smtp_client_event on_dot(struct smtp_client *c)
{
    smtp_client_pipeline_answered(c);
    if (c->lmtp) {
        return on_final(c);
    }
    struct smtp_client_transaction *transaction = c->sent;
    c->sent = NULL;
    return done(c, transaction, fate_of(c->reply->code), SMTP_CLIENT_PHASE_DOT);
}

static enum smtp_client_event on_orphan(struct smtp_client *c, enum smtp_client_pipeline_due due)
{
    uint16_t class = c->reply->code / 100;
    if (due == SMTP_CLIENT_DUE_ORPHAN_DATA && class == 3 && (c->orphan_accepted || c->lmtp)) {
        end(c, SMTP_CLIENT_CAUSE_PROTOCOL, NULL, SMTP_CLIENT_UNSENT);
        return NONE;
    }
    smtp_client_pipeline_answered(c);
    if (due == SMTP_CLIENT_DUE_ORPHAN_DATA && class == 3) {
        c->lone_dot_due = true;
        c->reset_due = false;
    } else if (due == SMTP_CLIENT_DUE_ORPHAN_RCPT && class == 2) {
        c->orphan_accepted = true;
    }
    return NONE;
}

/* A complete reply to what was said first. */
static enum smtp_client_event on_reply(struct smtp_client *c)
{
    enum smtp_client_pipeline_due due = smtp_client_pipeline_due(c);
    bool to_data = due == SMTP_CLIENT_DUE_DATA || due == SMTP_CLIENT_DUE_ORPHAN_DATA;
    uint16_t class = c->reply->code / 100;
    if (c->reply->code == 421) {
        end_by_421(c);
        return NONE;
    }
    if (due != SMTP_CLIENT_DUE_QUIT && class == (to_data ? 2 : 3)) {
        end_by_garbage(c);
        return NONE;
    }
    switch (due) {
    case SMTP_CLIENT_DUE_GREETING: return on_greeting(c, class == 2);
    case SMTP_CLIENT_DUE_EHLO:
    case SMTP_CLIENT_DUE_HELO: return on_hello(c, class == 2);
    case SMTP_CLIENT_DUE_STARTTLS: return on_starttls(c, class == 2);
    case SMTP_CLIENT_DUE_RSET: return on_reset(c, class == 2);
    case SMTP_CLIENT_DUE_MAIL: return on_mail(c, class == 2);
    case SMTP_CLIENT_DUE_RCPT: return on_rcpt(c, class == 2);
    case SMTP_CLIENT_DUE_DATA: return on_data(c, class == 3);
    case SMTP_CLIENT_DUE_DOT: return on_dot(c);
    case SMTP_CLIENT_DUE_QUIT: end(c, SMTP_CLIENT_CAUSE_QUIT, NULL, SMTP_CLIENT_UNSENT); return NONE;
    default: return on_orphan(c, due);
    }
}

/* Part of the EHLO reply: each line is read by itself and not kept, so that the room for text limits none but the last.
 */
static void on_line(struct smtp_client *c)
{
    if (c->expected_count != 0 && smtp_client_pipeline_due(c) == SMTP_CLIENT_DUE_EHLO && c->reply->code / 100 == 2) {
        if (c->reply->lines > 1) {
            smtp_client_ehlo_line(c, smtp_client_reply_line(c->reply));
        }
        smtp_client_reply_drop_line(c->reply);
    }
}

/* Input while nothing is due: 421 is allowed at any time (RFC 5321 3.8), nothing else is. */
static void on_unsolicited(struct smtp_client *c, bool complete)
{
    bool shutdown = complete && c->reply->code == 421;
    if (c->reply->code < 400) {
        smtp_client_reply_clear(c->reply); /* not a reason for anything */
    }
    end(c, shutdown ? SMTP_CLIENT_CAUSE_SHUTDOWN : SMTP_CLIENT_CAUSE_PROTOCOL, NULL, SMTP_CLIENT_UNSENT);
}

/* May nothing follow this reply? A 354 is followed by a body that the driver does not even have yet; a 220 to STARTTLS
 * by a handshake, behind which whatever came before would be taken for the truth (CVE-2021-38371). */
static bool answers_too_much(const struct smtp_client *c)
{
    enum smtp_client_pipeline_due due = smtp_client_pipeline_due(c);
    return (due == SMTP_CLIENT_DUE_DATA && c->reply->code / 100 == 3) ||
           (due == SMTP_CLIENT_DUE_STARTTLS && c->reply->code / 100 == 2);
}

static enum smtp_client_event read_some(struct smtp_client *c, struct bytes *input)
{
    enum smtp_client_reply_progress progress = smtp_client_reply_feed(c->reply, input);
    switch (progress) {
    case SMTP_CLIENT_REPLY_LINE: on_line(c); return NONE;
    case SMTP_CLIENT_REPLY_LAST:
    case SMTP_CLIENT_REPLY_BAD: break;
    default: return NONE;
    }
    c->replies++;
    if (c->expected_count == 0) {
        on_unsolicited(c, progress == SMTP_CLIENT_REPLY_LAST);
        return NONE;
    }
    if (progress == SMTP_CLIENT_REPLY_BAD) {
        end_by_garbage(c);
        return NONE;
    }
    if (input->length != 0 && answers_too_much(c)) {
        on_unsolicited(c, false);
        return NONE;
    }
    on_line(c);
    return on_reply(c);
}

/* Says what may be said; true when the body follows. */
static bool speak(struct smtp_client *c, const struct bytes *input, struct buffer *out,
                  enum smtp_client_pipeline_result *ret_spoken)
{
    *ret_spoken = SMTP_CLIENT_PIPELINE_SAID;
    while (*ret_spoken == SMTP_CLIENT_PIPELINE_SAID && !unsolicited(c, input)) {
        *ret_spoken = smtp_client_pipeline_speak(c, out);
    }
    return *ret_spoken == SMTP_CLIENT_PIPELINE_BODY;
}

enum smtp_client_event smtp_client_next(struct smtp_client *c, struct bytes *input, struct buffer *out)
{
    CHECK(out->capacity >= LIMIT_CLIENT_COMMAND_BYTES);
    for (;;) {
        if (c->cause != SMTP_CLIENT_CAUSE_NONE) {
            return close_down(c);
        }
        CHECK(!c->handshaking);
        struct smtp_client_transaction *envelope = c->envelope;
        if (envelope != NULL && envelope->answered == envelope->recipients_count && envelope->accepted == 0) {
            smtp_client_pipeline_drop_envelope(c);
            return done(c, envelope, SMTP_CLIENT_TRANSIENT, SMTP_CLIENT_PHASE_RCPT);
        }
        if (all_final(c)) {
            struct smtp_client_transaction *sent = c->sent;
            c->sent = NULL;
            return done(c, sent, sent->any_delivered ? SMTP_CLIENT_DELIVERED : fate_of(c->reply->code),
                        SMTP_CLIENT_PHASE_DOT);
        }
        enum smtp_client_pipeline_result spoken;
        if (speak(c, input, out, &spoken)) {
            return start_body(c);
        }
        if (input->length == 0) {
            return spoken == SMTP_CLIENT_PIPELINE_FULL ? SMTP_CLIENT_WANT_OUTPUT : SMTP_CLIENT_WANT_INPUT;
        }
        enum smtp_client_event event = read_some(c, input);
        if (event != NONE) {
            return event;
        }
    }
}

/* --- names -------------------------------------------------------------------------------------------------------- */

const char *smtp_client_phase_name(enum smtp_client_phase phase)
{
    static const char *const names[SMTP_CLIENT_PHASE_COUNT] = {"idle", "greeting", "ehlo", "mail", "rcpt",
                                                               "data", "body",     "dot",  "quit", "tls"};
    return phase < SMTP_CLIENT_PHASE_COUNT ? names[phase] : "?";
}

const char *smtp_client_fate_name(enum smtp_client_fate fate)
{
    static const char *const names[] = {"accepted", "delivered", "transient", "permanent", "unsent", "unknown"};
    return fate <= SMTP_CLIENT_UNKNOWN ? names[fate] : "?";
}

const char *smtp_client_cause_name(enum smtp_client_cause cause)
{
    static const char *const names[] = {"none", "quit", "refused", "shutdown", "protocol", "lost", "no-tls"};
    return cause <= SMTP_CLIENT_CAUSE_NO_TLS ? names[cause] : "?";
}

const char *smtp_client_fit_name(enum smtp_client_fit fit)
{
    static const char *const names[SMTP_CLIENT_FIT_COUNT] = {
        "yes", "too-big", "convert", "needs-utf8", "split", "address", "needs-tls", "needs-requiretls", "too-late"};
    return fit < SMTP_CLIENT_FIT_COUNT ? names[fit] : "?";
}
