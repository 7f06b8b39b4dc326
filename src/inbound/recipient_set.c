/* Linear probing, at most half full. Only what came last is ever taken out again, so that no run is cut. */
#include "inbound/recipient_set.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "spool/envelope.h"

#define LOOKED_THROUGH_MAX 16 /* above that, a table */
#define CAPACITY_MIN 64u

void recipient_set_init(struct recipient_set *set, struct body_pool *pool)
{
    *set = (struct recipient_set){.pool = pool};
}

void recipient_set_free(struct recipient_set *set)
{
    if (set->slots != NULL) {
        body_pool_return(set->pool, set->capacity * sizeof *set->slots);
        free(set->slots);
        set->slots = NULL;
    }
}

static struct bytes mailbox_at(struct bytes envelope, uint32_t offset)
{
    struct envelope_iterator at = envelope_iterate(bytes_slice(envelope, offset, envelope.length - offset));
    struct envelope_item item;
    CHECK(envelope_next(&at, &item) && item.tag == ENVELOPE_RECIPIENT);
    return item.value;
}

/* Where that mailbox is, or the empty slot where it would be. */
static uint32_t *slot_of(const struct recipient_set *set, struct bytes envelope, struct bytes mailbox)
{
    uint32_t at = map_hash(mailbox) & (set->capacity - 1);
    while (set->slots[at] != 0 && !bytes_equal(mailbox_at(envelope, set->slots[at] - 1), mailbox)) {
        at = (at + 1) & (set->capacity - 1);
    }
    return &set->slots[at];
}

/* The offset of the next RECIPIENT item from *offset on, which is moved behind it. */
static bool next(struct bytes envelope, uint32_t *offset, uint32_t *ret_offset, struct bytes *ret_mailbox)
{
    struct envelope_iterator at = envelope_iterate(bytes_slice(envelope, *offset, envelope.length - *offset));
    struct envelope_item item;
    if (!envelope_next_recipient(&at, &item)) {
        return false;
    }
    *ret_mailbox = item.value;
    *ret_offset = (uint32_t)(item.value.data - envelope.data) - ENVELOPE_ITEM_BYTES;
    *offset = *ret_offset + ENVELOPE_ITEM_BYTES + (uint32_t)item.value.length;
    return true;
}

enum err recipient_set_reserve(struct recipient_set *set, struct bytes envelope, uint32_t more)
{
    uint32_t wanted = set->count + more;
    uint32_t capacity = set->slots != NULL ? set->capacity : CAPACITY_MIN;
    if (wanted <= LOOKED_THROUGH_MAX || (set->slots != NULL && wanted <= set->capacity / 2)) {
        return ERR_OK;
    }
    while (wanted > capacity / 2) {
        capacity *= 2;
    }
    if (!body_pool_reserve(set->pool, capacity * sizeof *set->slots)) {
        return ERR_NO_MEMORY;
    }
    uint32_t *slots = calloc(capacity, sizeof *slots);
    if (slots == NULL) {
        body_pool_return(set->pool, capacity * sizeof *set->slots);
        return ERR_NO_MEMORY;
    }
    recipient_set_free(set);
    set->slots = slots;
    set->capacity = capacity;
    uint32_t at = 0;
    uint32_t offset;
    struct bytes mailbox;
    while (next(envelope, &at, &offset, &mailbox)) {
        *slot_of(set, envelope, mailbox) = offset + 1;
    }
    return ERR_OK;
}

bool recipient_set_find(const struct recipient_set *set, struct bytes envelope, struct bytes mailbox,
                        uint32_t *ret_offset)
{
    if (set->slots != NULL) {
        uint32_t found = *slot_of(set, envelope, mailbox);
        *ret_offset = found - (found != 0);
        return found != 0;
    }
    uint32_t at = 0;
    struct bytes other;
    for (uint32_t i = 0; i < set->count && next(envelope, &at, ret_offset, &other); i++) {
        if (bytes_equal(other, mailbox)) {
            return true;
        }
    }
    return false;
}

void recipient_set_put(struct recipient_set *set, struct bytes envelope, uint32_t offset)
{
    set->count++;
    if (set->slots != NULL) {
        uint32_t *slot = slot_of(set, envelope, mailbox_at(envelope, offset));
        CHECK(*slot == 0 && set->count <= set->capacity / 2);
        *slot = offset + 1;
    } else {
        CHECK(set->count <= LOOKED_THROUGH_MAX);
    }
}

void recipient_set_take_back(struct recipient_set *set, struct bytes envelope, uint32_t offset)
{
    CHECK(set->count > 0);
    set->count--;
    if (set->slots != NULL) {
        uint32_t *slot = slot_of(set, envelope, mailbox_at(envelope, offset));
        CHECK(*slot == offset + 1);
        *slot = 0;
    }
}
