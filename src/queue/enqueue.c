#include "queue/enqueue.h"

#include "base/limits.h"
#include "queue/queue.h"
#include "queue/ready.h"
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

/* What the envelope asks for besides delivery. */
struct demands {
    uint32_t hold_until_s; /* 0: none */
    uint32_t deliver_by_s; /* 0: none */
    bool returns;          /* DELIVERBY with R */
    uint8_t band;
    bool held; /* until the operator has seen it */
};

static uint32_t take_seconds(struct bytes value, bool up)
{
    uint64_t ms = 0;
    for (unsigned i = 0; i < 8; i++) {
        ms |= (uint64_t)(unsigned char)value.data[i] << (8 * i);
    }
    uint64_t seconds = ms / 1000 + (up && ms % 1000 != 0);
    return seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

static struct demands read_demands(struct bytes envelope)
{
    struct demands demands = {.hold_until_s = 0};
    struct envelope_iterator iterator = envelope_iterate(envelope);
    struct envelope_item item;
    while (envelope_next(&iterator, &item)) {
        if (item.tag == ENVELOPE_PRIORITY && item.value.length == 1) {
            demands.band = (uint8_t)ready_band((signed char)item.value.data[0]);
        } else if (item.tag == ENVELOPE_HOLD_UNTIL && item.value.length == 8) {
            demands.hold_until_s = take_seconds(item.value, true);
        } else if (item.tag == ENVELOPE_HELD) {
            demands.held = true;
        } else if (item.tag == ENVELOPE_DELIVER_BY && item.value.length >= 9) {
            demands.deliver_by_s = take_seconds(item.value, false);
            demands.returns = item.value.data[8] == 'R';
        }
    }
    return demands;
}

/* When something happens to the recipient although it waits: with DELIVERBY at that time, for R the end of it, else a
 * notice to those who want one (RFC 2852 4.2); without it a notice to who asked for it. */
static void set_deadline(const struct queue *queue, struct schedule_item *item, const struct demands *demands,
                         unsigned notify, bool told)
{
    bool wants_delay = (notify & ENVELOPE_NOTIFY_DELAY) != 0;
    uint64_t warning_s = queue->settings.delay_warning_ms / 1000;
    item->ends = demands->deliver_by_s != 0 && demands->returns;
    item->deadline_s = 0;
    if (item->ends) {
        item->deadline_s = demands->deliver_by_s;
    } else if (told) {
        item->ends = true;
    } else if (demands->deliver_by_s != 0) {
        item->deadline_s = notify == 0 || wants_delay ? demands->deliver_by_s : 0;
    } else if (wants_delay && warning_s != 0 && warning_s < UINT32_MAX - item->arrival_s) {
        item->deadline_s = item->arrival_s + (uint32_t)warning_s;
    }
}

static bool same_state(const struct schedule_item *a, const struct schedule_item *b)
{
    return a->next_attempt_s == b->next_attempt_s && a->attempts == b->attempts && a->held == b->held &&
           a->deadline_s == b->deadline_s && a->ends == b->ends;
}

/* What is known about a recipient from before the start. */
static bool recall(struct schedule_item *item, const struct spool_state *state)
{
    unsigned attempts = state->attempts & (uint16_t)~SPOOL_FORMAT_TOLD;
    item->attempts = (uint8_t)(attempts < UINT8_MAX ? attempts : UINT8_MAX);
    if (state->status != SPOOL_FORMAT_PENDING) {
        item->held = state->status == SPOOL_FORMAT_HELD;
    }
    bool told = (state->attempts & SPOOL_FORMAT_TOLD) != 0;
    /* Tried, held, or released by the operator. */
    if (attempts != 0 || state->status == SPOOL_FORMAT_HELD || (state->status == SPOOL_FORMAT_DEFERRED && !told)) {
        item->next_attempt_s = state->next_attempt_s;
    }
    return told;
}

/* Splits an envelope into runs. `states` may be NULL: all recipients are new. */
static void split(struct queue *queue, struct schedule_item first, struct bytes envelope,
                  const struct spool_state *states)
{
    struct enqueue_run run = {.count = 0};
    struct demands demands = read_demands(envelope);
    struct envelope_iterator iterator = envelope_iterate(envelope);
    struct envelope_item recipient;
    first.band = demands.band;
    first.held = demands.held;
    first.next_attempt_s = demands.held ? first.arrival_s : 0; /* since when: what is held does not age */
    if (demands.hold_until_s > first.arrival_s) {
        first.arrival_s = demands.hold_until_s; /* it is our business from then on */
        first.next_attempt_s = demands.hold_until_s;
    }
    for (unsigned i = 0; envelope_next_recipient(&iterator, &recipient); i++) {
        struct enqueue_run one = {.item = first, .count = 1};
        one.item.recipient = (uint16_t)i;
        if (states != NULL && states[i].status >= SPOOL_FORMAT_QUARANTINED) {
            continue;
        }
        bool told = states != NULL && recall(&one.item, &states[i]);
        set_deadline(queue, &one.item, &demands, recipient.flags, told);
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
    split(shard->queue, item, envelope, NULL);
}

void enqueue_recovered(struct queue *queue, unsigned spool_number, const struct spool_recovered *message)
{
    struct schedule_item item = {
        .slot = message->slot,
        .id_low = (uint32_t)message->id,
        .arrival_s = (uint32_t)(message->arrival_ms / 1000),
        .spool = (uint8_t)spool_number,
    };
    split(queue, item, message->envelope, message->states);
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
                 .attempts = entry->attempts,
                 .band = entry->band,
                 .deadline_s = queue_entry_deadline_s(entry),
                 .ends = entry->ends},
        .count = 1,
        .domain_bytes = (uint16_t)domain.length,
    };
    memcpy(run.domain, domain.data, domain.length);
    shard_post(queue->shard, to_shard, MAIL_FORWARD, &run, offsetof(struct enqueue_run, domain) + domain.length);
    schedule_finish(queue, entry_index);
}

static uint64_t queued_recipients(const struct shard *shard)
{
    uint64_t queued = 0;
    for (unsigned i = 0; i < shard_group_count(shard->group); i++) {
        const struct metric_set *metrics = shard_group_member(shard->group, i)->metrics;
        queued += atomic_load_explicit(&metrics->queued_recipients, memory_order_relaxed);
    }
    return queued;
}

bool enqueue_full(const struct shard *shard)
{
    return queued_recipients(shard) >= shard->queue->settings.recipients_max;
}

bool enqueue_busy(const struct shard *shard)
{
    uint64_t recipients_max = shard->queue->settings.recipients_max;
    return queued_recipients(shard) >= recipients_max - recipients_max / 4;
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
