#include "app/boot_routes.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/log.h"
#include "core/tls.h"
#include "delivery/maildir.h"
#include "delivery/maildir_path.h"
#include "delivery/route.h"

/* A context for routes that verify by this file's authorities, or ("") for all that do not verify. */
static struct tls_context *make_context(const struct settings_route *route)
{
    char reason[256] = "";
    char quoted[600];
    struct tls_context *context = NULL;
    struct tls_client_settings settings = {
        .version_min = TLS_VERSION_1_2,
        .trust = route->tls == SETTINGS_ROUTE_VERIFY,
        .ca_file = route->tls_ca[0] != '\0' ? route->tls_ca : NULL,
    };
    if (tls_context_new_client(&settings, &context, reason, sizeof reason) != 0) {
        log_line(LOG_ERROR, "a route cannot use TLS", "domain=%s reason=%s", route->domain,
                 log_quote(bytes_of_string(reason), quoted, sizeof quoted));
        return NULL;
    }
    return context;
}

/* The route's context, made when it is the first to need it. NULL: there is none. */
static struct tls_context *find_context(struct boot_routes *routes, const struct settings_route *route)
{
    bool trust = route->tls == SETTINGS_ROUTE_VERIFY;
    for (unsigned i = 0; i < routes->contexts_count; i++) {
        const struct boot_routes_context *known = &routes->contexts[i];
        if (known->trust == trust && strcmp(known->ca_file, route->tls_ca) == 0) {
            return known->context;
        }
    }
    struct boot_routes_context *more = realloc(routes->contexts, (routes->contexts_count + 1) * sizeof *more);
    if (more == NULL) {
        return NULL;
    }
    routes->contexts = more;
    struct tls_context *context = make_context(route);
    if (context != NULL) {
        routes->contexts[routes->contexts_count++] = (struct boot_routes_context){
            .ca_file = route->tls_ca, .trust = trust, .context = context};
    }
    return context;
}

/* What tells apart routes that treat the same host differently; nothing for what most of them do. */
static struct bytes describe_policy(char room[DELIVERY_POLICY_BYTES], const struct settings_route *route)
{
    static const char *const names[] = {"may", "off", "require", "verify"};
    int length = 0;
    if (route->tls_name[0] != '\0' || route->tls_ca[0] != '\0') {
        XXH64_hash_t hash = XXH3_64bits_withSeed(route->tls_name, strlen(route->tls_name),
                                                 XXH3_64bits(route->tls_ca, strlen(route->tls_ca)));
        length = snprintf(room, DELIVERY_POLICY_BYTES, "/%s:%016llx", names[route->tls], (unsigned long long)hash);
    } else if (route->tls != SETTINGS_ROUTE_MAY) {
        length = snprintf(room, DELIVERY_POLICY_BYTES, "/%s", names[route->tls]);
    }
    return bytes_of(room, (size_t)length);
}

static void map_route(struct delivery_route *to, const struct settings_route *from)
{
    static const enum delivery_tls tls[] = {
        [SETTINGS_ROUTE_MAY] = DELIVERY_TLS_MAY,
        [SETTINGS_ROUTE_OFF] = DELIVERY_TLS_OFF,
        [SETTINGS_ROUTE_REQUIRE] = DELIVERY_TLS_REQUIRE,
        [SETTINGS_ROUTE_VERIFY] = DELIVERY_TLS_VERIFY,
    };
    *to = (struct delivery_route){
        .domain = bytes_of_string(from->domain),
        .host = bytes_of_string(from->host),
        .by_mx = from->hop == SETTINGS_HOP_MX,
        .lmtp = from->hop == SETTINGS_HOP_LMTP,
        .tls = tls[from->tls],
        .tls_name = from->tls_name,
        .port = (uint16_t)from->port,
        .connections_max = from->connections_max,
        .messages_per_connection_max = from->messages_per_connection_max,
        .recipients_max = from->recipients_per_transaction_max,
    };
}

bool boot_routes_map(struct boot_routes *routes, const struct settings *settings)
{
    routes->routes = calloc(settings->routes_count, sizeof *routes->routes);
    routes->policies = calloc(settings->routes_count, sizeof *routes->policies);
    if (routes->routes == NULL || routes->policies == NULL) {
        return false;
    }
    for (unsigned i = 0; i < settings->routes_count; i++) {
        const struct settings_route *from = &settings->routes[i];
        map_route(&routes->routes[i], from);
        routes->routes[i].policy = describe_policy(routes->policies[i], from);
        if (from->tls != SETTINGS_ROUTE_OFF) {
            routes->routes[i].tls_context = find_context(routes, from);
            if (routes->routes[i].tls_context == NULL) {
                return false;
            }
        }
    }
    return true;
}

void boot_routes_free(struct boot_routes *routes)
{
    for (unsigned i = 0; i < routes->contexts_count; i++) {
        tls_context_give(routes->contexts[i].context);
    }
    free(routes->contexts);
    free(routes->policies);
    free(routes->routes);
    *routes = (struct boot_routes){0};
}

struct inbound_route boot_routes_find(const struct shard *shard, struct bytes domain)
{
    const struct delivery_route *route = route_find(shard->delivery, domain);
    struct bytes by_mx = route->host.length != 0 ? route->host : domain;
    return (struct inbound_route){
        .mx_of = route->by_mx ? by_mx : BYTES(""),
        .general = bytes_equal(route->domain, BYTES("*")),
    };
}

bool boot_routes_mailbox(const struct shard *shard, const struct address *address, struct inbound_mailbox *ret_mailbox)
{
    char room[LIMIT_DOMAIN_BYTES];
    struct bytes domain = address_domain(address);
    if (address->kind != ADDRESS_DOMAIN || domain.length > sizeof room) {
        return false;
    }
    for (size_t i = 0; i < domain.length; i++) {
        room[i] = bytes_ascii_lower(domain.data[i]);
    }
    const struct delivery_local *local = maildir_local(shard->delivery->maildirs, bytes_of(room, domain.length));
    if (local == NULL || (local->quota.bytes_max == 0 && local->quota.messages_max == 0)) {
        return false;
    }
    struct buffer directory = buffer_of(ret_mailbox->directory, sizeof ret_mailbox->directory);
    ret_mailbox->quota = local->quota;
    ret_mailbox->refuses = local->quota_refuses;
    return maildir_path_directory(local->maildir, local->domain, address_local(address), local->subaddress, &directory);
}
