/* `ringpost check --disk`. */
#ifndef APP_CLI_DISK_H
#define APP_CLI_DISK_H

#include <stdbool.h>

/* Tells about the disk below the directory and measures its syncs. Returns the exit code. */
int cli_disk_check(const char *directory, bool strict);

#endif
