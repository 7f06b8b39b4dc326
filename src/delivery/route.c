#include "delivery/route.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define ROUTE_PATTERNS_MAX 1000000

void route_index(struct delivery *delivery)
{
    map_free(&delivery->routes);
    map_init(&delivery->routes, ROUTE_PATTERNS_MAX);
    for (unsigned i = 0; i < delivery->settings->route_count; i++) {
        const struct delivery_route *route = &delivery->settings->routes[i];
        if (map_find(&delivery->routes, route->domain) == NULL) {
            union {
                const struct delivery_route *constant;
                void *value;
            } pointer = {.constant = route};
            CHECK(map_insert(&delivery->routes, route->domain, pointer.value));
        }
    }
}

const struct delivery_route *route_find(const struct delivery *delivery, struct bytes domain)
{
    const struct delivery_route *route = map_find(&delivery->routes, domain);
    for (size_t i = 1; route == NULL && i < domain.length; i++) {
        if (domain.data[i] == '.') {
            route = map_find(&delivery->routes, bytes_slice(domain, i, domain.length - i));
        }
    }
    if (route == NULL) {
        route = map_find(&delivery->routes, BYTES("*"));
    }
    CHECK(route != NULL);
    return route;
}

unsigned route_shard_of_key(const struct delivery *delivery, struct bytes key)
{
    uint64_t hash = XXH3_64bits(key.data, key.length);
    return delivery->settings->first_shard + (unsigned)(hash % delivery->settings->shard_count);
}

bool route_is_unix(const struct delivery_route *route)
{
    return !route->by_mx && route->host.length > 5 && memcmp(route->host.data, "unix:", 5) == 0;
}

/* A host that was named and a host that DNS gave are not the same, even under one name: the one is looked up by the
 * site, the other by its lanes, and only the one is sure to be meant. Nor are the hosts that DNS gave for sure and
 * those that somebody may have put in: a connection that is trusted for one domain would carry what another one's
 * forged MX leads there (RFC 8689 4.2.1). */
size_t route_site_key(const struct delivery_route *route, struct bytes host, bool sure,
                      char out[DELIVERY_SITE_KEY_BYTES])
{
    struct buffer key = buffer_of(out, DELIVERY_SITE_KEY_BYTES);
    CHECK(buffer_append(&key, route->lmtp ? BYTES("lmtp:") : BYTES("")));
    CHECK(buffer_append(&key, host) && buffer_append(&key, BYTES(":")) && buffer_append_number(&key, route->port));
    CHECK(buffer_append(&key, !route->by_mx ? BYTES("")
                              : sure        ? BYTES("/mx-sure")
                                            : BYTES("/mx")) &&
          buffer_append(&key, route->policy));
    return key.length;
}

unsigned route_shard(const struct delivery *delivery, struct bytes domain)
{
    if (delivery->settings->shard_count == 1) {
        return delivery->settings->first_shard;
    }
    const struct delivery_route *route = route_find(delivery, domain);
    if (route->by_mx) {
        return route_shard_of_key(delivery, route->host.length != 0 ? route->host : domain);
    }
    char key[DELIVERY_SITE_KEY_BYTES];
    return route_shard_of_key(delivery, bytes_of(key, route_site_key(route, route->host, true, key)));
}
