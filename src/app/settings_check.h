/* What a single text value of the configuration must look like, and what the values must be to each other. */
#ifndef APP_SETTINGS_CHECK_H
#define APP_SETTINGS_CHECK_H

#include <stdbool.h>

#include "app/settings.h"
#include "core/config_value.h"

bool settings_check_path(const char *text);         /* absolute, no ".." */
bool settings_check_name(const char *text);         /* fit for a metric's label and a log line */
bool settings_check_mode(const char *text);         /* permissions in octal */
bool settings_check_address(const char *text);      /* an IP address, with or without port, or "unix:/path" */
bool settings_check_pattern(const char *text);      /* a route's domain */
bool settings_check_server_names(const char *text); /* host names or "*.domain", one space between two */
bool settings_check_next_hop(const char *text);

/* Takes a next hop apart; host is lower case and at most `size` - 1 octets. *ret_port is 0 when none is written. */
bool settings_check_split_hop(const char *text, enum settings_next_hop *ret_hop, char *ret_host, size_t size,
                              unsigned *ret_port);

/* Reports every contradiction between values that are each valid. */
void settings_check_all(const struct settings *settings);

/* The same for routes, which are complete only later. */
void settings_check_routes(const struct settings *settings);

#endif
