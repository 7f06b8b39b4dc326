/* `ringpost check`: do the mail filters answer? */
#ifndef APP_CLI_MILTERS_H
#define APP_CLI_MILTERS_H

#include "app/settings.h"

/* Asks each for its options, for two seconds at most, and prints a line for each that answers; `problem` gets one for
 * each that does not. */
void cli_milters_check(const struct settings *settings, void (*problem)(const char *line));

#endif
