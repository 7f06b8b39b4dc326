/* A ring for tests of the spool: operations on files run synchronously on the real files, in an order and with
 * results that the test decides, while a model follows which 512-byte sectors and which names would survive a power
 * cut.
 *
 *   DSYNC write   its own range is durable
 *   fsync         all of the file, or the names in the directory
 *   power cut     of every sector that was written and not made durable, the old or the new content is there; of every
 *                 operation that was submitted and not run, some sectors; of the names, a prefix of what was changed
 *
 * Included by one test program each: it defines the functions of core/ring.h. */
#ifndef SPOOL_FAKE_RING_H
#define SPOOL_FAKE_RING_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/rng.h"
#include "core/ring.h"
#include "core/shard.h"

#define FAKE_OPS 256
#define FAKE_FILES 128
#define FAKE_CHANGES 256
#define FAKE_SECTOR 512

enum fake_kind { FAKE_WRITE, FAKE_READ, FAKE_SYNC, FAKE_ALLOCATE, FAKE_OPEN, FAKE_UNLINK, FAKE_RENAME, FAKE_NOTHING };

struct fake_op {
    enum fake_kind kind;
    struct op *op;
    int fd;
    const struct iovec *pieces;
    unsigned count;
    void *data;
    size_t length;
    uint64_t offset;
    bool sync;
    int flags;
    const char *path;
    const char *to;
    int result;
};

struct fake_file {
    ino_t inode;
    uint64_t size;
    char *durable;
    unsigned char *dirty; /* per sector */
};

struct fake_name {
    char name[64];
    ino_t inode;
};

struct fake_change {
    bool added;
    struct fake_name name;
};

struct ring {
    struct fake_op queued[FAKE_OPS];
    unsigned queued_count;
    struct fake_op ready[FAKE_OPS];
    unsigned ready_count;
    struct rng rng;
    bool shuffle; /* run queued operations in any order */
    bool model;   /* keep the durable images */
    bool holding; /* run nothing */
    uint64_t runs;
    uint64_t cut_at; /* run no more than so many operations; 0: no cut */
    jmp_buf *cut;
    /* Faults: which writes fail, how; a write of which so many bytes are made, when it is positive. */
    int (*fault)(const struct fake_op *op);
    uint64_t writes, syncs, written_bytes;
    struct fake_file files[FAKE_FILES];
    unsigned file_count;
    struct fake_name names[FAKE_FILES]; /* durable */
    unsigned name_count;
    struct fake_change changes[FAKE_CHANGES]; /* since the directory was synced */
    unsigned change_count;
};

/* --- the model -------------------------------------------------------------------------------------------------- */

static struct fake_file *fake_file(struct ring *ring, int fd)
{
    struct stat status;
    CHECK(fstat(fd, &status) == 0);
    for (unsigned i = 0; i < ring->file_count; i++) {
        struct fake_file *file = &ring->files[i];
        if (file->inode != status.st_ino) {
            continue;
        }
        uint64_t size = (uint64_t)status.st_size;
        if (size > file->size) {
            file->durable = realloc(file->durable, size + FAKE_SECTOR);
            file->dirty = realloc(file->dirty, size / FAKE_SECTOR + 1);
            memset(file->durable + file->size, 0, size + FAKE_SECTOR - file->size);
            memset(file->dirty + file->size / FAKE_SECTOR + (file->size != 0), 0,
                   size / FAKE_SECTOR + 1 - (file->size / FAKE_SECTOR + (file->size != 0)));
            file->size = size;
        }
        return file;
    }
    CHECK(ring->file_count < FAKE_FILES);
    ring->files[ring->file_count++] = (struct fake_file){.inode = status.st_ino};
    return fake_file(ring, fd);
}

static void fake_commit(struct ring *ring, int fd, uint64_t first, uint64_t last, bool all)
{
    struct fake_file *file = fake_file(ring, fd);
    for (uint64_t sector = first; sector < last; sector++) {
        if (all && !file->dirty[sector]) {
            continue;
        }
        CHECK(pread(fd, file->durable + sector * FAKE_SECTOR, FAKE_SECTOR, (off_t)(sector * FAKE_SECTOR)) >= 0);
        file->dirty[sector] = 0;
    }
}

static void fake_name_apply(struct fake_name *names, unsigned *count, const struct fake_change *change)
{
    unsigned i = 0;
    while (i < *count && strcmp(names[i].name, change->name.name) != 0) {
        i++;
    }
    if (change->added) {
        CHECK(i < FAKE_FILES);
        names[i] = change->name;
        *count += i == *count;
    } else if (i < *count) {
        names[i] = names[--*count];
    }
}

static void fake_change(struct ring *ring, bool added, int directory, const char *name)
{
    struct stat status = {0};
    CHECK(ring->change_count < FAKE_CHANGES);
    struct fake_change *change = &ring->changes[ring->change_count++];
    change->added = added;
    snprintf(change->name.name, sizeof change->name.name, "%s", name);
    if (added) {
        CHECK(fstatat(directory, name, &status, 0) == 0);
        change->name.inode = status.st_ino;
    }
}

/* --- running ---------------------------------------------------------------------------------------------------- */

static ssize_t fake_pwritev(const struct fake_op *op, size_t most)
{
    struct iovec pieces[UIO_MAXIOV];
    unsigned count = 0;
    CHECK(op->count <= UIO_MAXIOV);
    for (; count < op->count && most > 0; count++) {
        pieces[count] = op->pieces[count];
        pieces[count].iov_len = pieces[count].iov_len < most ? pieces[count].iov_len : most;
        most -= pieces[count].iov_len;
    }
    return pwritev(op->fd, pieces, (int)count, (off_t)op->offset);
}

static int fake_write(struct ring *ring, const struct fake_op *op, int most)
{
    ssize_t n = fake_pwritev(op, most > 0 ? (size_t)most : SIZE_MAX);
    if (n < 0) {
        return -errno;
    }
    ring->writes++;
    ring->syncs += op->sync;
    ring->written_bytes += (uint64_t)n;
    if (ring->model && n > 0) {
        struct fake_file *file = fake_file(ring, op->fd);
        uint64_t first = op->offset / FAKE_SECTOR;
        uint64_t last = (op->offset + (uint64_t)n + FAKE_SECTOR - 1) / FAKE_SECTOR;
        memset(file->dirty + first, 1, last - first);
        if (op->sync) {
            fake_commit(ring, op->fd, first, last, false);
        }
    }
    return (int)n;
}

static int fake_sync(struct ring *ring, const struct fake_op *op)
{
    struct stat status;
    CHECK(fstat(op->fd, &status) == 0);
    ring->syncs++;
    if (ring->model && S_ISDIR(status.st_mode)) {
        for (unsigned i = 0; i < ring->change_count; i++) {
            fake_name_apply(ring->names, &ring->name_count, &ring->changes[i]);
        }
        ring->change_count = 0;
    } else if (ring->model) {
        fake_commit(ring, op->fd, 0, fake_file(ring, op->fd)->size / FAKE_SECTOR, true);
    }
    return 0;
}

static int fake_names(struct ring *ring, const struct fake_op *op)
{
    int result = 0;
    if (op->kind == FAKE_OPEN) {
        result = openat(op->fd, op->path, op->flags | O_CLOEXEC, 0600);
    } else if (op->kind == FAKE_UNLINK) {
        result = unlinkat(op->fd, op->path, 0);
    } else {
        result = renameat(op->fd, op->path, op->fd, op->to);
    }
    if (result < 0) {
        return -errno;
    }
    if (ring->model && op->kind != FAKE_OPEN) {
        fake_change(ring, false, op->fd, op->path);
    }
    if (ring->model && op->kind != FAKE_UNLINK) {
        fake_change(ring, true, op->fd, op->kind == FAKE_OPEN ? op->path : op->to);
    }
    return result;
}

static int fake_run(struct ring *ring, const struct fake_op *op)
{
    int fault = ring->fault != NULL ? ring->fault(op) : 0;
    if (fault < 0) {
        return fault;
    }
    ssize_t n;
    switch (op->kind) {
    case FAKE_WRITE: return fake_write(ring, op, fault);
    case FAKE_SYNC: return fake_sync(ring, op);
    case FAKE_READ: n = pread(op->fd, op->data, op->length, (off_t)op->offset); return n < 0 ? -errno : (int)n;
    case FAKE_ALLOCATE: return ftruncate(op->fd, (off_t)(op->offset + op->length)) == 0 ? 0 : -errno;
    case FAKE_NOTHING: return 0;
    default: return fake_names(ring, op);
    }
}

int ring_enter(struct ring *ring, uint64_t timeout_ms)
{
    (void)timeout_ms;
    while (ring->queued_count > 0 && !ring->holding && ring->ready_count < FAKE_OPS) {
        if (ring->cut_at != 0 && ring->runs >= ring->cut_at) {
            if (ring->cut != NULL) {
                longjmp(*ring->cut, 1);
            }
            return 0;
        }
        unsigned at = ring->shuffle ? (unsigned)rng_below(&ring->rng, ring->queued_count) : 0;
        struct fake_op op = ring->queued[at];
        memmove(&ring->queued[at], &ring->queued[at + 1], (ring->queued_count - at - 1) * sizeof op);
        ring->queued_count--;
        op.result = fake_run(ring, &op);
        ring->runs++;
        ring->ready[ring->ready_count++] = op;
        if (ring->shuffle && rng_below(&ring->rng, 4) == 0) {
            break;
        }
    }
    return 0;
}

unsigned ring_run(struct ring *ring)
{
    struct fake_op ready[FAKE_OPS];
    unsigned count = ring->ready_count;
    memcpy(ready, ring->ready, count * sizeof ready[0]);
    ring->ready_count = 0;
    for (unsigned i = 0; i < count; i++) {
        ready[i].op->in_flight = false;
        ready[i].op->done(ready[i].op, ready[i].result, 0);
    }
    return count;
}

static struct fake_op *fake_queue(struct ring *ring, struct op *op, enum fake_kind kind, int fd)
{
    CHECK(!op->in_flight && ring->queued_count < FAKE_OPS);
    op->in_flight = true;
    struct fake_op *queued = &ring->queued[ring->queued_count++];
    *queued = (struct fake_op){.op = op, .kind = kind, .fd = fd};
    return queued;
}

void ring_writev(struct ring *ring, struct op *op, int fd, const struct iovec *pieces, unsigned count, uint64_t offset,
                 bool sync)
{
    struct fake_op *queued = fake_queue(ring, op, FAKE_WRITE, fd);
    queued->pieces = pieces;
    queued->count = count;
    queued->offset = offset;
    queued->sync = sync;
}

void ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t length, uint64_t offset)
{
    struct fake_op *queued = fake_queue(ring, op, FAKE_READ, fd);
    queued->data = data;
    queued->length = length;
    queued->offset = offset;
}

void ring_fsync(struct ring *ring, struct op *op, int fd, bool data_only)
{
    (void)data_only;
    fake_queue(ring, op, FAKE_SYNC, fd);
}

/* The event log's. */
void ring_write_behind(struct ring *ring, struct op *op, int fd, uint64_t offset, uint64_t length)
{
    (void)offset;
    (void)length;
    fake_queue(ring, op, FAKE_NOTHING, fd);
}

void ring_fallocate(struct ring *ring, struct op *op, int fd, uint64_t offset, uint64_t length)
{
    struct fake_op *queued = fake_queue(ring, op, FAKE_ALLOCATE, fd);
    queued->offset = offset;
    queued->length = length;
}

void ring_openat(struct ring *ring, struct op *op, int directory, const char *path, int flags, unsigned mode)
{
    (void)mode;
    struct fake_op *queued = fake_queue(ring, op, FAKE_OPEN, directory);
    queued->path = path;
    queued->flags = flags;
}

void ring_unlinkat(struct ring *ring, struct op *op, int directory, const char *path)
{
    fake_queue(ring, op, FAKE_UNLINK, directory)->path = path;
}

void ring_renameat(struct ring *ring, struct op *op, int directory, const char *from, const char *to)
{
    struct fake_op *queued = fake_queue(ring, op, FAKE_RENAME, directory);
    queued->path = from;
    queued->to = to;
}

/* shard.c is not linked: it would bring the real ring. */
void shard_add_hook(struct shard *shard, struct shard_hook *hook, void (*run)(struct shard_hook *hook))
{
    hook->run = run;
    list_push_back(&shard->hooks, &hook->node);
}

void shard_remove_hook(struct shard_hook *hook)
{
    list_remove(&hook->node);
}

/* --- the power cut ---------------------------------------------------------------------------------------------- */

static void fake_tear(struct ring *ring, const struct fake_op *op, char *image, uint64_t size, ino_t inode)
{
    struct stat status;
    if (op->kind != FAKE_WRITE || fstat(op->fd, &status) != 0 || status.st_ino != inode) {
        return;
    }
    uint64_t at = op->offset;
    bool keep = rng_below(&ring->rng, 2) != 0;
    for (unsigned i = 0; i < op->count; i++) {
        for (size_t j = 0; j < op->pieces[i].iov_len && at < size; j++, at++) {
            if (at % FAKE_SECTOR == 0) {
                keep = rng_below(&ring->rng, 2) != 0;
            }
            if (keep) {
                image[at] = ((const char *)op->pieces[i].iov_base)[j];
            }
        }
    }
}

static void fake_crash_file(struct ring *ring, const char *from, int to, const struct fake_name *name)
{
    struct fake_file *file = NULL;
    for (unsigned i = 0; i < ring->file_count; i++) {
        file = ring->files[i].inode == name->inode ? &ring->files[i] : file;
    }
    if (file == NULL || file->size == 0) {
        return;
    }
    /* The current content by the name it has now, if any. */
    char *image = malloc(file->size);
    memcpy(image, file->durable, file->size);
    DIR *directory = opendir(from);
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        struct stat status;
        int fd;
        if (fstatat(dirfd(directory), entry->d_name, &status, 0) != 0 || status.st_ino != file->inode ||
            (fd = openat(dirfd(directory), entry->d_name, O_RDONLY)) < 0) {
            continue;
        }
        for (uint64_t sector = 0; sector < file->size / FAKE_SECTOR; sector++) {
            if (file->dirty[sector] && rng_below(&ring->rng, 2) != 0) {
                CHECK(pread(fd, image + sector * FAKE_SECTOR, FAKE_SECTOR, (off_t)(sector * FAKE_SECTOR)) >= 0);
            }
        }
        close(fd);
    }
    closedir(directory);
    for (unsigned i = 0; i < ring->queued_count; i++) {
        fake_tear(ring, &ring->queued[i], image, file->size, file->inode);
    }
    int fd = openat(to, name->name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && pwrite(fd, image, file->size, 0) == (ssize_t)file->size);
    close(fd);
    free(image);
}

/* What the disk of `from` holds after a power cut now, into the directory `to`. */
static inline void fake_crash(struct ring *ring, const char *from, const char *to)
{
    struct fake_name names[FAKE_FILES];
    unsigned count = ring->name_count;
    memcpy(names, ring->names, sizeof names);
    unsigned changes = (unsigned)rng_below(&ring->rng, ring->change_count + 1);
    for (unsigned i = 0; i < changes; i++) {
        fake_name_apply(names, &count, &ring->changes[i]);
    }
    CHECK(mkdir(to, 0700) == 0 || errno == EEXIST);
    int fd = open(to, O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0);
    for (unsigned i = 0; i < count; i++) {
        fake_crash_file(ring, from, fd, &names[i]);
    }
    close(fd);
}

static inline int fake_is_segment(const struct dirent *entry)
{
    return strstr(entry->d_name, ".seg") != NULL;
}

/* Everything in the directory is durable: how a run begins. (In an order that does not depend on the file system.) */
static inline void fake_adopt(struct ring *ring, const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, fake_is_segment, alphasort);
    for (int i = 0; i < count; i++) {
        struct fake_name *name = &ring->names[ring->name_count++];
        snprintf(name->name, sizeof name->name, "%.60s", entries[i]->d_name);
        char whole[320];
        snprintf(whole, sizeof whole, "%s/%s", path, name->name);
        int fd = open(whole, O_RDONLY);
        struct fake_file *file = fake_file(ring, fd);
        CHECK(pread(fd, file->durable, file->size, 0) == (ssize_t)file->size);
        name->inode = file->inode;
        close(fd);
        free(entries[i]);
    }
    free(entries);
}

#endif
