/* `milters`: mail filters that listeners ask, and how each is reached. */
#ifndef APP_SETTINGS_MILTERS_H
#define APP_SETTINGS_MILTERS_H

#include "app/settings.h"

extern const struct config_key settings_milters_keys[]; /* of one item */

/* "unix:/path" or "inet:address:port", as Postfix has them. False for anything else. */
bool settings_milters_socket(const char *text, struct config_endpoint *ret_endpoint);

/* Finds each listener's filters among them. */
void settings_milters_complete(struct settings *settings);

#endif
