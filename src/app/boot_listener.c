#include "app/boot_listener.h"

#include <stdlib.h>

#include "base/check.h"
#include "core/tls.h"
#include "sasl/mechanism.h"
#include "smtp/server.h"

#define ACCOUNT_THREADS_MAX 4 /* unless somebody asks for more; each login takes some 50 ms of one */

#define SERVER_NAMES_MAX 256 /* of one certificate; settings bound the text */

static const uint32_t extension_bits[SETTINGS_EXTENSIONS] = {
    [SETTINGS_PIPELINING] = SMTP_SERVER_PIPELINING,   [SETTINGS_SIZE] = SMTP_SERVER_SIZE,
    [SETTINGS_8BITMIME] = SMTP_SERVER_8BITMIME,       [SETTINGS_ENHANCEDSTATUSCODES] = SMTP_SERVER_ENHANCEDSTATUSCODES,
    [SETTINGS_CHUNKING] = SMTP_SERVER_CHUNKING,       [SETTINGS_BINARYMIME] = SMTP_SERVER_BINARYMIME,
    [SETTINGS_SMTPUTF8] = SMTP_SERVER_SMTPUTF8,       [SETTINGS_DSN] = SMTP_SERVER_DSN,
    [SETTINGS_EXTENSION_LIMITS] = SMTP_SERVER_LIMITS, [SETTINGS_REQUIRETLS] = SMTP_SERVER_REQUIRETLS,
    [SETTINGS_MT_PRIORITY] = SMTP_SERVER_MT_PRIORITY, [SETTINGS_FUTURERELEASE] = SMTP_SERVER_FUTURERELEASE,
    [SETTINGS_DELIVERBY] = SMTP_SERVER_DELIVERBY,
};
static const uint32_t mechanism_bits[SETTINGS_MECHANISMS] = {
    [SETTINGS_PLAIN] = MECHANISM_BIT(MECHANISM_PLAIN),
    [SETTINGS_LOGIN] = MECHANISM_BIT(MECHANISM_LOGIN),
    [SETTINGS_SCRAM_SHA_256] = MECHANISM_BIT(MECHANISM_SCRAM_SHA_256),
    [SETTINGS_SCRAM_SHA_256_PLUS] = MECHANISM_BIT(MECHANISM_SCRAM_SHA_256_PLUS),
    [SETTINGS_XOAUTH2] = MECHANISM_BIT(MECHANISM_XOAUTH2),
    [SETTINGS_OAUTHBEARER] = MECHANISM_BIT(MECHANISM_OAUTHBEARER),
    [SETTINGS_EXTERNAL] = MECHANISM_BIT(MECHANISM_EXTERNAL),
};

static uint32_t bits_of(unsigned chosen, const uint32_t *bits, unsigned count)
{
    uint32_t result = 0;
    for (unsigned i = 0; i < count; i++) {
        result |= (chosen >> i & 1) != 0 ? bits[i] : 0;
    }
    return result;
}

static enum inbound_tls tls_of(unsigned mode)
{
    return mode == SETTINGS_TLS_IMPLICIT ? INBOUND_TLS_IMPLICIT
           : mode == SETTINGS_TLS_OFF    ? INBOUND_TLS_OFF
                                         : INBOUND_TLS_STARTTLS;
}

static enum inbound_role role_of(unsigned role)
{
    return role == SETTINGS_MX ? INBOUND_MX : role == SETTINGS_SUBMISSION ? INBOUND_SUBMISSION : INBOUND_RELAY;
}

static void map_trust(struct inbound_listener_settings *to, const struct settings_listener *from)
{
    to->relay_networks = (struct inbound_networks){from->relay_networks, from->relay_networks_count};
    to->proxy_networks = (struct inbound_networks){from->proxy_networks, from->proxy_networks_count};
    to->xclient_networks = (struct inbound_networks){from->xclient_networks, from->xclient_networks_count};
    to->xforward_networks = (struct inbound_networks){from->xforward_networks, from->xforward_networks_count};
    to->proxy = from->proxy == SETTINGS_PROXY_V1 ? 1 : from->proxy == SETTINGS_PROXY_V2 ? 2 : 0;
}

static void map_times(struct inbound_timeouts *to, const struct settings *settings,
                      const struct settings_listener *from)
{
    *to = (struct inbound_timeouts){
        .handshake_ms = settings->tls.handshake_timeout_ms,
        .auth_ms = settings->auth.timeout_ms,
        .verifier_ms = settings->auth.verifier_timeout_ms,
        .command_ms = from->timeouts.command_ms,
        .data_block_ms = from->timeouts.data_block_ms,
        .message_ms = from->timeouts.message_ms,
        .session_ms = from->timeouts.session_ms,
        .lookup_ms = from->dns_checks.timeout_ms,
    };
}

void boot_listener_map(struct inbound_listener_settings *to, const struct settings *settings, unsigned i)
{
    const struct settings_listener *from = &settings->listeners[i];
    *to = (struct inbound_listener_settings){
        .name = from->name,
        .endpoint = from->endpoint,
        .durability = from->durability == SETTINGS_RELAXED ? INBOUND_RELAXED : INBOUND_SYNC,
        .hostname = from->hostname,
        .banner = from->banner,
        .message_bytes_max = from->message_bytes_max,
        .recipients_max = from->recipients_max,
        .text_line_bytes_max = from->text_line_bytes_max,
        .command_bytes_max = from->command_bytes_max,
        .received_max = from->received_max,
        .errors_max = from->errors_max,
        .connections_max = from->connections_max,
        .connections_per_address_max = from->connections_per_address_max,
        .role = role_of(from->role),
        .lmtp = from->protocol == SETTINGS_LMTP,
        .socket_mode = from->socket_mode,
        .socket_owner = from->socket_owner,
        .extensions = bits_of(from->extensions, extension_bits, SETTINGS_EXTENSIONS),
        .mail_max = from->messages_max,
        .hold_s_max = (uint32_t)(from->hold_max_ms / 1000),
        .tls = tls_of(from->tls),
        .tls_required = from->tls_required,
        .mechanisms = bits_of(from->auth, mechanism_bits, SETTINGS_MECHANISMS),
        .auth_in_clear = from->auth_without_tls,
        .verifier = settings->auth.verifier,
        .checks =
            {
                .null_mx = from->dns_checks.null_mx == SETTINGS_NULL_MX_REFUSE,
                .unknown_senders = from->dns_checks.unknown_senders == SETTINGS_UNKNOWN_REFUSE,
                .unknown_recipients = from->dns_checks.unknown_recipients == SETTINGS_UNKNOWN_REFUSE,
            },
        .priorities =
            {
                .min = from->priorities.min,
                .min_busy = from->priorities.min_busy,
                .low_bytes_max = from->priorities.low_bytes_max,
                .high_bytes_max = from->priorities.high_bytes_max,
            },
        .rates = from->rates,
        .greet_pause_ms = from->greet_pause_ms,
        .error_delay_ms = from->error_delay_ms,
        .error_delay_after = from->error_delay_after,
        .filters = from->filters,
        .filters_count = from->filters_count,
    };
    map_trust(to, from);
    map_times(&to->timeouts, settings, from);
}

/* --- TLS ---------------------------------------------------------------------------------------------------------- */

struct names {
    char *text;
    const char *items[SERVER_NAMES_MAX];
};

static void split_names(struct names *names, struct tls_certificate *certificate, const char *text)
{
    names->text = strdup(text);
    CHECK(names->text != NULL);
    certificate->server_names = names->items;
    for (char *at = names->text; *at != '\0' && certificate->server_names_count < SERVER_NAMES_MAX;) {
        names->items[certificate->server_names_count++] = at;
        at += strcspn(at, " ");
        if (*at == ' ') {
            *at++ = '\0';
        }
    }
}

static int make_context(const struct settings *settings, const struct settings_listener *listener,
                        struct tls_context **ret_context, char *reason, size_t reason_size)
{
    static const enum tls_client_certificate client_certificates[] = {
        [SETTINGS_CLIENT_CERTIFICATES_OFF] = TLS_CLIENT_CERTIFICATE_IGNORE,
        [SETTINGS_CLIENT_CERTIFICATES_ASK] = TLS_CLIENT_CERTIFICATE_ASK,
        [SETTINGS_CLIENT_CERTIFICATES_REQUIRE] = TLS_CLIENT_CERTIFICATE_REQUIRE,
    };
    unsigned count = listener->certificates_count;
    struct tls_certificate *certificates = calloc(count, sizeof *certificates);
    struct names *names = calloc(count, sizeof *names);
    CHECK(certificates != NULL && names != NULL);
    for (unsigned i = 0; i < count; i++) {
        const struct settings_certificate *from = &listener->certificates[i];
        certificates[i].chain_file = from->certificate;
        certificates[i].key_file = from->key[0] != '\0' ? from->key : from->certificate;
        split_names(&names[i], &certificates[i], from->server_names);
    }
    const struct tls_server_settings wanted = {
        .certificates = certificates,
        .certificates_count = count,
        .version_min = settings->tls.min_version == SETTINGS_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
        .client_certificate = client_certificates[listener->client_certificates],
        .client_ca_file = listener->client_authorities[0] != '\0' ? listener->client_authorities : NULL,
        .ticket_key_seconds = (unsigned)(settings->tls.ticket_rotation_ms / 1000),
        .exporter = (listener->auth >> SETTINGS_SCRAM_SHA_256_PLUS & 1) != 0,
    };
    int error = tls_context_new_server(&wanted, ret_context, reason, reason_size);
    for (unsigned i = 0; i < count; i++) {
        free(names[i].text);
    }
    free(names);
    free(certificates);
    return error;
}

bool boot_listener_secure(struct inbound_listener_settings *listeners, const struct settings *settings, char *reason,
                          size_t reason_size)
{
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        char why[512] = "";
        if (listener->tls == SETTINGS_TLS_OFF) {
            continue;
        }
        if (make_context(settings, listener, &listeners[i].tls_context, why, sizeof why) != 0) {
            snprintf(reason, reason_size, "listener %s: %s", listener->name, why);
            boot_listener_release(listeners, settings->listeners_count);
            return false;
        }
    }
    return true;
}

void boot_listener_release(struct inbound_listener_settings *listeners, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        tls_context_give(listeners[i].tls_context);
        listeners[i].tls_context = NULL;
    }
}

void boot_listener_files(const struct settings *settings, void (*file)(void *context, const char *path), void *context)
{
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        if (listener->tls == SETTINGS_TLS_OFF) {
            continue;
        }
        for (unsigned j = 0; j < listener->certificates_count; j++) {
            file(context, listener->certificates[j].certificate);
            if (listener->certificates[j].key[0] != '\0') {
                file(context, listener->certificates[j].key);
            }
        }
        if (listener->client_authorities[0] != '\0') {
            file(context, listener->client_authorities);
        }
    }
}

struct accounts_settings boot_listener_accounts(const struct settings *settings)
{
    const struct settings_auth *auth = &settings->auth;
    unsigned shards = settings->shards.inbound != 0 ? settings->shards.inbound : settings->shards.count;
    unsigned threads = shards < ACCOUNT_THREADS_MAX ? shards : ACCOUNT_THREADS_MAX;
    return (struct accounts_settings){
        .threads = auth->workers != 0 ? auth->workers : threads,
        .queue_max = auth->waiting_max,
        .recent_ms = auth->remember_ms,
        .lockout =
            {
                .entries = auth->lockout.entries,
                .account_failures_max = auth->lockout.account_failures,
                .address_failures_max = auth->lockout.address_failures,
                .time_ms = auth->lockout.time_ms,
                .time_ms_max = auth->lockout.time_max_ms,
                .forget_ms = auth->lockout.forget_ms,
                .delay_ms = auth->lockout.delay_ms,
                .delay_ms_max = auth->lockout.delay_max_ms,
            },
    };
}
