/* Which recipients an envelope has already: the same one twice is one delivery.
 *
 * A view of the envelope's RECIPIENT items, by their offsets: few recipients are looked through, many are in a hash
 * table, whose memory counts against the pool of bodies. Addresses are compared octet by octet; they have their domain
 * in lower case (mail/address), and what a local part means is for its host to know (RFC 5321 2.4). */
#ifndef INBOUND_RECIPIENT_SET_H
#define INBOUND_RECIPIENT_SET_H

#include "base/err.h"
#include "inbound/body.h"

struct recipient_set {
    struct body_pool *pool;
    uint32_t *slots;   /* offset of an item and 1; 0: none. NULL: they are looked through */
    uint32_t capacity; /* a power of two */
    uint32_t count;    /* in the envelope */
};

void recipient_set_init(struct recipient_set *set, struct body_pool *pool);
void recipient_set_free(struct recipient_set *set);

/* Before so many more are put. ERR_NO_MEMORY: nothing has changed. */
enum err recipient_set_reserve(struct recipient_set *set, struct bytes envelope, uint32_t more);

/* True, and the offset of its item, when the envelope has this mailbox. */
bool recipient_set_find(const struct recipient_set *set, struct bytes envelope, struct bytes mailbox,
                        uint32_t *ret_offset);

/* There is a new item; its mailbox was not there before. */
void recipient_set_put(struct recipient_set *set, struct bytes envelope, uint32_t offset);
/* That item goes again: the one that was put last, and is still in the envelope. */
void recipient_set_take_back(struct recipient_set *set, struct bytes envelope, uint32_t offset);

#endif
