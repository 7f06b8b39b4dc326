#include "app/passwd_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/cli.h"
#include "base/base64.h"
#include "core/crypto.h"

static_assert(sizeof((struct passwd_file *)0)->path == PATH_MAX, "realpath writes so much");

static void print_error(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "%s\n", line);
}

static int fail(const char *path)
{
    fprintf(stderr, "ringpost passwd: %s: %s\n", path, strerror(errno));
    return CLI_FAILED;
}

/* The directory of the path as its own string, for opening. */
static void parent_of(const char *path, char room[PATH_MAX])
{
    snprintf(room, PATH_MAX, "%s", path);
    char *slash = strrchr(room, '/');
    if (slash == NULL) {
        snprintf(room, PATH_MAX, ".");
    } else {
        slash[slash == room ? 1 : 0] = '\0';
    }
}

static int lock(struct passwd_file *file)
{
    char parent[PATH_MAX];
    parent_of(file->path, parent);
    file->lock = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->lock < 0 || flock(file->lock, LOCK_EX) != 0) {
        return fail(parent);
    }
    return CLI_OK;
}

static int read_text(struct passwd_file *file, int fd)
{
    struct stat found;
    if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode) || found.st_size > CREDENTIALS_FILE_BYTES_MAX) {
        errno = S_ISREG(found.st_mode) ? EFBIG : EINVAL;
        return fail(file->path);
    }
    size_t size = (size_t)found.st_size;
    file->text = malloc(size + 1);
    ssize_t got = 1;
    while (file->text != NULL && file->length < size && got > 0) {
        got = read(fd, file->text + file->length, size - file->length);
        file->length += got > 0 ? (size_t)got : 0;
    }
    return file->text != NULL && got >= 0 ? CLI_OK : fail(file->path);
}

/* What a new file begins with. */
static int make_text(struct passwd_file *file)
{
    uint8_t key[SASL_DIGEST_BYTES];
    char room[256];
    struct buffer text = buffer_of(room, sizeof room);
    crypto_random(key, sizeof key);
    CHECK(buffer_append_string(&text, "# Accounts of ringpost: NAME:VERIFIER OPTIONS; see `ringpost passwd --help`.\n"
                                      "!decoy:") &&
          base64_encode(&text, bytes_of(key, sizeof key)) && buffer_append_string(&text, "\n"));
    file->text = malloc(text.length);
    if (file->text == NULL) {
        return fail(file->path);
    }
    memcpy(file->text, text.data, text.length);
    file->length = text.length;
    return CLI_OK;
}

int passwd_file_open(struct passwd_file *file, const char *path, bool change, bool create)
{
    *file = (struct passwd_file){.lock = -1};
    if (strlen(path) >= sizeof file->path) {
        errno = ENAMETOOLONG;
        return fail(path);
    }
    if (realpath(path, file->path) == NULL) {
        snprintf(file->path, sizeof file->path, "%s", path);
    }
    int code = change ? lock(file) : CLI_OK;
    if (code != CLI_OK) {
        return code;
    }
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    file->existed = fd >= 0;
    if (fd >= 0) {
        code = read_text(file, fd);
        close(fd);
    } else {
        code = create && errno == ENOENT ? make_text(file) : fail(file->path);
    }
    if (code == CLI_OK) {
        file->credentials = credentials_parse(bytes_of(file->text, file->length), file->path, print_error, NULL);
        code = file->credentials != NULL ? CLI_OK : CLI_DATA;
    }
    return code;
}

void passwd_file_close(struct passwd_file *file)
{
    if (file->text != NULL) {
        crypto_wipe(file->text, file->length);
        free(file->text);
    }
    if (file->credentials != NULL) {
        credentials_give(file->credentials);
    }
    if (file->lock >= 0) {
        close(file->lock);
    }
}

/* Where line `number` begins and ends (behind its line end). Number 0, and lines that are not there: the end. */
static struct bytes find_line(const struct passwd_file *file, unsigned number)
{
    struct bytes rest = bytes_of(file->text, file->length);
    while (number > 1 && rest.length != 0) {
        const char *end = memchr(rest.data, '\n', rest.length);
        bytes_advance(&rest, end != NULL ? (size_t)(end - rest.data) + 1 : rest.length);
        number--;
    }
    const char *end = number != 0 && rest.length != 0 ? memchr(rest.data, '\n', rest.length) : NULL;
    if (number == 0) {
        return bytes_of(file->text + file->length, 0);
    }
    return bytes_of(rest.data, end != NULL ? (size_t)(end - rest.data) + 1 : rest.length);
}

static bool write_all(int fd, struct bytes text)
{
    while (text.length != 0) {
        ssize_t written = write(fd, text.data, text.length);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        bytes_advance(&text, written > 0 ? (size_t)written : 0);
    }
    return true;
}

/* The new file belongs to whom the old one does. */
static bool keep_owner(const struct passwd_file *file, int fd)
{
    struct stat old;
    return !file->existed || (stat(file->path, &old) == 0 && fchown(fd, old.st_uid, old.st_gid) == 0 &&
                              fchmod(fd, old.st_mode & 0777) == 0);
}

static int put_in_place(const struct passwd_file *file, struct bytes text)
{
    char temporary[PATH_MAX + 32];
    snprintf(temporary, sizeof temporary, "%s.%d.new", file->path, (int)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return fail(temporary);
    }
    bool good = keep_owner(file, fd) && write_all(fd, text) && fsync(fd) == 0;
    int error = errno;
    close(fd);
    if (!good || rename(temporary, file->path) != 0) {
        errno = good ? errno : error;
        int code = fail(file->path);
        unlink(temporary);
        return code;
    }
    return fsync(file->lock) == 0 ? CLI_OK : fail(file->path);
}

int passwd_file_replace(struct passwd_file *file, unsigned number, struct bytes line)
{
    struct bytes old = find_line(file, number);
    struct bytes before = bytes_of(file->text, (size_t)(old.data - file->text));
    struct bytes after = bytes_of(old.data + old.length, file->length - before.length - old.length);
    size_t capacity = file->length + line.length + 2;
    char *room = malloc(capacity);
    if (room == NULL) {
        return fail(file->path);
    }
    struct buffer out = buffer_of(room, capacity);
    bool broken = before.length != 0 && before.data[before.length - 1] != '\n';
    CHECK(buffer_append(&out, before) && (!broken || line.length == 0 || buffer_append_string(&out, "\n")) &&
          buffer_append(&out, line) && (line.length == 0 || buffer_append_string(&out, "\n")) &&
          buffer_append(&out, after));
    struct credentials *checked = credentials_parse(buffer_bytes(&out), file->path, print_error, NULL);
    int code = CLI_DATA;
    if (checked != NULL) {
        credentials_give(checked);
        code = put_in_place(file, buffer_bytes(&out));
    }
    crypto_wipe(room, capacity);
    free(room);
    return code;
}
