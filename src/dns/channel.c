/* c-ares on a ring.
 *
 * c-ares calls back for two things: a socket's wishes (read, write, closed) and a question's end. Both can happen
 * inside any call into it, ares_send included, and some calls are forbidden inside its callbacks. So its callbacks only
 * take notes: a wish into the socket's `watch`, an ended question (its reply copied) into the list `ended`. Every way
 * into c-ares goes through this file and ends in settle(), which makes polls out of wishes; ended questions are handed
 * to their owners from the loop, with no frame of c-ares on the stack.
 *
 * A watch has one poll, embedded. c-ares closes its sockets when it likes, while the poll may be in the kernel: the
 * watch is then dead, its poll is cancelled, and it is freed when the poll has come back. A new socket with the same
 * number gets a watch of its own. Polls are one-shot: the kernel looks at the socket again when the next one is armed,
 * so bytes that c-ares left in it are seen, and a changed wish costs a cancel only while the poll sleeps.
 *
 * While questions are in flight a timer looks after timeouts, at the time ares_timeout names but at least every
 * TIMEOUT_LOOK_MS_MAX, because a question that was sent later may be due earlier. No questions, no timer.
 */
#include "dns/channel.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "dns/question.h"

/* 1.28 and later would rather have records than bytes; the calls below stay in its ABI, and 1.18 has nothing else. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define TIMEOUT_LOOK_MS_MIN 10
#define TIMEOUT_LOOK_MS_MAX 250
#define QUERIES_PER_SOCKET 128 /* then a new source port (where c-ares knows how), to be harder to guess */
#define SERVERS_MAX 8
#define ENDPOINT_TEXT_BYTES (INET6_ADDRSTRLEN + 16)

struct watch {
    struct list node; /* in channel's watches, or its dead ones */
    struct channel *channel;
    struct op poll;
    ares_socket_t fd;
    unsigned wanted; /* POLLIN, POLLOUT; 0 once c-ares has closed the socket */
    unsigned armed;  /* what the poll in flight looks for */
    bool cancelled;  /* it was asked to come back */
};

struct channel {
    struct shard *shard;
    ares_channel ares; /* NULL once closed */
    struct list watches;
    struct list dead;
    struct list ended;
    struct timer look;  /* for timeouts */
    struct timer later; /* hands over what ended inside channel_send */
    unsigned in_flight; /* questions that c-ares holds */
    bool trusted;
    void (*closed)(void *context);
    void *context;
};

/* --- notes taken in c-ares's callbacks -------------------------------------------------------------------------- */

static void polled(struct op *op, int result, uint32_t flags);

static struct watch *watch_find(struct channel *channel, ares_socket_t fd)
{
    for (struct list *node = channel->watches.next; node != &channel->watches; node = node->next) {
        struct watch *watch = LIST_OWNER(node, struct watch, node);
        if (watch->fd == fd) {
            return watch;
        }
    }
    return NULL;
}

static void socket_wishes(void *context, ares_socket_t fd, int readable, int writable)
{
    struct channel *channel = context;
    struct watch *watch = watch_find(channel, fd);
    unsigned wanted = (readable ? POLLIN : 0u) | (writable ? POLLOUT : 0u);
    if (watch == NULL) {
        if (wanted == 0) {
            return;
        }
        watch = calloc(1, sizeof *watch);
        CHECK(watch != NULL);
        watch->channel = channel;
        watch->poll.done = polled;
        watch->fd = fd;
        list_push_back(&channel->watches, &watch->node);
    }
    watch->wanted = wanted;
    if (wanted == 0) {
        list_remove(&watch->node);
        list_push_back(&channel->dead, &watch->node);
    }
}

static const char *cause_of(int status)
{
    switch (status) {
    case ARES_ESERVFAIL: return "SERVFAIL";
    case ARES_EREFUSED: return "REFUSED";
    case ARES_ENOTIMP: return "NOTIMP";
    case ARES_EFORMERR: return "FORMERR";
    case ARES_ETIMEOUT: return "timeout";
    case ARES_ECONNREFUSED: return "every DNS server failed"; /* 1.18 says so of SERVFAIL from several servers, too */
    case ARES_EBADRESP: return "malformed reply";
    case ARES_EDESTRUCTION:
    case ARES_ECANCELLED: return "closed";
    default: return "resolver error";
    }
}

static void question_ended(void *context, int status, int timeouts, unsigned char *reply, int length)
{
    struct channel_query *query = context;
    struct channel *channel = query->channel;
    (void)timeouts;
    channel->in_flight--;
    query->cause = status == ARES_SUCCESS ? NULL : cause_of(status);
    if (query->cause == NULL) {
        CHECK(reply != NULL && length > 0);
        query->reply = malloc((size_t)length);
        CHECK(query->reply != NULL);
        memcpy(query->reply, reply, (size_t)length);
        query->reply_length = (size_t)length;
    }
    list_push_back(&channel->ended, &query->node);
}

/* --- acting on them --------------------------------------------------------------------------------------------- */

static void hand_over(struct channel *channel)
{
    struct list *node;
    while ((node = list_pop_front(&channel->ended)) != NULL) {
        struct channel_query *query = LIST_OWNER(node, struct channel_query, node);
        unsigned char *reply = query->reply;
        size_t length = query->reply_length;
        query->reply = NULL;
        query->done(query, reply, length, query->cause);
        free(reply);
    }
}

static void watch_settle(struct watch *watch)
{
    struct ring *ring = watch->channel->shard->ring;
    if (!watch->poll.in_flight) {
        if (watch->wanted != 0) {
            watch->armed = watch->wanted;
            watch->cancelled = false;
            ring_poll(ring, &watch->poll, watch->fd, watch->wanted, false);
        }
    } else if (watch->armed != watch->wanted && !watch->cancelled) {
        watch->cancelled = true;
        ring_cancel(ring, &watch->poll);
    }
}

static void settle_dead(struct channel *channel)
{
    struct list kept;
    list_init(&kept);
    struct list *node;
    while ((node = list_pop_front(&channel->dead)) != NULL) {
        struct watch *watch = LIST_OWNER(node, struct watch, node);
        watch_settle(watch);
        if (watch->poll.in_flight) {
            list_push_back(&kept, node);
        } else {
            free(watch);
        }
    }
    list_splice(&channel->dead, &kept);
}

static void arm_look(struct channel *channel)
{
    if (channel->in_flight == 0) {
        shard_disarm(channel->shard, &channel->look);
        return;
    }
    if (wheel_armed(&channel->look)) {
        return;
    }
    struct timeval room;
    struct timeval *next = ares_timeout(channel->ares, NULL, &room);
    uint64_t after_ms = TIMEOUT_LOOK_MS_MAX;
    if (next != NULL && next->tv_sec == 0 && next->tv_usec < TIMEOUT_LOOK_MS_MAX * 1000) {
        after_ms = (uint64_t)next->tv_usec / 1000 + 1;
    }
    shard_arm(channel->shard, &channel->look, after_ms < TIMEOUT_LOOK_MS_MIN ? TIMEOUT_LOOK_MS_MIN : after_ms);
}

/* After every call into c-ares. Frees a closed channel whose last poll is back: do not touch it afterwards then. */
static void settle(struct channel *channel)
{
    for (struct list *node = channel->watches.next; node != &channel->watches; node = node->next) {
        watch_settle(LIST_OWNER(node, struct watch, node));
    }
    settle_dead(channel);
    arm_look(channel);
    if (channel->ares == NULL && list_empty(&channel->dead)) {
        CHECK(list_empty(&channel->watches) && list_empty(&channel->ended) && !wheel_armed(&channel->later));
        void (*closed)(void *context) = channel->closed;
        void *context = channel->context;
        free(channel);
        closed(context);
    }
}

/* A poll came back. On a dead watch, or called back for another wish, that is all it says. */
static void polled(struct op *op, int result, uint32_t flags)
{
    struct watch *watch = CONTAINER_OF(op, struct watch, poll);
    struct channel *channel = watch->channel;
    (void)flags;
    if (watch->wanted != 0 && result != -ECANCELED) {
        unsigned events = result < 0 ? POLLERR : (unsigned)result;
        if ((events & (POLLERR | POLLHUP)) != 0) {
            events |= watch->wanted; /* c-ares learns of an error by reading or writing */
        }
        events &= watch->wanted;
        ares_process_fd(channel->ares, (events & POLLIN) != 0 ? watch->fd : ARES_SOCKET_BAD,
                        (events & POLLOUT) != 0 ? watch->fd : ARES_SOCKET_BAD);
        hand_over(channel);
    }
    settle(channel);
}

static void look_for_timeouts(struct timer *timer)
{
    struct channel *channel = CONTAINER_OF(timer, struct channel, look);
    ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    hand_over(channel);
    settle(channel);
}

static void hand_over_later(struct timer *timer)
{
    struct channel *channel = CONTAINER_OF(timer, struct channel, later);
    hand_over(channel);
    settle(channel);
}

void channel_send(struct channel *channel, struct channel_query *query, const unsigned char *question, size_t length)
{
    CHECK(channel->ares != NULL && length <= QUESTION_BYTES);
    query->channel = channel;
    query->reply = NULL;
    query->reply_length = 0;
    query->cause = NULL;
    list_init(&query->node);
    channel->in_flight++;
    ares_send(channel->ares, question, (int)length, question_ended, query);
    settle(channel);
    if (!list_empty(&channel->ended) && !wheel_armed(&channel->later)) {
        shard_arm(channel->shard, &channel->later, 0);
    }
}

bool channel_trusted(const struct channel *channel)
{
    return channel->trusted;
}

/* --- opening and closing ---------------------------------------------------------------------------------------- */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void library_start(void)
{
    ares_library_init(ARES_LIB_INIT_ALL);
}

static int init_ares(struct channel *channel, const struct channel_settings *settings, int more_flags)
{
    struct ares_options options = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS | more_flags,
        .timeout = (int)settings->timeout_ms,
        .tries = (int)settings->tries,
        .ednspsz = QUESTION_UDP_BYTES,
        .sock_state_cb = socket_wishes,
        .sock_state_cb_data = channel,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB;
#ifdef ARES_OPT_UDP_MAX_QUERIES
    options.udp_max_queries = QUERIES_PER_SOCKET;
    mask |= ARES_OPT_UDP_MAX_QUERIES;
#endif
#ifdef ARES_OPT_QUERY_CACHE
    options.qcache_max_ttl = 0; /* dns/cache is the cache */
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    pthread_once(&library_once, library_start);
    return ares_init_options(&channel->ares, &options, mask);
}

/* "127.0.0.1:53" or "[::1]:53", as ares_set_servers_ports_csv reads it. */
static bool endpoint_text(const struct config_endpoint *endpoint, struct buffer *out)
{
    char text[INET6_ADDRSTRLEN];
    if (endpoint->address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *address = (const struct sockaddr_in6 *)&endpoint->address;
        return inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof text) != NULL &&
               buffer_append_format(out, "[%s]:%u", text, (unsigned)ntohs(address->sin6_port));
    }
    const struct sockaddr_in *address = (const struct sockaddr_in *)&endpoint->address;
    return endpoint->address.ss_family == AF_INET &&
           inet_ntop(AF_INET, &address->sin_addr, text, sizeof text) != NULL &&
           buffer_append_format(out, "%s:%u", text, (unsigned)ntohs(address->sin_port));
}

static int set_servers(struct channel *channel, const struct channel_settings *settings)
{
    char text[SERVERS_MAX * ENDPOINT_TEXT_BYTES];
    struct buffer list = buffer_of(text, sizeof text - 1);
    for (unsigned i = 0; i < settings->server_count; i++) {
        if (i >= SERVERS_MAX || (i > 0 && !buffer_append_string(&list, ",")) ||
            !endpoint_text(&settings->servers[i], &list)) {
            return ARES_EBADSTR;
        }
    }
    text[list.length] = '\0';
    return settings->server_count == 0 ? ARES_SUCCESS : ares_set_servers_ports_csv(channel->ares, text);
}

/* Initialises c-ares, and finds out how many servers it will ask and whether all are on this machine. */
static int open_ares(struct channel *channel, const struct channel_settings *settings, int more_flags,
                     unsigned *ret_servers)
{
    struct ares_addr_port_node *servers = NULL;
    int status = init_ares(channel, settings, more_flags);
    if (status != ARES_SUCCESS) {
        return status;
    }
    status = set_servers(channel, settings);
    status = status == ARES_SUCCESS ? ares_get_servers_ports(channel->ares, &servers) : status;
    if (status != ARES_SUCCESS) {
        ares_destroy(channel->ares);
        return status;
    }
    *ret_servers = 0;
    channel->trusted = servers != NULL;
    for (const struct ares_addr_port_node *server = servers; server != NULL; server = server->next) {
        bool loopback = server->family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)&server->addr)
                                                   : *(const unsigned char *)&server->addr == 127;
        channel->trusted = channel->trusted && loopback;
        ++*ret_servers;
    }
    ares_free_data(servers);
    return ARES_SUCCESS;
}

/* c-ares answers SERVFAIL and REFUSED by going to the next server, and 1.18 then forgets why. With one server there is
 * no next one, and we want to hear it. */
static int open_ares_fitting(struct channel *channel, const struct channel_settings *settings)
{
    unsigned servers;
    int status = open_ares(channel, settings, 0, &servers);
    if (status == ARES_SUCCESS && servers == 1) {
        ares_destroy(channel->ares);
        status = open_ares(channel, settings, ARES_FLAG_NOCHECKRESP, &servers);
    }
    return status;
}

int channel_open(struct shard *shard, const struct channel_settings *settings, struct channel **ret_channel,
                 char *reason, size_t reason_size)
{
    struct channel *channel = calloc(1, sizeof *channel);
    CHECK(channel != NULL);
    channel->shard = shard;
    list_init(&channel->watches);
    list_init(&channel->dead);
    list_init(&channel->ended);
    wheel_timer_init(&channel->look, look_for_timeouts);
    wheel_timer_init(&channel->later, hand_over_later);
    int status = open_ares_fitting(channel, settings);
    if (status != ARES_SUCCESS) {
        snprintf(reason, reason_size, "DNS resolver: %s", ares_strerror(status));
        free(channel);
        return status == ARES_ENOMEM ? -ENOMEM : -EINVAL;
    }
    *ret_channel = channel;
    return 0;
}

void channel_close(struct channel *channel, void (*closed)(void *context), void *context)
{
    CHECK(channel->ares != NULL);
    channel->closed = closed;
    channel->context = context;
    ares_destroy(channel->ares);
    hand_over(channel);
    channel->ares = NULL;
    shard_disarm(channel->shard, &channel->later);
    settle(channel);
}
