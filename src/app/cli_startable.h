/* What keeps the server from starting on this machine although its configuration is right. */
#ifndef APP_CLI_STARTABLE_H
#define APP_CLI_STARTABLE_H

#include "app/settings.h"

/* Calls `problem` with one line for each: certificates and keys, accounts, users and groups that do not exist, ports
 * that nobody may open any more when the server has given root up. Only what is so whoever runs the check. */
void cli_startable(const struct settings *settings, void (*problem)(void *context, const char *line), void *context);

#endif
