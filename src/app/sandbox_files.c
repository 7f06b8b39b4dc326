/* Landlock binds what is named by a path when it is named: descriptors that are open stay as they are. It binds the
 * operations of a ring as well, because they run with the credentials of the thread that made them, and the domain is
 * part of those.
 *
 * A rule hangs on the inode that its path leads to now. A file that is replaced by renaming (a certificate, the
 * password file, resolv.conf) is another inode then; so rules are for directories, never for single files.
 *
 * Constants are our own, because the header of the oldest system that we build on knows only the first version.
 */
#include "app/sandbox_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES_EXECUTE (1ull << 0)
#define FILES_WRITE_FILE (1ull << 1)
#define FILES_READ_FILE (1ull << 2)
#define FILES_READ_DIR (1ull << 3)
#define FILES_REMOVE_DIR (1ull << 4)
#define FILES_REMOVE_FILE (1ull << 5)
#define FILES_MAKE_DIR (1ull << 7)
#define FILES_MAKE_REG (1ull << 8)
#define FILES_MAKE_SOCK (1ull << 9)
#define FILES_ALL_1 ((1ull << 13) - 1)
#define FILES_REFER (1ull << 13)     /* version 2: rename between directories */
#define FILES_TRUNCATE (1ull << 14)  /* version 3 */
#define FILES_IOCTL_DEV (1ull << 15) /* version 5 */
#define SCOPE_SIGNAL (1ull << 1)     /* version 6: no signals to processes outside */

#define RULE_PATH_BENEATH 1
#define CREATE_VERSION 1u

struct ruleset {
    uint64_t handled_files;
    uint64_t handled_network;
    uint64_t scoped;
};

struct path_rule {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

int sandbox_files_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
    return version > 0 ? (int)version : 0;
}

static uint64_t handled(int version)
{
    return FILES_ALL_1 | (version >= 2 ? FILES_REFER : 0) | (version >= 3 ? FILES_TRUNCATE : 0) |
           (version >= 5 ? FILES_IOCTL_DEV : 0);
}

int sandbox_files_begin(void)
{
    int version = sandbox_files_version();
    struct ruleset ruleset = {.handled_files = handled(version), .scoped = version >= 6 ? SCOPE_SIGNAL : 0};
    size_t size = version >= 6 ? sizeof ruleset : version >= 4 ? 16 : 8; /* as each version knows it */
    if (version == 0) {
        return -EOPNOTSUPP;
    }
    long rules = syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
    return rules >= 0 ? (int)rules : -errno;
}

int sandbox_files_allow(int rules, const char *path, enum sandbox_files_access access)
{
    struct stat found;
    uint64_t allowed = FILES_READ_FILE | FILES_READ_DIR;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -errno;
    }
    if (access == SANDBOX_FILES_WRITE) {
        allowed |= FILES_WRITE_FILE | FILES_REMOVE_DIR | FILES_REMOVE_FILE | FILES_MAKE_DIR | FILES_MAKE_REG |
                   FILES_MAKE_SOCK | FILES_REFER | FILES_TRUNCATE;
    }
    if (fstat(fd, &found) == 0 && !S_ISDIR(found.st_mode)) {
        allowed &= FILES_READ_FILE | FILES_WRITE_FILE | FILES_TRUNCATE; /* what a file that is no directory can have */
    }
    struct path_rule rule = {.allowed = allowed & handled(sandbox_files_version()), .parent = fd};
    int error = syscall(SYS_landlock_add_rule, rules, RULE_PATH_BENEATH, &rule, 0) == 0 ? 0 : -errno;
    close(fd);
    return error;
}

int sandbox_files_enforce(int rules)
{
    int error = syscall(SYS_landlock_restrict_self, rules, 0) == 0 ? 0 : -errno;
    close(rules);
    return error;
}
