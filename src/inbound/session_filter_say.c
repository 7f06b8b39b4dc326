#include "inbound/session_filter_say.h"

#include "inbound/session.h"
#include "ringpost/version.h"
#include "sasl/mechanism.h"

#define ARGUMENTS_MAX 12

/* Texts of one step, one behind the other, in memory that lasts as long as the call. */
struct arguments {
    struct buffer room;
    struct bytes items[ARGUMENTS_MAX];
    unsigned count;
};

static struct bytes keep(struct buffer *room, const char *format, struct bytes text)
{
    size_t start = room->length;
    CHECK(buffer_append_format(room, format, (int)text.length, text.data));
    return bytes_of(room->data + start, room->length - start);
}

static void add(struct arguments *arguments, const char *format, struct bytes text)
{
    CHECK(arguments->count < ARGUMENTS_MAX);
    arguments->items[arguments->count++] = keep(&arguments->room, format, text);
}

static void add_number(struct arguments *arguments, const char *name, uint64_t number)
{
    char room[24];
    struct buffer digits = buffer_of(room, sizeof room);
    size_t start = arguments->room.length;
    CHECK(arguments->count < ARGUMENTS_MAX && buffer_append_number(&digits, number) &&
          buffer_append_string(&arguments->room, name) && buffer_append(&arguments->room, buffer_bytes(&digits)));
    arguments->items[arguments->count++] = bytes_of(arguments->room.data + start, arguments->room.length - start);
}

static const char *const bodies[] = {
    [PARAMS_BODY_7BIT] = "BODY=7BIT",
    [PARAMS_BODY_8BITMIME] = "BODY=8BITMIME",
    [PARAMS_BODY_BINARYMIME] = "BODY=BINARYMIME",
};

static void add_mail(struct arguments *arguments, const struct address *path, const struct params_mail *params)
{
    add(arguments, "<%.*s>", path->mailbox);
    if ((params->given & PARAMS_GIVEN_SIZE) != 0) {
        add_number(arguments, "SIZE=", params->size);
    }
    if ((params->given & PARAMS_GIVEN_BODY) != 0) {
        add(arguments, "%.*s", bytes_of_string(bodies[params->body]));
    }
    if ((params->given & PARAMS_GIVEN_SMTPUTF8) != 0) {
        add(arguments, "%.*s", BYTES("SMTPUTF8"));
    }
    if ((params->given & PARAMS_GIVEN_RET) != 0) {
        add(arguments, "RET=%.*s", params->ret == 'F' ? BYTES("FULL") : BYTES("HDRS"));
    }
    if ((params->given & PARAMS_GIVEN_ENVID) != 0) {
        add(arguments, "ENVID=%.*s", params->envid);
    }
    if ((params->given & PARAMS_GIVEN_AUTH) != 0) {
        add(arguments, "AUTH=%.*s", params->auth);
    }
}

static void add_rcpt(struct arguments *arguments, const struct address *path, const struct params_rcpt *params)
{
    static const char *const names[] = {"NEVER", "SUCCESS", "FAILURE", "DELAY"};
    add(arguments, "<%.*s>", path->mailbox);
    if ((params->given & PARAMS_GIVEN_NOTIFY) != 0) {
        char room[40];
        struct buffer list = buffer_of(room, sizeof room);
        for (unsigned i = 0; i < 4; i++) {
            if ((params->notify >> i & 1) != 0) {
                CHECK((list.length == 0 || buffer_append(&list, BYTES(","))) && buffer_append_string(&list, names[i]));
            }
        }
        add(arguments, "NOTIFY=%.*s", buffer_bytes(&list));
    }
    if ((params->given & PARAMS_GIVEN_ORCPT) != 0) {
        add(arguments, "ORCPT=%.*s", params->orcpt);
    }
}

/* --- macros ------------------------------------------------------------------------------------------------------- */

struct macros {
    struct milter_macro items[SESSION_FILTER_MACROS_MAX + 1];
    unsigned count;
};

static void define(struct macros *macros, const char *name, struct bytes value)
{
    CHECK(macros->count < SESSION_FILTER_MACROS_MAX);
    macros->items[macros->count++] = (struct milter_macro){name, value};
    macros->items[macros->count].name = NULL;
}

static void define_tls(struct macros *macros, const struct tls_facts *tls, struct buffer *room)
{
    if (tls != NULL) {
        char digits[24];
        struct buffer bits = buffer_of(digits, sizeof digits);
        CHECK(buffer_append_number(&bits, tls->bits));
        define(macros, "{tls_version}", bytes_of_string(tls->version));
        define(macros, "{cipher}", bytes_of_string(tls->cipher));
        define(macros, "{cipher_bits}", keep(room, "%.*s", buffer_bytes(&bits)));
        struct bytes subject = bytes_of_string(tls->peer_subject);
        define(macros, "{cert_subject}", subject.length <= LIMIT_DOMAIN_BYTES ? subject : BYTES(""));
    }
}

static struct bytes id_of(const struct server_session *session, struct buffer *room)
{
    char id[RECEPTION_ID_BYTES];
    if (session->reception == NULL || reception_new_id(session->reception) == 0) {
        return BYTES("");
    }
    return keep(room, "%.*s", bytes_of_string(reception_id(session->reception, id)));
}

static void define_connect(struct macros *macros, const struct server_session *session, struct bytes address,
                           struct buffer *room)
{
    define(macros, "j", session->profile->smtp.hostname);
    define(macros, "v", BYTES("ringpost " RINGPOST_VERSION));
    define(macros, "{daemon_name}", session->profile->name);
    define(macros, "{client_addr}", address.length != 0 ? address : BYTES("local"));
    define(macros, "{client_name}", address.length != 0 ? BYTES("unknown") : BYTES("localhost"));
    define(macros, "{client_ptr}", address.length != 0 ? BYTES("unknown") : BYTES("localhost"));
    define(macros, "_", address.length != 0 ? keep(room, "unknown [%.*s]", address) : BYTES("localhost"));
}

static void define_mail(struct macros *macros, const struct server_session *session, const struct address *path)
{
    if (session_authenticated(session)) {
        struct bytes user = session_user(session);
        define(macros, "{auth_type}", bytes_of_string(mechanism_name((enum mechanism)session->mechanism)));
        define(macros, "{auth_authen}", user.length <= LIMIT_ADDRESS_BYTES ? user : BYTES(""));
    }
    define(macros, "{mail_mailer}", BYTES("smtp"));
    define(macros, "{mail_host}", address_domain(path));
    define(macros, "{mail_addr}", path->mailbox);
}

static void define_rcpt(struct macros *macros, const struct server_session *session, const struct address *path,
                        struct buffer *room)
{
    define(macros, "i", id_of(session, room));
    define(macros, "{rcpt_mailer}", BYTES("smtp"));
    define(macros, "{rcpt_host}", address_domain(path));
    define(macros, "{rcpt_addr}", path->mailbox);
}

void session_filter_say_macros(struct server_session *session, struct milter_macro *ret_macros)
{
    struct session_filters *filters = session->filters;
    struct buffer id = buffer_of(filters->id, sizeof filters->id);
    ret_macros[0] = (struct milter_macro){"i", id_of(session, &id)};
    ret_macros[1].name = NULL;
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

static char family_of(const struct peer *peer)
{
    return peer_is_local(peer) ? 'L' : peer_is_ipv4(peer) ? '4' : '6';
}

static bool put_connect(struct server_session *session, struct filter *filter)
{
    char text[PEER_TEXT_BYTES];
    char texts[256];
    struct buffer room = buffer_of(texts, sizeof texts);
    struct macros macros = {.count = 0};
    struct bytes address = peer_text(&session->peer, text);
    char family = family_of(&session->peer);
    struct bytes name = family == 'L' ? BYTES("localhost") : keep(&room, "[%.*s]", address);
    define_connect(&macros, session, address, &room);
    filter->told_connection = true;
    bool wanted = milter_wants(&filter->milter, MILTER_STEP_CONNECT);
    CHECK(!wanted || (milter_say_macros(&filter->out, MILTER_STEP_CONNECT, macros.items) &&
                      milter_say_connect(&filter->out, name, family, 0, family == 'L' ? BYTES("local") : address)));
    return wanted;
}

static bool put_helo(struct server_session *session, struct filter *filter)
{
    char texts[64];
    struct buffer room = buffer_of(texts, sizeof texts);
    struct macros macros = {.count = 0};
    const struct bytes name = bytes_of(session->helo, session->helo_length);
    define_tls(&macros, session_tls_facts(session), &room);
    filter->told_helo = session->helos;
    bool wanted = milter_wants(&filter->milter, MILTER_STEP_HELO);
    CHECK(!wanted || ((macros.count == 0 || milter_say_macros(&filter->out, MILTER_STEP_HELO, macros.items)) &&
                      milter_say_step(&filter->out, MILTER_STEP_HELO, &name, 1)));
    return wanted;
}

static bool put_asked(struct server_session *session, struct filter *filter, enum milter_step step)
{
    const struct smtp_server *machine = &session->machine;
    char texts[3 * 1024];
    struct arguments arguments = {.room = buffer_of(texts, sizeof texts)};
    struct macros macros = {.count = 0};
    char id[RECEPTION_ID_BYTES];
    struct buffer id_room = buffer_of(id, sizeof id);
    if (!milter_wants(&filter->milter, step)) {
        return false;
    }
    if (step == MILTER_STEP_MAIL) {
        define_mail(&macros, session, &machine->mail.path);
        add_mail(&arguments, &machine->mail.path, &machine->mail.params);
    } else if (step == MILTER_STEP_RCPT) {
        define_rcpt(&macros, session, &machine->rcpt.path, &id_room);
        add_rcpt(&arguments, &machine->rcpt.path, &machine->rcpt.params);
    } else {
        define(&macros, "i", id_of(session, &id_room));
    }
    CHECK(milter_say_macros(&filter->out, step, macros.items) &&
          milter_say_step(&filter->out, step, arguments.items, arguments.count));
    return true;
}

enum milter_step session_filter_say_put(struct server_session *session, struct filter *filter, enum milter_step step)
{
    if (!filter->milter.ready) {
        CHECK(milter_say_options(&filter->out));
        return MILTER_STEP_OPTIONS;
    }
    if (!filter->told_connection && put_connect(session, filter)) {
        return MILTER_STEP_CONNECT;
    }
    if (filter->told_helo != session->helos && put_helo(session, filter)) {
        return MILTER_STEP_HELO;
    }
    return step != MILTER_STEP_END && put_asked(session, filter, step) ? step : MILTER_STEP_NONE;
}
