/* A running inbound layer on loopback: real shards, rings and sockets; a spool and a queue that tests steer.
 * Included by one test program each, so everything is static; the spool's and queue's functions replace those of
 * the library.
 *
 * The test's own thread is the client. What shards own is looked at through fixture_look (shard_call). */
#ifndef TESTS_INBOUND_FIXTURE_H
#define TESTS_INBOUND_FIXTURE_H

/* Not every program uses all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "core/shard.h"
#include "core/stream.h"
#include "inbound/inbound.h"
#include "inbound/listener.h"
#include "inbound/reception.h"
#include "queue/enqueue.h"
#include "spool/spool.h"

/* --- a spool of memory ------------------------------------------------------------------------------------------ */

struct stored {
    char *data; /* prologue, extents, body */
    size_t length;
    size_t prologue_length;
    char envelope[65536];
    size_t envelope_length;
    unsigned recipients;
    unsigned extents;
    uint32_t flags;
    uint64_t id;
};

struct waiting {
    struct list node;
    struct spool_append *append;
    bool is_message;
};

struct spool {
    struct shard *shard;
    struct timer timer;
    struct list waiting;
    uint64_t next_id;
    bool held;    /* nothing completes */
    enum err err; /* of messages */
    enum err extent_err;
    enum spool_intake intake;
    unsigned stored_count;
    unsigned enqueued;
    unsigned extents_written;
    unsigned extents_abandoned;
    unsigned extents_in_flight_most;
    uint64_t body_memory_most;
    struct stored stored[64]; /* the first ones */
    struct bytes extents[8192];
};

static _Atomic bool fixture_queue_full;
static _Atomic bool fixture_queue_busy;

static void fake_complete(struct timer *timer)
{
    struct spool *spool = CONTAINER_OF(timer, struct spool, timer);
    struct list *node;
    while (!spool->held && (node = list_pop_front(&spool->waiting)) != NULL) {
        struct waiting *waiting = LIST_OWNER(node, struct waiting, node);
        struct spool_append *append = waiting->append;
        enum err err = waiting->is_message ? spool->err : spool->extent_err;
        spool->stored_count += waiting->is_message && err == ERR_OK;
        free(waiting);
        append->done(append, err);
    }
}

static void fake_wait(struct spool *spool, struct spool_append *append, bool is_message)
{
    struct waiting *waiting = malloc(sizeof *waiting);
    waiting->append = append;
    waiting->is_message = is_message;
    list_init(&waiting->node);
    list_push_back(&spool->waiting, &waiting->node);
    if (!wheel_armed(&spool->timer)) {
        shard_arm(spool->shard, &spool->timer, 0);
    }
}

uint64_t spool_new_id(struct spool *spool)
{
    return ++spool->next_id;
}

enum spool_intake spool_intake_state(const struct spool *spool)
{
    return spool->intake;
}

static void keep(struct stored *stored, struct bytes bytes)
{
    stored->data = realloc(stored->data, stored->length + bytes.length + 1);
    memcpy(stored->data + stored->length, bytes.data, bytes.length);
    stored->length += bytes.length;
}

void spool_append_message(struct spool *spool, struct spool_append *append, const struct spool_message *message)
{
    CHECK(message->body_pieces <= SPOOL_PIECES_MAX);
    append->slot = spool->stored_count;
    if (spool->stored_count < 64) {
        struct stored *stored = &spool->stored[spool->stored_count];
        free(stored->data);
        *stored = (struct stored){.id = message->id, .recipients = message->recipients, .flags = message->flags};
        stored->extents = message->extent_count;
        CHECK(message->envelope.length <= sizeof stored->envelope);
        memcpy(stored->envelope, message->envelope.data, message->envelope.length);
        stored->envelope_length = message->envelope.length;
        keep(stored, message->prologue);
        stored->prologue_length = stored->length;
        for (unsigned i = 0; i < message->extent_count; i++) {
            keep(stored, spool->extents[message->extents[i].position]);
        }
        for (unsigned i = 0; i < message->body_pieces; i++) {
            keep(stored, bytes_of(message->body[i].iov_base, message->body[i].iov_len));
        }
    }
    fake_wait(spool, append, true);
}

void spool_append_extent(struct spool *spool, struct spool_append *append, uint64_t id, const struct iovec *pieces,
                         unsigned count)
{
    CHECK(id != 0 && count <= SPOOL_PIECES_MAX);
    size_t length = 0;
    char *data = malloc(LIMIT_EXTENT_BYTES);
    for (unsigned i = 0; i < count; i++) {
        CHECK(length + pieces[i].iov_len <= LIMIT_EXTENT_BYTES);
        memcpy(data + length, pieces[i].iov_base, pieces[i].iov_len);
        length += pieces[i].iov_len;
    }
    CHECK(spool->extents_written < 8192);
    unsigned position = spool->extents_written++;
    spool->extents[position] = bytes_of(data, length);
    append->extent = (struct spool_format_extent){.position = position, .payload_bytes = (uint32_t)length};
    uint64_t memory = spool->shard->inbound->bodies.bytes;
    spool->body_memory_most = memory > spool->body_memory_most ? memory : spool->body_memory_most;
    unsigned in_flight = 1;
    for (struct list *node = spool->waiting.next; node != &spool->waiting; node = node->next) {
        in_flight++;
    }
    if (in_flight > spool->extents_in_flight_most) {
        spool->extents_in_flight_most = in_flight;
    }
    fake_wait(spool, append, false);
}

struct bytes spool_extent(const struct spool *spool, const struct spool_format_extent *extent)
{
    return spool->extents[extent->position];
}

void spool_abandon_extent(struct spool *spool, const struct spool_format_extent *extent)
{
    CHECK(extent->payload_bytes != 0);
    spool->extents_abandoned++;
}

void enqueue_message(struct shard *shard, struct spool *spool, uint32_t slot, uint64_t arrival_wall_ms,
                     struct bytes envelope)
{
    (void)shard, (void)slot, (void)arrival_wall_ms;
    CHECK(envelope.length != 0);
    spool->enqueued++;
}

bool enqueue_full(const struct shard *shard)
{
    (void)shard;
    return fixture_queue_full;
}

bool enqueue_busy(const struct shard *shard)
{
    (void)shard;
    return fixture_queue_busy;
}

static void fake_free(struct spool *spool)
{
    for (unsigned i = 0; i < 64; i++) {
        free(spool->stored[i].data);
    }
    for (unsigned i = 0; i < spool->extents_written; i++) {
        free((void *)(uintptr_t)spool->extents[i].data);
    }
    free(spool);
}

/* --- the layer -------------------------------------------------------------------------------------------------- */

static struct config_network loopback = {.address = {[10] = 0xff, 0xff, 127}, .prefix_bits = 104};

struct fixture {
    struct inbound_listener_settings listener;
    struct inbound_settings settings;
    uint32_t connections_max;
    unsigned shards;
    unsigned receive_buffers;
    bool own_ports; /* every shard listens on a port of its own */
    struct admission *admission;
    struct shard_group *group;
    _Atomic unsigned port; /* of shard 0 */
    _Atomic unsigned stopped;
};

static struct fixture fixture;

static void fixture_defaults(void)
{
    fixture = (struct fixture){
        .listener =
            {
                .name = "smtp",
                .durability = INBOUND_SYNC,
                .hostname = "mx.example.com",
                .banner = "ESMTP test",
                .message_bytes_max = LIMIT_MESSAGE_BYTES_DEFAULT,
                .recipients_max = LIMIT_RECIPIENTS_DEFAULT,
                .text_line_bytes_max = LIMIT_TEXT_LINE_BYTES_DEFAULT,
                .command_bytes_max = LIMIT_COMMAND_BYTES_DEFAULT,
                .received_max = LIMIT_RECEIVED_DEFAULT,
                .errors_max = LIMIT_ERRORS_DEFAULT,
                .connections_max = 1000,
                .connections_per_address_max = 1000,
                .relay_networks = {&loopback, 1},
                .socket_mode = "0600",
                .socket_owner = "",
                .verifier = "",
                .extensions = SMTP_SERVER_EXTENSIONS_BASIC,
                .priorities = {.min = -9, .min_busy = -9},
                .timeouts = {.command_ms = 30000, .data_block_ms = 30000, .message_ms = 60000, .session_ms = 60000},
            },
        .connections_max = 1000,
        .shards = 1,
        .receive_buffers = 256,
    };
    fixture.settings = (struct inbound_settings){
        .listeners = &fixture.listener, .listeners_count = 1, .body_memory_bytes_max = 16u << 20};
    fixture_queue_full = fixture_queue_busy = false;
}

static int fixture_start_shard(struct shard *shard, void *context)
{
    (void)context;
    struct spool *spool = calloc(1, sizeof *spool);
    spool->shard = shard;
    list_init(&spool->waiting);
    wheel_timer_init(&spool->timer, fake_complete);
    shard->spool = spool;
    stream_shard_start(shard);
    struct inbound_listener_settings listener = fixture.listener;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)(fixture.own_ports ? 0 : fixture.port));
    memcpy(&listener.endpoint.address, &address, sizeof address);
    listener.endpoint.length = sizeof address;
    struct inbound_settings settings = fixture.settings;
    settings.listeners = &listener;
    settings.receive_buffers = fixture.receive_buffers;
    char reason[200] = "";
    struct inbound *inbound;
    int error = inbound_new(shard, fixture.admission, &settings, &inbound, reason, sizeof reason);
    if (error == 0 && shard->index == 0) {
        fixture.port = listener_port(&inbound->listeners[0]);
    }
    return error;
}

static void fixture_stop_shard(struct shard *shard, void *context)
{
    (void)context;
    inbound_delete(shard->inbound);
    stream_shard_stop(shard);
    fake_free(shard->spool);
}

/* With several shards on one port, the port has to be known before the first one binds it. */
static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void fixture_start(void)
{
    char reason[256] = "";
    fixture.port = free_port();
    fixture.admission = admission_new(fixture.shards, 1, fixture.connections_max);
    struct shard_group_settings settings = {
        .shards = fixture.shards,
        .ring = {.entries = 256, .receive_buffers = fixture.receive_buffers, .receive_buffer_bytes = 8192},
        .start = fixture_start_shard,
        .stop = fixture_stop_shard,
    };
    int error = shard_group_start(&settings, &fixture.group, reason, sizeof reason);
    if (error != 0) {
        fail_msg("%s", reason);
    }
}

static void fixture_look(unsigned shard, void (*look)(struct shard *shard, void *context), void *context)
{
    assert_int_equal(shard_call(fixture.group, shard, look, context), 0);
}

static void fixture_stopped(struct inbound *inbound)
{
    inbound->shard->stopping = true;
    atomic_fetch_add(&fixture.stopped, 1);
}

static void fixture_begin_stop(struct shard *shard, void *deadline_ms)
{
    inbound_stop(shard->inbound, *(uint64_t *)deadline_ms, fixture_stopped);
}

static void fixture_stop_after(uint64_t deadline_ms)
{
    for (unsigned i = 0; i < fixture.shards; i++) {
        fixture_look(i, fixture_begin_stop, &deadline_ms);
    }
}

static void fixture_join(void)
{
    shard_group_join(fixture.group);
    assert_int_equal(admission_connections(fixture.admission), 0);
    admission_delete(fixture.admission);
}

static void fixture_stop(void)
{
    fixture_stop_after(0);
    fixture_join();
}

/* --- looking ---------------------------------------------------------------------------------------------------- */

struct snapshot {
    unsigned sessions;
    unsigned receptions;
    unsigned stored;
    unsigned enqueued;
    unsigned extents_written;
    unsigned extents_abandoned;
    unsigned extents_in_flight_most;
    unsigned replies_taken;
    unsigned buffers_free;
    uint64_t body_memory;
    uint64_t body_memory_most;
    uint64_t commands;
    uint64_t accepted;
    uint64_t rejected;
    uint64_t refused;
};

static void take_snapshot(struct shard *shard, void *context)
{
    struct inbound *inbound = shard->inbound;
    *(struct snapshot *)context = (struct snapshot){
        .sessions = inbound->session_count,
        .receptions = inbound->reception_count,
        .stored = shard->spool->stored_count,
        .enqueued = shard->spool->enqueued,
        .extents_written = shard->spool->extents_written,
        .extents_abandoned = shard->spool->extents_abandoned,
        .extents_in_flight_most = shard->spool->extents_in_flight_most,
        .replies_taken = inbound->replies.taken + inbound->small_replies.taken,
        .buffers_free = ring_buffers_free(shard->ring),
        .body_memory = inbound->bodies.bytes,
        .body_memory_most = shard->spool->body_memory_most,
        .commands = shard->metrics->commands,
        .accepted = shard->metrics->messages_accepted,
        .rejected = shard->metrics->messages_rejected,
        .refused = shard->metrics->connections_refused,
    };
}

static struct snapshot snapshot_of(unsigned shard)
{
    struct snapshot snapshot;
    fixture_look(shard, take_snapshot, &snapshot);
    return snapshot;
}

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Until the condition on `now`, a fresh snapshot of shard 0, holds; at most five seconds. */
#define WAIT_FOR(condition)                                                                                \
    for (uint64_t wait_end_ = clock_ms() + 5000;;) {                                                       \
        struct snapshot now = snapshot_of(0);                                                              \
        if (condition) {                                                                                   \
            break;                                                                                         \
        }                                                                                                  \
        if (clock_ms() > wait_end_) {                                                                      \
            fail_msg("not within 5 s: %s (sessions %u receptions %u stored %u)", #condition, now.sessions, \
                     now.receptions, now.stored);                                                          \
        }                                                                                                  \
        pause_ms(1);                                                                                       \
    }

static void set_held(struct shard *shard, void *context)
{
    shard->spool->held = *(bool *)context;
    if (!shard->spool->held) {
        shard_arm(shard, &shard->spool->timer, 0);
    }
}

static void fixture_hold(bool held)
{
    for (unsigned i = 0; i < fixture.shards; i++) {
        fixture_look(i, set_held, &held);
    }
}

static void set_errors(struct shard *shard, void *context)
{
    shard->spool->err = shard->spool->extent_err = *(enum err *)context;
}

static void fixture_errors(enum err err)
{
    fixture_look(0, set_errors, &err);
}

static void set_intake(struct shard *shard, void *context)
{
    shard->spool->intake = *(enum spool_intake *)context;
}

static void fixture_intake(enum spool_intake intake)
{
    fixture_look(0, set_intake, &intake);
}

/* --- a client --------------------------------------------------------------------------------------------------- */

static int client_connect_from(const char *source, unsigned port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
    struct sockaddr_in from = {.sin_family = AF_INET};
    assert_int_equal(inet_pton(AF_INET, source, &from.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static int client_connect(void)
{
    return client_connect_from("127.0.0.1", fixture.port);
}

static void client_send_bytes(int fd, const char *data, size_t length)
{
    while (length != 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent <= 0) {
            fail_msg("send: %s", strerror(errno));
        }
        data += sent;
        length -= (size_t)sent;
    }
}

static void client_send(int fd, const char *text)
{
    client_send_bytes(fd, text, strlen(text));
}

/* The last line of the next reply; its code, or -1 at end of stream. Reads octet by octet: no read-ahead. */
static int client_reply_text(int fd, char *line, size_t size)
{
    for (;;) {
        size_t length = 0;
        char c;
        do {
            ssize_t got = recv(fd, &c, 1, 0);
            if (got != 1) {
                return -1;
            }
            if (length < size - 1) {
                line[length++] = c;
            }
        } while (c != '\n');
        line[length] = '\0';
        if (length >= 4 && line[3] == ' ') {
            return (int)strtol(line, NULL, 10);
        }
    }
}

static int client_reply(int fd)
{
    char line[600];
    return client_reply_text(fd, line, sizeof line);
}

/* Each `codes` is "250 354 ..." */
static void client_expect(int fd, const char *codes)
{
    while (*codes != '\0') {
        char *end;
        int wanted = (int)strtol(codes, &end, 10);
        char line[600] = "(end of stream)";
        int code = client_reply_text(fd, line, sizeof line);
        if (code != wanted) {
            fail_msg("expected %d, got %d: %s", wanted, code, line);
        }
        codes = end + strspn(end, " ");
    }
}

static bool client_at_end(int fd)
{
    char c;
    return recv(fd, &c, 1, 0) <= 0;
}

/* Connected, greeted and past EHLO. */
static int client_ready(void)
{
    int fd = client_connect();
    client_send(fd, "EHLO client.example\r\n");
    client_expect(fd, "220 250");
    return fd;
}

static void client_reset(int fd)
{
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

#define TRANSACTION "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@Example.ORG>\r\nDATA\r\n"
#define BODY "Subject: hello\r\n\r\nworld\r\n.\r\n"

#endif
