#include "core/config_value.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "base/limits.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* The largest first: a value is printed in the first unit that divides it. */
static const struct unit size_units[] = {{"G", 1u << 30}, {"M", 1u << 20}, {"K", 1u << 10}, {"", 1}, {NULL, 0}};
static const struct unit duration_units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                                             {"s", 1000},     {"ms", 1},      {NULL, 0}};

static bool parse_with_unit(const char *text, const struct unit *unit, uint64_t *ret_value)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t number = 0;
    if (!bytes_parse_number(bytes_of(text, digits), &number)) {
        return false;
    }
    while (unit->name != NULL && strcmp(unit->name, text + digits) != 0) {
        unit++;
    }
    if (unit->name == NULL || __builtin_mul_overflow(number, unit->factor, &number)) {
        return false;
    }
    *ret_value = number;
    return true;
}

bool config_value_size(const char *text, uint64_t *ret_bytes)
{
    return parse_with_unit(text, size_units, ret_bytes);
}

bool config_value_duration(const char *text, uint64_t *ret_ms)
{
    return parse_with_unit(text, duration_units, ret_ms);
}

bool config_value_rate(const char *text, struct config_rate *ret_rate)
{
    char count[24];
    struct config_rate rate = {0};
    size_t length = strcspn(text, "/");
    if (strcmp(text, "off") != 0) {
        if (text[length] == '\0' || length >= sizeof count) {
            return false;
        }
        memcpy(count, text, length);
        count[length] = '\0';
        if (!config_value_size(count, &rate.count) || rate.count == 0 || rate.count > (1ull << 40) ||
            !config_value_duration(text + length + 1, &rate.period_ms) || rate.period_ms < 1000 ||
            rate.period_ms > 31ull * 86400000) {
            return false;
        }
    }
    *ret_rate = rate;
    return true;
}

static bool endpoint_of(const char *host, unsigned port, struct config_endpoint *ret_endpoint)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct config_endpoint endpoint = {.length = 0};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&endpoint.address, &v4, sizeof v4);
        endpoint.length = sizeof v4;
    } else if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(&endpoint.address, &v6, sizeof v6);
        endpoint.length = sizeof v6;
    } else {
        return false;
    }
    *ret_endpoint = endpoint;
    return true;
}

bool config_value_endpoint(const char *text, unsigned port, struct config_endpoint *ret_endpoint)
{
    char host[INET6_ADDRSTRLEN];
    bool bracket = text[0] == '[';
    const char *host_begin = bracket ? text + 1 : text;
    size_t length = strcspn(host_begin, bracket ? "]" : ":");
    const char *rest = host_begin + length;
    if (bracket) {
        if (*rest != ']') {
            return false;
        }
        rest++;
    } else if (*rest == ':' && strchr(rest + 1, ':') != NULL) { /* a bare IPv6 address */
        length = strlen(host_begin);
        rest = host_begin + length;
    }
    if (*rest != '\0') {
        uint64_t number = 0;
        if (*rest != ':' || !bytes_parse_number(bytes_of_string(rest + 1), &number) || number == 0 || number > 65535) {
            return false;
        }
        port = (unsigned)number;
    }
    if (length >= sizeof host) {
        return false;
    }
    memcpy(host, host_begin, length);
    host[length] = '\0';
    return (!bracket || strchr(host, ':') != NULL) && endpoint_of(host, port, ret_endpoint);
}

/* Clears the bits behind the prefix; was any set? */
static bool clear_host_bits(struct config_network *network)
{
    bool any = false;
    for (unsigned bit = network->prefix_bits; bit < 128; bit++) {
        uint8_t mask = (uint8_t)(0x80u >> (bit % 8));
        any |= (network->address[bit / 8] & mask) != 0;
        network->address[bit / 8] = (uint8_t)(network->address[bit / 8] & ~mask);
    }
    return any;
}

bool config_value_network(const char *text, struct config_network *ret_network)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char host[INET6_ADDRSTRLEN];
    size_t length = strcspn(text, "/");
    uint64_t prefix = 0;
    struct config_network network = {.prefix_bits = 128};
    *ret_network = network;
    if (length >= sizeof host) {
        return false;
    }
    memcpy(host, text, length);
    host[length] = '\0';
    unsigned before = 0;
    if (inet_pton(AF_INET, host, network.address + sizeof mapped) == 1) {
        memcpy(network.address, mapped, sizeof mapped);
        before = 96;
    } else if (inet_pton(AF_INET6, host, network.address) != 1) {
        return false;
    }
    if (text[length] == '/') {
        if (!bytes_parse_number(bytes_of_string(text + length + 1), &prefix) || prefix > 128 - before) {
            return false;
        }
        network.prefix_bits = before + (unsigned)prefix;
    }
    bool meant_other = clear_host_bits(&network);
    *ret_network = network;
    return !meant_other;
}

bool config_value_hostname(const char *text)
{
    size_t length = strlen(text);
    size_t label = 0;
    if (length == 0 || length > LIMIT_DOMAIN_BYTES) {
        return false;
    }
    for (size_t i = 0; i <= length; i++) {
        char c = text[i];
        char lower = bytes_ascii_lower(c);
        if (c == '.' || c == '\0') {
            if (label == 0 || label > 63 || text[i - 1] == '-') {
                return false;
            }
            label = 0;
        } else if ((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || (c == '-' && label != 0)) {
            label++;
        } else {
            return false;
        }
    }
    return true;
}

unsigned config_value_port(const struct config_endpoint *endpoint)
{
    struct sockaddr_in v4; /* the port is at the same place in both families */
    static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port), "see above");
    memcpy(&v4, &endpoint->address, sizeof v4);
    return endpoint->length == 0 ? 0 : ntohs(v4.sin_port);
}

static bool network_contains(const struct config_network *network, const uint8_t address[16])
{
    unsigned whole = network->prefix_bits / 8;
    unsigned rest = network->prefix_bits % 8;
    uint8_t mask = (uint8_t)(0xff00u >> rest);
    return memcmp(network->address, address, whole) == 0 &&
           (rest == 0 || (address[whole] & mask) == network->address[whole]);
}

bool config_value_network_contains(const struct config_network *networks, unsigned count,
                                   const struct sockaddr *address)
{
    struct in6_addr ip = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        memcpy(ip.s6_addr + 12, &v4.sin_addr, sizeof v4.sin_addr);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        ip = v6.sin6_addr;
    } else {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        if (network_contains(&networks[i], ip.s6_addr)) {
            return true;
        }
    }
    return false;
}

static void put_with_unit(struct buffer *out, const struct unit *unit, uint64_t value)
{
    while (unit->factor > 1 && (value == 0 || value % unit->factor != 0)) {
        unit++;
    }
    buffer_append_number(out, value / unit->factor);
    buffer_append_string(out, unit->name);
}

void config_value_put_size(struct buffer *out, uint64_t size_bytes)
{
    put_with_unit(out, size_units, size_bytes);
}

void config_value_put_duration(struct buffer *out, uint64_t duration_ms)
{
    if (duration_ms == 0) {
        buffer_append_string(out, "0s");
    } else {
        put_with_unit(out, duration_units, duration_ms);
    }
}

void config_value_put_rate(struct buffer *out, const struct config_rate *rate)
{
    if (rate->count == 0) {
        buffer_append_string(out, "off");
        return;
    }
    config_value_put_size(out, rate->count);
    buffer_append_string(out, "/");
    config_value_put_duration(out, rate->period_ms);
}

void config_value_put_endpoint(struct buffer *out, const struct config_endpoint *endpoint)
{
    char host[INET6_ADDRSTRLEN];
    unsigned port = config_value_port(endpoint);
    bool v6 = endpoint->address.ss_family == AF_INET6;
    if (endpoint->length == 0) {
        buffer_append_string(out, "off");
        return;
    }
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    memcpy(&in4, &endpoint->address, sizeof in4);
    memcpy(&in6, &endpoint->address, sizeof in6);
    inet_ntop(v6 ? AF_INET6 : AF_INET, v6 ? (void *)&in6.sin6_addr : (void *)&in4.sin_addr, host, sizeof host);
    buffer_append_format(out, v6 && port != 0 ? "[%s]" : "%s", host);
    if (port != 0) {
        buffer_append_format(out, ":%u", port);
    }
}

void config_value_put_network(struct buffer *out, const struct config_network *network)
{
    char host[INET6_ADDRSTRLEN];
    struct in6_addr ip;
    memcpy(&ip, network->address, sizeof ip);
    bool v4 = network->prefix_bits >= 96 && IN6_IS_ADDR_V4MAPPED(&ip);
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? network->address + 12 : network->address, host, sizeof host);
    buffer_append_format(out, "%s/%u", host, network->prefix_bits - (v4 ? 96 : 0));
}

static void put_text(struct buffer *out, const char *text)
{
    buffer_append_string(out, "\"");
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            buffer_append_string(out, "\\");
        }
        buffer_append(out, bytes_of(text, 1));
    }
    buffer_append_string(out, "\"");
}

static void put_choices(struct buffer *out, const struct config_key *key, unsigned bits)
{
    const char *between = " ";
    buffer_append_string(out, "(");
    for (unsigned i = 0; key->choices[i] != NULL; i++) {
        if (bits >> i & 1) {
            buffer_append_format(out, "%s\"%s\"", between, key->choices[i]);
            between = ", ";
        }
    }
    buffer_append_string(out, " )");
}

static void put_list(struct buffer *out, const struct config_key *key, const void *field, unsigned count)
{
    const void *items = NULL;
    memcpy(&items, field, sizeof items);
    buffer_append_string(out, "(");
    for (unsigned i = 0; i < count; i++) {
        buffer_append_string(out, i == 0 ? " \"" : ", \"");
        if (key->type == CONFIG_ADDRESSES) {
            config_value_put_endpoint(out, (const struct config_endpoint *)items + i);
        } else if (key->type == CONFIG_NETWORKS) {
            config_value_put_network(out, (const struct config_network *)items + i);
        } else {
            config_value_put_duration(out, ((const uint64_t *)items)[i]);
        }
        buffer_append_string(out, "\"");
    }
    buffer_append_string(out, " )");
}

static void put_quoted(struct buffer *out, const struct config_key *key, const void *field)
{
    uint64_t number = 0;
    buffer_append_string(out, "\"");
    if (key->type == CONFIG_ENDPOINT) {
        config_value_put_endpoint(out, field);
    } else if (key->type == CONFIG_RATE) {
        config_value_put_rate(out, field);
    } else {
        memcpy(&number, field, sizeof number);
        (key->type == CONFIG_SIZE ? config_value_put_size : config_value_put_duration)(out, number);
    }
    buffer_append_string(out, "\"");
}

void config_value_put(struct buffer *out, const struct config_key *key, const void *group)
{
    const char *field = (const char *)group + key->offset;
    unsigned number = 0;
    switch (key->type) {
    case CONFIG_BOOL: buffer_append_string(out, *(const bool *)field ? "true" : "false"); break;
    case CONFIG_COUNT:
        memcpy(&number, field, sizeof number);
        buffer_append_format(out, (key->flags & CONFIG_AUTO) != 0 && number == 0 ? "\"auto\"" : "%u", number);
        break;
    case CONFIG_INTEGER: buffer_append_format(out, "%d", *(const int *)(const void *)field); break;
    case CONFIG_REAL: buffer_append_format(out, "%g", *(const double *)(const void *)field); break;
    case CONFIG_SIZE:
    case CONFIG_DURATION:
    case CONFIG_RATE:
    case CONFIG_ENDPOINT: put_quoted(out, key, field); break;
    case CONFIG_TEXT: put_text(out, *(const char *const *)(const void *)field); break;
    case CONFIG_CHOICE:
        memcpy(&number, field, sizeof number);
        buffer_append_format(out, "\"%s\"", key->choices[number]);
        break;
    case CONFIG_CHOICES:
        memcpy(&number, field, sizeof number);
        put_choices(out, key, number);
        break;
    case CONFIG_ADDRESSES:
    case CONFIG_NETWORKS:
    case CONFIG_DURATIONS:
        memcpy(&number, (const char *)group + key->count_offset, sizeof number);
        put_list(out, key, field, number);
        break;
    case CONFIG_GROUP:
    case CONFIG_LIST: break;
    }
}
