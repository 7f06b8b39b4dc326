/* What the kernel knows about the block devices below a path, from /sys. */
#ifndef APP_DISK_DEVICE_H
#define APP_DISK_DEVICE_H

#include <stdbool.h>
#include <sys/types.h>

#define DISK_DEVICES_MAX 8

struct disk_device {
    char name[32];        /* "sda" */
    char write_cache[32]; /* "write back", "write through", "" when not known */
    bool rotational;
    bool virtual;   /* a virtual machine's, as far as one can see */
    bool in_memory; /* ram, zram */
    bool loop;      /* a file of another file system */
};

/* The whole disks below a device number, through partitions, LVM, RAID and encryption. Returns how many; 0 when there
 * is none that has a number (network, memory, btrfs). `sys` is "/sys". */
unsigned disk_device_find(const char *sys, dev_t device, struct disk_device ret_devices[DISK_DEVICES_MAX]);

/* Does this machine run below a hypervisor? `proc` is "/proc". */
bool disk_device_virtual_machine(const char *proc);

#endif
