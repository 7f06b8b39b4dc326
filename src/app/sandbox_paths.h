/* Which directories the settings make the server touch. */
#ifndef APP_SANDBOX_PATHS_H
#define APP_SANDBOX_PATHS_H

#include "app/settings.h"

/* Calls `visit` for the spool, the events, and the directory of each file and socket; of links also where they lead to.
 * A directory comes as often as it is named. */
typedef void sandbox_paths_visitor(void *context, const char *path, bool write);
void sandbox_paths_visit(const struct settings *settings, sandbox_paths_visitor *visit, void *context);

/* All of them, and some more to read, to ask about others. NULL without memory. */
struct sandbox_paths;
struct sandbox_paths *sandbox_paths_new(const struct settings *settings, const char *const *more, size_t more_count);
void sandbox_paths_delete(struct sandbox_paths *paths);
/* Is the path one of them, or below one of them? What may be written may be read. */
bool sandbox_paths_hold(const struct sandbox_paths *paths, const char *path, bool write);

#endif
