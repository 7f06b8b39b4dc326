/* The keys of a listener's `rates`: one group per scope, one limit per kind in it. */
#include "core/config.h"
#include "inbound/rate.h"

extern const struct config_key settings_rates_keys[]; /* declared in app/settings.h as well */

#define RATE(scope, name, kind)                                                                                      \
    {                                                                                                                \
        name, CONFIG_RATE, 0, offsetof(struct rate_limits, of[scope][kind]), sizeof(struct config_rate), 0, 0, 0, 0, \
            0, "\"off\"", NULL, NULL, NULL, NULL                                                                     \
    }
#define AFTER_AUTH(scope)                                                               \
    RATE(scope, "messages", RATE_MESSAGES), RATE(scope, "recipients", RATE_RECIPIENTS), \
        RATE(scope, "bytes", RATE_BYTES), RATE(scope, "errors", RATE_ERRORS),           \
    {                                                                                   \
        .name = NULL                                                                    \
    }

static const struct config_key address_keys[] = {RATE(RATE_ADDRESS, "connections", RATE_CONNECTIONS),
                                                 AFTER_AUTH(RATE_ADDRESS)};
static const struct config_key network_keys[] = {RATE(RATE_NETWORK, "connections", RATE_CONNECTIONS),
                                                 AFTER_AUTH(RATE_NETWORK)};
static const struct config_key account_keys[] = {AFTER_AUTH(RATE_ACCOUNT)}; /* connections come before AUTH */
static const struct config_key listener_keys[] = {RATE(RATE_LISTENER, "connections", RATE_CONNECTIONS),
                                                  AFTER_AUTH(RATE_LISTENER)};

const struct config_key settings_rates_keys[] = {
    {.name = "address", .type = CONFIG_GROUP, .keys = address_keys},
    {.name = "network", .type = CONFIG_GROUP, .keys = network_keys},
    {.name = "account", .type = CONFIG_GROUP, .keys = account_keys},
    {.name = "listener", .type = CONFIG_GROUP, .keys = listener_keys},
    {.name = NULL},
};
