/* Delivery as it runs: real shards, queue and spool, and remote hosts that do what a test says, on addresses 127.0.0.x.
 * DNS is a table: this file takes the place of dns/mx.c. Included by one test program each.
 *
 * Every recipient is "n<number>@<domain>"; its fates are counted on the way from delivery to the journal, and what the
 * hosts accepted is counted there. rig_end checks that each recipient had exactly one fate, that a delivered one was
 * accepted by a host, and that nothing is left: no attempt, connection, site, loan, descriptor. (Memory: ASAN.)
 *
 * The shards are looked at as little as possible: a look wakes them, and a lost wake-up would stay unseen. */
#ifndef TEST_DELIVERY_RIG_H
#define TEST_DELIVERY_RIG_H

#pragma GCC diagnostic ignored "-Wunused-function"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/stream.h"
#include "delivery/bounce.h"
#include "delivery/delivery.h"
#include "delivery/site.h"
#include "queue/enqueue.h"
#include "queue/lend.h"
#include "queue/manage.h"
#include "spool/envelope.h"
#include "spool/spool.h"
#include "spool/spool_private.h"
#include "support/loopback.h"

#define RIG_SHARDS 2
#define RIG_RECIPIENTS 4096
#define RIG_MESSAGES 4096
#define RIG_HOSTS 16
#define RIG_ROUTES 24
#define RIG_CONNECTIONS 512
#define RIG_PATIENCE_MS 10000

/* --- a remote host ------------------------------------------------------------------------------------------------ */

enum talk_at { AT_GREETING, AT_EHLO, AT_MAIL, AT_RCPT, AT_DATA, AT_BODY, AT_DOT, AT_RSET, AT_QUIT, AT_COUNT };

/* What a script may return besides a reply line without its CRLF. NULL: the usual reply. */
#define TALK_CLOSE "close"
#define TALK_STALL "stall"
/* "!reply": the reply, then the connection is closed. */

struct host;

struct talk {
    struct host *host;
    int fd;
    unsigned number;       /* of the connection, from 1 */
    unsigned transactions; /* begun with MAIL */
    unsigned recipients;   /* RCPTs of this one */
    unsigned accepted_count;
    unsigned accepted[LIMIT_TRANSACTION_RECIPIENTS]; /* recipients' numbers */
    size_t body_bytes;
    bool eight_bit;
    char input[65536];
    size_t begin;
    size_t end;
};

typedef const char *host_script(struct talk *talk, enum talk_at at, const char *line);

struct host {
    int listener;
    struct sockaddr_in address;
    pthread_t thread;
    host_script *_Atomic script;
    _Atomic unsigned connections;
    _Atomic unsigned mails;
    _Atomic unsigned quits;
    _Atomic unsigned open;
    _Atomic unsigned open_most;
    _Atomic unsigned notices; /* messages to "sender" */
    _Atomic uint64_t last_body_bytes;
    _Atomic bool ending;
    pthread_t talkers[RIG_CONNECTIONS];
    _Atomic unsigned talker_count;
};

/* --- the rig ------------------------------------------------------------------------------------------------------ */

struct name {
    const char *domain;
    enum mx_class class;
    unsigned host_count;
    struct host *hosts[4];
    uint64_t ttl_ms;
    uint64_t delay_ms; /* 0: known at once */
};

struct rig {
    unsigned shards;
    struct shard_group *group;
    struct delivery_settings settings;
    struct delivery_settings other_settings; /* for a reload */
    struct queue_settings queue;
    struct delivery_route routes[RIG_ROUTES];
    struct name names[RIG_ROUTES];
    unsigned name_count;
    pthread_mutex_t names_lock;
    _Atomic unsigned lookups;
    uint8_t spool_shard[QUEUE_SPOOLS];
    char root[64];
    struct spool *spool;
    unsigned owner; /* the shard with the spool */
    struct host hosts[RIG_HOSTS];
    unsigned host_count;
    in_port_t port; /* of all hosts but the first: their number is in the address */
    unsigned descriptors;
    unsigned recipients;
    unsigned messages;
    struct {
        uint64_t id;
        unsigned first;
    } message[RIG_MESSAGES];
    _Atomic unsigned accepted[RIG_RECIPIENTS]; /* by a host */
    _Atomic unsigned finals[RIG_RECIPIENTS];   /* reported */
    _Atomic int status[RIG_RECIPIENTS];        /* the last one */
    _Atomic unsigned deferrals[RIG_RECIPIENTS];
    char first_text[RIG_RECIPIENTS][200]; /* of the first deferral */
    char text[RIG_RECIPIENTS][200];       /* of the end */
    _Atomic unsigned finished;
    _Atomic unsigned stopped;
    _Atomic unsigned queued_ok;
    bool running;
    bool may_leave;         /* the test stops before all is delivered */
    bool may_repeat;        /* outcomes are lost */
    _Atomic bool no_memory; /* for the next message that is lent */
    void (*lent)(void *context, const void *payload, size_t length);
};

static struct rig rig;
static _Atomic int64_t rig_wall_offset_ms;

uint64_t clock_monotonic_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

uint64_t clock_monotonic_ms(void)
{
    return clock_monotonic_ns() / 1000000;
}

uint64_t clock_wall_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (uint64_t)((int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000 + rig_wall_offset_ms);
}

static bool comes(bool (*ask)(void *context), void *context, unsigned patience_ms)
{
    uint64_t end_ms = clock_monotonic_ms() + patience_ms;
    while (!ask(context)) {
        if (clock_monotonic_ms() > end_ms) {
            return false;
        }
        usleep(2000);
    }
    return true;
}

#include "delivery_host.h"

#include "delivery_dns.h"

/* --- fates -------------------------------------------------------------------------------------------------------- */

static void rig_fate(unsigned number, const struct lend_outcome *what)
{
    bool goes_on = what->status == SPOOL_FORMAT_DEFERRED || what->status == SPOOL_FORMAT_HELD;
    char *text = goes_on ? rig.first_text[number] : rig.text[number];
    if (!goes_on || rig.deferrals[number] == 0) {
        snprintf(text, sizeof rig.text[0], "%.*s", (int)what->text_bytes, what->tail);
    }
    rig.status[number] = what->status;
    if (goes_on) {
        rig.deferrals[number]++;
    } else {
        rig.finals[number]++;
        rig.finished++;
    }
}

/* In the owner's thread, before the journal. */
static void rig_outcome(void *context, const void *payload, size_t length)
{
    const struct lend_outcome *what = payload;
    uint64_t id = spool_slot_id(rig.spool, what->slot);
    for (unsigned i = 0; i < rig.messages; i++) {
        if (rig.message[i].id == id) {
            for (unsigned r = 0; r < what->count; r++) {
                rig_fate(rig.message[i].first + what->recipients[r].recipient, what);
            }
        }
    }
    bounce_outcome(context, payload, length);
}

static void rig_answer(void *context, const void *payload, size_t length)
{
    struct delivery *delivery = context;
    struct lend_answer answer;
    memcpy(&answer, payload, sizeof answer);
    if (answer.err == ERR_OK && atomic_exchange(&rig.no_memory, false)) {
        lend_return(delivery->queue, answer.spool, answer.slot, &answer.view, false);
        answer.view = (struct spool_view){0};
        answer.err = ERR_NO_MEMORY;
    }
    rig.lent(context, &answer, length);
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

struct letter {
    const char *sender;  /* NULL: "sender@sender.test" */
    const char *domains; /* "a.test*3 b.test": recipients, in order */
    size_t bytes;        /* of the body, about; over LIMIT_EXTENT_BYTES it is stored in extents */
    bool eight_bit;
    /* the rig's */
    struct spool_append append;
    struct buffer envelope;
    char *body;
    size_t body_length;
    unsigned recipients;
    uint64_t id;
    uint64_t arrival_ms;
    struct spool_format_extent *extents;
    unsigned extent_count;
    unsigned extents_written;
    struct shard *shard;
    _Atomic bool done;
};

static void letter_append(struct letter *letter);

static void letter_stored(struct spool_append *append, enum err err)
{
    struct letter *letter = CONTAINER_OF(append, struct letter, append);
    CHECK(err == ERR_OK);
    enqueue_message(letter->shard, rig.spool, append->slot, letter->arrival_ms, buffer_bytes(&letter->envelope));
    letter->done = true;
}

static void extent_stored(struct spool_append *append, enum err err)
{
    struct letter *letter = CONTAINER_OF(append, struct letter, append);
    CHECK(err == ERR_OK);
    letter->extents[letter->extents_written++] = append->extent;
    letter_append(letter);
}

static void letter_append(struct letter *letter)
{
    size_t sent = (size_t)letter->extents_written * LIMIT_EXTENT_BYTES;
    memset(&letter->append, 0, sizeof letter->append);
    if (letter->extents_written < letter->extent_count) {
        struct iovec piece = {.iov_base = letter->body + sent, .iov_len = LIMIT_EXTENT_BYTES};
        letter->append.done = extent_stored;
        spool_append_extent(rig.spool, &letter->append, letter->id, &piece, 1);
        return;
    }
    struct iovec piece = {.iov_base = letter->body + sent, .iov_len = letter->body_length - sent};
    letter->append.done = letter_stored;
    struct spool_message message = {
        .id = letter->id,
        .arrival_ms = letter->arrival_ms,
        .flags = letter->eight_bit ? SPOOL_FORMAT_HAS_8BIT : 0,
        .recipients = (uint16_t)letter->recipients,
        .envelope = buffer_bytes(&letter->envelope),
        .prologue = BYTES("Received: from test\r\n"),
        .body = &piece,
        .body_pieces = 1,
        .extents = letter->extents,
        .extent_count = letter->extent_count,
    };
    spool_append_message(rig.spool, &letter->append, &message);
}

static void letter_begin(struct shard *shard, void *context)
{
    struct letter *letter = context;
    letter->shard = shard;
    letter->id = spool_new_id(rig.spool);
    letter->arrival_ms = shard->wall_ms;
    CHECK(rig.messages < RIG_MESSAGES);
    rig.message[rig.messages].id = letter->id;
    rig.message[rig.messages++].first = rig.recipients - letter->recipients;
    letter_append(letter);
}

static void letter_envelope(struct letter *letter)
{
    letter->envelope = (struct buffer){.data = malloc(65536), .capacity = 65536};
    const char *sender = letter->sender != NULL ? letter->sender : "sender@sender.test";
    assert_true(envelope_add(&letter->envelope, ENVELOPE_SENDER, 0, bytes_of_string(sender)));
    for (const char *at = letter->domains; *at != '\0';) {
        size_t length = strcspn(at, "* ");
        unsigned count = at[length] == '*' ? (unsigned)strtoul(at + length + 1, NULL, 10) : 1;
        for (unsigned i = 0; i < count; i++) {
            char address[300];
            snprintf(address, sizeof address, "n%u@%.*s", rig.recipients++, (int)length, at);
            assert_true(envelope_add(&letter->envelope, ENVELOPE_RECIPIENT, 0, bytes_of_string(address)));
            letter->recipients++;
        }
        at += strcspn(at, " ");
        at += *at == ' ';
    }
    assert_true(rig.recipients <= RIG_RECIPIENTS);
}

static void letter_body(struct letter *letter)
{
    static const char head[] = "Subject: test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                               "Content-Transfer-Encoding: 8bit\r\n\r\n";
    size_t capacity = letter->bytes + 1000;
    struct buffer body = {.data = malloc(capacity), .capacity = capacity};
    buffer_append(&body, bytes_of_string(head));
    while (body.length < letter->bytes) {
        buffer_append(&body, letter->eight_bit ? BYTES("caf\xc3\xa9 au lait, encore un caf\xc3\xa9\r\n")
                                               : BYTES("the quick brown fox jumps over the lazy dog\r\n"));
    }
    buffer_append(&body, BYTES(".\r\n"));
    letter->body = body.data;
    letter->body_length = body.length;
    if (body.length > LIMIT_EXTENT_BYTES) {
        letter->extent_count = (unsigned)((body.length - 1) / LIMIT_EXTENT_BYTES);
        letter->extents = calloc(letter->extent_count, sizeof *letter->extents);
    }
}

static bool letter_done(void *context)
{
    const struct letter *letter = context;
    return letter->done;
}

/* Accepts a message; returns the number of its first recipient. */
static unsigned rig_mail(struct letter from)
{
    struct letter *letter = calloc(1, sizeof *letter);
    unsigned first = rig.recipients;
    letter->sender = from.sender;
    letter->domains = from.domains;
    letter->bytes = from.bytes;
    letter->eight_bit = from.eight_bit;
    letter_envelope(letter);
    letter_body(letter);
    assert_int_equal(shard_call(rig.group, rig.owner, letter_begin, letter), 0);
    assert_true(comes(letter_done, letter, RIG_PATIENCE_MS));
    free(letter->envelope.data);
    free(letter->body);
    free(letter->extents);
    free(letter);
    return first;
}

static unsigned rig_mails(unsigned count, const char *domains)
{
    unsigned first = rig.recipients;
    for (unsigned i = 0; i < count; i++) {
        rig_mail((struct letter){.domains = domains});
    }
    return first;
}

/* --- start and end ------------------------------------------------------------------------------------------------ */

static void rig_recovered(void *context, const struct spool_recovered *message)
{
    struct shard *shard = context;
    enqueue_recovered(shard->queue, 0, message);
}

static int rig_start_shard(struct shard *shard, void *context)
{
    (void)context;
    stream_shard_start(shard);
    struct delivery *delivery = delivery_new(shard, &rig.settings);
    struct queue_ops ops;
    delivery_queue_ops(&ops, delivery);
    ops.outcome = rig_outcome;
    if (shard->index == 0) {
        rig.lent = ops.lent; /* the same for all */
    }
    ops.lent = rig_answer;
    struct queue *queue = queue_new(shard, &rig.queue, &ops, rig.spool_shard);
    struct resolver *resolver = calloc(1, sizeof *resolver);
    resolver->shard = shard;
    shard->resolver = resolver;
    delivery_start(delivery, queue, resolver);
    if (shard->index != rig.owner) {
        return 0;
    }
    struct spool_settings settings = {
        .root = rig.root,
        .segment_bytes = LIMIT_SEGMENT_BYTES_MIN,
        .batch_bytes = LIMIT_SEGMENT_BYTES_MIN / 4,
        .recovered = rig_recovered,
        .context = shard,
    };
    char reason[256] = "";
    if (spool_open(shard, &settings, &rig.spool, reason, sizeof reason) != ERR_OK) {
        fprintf(stderr, "%s\n", reason);
        return -EIO;
    }
    shard->spool = rig.spool;
    queue_add_spool(queue, 0, rig.spool);
    return 0;
}

static unsigned rig_lent(void)
{
    unsigned lent = 0;
    for (uint32_t i = 0; i < rig.spool->segments.capacity; i++) {
        lent += rig.spool->segments.at[i] != NULL ? (unsigned)rig.spool->segments.at[i]->lent : 0;
    }
    return lent;
}

static void rig_end_shard(struct shard *shard, void *context)
{
    (void)context;
    CHECK(shard->delivery->attempts.used == 0 && shard->delivery->journals == 0);
    CHECK(rig.may_leave || shard->queue->entries.used == 0);
    queue_delete(shard->queue);
    CHECK(shard->delivery->sites.count == 0);
    delivery_delete(shard->delivery);
    free(shard->resolver);
    if (shard->index == rig.owner) {
        CHECK(rig_lent() == 0);
        CHECK(rig.may_leave || rig.spool->messages == 0);
        spool_close(rig.spool);
    }
    stream_shard_stop(shard);
}

static void rig_init(unsigned shards)
{
    unsigned descriptors = loopback_descriptors();
    memset(&rig, 0, sizeof rig);
    rig_wall_offset_ms = 0;
    rig.shards = shards;
    rig.descriptors = descriptors;
    pthread_mutex_init(&rig.names_lock, NULL);
    snprintf(rig.root, sizeof rig.root, "/tmp/delivery-XXXXXX");
    assert_non_null(mkdtemp(rig.root));
    rig.queue = (struct queue_settings){
        .retry_ms = {1000},
        .retry_count = 1,
        .expire_ms = 3600000,
        .recipients_max = 100000,
    };
    rig.settings = (struct delivery_settings){
        .hostname = BYTES("us.test"),
        .routes = rig.routes,
        .connections_max = 100,
        .receive_buffers = 256,
        .timeouts = {.connect_ms = 2000, .idle_ms = 500, .message_ms = 60000},
        .bounces = true,
        .bounce_quote_bytes_max = 10000,
        .postmaster_domain = BYTES("us.test"),
        .shard_count = shards,
    };
    for (unsigned i = 0; i < SMTP_CLIENT_PHASE_COUNT; i++) {
        rig.settings.timeouts.phase_ms[i] = 3000;
    }
}

/* By MX, or to a host by its name in DNS (`host` not NULL). */
static struct delivery_route *rig_route(const char *domain, const char *host)
{
    struct delivery_route *route = &rig.routes[rig.settings.route_count++];
    *route = (struct delivery_route){
        .domain = bytes_of_string(domain),
        .host = host != NULL ? bytes_of_string(host) : bytes_of("", 0),
        .by_mx = host == NULL,
        .port = ntohs(rig.port),
        .connections_max = 4,
        .messages_per_connection_max = 1000,
        .recipients_max = 100,
    };
    return route;
}

static void rig_run(void)
{
    struct shard_group_settings settings = {
        .shards = rig.shards,
        .ring = {.entries = 256, .receive_buffers = 256, .receive_buffer_bytes = 4096},
        .start = rig_start_shard,
        .stop = rig_end_shard,
    };
    char reason[256] = "";
    if (shard_group_start(&settings, &rig.group, reason, sizeof reason) != 0) {
        fail_msg("%s", reason);
    }
    rig.running = true;
}

static void delivery_has_stopped(void *context)
{
    (void)context;
    rig.stopped++;
}

static void stop_delivery(struct shard *shard, void *context)
{
    uint64_t *grace_ms = context;
    delivery_stop(shard->delivery, shard->now_ms + *grace_ms, delivery_has_stopped, NULL);
}

static void end_loop(struct shard *shard, void *context)
{
    (void)context;
    shard->stopping = true;
}

struct busy {
    unsigned attempts;
    unsigned journals;
    unsigned entries;
};

static void look_busy(struct shard *shard, void *context)
{
    struct busy *busy = context;
    busy->attempts += shard->delivery->attempts.used;
    busy->journals += shard->delivery->journals;
    busy->entries += shard->queue->entries.used;
}

static bool is_quiet(void *context)
{
    unsigned *rounds = context;
    struct busy busy = {0};
    for (unsigned i = 0; i < rig.shards; i++) {
        shard_call(rig.group, i, look_busy, &busy);
    }
    busy.entries *= !rig.may_leave;
    *rounds = busy.attempts + busy.journals + busy.entries == 0 ? *rounds + 1 : 0;
    return *rounds >= 4;
}

static bool all_stopped(void *context)
{
    (void)context;
    return rig.stopped == rig.shards;
}

static void rig_stop(uint64_t grace_ms)
{
    rig.stopped = 0;
    for (unsigned i = 0; i < rig.shards; i++) {
        assert_int_equal(shard_call(rig.group, i, stop_delivery, &grace_ms), 0);
    }
    assert_true(comes(all_stopped, NULL, RIG_PATIENCE_MS));
    unsigned rounds = 0;
    assert_true(comes(is_quiet, &rounds, RIG_PATIENCE_MS));
    for (unsigned i = 0; i < rig.shards; i++) {
        assert_int_equal(shard_call(rig.group, i, end_loop, NULL), 0);
    }
    shard_group_join(rig.group);
    rig.running = false;
}

/* After a failed assertion shards and hosts still run: no other test could be trusted. */
static int rig_teardown(void **state)
{
    (void)state;
    if (rig.running) {
        fflush(NULL);
        _exit(1);
    }
    return 0;
}

static int rig_unlink(const char *path, const struct stat *about, int type, struct FTW *ftw)
{
    (void)about;
    (void)type;
    (void)ftw;
    return remove(path);
}

static bool all_finished(void *context)
{
    (void)context;
    return rig.finished >= rig.recipients;
}

static void rig_settle(void)
{
    if (!comes(all_finished, NULL, RIG_PATIENCE_MS)) {
        for (unsigned i = 0; i < rig.recipients; i++) {
            if (rig.finals[i] == 0) {
                fail_msg("%u of %u have no fate; the first is n%u: deferred %u times, \"%s\"",
                         rig.recipients - rig.finished, rig.recipients, i, rig.deferrals[i], rig.first_text[i]);
            }
        }
    }
}

static void rig_check(void)
{
    for (unsigned i = 0; i < rig.recipients; i++) {
        if ((rig.finals[i] > 1 && !rig.may_repeat) || (rig.finals[i] == 0 && !rig.may_leave)) {
            fail_msg("n%u has %u fates: \"%s\"", i, rig.finals[i], rig.text[i]);
        }
        bool delivered = rig.finals[i] == 1 && rig.status[i] == SPOOL_FORMAT_DELIVERED;
        if ((delivered && rig.accepted[i] == 0) || (rig.accepted[i] > 1 && !rig.may_repeat)) {
            fail_msg("n%u was accepted %u times and is %sdelivered", i, rig.accepted[i], delivered ? "" : "not ");
        }
    }
}

/* Everything has its fate; then nothing may be left. */
static void rig_end(void)
{
    if (!rig.may_leave) {
        rig_settle();
        unsigned rounds = 0;
        comes(is_quiet, &rounds, RIG_PATIENCE_MS); /* notifications */
    }
    rig_stop(3000);
    for (unsigned i = 0; i < rig.host_count; i++) {
        host_delete(&rig.hosts[i]);
    }
    rig_check();
    nftw(rig.root, rig_unlink, 8, FTW_DEPTH | FTW_PHYS);
    pthread_mutex_destroy(&rig.names_lock);
    assert_int_equal(loopback_descriptors(), rig.descriptors);
}

static bool all_have_status(unsigned first, unsigned count, enum spool_format_status status)
{
    for (unsigned i = first; i < first + count; i++) {
        if (rig.status[i] != (int)status) {
            print_message("n%u has status %d: \"%s\"\n", i, rig.status[i], rig.text[i]);
            return false;
        }
    }
    return true;
}

/* --- what several tests begin with
 * ------------------------------------------------------------------------------------ */

static struct host *begin(unsigned shards, host_script *script)
{
    rig_init(shards);
    struct host *host = host_new(script);
    rig_names_host("host", host);
    rig_route("*", "host");
    return host;
}

static bool deferred_once(void *context)
{
    const unsigned *number = context;
    return rig.deferrals[*number] != 0 || rig.finals[*number] != 0;
}

static void wait_deferred(unsigned number)
{
    assert_true(comes(deferred_once, &number, RIG_PATIENCE_MS));
    assert_int_equal(rig.finals[number], 0);
}

/* --- scripts -------------------------------------------------------------------------------------------------------
 */

static const char *closes_at_mail(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    return at == AT_MAIL ? TALK_CLOSE : NULL;
}

static const char *closes_at_greeting(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    return at == AT_GREETING ? TALK_CLOSE : NULL;
}

static const char *mixed_recipients(struct talk *talk, enum talk_at at, const char *line)
{
    unsigned number = 0;
    if (at == AT_RCPT && sscanf(line, "RCPT TO:<n%u@", &number) == 1) {
        return number % 4 == 1 ? "550 5.1.1 nobody" : number % 4 == 2 && talk->number < 3 ? "450 4.2.1 later" : NULL;
    }
    return NULL;
}

static const char *slow_dot(struct talk *talk, enum talk_at at, const char *line)
{
    (void)talk;
    (void)line;
    if (at == AT_DOT) {
        usleep(30000);
    }
    return NULL;
}

static _Atomic enum talk_at stall_at[RIG_HOSTS];

static const char *stalls(struct talk *talk, enum talk_at at, const char *line)
{
    (void)line;
    return at == stall_at[talk->host - rig.hosts] ? TALK_STALL : NULL;
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_teardown)

#endif
