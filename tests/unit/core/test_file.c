#include "core/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[PATH_MAX];
static char path[PATH_MAX + 8];

static int setup(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/test_file.XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(directory)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/file", directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_reads_a_file_that_fits(void **state)
{
    (void)state;
    char data[8];
    struct buffer out = buffer_of(data, sizeof data);
    assert_int_equal(file_read(path, &out), -ENOENT);
    write_file("");
    assert_int_equal(file_read(path, &out), 0);
    assert_int_equal(out.length, 0);
    write_file("12345678");
    assert_int_equal(file_read(path, &out), 0);
    assert_true(bytes_equal(buffer_bytes(&out), BYTES("12345678")));
    out.length = 0;
    write_file("123456789");
    assert_int_equal(file_read(path, &out), -EFBIG);
    assert_int_equal(out.length, 0);
    assert_int_equal(file_read(directory, &out), -EISDIR);
}

static void test_a_lock_is_held_once(void **state)
{
    (void)state;
    char data[32];
    char expected[32];
    struct buffer out = buffer_of(data, sizeof data);
    int fd = -1;
    int second = -1;
    write_file("12345678901\n"); /* what a dead process left */
    assert_int_equal(file_lock(path, &fd), 0);
    snprintf(expected, sizeof expected, "%d\n", (int)getpid());
    assert_int_equal(file_read(path, &out), 0);
    assert_true(bytes_equal(buffer_bytes(&out), bytes_of_string(expected)));
    assert_int_equal(file_lock(path, &second), -EWOULDBLOCK);
    assert_int_equal(second, -1);
    close(fd);
    assert_int_equal(file_lock(path, &second), 0);
    close(second);
}

static void test_syncs_directories_only(void **state)
{
    (void)state;
    assert_int_equal(file_sync_directory(directory), 0);
    write_file("");
    assert_int_equal(file_sync_directory(path), -ENOTDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_a_file_that_fits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_lock_is_held_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_syncs_directories_only, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
