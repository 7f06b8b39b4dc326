/* `ringpost spool quarantine`, `drop` and `forget`: these ask the running server. */
#ifndef APP_CLI_QUARANTINE_H
#define APP_CLI_QUARANTINE_H

#include <stdbool.h>

/* Each returns the exit code. */
int cli_quarantine_list(const char *socket_path);
/* `id`: 16 hexadecimal digits; NULL: all. */
int cli_quarantine_drop(const char *socket_path, const char *id);
int cli_quarantine_forget(const char *socket_path);

#endif
