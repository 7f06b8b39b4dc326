/* Who the process is, and what it may do besides. */
#ifndef APP_SANDBOX_USER_H
#define APP_SANDBOX_USER_H

#include <stdbool.h>
#include <stddef.h>

/* From root to the named user and its groups for good, keeping CAP_NET_BIND_SERVICE when `bind` (until
 * sandbox_user_drop_capabilities). The user we are already is fine. 0 or -errno with a reason: -EPERM we are neither
 * root nor the user, -ENOENT there is no such user. */
int sandbox_user_become(const char *name, bool bind, char *reason, size_t reason_size);

/* Of the calling thread: none is left, and none can be got. 0 or -errno. */
int sandbox_user_drop_capabilities(void);

/* Has the calling thread any? */
bool sandbox_user_has_capabilities(void);

/* No executable file gives any privileges any more, in this thread and those it makes. 0 or -errno. */
int sandbox_user_no_new_privileges(void);

/* Ports below this need CAP_NET_BIND_SERVICE. */
unsigned sandbox_user_first_free_port(void);

#endif
