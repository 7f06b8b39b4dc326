#include "app/sandbox_user.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CAPABILITIES_MAX 64

static int set_capabilities(uint64_t set)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)set, .permitted = (uint32_t)set},
        {.effective = (uint32_t)(set >> 32), .permitted = (uint32_t)(set >> 32)},
    };
    return syscall(SYS_capset, &header, data) == 0 ? 0 : -errno;
}

bool sandbox_user_has_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    return syscall(SYS_capget, &header, data) == 0 && (data[0].permitted | data[1].permitted) != 0;
}

int sandbox_user_drop_capabilities(void)
{
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return set_capabilities(0);
}

int sandbox_user_no_new_privileges(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : -errno;
}

unsigned sandbox_user_first_free_port(void)
{
    unsigned port = 1024;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    if (file != NULL) {
        if (fscanf(file, "%u", &port) != 1) {
            port = 1024;
        }
        fclose(file);
    }
    return port;
}

/* Nothing below can be undone: root's id is nowhere left, not even as the saved one. */
static int change(const struct passwd *user, bool bind)
{
    uint64_t bind_bit = UINT64_C(1) << CAP_NET_BIND_SERVICE;
    for (unsigned capability = 0; capability < CAPABILITIES_MAX; capability++) {
        if (capability != CAP_NET_BIND_SERVICE || !bind) {
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); /* the kernel says which it does not know */
        }
    }
    if (initgroups(user->pw_name, user->pw_gid) != 0 || setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
        prctl(PR_SET_KEEPCAPS, bind ? 1 : 0, 0, 0, 0) != 0 ||
        setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0) {
        return -errno;
    }
    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    int error = set_capabilities(bind ? bind_bit : 0);
    return error == 0 && setresuid((uid_t)-1, 0, (uid_t)-1) == 0 ? -EPERM : error;
}

int sandbox_user_become(const char *name, bool bind, char *reason, size_t reason_size)
{
    errno = 0;
    const struct passwd *user = getpwnam(name);
    if (user == NULL) {
        snprintf(reason, reason_size, "there is no user %s", name);
        return -ENOENT;
    }
    if (geteuid() == user->pw_uid) {
        return 0;
    }
    if (geteuid() != 0) {
        snprintf(reason, reason_size, "only root can become %s", name);
        return -EPERM;
    }
    int error = change(user, bind);
    if (error != 0) {
        snprintf(reason, reason_size, "cannot become %s: %s", name, strerror(-error));
    }
    return error;
}
