/* From inside: a child gives things up, tries what it must not do, and says by its exit code how far it came. */
#include "app/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/sandbox_calls.h"
#include "app/sandbox_files.h"
#include "app/sandbox_user.h"
#include "core/ring.h"

/* In a child: what does not hold ends it with the line as the exit code. */
#define HOLDS(x)                       \
    do {                               \
        if (!(x)) {                    \
            _exit(__LINE__ % 250 + 1); \
        }                              \
    } while (0)

/* The wait status of a child that runs the function. */
static int in_child(void (*run)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        run();
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

#define assert_good_child(run)                                                          \
    do {                                                                                \
        int status = in_child(run);                                                     \
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {                           \
            fail_msg("status %#x: line %% 250 is %d", status, WEXITSTATUS(status) - 1); \
        }                                                                               \
    } while (0)

#define assert_killed(run)                                              \
    do {                                                                \
        int status = in_child(run);                                     \
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS); \
    } while (0)

static char allowed[] = "/tmp/test_sandbox.allowed.XXXXXX";
static char forbidden[] = "/tmp/test_sandbox.forbidden.XXXXXX";
static char path[128];

static const char *in(const char *directory, const char *name)
{
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int make_directories(void **state)
{
    (void)state;
    if (mkdtemp(allowed) == NULL || mkdtemp(forbidden) == NULL) {
        return -1;
    }
    int file = open(in(forbidden, "file"), O_CREAT | O_WRONLY, 0666);
    return close(file);
}

static int remove_directories(void **state)
{
    (void)state;
    unlink(in(forbidden, "file"));
    rmdir(forbidden);
    unlink(in(allowed, "file"));
    rmdir(in(allowed, "directory"));
    return rmdir(allowed);
}

static bool is_denied(int result, int error)
{
    return result < 0 && errno == error;
}

/* --- files ---------------------------------------------------------------------------------------------------- */

static void close_files(void)
{
    int rules = sandbox_files_begin();
    HOLDS(rules >= 0);
    HOLDS(sandbox_files_allow(rules, allowed, SANDBOX_FILES_WRITE) == 0);
    HOLDS(sandbox_files_allow(rules, "/usr", SANDBOX_FILES_READ) == 0);
    HOLDS(sandbox_files_allow(rules, "/dev/null", SANDBOX_FILES_WRITE) == 0);
    HOLDS(sandbox_files_allow(rules, "/nonexistent", SANDBOX_FILES_WRITE) == 0);
    HOLDS(sandbox_user_no_new_privileges() == 0);
    HOLDS(sandbox_files_enforce(rules) == 0);
}

static void use_files(void)
{
    close_files();
    char other[128];
    int file = open(in(allowed, "new"), O_CREAT | O_RDWR, 0666);
    HOLDS(file >= 0 && write(file, "x", 1) == 1 && ftruncate(file, 0) == 0);
    HOLDS(mkdir(in(allowed, "directory"), 0700) == 0);
    snprintf(other, sizeof other, "%s/directory/moved", allowed);
    HOLDS(rename(in(allowed, "new"), other) == 0); /* from one directory to another */
    HOLDS(unlink(other) == 0 && rmdir(in(allowed, "directory")) == 0);
    HOLDS(open("/dev/null", O_RDWR) >= 0);
    HOLDS(open("/usr", O_RDONLY | O_DIRECTORY) >= 0);
    HOLDS(is_denied(open("/usr/x", O_CREAT | O_WRONLY, 0666), EACCES));
    HOLDS(is_denied(open(in(forbidden, "file"), O_RDONLY), EACCES));
    HOLDS(is_denied(open(in(forbidden, "file"), O_WRONLY), EACCES));
    HOLDS(is_denied(open(in(forbidden, "new"), O_CREAT | O_WRONLY, 0666), EACCES));
    HOLDS(is_denied(unlink(in(forbidden, "file")), EACCES));
    HOLDS(is_denied(truncate(in(forbidden, "file"), 0), EACCES));
    HOLDS(is_denied(open("/etc/passwd", O_RDONLY), EACCES));
    HOLDS(is_denied(execl("/usr/bin/true", "true", NULL), EACCES));
    HOLDS(is_denied(kill(getppid(), 0), EPERM) || sandbox_files_version() < 6);
}

static void test_files(void **state)
{
    (void)state;
    if (sandbox_files_version() == 0) {
        skip();
    }
    assert_good_child(use_files);
}

struct opening {
    struct op op;
    int result;
};

static void opened(struct op *op, int result, uint32_t flags)
{
    (void)flags;
    CONTAINER_OF(op, struct opening, op)->result = result;
}

static int open_by_ring(struct ring *ring, const char *name, int flags)
{
    struct opening opening = {.op = {.done = opened}};
    ring_openat(ring, &opening.op, AT_FDCWD, name, flags, 0600);
    while (opening.op.in_flight) {
        HOLDS(ring_enter(ring, UINT64_MAX) == 0);
        ring_run(ring);
    }
    return opening.result;
}

/* Operations of a ring are bound as well, whoever carries them out. */
static void use_ring(void)
{
    struct ring_settings settings = {.entries = 16, .receive_buffers = 4, .receive_buffer_bytes = 512};
    struct ring *ring = NULL;
    char reason[256];
    close_files();
    HOLDS(ring_new(&settings, &ring, reason, sizeof reason) == 0);
    HOLDS(open_by_ring(ring, in(allowed, "file"), O_CREAT | O_WRONLY) >= 0);
    HOLDS(open_by_ring(ring, in(forbidden, "file"), O_RDONLY) == -EACCES);
    HOLDS(open_by_ring(ring, in(forbidden, "new"), O_CREAT | O_WRONLY) == -EACCES);
    HOLDS(open_by_ring(ring, "/etc/passwd", O_RDONLY) == -EACCES);
}

static void test_ring_operations(void **state)
{
    (void)state;
    if (sandbox_files_version() == 0) {
        skip();
    }
    assert_good_child(use_ring);
}

/* --- system calls --------------------------------------------------------------------------------------------- */

static void *make_socket(void *argument)
{
    bool *may = argument;
    while (!*(volatile bool *)may) {
        usleep(1000);
    }
    int result = socket(AF_PACKET, SOCK_RAW, 0);
    *may = result >= 0 || errno != EPERM;
    return NULL;
}

static void use_calls(void)
{
    pthread_t before;
    pthread_t after;
    bool may = false;
    HOLDS(pthread_create(&before, NULL, make_socket, &may) == 0);
    HOLDS(sandbox_calls_restrict() == 0);
    may = true; /* of a thread that was there before */
    HOLDS(pthread_join(before, NULL) == 0 && !may);
    may = true;
    HOLDS(pthread_create(&after, NULL, make_socket, &may) == 0); /* threads can be made */
    HOLDS(pthread_join(after, NULL) == 0 && !may);
    HOLDS(is_denied(fork(), EPERM));
    HOLDS(is_denied(personality(ADDR_NO_RANDOMIZE), EPERM));
    HOLDS(is_denied((int)syscall(SYS_kill, getpid(), 0), EPERM));
    HOLDS(is_denied(symlink("a", in(allowed, "link")), EPERM));
    HOLDS(is_denied(mknod(in(allowed, "node"), S_IFIFO, 0), EPERM));
    HOLDS(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    HOLDS(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    HOLDS(memory != MAP_FAILED && is_denied(mprotect(memory, 4096, PROT_READ | PROT_EXEC), EPERM));
    HOLDS(mprotect(memory, 4096, PROT_READ) == 0);
    HOLDS(socket(AF_INET6, SOCK_STREAM, 0) >= 0 && socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
}

static void try_execve(void)
{
    HOLDS(sandbox_calls_restrict() == 0);
    execl("/usr/bin/true", "true", NULL);
}

static void try_ptrace(void)
{
    HOLDS(sandbox_calls_restrict() == 0);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void try_ring(void)
{
    char room[128] = {0};
    HOLDS(sandbox_calls_restrict() == 0);
    syscall(SYS_io_uring_setup, 4, room);
}

static void try_setuid(void)
{
    HOLDS(sandbox_calls_restrict() == 0);
    syscall(SYS_setuid, 0);
}

static void test_calls(void **state)
{
    (void)state;
    if (!sandbox_calls_possible()) {
        skip();
    }
    assert_good_child(use_calls);
    assert_killed(try_execve);
    assert_killed(try_ptrace);
    assert_killed(try_ring);
    assert_killed(try_setuid);
}

/* --- the user ------------------------------------------------------------------------------------------------- */

static int bind_port(unsigned port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    HOLDS(fd >= 0);
    int result = bind(fd, (const struct sockaddr *)&address, sizeof address);
    return result == 0 || errno == EADDRINUSE ? 0 : -errno;
}

static void become_nobody(void)
{
    char reason[160];
    HOLDS(sandbox_user_become("nobody", true, reason, sizeof reason) == 0);
    HOLDS(geteuid() != 0 && getuid() != 0 && getegid() != 0 && getgroups(0, NULL) <= 1);
    HOLDS(setuid(0) != 0 && seteuid(0) != 0 && setgid(0) != 0);
    HOLDS(is_denied(open("/etc/shadow", O_RDONLY), EACCES));
    HOLDS(sandbox_user_has_capabilities() && bind_port(597) == 0);
    HOLDS(sandbox_user_drop_capabilities() == 0 && !sandbox_user_has_capabilities());
    HOLDS(bind_port(598) == -EACCES || sandbox_user_first_free_port() <= 598);
}

static void become_nobody_at_once(void)
{
    char reason[160];
    HOLDS(sandbox_user_become("nobody", false, reason, sizeof reason) == 0 && !sandbox_user_has_capabilities());
    HOLDS(bind_port(598) == -EACCES || sandbox_user_first_free_port() <= 598);
    HOLDS(sandbox_user_become("nobody", true, reason, sizeof reason) == 0); /* which it is */
    HOLDS(sandbox_user_become("root", true, reason, sizeof reason) == -EPERM);
    HOLDS(strcmp(reason, "only root can become root") == 0);
}

static void test_user(void **state)
{
    char reason[160];
    (void)state;
    assert_int_equal(sandbox_user_become("no-such-user", false, reason, sizeof reason), -ENOENT);
    assert_string_equal(reason, "there is no user no-such-user");
    if (geteuid() != 0) {
        skip();
    }
    assert_good_child(become_nobody);
    assert_good_child(become_nobody_at_once);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_ring_operations),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_user),
    };
    return cmocka_run_group_tests(tests, make_directories, remove_directories);
}
