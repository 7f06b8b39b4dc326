#include "queue/enqueue.h"

#include "base/limits.h"
#include "queue/queue.h"
#include "queue/schedule.h"
#include "spool/envelope.h"
#include "spool/spool.h"

/* The payload of MAIL_ENQUEUE and MAIL_FORWARD. */
struct enqueue_run {
    struct schedule_item item;
    uint32_t count; /* recipients at neighbouring positions */
    uint16_t domain_bytes;
    char domain[LIMIT_DOMAIN_BYTES];
};

static_assert(sizeof(struct enqueue_run) <= LIMIT_MAIL_BYTES, "one mail");

/* The part behind the last '@', in lower case: the key of a destination. "Postmaster" without domain has none. */
static void set_domain(struct enqueue_run *run, struct bytes address)
{
    const char *at = memrchr(address.data, '@', address.length);
    size_t skip = at == NULL ? address.length : (size_t)(at - address.data) + 1;
    struct bytes domain = bytes_slice(address, skip, address.length - skip);
    size_t length = domain.length < sizeof run->domain ? domain.length : sizeof run->domain;
    for (size_t i = 0; i < length; i++) {
        run->domain[i] = bytes_ascii_lower(domain.data[i]);
    }
    run->domain_bytes = (uint16_t)length;
}

static struct bytes run_domain(const struct enqueue_run *run)
{
    return bytes_of(run->domain, run->domain_bytes);
}

static void post_run(struct queue *queue, const struct enqueue_run *run, unsigned to, enum mail_kind kind)
{
    if (to == queue->shard->index) {
        schedule_add(queue, run_domain(run), &run->item, run->count);
    } else {
        shard_post(queue->shard, to, kind, run, offsetof(struct enqueue_run, domain) + run->domain_bytes);
    }
}

static void send_run(struct queue *queue, struct enqueue_run *run)
{
    if (run->count != 0) {
        post_run(queue, run, queue->ops.shard_of(queue->ops.context, run_domain(run)), MAIL_ENQUEUE);
        run->count = 0;
    }
}

static bool same_state(const struct schedule_item *a, const struct schedule_item *b)
{
    return a->next_attempt_s == b->next_attempt_s && a->attempts == b->attempts && a->held == b->held;
}

/* Splits an envelope into runs. `states` may be NULL: all recipients are new. */
static void split(struct queue *queue, const struct schedule_item *first, struct bytes envelope,
                  const struct spool_state *states)
{
    struct enqueue_run run = {.count = 0};
    struct envelope_iterator iterator = envelope_iterate(envelope);
    struct envelope_item recipient;
    for (unsigned i = 0; envelope_next_recipient(&iterator, &recipient); i++) {
        struct enqueue_run one = {.item = *first, .count = 1};
        one.item.recipient = (uint16_t)i;
        if (states != NULL) {
            if (states[i].status >= SPOOL_FORMAT_QUARANTINED) {
                continue;
            }
            one.item.attempts = (uint8_t)(states[i].attempts < UINT8_MAX ? states[i].attempts : UINT8_MAX);
            one.item.next_attempt_s = states[i].next_attempt_s;
            one.item.held = states[i].status == SPOOL_FORMAT_HELD;
        }
        set_domain(&one, recipient.value);
        if (run.count != 0 && run.item.recipient + run.count == i && same_state(&run.item, &one.item) &&
            bytes_equal(run_domain(&run), run_domain(&one))) {
            run.count++;
        } else {
            send_run(queue, &run);
            run = one;
        }
    }
    send_run(queue, &run);
}

void enqueue_message(struct shard *shard, struct spool *spool, uint32_t slot, uint64_t arrival_wall_ms,
                     struct bytes envelope)
{
    struct schedule_item item = {
        .slot = slot,
        .id_low = (uint32_t)spool_slot_id(spool, slot),
        .arrival_s = (uint32_t)(arrival_wall_ms / 1000),
        .spool = (uint8_t)spool_number(spool),
    };
    split(shard->queue, &item, envelope, NULL);
}

void enqueue_recovered(struct queue *queue, unsigned spool_number, const struct spool_recovered *message)
{
    struct schedule_item item = {
        .slot = message->slot,
        .id_low = (uint32_t)message->id,
        .arrival_s = (uint32_t)(message->arrival_ms / 1000),
        .spool = (uint8_t)spool_number,
    };
    split(queue, &item, message->envelope, message->states);
}

void enqueue_forward(struct queue *queue, uint32_t entry_index, unsigned to_shard)
{
    const struct queue_entry *entry = schedule_entry(queue, entry_index);
    struct bytes domain = destination_domain(schedule_destination(queue, entry));
    struct enqueue_run run = {
        .item = {.slot = entry->slot,
                 .id_low = entry->id_low,
                 .arrival_s = entry->arrival_s,
                 .recipient = entry->recipient,
                 .spool = entry->spool,
                 .attempts = entry->attempts},
        .count = 1,
        .domain_bytes = (uint16_t)domain.length,
    };
    memcpy(run.domain, domain.data, domain.length);
    shard_post(queue->shard, to_shard, MAIL_FORWARD, &run, offsetof(struct enqueue_run, domain) + domain.length);
    schedule_finish(queue, entry_index);
}

bool enqueue_full(const struct shard *shard)
{
    uint64_t queued = 0;
    for (unsigned i = 0; i < shard_group_count(shard->group); i++) {
        const struct metric_set *metrics = shard_group_member(shard->group, i)->metrics;
        queued += atomic_load_explicit(&metrics->queued_recipients, memory_order_relaxed);
    }
    return queued >= shard->queue->settings.recipients_max;
}

static void run_came(void *context, unsigned from, const void *payload, size_t length)
{
    struct queue *queue = context;
    const struct enqueue_run *run = payload;
    (void)from;
    CHECK(length == offsetof(struct enqueue_run, domain) + run->domain_bytes);
    schedule_add(queue, run_domain(run), &run->item, run->count);
}

static void forward_came(void *context, unsigned from, const void *payload, size_t length)
{
    struct queue *queue = context;
    run_came(context, from, payload, length);
    struct destination *destination = map_find(&queue->destinations, run_domain(payload));
    CHECK(destination != NULL);
    destination->adopted = true;
}

void enqueue_start(struct queue *queue)
{
    shard_on_mail(queue->shard, MAIL_ENQUEUE, run_came, queue);
    shard_on_mail(queue->shard, MAIL_FORWARD, forward_came, queue);
}
