#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A name is durable once the directory that holds it is synced. */
static int sync_parent(const char *path)
{
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        snprintf(parent, sizeof parent, ".");
    } else {
        slash[slash == parent ? 1 : 0] = '\0';
    }
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int error = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return error;
}

static int make_one(const char *path, unsigned mode)
{
    if (mkdir(path, (mode_t)mode) == 0) {
        return sync_parent(path);
    }
    struct stat status;
    if (errno != EEXIST || stat(path, &status) != 0) {
        return -errno;
    }
    if (!S_ISDIR(status.st_mode)) {
        return -ENOTDIR;
    }
    /* Whoever made it may have died before the next line. Parents that we may not read are none of ours. */
    return sync_parent(path) == -EIO ? -EIO : 0;
}

int file_make_directories(const char *path, unsigned mode)
{
    char part[PATH_MAX];
    if (path[0] == '\0' || strlen(path) >= sizeof part) {
        return path[0] == '\0' ? -ENOENT : -ENAMETOOLONG;
    }
    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        int error = make_one(part, mode);
        if (error != 0) {
            return error;
        }
    }
    return make_one(path, mode);
}
