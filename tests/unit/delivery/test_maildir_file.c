#include "delivery/maildir_file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

/* A ring that does each operation at once, until the power fails. */
static unsigned operations;
static unsigned operations_max;

static bool powered(void)
{
    return operations++ < operations_max;
}

static void complete(struct op *op, long result)
{
    op->done(op, result < 0 ? -errno : (int)result, 0);
}

void ring_openat(struct ring *ring, struct op *op, int directory, const char *path, int flags, unsigned mode)
{
    (void)ring;
    if (powered()) {
        complete(op, openat(directory, path, flags, mode));
    }
}

void ring_mkdirat(struct ring *ring, struct op *op, int directory, const char *path, unsigned mode)
{
    (void)ring;
    if (powered()) {
        complete(op, mkdirat(directory, path, mode));
    }
}

void ring_fsync(struct ring *ring, struct op *op, int fd, bool data_only)
{
    (void)ring;
    (void)data_only;
    if (powered()) {
        complete(op, fsync(fd));
    }
}

void ring_writev(struct ring *ring, struct op *op, int fd, const struct iovec *pieces, unsigned count, uint64_t offset,
                 bool synced)
{
    (void)ring;
    (void)synced;
    if (powered()) {
        complete(op, pwritev(fd, pieces, (int)count, (off_t)offset));
    }
}

void ring_close(struct ring *ring, struct op *op, int fd)
{
    (void)ring;
    close(fd); /* a process that ends closes it as well */
    if (powered()) {
        complete(op, 0);
    }
}

void ring_renameat(struct ring *ring, struct op *op, int directory, const char *from, const char *to)
{
    (void)ring;
    if (powered()) {
        complete(op, renameat(directory, from, directory, to));
    }
}

void ring_unlinkat(struct ring *ring, struct op *op, int directory, const char *path)
{
    (void)ring;
    if (powered()) {
        complete(op, unlinkat(directory, path, 0));
    }
}

/* --- a delivery --------------------------------------------------------------------------------------------------- */

struct delivered {
    struct maildir_file file;
    bool filled;
    bool done;
    int error;
};

static void fill(struct maildir_file *file, struct buffer *out)
{
    struct delivered *delivered = CONTAINER_OF(file, struct delivered, file);
    assert_true(delivered->filled || buffer_append(out, BYTES("text\n")));
    delivered->filled = true;
}

static void done(struct maildir_file *file, int error)
{
    struct delivered *delivered = CONTAINER_OF(file, struct delivered, file);
    delivered->done = true;
    delivered->error = error;
}

/* False when the power failed before it was done. */
static bool deliver(const char *top, unsigned power)
{
    static struct delivered delivered;
    delivered = (struct delivered){.file = {.fill = fill, .done = done, .name = "name"}};
    snprintf(delivered.file.directory, sizeof delivered.file.directory, "%s/own.test/anna", top);
    operations = 0;
    operations_max = power;
    maildir_file_begin(&delivered.file);
    assert_int_equal(delivered.error, 0);
    return delivered.done;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static void test_the_power_fails_at_any_moment(void **state)
{
    (void)state;
    bool done_at_once = false;
    for (unsigned power = 0; !done_at_once; power++) {
        char top[] = "/tmp/test_maildir_XXXXXX";
        char path[128];
        struct stat status;
        assert_non_null(mkdtemp(top));
        done_at_once = deliver(top, power);
        assert_true(deliver(top, 1000));
        snprintf(path, sizeof path, "%s/own.test/anna/new/name", top);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_size, 5);
        snprintf(path, sizeof path, "%s/own.test/anna/tmp/name", top);
        assert_int_not_equal(stat(path, &status), 0);
        nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        assert_in_range(power, 0, 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_power_fails_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
