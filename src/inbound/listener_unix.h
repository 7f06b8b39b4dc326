/* Listening on a unix socket: the file, and whose it is. */
#ifndef INBOUND_LISTENER_UNIX_H
#define INBOUND_LISTENER_UNIX_H

#include <sys/types.h>

#include "core/config.h"

/* Binds the socket. A file that nobody listens on any more, left by a crash, is replaced; anything else is not. `mode`
 * is octal, `owner` "user", "user:group" or "". 0 or -errno: -EADDRINUSE when somebody listens there, -EINVAL for a
 * user or group that does not exist. */
int listener_unix_bind(int fd, const struct config_endpoint *endpoint, const char *mode, const char *owner);

/* Whose "user", "user:group", ":group" or "" is, (uid_t)-1 and (gid_t)-1 for what is not said. 0, or -EINVAL when there
 * is no such user or group. */
int listener_unix_owner(const char *owner, uid_t *ret_user, gid_t *ret_group);

/* Removes the file of a bound unix socket; harmless for any other socket. */
void listener_unix_remove(int fd);

#endif
