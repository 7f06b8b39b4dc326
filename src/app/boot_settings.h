/* From what the operator wrote (settings.h) to what each layer wants to know. */
#ifndef APP_BOOT_SETTINGS_H
#define APP_BOOT_SETTINGS_H

#include "app/boot_routes.h"
#include "app/settings.h"
#include "core/event_log.h"
#include "delivery/delivery.h"
#include "dns/resolver.h"
#include "inbound/inbound.h"
#include "queue/queue.h"

/* Made from one `struct settings`, to which much of it points; freed by boot_settings_free. */
struct boot_settings {
    unsigned shards;
    unsigned inbound_shards; /* shards 0 to inbound_shards - 1 */
    unsigned delivery_first; /* shards delivery_first to delivery_first + delivery_shards - 1 */
    unsigned delivery_shards;
    struct ring_settings ring;
    struct inbound_settings inbound;
    struct inbound_listener_settings *listeners;
    struct queue_settings queue;
    struct delivery_settings delivery;
    struct boot_routes routes;
    struct delivery_local *locals;
    struct bytes *
        own_names; /* the hostnames, and the addresses that mail comes in at or leaves from: mail for them would loop */
    struct mx_address *own_addresses;
    struct resolver_settings resolver;
    struct event_log_settings events;
};

/* NULL without memory. */
struct boot_settings *boot_settings_new(const struct settings *settings);
void boot_settings_free(struct boot_settings *boot);

#endif
