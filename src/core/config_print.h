/* A filled struct back into a configuration file's text, and the differences between two. */
#ifndef CORE_CONFIG_PRINT_H
#define CORE_CONFIG_PRINT_H

#include <stdbool.h>
#include <stdio.h>

#include "core/config.h"

/* Every key with its value, in the file's syntax: reading it gives the same struct. */
void config_print(const struct config_key *keys, const void *group, FILE *out);

/* Calls `change` for every key whose value differs, with its path, whether the row says CONFIG_RESTART, and both values
 * as the file has them. Items of a list are told apart by the text of their CONFIG_NAME key, not by their place; one
 * that is in only one of the two is reported as a whole, "" standing for its absence. Returns how many need a restart.
 */
typedef void config_change(void *context, const char *path, bool restart, const char *from, const char *to);
unsigned config_print_differences(const struct config_key *keys, const void *old, const void *new,
                                  config_change *change, void *context);

#endif
