#include "inbound/profile.h"

#include <stdlib.h>

#include "base/check.h"
#include "core/tls.h"
#include "sasl/mechanism.h"

/* "220 mx.example.com ESMTP ringpost" without the variable parts. */
#define GREETING_BYTES (sizeof "220  \r\n" - 1)

static struct bytes keep(struct buffer *text, const char *string)
{
    size_t start = text->length;
    CHECK(buffer_append_string(text, string));
    return bytes_of(text->data + start, text->length - start);
}

/* RFC 5321 4.2: the reply begins with our name. */
static struct bytes keep_greeting(struct buffer *text, struct bytes hostname, const char *banner)
{
    size_t start = text->length;
    CHECK(buffer_append(text, BYTES("220 ")) && buffer_append(text, hostname) && buffer_append(text, BYTES(" ")) &&
          buffer_append_string(text, banner) && buffer_append(text, BYTES("\r\n")));
    return bytes_of(text->data + start, text->length - start);
}

static struct inbound_networks keep_networks(struct config_network **place, const struct inbound_networks *networks)
{
    struct inbound_networks kept = {.items = *place, .count = networks->count};
    if (networks->count != 0) {
        memcpy(*place, networks->items, networks->count * sizeof **place);
    }
    *place += networks->count;
    return kept;
}

static bool copy_networks(struct profile *profile, const struct inbound_listener_settings *settings)
{
    size_t count = settings->relay_networks.count + settings->proxy_networks.count + settings->xclient_networks.count +
                   settings->xforward_networks.count;
    struct config_network *place = malloc(count * sizeof *place + 1);
    if (place == NULL) {
        return false;
    }
    profile->networks = place;
    profile->relay_networks = keep_networks(&place, &settings->relay_networks);
    profile->proxy_networks = keep_networks(&place, &settings->proxy_networks);
    profile->xclient_networks = keep_networks(&place, &settings->xclient_networks);
    profile->xforward_networks = keep_networks(&place, &settings->xforward_networks);
    return true;
}

static bool copy_filters(struct profile *profile, const struct inbound_listener_settings *settings)
{
    CHECK(settings->filters_count <= INBOUND_FILTERS_MAX);
    profile->filters = calloc(settings->filters_count + 1, sizeof *profile->filters);
    profile->filters_count = settings->filters_count;
    if (profile->filters != NULL && settings->filters_count != 0) {
        memcpy(profile->filters, settings->filters, settings->filters_count * sizeof *profile->filters);
    }
    return profile->filters != NULL;
}

/* Offered where it makes sense: no password in clear text unless that was asked for, and what needs TLS only there. */
static void keep_mechanisms(struct profile *profile, struct buffer *text,
                            const struct inbound_listener_settings *settings)
{
    profile->mechanisms_clear = settings->auth_in_clear ? settings->mechanisms & ~MECHANISM_NEEDS_TLS : 0;
    profile->mechanisms_secure = settings->mechanisms;
    size_t start = text->length;
    CHECK(mechanism_append_list(text, profile->mechanisms_clear));
    profile->smtp.mechanisms_clear = bytes_of(text->data + start, text->length - start);
    start = text->length;
    CHECK(mechanism_append_list(text, profile->mechanisms_secure));
    profile->smtp.mechanisms_secure = bytes_of(text->data + start, text->length - start);
}

static uint32_t extensions_of(const struct inbound_listener_settings *settings)
{
    uint32_t extensions = settings->extensions;
    extensions |= settings->tls == INBOUND_TLS_STARTTLS ? SMTP_SERVER_STARTTLS : 0;
    extensions |= settings->mechanisms != 0 ? SMTP_SERVER_AUTH : 0;
    return extensions; /* XCLIENT and XFORWARD depend on the client */
}

static struct smtp_server_config config_of(const struct inbound_listener_settings *settings)
{
    return (struct smtp_server_config){
        .extensions = extensions_of(settings),
        .message_bytes_max = settings->message_bytes_max,
        .recipients_max = settings->recipients_max,
        .command_bytes_max = settings->command_bytes_max,
        .text_line_bytes_max = settings->text_line_bytes_max,
        .received_max = settings->received_max,
        .errors_max = settings->errors_max,
        .mail_max = settings->mail_max,
        .future_release_seconds_max = settings->hold_s_max,
        .lmtp = settings->lmtp,
        .auth_required = settings->role == INBOUND_SUBMISSION,
        .tls_required = settings->tls_required,
    };
}

struct profile *profile_new(const struct inbound_listener_settings *settings)
{
    size_t text_bytes = 2 * strlen(settings->hostname) + strlen(settings->name) + strlen(settings->banner) +
                        GREETING_BYTES + 2 * MECHANISM_LIST_BYTES + strlen(settings->verifier);
    struct profile *profile = malloc(sizeof *profile + text_bytes);
    if (profile == NULL) {
        return NULL;
    }
    *profile = (struct profile){
        .references = 1,
        .durability = settings->durability,
        .role = settings->role,
        .tls = settings->tls,
        .behind_proxy = settings->proxy != 0,
        .proxy_version = (uint8_t)settings->proxy,
        .connections_max = settings->connections_max,
        .connections_per_address_max = settings->connections_per_address_max,
        .timeouts = settings->timeouts,
        .checks = settings->checks,
        .priorities = settings->priorities,
        .rates = settings->rates,
        .greet_pause_ms = settings->greet_pause_ms,
        .error_delay_ms = settings->error_delay_ms,
        .error_delay_after = settings->error_delay_after,
        .smtp = config_of(settings),
    };
    struct buffer text = buffer_of(profile->text, text_bytes);
    profile->smtp.hostname = keep(&text, settings->hostname);
    profile->name = keep(&text, settings->name);
    profile->greeting = keep_greeting(&text, profile->smtp.hostname, settings->banner);
    profile->verifier = keep(&text, settings->verifier);
    keep_mechanisms(profile, &text, settings);
    if (!copy_networks(profile, settings) || !copy_filters(profile, settings)) {
        free(profile->networks);
        free(profile);
        return NULL;
    }
    if (settings->tls_context != NULL) {
        profile->tls_context = tls_context_take(settings->tls_context);
    }
    return profile;
}

struct profile *profile_take(struct profile *profile)
{
    profile->references++;
    return profile;
}

void profile_give(struct profile *profile)
{
    CHECK(profile->references > 0);
    if (--profile->references == 0) {
        tls_context_give(profile->tls_context);
        free(profile->networks);
        free(profile->filters);
        free(profile);
    }
}
