#include "core/maildir_size.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATH_BYTES 1024

bool maildir_size_over(const struct maildir_limits *limits, const struct maildir_size *size, uint64_t bytes)
{
    return (limits->bytes_max != 0 && (size->bytes >= limits->bytes_max || bytes > limits->bytes_max - size->bytes)) ||
           (limits->messages_max != 0 && size->messages >= limits->messages_max);
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

/* "1000000S,1000C\n" */
static size_t write_header(char *out, size_t size, const struct maildir_limits *limits)
{
    int length = 0;
    if (limits->bytes_max != 0) {
        length = snprintf(out, size, "%lluS", (unsigned long long)limits->bytes_max);
    }
    if (limits->messages_max != 0) {
        length += snprintf(out + length, size - (size_t)length, "%s%lluC", length != 0 ? "," : "",
                           (unsigned long long)limits->messages_max);
    }
    length += snprintf(out + length, size - (size_t)length, "\n");
    return (size_t)length;
}

/* A number, perhaps negative, with blanks before it, off the front of *text. */
static bool take_number(struct bytes *text, int64_t *ret_number)
{
    int64_t number = 0;
    bool negative = false;
    size_t digits = 0;
    while (text->length != 0 && text->data[0] == ' ') {
        bytes_advance(text, 1);
    }
    if (text->length != 0 && text->data[0] == '-') {
        negative = true;
        bytes_advance(text, 1);
    }
    for (; text->length != 0 && text->data[0] >= '0' && text->data[0] <= '9'; digits++) {
        number = number * 10 + (text->data[0] - '0');
        bytes_advance(text, 1);
        if (digits == 17) {
            return false;
        }
    }
    *ret_number = negative ? -number : number;
    return digits != 0;
}

static bool take_line(struct bytes *text, int64_t *bytes, int64_t *messages)
{
    int64_t more_bytes;
    int64_t more_messages;
    if (!take_number(text, &more_bytes) || !take_number(text, &more_messages)) {
        return false;
    }
    while (text->length != 0 && text->data[0] == ' ') {
        bytes_advance(text, 1);
    }
    if (text->length == 0 || text->data[0] != '\n' || __builtin_add_overflow(*bytes, more_bytes, bytes) ||
        __builtin_add_overflow(*messages, more_messages, messages)) {
        return false;
    }
    bytes_advance(text, 1);
    return true;
}

bool maildir_size_parse(struct bytes text, const struct maildir_limits *limits, struct maildir_size *ret_size)
{
    char header[64];
    size_t length = write_header(header, sizeof header, limits);
    int64_t bytes = 0;
    int64_t messages = 0;
    if (text.length >= MAILDIR_SIZE_FILE_BYTES_MAX || text.length <= length || memcmp(text.data, header, length) != 0) {
        return false;
    }
    bytes_advance(&text, length);
    while (text.length != 0) {
        if (!take_line(&text, &bytes, &messages)) {
            return false;
        }
    }
    if (bytes < 0 || messages < 0) {
        return false;
    }
    *ret_size = (struct maildir_size){(uint64_t)bytes, (uint64_t)messages};
    return true;
}

static bool path_in(char path[PATH_BYTES], const char *directory, const char *name)
{
    return (size_t)snprintf(path, PATH_BYTES, "%s/%s", directory, name) < PATH_BYTES;
}

/* True when there is one that can be believed. */
static bool read_file(const char *directory, const struct maildir_limits *limits, uint64_t bytes,
                      struct maildir_size *ret_size)
{
    char path[PATH_BYTES];
    char text[MAILDIR_SIZE_FILE_BYTES_MAX];
    struct stat facts;
    int fd = path_in(path, directory, "maildirsize") ? open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    if (fd < 0) {
        return false;
    }
    ssize_t length = fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) ? read(fd, text, sizeof text) : -1;
    close(fd);
    if (length <= 0 || !maildir_size_parse(bytes_of(text, (size_t)length), limits, ret_size)) {
        return false;
    }
    return !maildir_size_over(limits, ret_size, bytes) || time(NULL) - facts.st_mtime < MAILDIR_SIZE_BELIEVED_S;
}

/* Replaces it, by way of tmp/. Without success the next one counts again. */
static void write_file(const char *directory, const struct maildir_limits *limits, const struct maildir_size *size)
{
    static _Atomic unsigned number;
    char name[64];
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    char text[128];
    snprintf(name, sizeof name, "tmp/maildirsize.%d.%u", (int)getpid(), atomic_fetch_add(&number, 1));
    if (!path_in(from, directory, name) || !path_in(to, directory, "maildirsize")) {
        return;
    }
    int fd = open(from, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return;
    }
    size_t length = write_header(text, sizeof text, limits);
    length += (size_t)snprintf(text + length, sizeof text - length, "%llu %llu\n", (unsigned long long)size->bytes,
                               (unsigned long long)size->messages);
    bool good = write(fd, text, length) == (ssize_t)length;
    good = close(fd) == 0 && good;
    if (!good || rename(from, to) != 0) {
        unlink(from);
    }
}

/* --- counting ----------------------------------------------------------------------------------------------------- */

/* Folded over all directories that were looked into: another one means that somebody was there. */
struct count {
    struct maildir_size size;
    uint64_t seen;
    bool only_look; /* at the directories, not at what is in them */
    int error;
};

static void see(struct count *count, const struct stat *facts)
{
    const uint64_t values[] = {facts->st_ino, (uint64_t)facts->st_mtim.tv_sec, (uint64_t)facts->st_mtim.tv_nsec};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        count->seen = (count->seen ^ values[i]) * 0x100000001b3ull; /* FNV-1a, a word at a time */
    }
}

/* "...,S=1234,..." or "...,S=1234:2,S": what its writer says, and no question to the disk. */
static bool size_of_name(const char *name, uint64_t *ret_bytes)
{
    const char *mark = strstr(name, ",S=");
    const char *info = strchr(name, ':');
    int64_t bytes;
    struct bytes text = bytes_of_string(mark != NULL ? mark + 3 : "");
    if (mark == NULL || (info != NULL && mark > info) || text.length == 0 || text.data[0] < '0' || text.data[0] > '9' ||
        !take_number(&text, &bytes)) {
        return false;
    }
    *ret_bytes = (uint64_t)bytes;
    return true;
}

static void count_message(struct count *count, int directory, const char *name)
{
    struct stat facts;
    uint64_t bytes;
    if (size_of_name(name, &bytes)) {
        count->size.bytes += bytes;
        count->size.messages++;
    } else if (fstatat(directory, name, &facts, AT_SYMLINK_NOFOLLOW) == 0) { /* or it has gone meanwhile */
        count->size.bytes += S_ISREG(facts.st_mode) ? (uint64_t)facts.st_size : 0;
        count->size.messages += S_ISREG(facts.st_mode);
    }
}

static void count_messages(struct count *count, int maildir, const char *name)
{
    int fd = openat(maildir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    struct stat facts;
    struct dirent *entry;
    if (directory == NULL) {
        count->error = errno == ENOENT ? count->error : -errno;
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    if (fstat(fd, &facts) == 0) {
        see(count, &facts);
    }
    while (!count->only_look && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] != '.') {
            count_message(count, fd, entry->d_name);
        }
    }
    closedir(directory);
}

static void count_folder(struct count *count, int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        count->error = errno == ENOENT || errno == ENOTDIR ? count->error : -errno;
        return;
    }
    count_messages(count, fd, "new");
    count_messages(count, fd, "cur");
    close(fd);
}

/* The folders of Maildir++ are directories in it whose names begin with a dot. */
static void count_all(struct count *count, const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    if (directory == NULL) {
        count->error = errno == ENOENT ? 0 : -errno;
        return;
    }
    count_folder(count, dirfd(directory), ".");
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.' && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN)) {
            count_folder(count, dirfd(directory), entry->d_name);
        }
    }
    closedir(directory);
}

int maildir_size_find(const char *directory, const struct maildir_limits *limits, uint64_t bytes,
                      struct maildir_size *ret_size)
{
    struct count count = {0};
    struct count again = {.only_look = true};
    if (read_file(directory, limits, bytes, ret_size)) {
        return 0;
    }
    count_all(&count, directory);
    if (count.error != 0) {
        return count.error;
    }
    count_all(&again, directory);
    *ret_size = count.size;
    if (again.seen == count.seen && count.seen != 0) {
        write_file(directory, limits, &count.size);
    } else {
        char path[PATH_BYTES];
        if (path_in(path, directory, "maildirsize")) {
            unlink(path); /* what it says is older than what was counted, and that may be wrong already */
        }
    }
    return 0;
}

void maildir_size_added(const char *directory, uint64_t bytes)
{
    char path[PATH_BYTES];
    char line[40];
    struct stat facts;
    int length = snprintf(line, sizeof line, "%llu 1\n", (unsigned long long)bytes);
    int flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = path_in(path, directory, "maildirsize") ? open(path, flags) : -1;
    if (fd < 0) {
        return;
    }
    bool good = fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode) || write(fd, line, (size_t)length) == length;
    close(fd);
    if (!good) {
        unlink(path); /* half a line would be read as another number by whoever appends to it */
    }
}
