/* Putting the server together. */
#ifndef APP_BOOT_H
#define APP_BOOT_H

#include "app/settings.h"

/* Runs the server until it is told to stop. The settings stay the caller's; those of a reload are read from the same
 * path and are boot's own. Returns the exit code (enum cli_exit). */
int boot_serve(const struct settings *settings);

#endif
