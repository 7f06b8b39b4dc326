#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

static int read_all(int fd, struct buffer *out)
{
    size_t start = out->length;
    while (buffer_room(out) != 0) {
        ssize_t n = read(fd, out->data + out->length, buffer_room(out));
        if (n == 0) {
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            int error = -errno;
            out->length = start;
            return error;
        }
        out->length += n > 0 ? (size_t)n : 0;
    }
    char more;
    ssize_t n = read(fd, &more, 1);
    if (n != 0) {
        out->length = start;
    }
    return n == 0 ? 0 : n > 0 ? -EFBIG : -errno;
}

int file_read(const char *path, struct buffer *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int result = read_all(fd, out);
    close(fd);
    return result;
}

static int write_process_id(int fd)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0) {
        return -errno;
    }
    ssize_t n = pwrite(fd, text, (size_t)length, 0);
    return n == length ? 0 : n < 0 ? -errno : -EIO;
}

int file_lock(const char *path, int *ret_fd)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        return -errno;
    }
    int result = flock(fd, LOCK_EX | LOCK_NB) == 0 ? write_process_id(fd) : -errno;
    if (result != 0) {
        close(fd);
        return result;
    }
    *ret_fd = fd;
    return 0;
}

int file_sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int result = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return result;
}
