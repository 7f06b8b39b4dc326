#include "sim/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "ringpost/spool_format.h"
#include "sim/fiber.h"
#include "sim/real.h"
#include "sim/truth.h"
#include "sim/world.h"

#define FILES_MAX 4096
#define DIRECTORIES_MAX 16
#define NAMES_MAX 256 /* no run needs half as many files: a spool that grows without end ends here */
#define NAME_BYTES 48

struct name {
    char text[NAME_BYTES];
    struct disk_file *file; /* NULL: a directory */
};

/* One change of a directory: `removed` went (if not empty), `added` came (if not empty). A rename is both at once. */
struct change {
    char removed[NAME_BYTES];
    struct name added;
};

struct directory {
    char path[256];
    ino_t inode;
    struct name names[NAMES_MAX]; /* durable */
    unsigned name_count;
    struct change changes[NAMES_MAX];
    unsigned change_count;
};

struct disk_faults disk_faults;
uint64_t disk_operations;
uint64_t disk_failures;
uint64_t disk_cut_at;

static struct disk_file *files[FILES_MAX];
static unsigned file_count;
static struct directory *directories[DIRECTORIES_MAX];
static unsigned directory_count;

/* --- what is known --- */

static struct directory *directory_add(const char *path)
{
    struct stat status;
    CHECK(stat(path, &status) == 0 && directory_count < DIRECTORIES_MAX);
    struct directory *directory = world_new(sizeof *directory);
    snprintf(directory->path, sizeof directory->path, "%s", path);
    directory->inode = status.st_ino;
    directories[directory_count++] = directory;
    return directory;
}

static struct directory *directory_of(int fd)
{
    struct stat status;
    CHECK(fstat(fd, &status) == 0);
    for (unsigned i = 0; i < directory_count; i++) {
        if (directories[i]->inode == status.st_ino) {
            return directories[i];
        }
    }
    return NULL;
}

void disk_init(const char *root)
{
    directory_add(root);
}

static struct disk_file *file_of_inode(ino_t inode)
{
    for (unsigned i = 0; i < file_count; i++) {
        if (files[i]->inode == inode && !files[i]->gone) {
            return files[i];
        }
    }
    return NULL;
}

static struct disk_file *file_of(int fd)
{
    struct stat status;
    CHECK(fstat(fd, &status) == 0);
    return file_of_inode(status.st_ino);
}

static struct disk_file *file_add(struct directory *directory, const char *name)
{
    char path[320];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", directory->path, name);
    int fd = real_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &status) == 0 && file_count < FILES_MAX);
    struct disk_file *file = world_new(sizeof *file);
    file->inode = status.st_ino;
    file->fd = fd;
    files[file_count++] = file;
    return file;
}

static void file_grow(struct disk_file *file, uint64_t size)
{
    if (size > file->size) {
        uint64_t rounded = (size + DISK_SECTOR - 1) / DISK_SECTOR * DISK_SECTOR;
        file->durable = real_realloc(file->durable, rounded);
        file->dirty = real_realloc(file->dirty, rounded / DISK_SECTOR);
        CHECK(file->durable != NULL && file->dirty != NULL);
        memset(file->durable + file->size, 0, rounded - file->size);
        memset(file->dirty + file->size / DISK_SECTOR, 0, (rounded - file->size) / DISK_SECTOR);
        file->size = rounded;
    }
}

bool disk_clean(const struct disk_file *file, uint64_t begin, uint64_t end)
{
    for (uint64_t at = begin / DISK_SECTOR; at * DISK_SECTOR < end; at++) {
        if (file->dirty[at]) {
            return false;
        }
    }
    return end <= file->size;
}

void disk_each(void (*run)(struct disk_file *file))
{
    for (unsigned i = 0; i < file_count; i++) {
        if (!files[i]->gone) {
            run(files[i]);
        }
    }
}

static void change_names(struct directory *directory, const char *removed, const char *added, struct disk_file *file)
{
    CHECK(directory->change_count < NAMES_MAX);
    struct change *change = &directory->changes[directory->change_count++];
    snprintf(change->removed, sizeof change->removed, "%s", removed);
    snprintf(change->added.text, sizeof change->added.text, "%s", added);
    change->added.file = file;
}

/* --- sectors --- */

static void sector_keep(struct disk_file *file, uint64_t sector)
{
    CHECK(pread(file->fd, file->durable + sector * DISK_SECTOR, DISK_SECTOR, (off_t)(sector * DISK_SECTOR)) >= 0);
    file->dirty[sector] = 0;
}

/* [begin, end) is durable; with a failed sync, some of it, and none of it is dirty any more. */
static void file_commit(struct disk_file *file, uint64_t begin, uint64_t end, bool failed)
{
    for (uint64_t sector = begin / DISK_SECTOR; sector * DISK_SECTOR < end; sector++) {
        if (file->dirty[sector] && (!failed || world_chance(5000))) {
            sector_keep(file, sector);
        }
        file->dirty[sector] = 0;
    }
    file->broken |= failed;
    disk_failures += failed;
}

/* --- operations --- */

/* Something changed: is this where the power fails? */
void disk_step(void)
{
    disk_operations++;
    if (disk_cut_at != 0 && disk_operations >= disk_cut_at) {
        world.cut = true;
        if (fiber_current() != NULL) {
            fiber_stop();
        }
    }
}

static size_t total(const struct iovec *pieces, unsigned count)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        bytes += pieces[i].iov_len;
    }
    return bytes;
}

/* Writes the first `length` bytes of the pieces. */
static void write_part(struct disk_file *file, const struct request *request, size_t length)
{
    uint64_t at = request->offset;
    uint64_t end = at + length;
    file_grow(file, end);
    for (unsigned i = 0; i < request->count && at < end; i++) {
        size_t n = request->pieces[i].iov_len;
        n = n < end - at ? n : (size_t)(end - at);
        CHECK(pwrite(file->fd, request->pieces[i].iov_base, n, (off_t)at) == (ssize_t)n);
        at += n;
    }
    for (uint64_t sector = request->offset / DISK_SECTOR; sector * DISK_SECTOR < end; sector++) {
        file->dirty[sector] = 1;
    }
}

static int run_write(const struct request *request)
{
    struct disk_file *file = file_of(request->fd);
    size_t length = total(request->pieces, request->count);
    if (world_fault(disk_faults.again)) {
        if (world_chance(5000)) {
            return world_chance(5000) ? -EINTR : -EAGAIN;
        }
        size_t whole = length;
        length = 1 + (size_t)world_below(length); /* short */
        /* Two such writes of a header, one behind the other, can leave neither of its copies whole. */
        disk_failures += length != whole && request->offset < SPOOL_FORMAT_HEADER_BYTES;
    }
    bool failed = world_fault(disk_faults.write_error);
    if (failed) {
        length = (size_t)world_below(length + 1);
    }
    if (length != 0) {
        write_part(file, request, length);
    }
    if (failed || request->sync) {
        file_commit(file, request->offset, request->offset + length, failed);
    }
    return failed ? (disk_faults.full || world_chance(2000) ? -ENOSPC : -EIO) : (int)length;
}

int disk_write(int fd, const struct iovec *pieces, unsigned count, uint64_t offset)
{
    const struct request request = {.fd = fd, .pieces = pieces, .count = count, .offset = offset, .sync = true};
    return run_write(&request);
}

int disk_sync(int fd)
{
    struct directory *directory = directory_of(fd);
    struct disk_file *file = directory == NULL ? file_of(fd) : NULL;
    if (world_fault(directory != NULL ? disk_faults.name_error : disk_faults.sync_error)) {
        if (file != NULL) {
            file_commit(file, 0, file->size, true);
        }
        return -EIO;
    }
    if (file != NULL) {
        file_commit(file, 0, file->size, false);
    }
    for (unsigned i = 0; directory != NULL && i < directory->change_count; i++) {
        struct change *change = &directory->changes[i];
        unsigned at = 0;
        while (at < directory->name_count && strcmp(directory->names[at].text, change->removed) != 0) {
            at++;
        }
        if (at < directory->name_count) {
            directory->names[at] = directory->names[--directory->name_count];
        }
        if (change->added.text[0] != '\0') {
            CHECK(directory->name_count < NAMES_MAX);
            directory->names[directory->name_count++] = change->added;
        }
    }
    if (directory != NULL) {
        directory->change_count = 0;
    }
    return 0;
}

static int run_allocate(const struct request *request)
{
    struct disk_file *file = file_of(request->fd);
    if (disk_faults.full || world_fault(disk_faults.name_error)) {
        return -ENOSPC;
    }
    CHECK(ftruncate(request->fd, (off_t)(request->offset + request->length)) == 0);
    file_grow(file, request->offset + request->length);
    return 0;
}

static int run_open(const struct request *request)
{
    if (world_fault(disk_faults.name_error)) {
        return world_chance(5000) ? -EMFILE : -ENOSPC;
    }
    struct stat status;
    bool there = fstatat(request->fd, request->path, &status, 0) == 0;
    int fd = real_openat(request->fd, request->path, request->flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    disk_opened(fd);
    struct directory *directory = directory_of(request->fd);
    if (!there && directory != NULL) {
        change_names(directory, "", request->path, file_add(directory, request->path));
    }
    return fd;
}

int disk_unlink(int fd, const char *name)
{
    if (world_fault(disk_faults.name_error)) {
        return -EIO;
    }
    if (real_unlinkat(fd, name, 0) != 0) {
        return -errno;
    }
    struct directory *directory = directory_of(fd);
    if (directory != NULL) {
        change_names(directory, name, "", NULL);
    }
    return 0;
}

int disk_rename(int fd, const char *from, const char *to)
{
    struct stat status;
    if (world_fault(disk_faults.name_error)) {
        return -EIO;
    }
    if (real_renameat(fd, from, fd, to) != 0) {
        return -errno;
    }
    struct directory *directory = directory_of(fd);
    if (directory != NULL && fstatat(fd, to, &status, 0) == 0) {
        change_names(directory, from, to, file_of_inode(status.st_ino));
    }
    return 0;
}

int disk_make_directory(const char *path, unsigned mode)
{
    if (real_mkdir(path, (mode_t)mode) != 0) {
        return -errno;
    }
    char parent[256];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    CHECK(slash != NULL);
    *slash = '\0';
    for (unsigned i = 0; i < directory_count; i++) {
        if (strcmp(directories[i]->path, parent) == 0) {
            change_names(directories[i], "", slash + 1, NULL);
            directory_add(path);
            break;
        }
    }
    return 0;
}

uint64_t disk_latency_ns(const struct request *request)
{
    uint64_t typical_ns = request->kind == REQUEST_ADVISE || request->kind == REQUEST_READ ? 20 * WORLD_US
                                                                                           : 300 * WORLD_US;
    return world_fault(disk_faults.stall) ? world_below(5 * WORLD_S) : world_latency_ns(typical_ns);
}

static void trace(const struct request *request, int result)
{
    static const char *const verbs[] = {"write", "read", "sync", "allocate", "open", "unlink", "rename", "advise"};
    char link[32];
    char path[256] = "";
    if (world.tracing) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", request->fd);
        ssize_t n = readlink(link, path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
        world_trace("disk: %s%s %s %s at %llu: %d", verbs[request->kind - REQUEST_WRITE],
                    request->sync ? " and sync" : "", path, request->path != NULL ? request->path : "",
                    (unsigned long long)request->offset, result);
    }
}

int disk_run(struct request *request)
{
    int result = 0;
    switch (request->kind) {
    case REQUEST_WRITE: result = run_write(request); break;
    case REQUEST_SYNC: result = disk_sync(request->fd); break;
    case REQUEST_ALLOCATE: result = run_allocate(request); break;
    case REQUEST_OPEN: result = run_open(request); break;
    case REQUEST_UNLINK: result = disk_unlink(request->fd, request->path); break;
    case REQUEST_RENAME: result = disk_rename(request->fd, request->path, request->to); break;
    case REQUEST_MAKE_DIRECTORY: result = disk_make_directory(request->path, (unsigned)request->flags); break;
    case REQUEST_ADVISE: return 0;
    case REQUEST_READ: {
        ssize_t n = pread(request->fd, request->data, request->length, (off_t)request->offset);
        return n < 0 ? -errno : (int)n;
    }
    default: CHECK(false);
    }
    trace(request, result);
    disk_step();
    return result;
}

void disk_told(const struct request *request)
{
    /* A whole one: of a part of it the server knows nothing, and what was known of the file still holds. */
    bool header = request->kind == REQUEST_WRITE && request->offset == 0 &&
                  request->result >= (int)SPOOL_FORMAT_HEADER_BYTES;
    if ((request->kind == REQUEST_SYNC || (request->kind == REQUEST_WRITE && request->sync)) && request->result >= 0) {
        struct disk_file *file = file_of(request->fd);
        if (file != NULL) {
            file->parsed = header ? 0 : file->parsed;
            truth_synced(file);
        }
    }
}

/* --- the power cut --- */

/* What was on its way when the power failed: any of its sectors may have got there. */
static void tear(const struct request *request)
{
    struct disk_file *file = file_of(request->fd);
    uint64_t at = request->offset;
    bool keep = world_chance(5000);
    for (unsigned i = 0; i < request->count; i++) {
        const char *bytes = request->pieces[i].iov_base;
        for (size_t j = 0; j < request->pieces[i].iov_len && at < file->size; j++, at++) {
            keep = at % DISK_SECTOR == 0 ? world_chance(5000) : keep;
            file->durable[at] = keep ? bytes[j] : file->durable[at];
        }
    }
}

/* The kept sectors are what the file has from now on. */
static void lose_sectors(struct disk_file *file)
{
    for (uint64_t sector = 0; sector * DISK_SECTOR < file->size; sector++) {
        if (file->dirty[sector] && world_chance(5000)) {
            sector_keep(file, sector);
        }
        file->dirty[sector] = 0;
    }
    CHECK(pwrite(file->fd, file->durable, file->size, 0) == (ssize_t)file->size);
}

static void remove_directory(struct directory *directory)
{
    DIR *listing = opendir(directory->path);
    struct dirent *entry;
    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        real_unlinkat(dirfd(listing), entry->d_name, 0);
    }
    if (listing != NULL) {
        real_closedir(listing);
    }
    CHECK(rmdir(directory->path) == 0);
    directory->inode = 0;
    directory->name_count = directory->change_count = 0;
    directory->path[0] = '\0';
}

/* With those below it, which came later. */
static void remove_tree(const char *top)
{
    char path[sizeof directories[0]->path];
    size_t length = (size_t)snprintf(path, sizeof path, "%s", top);
    for (unsigned i = directory_count; i-- > 0;) {
        struct directory *directory = directories[i];
        if (directory->path[0] != '\0' && strncmp(directory->path, path, length) == 0 &&
            (directory->path[length] == '/' || directory->path[length] == '\0')) {
            remove_directory(directory);
        }
    }
}

static const struct name *find_name(const struct directory *directory, const char *text)
{
    for (unsigned i = 0; i < directory->name_count; i++) {
        if (strcmp(directory->names[i].text, text) == 0) {
            return &directory->names[i];
        }
    }
    return NULL;
}

/* A name that was removed or changed comes back: a new file with the old one's bytes. */
static void resurrect(struct directory *directory, struct name *name)
{
    char path[320];
    snprintf(path, sizeof path, "%s/%s", directory->path, name->text);
    int fd = real_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct disk_file *file = name->file;
    struct stat status;
    CHECK(fd >= 0 && file != NULL && pwrite(fd, file->durable, file->size, 0) == (ssize_t)file->size &&
          fstat(fd, &status) == 0);
    real_close(file->fd);
    file->fd = fd;
    file->inode = status.st_ino;
}

/* Makes the real directory what the durable names say. */
static void restore_names(struct directory *directory)
{
    DIR *listing = opendir(directory->path);
    struct dirent *entry;
    CHECK(listing != NULL);
    while ((entry = readdir(listing)) != NULL) {
        struct stat status;
        const struct name *name = find_name(directory, entry->d_name);
        if (fstatat(dirfd(listing), entry->d_name, &status, 0) == 0 && S_ISREG(status.st_mode) &&
            (name == NULL || name->file == NULL || name->file->inode != status.st_ino)) {
            real_unlinkat(dirfd(listing), entry->d_name, 0);
        }
    }
    real_closedir(listing);
    for (unsigned i = 0; i < directory->name_count; i++) {
        char path[320];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", directory->path, directory->names[i].text);
        if (directory->names[i].file != NULL && stat(path, &status) != 0) {
            resurrect(directory, &directory->names[i]);
        }
    }
}

/* Keeps the first so many changes of names. */
static void lose_names(struct directory *directory)
{
    unsigned kept = world_chance(3000) ? 0 : (unsigned)world_below(directory->change_count + 1);
    directory->change_count = kept;
    bool faults = world.faults;
    world.faults = false;
    int fd = real_openat(AT_FDCWD, directory->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0 && disk_sync(fd) == 0);
    real_close(fd);
    world.faults = faults;
}

static bool is_durable(const struct directory *directory)
{
    for (unsigned i = 0; i < directory_count; i++) {
        const char *path = directories[i]->path;
        size_t length = strlen(path);
        if (path[0] != '\0' && strncmp(directory->path, path, length) == 0 && directory->path[length] == '/' &&
            strchr(directory->path + length + 1, '/') == NULL) {
            return find_name(directories[i], directory->path + length + 1) != NULL;
        }
    }
    return true; /* the root */
}

static void bury_lost_files(void)
{
    for (unsigned i = 0; i < file_count; i++) {
        struct stat status;
        if (!files[i]->gone && fstat(files[i]->fd, &status) == 0 && status.st_nlink == 0) {
            files[i]->gone = true;
            real_close(files[i]->fd);
            real_free(files[i]->durable);
            real_free(files[i]->dirty);
        }
    }
}

static void power_off(void)
{
    request_each_unwritten(tear);
    for (unsigned i = 0; i < file_count; i++) {
        if (!files[i]->gone) {
            lose_sectors(files[i]);
        }
    }
    for (unsigned i = 0; i < directory_count; i++) { /* parents come before their children */
        struct directory *directory = directories[i];
        if (directory->path[0] == '\0') {
            continue;
        }
        if (!is_durable(directory)) {
            remove_tree(directory->path);
            continue;
        }
        lose_names(directory);
        restore_names(directory);
    }
}

static bool open_descriptors[65536];
static unsigned open_count;

void disk_opened(int fd)
{
    CHECK(fd >= 0 && (size_t)fd < sizeof open_descriptors && !open_descriptors[fd]);
    open_descriptors[fd] = true;
    open_count++;
}

void disk_closed(int fd)
{
    if (fd >= 0 && (size_t)fd < sizeof open_descriptors && open_descriptors[fd]) {
        open_descriptors[fd] = false;
        open_count--;
    }
}

unsigned disk_open(void)
{
    return open_count;
}

void disk_cut(bool power)
{
    if (power) {
        power_off();
        bury_lost_files();
    }
    for (int fd = 0; (size_t)fd < sizeof open_descriptors; fd++) {
        if (open_descriptors[fd]) {
            disk_closed(fd);
            real_close(fd);
        }
    }
}
