/* What is a 250 worth on this disk, and how many of them does it give? The first can only be asked of the kernel's
 * knowledge (and in the end of a power cut), the second is measured with the very writes that the spool makes. */
#include "app/cli_disk.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/cli.h"
#include "app/disk_device.h"
#include "app/disk_mount.h"
#include "app/disk_sync.h"

#define MESSAGE_BYTES 4096
#define CACHED_MS 0.02  /* no flash answers faster than this */
#define ROTATION_MS 2.0 /* a quarter of a turn at 7200 a minute */
#define SLOW_MS 30.0    /* a sync that takes longer is felt by clients */
#define STALL_MS 1000.0
#define MOUNTINFO_BYTES (1u << 20)

static unsigned warnings;

static void warn(const char *text)
{
    printf("  warning: %s\n", text);
    warnings++;
}

static void note(const char *text)
{
    printf("  %s\n", text);
}

static void tell_mount(const char *path)
{
    struct disk_mount mount;
    char *text = malloc(MOUNTINFO_BYTES);
    FILE *file = fopen("/proc/self/mountinfo", "re");
    size_t length = file != NULL && text != NULL ? fread(text, 1, MOUNTINFO_BYTES, file) : 0;
    if (disk_mount_find(bytes_of(text, length), path, &mount)) {
        printf("file system  %s, %s at %s\n", mount.type, mount.source, mount.place);
        printf("  options %s\n", mount.options);
        disk_mount_judge(&mount, warn, note);
    } else {
        warn("/proc/self/mountinfo does not say what file system this is");
    }
    if (file != NULL) {
        fclose(file);
    }
    free(text);
}

static void tell_device(const struct disk_device *device, bool machine_is_virtual)
{
    printf("disk         %s, %s, write cache: %s\n", device->name, device->rotational ? "rotating" : "not rotating",
           device->write_cache[0] != '\0' ? device->write_cache : "not known");
    if (device->in_memory) {
        warn("memory: everything is lost with the power");
    }
    if (device->loop) {
        note("a file of another file system: what holds for that one holds here; give its path to this check as well");
    }
    if (strcmp(device->write_cache, "write back") == 0) {
        note("its cache forgets when the power fails; the kernel flushes it with every sync, in the times below");
    } else if (strcmp(device->write_cache, "write through") == 0) {
        note("it says that it has no cache that forgets, so the kernel never flushes it; true of disks");
        note("with capacitors, and of controllers with a battery for as long as that is charged");
    }
    if (device->virtual || machine_is_virtual) {
        note("a virtual machine: a sync is worth what the host makes of it. Ask for cache=none or cache=writethrough");
        note("(not unsafe, and writeback only where flushes are passed on), and for disks that keep what they confirm");
    }
}

/* Returns whether one of them says that it rotates. */
static bool tell_devices(const char *path)
{
    bool rotating = false;
    struct stat status;
    struct disk_device devices[DISK_DEVICES_MAX];
    unsigned count = stat(path, &status) == 0 ? disk_device_find("/sys", status.st_dev, devices) : 0;
    bool machine_is_virtual = disk_device_virtual_machine("/proc");
    for (unsigned i = 0; i < count; i++) {
        tell_device(&devices[i], machine_is_virtual);
        rotating |= devices[i].rotational;
    }
    if (count == 0) {
        puts("disk         not known to the kernel as one device");
    }
    return rotating;
}

static void tell_times(const struct disk_sync results[DISK_SYNC_SIZES])
{
    puts(
        "\nsyncs        write with RWF_DSYNC into a file that is allocated and written, as the spool commits; one at a "
        "time");
    puts("       batch   batches/s    p50 ms    p99 ms    max ms        MiB/s");
    for (unsigned i = 0; i < DISK_SYNC_SIZES; i++) {
        double rate = results[i].batches / results[i].seconds;
        printf("  %6u KiB  %10.0f  %8.3f  %8.3f  %8.3f  %11.1f\n", results[i].batch_bytes >> 10, rate,
               results[i].p50_ms, results[i].p99_ms, results[i].max_ms, rate * results[i].batch_bytes / (1 << 20));
    }
    puts("\nmessages     per shard, of 4 KiB, each answered when it is on the disk: a commit carries what came during\n"
         "             the one before, so more senders at once make larger batches");
    for (unsigned i = 0; i < DISK_SYNC_SIZES; i++) {
        unsigned messages = results[i].batch_bytes / MESSAGE_BYTES;
        printf("  %4u senders at once: up to %8.0f messages/s, answered in about %.2f ms\n", messages,
               messages * results[i].batches / results[i].seconds, 1.5 * results[i].p50_ms);
    }
}

static void judge_times(const struct disk_sync results[DISK_SYNC_SIZES], bool rotating)
{
    char text[256];
    double worst = 0;
    for (unsigned i = 0; i < DISK_SYNC_SIZES; i++) {
        worst = results[i].max_ms > worst ? results[i].max_ms : worst;
    }
    puts("");
    if (results[0].p50_ms < CACHED_MS) {
        snprintf(
            text, sizeof text,
            "a sync takes %.3f ms: no disk is that fast. Something between here and it says yes too early, or this "
            "is memory",
            results[0].p50_ms);
        warn(text);
    }
    if (rotating && results[0].p50_ms >= CACHED_MS && results[0].p50_ms < ROTATION_MS) {
        note("it is said to rotate, and answers faster than that allows: a cache confirms, the host's or a");
        note("controller's, or a virtual disk says nothing of what is below it. Is that cache kept without power?");
    }
    if (results[0].p50_ms > SLOW_MS) {
        snprintf(text, sizeof text, "a sync takes %.0f ms: every 250 waits for one, or for two", results[0].p50_ms);
        warn(text);
    }
    if (worst > STALL_MS) {
        snprintf(text, sizeof text, "one sync took %.1f s: clients wait as long, and with them their connections",
                 worst / 1000);
        warn(text);
    }
}

int cli_disk_check(const char *directory, bool strict)
{
    char path[PATH_MAX];
    struct disk_sync results[DISK_SYNC_SIZES];
    const char *step = "";
    warnings = 0;
    if (realpath(directory, path) == NULL) {
        fprintf(stderr, "ringpost check: %s: %s\n", directory, strerror(errno));
        return CLI_FAILED;
    }
    printf("directory    %s\n", path);
    tell_mount(path);
    bool rotating = tell_devices(path);
    fflush(stdout);
    int result = disk_sync_measure(path, results, &step);
    if (result != 0) {
        fprintf(stderr, "ringpost check: %s: %s: %s\n", path, step, strerror(-result));
        return CLI_FAILED;
    }
    tell_times(results);
    judge_times(results, rotating);
    if (warnings != 0) {
        printf("%u warnings; docs/durability.md says what they mean\n", warnings);
    } else {
        puts("no warnings; what only a power cut can show, docs/durability.md says how to try");
    }
    return strict && warnings != 0 ? CLI_CONFIG : CLI_OK;
}
