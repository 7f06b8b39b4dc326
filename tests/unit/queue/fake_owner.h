/* A queue without a loop: one struct shard whose clock the test moves, and a fake for everything that the queue talks
 * to. Mail is not sent but remembered. Included once per test program: it defines the functions that it replaces. */
#ifndef TEST_FAKE_OWNER_H
#define TEST_FAKE_OWNER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "queue/enqueue.h"
#include "queue/lend.h"
#include "queue/queue.h"
#include "queue/retry.h"
#include "queue/schedule.h"
#include "spool/envelope.h"
#include "spool/spool.h"

#define FAKE_MAILS 65536
#define FAKE_SPOOL 7
#define FAKE_WALL_S 1800000000u

struct fake_mail {
    enum mail_kind kind;
    unsigned to;
    size_t length;
    void *payload;
};

struct fake {
    struct shard shard;
    uint8_t spool_shard[QUEUE_SPOOLS];
    struct fake_mail mails[FAKE_MAILS];
    unsigned mail_count;
    unsigned ready_calls;
    unsigned idle_calls;
    struct destination *last_ready;
    unsigned shards; /* that shard_of deals out to */
    uint64_t slot_id;
    enum err lend_err;
    unsigned returned;
    unsigned quarantined;
    uint64_t queued_elsewhere; /* recipients, on the group's second shard */
};

static struct fake fake;

/* --- replaced: core/shard ----------------------------------------------------------------------------------------- */

void shard_post(struct shard *shard, unsigned to, enum mail_kind kind, const void *payload, size_t length)
{
    (void)shard;
    assert_true(fake.mail_count < FAKE_MAILS && length <= LIMIT_MAIL_BYTES);
    void *copy = malloc(length);
    assert_non_null(copy);
    memcpy(copy, payload, length);
    fake.mails[fake.mail_count++] = (struct fake_mail){.kind = kind, .to = to, .length = length, .payload = copy};
}

void shard_on_mail(struct shard *shard, enum mail_kind kind, shard_mail_handler *run, void *context)
{
    assert_null(shard->mail[kind].run);
    shard->mail[kind].run = run;
    shard->mail[kind].context = context;
}

unsigned shard_group_count(const struct shard_group *group)
{
    (void)group;
    return 2;
}

struct shard *shard_group_member(struct shard_group *group, unsigned index)
{
    static struct metric_set metrics;
    static struct shard other = {.metrics = &metrics};
    (void)group;
    metric_set_to(&metrics.queued_recipients, fake.queued_elsewhere);
    return index == 0 ? &fake.shard : &other;
}

/* --- replaced: spool ---------------------------------------------------------------------------------------------- */

unsigned spool_number(const struct spool *spool)
{
    (void)spool;
    return FAKE_SPOOL;
}

uint64_t spool_slot_id(const struct spool *spool, uint32_t slot)
{
    (void)spool;
    return fake.slot_id + slot;
}

bool spool_holds(const struct spool *spool, uint32_t slot, uint64_t id)
{
    (void)spool;
    return id == fake.slot_id + slot;
}

enum err spool_lend(struct spool *spool, uint32_t slot, uint64_t id, struct spool_view *ret_view)
{
    (void)spool;
    assert_int_equal(id, fake.slot_id + slot);
    *ret_view = (struct spool_view){.id = id};
    return fake.lend_err;
}

void spool_return(struct spool *spool, struct spool_view *view)
{
    (void)spool;
    (void)view;
    fake.returned++;
}

void spool_quarantine(struct spool *spool, uint32_t slot, uint64_t id, const char *why)
{
    (void)spool;
    (void)why;
    assert_int_equal(id, fake.slot_id + slot);
    fake.quarantined++;
}

/* --- what is above the queue -------------------------------------------------------------------------------------- */

static unsigned fake_shard_of(void *context, struct bytes domain)
{
    (void)context;
    return domain.length == 0 ? 0 : (unsigned char)domain.data[0] % fake.shards;
}

static void fake_ready(void *context, struct destination *destination)
{
    (void)context;
    assert_true(destination->ready != 0);
    fake.ready_calls++;
    fake.last_ready = destination;
}

static void fake_idle(void *context, struct destination *destination)
{
    (void)context;
    (void)destination;
    fake.idle_calls++;
}

static void fake_outcome(void *context, const void *payload, size_t length)
{
    (void)context;
    (void)payload;
    (void)length;
}

static struct lend_answer fake_answer;

static void fake_lent(void *context, const void *payload, size_t length)
{
    (void)context;
    assert_int_equal(length, sizeof fake_answer);
    memcpy(&fake_answer, payload, length);
}

static void fake_forget_mail(void)
{
    while (fake.mail_count != 0) {
        free(fake.mails[--fake.mail_count].payload);
    }
}

static struct queue *fake_queue(void)
{
    fake_forget_mail();
    fake = (struct fake){.shards = 1, .slot_id = 0x0700000000000100};
    fake.shard.wall_ms = FAKE_WALL_S * UINT64_C(1000) + 250;
    fake.shard.now_ms = 5000000;
    wheel_init(&fake.shard.wheel, fake.shard.now_ms);
    rng_seed(&fake.shard.rng, 1);
    fake.shard.metrics = metric_set_new();
    static const struct queue_settings settings = {
        .delay_warning_ms = 4 * 3600 * 1000,
        .retry_ms = {1200000, 2400000, 4800000, 14400000},
        .retry_count = 4,
        .jitter_percent = 10,
        .expire_ms = 4 * 86400 * UINT64_C(1000),
        .recipients_max = 1000,
    };
    static const struct queue_ops ops = {
        .shard_of = fake_shard_of,
        .ready = fake_ready,
        .idle = fake_idle,
        .outcome = fake_outcome,
        .lent = fake_lent,
    };
    struct queue *queue = queue_new(&fake.shard, &settings, &ops, fake.spool_shard);
    assert_non_null(queue);
    return queue;
}

static void fake_end(struct queue *queue)
{
    fake_forget_mail();
    queue_delete(queue);
    metric_set_delete(fake.shard.metrics);
}

/* Time passes; timers fire when they are due. */
static inline void fake_pass(uint64_t ms)
{
    uint64_t end_ms = fake.shard.now_ms + ms;
    while (fake.shard.now_ms < end_ms) {
        uint64_t next_ms = wheel_next_ms(&fake.shard.wheel);
        next_ms = next_ms < end_ms ? next_ms : end_ms;
        next_ms = next_ms > fake.shard.now_ms ? next_ms : fake.shard.now_ms + 1;
        fake.shard.wall_ms += next_ms - fake.shard.now_ms;
        fake.shard.now_ms = next_ms;
        wheel_advance(&fake.shard.wheel, next_ms);
    }
}

static inline uint32_t fake_now_s(void)
{
    return (uint32_t)(fake.shard.wall_ms / 1000);
}

static inline struct destination *fake_destination(const struct queue *queue, const char *domain)
{
    return map_find(&queue->destinations, bytes_of_string(domain));
}

/* How many outcomes with that verdict were reported. */
static inline unsigned fake_verdicts(enum lend_verdict verdict)
{
    unsigned count = 0;
    for (unsigned i = 0; i < fake.mail_count; i++) {
        const struct lend_outcome *outcome = fake.mails[i].payload;
        count += fake.mails[i].kind == MAIL_OUTCOME && outcome->verdict == verdict ? outcome->count : 0;
    }
    return count;
}

/* Hands a remembered mail to the queue that registered for it. */
static inline void fake_deliver(unsigned index)
{
    struct fake_mail mail = fake.mails[index];
    fake.shard.mail[mail.kind].run(fake.shard.mail[mail.kind].context, 0, mail.payload, mail.length);
}

#endif
