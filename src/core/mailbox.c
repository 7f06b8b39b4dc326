/* A ring of cells in which one message is one contiguous run.
 *
 *     cells   | head payload | payload ... | head payload | (padding: head only) |
 *               ^ released     ^ taken                      ^ tail      wraps to cell 0
 *
 * Indices count cells from the start and never wrap; the place in the ring is index modulo MAILBOX_CELLS. A message
 * that would cross the end of the ring starts at cell 0 instead, behind a padding message of kind MAIL_NONE.
 *
 * The producer's `written` runs ahead of the shared `tail`, and the consumer's `taken` ahead of the shared `head`: many
 * messages move for one store to a line that the other core reads. Each side looks at the other's shared index only
 * when the copy it kept says that the ring is full or empty.
 *
 * Sleeping. The wake protocol (shard.c) rests on this pair:
 *
 *     consumer:  sleeping = 1;  if (mailbox_pending) stay awake
 *     producer:  mailbox_publish;  if (exchange(sleeping, 0)) wake
 *
 * All four are sequentially consistent, which is why the tail is stored and tested so although release and acquire
 * would do for the data: then at least one side sees the other's store, and no message lies in front of a sleeper.
 */
#include "core/mailbox.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"

#define CELL_MASK (MAILBOX_CELLS - 1)
#define LINE_BYTES 128 /* two cache lines: processors fetch them in pairs */

struct head {
    uint16_t kind;
    uint16_t cells;
    uint32_t length; /* of the payload, in bytes */
};

struct mailbox {
    alignas(LINE_BYTES) _Atomic uint64_t tail; /* the consumer may read the cells below */
    alignas(LINE_BYTES) _Atomic uint64_t head; /* the producer may overwrite the cells below */
    alignas(LINE_BYTES) struct {
        uint64_t written;
        uint64_t tail; /* as published */
        uint64_t head; /* as last seen */
    } producer;
    alignas(LINE_BYTES) struct {
        uint64_t taken;
        uint64_t head; /* as published */
        uint64_t tail; /* as last seen */
    } consumer;
    alignas(LINE_BYTES) unsigned char cells[MAILBOX_CELLS][MAILBOX_CELL_BYTES];
};

static_assert((MAILBOX_CELLS & CELL_MASK) == 0, "the ring is a power of two");
static_assert(sizeof(struct head) == 8, "payloads are 8-aligned");
static_assert(sizeof(struct head) + LIMIT_MAIL_BYTES <= MAILBOX_CELLS / 4 * MAILBOX_CELL_BYTES, "messages fit easily");

struct mailbox *mailbox_new(void)
{
    struct mailbox *mailbox = aligned_alloc(LINE_BYTES, sizeof *mailbox);
    if (mailbox) {
        memset(mailbox, 0, offsetof(struct mailbox, cells));
    }
    return mailbox;
}

void mailbox_delete(struct mailbox *mailbox)
{
    free(mailbox);
}

static void write_head(struct mailbox *mailbox, uint64_t at, struct head head)
{
    memcpy(mailbox->cells[at & CELL_MASK], &head, sizeof head);
}

static struct head read_head(const struct mailbox *mailbox, uint64_t at)
{
    struct head head;
    memcpy(&head, mailbox->cells[at & CELL_MASK], sizeof head);
    return head;
}

/* Are there `cells` free cells after what was written? */
static bool has_room(struct mailbox *mailbox, uint64_t cells)
{
    uint64_t end = mailbox->producer.written + cells;
    if (end - mailbox->producer.head > MAILBOX_CELLS) {
        mailbox->producer.head = atomic_load_explicit(&mailbox->head, memory_order_acquire);
    }
    return end - mailbox->producer.head <= MAILBOX_CELLS;
}

bool mailbox_put(struct mailbox *mailbox, enum mail_kind kind, const void *payload, size_t length)
{
    CHECK(kind > MAIL_NONE && kind < MAIL_KINDS && length <= LIMIT_MAIL_BYTES);
    uint64_t cells = (sizeof(struct head) + length + MAILBOX_CELL_BYTES - 1) / MAILBOX_CELL_BYTES;
    uint64_t to_end = MAILBOX_CELLS - (mailbox->producer.written & CELL_MASK);
    uint64_t padding = cells > to_end ? to_end : 0;
    if (!has_room(mailbox, padding + cells)) {
        return false;
    }
    if (padding != 0) {
        write_head(mailbox, mailbox->producer.written, (struct head){.kind = MAIL_NONE, .cells = (uint16_t)padding});
        mailbox->producer.written += padding;
    }
    uint64_t at = mailbox->producer.written;
    write_head(mailbox, at,
               (struct head){.kind = (uint16_t)kind, .cells = (uint16_t)cells, .length = (uint32_t)length});
    if (length != 0) {
        memcpy(mailbox->cells[at & CELL_MASK] + sizeof(struct head), payload, length);
    }
    mailbox->producer.written += cells;
    return true;
}

bool mailbox_publish(struct mailbox *mailbox)
{
    if (mailbox->producer.written == mailbox->producer.tail) {
        return false;
    }
    mailbox->producer.tail = mailbox->producer.written;
    atomic_store_explicit(&mailbox->tail, mailbox->producer.tail, memory_order_seq_cst);
    return true;
}

const void *mailbox_next(struct mailbox *mailbox, enum mail_kind *ret_kind, size_t *ret_length)
{
    for (;;) {
        uint64_t at = mailbox->consumer.taken;
        if (at == mailbox->consumer.tail) {
            mailbox->consumer.tail = atomic_load_explicit(&mailbox->tail, memory_order_acquire);
            if (at == mailbox->consumer.tail) {
                return NULL;
            }
        }
        struct head head = read_head(mailbox, at);
        mailbox->consumer.taken += head.cells;
        if (head.kind != MAIL_NONE) {
            *ret_kind = head.kind;
            *ret_length = head.length;
            return mailbox->cells[at & CELL_MASK] + sizeof head;
        }
    }
}

void mailbox_release(struct mailbox *mailbox)
{
    if (mailbox->consumer.head != mailbox->consumer.taken) {
        mailbox->consumer.head = mailbox->consumer.taken;
        atomic_store_explicit(&mailbox->head, mailbox->consumer.head, memory_order_release);
    }
}

bool mailbox_pending(const struct mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->tail, memory_order_seq_cst) != mailbox->consumer.taken;
}
