/* config.c's other half: walking libconfig's settings against the tables. Nobody else includes this. */
#ifndef CORE_CONFIG_READ_H
#define CORE_CONFIG_READ_H

#include <stdarg.h>

#include "core/config.h"

struct config_setting_t; /* libconfig's */

/* Sets the fields of all keys that the group has, and reports what is wrong or missing. */
void config_read_group(struct config *config, const struct config_setting_t *group, const struct config_key *keys,
                       void *target);

/* Sets the fields of all keys that have a default. */
void config_read_defaults(struct config *config, const struct config_key *keys, void *target);

/* Reports an error at the line of a setting. */
void config_read_error(struct config *config, const struct config_setting_t *at, const char *format, va_list arguments);

#endif
