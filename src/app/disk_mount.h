/* Which file system a path is on, what it is mounted with, and what a spool should know about it. */
#ifndef APP_DISK_MOUNT_H
#define APP_DISK_MOUNT_H

#include <stdbool.h>

#include "base/bytes.h"

struct disk_mount {
    char place[256];   /* where it is mounted */
    char type[64];     /* "ext4" */
    char source[256];  /* "/dev/sda1" */
    char options[512]; /* of the mount and of the file system, separated by commas */
};

/* Finds the mount of an absolute path without links in the text of /proc/self/mountinfo: the last one among those with
 * the longest place. False when there is none. */
bool disk_mount_find(struct bytes mountinfo, const char *path, struct disk_mount *ret_mount);

/* Is that option there, as a whole ("barrier=0") ? */
bool disk_mount_has(const struct disk_mount *mount, const char *option);

/* Calls `warn` with each thing that lowers what a 250 is worth there, or its speed, and `note` with what is to be
 * known. One line each. */
void disk_mount_judge(const struct disk_mount *mount, void (*warn)(const char *text), void (*note)(const char *text));

#endif
