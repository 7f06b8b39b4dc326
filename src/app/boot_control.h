/* The control server's questions, answered by calls on the shards. */
#ifndef APP_BOOT_CONTROL_H
#define APP_BOOT_CONTROL_H

#include "app/boot_private.h"
#include "app/control_ops.h"

#define BOOT_CONTROL_PATIENCE_MS 2000 /* with a shard, per call */

/* Runs the function on the shard; 0, or -errno when it was not run. */
int boot_control_ask(struct boot *boot, unsigned shard, void (*call)(struct shard *shard, void *context),
                     void *context);

/* Fills in the table; its context is `boot`. */
void boot_control_ops(struct control_ops *ops, struct boot *boot);

#endif
