/* Questions on the wire: a c-ares channel whose sockets and timeouts live on a shard's ring and wheel. c-ares chooses
 * the server, repeats, falls back to TCP and matches replies; everything else of it is not used. The only user of
 * <ares.h>. */
#ifndef DNS_CHANNEL_H
#define DNS_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "core/config.h"
#include "core/shard.h"

struct channel_settings {
    const struct config_endpoint *servers; /* none: the system's, from /etc/resolv.conf */
    unsigned server_count;
    unsigned timeout_ms; /* of the first try at each server */
    unsigned tries;      /* of each server */
};

struct channel;

/* One question on its way, embedded in its owner; in use from channel_send until `done`. */
struct channel_query {
    struct list node;
    struct channel *channel;
    unsigned char *reply; /* malloc'ed; freed after `done` */
    size_t reply_length;
    /* Runs from the loop, never inside channel_send. Either `reply` is the packet that came and `cause` is NULL, or the
     * question failed for `cause` (static text: "timeout", "SERVFAIL"...). The query may be freed or sent again in it.
     */
    void (*done)(struct channel_query *query, const void *reply, size_t reply_length, const char *cause);
    const char *cause;
};

/* On the shard's own thread. 0, or -errno with a one-line reason. */
int channel_open(struct shard *shard, const struct channel_settings *settings, struct channel **ret_channel,
                 char *reason, size_t reason_size);

/* Every query in flight is done ("closed") before this returns; `closed` runs when the sockets' last polls are joined
 * and the memory is gone, maybe before this returns. Not from inside a query's `done`. */
void channel_close(struct channel *channel, void (*closed)(void *context), void *context);

/* True when every server is on this machine: only then its AD bit is worth something. */
bool channel_trusted(const struct channel *channel);

/* Sends a question (a whole DNS message, copied). */
void channel_send(struct channel *channel, struct channel_query *query, const unsigned char *question, size_t length);

#endif
