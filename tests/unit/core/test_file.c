#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void makes_what_is_missing(void **state)
{
    char top[] = "/tmp/test_file_XXXXXX";
    char path[64];
    struct stat status;
    (void)state;
    assert_non_null(mkdtemp(top));
    snprintf(path, sizeof path, "%s/a/b/c", top);
    assert_int_equal(file_make_directories(path, 0750), 0);
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISDIR(status.st_mode));
    assert_int_equal(status.st_mode & 027, 0);
    assert_int_equal(file_make_directories(path, 0750), 0);
    for (const char *part[] = {"a/b/c", "a/b", "a", "."}, **at = part; at < part + 4; at++) {
        snprintf(path, sizeof path, "%s/%s", top, *at);
        if (**at != '.') {
            assert_int_equal(rmdir(path), 0);
        }
    }
    assert_int_equal(rmdir(top), 0);
}

static void says_what_is_in_the_way(void **state)
{
    char file[] = "/tmp/test_file_XXXXXX";
    char path[64];
    (void)state;
    int fd = mkstemp(file);
    assert_true(fd >= 0);
    snprintf(path, sizeof path, "%s/a", file);
    assert_int_equal(file_make_directories(path, 0750), -ENOTDIR);
    assert_int_equal(file_make_directories(file, 0750), -ENOTDIR);
    close(fd);
    unlink(file);
    assert_int_equal(file_make_directories("", 0750), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_what_is_missing),
        cmocka_unit_test(says_what_is_in_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
