/* Which way mail for a domain goes: the most specific configured route. */
#ifndef DELIVERY_ROUTE_H
#define DELIVERY_ROUTE_H

#include "delivery/delivery.h"

/* Indexes the settings' routes in delivery->routes. */
void route_index(struct delivery *delivery);

/* "mail.example.com" is looked for as itself, as ".example.com", as ".com", and as "*". Never NULL. */
const struct delivery_route *route_find(const struct delivery *delivery, struct bytes domain);

/* The shard that works for a key: the text of a site, or a domain. The same on every shard. */
unsigned route_shard_of_key(const struct delivery *delivery, struct bytes key);

/* The shard that new recipients of a domain go to: that of its configured host, or the one that resolves the domain. */
unsigned route_shard(const struct delivery *delivery, struct bytes domain);

/* "unix:/path": where mail goes is a socket in the file system. */
bool route_is_unix(const struct delivery_route *route);

/* Writes the key of the route's site into `out`: "host:port", and what else tells it from others. Mail that is to be
 * treated in different ways never shares a connection. `host`: the route's, or the hosts that DNS gave, and then `sure`
 * is as in struct mx_result. Returns its length. */
size_t route_site_key(const struct delivery_route *route, struct bytes host, bool sure,
                      char out[DELIVERY_SITE_KEY_BYTES]);

#endif
