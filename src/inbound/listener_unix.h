/* Listening on a unix socket: the file, and whose it is. */
#ifndef INBOUND_LISTENER_UNIX_H
#define INBOUND_LISTENER_UNIX_H

#include "core/config.h"

/* Binds the socket. A file that nobody listens on any more, left by a crash, is replaced; anything else is not. `mode`
 * is octal, `owner` "user", "user:group" or "". 0 or -errno: -EADDRINUSE when somebody listens there, -EINVAL for a
 * user or group that does not exist. */
int listener_unix_bind(int fd, const struct config_endpoint *endpoint, const char *mode, const char *owner);

/* Removes the file of a bound unix socket; harmless for any other socket. */
void listener_unix_remove(int fd);

#endif
