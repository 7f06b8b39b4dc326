#include "app/boot_settings.h"

#include <stdlib.h>

#include "app/boot_listener.h"

static unsigned share(unsigned total, unsigned shards)
{
    return (total + shards - 1) / shards;
}

static void map_shards(struct boot_settings *boot, const struct settings *settings)
{
    boot->shards = settings->shards.count;
    boot->inbound_shards = settings->shards.inbound != 0 ? settings->shards.inbound : boot->shards;
    boot->delivery_first = settings->shards.delivery != 0 ? boot->shards - settings->shards.delivery : 0;
    boot->delivery_shards = settings->shards.delivery != 0 ? settings->shards.delivery : boot->shards;
    boot->ring = (struct ring_settings){
        .entries = settings->limits.ring_entries,
        .receive_buffers = settings->limits.receive_buffers,
        .receive_buffer_bytes = settings->limits.receive_buffer_bytes,
    };
}

static bool map_inbound(struct boot_settings *boot, const struct settings *settings)
{
    boot->listeners = calloc(settings->listeners_count, sizeof *boot->listeners);
    if (boot->listeners == NULL) {
        return false;
    }
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        boot_listener_map(&boot->listeners[i], settings, i);
    }
    boot->inbound = (struct inbound_settings){
        .listeners = boot->listeners,
        .listeners_count = settings->listeners_count,
        .body_memory_bytes_max = settings->limits.body_memory_bytes_max,
        .receive_buffers = settings->limits.receive_buffers,
        .recipients = settings->recipients,
        .route = boot_routes_find,
        .mailbox = boot_routes_mailbox,
    };
    return true;
}

static void map_queue(struct boot_settings *boot, const struct settings *settings)
{
    struct queue_settings *queue = &boot->queue;
    queue->retry_count = settings->retry.schedule_ms_count < QUEUE_RETRY_STEPS ? settings->retry.schedule_ms_count
                                                                               : QUEUE_RETRY_STEPS;
    for (unsigned i = 0; i < queue->retry_count; i++) {
        uint64_t wait_ms = settings->retry.schedule_ms[i];
        queue->retry_ms[i] = (uint32_t)(wait_ms < UINT32_MAX ? wait_ms : UINT32_MAX);
    }
    queue->jitter_percent = settings->retry.jitter_percent;
    queue->expire_ms = settings->retry.expire_ms;
    queue->delay_warning_ms = settings->bounce.enabled ? settings->bounce.delay_warning_ms : 0;
    queue->recipients_max = settings->limits.queued_recipients_max;
}

static void map_timeouts(struct delivery_timeouts *to, const struct settings_delivery *from)
{
    *to = (struct delivery_timeouts){
        .connect_ms = from->timeouts.connect_ms,
        .message_ms = from->timeouts.message_ms,
        .body_rate_min = from->body_rate_min,
        .idle_ms = from->idle_timeout_ms,
        .phase_ms = {[SMTP_CLIENT_PHASE_IDLE] = from->idle_timeout_ms,
                     [SMTP_CLIENT_PHASE_GREETING] = from->timeouts.greeting_ms,
                     [SMTP_CLIENT_PHASE_TLS] = from->timeouts.tls_ms,
                     [SMTP_CLIENT_PHASE_EHLO] = from->timeouts.ehlo_ms,
                     [SMTP_CLIENT_PHASE_MAIL] = from->timeouts.mail_ms,
                     [SMTP_CLIENT_PHASE_RCPT] = from->timeouts.rcpt_ms,
                     [SMTP_CLIENT_PHASE_DATA] = from->timeouts.data_ms,
                     [SMTP_CLIENT_PHASE_BODY] = from->timeouts.body_ms,
                     [SMTP_CLIENT_PHASE_DOT] = from->timeouts.dot_ms,
                     [SMTP_CLIENT_PHASE_QUIT] = from->timeouts.quit_ms},
    };
}

/* The endpoint's address, unless it is a wildcard. */
static unsigned add_own_address(struct mx_address *to, const struct config_endpoint *endpoint)
{
    static const uint8_t wildcard[16];
    *to = (struct mx_address){.family = endpoint->address.ss_family};
    if (endpoint->address.ss_family == AF_INET) {
        memcpy(to->bytes, &((const struct sockaddr_in *)(const void *)&endpoint->address)->sin_addr, 4);
    } else if (endpoint->address.ss_family == AF_INET6) {
        memcpy(to->bytes, &((const struct sockaddr_in6 *)(const void *)&endpoint->address)->sin6_addr, 16);
    }
    return memcmp(to->bytes, wildcard, sizeof wildcard) != 0; /* nor a unix socket */
}

static bool map_own(struct boot_settings *boot, const struct settings *settings)
{
    const struct settings_delivery *delivery = &settings->delivery;
    unsigned names = 0;
    unsigned addresses = 0;
    boot->own_names = calloc(settings->listeners_count + 2, sizeof *boot->own_names);
    boot->own_addresses = calloc(settings->listeners_count + delivery->source_addresses_count + 1,
                                 sizeof *boot->own_addresses);
    if (boot->own_names == NULL || boot->own_addresses == NULL) {
        return false;
    }
    boot->own_names[names++] = bytes_of_string(settings->hostname);
    boot->own_names[names++] = bytes_of_string(delivery->hostname);
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        boot->own_names[names++] = bytes_of_string(settings->listeners[i].hostname);
        addresses += add_own_address(&boot->own_addresses[addresses], &settings->listeners[i].endpoint);
    }
    for (unsigned i = 0; i < delivery->source_addresses_count; i++) {
        addresses += add_own_address(&boot->own_addresses[addresses], &delivery->source_addresses[i]);
    }
    boot->delivery.mx = (struct mx_settings){
        .family = delivery->prefer_ipv6 ? MX_IPV6_FIRST : MX_IPV4_FIRST,
        .loopback_is_remote = delivery->loopback_is_remote,
        .own_names = boot->own_names,
        .own_name_count = names,
        .own_addresses = boot->own_addresses,
        .own_address_count = addresses,
    };
    return true;
}

static bool map_locals(struct boot_settings *boot, const struct settings *settings)
{
    boot->locals = calloc(settings->domains_count + 1, sizeof *boot->locals);
    if (boot->locals == NULL) {
        return false;
    }
    for (unsigned i = 0; i < settings->domains_count; i++) {
        const struct settings_domain *from = &settings->domains[i];
        if (from->maildir[0] != '\0') {
            boot->locals[boot->delivery.local_count++] = (struct delivery_local){
                .domain = bytes_of_string(from->name),
                .maildir = from->maildir,
                .subaddress = from->subaddress[0],
                .quota = {.bytes_max = from->quota_bytes, .messages_max = from->quota_messages},
                .quota_refuses = from->over_quota == SETTINGS_OVER_QUOTA_REFUSE,
            };
        }
    }
    boot->delivery.locals = boot->locals;
    boot->delivery.local_jobs_max = share(settings->delivery.maildir_writes_max, boot->delivery_shards);
    return true;
}

static bool map_delivery(struct boot_settings *boot, const struct settings *settings)
{
    const struct settings_delivery *from = &settings->delivery;
    struct delivery_settings *to = &boot->delivery;
    if (!boot_routes_map(&boot->routes, settings)) {
        return false;
    }
    to->hostname = bytes_of_string(from->hostname);
    to->postmaster_domain = bytes_of_string(settings->hostname);
    to->routes = boot->routes.routes;
    to->route_count = settings->routes_count;
    to->connections_max = share(from->connections_max, boot->delivery_shards);
    to->receive_buffers = settings->limits.receive_buffers;
    map_timeouts(&to->timeouts, from);
    to->copy_after_ms = from->copy_after_ms;
    to->copy_memory_max = from->copy_memory_max / boot->delivery_shards;
    for (unsigned i = 0; i < from->source_addresses_count; i++) {
        const struct config_endpoint *source = &from->source_addresses[i];
        struct delivery_source *place = source->address.ss_family == AF_INET6 ? &to->source_ipv6 : &to->source_ipv4;
        *place = (struct delivery_source){.address = source->address, .length = source->length};
    }
    if (!map_own(boot, settings) || !map_locals(boot, settings)) {
        return false;
    }
    to->bounces = settings->bounce.enabled;
    to->bounce_quote_bytes_max = settings->bounce.quote_bytes_max;
    to->first_shard = boot->delivery_first;
    to->shard_count = boot->delivery_shards;
    return true;
}

struct boot_settings *boot_settings_new(const struct settings *settings)
{
    struct boot_settings *boot = calloc(1, sizeof *boot);
    if (boot == NULL) {
        return NULL;
    }
    map_shards(boot, settings);
    map_queue(boot, settings);
    if (!map_inbound(boot, settings) || !map_delivery(boot, settings)) {
        boot_settings_free(boot);
        return NULL;
    }
    boot->resolver = (struct resolver_settings){
        .servers = settings->dns.servers,
        .server_count = settings->dns.servers_count,
        .timeout_ms = (unsigned)settings->dns.timeout_ms,
        .tries = settings->dns.tries,
        .cache_entries_max = settings->dns.cache_entries_max,
    };
    boot->events = (struct event_log_settings){
        .path = settings->events.path,
        .rotate_bytes = settings->events.rotate_bytes,
        .keep_files = settings->events.keep_files,
        .fsync_interval_ms = settings->events.fsync_interval_ms,
        .types = settings->events.types,
    };
    return boot;
}

void boot_settings_free(struct boot_settings *boot)
{
    if (boot->listeners != NULL) {
        boot_listener_release(boot->listeners, boot->inbound.listeners_count);
    }
    free(boot->listeners);
    boot_routes_free(&boot->routes);
    free(boot->locals);
    free(boot->own_names);
    free(boot->own_addresses);
    free(boot);
}
