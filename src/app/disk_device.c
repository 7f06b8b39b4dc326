#include "app/disk_device.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DEPTH_MAX 8 /* of devices upon devices */

static void read_line(const char *directory, const char *name, char *ret_text, size_t size)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "re");
    ret_text[0] = '\0';
    if (file != NULL) {
        if (fgets(ret_text, (int)size, file) == NULL) {
            ret_text[0] = '\0';
        }
        fclose(file);
    }
    ret_text[strcspn(ret_text, "\n")] = '\0';
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool is_virtual(const char *directory, const char *name)
{
    char vendor[64];
    char model[64];
    read_line(directory, "device/vendor", vendor, sizeof vendor);
    read_line(directory, "device/model", model, sizeof model);
    return begins(name, "vd") || begins(name, "xvd") || begins(vendor, "QEMU") || begins(vendor, "VMware") ||
           begins(vendor, "Msft") || begins(model, "QEMU") || begins(model, "VMware") ||
           begins(model, "Amazon Elastic") || begins(model, "nvme_card") || begins(model, "Virtual");
}

struct search {
    struct disk_device *devices;
    unsigned count;
};

static void add(struct search *search, const char *directory)
{
    char flag[8];
    const char *name = strrchr(directory, '/') + 1;
    for (unsigned i = 0; i < search->count; i++) {
        if (strcmp(search->devices[i].name, name) == 0) {
            return;
        }
    }
    if (search->count == DISK_DEVICES_MAX) {
        return;
    }
    struct disk_device *device = &search->devices[search->count++];
    *device = (struct disk_device){.virtual = is_virtual(directory, name),
                                   .in_memory = begins(name, "ram") || begins(name, "zram"),
                                   .loop = begins(name, "loop")};
    snprintf(device->name, sizeof device->name, "%.31s", name);
    read_line(directory, "queue/write_cache", device->write_cache, sizeof device->write_cache);
    read_line(directory, "queue/rotational", flag, sizeof flag);
    device->rotational = flag[0] == '1';
}

/* `directory` is a device's in /sys, without links. */
static void look(struct search *search, const char *directory, unsigned depth)
{
    char path[PATH_MAX + 300];
    char whole[PATH_MAX];
    bool stacked = false;
    snprintf(path, sizeof path, "%s/partition", directory);
    if (access(path, F_OK) == 0) {
        snprintf(whole, sizeof whole, "%.*s", (int)(strrchr(directory, '/') - directory), directory);
        if (depth < DEPTH_MAX) {
            look(search, whole, depth + 1);
        }
        return;
    }
    snprintf(path, sizeof path, "%s/slaves", directory);
    DIR *slaves = opendir(path);
    const struct dirent *entry;
    while (slaves != NULL && (entry = readdir(slaves)) != NULL) {
        snprintf(path, sizeof path, "%s/slaves/%s", directory, entry->d_name);
        if (entry->d_name[0] != '.' && depth < DEPTH_MAX && realpath(path, whole) != NULL) {
            stacked = true;
            look(search, whole, depth + 1);
        }
    }
    if (slaves != NULL) {
        closedir(slaves);
    }
    if (!stacked) {
        add(search, directory);
    }
}

unsigned disk_device_find(const char *sys, dev_t device, struct disk_device ret_devices[DISK_DEVICES_MAX])
{
    struct search search = {.devices = ret_devices};
    char path[PATH_MAX];
    char real[PATH_MAX];
    snprintf(path, sizeof path, "%s/dev/block/%u:%u", sys, major(device), minor(device));
    if (realpath(path, real) != NULL) {
        look(&search, real, 0);
    }
    return search.count;
}

bool disk_device_virtual_machine(const char *proc)
{
    char path[PATH_MAX];
    char line[8192];
    bool found = false;
    snprintf(path, sizeof path, "%s/cpuinfo", proc);
    FILE *file = fopen(path, "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        found = begins(line, "flags") && strstr(line, " hypervisor") != NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}
