#include "inbound/listener_unix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char directory[] = "/tmp/ringpost-unix-XXXXXX";
static _Atomic bool done;

static void bind_and_check(unsigned mode)
{
    struct config_endpoint endpoint = {.length = sizeof(struct sockaddr_un)};
    struct sockaddr_un *address = (struct sockaddr_un *)(void *)&endpoint.address;
    char text[8];
    struct stat facts;
    address->sun_family = AF_UNIX;
    snprintf(address->sun_path, sizeof address->sun_path, "%s/socket", directory);
    snprintf(text, sizeof text, "%04o", mode);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(listener_unix_bind(fd, &endpoint, text, ""), 0);
    assert_int_equal(stat(address->sun_path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, mode);
    listener_unix_remove(fd);
    assert_int_equal(stat(address->sun_path, &facts), -1);
    close(fd);
}

static void test_mode(void **state)
{
    (void)state;
    bind_and_check(0600);
    bind_and_check(0666);
}

/* As a shard that makes its spool while another one binds. */
static void *make_directories(void *wrong)
{
    char path[64];
    struct stat facts;
    snprintf(path, sizeof path, "%s/spool", directory);
    while (!done) {
        if (mkdir(path, 0750) != 0 || stat(path, &facts) != 0 || (facts.st_mode & 07777) != 0750 || rmdir(path) != 0) {
            *(_Atomic bool *)wrong = true;
            return NULL;
        }
    }
    return NULL;
}

/* What listener_unix_bind relies on: the kernel takes the file's mode from the socket. */
static void test_socket_mode_is_the_files(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat facts;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/bare", directory);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(fchmod(fd, 0600), 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(stat(address.sun_path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    unlink(address.sun_path);
    close(fd);
}

static void test_what_others_make_keeps_its_mode(void **state)
{
    (void)state;
    static _Atomic bool wrong;
    pthread_t thread;
    umask(0022);
    assert_int_equal(pthread_create(&thread, NULL, make_directories, &wrong), 0);
    for (unsigned i = 0; i < 2000 && !wrong; i++) {
        bind_and_check(0660);
    }
    done = true;
    pthread_join(thread, NULL);
    assert_false(wrong);
}

int main(void)
{
    if (mkdtemp(directory) == NULL) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mode),
        cmocka_unit_test(test_socket_mode_is_the_files),
        cmocka_unit_test(test_what_others_make_keeps_its_mode),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char path[64];
    snprintf(path, sizeof path, "%s/spool", directory);
    rmdir(path);
    rmdir(directory);
    return failed;
}
