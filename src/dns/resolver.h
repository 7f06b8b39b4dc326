/* DNS questions of one shard: the cache, questions in flight, and the c-ares channel that sends them.
 *
 * Pure DNS: no hosts file, no search list. Everything runs on the shard's thread.
 */
#ifndef DNS_RESOLVER_H
#define DNS_RESOLVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "core/shard.h"
#include "dns/answer.h"

#define RESOLVER_TIMEOUT_MS_DEFAULT 3000
#define RESOLVER_TRIES_DEFAULT 3
#define RESOLVER_CACHE_ENTRIES_DEFAULT 100000

struct resolver_settings {
    const char *servers;        /* "127.0.0.1:5353,[::1]:53"; NULL or "": the system's (/etc/resolv.conf) */
    unsigned timeout_ms;        /* of the first try at each server; doubles */
    unsigned tries;             /* of each server */
    unsigned cache_entries_max; /* names x types, questions in flight included */
};

struct resolver;

/* Opens the shard's channel; call on the shard's own thread. 0, or -errno with a one-line reason (a bad server list). */
int resolver_new(struct shard *shard, const struct resolver_settings *settings, struct resolver **ret_resolver,
                 char *reason, size_t reason_size);

/* Drops every question (askers must have cancelled) and closes the sockets. Their last polls need a few turns of the
 * ring: `closed(context)` is called when all are joined and the memory is gone; may be called before this returns. */
void resolver_close(struct resolver *resolver, void (*closed)(void *context), void *context);

struct shard *resolver_shard(const struct resolver *resolver);

/* Checks a server list without opening anything, for `ringpost check`. */
bool resolver_servers_valid(const char *servers);

/* One question, embedded in its asker. */
struct resolver_ask {
    struct list node;
    /* Runs from the loop, never inside a call the asker made. The answer is valid until `done` returns or calls
     * resolver_ask. The ask is free for reuse or for its memory to go when `done` is entered. */
    void (*done)(struct resolver_ask *ask, const struct answer *answer);
};

void resolver_ask_init(struct resolver_ask *ask, void (*done)(struct resolver_ask *ask, const struct answer *answer));

/* Asks for the records of `name`. When the cache knows, the answer is returned at once, `done` will not run, and the
 * answer is valid until the next resolver_ask on this shard. Otherwise NULL, and `done` runs later. The same question of
 * several askers goes out once. A `name` that is no valid name is ANSWER_NO_DOMAIN at once. */
const struct answer *resolver_ask(struct resolver *resolver, struct resolver_ask *ask, struct bytes name,
                                  enum answer_type type);

/* `done` will not run. Harmless when nothing was asked. The question itself goes on: its answer is worth caching. */
void resolver_ask_cancel(struct resolver_ask *ask);

#endif
