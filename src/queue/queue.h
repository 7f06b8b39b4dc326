/* The queue of one shard. It has two roles, which may be on the same shard or on different ones:
 *
 * The owner is the shard whose spool holds the message. It splits the recipients (enqueue), lends the message to
 * whoever delivers it, and journals what became of its recipients (lend).
 *
 * The delivery side is the shard that delivers a domain. It keeps one entry of 32 bytes per recipient (schedule): in a
 * destination's ready list, in the calendar of retries, or with delivery.
 *
 * An entry names its message by {spool, slot} and the low half of its id, which tells it from a later message in the
 * same slot. Everything else about it is in the spool and is borrowed for an attempt. So a queued recipient costs 32
 * bytes here and a spool slot at its owner.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/map.h"
#include "base/slots.h"
#include "core/shard.h"

#define QUEUE_SPOOLS 256          /* a spool's number is a byte */
#define QUEUE_CALENDAR_SLOTS 4096 /* seconds that the calendar tells apart; later ones share */
#define QUEUE_RETRY_STEPS 64
#define QUEUE_ERROR_BYTES 256 /* a destination's last error */
#define QUEUE_ENTRIES_MAX (1u << 30)
#define QUEUE_DESTINATIONS_MAX (1u << 24)

struct lend_outcome;
struct spool;

struct queue_settings {
    uint32_t retry_ms[QUEUE_RETRY_STEPS]; /* the wait after the n-th failed attempt; the last one repeats */
    unsigned retry_count;                 /* at least 1 */
    unsigned jitter_percent;              /* each wait is spread by this much to both sides */
    uint64_t expire_ms;                   /* from acceptance */
    uint64_t delay_warning_ms;            /* from acceptance: who asked for it is told of a delay; 0: never */
    uint32_t recipients_max;              /* of all shards together; more are refused with 452 */
};

/* Where an entry is. */
enum queue_place {
    QUEUE_FREE,
    QUEUE_READY,    /* in its destination's ready list */
    QUEUE_CALENDAR, /* waits for next_attempt_s */
    QUEUE_OUT,      /* with delivery */
    QUEUE_PARKED,   /* held by the operator, in no list */
};

/* What the operator wants to happen to it, when it is next looked at. */
enum queue_wish { QUEUE_NO_WISH, QUEUE_HOLD, QUEUE_RELEASE, QUEUE_RETRY, QUEUE_REMOVE, QUEUE_BOUNCE };

/* Of the priority that the sender gave (RFC 6710); served in the order URGENT, HIGH, NORMAL, LOW (queue/ready.h). */
enum queue_band { QUEUE_BAND_NORMAL, QUEUE_BAND_HIGH, QUEUE_BAND_URGENT, QUEUE_BAND_LOW };
#define QUEUE_BANDS 4

/* One recipient of one message. */
struct queue_entry {
    uint32_t slot;           /* of the message in its spool */
    uint32_t id_low;         /* of its id: tells a message from a later one in the same slot */
    uint32_t next;           /* in whatever list it is; SLOTS_NONE ends it */
    uint32_t next_attempt_s; /* of what the operator holds: since when, 0: not known */
    uint32_t arrival_s;      /* or later, of a message for later or that was held: the expiry counts from here */
    uint32_t destination : 24;
    uint32_t band : 2; /* enum queue_band */
    uint32_t place : 3;
    uint32_t wish : 3;
    uint32_t deadline : 31; /* seconds since 1970, halved and rounded up; 0: none. See queue_entry_set_deadline */
    uint32_t ends : 1;      /* what it means: given up then, else the sender is told; without deadline: was told */
    uint16_t recipient;     /* its position in the envelope */
    uint8_t spool;
    uint8_t attempts; /* saturates */
};

static_assert(sizeof(struct queue_entry) == 32, "a million of them are 32 MB");

/* A time at which something happens to the recipient wherever it waits; wall seconds, 0: none. */
static inline uint32_t queue_entry_deadline_s(const struct queue_entry *entry)
{
    return entry->deadline * 2u;
}

/* `ends`: it is given up then (DELIVERBY with R, RFC 2852); else its sender is told that it is late, once. */
static inline void queue_entry_set_deadline(struct queue_entry *entry, uint32_t deadline_s, bool ends)
{
    entry->deadline = (deadline_s / 2 + deadline_s % 2) & 0x7fffffff;
    entry->ends = ends;
}

/* Are both of one message? Not of two that had the slot one after the other. */
static inline bool queue_entry_same_message(const struct queue_entry *a, const struct queue_entry *b)
{
    return a->slot == b->slot && a->id_low == b->id_low && a->spool == b->spool;
}

/* The sender has been told. */
static inline bool queue_entry_told(const struct queue_entry *entry)
{
    return entry->deadline == 0 && entry->ends;
}

/* One recipient domain. Kept while it has entries or is in use by delivery. */
struct destination {
    uint32_t index;
    uint32_t ready_first[QUEUE_BANDS];
    uint32_t ready_last[QUEUE_BANDS];
    uint32_t ready;      /* in all bands */
    uint32_t deadline_s; /* the earliest of those that are ready, or earlier; 0: they have none */
    uint32_t deferred;
    uint32_t held;
    uint32_t out;
    uint32_t error_s;       /* when last_error was set; wall seconds */
    uint32_t unreachable_s; /* when it could not be reached last; 0: never */
    char *last_error;       /* up to QUEUE_ERROR_BYTES, or NULL */
    void *delivery;         /* delivery's state for it, or NULL */
    bool adopted;           /* its recipients came from another shard: they stay here */
    bool local;             /* for delivery: what kind of state that is */
    uint16_t length;
    char domain[];
};

static inline struct bytes destination_domain(const struct destination *destination)
{
    return bytes_of(destination->domain, destination->length);
}

/* What the layer above provides. */
struct queue_ops {
    /* The shard that new recipients of a domain go to first. Called on any shard. */
    unsigned (*shard_of)(void *context, struct bytes domain);
    /* A destination has ready entries. Called on the delivery shard, whenever one is added. */
    void (*ready)(void *context, struct destination *destination);
    /* The operator wants it tried now: whatever keeps it waiting ends. */
    void (*hurry)(void *context, struct destination *destination);
    /* Its last entry is gone: delivery drops its state for it (destination->delivery = NULL). */
    void (*idle)(void *context, struct destination *destination);
    /* Owner: journal an outcome and bounce what failed (see lend.h). Called on the owner's shard. */
    void (*outcome)(void *context, const void *payload, size_t length);
    /* Delivery: a borrowed message has come, or has not. */
    void (*lent)(void *context, const void *payload, size_t length);
    void *context;
};

struct queue {
    struct shard *shard;
    struct queue_settings settings;
    struct queue_ops ops;
    /* owner */
    struct spool *spools[QUEUE_SPOOLS]; /* those this shard owns */
    const uint8_t *spool_shard;         /* spool number -> owning shard; set at boot, then constant */
    /* delivery */
    struct slots entries;
    struct slots destination_slots; /* of struct destination * */
    struct map destinations;        /* by domain */
    uint32_t calendar[QUEUE_CALENDAR_SLOTS];
    uint64_t calendar_used[QUEUE_CALENDAR_SLOTS / 64];
    uint32_t calendar_swept_s; /* everything due up to here has been moved */
    int64_t calendar_clock_ms; /* wall clock less the shard's clock, when it was last looked at */
    uint32_t deferred;
    struct lend_outcome *gathered; /* while a walk goes on (lend_gather): of one message, not reported yet */
    bool gathering;
    struct timer calendar_timer;
    struct timer deadline_timer; /* of what is ready */
};

/* Registers its mail with the shard and sets shard->queue. `spool_shard` has QUEUE_SPOOLS entries and outlives it. */
struct queue *queue_new(struct shard *shard, const struct queue_settings *settings, const struct queue_ops *ops,
                        const uint8_t *spool_shard);
void queue_delete(struct queue *queue);
void queue_add_spool(struct queue *queue, unsigned number, struct spool *spool);

static inline uint32_t queue_now_s(const struct queue *queue)
{
    return (uint32_t)(queue->shard->wall_ms / 1000);
}

#endif
