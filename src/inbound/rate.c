/* A token bucket is one number: the time at which it will be full again. To take u units of a limit of n per period p
 * moves that time by u * p / n; it is granted while the time does not pass now + p (the virtual scheduling form of the
 * generic cell rate algorithm). A time that lies behind us is a full bucket, and a full bucket is the same as none.
 *
 * So the table never needs to be cleaned, and forgetting the right entry costs little: it is a set-associative cache,
 * eight entries to a set, and a new client takes the place of one that is full, or else of the one that will be full
 * first, which is the one that has used least. To drive an entry out a stranger has to fill seven others of its set
 * further than that one is, with addresses that he cannot aim, because the hash is keyed. What he then gains by having
 * many addresses, the limits per network and listener take back.
 *
 * As in admission.c the table is shared by all shards under locks, here one for each part of it, and for the same
 * reason: the limit that the operator wrote is the limit. A limit that is not set costs no lock. Between looking at
 * the scopes and taking from them another shard may take too; a client can gain a message by that, not a rate.
 */
#include "inbound/rate.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/check.h"
#include "core/clock.h"

#define WAYS 8
#define STRIPES 64

struct entry {
    uint64_t key;
    uint64_t full_ns; /* when the bucket is full again */
};

struct set {
    struct entry entries[WAYS];
};

struct stripe {
    _Alignas(64) pthread_mutex_t lock;
};

struct rate_table {
    struct stripe stripes[STRIPES];
    unsigned char secret[XXH3_SECRET_SIZE_MIN];
    uint64_t mask; /* sets - 1 */
    struct set *sets;
};

const char *rate_scope_name(enum rate_scope scope)
{
    static const char *const names[] = {"address", "network", "account", "listener"};
    return names[scope];
}

const char *rate_kind_name(enum rate_kind kind)
{
    static const char *const names[] = {"connections", "messages", "recipients", "bytes", "errors"};
    return names[kind];
}

struct rate_table *rate_table_new(uint32_t entries)
{
    CHECK(entries >= RATE_ENTRIES_MIN && entries <= RATE_ENTRIES_MAX);
    struct rate_table *table = aligned_alloc(64, sizeof *table);
    if (table == NULL) {
        return NULL;
    }
    uint64_t sets = STRIPES;
    while (sets * WAYS < entries) {
        sets *= 2;
    }
    table->mask = sets - 1;
    table->sets = calloc(sets, sizeof *table->sets); /* pages that nobody uses cost nothing */
    if (table->sets == NULL || getrandom(table->secret, sizeof table->secret, 0) != (ssize_t)sizeof table->secret) {
        free(table->sets);
        free(table);
        return NULL;
    }
    for (unsigned i = 0; i < STRIPES; i++) {
        pthread_mutex_init(&table->stripes[i].lock, NULL);
    }
    return table;
}

void rate_table_delete(struct rate_table *table)
{
    for (unsigned i = 0; i < STRIPES; i++) {
        pthread_mutex_destroy(&table->stripes[i].lock);
    }
    free(table->sets);
    free(table);
}

/* --- one bucket --- */

/* What a bucket is for. False: the subject has none of this scope. */
static bool key_of(const struct rate_table *table, enum rate_scope scope, enum rate_kind kind,
                   const struct rate_subject *subject, uint64_t *ret_key)
{
    char text[2 + 256] = {(char)scope, (char)kind};
    struct bytes what = subject->account;
    if (scope == RATE_LISTENER) {
        what = bytes_of(&subject->listener, sizeof subject->listener);
    } else if (scope != RATE_ACCOUNT) {
        if (subject->peer == NULL) {
            return false;
        }
        what = bytes_of(subject->peer->address, sizeof subject->peer->address);
        if (scope == RATE_NETWORK) {
            what.length = peer_is_ipv4(subject->peer) ? 15 : 8;
        }
    }
    if (what.length == 0 || what.length > sizeof text - 2) {
        return false;
    }
    memcpy(text + 2, what.data, what.length);
    *ret_key = XXH3_64bits_withSecret(text, 2 + what.length, table->secret, sizeof table->secret);
    return true;
}

static uint64_t cost_ns(const struct config_rate *limit, uint64_t units)
{
    __extension__ typedef unsigned __int128 wide;
    wide cost = (wide)units * limit->period_ms * 1000000u / limit->count;
    uint64_t most = 1000 * limit->period_ms * 1000000u; /* no debt is longer than that */
    return cost < most ? (uint64_t)cost : most;
}

static struct entry *find(struct set *set, uint64_t key)
{
    for (unsigned i = 0; i < WAYS; i++) {
        if (set->entries[i].key == key) {
            return &set->entries[i];
        }
    }
    return NULL;
}

static struct entry *find_or_replace(struct set *set, uint64_t key, uint64_t now_ns, struct metric_set *metrics)
{
    struct entry *entry = find(set, key);
    if (entry == NULL) {
        entry = &set->entries[0];
        for (unsigned i = 1; i < WAYS; i++) {
            entry = set->entries[i].full_ns < entry->full_ns ? &set->entries[i] : entry;
        }
        metric_add(&metrics->rate_evictions, entry->full_ns > now_ns);
        *entry = (struct entry){.key = key, .full_ns = now_ns};
    }
    return entry;
}

/* How long until `units` can be taken; 0: now. */
static uint64_t wait_ns(struct rate_table *table, uint64_t key, const struct config_rate *limit, uint64_t units,
                        uint64_t now_ns)
{
    struct stripe *stripe = &table->stripes[key % STRIPES];
    pthread_mutex_lock(&stripe->lock);
    const struct entry *entry = find(&table->sets[key & table->mask], key);
    uint64_t full_ns = entry != NULL && entry->full_ns > now_ns ? entry->full_ns : now_ns;
    pthread_mutex_unlock(&stripe->lock);
    uint64_t then_ns = full_ns + cost_ns(limit, units);
    uint64_t latest_ns = now_ns + limit->period_ms * 1000000u;
    return then_ns > latest_ns ? then_ns - latest_ns : 0;
}

static void take(struct rate_table *table, uint64_t key, const struct config_rate *limit, uint64_t units,
                 uint64_t now_ns, struct metric_set *metrics)
{
    struct stripe *stripe = &table->stripes[key % STRIPES];
    pthread_mutex_lock(&stripe->lock);
    struct entry *entry = find_or_replace(&table->sets[key & table->mask], key, now_ns, metrics);
    entry->full_ns = (entry->full_ns > now_ns ? entry->full_ns : now_ns) + cost_ns(limit, units);
    pthread_mutex_unlock(&stripe->lock);
}

/* --- all scopes --- */

static bool look(struct rate_table *table, const struct rate_limits *limits, enum rate_kind kind,
                 const struct rate_subject *subject, uint64_t units, struct rate_refusal *ret_refusal)
{
    uint64_t now_ns = clock_monotonic_ns();
    for (unsigned scope = 0; scope < RATE_SCOPES; scope++) {
        const struct config_rate *limit = &limits->of[scope][kind];
        uint64_t key;
        if (limit->count == 0 || !key_of(table, (enum rate_scope)scope, kind, subject, &key)) {
            continue;
        }
        uint64_t wait = wait_ns(table, key, limit, units, now_ns);
        if (wait != 0) {
            *ret_refusal = (struct rate_refusal){(enum rate_scope)scope, (uint32_t)(wait / 1000000000u) + 1};
            metric_add(&subject->metrics->rate_refusals, 1);
            return false;
        }
    }
    return true;
}

void rate_charge(struct rate_table *table, const struct rate_limits *limits, enum rate_kind kind,
                 const struct rate_subject *subject, uint64_t units)
{
    uint64_t now_ns = 0;
    for (unsigned scope = 0; scope < RATE_SCOPES; scope++) {
        const struct config_rate *limit = &limits->of[scope][kind];
        uint64_t key;
        if (limit->count != 0 && key_of(table, (enum rate_scope)scope, kind, subject, &key)) {
            now_ns = now_ns == 0 ? clock_monotonic_ns() : now_ns;
            take(table, key, limit, units, now_ns, subject->metrics);
        }
    }
}

bool rate_take(struct rate_table *table, const struct rate_limits *limits, enum rate_kind kind,
               const struct rate_subject *subject, uint64_t units, struct rate_refusal *ret_refusal)
{
    if (!look(table, limits, kind, subject, units, ret_refusal)) {
        return false;
    }
    rate_charge(table, limits, kind, subject, units);
    return true;
}

bool rate_left(struct rate_table *table, const struct rate_limits *limits, enum rate_kind kind,
               const struct rate_subject *subject, struct rate_refusal *ret_refusal)
{
    return look(table, limits, kind, subject, 1, ret_refusal);
}
