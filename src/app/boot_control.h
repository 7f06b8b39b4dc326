/* The control server's questions, answered by calls on the shards. */
#ifndef APP_BOOT_CONTROL_H
#define APP_BOOT_CONTROL_H

#include "app/boot_private.h"
#include "app/control_ops.h"

/* Fills in the table; its context is `boot`. */
void boot_control_ops(struct control_ops *ops, struct boot *boot);

#endif
