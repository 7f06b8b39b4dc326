#include "app/disk_mount.h"

#include <stdio.h>
#include <string.h>

/* --- mountinfo (proc(5)): id parent dev root place options [tag...] - type source super-options
 * ------------------------ */

/* A field, its octal escapes undone. */
static void copy_field(struct bytes field, char *ret_text, size_t size)
{
    size_t length = 0;
    while (field.length != 0 && length + 1 < size) {
        if (field.data[0] == '\\' && field.length >= 4) {
            const char *digits = field.data + 1;
            ret_text[length++] = (char)((digits[0] - '0') << 6 | (digits[1] - '0') << 3 | (digits[2] - '0'));
            bytes_advance(&field, 4);
        } else {
            ret_text[length++] = field.data[0];
            bytes_advance(&field, 1);
        }
    }
    ret_text[length] = '\0';
}

static struct bytes next_field(struct bytes *line)
{
    const char *end = line->length != 0 ? memchr(line->data, ' ', line->length) : NULL;
    size_t length = end != NULL ? (size_t)(end - line->data) : line->length;
    struct bytes field = bytes_slice(*line, 0, length);
    bytes_advance(line, end != NULL ? length + 1 : length);
    return field;
}

static bool parse_line(struct bytes line, struct disk_mount *ret_mount)
{
    struct bytes fields[6];
    struct bytes field;
    for (unsigned i = 0; i < 6; i++) {
        fields[i] = next_field(&line);
    }
    do {
        field = next_field(&line);
    } while (field.length != 0 && !bytes_equal(field, BYTES("-")));
    if (field.length == 0) {
        return false;
    }
    copy_field(fields[4], ret_mount->place, sizeof ret_mount->place);
    copy_field(next_field(&line), ret_mount->type, sizeof ret_mount->type);
    copy_field(next_field(&line), ret_mount->source, sizeof ret_mount->source);
    struct bytes super = next_field(&line);
    snprintf(ret_mount->options, sizeof ret_mount->options, "%.*s,%.*s", (int)fields[5].length, fields[5].data,
             (int)super.length, super.data);
    return true;
}

static bool is_below(const char *path, const char *place)
{
    size_t length = strlen(place);
    return strcmp(place, "/") == 0 ||
           (strncmp(path, place, length) == 0 && (path[length] == '/' || path[length] == '\0'));
}

bool disk_mount_find(struct bytes mountinfo, const char *path, struct disk_mount *ret_mount)
{
    size_t best = 0;
    while (mountinfo.length != 0) {
        const char *end = memchr(mountinfo.data, '\n', mountinfo.length);
        size_t length = end != NULL ? (size_t)(end - mountinfo.data) : mountinfo.length;
        struct disk_mount mount = {{0}, {0}, {0}, {0}};
        if (parse_line(bytes_slice(mountinfo, 0, length), &mount) && is_below(path, mount.place) &&
            strlen(mount.place) >= best) {
            best = strlen(mount.place);
            *ret_mount = mount;
        }
        bytes_advance(&mountinfo, end != NULL ? length + 1 : length);
    }
    return best != 0;
}

bool disk_mount_has(const struct disk_mount *mount, const char *option)
{
    size_t length = strlen(option);
    for (const char *at = mount->options; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, option, length) == 0 && (at[length] == ',' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

/* --- judgement
 * -------------------------------------------------------------------------------------------------------- */

enum severity { NOTE, WARNING };

static const struct {
    const char *type; /* with a dot at its end: and all that begin so */
    enum severity severity;
    const char *text;
} types[] = {
    {"nfs", WARNING, "a network file system: a sync is what the server makes of it, and it may stall for minutes"},
    {"nfs4", WARNING, "a network file system: a sync is what the server makes of it, and it may stall for minutes"},
    {"cifs", WARNING, "a network file system: a sync is what the server makes of it, and it may stall for minutes"},
    {"smb3", WARNING, "a network file system: a sync is what the server makes of it, and it may stall for minutes"},
    {"ceph", WARNING, "a network file system: every sync is a round trip to its servers"},
    {"afs", WARNING, "a network file system: what is written reaches the server when the file is closed"},
    {"9p", WARNING, "the host's file system: whether a sync reaches a disk is the host's choice"},
    {"virtiofs", WARNING, "the host's file system: whether a sync reaches a disk is the host's choice"},
    {"fuse.", WARNING, "a file system in user space: a sync is what that program makes of it"},
    {"overlay", WARNING, "a container's layer: mail is lost with the container; mount a volume for the spool"},
    {"tmpfs", WARNING, "memory: everything is lost with the power, whatever a sync says"},
    {"ramfs", WARNING, "memory: everything is lost with the power, whatever a sync says"},
    {"btrfs", WARNING,
     "copy-on-write: each sync writes a tree log as well, and allocation ahead is in vain; if it must "
     "be, make the directory with chattr +C (which gives up its checksums, not ours)"},
    {"zfs", WARNING,
     "copy-on-write: each sync goes to the intent log first; see that the dataset has sync=standard, "
     "not disabled, and a fast log device"},
    {"bcachefs", WARNING, "copy-on-write: each sync writes metadata as well"},
    {"ecryptfs", WARNING, "a stacked file system: it is not tested"},
    {"xfs", NOTE,
     "xfs: good; do not clone the spool's files (cp --reflink, snapshots) while the server runs, as shared "
     "blocks are copied at the next write"},
    {"ext4", NOTE, "ext4: good"},
};

static const struct {
    const char *option;
    enum severity severity;
    const char *text;
} options[] = {
    {"nobarrier", WARNING,
     "nobarrier: the disk's cache is not flushed by a sync; a power cut loses what was acknowledged"},
    {"barrier=0", WARNING,
     "barrier=0: the disk's cache is not flushed by a sync; a power cut loses what was acknowledged"},
    {"volatile", WARNING, "volatile: overlay ignores every sync"},
    {"data=writeback", WARNING,
     "data=writeback: after a crash files may hold stale blocks of other files; the spool's checksums "
     "find them, but data=ordered is as fast for it"},
    {"data=journal", WARNING, "data=journal: everything is written twice"},
    {"ro", WARNING, "mounted read-only"},
    {"sync", WARNING, "sync: every write of every file is synced, for nothing: the spool syncs by itself"},
    {"discard", NOTE,
     "discard: each file that is deleted keeps the disk busy for a while, and syncs wait behind it; mount without "
     "it, and let fstrim.timer do it once a week"},
};

static bool type_is(const char *type, const char *pattern)
{
    size_t length = strlen(pattern);
    if (pattern[length - 1] == '.') {
        return strncmp(type, pattern, length - 1) == 0;
    }
    return strcmp(type, pattern) == 0;
}

void disk_mount_judge(const struct disk_mount *mount, void (*warn)(const char *text), void (*note)(const char *text))
{
    bool known = false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (type_is(mount->type, types[i].type)) {
            known = true;
            (types[i].severity == WARNING ? warn : note)(types[i].text);
        }
    }
    if (!known) {
        note("this file system has not been tried: ext4 and xfs have");
    }
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (disk_mount_has(mount, options[i].option)) {
            (options[i].severity == WARNING ? warn : note)(options[i].text);
        }
    }
}
