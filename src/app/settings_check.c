#include "app/settings_check.h"

#define SOCKET_PATH_BYTES_MAX 107 /* sun_path, with its NUL, has 108 */

/* --- single values ------------------------------------------------------------------------------------------------ */

bool settings_check_path(const char *text)
{
    return text[0] == '/' && strstr(text, "/../") == NULL;
}

bool settings_check_name(const char *text)
{
    return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:[]_-")] == '\0';
}

bool settings_check_mode(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "01234567")] == '\0';
}

bool settings_check_address(const char *text)
{
    struct config_endpoint endpoint;
    if (strncmp(text, "unix:", 5) == 0) {
        return settings_check_path(text + 5) && strlen(text + 5) <= 107;
    }
    return config_value_endpoint(text, 0, &endpoint);
}

bool settings_check_pattern(const char *text)
{
    return strcmp(text, "*") == 0 || config_value_hostname(text[0] == '.' ? text + 1 : text);
}

bool settings_check_server_names(const char *text)
{
    char name[LIMIT_DOMAIN_BYTES + 1];
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (length == 0 || length >= sizeof name) {
            return false;
        }
        memcpy(name, text, length);
        name[length] = '\0';
        if (!config_value_hostname(strncmp(name, "*.", 2) == 0 ? name + 2 : name)) {
            return false;
        }
        text += length;
        text += *text == ' ' && text[1] != '\0';
    }
    return true;
}

/* Takes "host", "[host]" or "address", each with or without ":port", apart. */
static bool split_port(const char *text, struct bytes *ret_host, unsigned *ret_port)
{
    bool bracket = text[0] == '[';
    const char *host = bracket ? text + 1 : text;
    size_t length = strcspn(host, bracket ? "]" : ":");
    const char *rest = host + length;
    uint64_t port = 0;
    if (!bracket && *rest == ':' && strchr(rest + 1, ':') != NULL) { /* a bare IPv6 address */
        *ret_host = bytes_of_string(text);
        return true;
    }
    if (bracket && *rest++ != ']') {
        return false;
    }
    if (*rest != '\0' &&
        (*rest != ':' || !bytes_parse_number(bytes_of_string(rest + 1), &port) || port == 0 || port > 65535)) {
        return false;
    }
    *ret_host = bytes_of(host, length);
    *ret_port = (unsigned)port;
    return true;
}

/* "unix:/path", as long as a socket's name may be. */
static bool split_unix(const char *text, char *ret_host, size_t size)
{
    const char *path = text + strlen("unix:");
    size_t length = strlen(text);
    if (strncmp(text, "unix:", 5) != 0 || !settings_check_path(path) || strlen(path) > SOCKET_PATH_BYTES_MAX ||
        length >= size) {
        return false;
    }
    memcpy(ret_host, text, length + 1);
    return true;
}

bool settings_check_split_hop(const char *text, enum settings_next_hop *ret_hop, char *ret_host, size_t size,
                              unsigned *ret_port)
{
    struct config_endpoint endpoint;
    struct bytes host = BYTES("");
    bool mx = strcmp(text, "mx") == 0 || strncmp(text, "mx:", 3) == 0;
    bool lmtp = strncmp(text, "lmtp:", 5) == 0;
    *ret_hop = mx ? SETTINGS_HOP_MX : lmtp ? SETTINGS_HOP_LMTP : SETTINGS_HOP_HOST;
    *ret_port = 0;
    if (lmtp && split_unix(text + 5, ret_host, size)) {
        return true;
    }
    if (mx) {
        host = bytes_of_string(text + 2 + (text[2] == ':'));
    } else if (!split_port(text + (lmtp ? 5 : 0), &host, ret_port)) {
        return false;
    }
    if (host.length >= size) {
        return false;
    }
    for (size_t i = 0; i < host.length; i++) {
        ret_host[i] = bytes_ascii_lower(host.data[i]);
    }
    ret_host[host.length] = '\0';
    if (mx) {
        return text[2] == '\0' || config_value_hostname(ret_host);
    }
    return config_value_hostname(ret_host) ||
           (strchr(ret_host, '[') == NULL && config_value_endpoint(ret_host, 0, &endpoint) &&
            config_value_port(&endpoint) == 0);
}

bool settings_check_next_hop(const char *text)
{
    enum settings_next_hop hop;
    char host[LIMIT_DOMAIN_BYTES + 1];
    unsigned port = 0;
    return settings_check_split_hop(text, &hop, host, sizeof host, &port);
}

/* --- contradictions ----------------------------------------------------------------------------------------------- */

static void check_shards(const struct settings *settings)
{
    const struct settings_shards *shards = &settings->shards;
    if ((shards->inbound == 0) != (shards->delivery == 0)) {
        config_error(settings->config, "shards", "shards.%s is 0, expected inbound and delivery both or neither",
                     shards->inbound == 0 ? "inbound" : "delivery");
    } else if (shards->inbound != 0 && shards->count != 0 && shards->count != shards->inbound + shards->delivery) {
        config_error(settings->config, "shards.count", "shards.count is %u, expected inbound and delivery together: %u",
                     shards->count, shards->inbound + shards->delivery);
    } else if (shards->inbound + shards->delivery > LIMIT_SHARDS) {
        config_error(settings->config, "shards", "shards.inbound and delivery make %u, expected at most %d",
                     shards->inbound + shards->delivery, LIMIT_SHARDS);
    }
}

static void check_limits(const struct settings *settings)
{
    const struct {
        const char *path;
        unsigned value;
    } powers[] = {
        {"limits.receive_buffers", settings->limits.receive_buffers},
        {"limits.ring_entries", settings->limits.ring_entries},
    };
    for (size_t i = 0; i < sizeof powers / sizeof *powers; i++) {
        if ((powers[i].value & (powers[i].value - 1)) != 0) {
            config_error(settings->config, powers[i].path, "%s is %u, expected a power of two", powers[i].path,
                         powers[i].value);
        }
    }
}

static bool same_endpoint(const struct config_endpoint *a, const struct config_endpoint *b)
{
    return a->length == b->length && a->length != 0 && memcmp(&a->address, &b->address, a->length) == 0;
}

static void check_listener_pair(const struct settings *settings, unsigned i, unsigned j)
{
    const struct settings_listener *a = &settings->listeners[i];
    const struct settings_listener *b = &settings->listeners[j];
    char path[64];
    if (same_endpoint(&a->endpoint, &b->endpoint)) {
        snprintf(path, sizeof path, "listeners[%u].address", j);
        config_error(settings->config, path, "%s and port are those of listeners[%u], expected another address or port",
                     path, i);
    } else if (strcmp(a->name, b->name) == 0) {
        snprintf(path, sizeof path, "listeners[%u].name", j);
        config_error(settings->config, path, "%s is \"%s\" as that of listeners[%u], expected a name of its own", path,
                     b->name, i);
    }
}

static void check_listener(const struct settings *settings, unsigned i)
{
    const struct settings_listener *listener = &settings->listeners[i];
    settings_listener_check(settings, i);
    if (same_endpoint(&listener->endpoint, &settings->admin.listen)) {
        config_error(settings->config, "admin.listen",
                     "admin.listen is the address and port of listeners[%u], expected another", i);
    }
    for (unsigned j = i + 1; j < settings->listeners_count; j++) {
        check_listener_pair(settings, i, j);
    }
}

static void check_listeners(const struct settings *settings)
{
    if (settings->listeners_count == 0 && settings->listeners != NULL) { /* else reported as no list */
        config_error(settings->config, "listeners", "listeners is empty, expected at least one listener");
    }
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        check_listener(settings, i);
    }
}

static void check_source_addresses(const struct settings *settings)
{
    const struct settings_delivery *delivery = &settings->delivery;
    if (delivery->source_addresses_count == 2 &&
        delivery->source_addresses[0].length == delivery->source_addresses[1].length) {
        config_error(settings->config, "delivery.source_addresses",
                     "delivery.source_addresses has two of one family, expected one IPv4 and one IPv6 address");
    }
}

static void check_route_tls(const struct settings *settings, unsigned i)
{
    const struct settings_route *route = &settings->routes[i];
    struct config_endpoint endpoint;
    bool strict = route->tls == SETTINGS_ROUTE_REQUIRE || route->tls == SETTINGS_ROUTE_VERIFY;
    char path[64];
    snprintf(path, sizeof path, "routes[%u].tls", i);
    if (strict && strncmp(route->host, "unix:", 5) == 0) {
        config_error(settings->config, path, "%s asks for TLS on a unix socket, expected \"may\" or \"off\"", path);
    } else if (route->tls == SETTINGS_ROUTE_VERIFY && route->hop != SETTINGS_HOP_MX && route->tls_name[0] == '\0' &&
               config_value_endpoint(route->host, 0, &endpoint)) {
        config_error(settings->config, path, "%s is \"verify\" for an address, expected tls_name to say whose it is",
                     path);
    } else if (route->tls != SETTINGS_ROUTE_VERIFY && route->tls_ca[0] != '\0') {
        snprintf(path, sizeof path, "routes[%u].tls_ca", i);
        config_error(settings->config, path, "%s is given, but nothing is verified, expected tls = \"verify\"", path);
    }
}

void settings_check_routes(const struct settings *settings)
{
    for (unsigned i = 0; i < settings->routes_count; i++) {
        if (settings->routes[i].host != NULL) { /* else reported already */
            check_route_tls(settings, i);
        }
    }
}

static void check_retry(const struct settings *settings)
{
    const struct settings_retry *retry = &settings->retry;
    bool listed = config_present(settings->config, "retry.schedule") && retry->schedule_ms_count != 0;
    uint64_t first_ms = listed ? retry->schedule_ms[0] : retry->initial_ms;
    if (!listed && retry->max_ms < retry->initial_ms) {
        config_error(settings->config, "retry.max", "retry.max is shorter than initial, expected at least as long");
    }
    if (retry->expire_ms < first_ms) {
        config_error(settings->config, "retry.expire",
                     "retry.expire is shorter than the first wait, expected at least as long");
    }
}

void settings_check_all(const struct settings *settings)
{
    check_shards(settings);
    check_limits(settings);
    check_listeners(settings);
    check_source_addresses(settings);
    check_retry(settings);
}
