/* The bounds are the machine's MemAvailable, and for each control group from ours to the root that has a memory.max:
 * that, less what is in use and cannot be reclaimed. The files stay open: a read of them at offset 0 is a new
 * measurement, also when a sandbox has closed the way to them since. */
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

#define MEMORY_GROUPS_MAX 8
#define MEMORY_TEXT_BYTES 8192

struct group {
    int limit; /* memory.max */
    int current;
    int stat;
};

struct memory_probe {
    int machine; /* /proc/meminfo */
    unsigned groups_count;
    struct group groups[MEMORY_GROUPS_MAX];
};

/* A whole small file; false when it cannot be read. */
static bool read_text(int fd, char text[MEMORY_TEXT_BYTES])
{
    ssize_t length = fd < 0 ? -1 : pread(fd, text, MEMORY_TEXT_BYTES - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

/* The number behind `name` at the beginning of a line; false when there is none. */
static bool number_after(const char *text, const char *name, uint64_t *ret_number)
{
    size_t length = strlen(name);
    while (text != NULL && strncmp(text, name, length) != 0) {
        text = strchr(text, '\n');
        text = text != NULL ? text + 1 : NULL;
    }
    if (text == NULL) {
        return false;
    }
    text += length;
    text += strspn(text, " \t");
    return bytes_parse_number(bytes_of(text, strspn(text, "0123456789")), ret_number);
}

static int open_in(const char *directory, const char *name)
{
    char path[4200];
    int length = snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", directory, name);
    return length < (int)sizeof path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
}

static void add_group(struct memory_probe *probe, const char *directory)
{
    struct group group = {
        .limit = open_in(directory, "memory.max"),
        .current = open_in(directory, "memory.current"),
        .stat = open_in(directory, "memory.stat"),
    };
    if (group.limit < 0 || group.current < 0 || group.stat < 0 || probe->groups_count == MEMORY_GROUPS_MAX) {
        close(group.limit);
        close(group.current);
        close(group.stat);
        return;
    }
    probe->groups[probe->groups_count++] = group;
}

/* "0::/system.slice/ringpost.service" and the groups above it; the root has no limit. */
static void find_groups(struct memory_probe *probe)
{
    char text[MEMORY_TEXT_BYTES];
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    bool readable = read_text(fd, text);
    close(fd);
    char *path = readable ? strstr(text, "0::") : NULL;
    if (path == NULL) {
        return;
    }
    path += 3;
    path[strcspn(path, "\n")] = '\0';
    for (char *slash = path; slash != NULL; slash = strrchr(path, '/')) {
        add_group(probe, path);
        char *last = strrchr(path, '/');
        if (last == NULL || last == path) {
            return;
        }
        *last = '\0';
    }
}

struct memory_probe *memory_probe_new(void)
{
    struct memory_probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL) {
        return NULL;
    }
    probe->machine = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    if (probe->machine < 0) {
        free(probe);
        return NULL;
    }
    find_groups(probe);
    return probe;
}

void memory_probe_delete(struct memory_probe *probe)
{
    for (unsigned i = 0; i < probe->groups_count; i++) {
        close(probe->groups[i].limit);
        close(probe->groups[i].current);
        close(probe->groups[i].stat);
    }
    close(probe->machine);
    free(probe);
}

static uint64_t group_available(const struct group *group)
{
    char text[MEMORY_TEXT_BYTES];
    uint64_t limit;
    uint64_t current;
    uint64_t inactive = 0;
    uint64_t active = 0;
    if (!read_text(group->limit, text) || !number_after(text, "", &limit) || !read_text(group->current, text) ||
        !number_after(text, "", &current)) {
        return UINT64_MAX; /* "max" is no number */
    }
    if (read_text(group->stat, text)) {
        number_after(text, "inactive_file", &inactive);
        number_after(text, "active_file", &active);
    }
    uint64_t cache = inactive + active;
    uint64_t used = current > cache ? current - cache : 0;
    return limit > used ? limit - used : 0;
}

uint64_t memory_probe_available(const struct memory_probe *probe)
{
    char text[MEMORY_TEXT_BYTES];
    uint64_t kib = 0;
    bool known = read_text(probe->machine, text) && number_after(text, "MemAvailable:", &kib);
    uint64_t available = known ? kib * 1024 : UINT64_MAX;
    for (unsigned i = 0; i < probe->groups_count; i++) {
        uint64_t here = group_available(&probe->groups[i]);
        available = here < available ? here : available;
    }
    return available;
}
