#include "delivery/maildir_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static void step_done(struct op *op, int result, uint32_t flags);

static void go(struct maildir_file *file, enum maildir_step step);

static void fail(struct maildir_file *file, int error)
{
    file->error = file->error != 0 ? file->error : error;
}

/* --- directories ---------------------------------------------------------------------------------------------- */

/* Puts the next directory to make into `path`: all on the way to the Maildir, itself, and the three in it. The one that
 * is opened first is made last: where it is there, so are the others, whenever the making was interrupted. */
static bool next_directory(struct maildir_file *file)
{
    static const char *const inside[] = {"cur", "new", "tmp"};
    const char *begin = file->directory;
    size_t length = strlen(begin);
    if (file->made_bytes < length) {
        const char *slash = strchr(begin + file->made_bytes + 1, '/');
        file->made_bytes = slash != NULL ? (size_t)(slash - begin) : length;
        snprintf(file->path, sizeof file->path, "%.*s", (int)file->made_bytes, begin);
        return true;
    }
    if (file->made_inside < sizeof inside / sizeof *inside) {
        snprintf(file->path, sizeof file->path, "%s/%s", begin, inside[file->made_inside++]);
        return true;
    }
    return false;
}

static void make_next(struct maildir_file *file)
{
    go(file, next_directory(file) ? MAILDIR_MAKE : MAILDIR_OPEN);
}

static void cut_last_name(char *path)
{
    char *slash = strrchr(path, '/');
    slash[slash == path ? 1 : 0] = '\0';
}

/* --- the file ------------------------------------------------------------------------------------------------- */

static void write_next(struct maildir_file *file)
{
    if (file->piece.iov_len == 0) {
        file->chunk.length = 0;
        file->fill(file, &file->chunk);
        file->piece = (struct iovec){.iov_base = file->chunk.data, .iov_len = file->chunk.length};
    }
    go(file, file->piece.iov_len != 0 ? MAILDIR_WRITE : MAILDIR_SYNC);
}

static void wrote(struct maildir_file *file, int result)
{
    if (result <= 0) {
        fail(file, result < 0 ? result : -EIO);
        go(file, MAILDIR_CLOSE);
        return;
    }
    file->offset += (unsigned)result;
    file->piece.iov_base = (char *)file->piece.iov_base + result;
    file->piece.iov_len -= (unsigned)result;
    write_next(file);
}

static void opened(struct maildir_file *file, int result)
{
    if (result == -ENOENT && !file->made) {
        file->made = true;
        make_next(file);
    } else if (result < 0) {
        fail(file, result);
        file->done(file, file->error);
    } else {
        file->fd = result;
        write_next(file);
    }
}

static void made(struct maildir_file *file, int result)
{
    if (result == 0) {
        cut_last_name(file->path);
        go(file, MAILDIR_OPEN_PARENT);
    } else if (result == -EEXIST) {
        make_next(file);
    } else {
        file->done(file, result);
    }
}

/* The second half of a directory's open, sync, close; `close` comes whatever the sync said. */
static void directory_opened(struct maildir_file *file, int result, enum maildir_step sync)
{
    if (result < 0) {
        file->done(file, result);
        return;
    }
    file->fd = result;
    go(file, sync);
}

static void parent_closed(struct maildir_file *file)
{
    if (file->error != 0) {
        file->done(file, file->error);
    } else {
        make_next(file);
    }
}

/* --- one step after the other --------------------------------------------------------------------------------- */

static void set_paths(struct maildir_file *file)
{
    snprintf(file->path, sizeof file->path, "%s/tmp/%s", file->directory, file->name);
    snprintf(file->to, sizeof file->to, "%s/new/%s", file->directory, file->name);
}

static void go(struct maildir_file *file, enum maildir_step step)
{
    struct ring *ring = file->ring;
    struct op *op = &file->op;
    file->step = step;
    switch (step) {
    case MAILDIR_OPEN:
        set_paths(file);
        ring_openat(ring, op, AT_FDCWD, file->path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        break;
    case MAILDIR_MAKE: ring_mkdirat(ring, op, AT_FDCWD, file->path, 0700); break;
    case MAILDIR_OPEN_PARENT:
    case MAILDIR_OPEN_NEW: ring_openat(ring, op, AT_FDCWD, file->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0); break;
    case MAILDIR_SYNC_PARENT:
    case MAILDIR_SYNC_NEW: ring_fsync(ring, op, file->fd, false); break;
    case MAILDIR_WRITE: ring_writev(ring, op, file->fd, &file->piece, 1, file->offset, false); break;
    case MAILDIR_SYNC: ring_fsync(ring, op, file->fd, true); break;
    case MAILDIR_CLOSE_PARENT:
    case MAILDIR_CLOSE:
    case MAILDIR_CLOSE_NEW: ring_close(ring, op, file->fd); break;
    case MAILDIR_RENAME: ring_renameat(ring, op, AT_FDCWD, file->path, file->to); break;
    case MAILDIR_UNLINK: ring_unlinkat(ring, op, AT_FDCWD, file->path); break;
    }
}

/* After the file is closed; what could not be written goes away again, as far as that is possible. */
static void closed(struct maildir_file *file, int result)
{
    if (result < 0) {
        fail(file, result);
    }
    go(file, file->error == 0 ? MAILDIR_RENAME : MAILDIR_UNLINK);
}

static void renamed(struct maildir_file *file, int result)
{
    if (result < 0) {
        fail(file, result);
        go(file, MAILDIR_UNLINK);
        return;
    }
    snprintf(file->path, sizeof file->path, "%s/new", file->directory);
    go(file, MAILDIR_OPEN_NEW);
}

static void step_done(struct op *op, int result, uint32_t flags)
{
    struct maildir_file *file = CONTAINER_OF(op, struct maildir_file, op);
    (void)flags;
    switch (file->step) {
    case MAILDIR_OPEN: opened(file, result); break;
    case MAILDIR_MAKE: made(file, result); break;
    case MAILDIR_OPEN_PARENT: directory_opened(file, result, MAILDIR_SYNC_PARENT); break;
    case MAILDIR_OPEN_NEW: directory_opened(file, result, MAILDIR_SYNC_NEW); break;
    case MAILDIR_WRITE: wrote(file, result); break;
    case MAILDIR_SYNC_PARENT:
    case MAILDIR_SYNC:
    case MAILDIR_SYNC_NEW:
        fail(file, result < 0 ? result : 0);
        go(file, file->step + 1); /* its close */
        break;
    case MAILDIR_CLOSE_PARENT: parent_closed(file); break;
    case MAILDIR_CLOSE: closed(file, result); break;
    case MAILDIR_RENAME: renamed(file, result); break;
    case MAILDIR_CLOSE_NEW:
    case MAILDIR_UNLINK: file->done(file, file->error); break;
    }
}

void maildir_file_begin(struct maildir_file *file)
{
    file->op.done = step_done;
    file->error = 0;
    file->made = false;
    file->made_bytes = 0;
    file->made_inside = 0;
    file->offset = 0;
    file->piece = (struct iovec){0};
    file->chunk = buffer_of(file->room, sizeof file->room);
    go(file, MAILDIR_OPEN);
}
