/* dns/channel.h without c-ares: questions are answered by the simulated names, late, wrongly or not at all. */
#include "dns/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "dns/answer.h"
#include "sim/names.h"
#include "sim/world.h"

#define REPLY_BYTES 512
#define RCODE_NO_DOMAIN 3

struct channel {
    struct shard *shard;
    struct list asked; /* questions in flight */
};

/* From the world's event to the shard's own turn: a timer, as the loop would call it. */
struct asking {
    struct timer timer;
    struct channel *channel;
    struct channel_query *query; /* NULL: it was closed */
    struct asking *next;
    const char *cause;
    unsigned char reply[REPLY_BYTES];
    size_t length;
};

struct writer {
    unsigned char *data;
    size_t length;
};

static void put16(struct writer *out, unsigned value)
{
    out->data[out->length++] = (unsigned char)(value >> 8);
    out->data[out->length++] = (unsigned char)value;
}

static void put_name(struct writer *out, const char *name)
{
    while (*name != '\0') {
        size_t length = strcspn(name, ".");
        out->data[out->length++] = (unsigned char)length;
        memcpy(out->data + out->length, name, length);
        out->length += length;
        name += length + (name[length] == '.');
    }
    out->data[out->length++] = 0;
}

static void put_record(struct writer *out, unsigned type, unsigned ttl_s)
{
    put16(out, 0xc00c); /* the name of the question */
    put16(out, type);
    put16(out, PACKET_CLASS_IN);
    put16(out, 0);
    put16(out, ttl_s);
}

static unsigned put_mx(struct writer *out, const struct domain *domain)
{
    unsigned count = 0;
    if (domain->kind == DOMAIN_NULL) {
        put_record(out, ANSWER_MX, 300);
        put16(out, 3);
        put16(out, 0);
        out->data[out->length++] = 0;
        return 1;
    }
    for (unsigned i = 0; i < 3 && domain->hosts[i] != 0 && domain->kind != DOMAIN_DIRECT; i++) {
        char name[32];
        snprintf(name, sizeof name, "mx%u.hosts.sim", domain->hosts[i]);
        put_record(out, ANSWER_MX, 300);
        put16(out, (unsigned)strlen(name) + 4);
        put16(out, 10 * i);
        put_name(out, name);
        count++;
    }
    return count;
}

static unsigned put_address(struct writer *out, unsigned host)
{
    uint32_t address = NAMES_HOST_ADDRESS + host;
    put_record(out, ANSWER_A, 300);
    put16(out, 4);
    put16(out, address >> 16);
    put16(out, address & 0xffff);
    return 1;
}

/* The text of the name in a question; where its type stands. */
static size_t read_name(const unsigned char *question, char *ret_name)
{
    size_t at = PACKET_HEADER_BYTES;
    size_t length = 0;
    while (question[at] != 0) {
        if (length != 0) {
            ret_name[length++] = '.';
        }
        memcpy(ret_name + length, question + at + 1, question[at]);
        length += question[at];
        at += question[at] + 1u;
    }
    ret_name[length] = '\0';
    return at + 1;
}

static void answer(struct asking *asking, const unsigned char *question)
{
    char name[256];
    size_t type_at = read_name(question, name);
    unsigned type = (unsigned)question[type_at] << 8 | question[type_at + 1];
    const struct domain *domain = names_find(name, (unsigned)strlen(name));
    unsigned host = names_host(name, (unsigned)strlen(name));
    bool none = (domain == NULL && host == 0) || (domain != NULL && domain->kind == DOMAIN_NONE);
    if ((domain != NULL && domain->kind == DOMAIN_FAILS) || world_fault(400)) {
        static const char *const causes[] = {"SERVFAIL", "timeout", "REFUSED", "malformed reply"};
        asking->cause = causes[world_below(4)];
        return;
    }
    struct writer out = {asking->reply, 0};
    memcpy(out.data, question, type_at + 4);
    out.length = type_at + 4;
    unsigned count = 0;
    if (type == ANSWER_MX && domain != NULL && !none) {
        count = put_mx(&out, domain);
    } else if (type == ANSWER_A && (host != 0 || (domain != NULL && domain->kind == DOMAIN_DIRECT))) {
        count = put_address(&out, host != 0 ? host : domain->hosts[0]);
    }
    asking->length = out.length;
    out.length = 2;
    put16(&out, PACKET_REPLY | PACKET_RECURSION_DESIRED | PACKET_RECURSION_AVAILABLE | (none ? RCODE_NO_DOMAIN : 0));
    put16(&out, 1);
    put16(&out, count);
    put16(&out, 0);
    put16(&out, 0);
    if (world_fault(100)) {
        asking->length = (size_t)world_between(PACKET_HEADER_BYTES, asking->length); /* cut short */
    }
    world_trace("dns: %s type %u: %u records%s", name, type, count, none ? ", no such domain" : "");
}

static void ready(struct timer *timer)
{
    struct asking *asking = CONTAINER_OF(timer, struct asking, timer);
    struct channel_query *query = asking->query;
    list_remove(&query->node);
    query->done(query, asking->cause == NULL ? asking->reply : NULL, asking->length, asking->cause);
}

void channel_send(struct channel *channel, struct channel_query *query, const unsigned char *question, size_t length)
{
    (void)length;
    struct asking *asking = world_new(sizeof *asking);
    wheel_timer_init(&asking->timer, ready);
    asking->channel = channel;
    asking->query = query;
    query->channel = channel;
    query->reply = (unsigned char *)asking; /* ours until it is answered */
    list_init(&query->node);
    list_push_back(&channel->asked, &query->node);
    answer(asking, question);
    uint64_t wait_ms = asking->cause != NULL && strcmp(asking->cause, "timeout") == 0
                           ? 15000
                           : world_latency_ns(10 * WORLD_MS) / WORLD_MS;
    shard_arm(channel->shard, &asking->timer, wait_ms);
}

bool channel_trusted(const struct channel *channel)
{
    (void)channel;
    return true;
}

int channel_open(struct shard *shard, const struct channel_settings *settings, struct channel **ret_channel,
                 char *reason, size_t reason_size)
{
    (void)settings;
    (void)reason;
    (void)reason_size;
    struct channel *channel = world_new(sizeof *channel);
    channel->shard = shard;
    list_init(&channel->asked);
    *ret_channel = channel;
    return 0;
}

void channel_close(struct channel *channel, void (*closed)(void *context), void *context)
{
    struct list *node;
    while ((node = list_pop_front(&channel->asked)) != NULL) {
        struct channel_query *query = LIST_OWNER(node, struct channel_query, node);
        struct asking *asking = (struct asking *)(void *)query->reply;
        shard_disarm(channel->shard, &asking->timer);
        query->done(query, NULL, 0, "closed");
    }
    closed(context);
}
