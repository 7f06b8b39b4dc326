#include "app/settings.h"

#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/settings_check.h"
#include "app/settings_domains.h"
#include "app/settings_milters.h"
#include "base/check.h"
#include "core/config_print.h"
#include "core/shard.h"

/* The host's own name in full, as Postfix finds it: gethostname, completed by the resolver when it has no dot. */
static const char *system_hostname(struct config *config)
{
    char name[LIMIT_DOMAIN_BYTES + 1] = "";
    struct addrinfo hints = {.ai_flags = AI_CANONNAME, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    gethostname(name, sizeof name - 1);
    if (strchr(name, '.') == NULL && getaddrinfo(name, NULL, &hints, &found) == 0) {
        if (found->ai_canonname != NULL && strchr(found->ai_canonname, '.') != NULL &&
            config_value_hostname(found->ai_canonname)) {
            snprintf(name, sizeof name, "%s", found->ai_canonname);
        }
        freeaddrinfo(found);
    }
    return config_value_hostname(name) ? config_copy(config, bytes_of_string(name)) : "localhost";
}

static const struct config_key *list_key(const char *name)
{
    const struct config_key *key = settings_keys;
    while (strcmp(key->name, name) != 0) {
        key++;
    }
    return key;
}

static void complete_listeners(struct settings *settings)
{
    if (!config_present(settings->config, "listeners")) {
        settings->listeners = config_allocate(settings->config, sizeof *settings->listeners);
        settings->listeners_count = 1;
        config_defaults(settings->config, list_key("listeners")->keys, settings->listeners);
    }
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        settings_listener_complete(settings, i);
    }
}

#define LMTP_PORT 24 /* RFC 2033 knows no other than "not 25"; this one is what servers use */

static void complete_route(struct settings *settings, unsigned i)
{
    struct settings_route *route = &settings->routes[i];
    const struct settings_delivery *delivery = &settings->delivery;
    char host[LIMIT_DOMAIN_BYTES + 1];
    unsigned port = 0;
    if (route->domain == NULL || !settings_check_split_hop(route->next_hop, &route->hop, host, sizeof host, &port)) {
        route->domain = route->domain != NULL ? route->domain : "";
        return; /* reported already */
    }
    char path[64];
    snprintf(path, sizeof path, "routes[%u].port", i);
    bool present = config_present(settings->config, path);
    if (port == 0 && route->hop == SETTINGS_HOP_LMTP && !present) {
        port = LMTP_PORT;
    }
    if (port != 0) {
        if (present && route->port != port) { /* `check --print` says it in both */
            config_error(settings->config, path, "%s is %u and next_hop says %u, expected only one of the two", path,
                         route->port, port);
        }
        route->port = port;
    }
    char *domain = config_copy(settings->config, bytes_of_string(route->domain));
    for (char *c = domain; *c != '\0'; c++) {
        *c = bytes_ascii_lower(*c);
    }
    route->domain = domain;
    route->host = config_copy(settings->config, bytes_of_string(host));
    route->connections_max = route->connections_max != 0 ? route->connections_max
                                                         : delivery->connections_per_destination_max;
    route->messages_per_connection_max = route->messages_per_connection_max != 0
                                             ? route->messages_per_connection_max
                                             : delivery->messages_per_connection_max;
    route->recipients_per_transaction_max = route->recipients_per_transaction_max != 0
                                                ? route->recipients_per_transaction_max
                                                : delivery->recipients_per_transaction_max;
}

/* 0: a domain, 1: a domain's subdomains, 2: everything. */
static int route_rank(const struct settings_route *route)
{
    return route->domain[0] == '*' ? 2 : route->domain[0] == '.' ? 1 : 0;
}

/* Domains by name, then subdomains with the longest first, then "*": the first that matches is the most specific. */
static int compare_routes(const void *a, const void *b)
{
    const struct settings_route *left = a;
    const struct settings_route *right = b;
    size_t left_length = strlen(left->domain);
    size_t right_length = strlen(right->domain);
    if (route_rank(left) != route_rank(right)) {
        return route_rank(left) - route_rank(right);
    }
    if (route_rank(left) == 1 && left_length != right_length) {
        return left_length > right_length ? -1 : 1;
    }
    return strcmp(left->domain, right->domain);
}

static int compare_route_places(const void *a, const void *b)
{
    const struct settings_route *const *left = a;
    const struct settings_route *const *right = b;
    int order = compare_routes(*left, *right);
    return order != 0 ? order : (*left > *right) - (*left < *right);
}

/* Sorts places, not routes, so that the error names the line of the second one. */
static void check_duplicate_routes(struct settings *settings)
{
    unsigned count = settings->routes_count;
    const struct settings_route **places = calloc(count + 1, sizeof *places);
    CHECK(places != NULL);
    for (unsigned i = 0; i < count; i++) {
        places[i] = &settings->routes[i];
    }
    qsort(places, count, sizeof *places, compare_route_places);
    for (unsigned i = 1; i < count; i++) {
        if (places[i]->domain[0] != '\0' && strcmp(places[i - 1]->domain, places[i]->domain) == 0) {
            char path[64];
            snprintf(path, sizeof path, "routes[%td].domain", places[i] - settings->routes);
            config_error(settings->config, path, "%s is \"%s\" as that of routes[%td], expected one route per domain",
                         path, places[i]->domain, places[i - 1] - settings->routes);
        }
    }
    free(places);
}

static const struct settings_route *route_of(const struct settings *settings, const char *domain)
{
    for (unsigned i = 0; i < settings->routes_count; i++) {
        if (settings->routes[i].domain != NULL && strcasecmp(settings->routes[i].domain, domain) == 0) {
            return &settings->routes[i];
        }
    }
    return NULL;
}

/* A domain of ours that is delivered by LMTP is a route. Returns how many were added. */
static unsigned add_lmtp_routes(struct settings *settings, struct settings_route *routes)
{
    unsigned added = 0;
    for (unsigned i = 0; i < settings->domains_count; i++) {
        const struct settings_domain *domain = &settings->domains[i];
        if (domain->name == NULL || strncmp(domain->deliver, "lmtp:", 5) != 0) {
            continue;
        }
        const struct settings_route *route = route_of(settings, domain->name);
        if (route == NULL) {
            config_defaults(settings->config, list_key("routes")->keys, &routes[added]);
            routes[added].domain = domain->name;
            routes[added++].next_hop = domain->deliver;
        } else if (strcmp(route->next_hop, domain->deliver) != 0) {
            char path[64];
            snprintf(path, sizeof path, "domains[%u].deliver", i);
            config_error(settings->config, path, "%s and a route both say where %s goes, expected only one of the two",
                         path, domain->name);
        }
    }
    return added;
}

static void complete_routes(struct settings *settings)
{
    const struct config_key *keys = list_key("routes")->keys;
    unsigned count = settings->routes_count;
    bool any = route_of(settings, "*") != NULL;
    struct settings_route *routes = config_allocate(settings->config,
                                                    (count + settings->domains_count + 1) * sizeof *routes);
    if (count != 0) {
        memcpy(routes, settings->routes, count * sizeof *routes);
    }
    if (!any) {
        config_defaults(settings->config, keys, &routes[count]);
        routes[count++].domain = "*";
    }
    count += add_lmtp_routes(settings, routes + count);
    settings->routes = routes;
    settings->routes_count = count;
    for (unsigned i = 0; i < count; i++) {
        complete_route(settings, i);
    }
    check_duplicate_routes(settings);
    settings_check_routes(settings);
    qsort(routes, count, sizeof *routes, compare_routes);
}

/* Writes the schedule out: the first wait, each next `factor` times as long, until the longest, which then repeats. */
static void complete_retry(struct settings *settings)
{
    struct settings_retry *retry = &settings->retry;
    double wait_ms = (double)retry->initial_ms;
    if (retry->schedule_ms_count != 0) {
        return;
    }
    retry->schedule_ms = config_allocate(settings->config, SETTINGS_RETRIES_MAX * sizeof *retry->schedule_ms);
    bool grows = true;
    while (grows && retry->schedule_ms_count < SETTINGS_RETRIES_MAX) {
        grows = wait_ms < (double)retry->max_ms && retry->factor > 1;
        retry->schedule_ms[retry->schedule_ms_count++] = wait_ms < (double)retry->max_ms ? (uint64_t)wait_ms
                                                                                         : retry->max_ms;
        wait_ms *= retry->factor;
    }
}

static void complete_names(struct settings *settings)
{
    if (settings->hostname[0] == '\0') {
        settings->hostname = system_hostname(settings->config);
    }
    if (settings->delivery.hostname[0] == '\0') {
        settings->delivery.hostname = settings->hostname;
    }
}

static void complete_shards(struct settings_shards *shards)
{
    unsigned cores = shard_usable_cores();
    if (shards->inbound != 0) {
        shards->count = shards->inbound + shards->delivery;
    } else if (shards->count == 0) {
        shards->count = cores < LIMIT_SHARDS ? cores : LIMIT_SHARDS;
    }
}

struct settings *settings_load(const char *path, config_report *report, void *context)
{
    struct config *config = config_open(path, report, context);
    if (config == NULL) {
        return NULL;
    }
    struct settings *settings = config_allocate(config, sizeof *settings);
    settings->config = config;
    settings->path = config_copy(config, bytes_of_string(path));
    config_fill(config, settings_keys, settings);
    complete_names(settings);
    complete_listeners(settings);
    settings_milters_complete(settings);
    settings_check_all(settings);
    complete_routes(settings);
    complete_retry(settings);
    complete_shards(&settings->shards);
    settings_domains_complete(settings, report, context);
    if (config_errors(config) != 0 || settings->recipients == NULL) {
        settings_free(settings);
        return NULL;
    }
    return settings;
}

void settings_free(struct settings *settings)
{
    if (settings != NULL) {
        recipients_delete(settings->recipients);
        config_close(settings->config);
    }
}

unsigned settings_diff(const struct settings *old, const struct settings *new, settings_change *change, void *context)
{
    return config_print_differences(settings_keys, old, new, change, context);
}

void settings_print(const struct settings *settings, FILE *out)
{
    config_print(settings_keys, settings, out);
}
