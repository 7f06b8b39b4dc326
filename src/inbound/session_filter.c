/* The filters of a session, asked one after the other at each step of the dialogue.
 *
 *   MAIL    first whoever was not connected to is, and told of connection and greeting: a session that never sends mail
 *           costs no filter anything, and what a filter thinks of the connection is said here
 *   RCPT    after everything that we know of the recipient by ourselves
 *   DATA    before the client is asked for the message
 *   end     the message, to one after the other (filter_content.h), before it is stored
 *
 * `advance` is all control flow: what completes calls `woken`, and that calls it. The session waits at its gate
 * meanwhile and reads nothing.
 *
 * A filter that is lost (no connection, an answer that is none, none in time) stays lost until the transaction is over:
 * it has not seen what it would decide about. Its configured failure action is what is answered; "accept" goes on
 * without it, but never once it has begun to change a message: half of what it wanted is not what anybody wanted, and
 * then the message is refused for now. The next transaction tries to reach it again. */
#include "inbound/session_filter.h"

#include <stdlib.h>

#include "core/log.h"
#include "inbound/envelope_writer.h"
#include "inbound/filter_edit.h"
#include "inbound/prologue.h"
#include "inbound/session.h"
#include "inbound/session_filter_say.h"

enum outcome { WAITING, PASSED, REFUSED };

static const enum milter_step steps[] = {
    [SMTP_SERVER_MAIL] = MILTER_STEP_MAIL,
    [SMTP_SERVER_RCPT] = MILTER_STEP_RCPT,
    [SMTP_SERVER_DATA] = MILTER_STEP_DATA,
    [SMTP_SERVER_END] = MILTER_STEP_END,
};

static const struct reply lost_for_now = {
    .code = 451, .enhanced = {4, 7, 1}, .text = {"Service unavailable - try again later", 37}};
static const struct reply lost_for_good = {.code = 550, .enhanced = {5, 7, 1}, .text = {"Service unavailable", 19}};
static const struct reply bad_edit = {
    .code = 451, .enhanced = {4, 3, 5}, .text = {"A mail filter asked for what cannot be done", 43}};
static const struct reply header_too_large = {
    .code = 552, .enhanced = {5, 3, 4}, .text = {"The header is too large for the mail filters", 44}};

static struct filter *asked(const struct session_filters *filters)
{
    return filters->filters[filters->at];
}

/* --- what is answered --------------------------------------------------------------------------------------------- */

/* Texts of the catalogue and of this file are copied as well: the filter may be gone when the reply is said. */
static enum outcome refuse(struct session_filters *filters, const struct reply *reply)
{
    struct buffer text = buffer_of(filters->text, sizeof filters->text);
    size_t length = reply->text.length < sizeof filters->text ? reply->text.length : sizeof filters->text;
    CHECK(buffer_append(&text, bytes_slice(reply->text, 0, length)));
    filters->refusal = *reply;
    filters->refusal.text = buffer_bytes(&text);
    return REFUSED;
}

static enum outcome refuse_as_heard(struct session_filters *filters, const struct filter *filter)
{
    struct reply reply = {.code = filter->reply.code, .text = filter->reply.text};
    memcpy(reply.enhanced, filter->reply.enhanced, sizeof reply.enhanced);
    metric_add(&filter->metrics->refusals, 1);
    return refuse(filters, &reply);
}

static enum outcome lost(struct session_filters *filters, const struct filter *filter)
{
    bool changed = filters->content != NULL && filters->content->edits + filters->content->replacing != 0;
    switch (filter->settings->failure) {
    case INBOUND_FILTER_REJECT: return refuse(filters, &lost_for_good);
    case INBOUND_FILTER_ACCEPT: return changed ? refuse(filters, &lost_for_now) : PASSED;
    case INBOUND_FILTER_TEMPFAIL: break;
    }
    return refuse(filters, &lost_for_now);
}

/* What became of a message on its way. CONTENT_OK and CONTENT_WAIT are not for here. */
static enum outcome content_failed(struct session_filters *filters, enum filter_content_result result)
{
    switch (result) {
    case CONTENT_TOO_LARGE: return refuse(filters, filters->loaded ? reply_of(REPLY_TOO_BIG) : &header_too_large);
    case CONTENT_BAD: return refuse(filters, &bad_edit);
    case CONTENT_NO_MEMORY: return refuse(filters, reply_of(REPLY_NO_SPACE));
    default: return refuse(filters, reply_of(REPLY_SPOOL_ERROR));
    }
}

/* The filter is in the middle of something that nobody waits for any more. */
static enum outcome give_up(struct session_filters *filters, enum filter_content_result result)
{
    filter_lose(asked(filters), "it asked for what cannot be done");
    return content_failed(filters, result);
}

/* --- edits of the envelope ---------------------------------------------------------------------------------------- */

/* Some filters leave the brackets out. Beyond ASCII only where the client has asked for it (RFC 6531). */
static bool take_address(const struct server_session *session, struct bytes text, struct address *ret_address)
{
    bool utf8 = session->machine.utf8;
    if (text.length != 0 && text.data[0] == '<') {
        return address_parse_path(&text, utf8, ret_address) == ADDRESS_OK && text.length == 0;
    }
    return address_parse_mailbox(text, utf8, ret_address) == ADDRESS_OK;
}

/* A filter may send to anywhere, but not to somebody of ours who is not there. */
static bool add_recipient(struct server_session *session, const struct milter_reply *reply)
{
    const struct inbound *inbound = session->inbound;
    struct address address;
    struct params_rcpt params = {.given = 0};
    struct recipients_answer found = {.verdict = RECIPIENTS_FOREIGN};
    char room[1024];
    struct buffer text = buffer_of(room, sizeof room);
    const struct params_rules rules = {.offered = PARAMS_GIVEN_NOTIFY | PARAMS_GIVEN_ORCPT,
                                       .utf8 = session->machine.utf8};
    bool parameters = reply->value.length != 0;
    if (!take_address(session, reply->name, &address) || address.kind == ADDRESS_NULL ||
        (parameters && !(buffer_append(&text, BYTES(" ")) && buffer_append(&text, reply->value))) ||
        params_parse_rcpt(buffer_bytes(&text), &rules, &params) != PARAMS_OK) {
        return false;
    }
    if (inbound->recipients != NULL) {
        found = recipients_lookup(inbound->recipients, &address);
    }
    return found.verdict != RECIPIENTS_UNKNOWN &&
           reception_add_recipient(session->reception, &address, &params, &found) == ERR_OK;
}

static bool remove_recipient(struct server_session *session, const struct milter_reply *reply)
{
    struct address address;
    uint32_t removed;
    return take_address(session, reply->name, &address) && address.kind != ADDRESS_NULL &&
           envelope_writer_remove(reception_envelope(session->reception), &address, &removed) == ERR_OK;
}

static bool change_sender(struct server_session *session, const struct milter_reply *reply)
{
    struct address address;
    return reply->value.length == 0 && take_address(session, reply->name, &address) &&
           envelope_writer_set_sender(reception_envelope(session->reception), &address) == ERR_OK;
}

static bool quarantine(struct session_filters *filters, const struct milter_reply *reply)
{
    size_t most = sizeof filters->reason;
    struct bytes reason = bytes_slice(reply->value, 0, reply->value.length < most ? reply->value.length : most);
    memcpy(filters->reason, reason.data, reason.length);
    filters->reason_length = reason.length;
    filters->quarantine = true;
    filters->held_by = filters->at;
    return envelope_writer_hold(reception_envelope(filters->session->reception), reason) == ERR_OK;
}

static bool edit_envelope(struct session_filters *filters, const struct milter_reply *reply)
{
    switch (reply->edit) {
    case MILTER_ADD_RCPT: return add_recipient(filters->session, reply);
    case MILTER_DELETE_RCPT: filters->by = filters->at; return remove_recipient(filters->session, reply);
    case MILTER_CHANGE_FROM: return change_sender(filters->session, reply);
    case MILTER_QUARANTINE: return quarantine(filters, reply);
    default: return true;
    }
}

static enum filter_content_result edit(struct session_filters *filters, const struct filter *filter)
{
    metric_add(&filter->metrics->edits, 1);
    enum filter_content_result result = filter_edit_take(filters->content, filter);
    return result != CONTENT_OK || edit_envelope(filters, &filter->reply) ? result : CONTENT_BAD;
}

/* --- one filter --------------------------------------------------------------------------------------------------- */

/* The answer to whatever was said last. PASSED: go on with this filter. */
static enum outcome heard(struct session_filters *filters, struct filter *filter, enum milter_meaning meaning)
{
    enum filter_content_result result = CONTENT_OK;
    switch (meaning) {
    case MILTER_REFUSE:
        filter->refused = filter->step == MILTER_STEP_CONNECT || filter->step == MILTER_STEP_HELO;
        return refuse_as_heard(filters, filter);
    case MILTER_DISCARD:
        filters->discard = true;
        filters->by = filters->at;
        break;
    case MILTER_EDIT: result = edit(filters, filter); break;
    default: break;
    }
    return result == CONTENT_OK ? PASSED : give_up(filters, result);
}

/* Says what comes next. PASSED: there is nothing more to say to this one. *ret_said: it was said. */
static enum outcome say(struct session_filters *filters, struct filter *filter, bool *ret_said)
{
    struct server_session *session = filters->session;
    enum milter_step asked_step = (enum milter_step)filters->step;
    struct milter_macro macros[2];
    if (filters->said && asked_step != MILTER_STEP_END) {
        return PASSED;
    }
    enum milter_step step = MILTER_STEP_NONE;
    if (asked_step != MILTER_STEP_END) {
        step = session_filter_say_put(session, filter, asked_step);
    } else {
        session_filter_say_macros(session, macros);
        enum filter_content_result result = filter_content_say(filters->content, filter, macros, &step);
        if (result != CONTENT_OK) {
            return result == CONTENT_WAIT ? WAITING : content_failed(filters, result);
        }
    }
    if (step == MILTER_STEP_NONE) {
        return PASSED;
    }
    filters->said = step == asked_step;
    *ret_said = true;
    const struct inbound_filter *settings = filter->settings;
    filter_say(filter, step,
               step == MILTER_STEP_OPTIONS ? settings->connect_ms
               : step == MILTER_STEP_END   ? settings->content_ms
                                           : settings->command_ms);
    return WAITING;
}

/* Until there is nothing to do but to wait, or this filter is through. */
static enum outcome ask_one(struct session_filters *filters, struct filter *filter)
{
    for (;;) {
        enum outcome outcome = WAITING;
        enum milter_meaning meaning;
        bool said = false;
        if (filters->content != NULL && filter_edit_stalled(filters->content)) {
            return WAITING;
        }
        switch (filter_look(filter, &meaning)) {
        case FILTER_WAIT: return WAITING;
        case FILTER_LOST: return lost(filters, filter);
        case FILTER_HEARD: outcome = heard(filters, filter, meaning); break;
        case FILTER_READY:
            if (filters->content != NULL && !filter_enlarge(filter)) {
                return refuse(filters, reply_of(REPLY_NO_SPACE));
            }
            outcome = say(filters, filter, &said);
            if (!said) {
                return outcome;
            }
            continue; /* it may be lost already */
        }
        if (outcome != PASSED) {
            return outcome;
        }
    }
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

/* The message is there to be shown. */
static enum outcome load(struct session_filters *filters)
{
    struct server_session *session = filters->session;
    char room[PROLOGUE_BYTES_MAX];
    struct buffer prologue = buffer_of(room, sizeof room);
    struct reception_client client = session_command_client(session);
    if (filters->loaded) {
        return PASSED;
    }
    reception_prologue(session->reception, &client, session->machine.utf8, &prologue);
    enum filter_content_result result = filter_content_load(filters->content, buffer_bytes(&prologue));
    if (result != CONTENT_OK) {
        return result == CONTENT_WAIT ? WAITING : content_failed(filters, result);
    }
    filters->loaded = true;
    filter_content_start(filters->content);
    return PASSED;
}

/* Goes on to the next filter. */
static enum outcome next(struct session_filters *filters)
{
    if (filters->content != NULL) {
        enum filter_content_result result = filter_edit_settle(filters->content);
        if (result != CONTENT_OK) {
            return result == CONTENT_WAIT ? WAITING : content_failed(filters, result);
        }
        filter_reduce(asked(filters));
        filter_content_start(filters->content);
    }
    filters->at++;
    filters->said = false;
    return PASSED;
}

/* All have been asked. */
static enum outcome conclude(struct session_filters *filters)
{
    if (filters->content == NULL || filters->discard) {
        return PASSED;
    }
    enum filter_content_result result = filter_edit_restore(filters->content);
    if (result != CONTENT_OK) {
        return result == CONTENT_WAIT ? WAITING : content_failed(filters, result);
    }
    return PASSED;
}

static enum outcome advance(struct session_filters *filters)
{
    unsigned count = filters->session->profile->filters_count;
    enum outcome outcome = filters->content != NULL ? load(filters) : PASSED;
    while (outcome == PASSED && filters->at < count && !filters->discard) {
        struct filter *filter = asked(filters);
        outcome = filter->refused ? refuse_as_heard(filters, filter) : ask_one(filters, filter);
        outcome = outcome == PASSED && !filters->discard ? next(filters) : outcome;
    }
    outcome = outcome == PASSED ? conclude(filters) : outcome;
    if (outcome != WAITING) {
        filters->step = MILTER_STEP_NONE;
        if (filters->content != NULL) {
            filter_content_drop(filters->content);
            filters->content = NULL;
        }
    }
    return outcome;
}

static void woken(void *owner)
{
    struct session_filters *filters = owner;
    if (!filters->answering) {
        return;
    }
    enum outcome outcome = advance(filters);
    if (outcome != WAITING) {
        filters->answering = false;
        session_gate_answered(filters->session, outcome == REFUSED ? &filters->refusal : NULL);
    }
}

void session_filter_look(struct server_session *session)
{
    if (session->filters != NULL) {
        woken(session->filters);
    }
}

void session_filter_hurry(struct server_session *session)
{
    struct session_filters *filters = session->filters;
    if (filters != NULL && filters->answering && filters->at < session->profile->filters_count &&
        session_now_ms(session) >= filters->since_ms + INBOUND_OUTPUT_GRACE_MS) {
        filter_lose(asked(filters), "it is slow, and receive buffers are short");
        woken(filters);
    }
}

/* At MAIL: whoever is not there is connected to. */
static bool gather(struct server_session *session)
{
    if (session->filters == NULL) {
        session->filters = calloc(1, sizeof *session->filters);
    }
    struct session_filters *filters = session->filters;
    if (filters == NULL) {
        return false;
    }
    filters->session = session;
    session_filter_forget(session);
    for (unsigned i = 0; i < session->profile->filters_count; i++) {
        if (filters->filters[i] == NULL) {
            filters->filters[i] = filter_new(session->inbound, session->profile, i, woken, filters);
        }
        if (filters->filters[i] == NULL) {
            return false;
        }
    }
    return true;
}

static bool begin_content(struct session_filters *filters)
{
    struct server_session *session = filters->session;
    filters->loaded = false;
    filters->content = filter_content_new(session->inbound, session->profile, session->reception,
                                          session->machine.dot.bytes, session->machine.binary, woken, filters);
    return filters->content != NULL;
}

enum session_gate_answer session_filter_ask(struct server_session *session, const struct reply **ret_refusal)
{
    enum milter_step step = steps[session->machine.awaiting];
    if (session->profile->filters_count == 0) {
        return SESSION_GATE_OPEN;
    }
    *ret_refusal = reply_of(REPLY_NO_SPACE);
    if (step == MILTER_STEP_MAIL && !gather(session)) {
        return SESSION_GATE_SHUT;
    }
    struct session_filters *filters = session->filters;
    if (filters->discard) {
        return SESSION_GATE_OPEN;
    }
    if (step == MILTER_STEP_END && !begin_content(filters)) {
        return SESSION_GATE_SHUT;
    }
    filters->step = (uint8_t)step;
    filters->at = 0;
    filters->said = false;
    enum outcome outcome = advance(filters);
    filters->answering = outcome == WAITING;
    filters->since_ms = session_now_ms(session);
    *ret_refusal = &filters->refusal;
    return outcome == WAITING ? SESSION_GATE_WAITING : outcome == PASSED ? SESSION_GATE_OPEN : SESSION_GATE_SHUT;
}

void session_filter_drop(struct server_session *session)
{
    struct session_filters *filters = session->filters;
    filters->answering = false;
    filters->step = MILTER_STEP_NONE;
    if (filters->content != NULL) {
        filter_content_drop(filters->content);
        filters->content = NULL;
    }
}

void session_filter_forget(struct server_session *session)
{
    struct session_filters *filters = session->filters;
    for (unsigned i = 0; filters != NULL && i < INBOUND_FILTERS_MAX; i++) {
        if (filters->filters[i] != NULL && !filter_end_transaction(filters->filters[i])) {
            filter_close(filters->filters[i]);
            filters->filters[i] = NULL;
        }
    }
    if (filters != NULL) {
        filters->discard = filters->quarantine = false;
    }
}

void session_filter_free(struct server_session *session)
{
    struct session_filters *filters = session->filters;
    for (unsigned i = 0; filters != NULL && i < INBOUND_FILTERS_MAX; i++) {
        if (filters->filters[i] != NULL) {
            filter_close(filters->filters[i]);
        }
    }
    CHECK(filters == NULL || filters->content == NULL);
    free(filters);
    session->filters = NULL;
}

/* --- what is not said to the client ------------------------------------------------------------------------------- */

static void tell(const struct server_session *session, unsigned index, const char *action, struct bytes reason)
{
    struct reception_client client = session_command_client(session);
    session_event_filter(&(struct session_event){
        .shard = session->inbound->shard,
        .listener = session->profile->name,
        .peer = client.trace_peer,
        .id = reception_new_id(session->reception),
        .sender = reception_sender(session->reception),
        .recipients = reception_recipients(session->reception),
        .message_bytes = dot_message_bytes(&session->machine.dot),
        .user = session_user(session),
        .filter = bytes_of_string(session->profile->filters[index].name),
        .action = action,
        .reason = reason,
    });
}

static struct metric_milter *metrics_of(const struct server_session *session, unsigned index)
{
    return metric_milter_of(session_metrics(session), session->profile->filters[index].name);
}

bool session_filter_discards(struct server_session *session)
{
    const struct session_filters *filters = session->filters;
    bool nobody = filters != NULL && reception_recipients(session->reception) == 0;
    if (filters == NULL || (!filters->discard && !nobody)) {
        return false;
    }
    metric_add(&metrics_of(session, filters->by)->discarded, 1);
    tell(session, filters->by, "discard", filters->discard ? BYTES("") : BYTES("no recipient was left"));
    return true;
}

void session_filter_accepted(struct server_session *session)
{
    const struct session_filters *filters = session->filters;
    if (filters != NULL && filters->quarantine) {
        metric_add(&metrics_of(session, filters->held_by)->quarantined, 1);
        tell(session, filters->held_by, "quarantine", bytes_of(filters->reason, filters->reason_length));
    }
}
