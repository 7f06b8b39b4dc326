#include "app/boot_match.h"

#include <stdlib.h>

#include "app/boot_control.h"
#include "spool/envelope.h"

#define MATCH_SLICE 2000 /* messages looked at in one call on a shard */

struct boot_match {
    struct boot *boot;
    struct bytes domain;
    bool by_message;
    struct bytes sender;
    uint64_t id;
    struct {
        uint64_t *bits; /* one per slot */
        uint32_t slots;
    } spools[QUEUE_SPOOLS];
    unsigned number; /* the spool being gone through */
    uint32_t slot;   /* where the next slice begins */
    bool ended;
};

static void mark(struct boot_match *match, unsigned number, uint32_t slot)
{
    if (slot >= match->spools[number].slots) {
        uint32_t words = match->spools[number].slots / 64;
        uint32_t wanted = (slot / 64 + 1) * 2;
        uint64_t *bits = reallocarray(match->spools[number].bits, wanted, sizeof *bits);
        CHECK(bits != NULL);
        memset(bits + words, 0, (wanted - words) * sizeof *bits);
        match->spools[number].bits = bits;
        match->spools[number].slots = wanted * 64;
    }
    match->spools[number].bits[slot / 64] |= 1ull << (slot % 64);
}

static bool sent_by(struct spool *spool, uint32_t slot, uint64_t id, struct bytes sender)
{
    struct spool_view view;
    if (spool_lend(spool, slot, id, &view) != ERR_OK) {
        return false;
    }
    bool same = spool_view_read(&view) == ERR_OK &&
                bytes_equal_nocase(envelope_find(view.envelope, ENVELOPE_SENDER), sender);
    spool_return(spool, &view);
    return same;
}

static void look_through(struct shard *shard, void *context)
{
    struct boot_match *match = context;
    struct spool *spool = match->boot->spools[match->number];
    (void)shard;
    for (unsigned i = 0; i < MATCH_SLICE; i++) {
        uint64_t id = 0;
        if (!spool_walk(spool, &match->slot, &id)) {
            match->ended = true;
            return;
        }
        if (match->id != 0 ? id == match->id : sent_by(spool, match->slot, id, match->sender)) {
            mark(match, match->number, match->slot);
        }
        match->slot++;
    }
}

static void find_messages(struct boot_match *match)
{
    for (unsigned number = 0; number < QUEUE_SPOOLS; number++) {
        if (match->boot->spools[number] == NULL || (match->id != 0 && spool_id_number(match->id) != number)) {
            continue;
        }
        match->number = number;
        match->slot = 0;
        match->ended = false;
        while (!match->ended &&
               boot_control_ask(match->boot, match->boot->spool_shard[number], look_through, match) == 0) {
        }
    }
}

struct boot_match *boot_match_new(struct boot *boot, const struct control_match *from)
{
    struct boot_match *match = calloc(1, sizeof *match);
    CHECK(match != NULL);
    match->boot = boot;
    if (from->domain != NULL) {
        match->domain = bytes_of_string(from->domain);
    }
    if (from->id != 0 || from->sender != NULL) {
        match->by_message = true;
        match->id = from->id;
        match->sender = bytes_of_string(from->sender != NULL ? from->sender : "");
        find_messages(match);
    }
    return match;
}

void boot_match_delete(struct boot_match *match)
{
    for (unsigned number = 0; number < QUEUE_SPOOLS; number++) {
        free(match->spools[number].bits);
    }
    free(match);
}

static bool is_meant(void *context, const struct queue_entry *entry)
{
    const struct boot_match *match = context;
    if (match->id != 0 && entry->id_low != (uint32_t)match->id) {
        return false;
    }
    return entry->slot < match->spools[entry->spool].slots &&
           (match->spools[entry->spool].bits[entry->slot / 64] >> (entry->slot % 64) & 1) != 0;
}

struct manage_match boot_match_entries(const struct boot_match *match)
{
    union {
        const struct boot_match *constant;
        void *context;
    } pointer = {.constant = match};
    return (struct manage_match){
        .domain = match->domain,
        .message = match->by_message ? is_meant : NULL,
        .context = pointer.context,
    };
}
