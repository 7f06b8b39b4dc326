/* DNS questions of one shard: the cache, the questions in flight, and the channel that sends them.
 *
 * Pure DNS: no hosts file, no search list. Everything runs on the shard's thread.
 */
#ifndef DNS_RESOLVER_H
#define DNS_RESOLVER_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/list.h"
#include "core/config.h"
#include "core/shard.h"
#include "dns/answer.h"

/* Questions on the wire; more wait. A local resolver's socket with the kernel's default size holds some 270 that it has
 * not read yet, of all shards together; what it loses costs dns.timeout. */
#define RESOLVER_IN_FLIGHT_MAX 100
#define RESOLVER_SPARE_MAX (RESOLVER_IN_FLIGHT_MAX / 2) /* of resolver_ask_spare */

struct resolver_settings {
    const struct config_endpoint *servers; /* none: the system's, from /etc/resolv.conf */
    unsigned server_count;
    unsigned timeout_ms;        /* of the first try at each server; later ones are longer */
    unsigned tries;             /* of each server */
    unsigned cache_entries_max; /* names x types, questions in flight included */
};

struct resolver;

/* Opens the shard's resolver; on the shard's own thread. 0, or -errno with a one-line reason. */
int resolver_new(struct shard *shard, const struct resolver_settings *settings, struct resolver **ret_resolver,
                 char *reason, size_t reason_size);

/* Drops every question and closes the sockets; askers must have cancelled. The sockets' last polls take a turn or two
 * of the ring: `closed` runs when all are joined and the memory is gone, maybe before this returns. Not from inside a
 * `done`. */
void resolver_close(struct resolver *resolver, void (*closed)(void *context), void *context);

struct shard *resolver_shard(const struct resolver *resolver);

/* One question, embedded in its asker. */
struct resolver_ask {
    struct list node;
    /* Runs from the loop, never inside a call the asker made. The answer is valid until `done` returns. When it is
     * entered, the ask is free to be used again or to go with its owner's memory. */
    void (*done)(struct resolver_ask *ask, const struct answer *answer);
};

void resolver_ask_init(struct resolver_ask *ask, void (*done)(struct resolver_ask *ask, const struct answer *answer));

/* Asks for the records of `name`. When the cache knows, the answer is returned at once, `done` will not run, and the
 * answer is valid until the next resolver_ask of this shard. Otherwise NULL, and `done` runs later. The same question
 * of several askers goes out once. What is no valid name has no domain, at once. */
const struct answer *resolver_ask(struct resolver *resolver, struct resolver_ask *ask, struct bytes name,
                                  enum answer_type type);

/* The same for a question that can be done without: with RESOLVER_SPARE_MAX of them on the wire, whoever asked, no
 * other is sent, and the answer is ANSWER_TEMPORARY. */
const struct answer *resolver_ask_spare(struct resolver *resolver, struct resolver_ask *ask, struct bytes name,
                                        enum answer_type type);

/* `done` will not run. Harmless when nothing was asked. The question itself goes on: its answer is worth caching. */
void resolver_ask_cancel(struct resolver_ask *ask);

#endif
