/* Which recipients an operator means, as a test that a delivery shard can make on its entries. */
#ifndef APP_BOOT_MATCH_H
#define APP_BOOT_MATCH_H

#include "app/boot_private.h"
#include "app/control_ops.h"
#include "queue/manage.h"

struct boot_match;

/* Asks the owners for the messages that are meant, when it is by id or sender. Blocks. */
struct boot_match *boot_match_new(struct boot *boot, const struct control_match *match);
void boot_match_delete(struct boot_match *match);

/* For manage_entries and manage_act. */
struct manage_match boot_match_entries(const struct boot_match *match);

#endif
