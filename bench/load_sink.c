/* load_sink: takes mail as fast as the kernel brings it, and counts. It stands where smtp-sink would: that one spends
 * more CPU on throwing a message away than the server under test spends on relaying it, and then measures itself.
 *
 *     load_sink [--listen ADDRESS:PORT] [--log FILE] [--delay MS] [--delay-all MS] [--defer N] [--refuse N] [--close N]
 *
 * With --log each message that was answered with 250 is a line `recipient bytes hash` per recipient, written before the
 * reply; hash is FNV-1a over the wire form from the header "X-Load:" on (all of it without that header), so that what
 * relays prepend does not count. --delay answers the final dot so much later, --delay-all every reply, in order and as
 * if the network were that long: what comes meanwhile is read. Of a thousand recipients --defer N get 450 and --refuse
 * N get 550; --close N says 421 after N messages of a connection. The command XSTAT answers `250 connections messages
 * recipients bytes deferred refused p50 p99 max`, the last three of the time from the making of the message
 * (load_source's X-Sent) to its final dot, in microseconds. XRESET says the
 * same and forgets those times. Ends on SIGTERM or SIGINT.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "latency.h"
#include "wire.h"

#define INPUT_BYTES 65536
#define REPLY_BYTES 16384
#define RECIPIENTS_BYTES 65536
#define EVENTS 256
#define FNV_OFFSET 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

struct session {
    struct wire wire;
    bool upgrade;    /* TLS begins when the replies are sent */
    bool data;       /* between 354 and the final dot */
    bool hashing;    /* the marker header was seen */
    uint64_t due_ms; /* when the reply to the final dot may go; 0: nothing waits */
    struct session *next_due;
    unsigned late;    /* replies that wait for --delay-all */
    bool ending;      /* closed when they are sent */
    unsigned taken;   /* messages */
    uint64_t made_us; /* X-Sent of the message */
    uint64_t bytes;
    uint64_t hash;
    size_t input_length;
    size_t reply_length;
    size_t recipients_length; /* of the transaction, separated by NUL */
    unsigned recipients;
    char input[INPUT_BYTES + 1];
    char reply[REPLY_BYTES];
    char recipient[RECIPIENTS_BYTES];
};

/* A reply on its way over the long network. */
struct late {
    struct late *next;
    struct session *session;
    uint64_t due_us;
    size_t length;
    char text[];
};

static struct {
    uint64_t connections, messages, recipients, bytes, deferred, refused;
    uint64_t delay_ms;
    uint64_t delay_all_us;
    uint64_t defer, refuse; /* of a thousand */
    unsigned close_after;
    uint64_t dice;
    struct late *late_first, *late_last;
    struct latency latency;
    FILE *log;
    int epoll;
    struct session *due_first, *due_last;
} sink;
static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void die(const char *what)
{
    fprintf(stderr, "load_sink: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void say(struct session *session, const char *text)
{
    size_t length = strlen(text);
    if (session->reply_length + length <= sizeof session->reply) {
        memcpy(session->reply + session->reply_length, text, length);
        session->reply_length += length;
    }
}

static bool send_late(struct session *session)
{
    if (session->reply_length == 0) {
        return true;
    }
    struct late *late = malloc(sizeof *late + session->reply_length);
    if (late == NULL) {
        die("malloc");
    }
    *late = (struct late){
        .session = session, .due_us = latency_now_us() + sink.delay_all_us, .length = session->reply_length};
    memcpy(late->text, session->reply, late->length);
    *(sink.late_first == NULL ? &sink.late_first : &sink.late_last->next) = late;
    sink.late_last = late;
    session->late++;
    session->reply_length = 0;
    return true;
}

static bool flush_replies(struct session *session)
{
    size_t sent = 0;
    if (sink.delay_all_us != 0) {
        return send_late(session);
    }
    while (sent < session->reply_length) {
        ssize_t n = wire_send(&session->wire, session->reply + sent, session->reply_length - sent);
        if (n < 0) {
            return false; /* replies are a few bytes: a peer that never reads them is not worth a write queue */
        }
        sent += (size_t)n;
    }
    session->reply_length = 0;
    return true;
}

static void forget_message(struct session *session)
{
    session->recipients = 0;
    session->recipients_length = 0;
    session->bytes = 0;
    session->hash = FNV_OFFSET;
    session->hashing = false;
    session->made_us = 0;
}

static void count_message(struct session *session)
{
    sink.messages++;
    sink.recipients += session->recipients;
    sink.bytes += session->bytes;
    session->taken++;
    if (session->made_us != 0) {
        latency_add(&sink.latency, latency_now_us() - session->made_us);
    }
    const char *name = session->recipient;
    for (unsigned i = 0; sink.log != NULL && i < session->recipients; i++, name += strlen(name) + 1) {
        fprintf(sink.log, "%s %" PRIu64 " %016" PRIx64 "\n", name, session->bytes, session->hash);
    }
    if (sink.log != NULL) {
        fflush(sink.log);
    }
    forget_message(session);
}

static void listen_to(struct session *session, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = session};
    epoll_ctl(sink.epoll, EPOLL_CTL_MOD, session->wire.fd, &event);
}

static void end_message(struct session *session)
{
    session->data = false;
    if (sink.delay_ms == 0) {
        count_message(session);
        say(session, "250 2.0.0 kept\r\n");
        return;
    }
    listen_to(session, 0);
    session->due_ms = now_ms() + sink.delay_ms;
    session->next_due = NULL;
    if (sink.due_first == NULL) {
        sink.due_first = session;
    } else {
        sink.due_last->next_due = session;
    }
    sink.due_last = session;
}

/* The same choice for the same sequence of recipients, whatever their order in time. */
static uint64_t roll(void)
{
    sink.dice = sink.dice * 6364136223846793005u + 1442695040888963407u;
    return (sink.dice >> 33) % 1000;
}

static void add_recipient(struct session *session, const char *line, size_t length)
{
    uint64_t dice = sink.defer + sink.refuse != 0 ? roll() : 1000;
    if (dice < sink.defer) {
        sink.deferred++;
        say(session, "450 4.2.1 later\r\n");
        return;
    }
    if (dice < sink.defer + sink.refuse) {
        sink.refused++;
        say(session, "550 5.1.1 nobody\r\n");
        return;
    }
    const char *open = memchr(line, '<', length);
    const char *close = memchr(line, '>', length);
    size_t bytes = open != NULL && close > open ? (size_t)(close - open) : 0;
    if (bytes < 2 || session->recipients_length + bytes > RECIPIENTS_BYTES) {
        say(session, "452 4.5.3 no\r\n");
        return;
    }
    memcpy(session->recipient + session->recipients_length, open + 1, bytes - 1);
    session->recipients_length += bytes;
    session->recipient[session->recipients_length - 1] = '\0';
    session->recipients++;
    say(session, "250 2.1.5 ok\r\n");
}

/* False: the session ends. */
static bool command(struct session *session, const char *line, size_t length)
{
    char text[256];
    switch (length == 0 ? 0 : line[0] & ~0x20) {
    case 'M':
        forget_message(session);
        if (sink.close_after != 0 && session->taken >= sink.close_after) {
            say(session, "421 4.7.0 enough for this connection\r\n");
            return false;
        }
        say(session, "250 2.1.0 ok\r\n");
        return true;
    case 'R':
        if ((line[1] & ~0x20) == 'S') {
            forget_message(session);
            say(session, "250 2.0.0 ok\r\n");
        } else {
            add_recipient(session, line, length);
        }
        return true;
    case 'D':
        session->data = session->recipients > 0;
        say(session, session->data ? "354 go on\r\n" : "503 5.5.1 no recipients\r\n");
        return true;
    case 'Q': say(session, "221 2.0.0 bye\r\n"); return false;
    case 'E':
        say(session, "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n");
        say(session, wire_upgrades(&session->wire) ? "250-STARTTLS\r\n250 SIZE 0\r\n" : "250 SIZE 0\r\n");
        return true;
    case 'S':
        session->upgrade = wire_upgrades(&session->wire);
        say(session, session->upgrade ? "220 2.0.0 go on\r\n" : "502 5.5.1 no\r\n");
        return true;
    case 'X':
        if (length > 1 && (line[1] & ~0x20) == 'R') {
            sink.latency = (struct latency){0};
        }
        snprintf(text, sizeof text,
                 "250 %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                 " %" PRIu64 "\r\n",
                 sink.connections, sink.messages, sink.recipients, sink.bytes, sink.deferred, sink.refused,
                 latency_at(&sink.latency, 500), latency_at(&sink.latency, 990), sink.latency.worst);
        say(session, text);
        return true;
    default: say(session, "250 2.0.0 ok\r\n"); return true;
    }
}

static void hash_body(struct session *session, const char *data, size_t length)
{
    if (session->bytes == 0) { /* the header is in the first piece */
        const char *sent = memmem(data, length, "X-Sent: ", 8);
        session->made_us = sent != NULL ? strtoull(sent + 8, NULL, 10) : 0;
    }
    session->bytes += length;
    if (sink.log == NULL) {
        return;
    }
    if (!session->hashing) { /* the marker stands in the header, in the first piece */
        const char *marker = memmem(data, length, "X-Load:", 7);
        if (marker != NULL) {
            length -= (size_t)(marker - data);
            data = marker;
            session->bytes = length;
        }
        session->hashing = true;
    }
    uint64_t hash = session->hash;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (unsigned char)data[i]) * FNV_PRIME;
    }
    session->hash = hash;
}

/* Takes what is complete of the body; returns how many bytes that was. */
static size_t take_body(struct session *session, const char *data, size_t length)
{
    if (session->bytes == 0 && length >= 3 && memcmp(data, ".\r\n", 3) == 0) {
        hash_body(session, data, 3);
        end_message(session);
        return 3;
    }
    const char *end = memmem(data, length, "\r\n.\r\n", 5);
    if (end != NULL) {
        size_t taken = (size_t)(end - data) + 5;
        hash_body(session, data, taken);
        end_message(session);
        return taken;
    }
    /* The marker must be in the first piece: wait for a whole header unless the buffer is full. */
    size_t keep = session->bytes == 0 && length < INPUT_BYTES ? length : 4;
    if (length <= keep) {
        return 0;
    }
    hash_body(session, data, length - keep);
    return length - keep;
}

static bool take_input(struct session *session)
{
    size_t at = 0;
    bool open = true;
    while (open && session->due_ms == 0 && at < session->input_length) {
        const char *data = session->input + at;
        size_t length = session->input_length - at;
        if (session->data) {
            size_t taken = take_body(session, data, length);
            at += taken;
            if (taken == 0) {
                break;
            }
            continue;
        }
        const char *end = memmem(data, length, "\r\n", 2);
        if (end == NULL) {
            open = length < INPUT_BYTES;
            break;
        }
        open = command(session, data, (size_t)(end - data));
        at += (size_t)(end - data) + 2;
    }
    memmove(session->input, session->input + at, session->input_length - at);
    session->input_length -= at;
    open &= flush_replies(session);
    if (session->upgrade && open) {
        session->upgrade = false;
        wire_secure(&session->wire);
    }
    return open;
}

static void close_session(struct session *session)
{
    if (session->due_ms != 0) {
        return; /* its turn in the list of due replies will find out */
    }
    if (session->late != 0) {
        session->ending = true;
        listen_to(session, 0);
        return;
    }
    wire_close(&session->wire);
    free(session);
}

/* True when there may be more at once. */
static bool serve(struct session *session)
{
    size_t room = INPUT_BYTES - session->input_length;
    if (session->due_ms != 0 || session->ending || room == 0) {
        return false;
    }
    ssize_t n = wire_receive(&session->wire, session->input + session->input_length, room);
    if (n < 0 && errno == EAGAIN) {
        return false;
    }
    session->input_length += n > 0 ? (size_t)n : 0;
    if (n <= 0 || !take_input(session)) {
        close_session(session);
        return false;
    }
    return wire_more(&session->wire);
}

static void serve_late(void)
{
    while (sink.late_first != NULL && sink.late_first->due_us <= latency_now_us()) {
        struct late *late = sink.late_first;
        struct session *session = late->session;
        sink.late_first = late->next;
        (void)!wire_send(&session->wire, late->text, late->length);
        free(late);
        session->late--;
        if (session->ending && session->late == 0) {
            close_session(session);
        }
    }
}

static void serve_due(void)
{
    uint64_t now = now_ms();
    while (sink.due_first != NULL && sink.due_first->due_ms <= now) {
        struct session *session = sink.due_first;
        sink.due_first = session->next_due;
        session->due_ms = 0;
        listen_to(session, EPOLLIN);
        count_message(session);
        say(session, "250 2.0.0 kept\r\n");
        if (!take_input(session)) {
            close_session(session);
        }
    }
}

static void accept_sessions(int listener)
{
    int fd = -1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct session *session = malloc(sizeof *session); /* not cleared: pages come as they are needed */
        if (session == NULL) {
            die("malloc");
        }
        memset(session, 0, offsetof(struct session, input));
        wire_open(&session->wire, fd);
        forget_message(session);
        sink.connections++;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};
        if (epoll_ctl(sink.epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
            die("epoll_ctl");
        }
        say(session, "220 sink ESMTP\r\n");
        flush_replies(session);
    }
}

static int listen_on(const char *endpoint)
{
    char address[64];
    const char *colon = strrchr(endpoint, ':');
    if (colon == NULL || (size_t)(colon - endpoint) >= sizeof address) {
        errno = EINVAL;
        die(endpoint);
    }
    memcpy(address, endpoint, (size_t)(colon - endpoint));
    address[colon - endpoint] = '\0';
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (inet_pton(AF_INET, address, &name.sin_addr) != 1 || bind(fd, (struct sockaddr *)&name, sizeof name) != 0 ||
        listen(fd, 4096) != 0) {
        die(endpoint);
    }
    return fd;
}

static int options(int argc, char **argv)
{
    static const struct option names[] = {
        {"listen", required_argument, NULL, 'l'}, {"log", required_argument, NULL, 'f'},
        {"delay", required_argument, NULL, 'd'},  {"delay-all", required_argument, NULL, 'a'},
        {"defer", required_argument, NULL, 'D'},  {"refuse", required_argument, NULL, 'R'},
        {"close", required_argument, NULL, 'c'},  WIRE_OPTIONS{NULL, 0, NULL, 0},
    };
    const char *endpoint = "127.0.0.1:2526";
    int letter = 0;
    while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (letter) {
        case 'l': endpoint = optarg; break;
        case 'd': sink.delay_ms = strtoul(optarg, NULL, 10); break;
        case 'a': sink.delay_all_us = strtoul(optarg, NULL, 10) * 1000; break;
        case 'D': sink.defer = strtoul(optarg, NULL, 10); break;
        case 'R': sink.refuse = strtoul(optarg, NULL, 10); break;
        case 'c': sink.close_after = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'f':
            sink.log = fopen(optarg, "ae");
            if (sink.log == NULL) {
                die(optarg);
            }
            break;
        default:
            if (!wire_option(letter, optarg)) {
                exit(64);
            }
        }
    }
    wire_begin(true);
    return listen_on(endpoint);
}

int main(int argc, char **argv)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    int listener = options(argc, argv);
    sink.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(sink.epoll, EPOLL_CTL_ADD, listener, &event);
    while (!stopped) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(sink.epoll, events, EVENTS, sink.due_first != NULL || sink.late_first != NULL ? 1 : -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                accept_sessions(listener);
            } else {
                while (serve(events[i].data.ptr)) {
                }
            }
        }
        serve_due();
        serve_late();
    }
    printf("%" PRIu64 " connections, %" PRIu64 " messages, %" PRIu64 " recipients, %" PRIu64 " bytes\n",
           sink.connections, sink.messages, sink.recipients, sink.bytes);
    return 0;
}
