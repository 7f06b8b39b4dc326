/* The calls that the server makes on files and memory itself, without its ring. Linked with -Wl,--wrap. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "sim/disk.h"
#include "sim/fiber.h"
#include "sim/life.h"
#include "sim/real.h"
#include "sim/world.h"

static int answer(int result)
{
    errno = result < 0 ? -result : errno;
    return result < 0 ? -1 : result;
}

int __wrap_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & O_CREAT) != 0) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    int fd = real_openat(directory, path, flags, mode);
    if (fd >= 0) {
        disk_opened(fd);
    }
    return fd;
}

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & O_CREAT) != 0) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return __wrap_openat(AT_FDCWD, path, flags, mode);
}

int __wrap_closedir(DIR *directory);
int __wrap_closedir(DIR *directory)
{
    disk_closed(dirfd(directory));
    return real_closedir(directory);
}

int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode)
{
    int result = disk_make_directory(path, mode);
    disk_step();
    return answer(result);
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    int result = disk_sync(fd);
    disk_step();
    return answer(result);
}

ssize_t __wrap_pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags);
ssize_t __wrap_pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    CHECK(flags == RWF_DSYNC);
    int result = disk_write(fd, pieces, (unsigned)count, (uint64_t)offset);
    disk_step();
    return answer(result);
}

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    return __wrap_fsync(fd);
}

int __wrap_unlinkat(int directory, const char *path, int flags);
int __wrap_unlinkat(int directory, const char *path, int flags)
{
    (void)flags;
    int result = disk_unlink(directory, path);
    disk_step();
    return answer(result);
}

int __wrap_renameat(int from_directory, const char *from, int to_directory, const char *to);
int __wrap_renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    CHECK(from_directory == to_directory);
    int result = disk_rename(from_directory, from, to);
    disk_step();
    return answer(result);
}

ssize_t __wrap_getrandom(void *data, size_t length, unsigned flags);
ssize_t __wrap_getrandom(void *data, size_t length, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < length; i++) {
        ((unsigned char *)data)[i] = (unsigned char)rng_next(&world.rng);
    }
    return (ssize_t)length;
}

void __wrap__exit(int status);
void __wrap__exit(int status)
{
    if (fiber_current() == NULL) {
        real_exit(status);
    }
    life_exit(status);
}

/* --- memory: what the server has and has not given back --- */

#define BLOCKS_BITS 17
#define BLOCKS_MAX (1u << BLOCKS_BITS)

struct block {
    void *memory; /* NULL: an empty place */
    size_t size;
    bool map;
};

static struct block blocks[BLOCKS_MAX];
static unsigned block_count;

static size_t home_of(const void *memory)
{
    return ((uintptr_t)memory >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - BLOCKS_BITS);
}

static struct block *find_block(const void *memory)
{
    size_t at = home_of(memory);
    while (blocks[at].memory != NULL && blocks[at].memory != memory) {
        at = (at + 1) & (BLOCKS_MAX - 1);
    }
    return &blocks[at];
}

static void *remember(void *memory, size_t size, bool map)
{
    if (memory != NULL && fiber_current() != NULL) {
        struct block *block = find_block(memory);
        block_count++;
        CHECK(block_count < BLOCKS_MAX / 2);
        *block = (struct block){memory, size, map};
    }
    return memory;
}

static void forget(const void *memory)
{
    struct block *hole = memory != NULL ? find_block(memory) : NULL;
    if (hole == NULL || hole->memory == NULL) {
        return;
    }
    block_count--;
    size_t at = (size_t)(hole - blocks);
    size_t next = at;
    blocks[at].memory = NULL;
    for (;;) {
        next = (next + 1) & (BLOCKS_MAX - 1);
        if (blocks[next].memory == NULL) {
            return;
        }
        size_t home = home_of(blocks[next].memory);
        if (((next - home) & (BLOCKS_MAX - 1)) >= ((next - at) & (BLOCKS_MAX - 1))) {
            blocks[at] = blocks[next];
            blocks[next].memory = NULL;
            at = next;
        }
    }
}

unsigned life_blocks(void)
{
    return block_count;
}

int __real_munmap(void *memory, size_t length);

void life_forget_blocks(void)
{
    for (size_t i = 0; i < BLOCKS_MAX; i++) {
        if (blocks[i].memory != NULL && blocks[i].map) {
            __real_munmap(blocks[i].memory, blocks[i].size);
        }
    }
    memset(blocks, 0, sizeof blocks);
    block_count = 0;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return remember(__real_malloc(size), size, false);
}

void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    return remember(__real_calloc(count, size), count * size, false);
}

void *__wrap_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size)
{
    forget(memory);
    return remember(__real_realloc(memory, size), size, false);
}

void *__real_reallocarray(void *memory, size_t count, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size)
{
    forget(memory);
    return remember(__real_reallocarray(memory, count, size), count * size, false);
}

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return remember(__real_aligned_alloc(alignment, size), size, false);
}

void __wrap_free(void *memory);
void __wrap_free(void *memory)
{
    forget(memory);
    __real_free(memory);
}

void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    void *memory = __real_mmap(address, length, protection, flags, fd, offset);
    if (memory != MAP_FAILED) {
        remember(memory, length, true);
    }
    return memory;
}

int __wrap_munmap(void *memory, size_t length);
int __wrap_munmap(void *memory, size_t length)
{
    forget(memory);
    return __real_munmap(memory, length);
}

/* jemalloc's arenas are for real threads. */
int __wrap_mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length);
int __wrap_mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length)
{
    (void)name;
    (void)old;
    (void)old_length;
    (void)new;
    (void)new_length;
    return ENOSYS;
}
