/* Small helpers for whole files, for boot and control. They block, so they are not for a
 * shard's loop (core/ring.h is). */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include <stddef.h>

#include "base/bytes.h"

/* Reads a whole file into `out`, which it must fit. 0, -EFBIG when it does not, or -errno. */
int file_read(const char *path, struct buffer *out);

/* Takes an exclusive lock that ends with the process, in a file that it creates and that then holds our process id.
 * The descriptor stays open as long as the lock is wanted. 0, -EWOULDBLOCK when another process holds it, or -errno. */
int file_lock(const char *path, int *ret_fd);

/* Makes creations, renames and removals in the directory durable. 0 or -errno. */
int file_sync_directory(const char *path);

#endif
