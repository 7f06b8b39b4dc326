/* Those who stand in front and say for whom they speak: a load balancer by a PROXY header, before anything else and
 * before TLS; a proxy by XCLIENT, which from then on is the client whose rights it has; a filter by XFORWARD, which
 * changes nothing but the trace. Each is believed only from networks that the configuration names.
 */
#include "inbound/session.h"

#include <stdlib.h>

#include <netinet/in.h>

#include "smtp/proxy.h"
#include "smtp/xclient.h"
#include "smtp/xtext.h"

static const struct reply no_account = {.code = 550, .enhanced = {5, 7, 1}, .text = {"No such account", 15}};
static const struct reply bad_header = {.text = {"No PROXY header of the version that is configured", 49}};

/* --- who it is --- */

void session_proxy_judge(struct server_session *session)
{
    uint32_t trusted = SMTP_SERVER_XCLIENT | SMTP_SERVER_XFORWARD;
    session->client = policy_connect(session->profile, &session->peer);
    session->machine.extensions &= ~trusted;
    session->machine.extensions |= session->client.may_speak_for ? SMTP_SERVER_XCLIENT : 0;
    session->machine.extensions |= session->client.may_forward ? SMTP_SERVER_XFORWARD : 0;
}

/* From now on the session is this client's. NULL, or the 421 that he gets. */
static const struct reply *become(struct server_session *session, const struct peer *peer)
{
    struct throttle_client client = session_throttle(session);
    client.peer = peer;
    const struct reply *refusal = throttle_connection(session->inbound, session->profile, &client);
    if (refusal == NULL &&
        admission_move(session->inbound->admission, peer, session->profile->connections_per_address_max,
                       &session->ticket) != ADMISSION_GRANTED) {
        refusal = reply_of(REPLY_OVERLOAD);
    }
    if (refusal == NULL) {
        session->peer = *peer;
        session_proxy_judge(session);
    }
    return refusal;
}

static struct peer peer_from(const uint8_t *octets, bool ipv4)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    memcpy(&v4.sin_addr, octets, sizeof v4.sin_addr);
    if (!ipv4) {
        memcpy(&v6.sin6_addr, octets, sizeof v6.sin6_addr);
    }
    return peer_of(ipv4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6);
}

/* --- the PROXY header --- */

static void forget_header(struct server_session *session)
{
    free(session->proxy_header);
    session->proxy_header = NULL;
    session->proxy_length = 0;
}

/* The header as far as it has come, in one piece: the receive buffer itself unless it came in several. */
static struct bytes collected(struct server_session *session, struct bytes run)
{
    if (session->proxy_header == NULL) {
        return run;
    }
    size_t room = PROXY_BYTES_MAX - session->proxy_length;
    size_t length = run.length < room ? run.length : room;
    memcpy(session->proxy_header + session->proxy_length, run.data, length);
    return bytes_of(session->proxy_header, session->proxy_length + length);
}

/* Takes the run over, all of which belongs to the header. False without memory. */
static bool keep_run(struct server_session *session, struct bytes run)
{
    if (session->proxy_header == NULL) {
        session->proxy_header = malloc(PROXY_BYTES_MAX);
        if (session->proxy_header == NULL) {
            return false;
        }
        memcpy(session->proxy_header, run.data, run.length);
    }
    session->proxy_length = (uint16_t)(session->proxy_length + run.length);
    stream_consume(&session->stream, run.length);
    return true;
}

void session_proxy_refuse(struct server_session *session)
{
    metric_add(&session_metrics(session)->proxy_errors, 1);
    session_command_tell(session, "proxy", BYTES(""), &bad_header);
    server_session_close(session, true);
}

static void take_header(struct server_session *session, enum proxy_result result, const struct proxy_header *header)
{
    stream_consume(&session->stream, header->length - session->proxy_length);
    forget_header(session);
    const struct peer peer = result == PROXY_DONE ? peer_from(header->source.octets, header->family == 4)
                                                  : session->peer;
    if (header->version != session->profile->proxy_version ||
        (peer_is_local(&peer) && !peer_is_local(&session->peer))) {
        session_proxy_refuse(session);
        return;
    }
    session->farewell = become(session, &peer);
    server_session_admitted(session);
}

void session_proxy_read(struct server_session *session)
{
    struct bytes run;
    while (session->stage == SESSION_PROXY && (run = stream_input(&session->stream)).length != 0) {
        struct proxy_header header = {0};
        struct bytes text = collected(session, run);
        enum proxy_result result = proxy_parse(text, &header);
        if (result == PROXY_BAD || (result == PROXY_NEED_MORE && !keep_run(session, run))) {
            session_proxy_refuse(session);
        } else if (result != PROXY_NEED_MORE) {
            take_header(session, result, &header);
        }
    }
    if (session->stage == SESSION_PROXY && session->stream.eof) {
        session_proxy_refuse(session);
    }
}

/* --- XCLIENT and XFORWARD --- */

/* Decodes into room of XCLIENT_VALUE_BYTES_MAX. */
static struct bytes value_of(const struct xclient_attribute *attribute, char *room)
{
    struct buffer text = buffer_of(room, XCLIENT_VALUE_BYTES_MAX);
    return xtext_decode(&text, attribute->raw) ? buffer_bytes(&text) : BYTES("");
}

/* False when it has no address that we know how to count. */
static bool address_of(const struct xclient_attribute *attribute, struct peer *ret_peer)
{
    uint8_t octets[16];
    int family = attribute->unavailable ? 0 : xclient_address(attribute->raw, octets);
    if (family == 0) {
        return false;
    }
    *ret_peer = peer_from(octets, family == AF_INET);
    return !peer_is_local(ret_peer); /* nobody becomes a unix socket */
}

static const struct reply *log_in(const struct server_session *session, const struct xclient_attribute *attribute,
                                  struct login_identity *ret_identity)
{
    char room[XCLIENT_VALUE_BYTES_MAX];
    const struct credentials *credentials = session->inbound->accounts != NULL
                                                ? accounts_credentials(session->inbound->accounts)
                                                : NULL;
    const struct credentials_account *account = credentials != NULL
                                                    ? credentials_find(credentials, value_of(attribute, room))
                                                    : NULL;
    if (account == NULL || account->disabled) {
        if (credentials != NULL) {
            credentials_give(credentials);
        }
        return &no_account;
    }
    *ret_identity = (struct login_identity){.credentials = credentials, .account = account};
    return NULL;
}

static const struct reply *apply(struct server_session *session, struct bytes attributes)
{
    struct xclient_attribute attribute;
    struct peer peer = session->peer;
    struct login_identity identity = {0};
    const struct reply *refusal = NULL;
    while (refusal == NULL && xclient_next(&attributes, &attribute)) {
        struct peer named;
        if (attribute.name == XCLIENT_ADDR && address_of(&attribute, &named)) {
            peer = named;
        } else if (attribute.name == XCLIENT_LOGIN && !attribute.unavailable) {
            refusal = log_in(session, &attribute, &identity);
        }
    }
    refusal = refusal != NULL ? refusal : become(session, &peer);
    struct login_identity *gone = refusal != NULL ? &identity : &session->identity; /* nothing has changed, or all */
    login_identity_give(gone);
    if (refusal == NULL) {
        session->identity = identity;
    }
    return refusal;
}

void session_proxy_xclient(struct server_session *session)
{
    const struct reply *refusal = apply(session, session->machine.peer_attributes);
    session_command_answer(session, "connect", refusal);
    if (refusal == NULL) {
        session->helo_length = 0;
        session_filter_free(session); /* they know it as another */
        session->machine.authenticated = session_authenticated(session);
        session_proxy_forget(session);
    }
}

void session_proxy_xforward(struct server_session *session)
{
    struct xclient_attribute attribute;
    struct bytes attributes = session->machine.peer_attributes;
    char room[XCLIENT_VALUE_BYTES_MAX];
    if (session->trace == NULL) {
        session->trace = calloc(1, sizeof *session->trace);
    }
    struct session_trace *trace = session->trace;
    while (trace != NULL && xclient_next(&attributes, &attribute)) {
        if (attribute.name == XCLIENT_ADDR) {
            trace->has_peer = address_of(&attribute, &trace->peer);
        } else if (attribute.name == XCLIENT_HELO) {
            struct bytes helo = attribute.unavailable ? BYTES("") : value_of(&attribute, room);
            enum address_kind kind;
            bool good = address_is_domain(helo) || address_is_literal(helo, &kind);
            trace->helo_length = good ? (uint8_t)helo.length : 0;
            memcpy(trace->helo, helo.data, trace->helo_length);
        }
    }
    session_command_answer(session, "connect", NULL);
}

void session_proxy_forget(struct server_session *session)
{
    free(session->trace);
    session->trace = NULL;
}

void session_proxy_free(struct server_session *session)
{
    forget_header(session);
    session_proxy_forget(session);
}
