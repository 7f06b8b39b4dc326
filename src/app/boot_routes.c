#include "app/boot_routes.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/log.h"
#include "core/tls.h"

/* A context that trusts the file's CAs. Where nobody has to be verified one that trusts nobody will do, too: a machine
 * without a store of CAs still encrypts. NULL: neither. */
static struct tls_context *make_context(const char *file, bool needed)
{
    char reason[256] = "";
    struct tls_context *context = NULL;
    struct tls_client_settings settings = {
        .version_min = TLS_VERSION_1_2,
        .trust = true,
        .ca_file = file[0] != '\0' ? file : NULL,
    };
    if (tls_context_new_client(&settings, &context, reason, sizeof reason) == 0) {
        return context;
    }
    char quoted[600];
    log_line(needed ? LOG_ERROR : LOG_WARNING, "no certificate authorities for routes", "reason=%s",
             log_quote(bytes_of_string(reason), quoted, sizeof quoted));
    settings.trust = false;
    settings.ca_file = NULL;
    return !needed && tls_context_new_client(&settings, &context, reason, sizeof reason) == 0 ? context : NULL;
}

static bool verified(const struct settings *settings, const char *file)
{
    for (unsigned i = 0; i < settings->routes_count; i++) {
        const struct settings_route *route = &settings->routes[i];
        if (route->tls == SETTINGS_ROUTE_VERIFY && strcmp(route->tls_ca, file) == 0) {
            return true;
        }
    }
    return false;
}

/* The context of a file, made when it is first asked for. False when it cannot be used and must be. */
static bool find_context(struct boot_routes *routes, const struct settings *settings,
                         const struct settings_route *route, struct tls_context **ret_context)
{
    const char *file = route->tls_ca;
    for (unsigned i = 0; i < routes->cas_count; i++) {
        if (strcmp(routes->cas[i].file, file) == 0) {
            *ret_context = routes->cas[i].context;
            return route->tls <= SETTINGS_ROUTE_OFF || *ret_context != NULL;
        }
    }
    struct boot_routes_ca *more = realloc(routes->cas, (routes->cas_count + 1) * sizeof *more);
    if (more == NULL) {
        return false;
    }
    routes->cas = more;
    struct tls_context *context = make_context(file, file[0] != '\0' || verified(settings, file));
    routes->cas[routes->cas_count++] = (struct boot_routes_ca){.file = file, .context = context};
    *ret_context = context;
    return context != NULL || (route->tls <= SETTINGS_ROUTE_OFF && file[0] == '\0');
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
        if (from->tls != SETTINGS_ROUTE_OFF && !find_context(routes, settings, from, &routes->routes[i].tls_context)) {
            log_line(LOG_ERROR, "a route cannot use TLS", "domain=%s", from->domain);
            return false;
        }
    }
    return true;
}

void boot_routes_free(struct boot_routes *routes)
{
    for (unsigned i = 0; i < routes->cas_count; i++) {
        tls_context_give(routes->cas[i].context);
    }
    free(routes->cas);
    free(routes->policies);
    free(routes->routes);
    *routes = (struct boot_routes){0};
}
