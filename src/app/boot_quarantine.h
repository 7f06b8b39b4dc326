/* What the control server asks about messages that do not verify. */
#ifndef APP_BOOT_QUARANTINE_H
#define APP_BOOT_QUARANTINE_H

#include "app/boot_private.h"
#include "app/control_ops.h"

void boot_quarantine_ops(struct control_ops *ops);

#endif
