/* The one exception to "shards share no mutable memory": a small table under a mutex.
 *
 * A limit per client address has to hold over all shards, because the kernel deals a client's connections out to
 * all of them, and it has to be exact: an operator who writes 20 wants 20, not 20 times the number of cores, and
 * not "about 20, once the mailboxes have settled". A lease protocol between shards would be many times this file,
 * for something that happens twice in the life of a connection, each time beside system calls (accept, getpeername,
 * close) that cost some fifty times the uncontended lock. No message, command or byte ever touches it.
 *
 * As every open connection is counted here anyway, this is also where a busy shard finds the least loaded one: the
 * choice and its effect on the counts are one step, so that a burst is spread as exactly as a trickle.
 *
 * Memory: one entry per {client, listener} that has a connection open, so at most one per connection, and the
 * number of connections is the first limit looked at.
 */
#include "inbound/admission.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/map.h"

/* No padding: its bytes are the map's key. */
struct client_key {
    uint8_t prefix[8];
    uint8_t is_ipv4;
    uint8_t reserved;
    uint16_t listener;
};
static_assert(sizeof(struct client_key) == 12, "no padding");

struct admission_client {
    struct client_key key;
    uint32_t connections;
};

struct admission {
    pthread_mutex_t lock;
    uint32_t connections_max;
    uint32_t connections;
    unsigned shards;
    unsigned listeners;
    uint32_t per_shard[LIMIT_SHARDS];
    uint32_t per_listener[ADMISSION_LISTENERS_MAX];
    struct map clients; /* of struct admission_client */
    struct rate_table *rates;
    struct guard *guard;
};

static struct bytes key_bytes(const struct client_key *key)
{
    return bytes_of(key, sizeof *key);
}

struct admission *admission_new(unsigned shards, unsigned listeners, uint32_t connections_max)
{
    CHECK(shards >= 1 && shards <= LIMIT_SHARDS && listeners >= 1 && listeners <= ADMISSION_LISTENERS_MAX);
    CHECK(connections_max <= ADMISSION_CONNECTIONS_MAX);
    struct admission *admission = calloc(1, sizeof *admission);
    if (admission == NULL) {
        return NULL;
    }
    map_init(&admission->clients, ADMISSION_CONNECTIONS_MAX);
    pthread_mutex_init(&admission->lock, NULL);
    admission->shards = shards;
    admission->listeners = listeners;
    admission->connections_max = connections_max;
    return admission;
}

void admission_delete(struct admission *admission)
{
    struct map_cursor cursor = {0};
    struct admission_client *client;
    while ((client = map_next(&admission->clients, &cursor)) != NULL) {
        map_remove(&admission->clients, key_bytes(&client->key));
        free(client);
    }
    pthread_mutex_destroy(&admission->lock);
    map_free(&admission->clients);
    free(admission);
}

void admission_set_max(struct admission *admission, uint32_t connections_max)
{
    CHECK(connections_max <= ADMISSION_CONNECTIONS_MAX);
    pthread_mutex_lock(&admission->lock);
    admission->connections_max = connections_max;
    pthread_mutex_unlock(&admission->lock);
}

void admission_lend(struct admission *admission, struct rate_table *rates, struct guard *guard)
{
    admission->rates = rates;
    admission->guard = guard;
}

struct rate_table *admission_rates(const struct admission *admission)
{
    return admission->rates;
}

struct guard *admission_guard(const struct admission *admission)
{
    return admission->guard;
}

/* Whom a limit per address counts as one client: an IPv4 address, an IPv6 /64, all of the unix sockets. */
static struct client_key key_of(const struct peer *peer, unsigned listener)
{
    struct client_key key = {.listener = (uint16_t)listener, .is_ipv4 = peer_is_ipv4(peer)};
    struct bytes address = peer_bytes(peer);
    memcpy(key.prefix, address.data, address.length < sizeof key.prefix ? address.length : sizeof key.prefix);
    return key;
}

static unsigned choose_shard(const struct admission *admission, unsigned here)
{
    unsigned least = here;
    for (unsigned i = 0; i < admission->shards; i++) {
        if (admission->per_shard[i] < admission->per_shard[least]) {
            least = i;
        }
    }
    uint64_t mine = admission->per_shard[here];
    uint64_t theirs = admission->per_shard[least];
    bool clearly = mine > theirs + ADMISSION_MOVE_SESSIONS && mine * 100 > theirs * (100 + ADMISSION_MOVE_PERCENT);
    return clearly ? least : here;
}

/* Counts one more connection of the client, if it may have one. */
static enum admission_verdict enter_client(struct admission *admission, const struct peer *peer, unsigned listener,
                                           uint32_t connections_max, struct admission_client **ret_client)
{
    struct client_key key = key_of(peer, listener);
    struct admission_client *client = map_find(&admission->clients, key_bytes(&key));
    if (client == NULL) {
        client = malloc(sizeof *client);
        if (client == NULL) {
            return ADMISSION_FULL;
        }
        *client = (struct admission_client){.key = key};
        if (!map_insert(&admission->clients, key_bytes(&client->key), client)) {
            free(client);
            return ADMISSION_FULL;
        }
    } else if (client->connections >= connections_max) {
        return ADMISSION_ADDRESS_FULL;
    }
    client->connections++;
    *ret_client = client;
    return ADMISSION_GRANTED;
}

static enum admission_verdict enter_locked(struct admission *admission, const struct admission_request *request,
                                           struct admission_ticket *ret_ticket)
{
    if (admission->connections >= admission->connections_max) {
        return ADMISSION_FULL;
    }
    if (admission->per_listener[request->listener] >= request->listener_connections_max) {
        return ADMISSION_LISTENER_FULL;
    }
    struct admission_client *client;
    enum admission_verdict verdict = enter_client(admission, request->peer, request->listener,
                                                  request->address_connections_max, &client);
    if (verdict == ADMISSION_GRANTED) {
        unsigned shard = choose_shard(admission, request->shard);
        admission->connections++;
        admission->per_listener[request->listener]++;
        admission->per_shard[shard]++;
        *ret_ticket = (struct admission_ticket){
            .client = client, .listener = (uint16_t)request->listener, .shard = (uint16_t)shard};
    }
    return verdict;
}

enum admission_verdict admission_enter(struct admission *admission, const struct admission_request *request,
                                       struct admission_ticket *ret_ticket)
{
    CHECK(request->shard < admission->shards && request->listener < admission->listeners);
    CHECK(request->address_connections_max > 0);
    pthread_mutex_lock(&admission->lock);
    enum admission_verdict verdict = enter_locked(admission, request, ret_ticket);
    pthread_mutex_unlock(&admission->lock);
    return verdict;
}

static void leave_client(struct admission *admission, struct admission_client *client)
{
    CHECK(client->connections > 0);
    client->connections--;
    if (client->connections == 0) {
        map_remove(&admission->clients, key_bytes(&client->key));
        free(client);
    }
}

enum admission_verdict admission_move(struct admission *admission, const struct peer *peer,
                                      uint32_t address_connections_max, struct admission_ticket *ticket)
{
    struct admission_client *client;
    pthread_mutex_lock(&admission->lock);
    enum admission_verdict verdict = enter_client(admission, peer, ticket->listener, address_connections_max, &client);
    if (verdict == ADMISSION_GRANTED) {
        leave_client(admission, ticket->client);
        ticket->client = client;
    }
    pthread_mutex_unlock(&admission->lock);
    return verdict;
}

void admission_leave(struct admission *admission, const struct admission_ticket *ticket)
{
    pthread_mutex_lock(&admission->lock);
    CHECK(admission->connections > 0 && admission->per_shard[ticket->shard] > 0);
    admission->connections--;
    admission->per_listener[ticket->listener]--;
    admission->per_shard[ticket->shard]--;
    leave_client(admission, ticket->client);
    pthread_mutex_unlock(&admission->lock);
}

uint32_t admission_connections(struct admission *admission)
{
    pthread_mutex_lock(&admission->lock);
    uint32_t connections = admission->connections;
    pthread_mutex_unlock(&admission->lock);
    return connections;
}
