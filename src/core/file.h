/* Small helpers for boot and control. They block, so they are not for a shard's loop (core/ring.h is). */
#ifndef CORE_FILE_H
#define CORE_FILE_H

/* Makes a directory and those above it that are missing, with `mode`, and makes their names durable. 0 or -errno; 0
 * when it is there already. */
int file_make_directories(const char *path, unsigned mode);

#endif
