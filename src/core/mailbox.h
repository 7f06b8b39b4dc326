/* Single-producer single-consumer rings between shards: messages by copy, no lock, no allocation.
 *
 * One mailbox per ordered pair of shards. A message takes one or more 64-byte cells: an 8-byte head {kind, length} and
 * the payload. The producer writes cells and publishes its tail once per loop turn; the consumer takes everything that
 * is there, then publishes its head. Head and tail sit on cache lines of their own, and each side keeps a copy of the
 * other's index so that the shared line is read only when the ring looks full or empty.
 */
#ifndef CORE_MAILBOX_H
#define CORE_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAILBOX_CELL_BYTES 64
#define MAILBOX_CELLS 8192 /* a power of two; 512 KiB per ordered pair */

/* Who handles a message; a shard's table (shard_on_mail) maps it to a function. core knows only the names. */
enum mail_kind {
    MAIL_NONE,
    MAIL_CALL,       /* run a function on this shard: control thread, tests */
    MAIL_CONNECTION, /* an accepted connection moves here */
    MAIL_ENQUEUE,    /* owner -> delivery: recipients to deliver */
    MAIL_BORROW,     /* delivery -> owner: give me a message's location and keep it in place */
    MAIL_LENT,       /* owner -> delivery: here it is */
    MAIL_OUTCOME,    /* delivery -> owner: what became of recipients */
    MAIL_RETURN,     /* delivery -> owner: done with the message */
    MAIL_FORWARD,    /* delivery -> delivery: recipients whose site belongs to another shard */
    MAIL_CONTROL,    /* control thread -> shard and back */
    MAIL_KINDS,
};

struct mailbox;

struct mailbox *mailbox_new(void);
void mailbox_delete(struct mailbox *mailbox);

/* Producer. Copies a message of `length` <= LIMIT_MAIL_BYTES in; false when the ring has no room. Not visible to the
 * consumer before mailbox_publish, which returns whether there was anything new. */
bool mailbox_put(struct mailbox *mailbox, enum mail_kind kind, const void *payload, size_t length);
bool mailbox_publish(struct mailbox *mailbox);

/* Consumer. The next message, or NULL. It stays valid until mailbox_release, which frees all those taken. 8-aligned. */
const void *mailbox_next(struct mailbox *mailbox, enum mail_kind *ret_kind, size_t *ret_length);
void mailbox_release(struct mailbox *mailbox);

/* Consumer: is there something to take? Part of the wake protocol, see mailbox.c. */
bool mailbox_pending(const struct mailbox *mailbox);

#endif
