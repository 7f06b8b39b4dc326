/* What is said about file systems and disks: the texts of the kernel, read and judged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
/* cmocka after these */
#include <cmocka.h>

#include "app/disk_device.h"
#include "app/disk_mount.h"

static const char mountinfo[] =
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,nobarrier\n"
    "23 22 0:20 / /proc rw - proc proc rw\n"
    "30 22 0:40 / /srv/a\\040b rw - nfs4 host:/export rw,vers=4.2\n"
    "31 22 0:41 / /var/spool rw,noatime shared:7 master:1 - btrfs /dev/sdb rw,compress=zstd\n"
    "32 31 0:42 / /var/spool/ringpost rw - tmpfs tmpfs rw,size=1k\n"
    "33 31 8:1 / /var/spool/ringpost ro,sync - xfs /dev/sda1 rw,attr2\n";

static char warned[4096];
static char noted[4096];

static void warn(const char *text)
{
    snprintf(warned + strlen(warned), sizeof warned - strlen(warned), "%s\n", text);
}

static void note(const char *text)
{
    snprintf(noted + strlen(noted), sizeof noted - strlen(noted), "%s\n", text);
}

static struct disk_mount find(const char *path)
{
    struct disk_mount mount;
    assert_true(disk_mount_find(bytes_of_string(mountinfo), path, &mount));
    warned[0] = noted[0] = '\0';
    disk_mount_judge(&mount, warn, note);
    return mount;
}

static void the_mount_of_a_path(void **state)
{
    (void)state;
    struct disk_mount mount = find("/var/spoolx");
    assert_string_equal(mount.place, "/");
    assert_string_equal(mount.source, "/dev/vda");
    assert_string_equal(mount.options, "rw,relatime,rw,nobarrier");
    mount = find("/srv/a b/c");
    assert_string_equal(mount.place, "/srv/a b");
    assert_string_equal(mount.type, "nfs4");
    mount = find("/var/spool");
    assert_string_equal(mount.type, "btrfs");
    mount = find("/var/spool/ringpost/0"); /* the later of two at one place lies above */
    assert_string_equal(mount.type, "xfs");
    assert_string_equal(mount.options, "ro,sync,rw,attr2");
    assert_false(disk_mount_find(bytes_of_string("garbage\n1 2 3\n\n"), "/", &mount));
}

static void what_is_warned_of(void **state)
{
    (void)state;
    find("/etc");
    assert_non_null(strstr(warned, "nobarrier"));
    assert_string_equal(noted, "ext4: good\n");
    find("/srv/a b");
    assert_non_null(strstr(warned, "network"));
    find("/var/spool/x");
    assert_non_null(strstr(warned, "copy-on-write"));
    find("/var/spool/ringpost");
    assert_non_null(strstr(warned, "read-only"));
    assert_non_null(strstr(noted, "reflink"));
    static const char *const bad[] = {"nfs", "cifs", "smb3", "fuse.sshfs", "fuseblk", "overlay", "tmpfs", "zfs", "9p"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct disk_mount mount = {.options = "rw,rw"};
        snprintf(mount.type, sizeof mount.type, "%s", bad[i]);
        warned[0] = '\0';
        disk_mount_judge(&mount, warn, note);
        assert_true(warned[0] != '\0');
    }
    struct disk_mount mount = {.type = "ext4", .options = "rw,rw,data=ordered,rowdy,barrier=01"};
    warned[0] = noted[0] = '\0';
    disk_mount_judge(&mount, warn, note);
    assert_string_equal(warned, "");
    snprintf(mount.options, sizeof mount.options, "rw,discard");
    disk_mount_judge(&mount, warn, note);
    assert_string_equal(warned, "");
    assert_non_null(strstr(noted, "fstrim"));
    snprintf(mount.options, sizeof mount.options, "rw,data=writeback");
    disk_mount_judge(&mount, warn, note);
    assert_non_null(strstr(warned, "data=writeback"));
    snprintf(mount.type, sizeof mount.type, "minix");
    disk_mount_judge(&mount, warn, note);
    assert_non_null(strstr(noted, "has not been tried"));
}

/* --- a /sys of our own ---------------------------------------------------------------------------------------------
 */

static void put(const char *root, const char *name, const char *text)
{
    char command[1024];
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s/%s')\" && printf '%%s\\n' '%s' > '%s/%s'", root, name,
             text, root, name);
    assert_int_equal(system(command), 0);
}

static void link_to(const char *root, const char *target, const char *name)
{
    char command[1024];
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s/%s')\" && ln -s '%s/%s' '%s/%s'", root, name, root,
             target, root, name);
    assert_int_equal(system(command), 0);
}

static void disks_below_partitions_and_volumes(void **state)
{
    (void)state;
    char root[] = "/tmp/disk-test-XXXXXX";
    char command[128];
    struct disk_device found[DISK_DEVICES_MAX];
    assert_non_null(mkdtemp(root));
    put(root, "devices/sda/queue/write_cache", "write back");
    put(root, "devices/sda/queue/rotational", "1");
    put(root, "devices/sda/sda1/partition", "1");
    put(root, "devices/vdb/queue/write_cache", "write through");
    put(root, "devices/vdb/queue/rotational", "0");
    put(root, "devices/dm-0/dm/name", "mail");
    link_to(root, "devices/sda/sda1", "devices/dm-0/slaves/sda1");
    link_to(root, "devices/vdb", "devices/dm-0/slaves/vdb");
    link_to(root, "devices/dm-0", "dev/block/253:0");
    link_to(root, "devices/sda/sda1", "dev/block/8:1");
    assert_int_equal(disk_device_find(root, makedev(8, 1), found), 1);
    assert_string_equal(found[0].name, "sda");
    assert_string_equal(found[0].write_cache, "write back");
    assert_true(found[0].rotational && !found[0].virtual);
    assert_int_equal(disk_device_find(root, makedev(253, 0), found), 2);
    unsigned vdb = strcmp(found[0].name, "vdb") == 0 ? 0 : 1;
    assert_string_equal(found[vdb].name, "vdb");
    assert_string_equal(found[vdb].write_cache, "write through");
    assert_true(found[vdb].virtual && !found[vdb].rotational);
    assert_int_equal(disk_device_find(root, makedev(1, 1), found), 0);
    put(root, "cpuinfo", "flags\t\t: fpu hypervisor lahf_lm");
    assert_true(disk_device_virtual_machine(root));
    put(root, "cpuinfo", "flags\t\t: fpu lahf_lm");
    assert_false(disk_device_virtual_machine(root));
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mount_of_a_path),
        cmocka_unit_test(what_is_warned_of),
        cmocka_unit_test(disks_below_partitions_and_volumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
