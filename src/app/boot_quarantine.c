/* One call per spool on the shard that owns it. A message is read from the disk to be shown, which blocks that shard
 * for a moment: quarantine is small, or the disk is about to be replaced. */
#include "app/boot_quarantine.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "spool/quarantine.h"

#define BOOT_QUARANTINE_SLICE 16 /* messages read in one call on a shard */

struct look {
    struct boot *boot;
    struct spool *spool;
    struct control_quarantine *found;
    size_t limit;
    uint32_t slot;
    uint64_t id; /* 0: all */
    uint64_t count;
    bool ended;
};

static void each_spool(struct boot *boot, struct look *look, void (*call)(struct shard *shard, void *context))
{
    for (unsigned number = 0; number < QUEUE_SPOOLS; number++) {
        if (boot->spools[number] == NULL || (look->id != 0 && spool_id_number(look->id) != number)) {
            continue;
        }
        look->spool = boot->spools[number];
        look->slot = 0;
        look->ended = false;
        while (!look->ended && shard_call(boot->group, boot->spool_shard[number], call, look) == 0) {
        }
    }
}

static void list_some(struct shard *shard, void *context)
{
    struct look *look = context;
    struct spool_quarantined from;
    uint32_t records;
    uint32_t segments;
    (void)shard;
    for (unsigned i = 0; i < BOOT_QUARANTINE_SLICE; i++) {
        look->ended = look->found->more || !spool_quarantine_next(look->spool, &look->slot, &from);
        if (look->ended) {
            spool_quarantine_damage(look->spool, &records, &segments);
            look->found->damaged_records += records;
            look->found->damaged_segments += segments;
            return;
        }
        if (look->found->count == look->limit) {
            look->found->more = true;
            continue;
        }
        struct control_quarantined *item = &look->found->items[look->found->count++];
        *item = (struct control_quarantined){.id = from.id,
                                             .offset = from.offset,
                                             .bytes = from.bytes,
                                             .recipients = from.recipients,
                                             .readable = from.readable,
                                             .arrival_ms = from.arrival_ms};
        snprintf(item->file, sizeof item->file, "%s", from.file);
        snprintf(item->sender, sizeof item->sender, "%s", from.sender);
    }
}

static struct control_quarantine quarantine_list(void *context, size_t limit)
{
    struct control_quarantine found = {.items = calloc(limit, sizeof *found.items)};
    struct look look = {.boot = context, .found = &found, .limit = limit};
    CHECK(found.items != NULL);
    each_spool(context, &look, list_some);
    return found;
}

static void drop_some(struct shard *shard, void *context)
{
    struct look *look = context;
    struct spool_quarantined item;
    (void)shard;
    look->ended = true;
    if (look->id != 0) {
        look->count += spool_quarantine_drop(look->spool, look->id) == ERR_OK;
        return;
    }
    for (unsigned i = 0; i < BOOT_QUARANTINE_SLICE; i++) {
        if (!spool_quarantine_next(look->spool, &look->slot, &item)) {
            return;
        }
        look->count += spool_quarantine_drop(look->spool, item.id) == ERR_OK;
    }
    look->ended = false;
}

static uint64_t quarantine_drop(void *context, uint64_t id)
{
    struct look look = {.boot = context, .id = id};
    each_spool(context, &look, drop_some);
    return look.count;
}

static void forget(struct shard *shard, void *context)
{
    struct look *look = context;
    uint32_t records;
    uint32_t segments;
    (void)shard;
    spool_quarantine_damage(look->spool, &records, &segments);
    spool_forget_damage(look->spool);
    look->count += records;
    look->ended = true;
}

static uint64_t quarantine_forget(void *context)
{
    struct look look = {.boot = context};
    each_spool(context, &look, forget);
    return look.count;
}

void boot_quarantine_ops(struct control_ops *ops)
{
    ops->quarantine_list = quarantine_list;
    ops->quarantine_drop = quarantine_drop;
    ops->quarantine_forget = quarantine_forget;
}
