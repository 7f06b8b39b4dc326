#include "inbound/listener_unix.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool is_stale(const struct sockaddr_un *address)
{
    struct stat facts;
    if (lstat(address->sun_path, &facts) != 0 || !S_ISSOCK(facts.st_mode)) {
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
                 errno == ECONNREFUSED;
    if (fd >= 0) {
        close(fd);
    }
    return stale;
}

/* Runs before shards serve; nobody else asks the user database then. */
int listener_unix_owner(const char *owner, uid_t *ret_user, gid_t *ret_group)
{
    char user[65];
    size_t length = strcspn(owner, ":");
    *ret_user = (uid_t)-1;
    *ret_group = (gid_t)-1;
    if (length >= sizeof user) {
        return -EINVAL;
    }
    memcpy(user, owner, length);
    user[length] = '\0';
    const struct passwd *account = length != 0 ? getpwnam(user) : NULL;
    const struct group *group = owner[length] == ':' ? getgrnam(owner + length + 1) : NULL;
    if ((length != 0 && account == NULL) || (owner[length] == ':' && group == NULL)) {
        return -EINVAL;
    }
    if (account != NULL) {
        *ret_user = account->pw_uid;
    }
    if (group != NULL) {
        *ret_group = group->gr_gid;
    }
    return 0;
}

int listener_unix_bind(int fd, const struct config_endpoint *endpoint, const char *mode, const char *owner)
{
    const struct sockaddr_un *address = (const struct sockaddr_un *)(const void *)&endpoint->address;
    uid_t user;
    gid_t group;
    int error = listener_unix_owner(owner, &user, &group);
    if (error != 0) {
        return error;
    }
    if (is_stale(address)) {
        unlink(address->sun_path);
    }
    /* The file gets the socket's own mode, so that nobody connects between bind and chmod. Not by umask: that is the
     * whole process's, and other shards make their spools meanwhile. */
    bool bound = fchmod(fd, 0600) == 0 && bind(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    error = bound ? 0 : -errno;
    if (bound &&
        (chown(address->sun_path, user, group) != 0 || chmod(address->sun_path, (mode_t)strtoul(mode, NULL, 8)) != 0)) {
        error = -errno;
        unlink(address->sun_path);
    }
    return error;
}

void listener_unix_remove(int fd)
{
    struct sockaddr_un address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) == 0 && address.sun_family == AF_UNIX) {
        unlink(address.sun_path);
    }
}
