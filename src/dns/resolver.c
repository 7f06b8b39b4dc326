#include "dns/resolver.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/check.h"
#include "dns/cache.h"
#include "dns/channel.h"
#include "dns/question.h"

/* One question that somebody asked, from cache_add to cache_store. */
struct question {
    struct channel_query query;
    struct list node; /* among those that wait for their turn on the wire */
    struct resolver *resolver;
    struct cache_entry *entry;
};

struct resolver {
    struct shard *shard;
    struct channel *channel;
    struct cache *cache;
    struct list waiting; /* questions beyond RESOLVER_IN_FLIGHT_MAX */
    unsigned in_flight;
    bool closing;
    void (*closed)(void *context);
    void *context;
    struct answer_store store; /* the reply that is being handed out */
};

static void answered(struct channel_query *query, const void *reply, size_t length, const char *cause);

int resolver_new(struct shard *shard, const struct resolver_settings *settings, struct resolver **ret_resolver,
                 char *reason, size_t reason_size)
{
    struct resolver *resolver = calloc(1, sizeof *resolver);
    struct cache *cache = cache_new(settings->cache_entries_max);
    CHECK(resolver != NULL && cache != NULL);
    resolver->shard = shard;
    resolver->cache = cache;
    list_init(&resolver->waiting);
    const struct channel_settings channel = {
        .servers = settings->servers,
        .server_count = settings->server_count,
        .timeout_ms = settings->timeout_ms,
        .tries = settings->tries,
    };
    int result = channel_open(shard, &channel, &resolver->channel, reason, reason_size);
    if (result < 0) {
        cache_delete(cache);
        free(resolver);
        return result;
    }
    *ret_resolver = resolver;
    return 0;
}

struct shard *resolver_shard(const struct resolver *resolver)
{
    return resolver->shard;
}

static void question_drop(struct question *question)
{
    cache_drop(question->resolver->cache, question->entry);
    free(question);
}

static void channel_closed(void *context)
{
    struct resolver *resolver = context;
    void (*closed)(void *context) = resolver->closed;
    void *closed_context = resolver->context;
    cache_delete(resolver->cache);
    free(resolver);
    closed(closed_context);
}

void resolver_close(struct resolver *resolver, void (*closed)(void *context), void *context)
{
    resolver->closing = true;
    resolver->closed = closed;
    resolver->context = context;
    struct list *node;
    while ((node = list_pop_front(&resolver->waiting)) != NULL) {
        question_drop(LIST_OWNER(node, struct question, node));
    }
    channel_close(resolver->channel, channel_closed, resolver);
}

/* --- on the wire ------------------------------------------------------------------------------------------------ */

/* The id and the source port are all that an off-path forger must guess: no predictable generator here. */
static uint16_t random_id(void)
{
    uint16_t id;
    CHECK(getrandom(&id, sizeof id, 0) == (ssize_t)sizeof id);
    return id;
}

static void question_send(struct question *question)
{
    struct resolver *resolver = question->resolver;
    unsigned char packet[QUESTION_BYTES];
    const struct cache_entry *entry = question->entry;
    size_t length = question_write(cache_entry_name(entry), cache_entry_type(entry), random_id(), packet);
    resolver->in_flight++;
    if (resolver->shard->metrics != NULL) {
        metric_add(&resolver->shard->metrics->dns_queries, 1);
    }
    channel_send(resolver->channel, &question->query, packet, length);
}

static void send_waiting(struct resolver *resolver)
{
    while (resolver->in_flight < RESOLVER_IN_FLIGHT_MAX) {
        struct list *node = list_pop_front(&resolver->waiting);
        if (node == NULL) {
            return;
        }
        question_send(LIST_OWNER(node, struct question, node));
    }
}

static void read_answer(struct resolver *resolver, const struct cache_entry *entry, const void *reply, size_t length,
                        const char *cause, struct answer *ret_answer)
{
    if (cause != NULL) {
        *ret_answer = answer_failed(cause);
    } else {
        answer_read(reply, length, cache_entry_name(entry), cache_entry_type(entry), &resolver->store, ret_answer);
    }
    ret_answer->authentic = ret_answer->authentic && channel_trusted(resolver->channel);
    if (ret_answer->status == ANSWER_TEMPORARY && resolver->shard->metrics != NULL) {
        metric_add(&resolver->shard->metrics->dns_failures, 1);
    }
}

static void answered(struct channel_query *query, const void *reply, size_t length, const char *cause)
{
    struct question *question = CONTAINER_OF(query, struct question, query);
    struct resolver *resolver = question->resolver;
    struct list askers;
    struct answer answer;
    resolver->in_flight--;
    if (resolver->closing) {
        question_drop(question);
        return;
    }
    read_answer(resolver, question->entry, reply, length, cause, &answer);
    list_init(&askers);
    list_splice(&askers, &question->entry->askers);
    cache_store(resolver->cache, question->entry, &answer, resolver->shard->now_ms);
    free(question);
    send_waiting(resolver);
    struct list *node;
    while ((node = list_pop_front(&askers)) != NULL) {
        struct resolver_ask *ask = LIST_OWNER(node, struct resolver_ask, node);
        ask->done(ask, &answer);
    }
}

/* --- asking ----------------------------------------------------------------------------------------------------- */

void resolver_ask_init(struct resolver_ask *ask, void (*done)(struct resolver_ask *ask, const struct answer *answer))
{
    list_init(&ask->node);
    ask->done = done;
}

void resolver_ask_cancel(struct resolver_ask *ask)
{
    list_remove(&ask->node);
}

static struct cache_entry *question_new(struct resolver *resolver, struct bytes name, enum answer_type type)
{
    struct cache_entry *entry = cache_add(resolver->cache, name, type);
    if (entry == NULL) {
        return NULL;
    }
    struct question *question = calloc(1, sizeof *question);
    CHECK(question != NULL);
    question->query.done = answered;
    question->resolver = resolver;
    question->entry = entry;
    list_init(&question->node);
    list_push_back(&resolver->waiting, &question->node);
    send_waiting(resolver);
    return entry;
}

static const struct answer *ask_for(struct resolver *resolver, struct resolver_ask *ask, struct bytes name,
                                    enum answer_type type, unsigned in_flight_max)
{
    static const struct answer no_name = {.status = ANSWER_NO_DOMAIN, .expires_ms = UINT64_MAX};
    static const struct answer full = {.status = ANSWER_TEMPORARY, .cause = "too many DNS questions"};
    CHECK(list_empty(&ask->node) && !resolver->closing);
    if (!question_name_valid(name)) {
        return &no_name;
    }
    struct cache_entry *entry = cache_find(resolver->cache, name, type, resolver->shard->now_ms);
    if (entry != NULL && entry->answer != NULL) {
        if (resolver->shard->metrics != NULL) {
            metric_add(&resolver->shard->metrics->dns_cache_hits, 1);
        }
        return entry->answer;
    }
    if (entry == NULL && resolver->in_flight < in_flight_max) {
        entry = question_new(resolver, name, type);
    }
    if (entry == NULL) {
        return &full;
    }
    list_push_back(&entry->askers, &ask->node);
    return NULL;
}

const struct answer *resolver_ask(struct resolver *resolver, struct resolver_ask *ask, struct bytes name,
                                  enum answer_type type)
{
    return ask_for(resolver, ask, name, type, UINT_MAX);
}

const struct answer *resolver_ask_spare(struct resolver *resolver, struct resolver_ask *ask, struct bytes name,
                                        enum answer_type type)
{
    return ask_for(resolver, ask, name, type, RESOLVER_SPARE_MAX);
}
