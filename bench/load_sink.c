/* load_sink: takes mail as fast as the kernel brings it, and counts. It stands where smtp-sink would: that one spends
 * more CPU on throwing a message away than the server under test spends on relaying it, and then measures itself.
 *
 *     load_sink [--listen ADDRESS:PORT] [--log FILE] [--capture FILE] [--banner MS] [--delay MS] [--delay-all MS]
 *               [--defer N] [--refuse N] [--greylist MS] [--close N]
 *
 * With --log each message that was answered with 250 is a line `recipient bytes hash` per recipient, written before the
 * reply; hash is FNV-1a over the wire form from the header "X-Load:" on (all of it without that header), so that what
 * relays prepend does not count. --capture keeps every octet: `recipients... bytes` on a line, then the message in wire
 * form with its final dot.
 *
 * What a provider may do: --banner greets so much later. --delay answers the final dot so much later, --delay-all every
 * reply, in order and as if the network were that long: what comes meanwhile is read. Of a thousand recipients --defer
 * N get 450 and --refuse N get 550. --greylist refuses each recipient with 451 until so much time has passed since it
 * was first named. --close N says 421 after N messages of a connection. --banner and --delay-all exclude each other.
 *
 * The command XSTAT answers `250 connections messages recipients bytes deferred refused p50 p99 max`, the last three of
 * the time from the making of the message (load_source's X-Sent) to its final dot, in microseconds. XRESET says the
 * same and forgets those times. Ends on SIGTERM or SIGINT.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "latency.h"
#include "wire.h"

#define CARRY_BYTES 65536u
#define REPLY_BYTES 16384u
#define RECIPIENTS_BYTES 65536u
#define TAIL_BYTES 4u
#define GREYLIST_ENTRIES (1u << 20)
#define GREYLIST_PLACES 8 /* one behind the other; with more for one of them the first is forgotten */
#define FNV_OFFSET 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

struct session {
    struct wire wire;
    bool upgrade;    /* TLS begins when the replies are sent */
    bool data;       /* between 354 and the final dot */
    bool header;     /* ... and its header has not come yet */
    bool ending;     /* says no more; closed when nothing of it waits */
    uint64_t due_us; /* when the reply to the final dot may go; 0: nothing waits */
    struct session *next_due;
    unsigned late;    /* replies that wait for their time */
    unsigned taken;   /* messages */
    uint64_t made_us; /* X-Sent of the message */
    uint64_t bytes;
    uint64_t hash;
    size_t carry_length; /* what came and is not complete */
    size_t reply_length;
    size_t recipients_length; /* of the transaction, separated by NUL */
    unsigned recipients;
    unsigned tail_length; /* the last octets of the body so far */
    char tail[TAIL_BYTES];
    struct link_output captured;
    char reply[REPLY_BYTES];
    char carry[CARRY_BYTES];
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

struct grey {
    uint64_t hash;
    uint64_t first_us;
};

static struct {
    uint64_t connections, messages, recipients, bytes, deferred, refused;
    uint64_t banner_us, delay_us, delay_all_us, greylist_us;
    uint64_t defer, refuse; /* of a thousand */
    unsigned close_after;
    uint64_t dice;
    struct grey *greylist; /* by hash */
    struct late *late_first, *late_last;
    struct latency latency;
    FILE *log, *capture;
    struct session *due_first, *due_last;
} sink;
static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "load_sink: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- replies --- */

static void say(struct session *session, const char *text)
{
    size_t length = strlen(text);
    if (session->reply_length + length <= sizeof session->reply) {
        memcpy(session->reply + session->reply_length, text, length);
        session->reply_length += length;
    }
}

static void say_late(struct session *session, uint64_t delay_us)
{
    struct late *late = malloc(sizeof *late + session->reply_length);
    if (late == NULL) {
        die("malloc");
    }
    *late = (struct late){.session = session, .due_us = latency_now_us() + delay_us, .length = session->reply_length};
    memcpy(late->text, session->reply, late->length);
    *(sink.late_first == NULL ? &sink.late_first : &sink.late_last->next) = late;
    sink.late_last = late;
    session->late++;
}

static void flush_replies(struct session *session)
{
    if (session->reply_length == 0) {
        return;
    }
    if (sink.delay_all_us != 0) {
        say_late(session, sink.delay_all_us);
    } else {
        wire_say(&session->wire, session->reply, session->reply_length);
        wire_flush(&session->wire);
    }
    session->reply_length = 0;
}

/* --- messages --- */

static void forget_message(struct session *session)
{
    session->recipients = 0;
    session->recipients_length = 0;
    session->bytes = 0;
    session->hash = FNV_OFFSET;
    session->made_us = 0;
    session->captured.length = 0;
}

static void write_capture(struct session *session)
{
    const char *name = session->recipient;
    for (unsigned i = 0; i < session->recipients; i++, name += strlen(name) + 1) {
        fprintf(sink.capture, "%s ", name);
    }
    fprintf(sink.capture, "%zu\n", session->captured.length);
    fwrite(session->captured.data, 1, session->captured.length, sink.capture);
    fflush(sink.capture);
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
    if (sink.log != NULL) {
        const char *name = session->recipient;
        for (unsigned i = 0; i < session->recipients; i++, name += strlen(name) + 1) {
            fprintf(sink.log, "%s %" PRIu64 " %016" PRIx64 "\n", name, session->bytes, session->hash);
        }
        fflush(sink.log);
    }
    if (sink.capture != NULL) {
        write_capture(session);
    }
    forget_message(session);
}

static void end_message(struct session *session)
{
    session->data = false;
    if (sink.delay_us == 0) {
        count_message(session);
        say(session, "250 2.0.0 kept\r\n");
        return;
    }
    session->due_us = latency_now_us() + sink.delay_us;
    session->next_due = NULL;
    *(sink.due_first == NULL ? &sink.due_first : &sink.due_last->next_due) = session;
    sink.due_last = session;
}

/* --- commands --- */

/* The same choice for the same sequence of recipients, whatever their order in time. */
static uint64_t roll(void)
{
    sink.dice = sink.dice * 6364136223846793005u + 1442695040888963407u;
    return (sink.dice >> 33) % 1000;
}

/* The one with this hash, or a place for it. */
static struct grey *find_grey(uint64_t hash)
{
    uint64_t first = (hash ^ hash >> 32) % GREYLIST_ENTRIES;
    for (unsigned i = 0; i < GREYLIST_PLACES; i++) {
        struct grey *grey = &sink.greylist[(first + i) % GREYLIST_ENTRIES];
        if (grey->hash == hash || grey->first_us == 0) {
            return grey;
        }
    }
    return &sink.greylist[first];
}

static bool greylisted(const char *name, size_t length)
{
    if (sink.greylist_us == 0) {
        return false;
    }
    uint64_t hash = FNV_OFFSET;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (unsigned char)name[i]) * FNV_PRIME;
    }
    struct grey *grey = find_grey(hash);
    uint64_t now = latency_now_us();
    if (grey->hash != hash) {
        *grey = (struct grey){.hash = hash, .first_us = now};
    }
    return now - grey->first_us < sink.greylist_us;
}

static void add_recipient(struct session *session, const char *line, size_t length)
{
    uint64_t dice = sink.defer + sink.refuse != 0 ? roll() : 1000;
    const char *open = memchr(line, '<', length);
    const char *close = memchr(line, '>', length);
    size_t bytes = open != NULL && close > open ? (size_t)(close - open) : 0;
    if (dice < sink.defer) {
        sink.deferred++;
        say(session, "450 4.2.1 later\r\n");
    } else if (dice < sink.defer + sink.refuse) {
        sink.refused++;
        say(session, "550 5.1.1 nobody\r\n");
    } else if (bytes < 2 || session->recipients_length + bytes > RECIPIENTS_BYTES) {
        say(session, "452 4.5.3 no\r\n");
    } else if (greylisted(open + 1, bytes - 1)) {
        sink.deferred++;
        say(session, "451 4.7.1 greylisted, come back later\r\n");
    } else {
        memcpy(session->recipient + session->recipients_length, open + 1, bytes - 1);
        session->recipients_length += bytes;
        session->recipient[session->recipients_length - 1] = '\0';
        session->recipients++;
        say(session, "250 2.1.5 ok\r\n");
    }
}

static void say_counts(struct session *session)
{
    char text[256];
    snprintf(text, sizeof text,
             "250 %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
             " %" PRIu64 "\r\n",
             sink.connections, sink.messages, sink.recipients, sink.bytes, sink.deferred, sink.refused,
             latency_at(&sink.latency, 500), latency_at(&sink.latency, 990), sink.latency.worst);
    say(session, text);
}

static void on_mail(struct session *session)
{
    forget_message(session);
    session->ending = sink.close_after != 0 && session->taken >= sink.close_after;
    say(session, session->ending ? "421 4.7.0 enough for this connection\r\n" : "250 2.1.0 ok\r\n");
}

static void on_data(struct session *session)
{
    session->data = session->header = session->recipients > 0;
    memcpy(session->tail, "\r\n", 2);
    session->tail_length = 2;
    say(session, session->data ? "354 go on\r\n" : "503 5.5.1 no recipients\r\n");
}

static void command(struct session *session, const char *line, size_t length)
{
    char second = (char)(length > 1 ? line[1] & ~0x20 : 0);
    switch (length == 0 ? 0 : line[0] & ~0x20) {
    case 'M': on_mail(session); break;
    case 'R':
        if (second == 'S') {
            forget_message(session);
            say(session, "250 2.0.0 ok\r\n");
        } else {
            add_recipient(session, line, length);
        }
        break;
    case 'D': on_data(session); break;
    case 'Q':
        say(session, "221 2.0.0 bye\r\n");
        session->ending = true;
        break;
    case 'E':
        say(session, "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n");
        say(session, wire_upgrades(&session->wire) ? "250-STARTTLS\r\n250 SIZE 0\r\n" : "250 SIZE 0\r\n");
        break;
    case 'S':
        session->upgrade = wire_upgrades(&session->wire);
        say(session, session->upgrade ? "220 2.0.0 go on\r\n" : "502 5.5.1 no\r\n");
        break;
    case 'X':
        say_counts(session);
        if (second == 'R') {
            sink.latency = (struct latency){0};
        }
        break;
    default: say(session, "250 2.0.0 ok\r\n");
    }
}

/* --- bodies --- */

static void keep(struct session *session, const char *data, size_t length)
{
    struct link_output *captured = &session->captured;
    if (captured->room - captured->length < length) {
        captured->room = 2 * (captured->length + length);
        captured->data = realloc(captured->data, captured->room);
        if (captured->data == NULL) {
            die("realloc");
        }
    }
    memcpy(captured->data + captured->length, data, length);
    captured->length += length;
}

/* A piece of the message, in order; the first one holds the whole header. */
static void add_body(struct session *session, const char *data, size_t length, bool first)
{
    if (sink.capture != NULL) {
        keep(session, data, length);
    }
    if (first) {
        const char *sent = memmem(data, length, "X-Sent: ", 8);
        session->made_us = sent != NULL ? strtoull(sent + 8, NULL, 10) : 0;
        const char *marker = sink.log != NULL ? memmem(data, length, "X-Load:", 7) : NULL;
        if (marker != NULL) {
            length -= (size_t)(marker - data);
            data = marker;
        }
    }
    session->bytes += length;
    uint64_t hash = session->hash;
    for (size_t i = 0; sink.log != NULL && i < length; i++) {
        hash = (hash ^ (unsigned char)data[i]) * FNV_PRIME;
    }
    session->hash = hash;
}

/* Length up to and with the end of data, CRLF.CRLF; 0: it is not there. */
static size_t find_end(const char *data, size_t length)
{
    const char *end = data + length;
    const char *dot = data;
    while (dot < end && (dot = memchr(dot, '.', (size_t)(end - dot))) != NULL) {
        if (end - dot >= 3 && dot - data >= 2 && memcmp(dot - 2, "\r\n.\r\n", 5) == 0) {
            return (size_t)(dot - data) + 3;
        }
        dot++;
    }
    return 0;
}

/* The same across two pieces: begins in the tail of what came before. */
static size_t find_end_at_seam(const struct session *session, const char *data, size_t length)
{
    char seam[2 * TAIL_BYTES];
    size_t more = length < TAIL_BYTES ? length : TAIL_BYTES;
    memcpy(seam, session->tail, session->tail_length);
    memcpy(seam + session->tail_length, data, more);
    size_t found = find_end(seam, session->tail_length + more);
    return found > session->tail_length ? found - session->tail_length : 0;
}

static void remember_tail(struct session *session, const char *data, size_t length)
{
    char last[2 * TAIL_BYTES];
    size_t more = length < TAIL_BYTES ? length : TAIL_BYTES;
    memcpy(last, session->tail, session->tail_length);
    memcpy(last + session->tail_length, data + length - more, more);
    size_t all = session->tail_length + more;
    session->tail_length = (unsigned)(all < TAIL_BYTES ? all : TAIL_BYTES);
    memcpy(session->tail, last + all - session->tail_length, session->tail_length);
}

/* Takes what there is of the body; returns how many octets that was. */
static size_t take_body(struct session *session, const char *data, size_t length)
{
    bool first = session->header;
    size_t end = find_end_at_seam(session, data, length);
    end = end != 0 ? end : find_end(data, length);
    if (first && end == 0 && length < CARRY_BYTES && memmem(data, length, "\r\n\r\n", 4) == NULL) {
        return 0; /* until the header is whole */
    }
    size_t taken = end != 0 ? end : length;
    session->header = false;
    remember_tail(session, data, taken);
    add_body(session, data, taken, first);
    if (end != 0) {
        end_message(session);
    }
    return taken;
}

/* --- sessions --- */

/* Returns how much of it is done with; what is left is not complete. */
static size_t take(struct session *session, const char *data, size_t length)
{
    size_t at = 0;
    while (!session->ending && !session->upgrade && session->due_us == 0 && at < length) {
        if (session->data) {
            size_t taken = take_body(session, data + at, length - at);
            if (taken == 0) {
                break;
            }
            at += taken;
            continue;
        }
        const char *end = memmem(data + at, length - at, "\r\n", 2);
        if (end == NULL) {
            break;
        }
        command(session, data + at, (size_t)(end - data) - at);
        at = (size_t)(end - data) + 2;
    }
    return at;
}

static void take_carry(struct session *session)
{
    size_t done = take(session, session->carry, session->carry_length);
    memmove(session->carry, session->carry + done, session->carry_length - done);
    session->carry_length -= done;
}

/* One piece of input. False: there is none, or it has to wait. */
static bool take_piece(struct session *session)
{
    size_t length = 0;
    const char *data = session->due_us == 0 && !session->ending ? wire_input(&session->wire, &length) : NULL;
    if (data == NULL) {
        return false;
    }
    size_t done = session->carry_length == 0 ? take(session, data, length) : 0;
    size_t room = CARRY_BYTES - session->carry_length;
    size_t kept = length - done < room ? length - done : room;
    memcpy(session->carry + session->carry_length, data + done, kept);
    session->carry_length += kept;
    wire_consume(&session->wire, done + kept);
    if (done == 0) {
        take_carry(session);
        session->ending |= kept == 0 || (session->carry_length == CARRY_BYTES && session->due_us == 0);
    }
    return true;
}

static void close_if_done(struct session *session)
{
    if (session->due_us == 0 && session->late == 0 && (session->ending || wire_ended(&session->wire))) {
        wire_close(&session->wire);
    }
}

static void serve(struct session *session)
{
    do {
        flush_replies(session);
        if (session->upgrade) {
            session->upgrade = false;
            wire_secure(&session->wire);
        }
    } while (take_piece(session));
    flush_replies(session);
    close_if_done(session);
}

static void serve_late(void)
{
    while (sink.late_first != NULL && sink.late_first->due_us <= latency_now_us()) {
        struct late *late = sink.late_first;
        struct session *session = late->session;
        sink.late_first = late->next;
        wire_say(&session->wire, late->text, late->length);
        wire_flush(&session->wire);
        free(late);
        session->late--;
        close_if_done(session);
    }
}

static void serve_due(void)
{
    while (sink.due_first != NULL && sink.due_first->due_us <= latency_now_us()) {
        struct session *session = sink.due_first;
        sink.due_first = session->next_due;
        session->due_us = 0;
        count_message(session);
        say(session, "250 2.0.0 kept\r\n");
        take_carry(session);
        serve(session);
    }
}

static void accept_session(int fd)
{
    struct session *session = malloc(sizeof *session); /* not cleared: pages come as they are needed */
    if (session == NULL) {
        die("malloc");
    }
    memset(session, 0, offsetof(struct session, reply));
    wire_open(&session->wire, fd);
    forget_message(session);
    sink.connections++;
    say(session, "220 sink ESMTP\r\n");
    if (sink.banner_us != 0) {
        say_late(session, sink.banner_us);
        session->reply_length = 0;
    } else {
        flush_replies(session);
    }
}

static void release_session(struct link *link)
{
    struct session *session = (struct session *)link;
    wire_free(&session->wire);
    free(session->captured.data);
    free(session);
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
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (inet_pton(AF_INET, address, &name.sin_addr) != 1 || bind(fd, (struct sockaddr *)&name, sizeof name) != 0 ||
        listen(fd, 4096) != 0) {
        die(endpoint);
    }
    return fd;
}

static FILE *append_to(const char *path)
{
    FILE *file = fopen(path, "ae");
    if (file == NULL) {
        die(path);
    }
    return file;
}

static uint64_t milliseconds(const char *text)
{
    return strtoull(text, NULL, 10) * 1000;
}

static int options(int argc, char **argv)
{
    static const struct option names[] = {
        {"listen", required_argument, NULL, 'l'},
        {"log", required_argument, NULL, 'f'},
        {"capture", required_argument, NULL, 'k'},
        {"banner", required_argument, NULL, 'b'},
        {"delay", required_argument, NULL, 'd'},
        {"delay-all", required_argument, NULL, 'a'},
        {"defer", required_argument, NULL, 'D'},
        {"refuse", required_argument, NULL, 'R'},
        {"close", required_argument, NULL, 'c'},
        {"greylist", required_argument, NULL, 'g'},
        WIRE_OPTIONS{NULL, 0, NULL, 0},
    };
    const char *endpoint = "127.0.0.1:2526";
    int letter = 0;
    while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (letter) {
        case 'l': endpoint = optarg; break;
        case 'b': sink.banner_us = milliseconds(optarg); break;
        case 'd': sink.delay_us = milliseconds(optarg); break;
        case 'a': sink.delay_all_us = milliseconds(optarg); break;
        case 'g': sink.greylist_us = milliseconds(optarg); break;
        case 'D': sink.defer = strtoul(optarg, NULL, 10); break;
        case 'R': sink.refuse = strtoul(optarg, NULL, 10); break;
        case 'c': sink.close_after = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'f': sink.log = append_to(optarg); break;
        case 'k': sink.capture = append_to(optarg); break;
        default:
            if (!wire_option(letter, optarg)) {
                exit(64);
            }
        }
    }
    if (sink.banner_us != 0 && sink.delay_all_us != 0) {
        fprintf(stderr, "load_sink: --banner and --delay-all exclude each other\n");
        exit(64);
    }
    if (sink.greylist_us != 0 && (sink.greylist = calloc(GREYLIST_ENTRIES, sizeof *sink.greylist)) == NULL) {
        die("calloc");
    }
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
    wire_begin(true);
    links.accepted = accept_session;
    links.released = release_session;
    link_listen(listener);
    while (!stopped) {
        struct link *link;
        link_wait(sink.due_first != NULL || sink.late_first != NULL ? 1000 : LINK_FOREVER);
        while ((link = link_next_ready()) != NULL) {
            serve((struct session *)link);
        }
        serve_due();
        serve_late();
    }
    shutdown(listener, SHUT_RDWR); /* the ring may hold it for a while yet, and the next one wants the port */
    printf("%" PRIu64 " connections, %" PRIu64 " messages, %" PRIu64 " recipients, %" PRIu64 " bytes\n",
           sink.connections, sink.messages, sink.recipients, sink.bytes);
    return 0;
}
