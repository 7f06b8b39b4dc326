/* Routes as delivery wants them, with what their TLS needs. */
#ifndef APP_BOOT_ROUTES_H
#define APP_BOOT_ROUTES_H

#include "app/settings.h"
#include "delivery/delivery.h"
#include "inbound/inbound.h"

struct boot_routes {
    struct delivery_route *routes; /* as many as settings has, in the same order */
    char (*policies)[DELIVERY_POLICY_BYTES];
    struct boot_routes_context {
        const char *ca_file;
        bool trust;
        struct tls_context *context;
    } * contexts;
    unsigned contexts_count;
};

/* False without memory, or when a route needs a file of authorities that cannot be used: the log says which. Must not
 * be called before tls_library_init. */
bool boot_routes_map(struct boot_routes *routes, const struct settings *settings);
/* Also what a failed map leaves. */
void boot_routes_free(struct boot_routes *routes);

/* As inbound_settings.route: by the routes in force on the shard. */
struct inbound_route boot_routes_find(const struct shard *shard, struct bytes domain);

/* As inbound_settings.mailbox: by the domains in force on the shard. */
bool boot_routes_mailbox(const struct shard *shard, const struct address *address, struct inbound_mailbox *ret_mailbox);

#endif
