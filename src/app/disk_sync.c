#include "app/disk_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/clock.h"

#define FILE_BYTES (16u << 20)
#define STEP_BYTES (1u << 20)
#define PREPARE_NS UINT64_C(1000000000) /* a slow disk gets a smaller file */
#define MEASURE_NS UINT64_C(950000000)
#define BATCHES_MAX 100000

static const uint32_t sizes[DISK_SYNC_SIZES] = {4 << 10, 16 << 10, 64 << 10, 1 << 20};

/* Allocated, then written: a later write changes data and no metadata. Returns its size, or -errno. */
static int64_t prepare(int fd, const char *data)
{
    uint64_t begun = clock_monotonic_ns();
    int64_t written = 0;
    if (fallocate(fd, 0, 0, FILE_BYTES) != 0 && errno != EOPNOTSUPP) {
        return -errno;
    }
    while (written < FILE_BYTES && (written == 0 || clock_monotonic_ns() - begun < PREPARE_NS)) {
        ssize_t n = pwrite(fd, data, STEP_BYTES, written);
        if (n != STEP_BYTES) {
            return n < 0 ? -errno : -ENOSPC;
        }
        written += n;
    }
    return fsync(fd) == 0 ? written : -errno;
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static int measure(int fd, char *data, uint32_t bytes, int64_t file_bytes, uint32_t *times,
                   struct disk_sync *ret_result)
{
    uint64_t begun = clock_monotonic_ns();
    uint64_t now = begun;
    int64_t offset = 0;
    uint32_t count = 0;
    struct iovec piece = {.iov_base = data, .iov_len = bytes};
    while (count == 0 || (now - begun < MEASURE_NS && count < BATCHES_MAX)) {
        memset(data, (int)(count & 0xff), 64); /* no two writes alike: some disks compare */
        if (pwritev2(fd, &piece, 1, offset, RWF_DSYNC) != (ssize_t)bytes) {
            return errno != 0 ? -errno : -EIO;
        }
        uint64_t end = clock_monotonic_ns();
        times[count++] = (uint32_t)((end - now) / 1000);
        now = end;
        offset = offset + 2 * (int64_t)bytes <= file_bytes ? offset + bytes : 0;
    }
    qsort(times, count, sizeof *times, compare);
    *ret_result = (struct disk_sync){
        .batch_bytes = bytes,
        .batches = count,
        .seconds = (double)(now - begun) / 1e9,
        .p50_ms = times[count / 2] / 1e3,
        .p99_ms = times[(uint64_t)count * 99 / 100] / 1e3,
        .max_ms = times[count - 1] / 1e3,
    };
    return 0;
}

static int measure_all(int fd, struct disk_sync ret_results[DISK_SYNC_SIZES], const char **ret_step)
{
    char *data = calloc(1, STEP_BYTES);
    uint32_t *times = malloc(BATCHES_MAX * sizeof *times);
    int64_t bytes = data != NULL && times != NULL ? prepare(fd, data) : -ENOMEM;
    int result = bytes < 0 ? (int)bytes : 0;
    *ret_step = "writing ahead";
    for (unsigned i = 0; result == 0 && i < DISK_SYNC_SIZES; i++) {
        *ret_step = "write with RWF_DSYNC";
        errno = 0;
        result = measure(fd, data, sizes[i], bytes, times, &ret_results[i]);
    }
    free(times);
    free(data);
    return result;
}

int disk_sync_measure(const char *directory, struct disk_sync ret_results[DISK_SYNC_SIZES], const char **ret_step)
{
    char path[PATH_MAX];
    *ret_step = "making a file";
    snprintf(path, sizeof path, "%s/.ringpost-check-XXXXXX", directory);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    unlink(path);
    int result = measure_all(fd, ret_results, ret_step);
    close(fd);
    return result;
}
