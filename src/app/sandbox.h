/* What the server gives up so that a flaw in it is worth little: the user root, capabilities, new privileges, files
 * (Landlock) and system calls (seccomp). The essay is in sandbox.c. */
#ifndef APP_SANDBOX_H
#define APP_SANDBOX_H

#include <stdio.h>

#include "app/settings.h"

enum sandbox_mode { SANDBOX_AUTO, SANDBOX_OFF, SANDBOX_REQUIRED }; /* in the order of the key's choices */

/* Each says "yes" with what, or "no" and why; for the log and `ringpost check`. */
struct sandbox_state {
    bool user_done, files_done, calls_done, capabilities_done;
    char user[96];
    char files[96];
    char calls[96];
    char capabilities[96];
    struct sandbox_paths *paths; /* those left open; NULL: all */
};

/* On the main thread while it is the only one: changes the user. False: it has to, and cannot; said in the log. Before
 * any file or directory is made. */
bool sandbox_enter(const struct settings *settings, struct sandbox_state *state);

/* Still the only thread; the directories that the server writes to exist. False: required, and not to be had. */
bool sandbox_close_files(const struct settings *settings, struct sandbox_state *state);

/* May this process read and write what `next` names? Each path that it may not goes to the log. For reloads: what was
 * closed stays closed. */
bool sandbox_covers(const struct sandbox_state *state, const struct settings *next);
void sandbox_end(struct sandbox_state *state); /* frees what it keeps; the sandbox stays */

/* The rings exist, listeners are bound: drops capabilities of the calling thread (the shards do the same by
 * sandbox_drop_capabilities), and restricts system calls of all threads. Then logs what is active. */
bool sandbox_seal(const struct settings *settings, struct sandbox_state *state);

/* Of the calling thread, all of them; unless it is root's. */
void sandbox_drop_capabilities(void);

/* What sandbox_enter and the others would do here, without doing it. */
void sandbox_foresee(const struct settings *settings, struct sandbox_state *ret_state);

#endif
