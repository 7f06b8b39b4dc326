/* load_source: sends many messages over many sessions and knows of each what became of it. Unlike smtp-source it can
 * pipeline (a body and the next transaction's commands go in one write), gives every recipient a name of its own, and
 * goes on when the server dies.
 *
 *     load_source --to ADDRESS:PORT [--sessions N] [--messages N] [--length BYTES] [--recipients N] [--domains N]
 *                 [--prefix TEXT] [--plain] [--per-session N] [--rate N] [--log FILE]
 *
 * Message n goes to <PREFIXn.r@dK.test> for r in [0, recipients), K = n modulo domains. --plain waits for every reply,
 * as smtp-source does. --per-session closes a connection after so many messages and opens another one. --rate begins so
 * many messages per second over all sessions, however long their replies take. A session that loses its connection is
 * not opened again. The header X-Sent says when a body was made, in microseconds of the monotonic clock, for load_sink.
 *
 * --log has one line per message once its fate is known (hash and bytes as load_sink's log has them):
 *     A n bytes hash    250 came: from now on it must not be lost
 *     R n               refused with 4yz or 5yz
 *     U n               its final dot was handed to the kernel, and the connection ended before the reply
 *     N n               the connection ended before the final dot
 * The last line of the output is `accepted refused unknown unfinished seconds p50 p99 max`, the last three from the
 * final dot to its 250, in microseconds. Exit status 0 when every message was accepted, 1 otherwise.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "latency.h"
#include "wire.h"

#define EVENTS 256
#define INPUT_BYTES 16384
#define FNV_OFFSET 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u
#define NONE UINT64_MAX          /* no message is left for this session */
#define NOT_YET (UINT64_MAX - 1) /* the rate does not allow one now */

/* What the next reply answers. In a pipelined session whole groups are on their way. */
enum step { GREETING, HELLO, UPGRADE, MAIL, RCPT, DATA, DOT, RESET, QUIT };

struct session {
    struct wire wire;
    enum step step;
    unsigned recipient;   /* of the transaction, whose reply comes next */
    bool refused;         /* an envelope command of this transaction was */
    uint64_t message;     /* being sent; NONE: none */
    uint64_t hash, bytes; /* of its body */
    size_t output_length, output_sent;
    size_t body_end;    /* where in the output its body ends; 0: the body is not there yet */
    bool waiting;       /* for room to write */
    bool next_commands; /* behind the body stand the commands of the next message */
    uint64_t next_message;
    uint64_t taken;  /* messages, on this connection */
    uint64_t dot_us; /* when the final dot was handed to the kernel */
    struct session *next_parked;
    size_t input_length;
    char *output;
    char input[INPUT_BYTES];
};

static struct {
    uint64_t messages, next, length, recipients, domains;
    uint64_t accepted, refused, unknown, unfinished;
    uint64_t per_session, rate, start_us;
    struct session *parked; /* for NOT_YET to end */
    struct latency latency;
    unsigned sessions, open;
    bool plain;
    const char *prefix;
    struct sockaddr_in to;
    FILE *log;
    int epoll;
    size_t output_bytes;
} load = {.messages = 1000, .length = 4096, .recipients = 1, .domains = 1, .sessions = 10, .prefix = "m"};

static void die(const char *what)
{
    fprintf(stderr, "load_source: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void note(char letter, const struct session *session, uint64_t message)
{
    if (load.log == NULL) {
        return;
    }
    if (letter == 'A') {
        fprintf(load.log, "A %" PRIu64 " %" PRIu64 " %016" PRIx64 "\n", message, session->bytes, session->hash);
    } else {
        fprintf(load.log, "%c %" PRIu64 "\n", letter, message);
    }
}

__attribute__((format(printf, 2, 3))) static void put(struct session *session, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(session->output + session->output_length, load.output_bytes - session->output_length, format,
                      arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= load.output_bytes - session->output_length) {
        errno = EMSGSIZE;
        die("output");
    }
    session->output_length += (size_t)n;
}

static void put_recipient(struct session *session, uint64_t message, uint64_t recipient)
{
    put(session, "RCPT TO:<%s%" PRIu64 ".%" PRIu64 "@d%" PRIu64 ".test>\r\n", load.prefix, message, recipient,
        message % load.domains);
}

static void put_commands(struct session *session, uint64_t message)
{
    put(session, "MAIL FROM:<sender@load.test>\r\n");
    for (uint64_t i = 0; i < load.recipients && !load.plain; i++) {
        put_recipient(session, message, i);
    }
    if (!load.plain) {
        put(session, "DATA\r\n");
    }
}

/* Lines that differ from message to message, and one in eight that begins with a dot. */
static void put_body(struct session *session)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -";
    size_t start = session->output_length;
    put(session, "X-Sent: %" PRIu64 "\r\nX-Load: %s%" PRIu64 "\r\nSubject: load\r\nFrom: <sender@load.test>\r\n\r\n",
        latency_now_us(), load.prefix, session->message);
    uint64_t state = session->message * 0x9e3779b97f4a7c15u + 1;
    for (unsigned line = 0; session->output_length - start < load.length; line++) {
        size_t left = load.length - (session->output_length - start);
        size_t length = left < 78 ? left : 76;
        if (line % 8 == 7) {
            put(session, "..");
        }
        for (size_t i = 0; i < length; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            session->output[session->output_length++] = letters[state >> 58];
        }
        put(session, "\r\n");
    }
    put(session, ".\r\n");
    session->body_end = session->output_length;
    session->bytes = session->output_length - start;
    session->hash = FNV_OFFSET;
    const char *marker = memmem(session->output + start, session->bytes, "X-Load:", 7);
    session->bytes -= (size_t)(marker - session->output) - start; /* load_sink counts from there */
    start = (size_t)(marker - session->output);
    for (size_t i = start; i < session->output_length && load.log != NULL; i++) {
        session->hash = (session->hash ^ (unsigned char)session->output[i]) * FNV_PRIME;
    }
}

static uint64_t take_message(struct session *session)
{
    if (load.next == load.messages || (load.per_session != 0 && session->taken == load.per_session)) {
        return NONE;
    }
    if (load.rate != 0 && load.next >= (latency_now_us() - load.start_us) * load.rate / 1000000) {
        return NOT_YET;
    }
    session->taken++;
    return load.next++;
}

/* Begins a transaction, or QUIT. */
static void begin(struct session *session, uint64_t message)
{
    session->message = message;
    session->refused = false;
    session->recipient = 0;
    session->step = message == NONE ? QUIT : MAIL;
}

static void open_session(void);

static void hang_up(struct session *session)
{
    bool again = load.per_session != 0 && session->step == QUIT && load.next < load.messages;
    if (session->message != NONE) {
        bool dot_sent = session->step == DOT && session->body_end > 0 && session->output_sent >= session->body_end;
        dot_sent ? load.unknown++ : load.unfinished++;
        note(dot_sent ? 'U' : 'N', session, session->message);
    }
    if (session->next_commands && session->next_message != NONE) {
        load.unfinished++;
        note('N', session, session->next_message);
    }
    for (struct session **parked = &load.parked; *parked != NULL; parked = &(*parked)->next_parked) {
        if (*parked == session) {
            *parked = session->next_parked;
            break;
        }
    }
    wire_close(&session->wire);
    free(session->output);
    free(session);
    load.open--;
    if (again) {
        open_session();
    }
}

static bool flush_output(struct session *session)
{
    while (session->output_sent < session->output_length) {
        ssize_t n = wire_send(&session->wire, session->output + session->output_sent,
                              session->output_length - session->output_sent);
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n < 0) {
            return false;
        }
        session->output_sent += (size_t)n;
        if (session->body_end != 0 && session->dot_us == 0 && session->output_sent >= session->body_end) {
            session->dot_us = latency_now_us();
        }
    }
    bool waiting = session->output_sent < session->output_length && !wire_wants_input(&session->wire);
    if (waiting != session->waiting) {
        struct epoll_event event = {.events = EPOLLIN | (waiting ? EPOLLOUT : 0), .data.ptr = session};
        epoll_ctl(load.epoll, EPOLL_CTL_MOD, session->wire.fd, &event);
        session->waiting = waiting;
    }
    return true;
}

static void restart_output(struct session *session)
{
    session->output_length = session->output_sent = session->body_end = 0;
    session->dot_us = 0;
}

static void send_body(struct session *session)
{
    restart_output(session);
    put_body(session);
    session->step = DOT;
    session->next_commands = !load.plain;
    if (session->next_commands) {
        session->next_message = take_message(session);
        session->next_commands = session->next_message != NOT_YET;
        if (session->next_message == NOT_YET) { /* transaction_done asks again */
            session->next_message = NONE;
        } else if (session->next_message != NONE) {
            put_commands(session, session->next_message);
        } else {
            put(session, "QUIT\r\n");
        }
    }
}

/* Writes what begins the transaction that begin() has set up, or QUIT. */
static void say_begin(struct session *session)
{
    restart_output(session);
    if (session->message == NONE) {
        put(session, "QUIT\r\n");
    } else {
        put_commands(session, session->message);
    }
}

static void settle(struct session *session, bool accepted)
{
    accepted ? load.accepted++ : load.refused++;
    if (accepted && session->dot_us != 0) {
        latency_add(&load.latency, latency_now_us() - session->dot_us);
    }
    note(accepted ? 'A' : 'R', session, session->message);
    session->message = NONE;
}

/* Begins the next message, when the rate allows one. */
static void go_on(struct session *session)
{
    uint64_t message = take_message(session);
    if (message == NOT_YET) {
        session->message = NONE;
        session->next_parked = load.parked;
        load.parked = session;
    } else {
        begin(session, message);
        say_begin(session);
    }
}

static void transaction_done(struct session *session, bool accepted)
{
    settle(session, accepted);
    if (session->next_commands) {
        session->next_commands = false;
        begin(session, session->next_message);
    } else {
        go_on(session);
    }
}

static void after_data(struct session *session, int code)
{
    if (code == 354 && !session->refused) {
        send_body(session);
    } else if (code == 354) { /* no recipient is left, or fewer than meant: an empty message ends it */
        restart_output(session);
        put(session, ".\r\n");
        session->step = DOT;
    } else { /* a server that refuses DATA keeps the transaction */
        settle(session, false);
        restart_output(session);
        put(session, "RSET\r\n");
        session->step = RESET;
    }
}

/* False: the session ends. */
static bool on_reply(struct session *session, int code)
{
    bool good = code / 100 == 2;
    if (session->message == NONE && session->step > UPGRADE && session->step != RESET) {
        return false; /* the reply to QUIT, or a 421 while nothing is under way */
    }
    switch (session->step) {
    case GREETING:
        put(session, "EHLO source.test\r\n");
        session->step = HELLO;
        return good;
    case HELLO:
        if (good && wire_upgrades(&session->wire)) {
            put(session, "STARTTLS\r\n");
            session->step = UPGRADE;
            return true;
        }
        go_on(session);
        return good;
    case UPGRADE:
        wire_secure(&session->wire);
        put(session, "EHLO source.test\r\n");
        session->step = HELLO;
        return good;
    case RESET: go_on(session); return good;
    case MAIL:
        session->refused = !good;
        session->step = RCPT;
        if (load.plain && !good) {
            transaction_done(session, false);
        } else if (load.plain) {
            put_recipient(session, session->message, 0);
        }
        return code != 421;
    case RCPT:
        session->refused |= !good;
        session->recipient++;
        if (session->recipient < load.recipients) {
            if (load.plain) {
                put_recipient(session, session->message, session->recipient);
            }
        } else {
            session->step = DATA;
            if (load.plain) {
                put(session, "DATA\r\n");
            }
        }
        return code != 421;
    case DATA: after_data(session, code); return code != 421;
    case DOT: transaction_done(session, good && !session->refused); return code != 421;
    case QUIT: return false;
    }
    return false;
}

static bool take_replies(struct session *session)
{
    size_t at = 0;
    for (;;) {
        const char *line = session->input + at;
        const char *end = memmem(line, session->input_length - at, "\r\n", 2);
        if (end == NULL) {
            break;
        }
        at += (size_t)(end - line) + 2;
        if (end - line >= 4 && line[3] == '-') {
            continue;
        }
        if (!on_reply(session, (int)strtol(line, NULL, 10))) {
            return false;
        }
    }
    memmove(session->input, session->input + at, session->input_length - at);
    session->input_length -= at;
    return session->input_length < INPUT_BYTES;
}

static bool serve_input(struct session *session)
{
    do {
        ssize_t n = wire_receive(&session->wire, session->input + session->input_length,
                                 INPUT_BYTES - session->input_length);
        if (n < 0 && errno == EAGAIN) {
            return true;
        }
        if (n <= 0) {
            return false;
        }
        session->input_length += (size_t)n;
        if (!take_replies(session)) {
            return false;
        }
    } while (wire_more(&session->wire));
    return true;
}

static void open_session(void)
{
    struct session *session = calloc(1, sizeof *session);
    session->output = malloc(load.output_bytes);
    session->message = NONE;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&load.to, sizeof load.to) != 0) {
        die("connect");
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    wire_open(&session->wire, fd);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};
    epoll_ctl(load.epoll, EPOLL_CTL_ADD, fd, &event);
    load.open++;
}

static void unpark(void)
{
    struct session *parked = load.parked;
    load.parked = NULL;
    while (parked != NULL) {
        struct session *session = parked;
        parked = session->next_parked;
        go_on(session);
        if (!flush_output(session)) {
            hang_up(session);
        }
    }
}

static void run(void)
{
    while (load.open > 0) {
        struct epoll_event events[EVENTS];
        unpark();
        int count = epoll_wait(load.epoll, events, EVENTS, load.parked != NULL ? 1 : -1);
        for (int i = 0; i < count; i++) {
            struct session *session = events[i].data.ptr;
            bool readable = (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
            if ((readable && !serve_input(session)) || !flush_output(session)) {
                hang_up(session);
            }
        }
    }
}

static void set_target(char *endpoint)
{
    char *colon = strrchr(endpoint, ':');
    load.to.sin_family = AF_INET;
    if (colon != NULL) {
        *colon = '\0';
        load.to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    }
    if (colon == NULL || inet_pton(AF_INET, endpoint, &load.to.sin_addr) != 1) {
        errno = EINVAL;
        die(endpoint);
    }
}

static void options(int argc, char **argv)
{
    static const struct option names[] = {
        {"to", required_argument, NULL, 't'},
        {"sessions", required_argument, NULL, 's'},
        {"messages", required_argument, NULL, 'm'},
        {"length", required_argument, NULL, 'l'},
        {"recipients", required_argument, NULL, 'r'},
        {"domains", required_argument, NULL, 'd'},
        {"prefix", required_argument, NULL, 'p'},
        {"log", required_argument, NULL, 'f'},
        {"plain", no_argument, NULL, '1'},
        {"per-session", required_argument, NULL, 'n'},
        {"rate", required_argument, NULL, 'R'},
        WIRE_OPTIONS{NULL, 0, NULL, 0},
    };
    int letter = 0;
    while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (letter) {
        case 't': set_target(optarg); break;
        case 's': load.sessions = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'm': load.messages = strtoull(optarg, NULL, 10); break;
        case 'l': load.length = strtoull(optarg, NULL, 10); break;
        case 'r': load.recipients = strtoull(optarg, NULL, 10); break;
        case 'd': load.domains = strtoull(optarg, NULL, 10); break;
        case 'p': load.prefix = optarg; break;
        case '1': load.plain = true; break;
        case 'n': load.per_session = strtoull(optarg, NULL, 10); break;
        case 'R': load.rate = strtoull(optarg, NULL, 10); break;
        case 'f':
            load.log = fopen(optarg, "we");
            if (load.log == NULL) {
                die(optarg);
            }
            setvbuf(load.log, NULL, _IOLBF, 0); /* a test may look while it grows */
            break;
        default:
            if (!wire_option(letter, optarg)) {
                exit(64);
            }
        }
    }
    if (load.to.sin_port == 0 || load.recipients == 0 || load.domains == 0) {
        fprintf(stderr, "load_source: --to ADDRESS:PORT is missing, or a count is 0\n");
        exit(64);
    }
}

int main(int argc, char **argv)
{
    options(argc, argv);
    wire_begin(false);
    load.output_bytes = load.length + load.length / 4 + 4096 + 2 * load.recipients * (strlen(load.prefix) + 64);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.start_us = latency_now_us();
    for (unsigned i = 0; i < load.sessions; i++) {
        open_session();
    }
    run();
    double seconds = (double)(latency_now_us() - load.start_us) / 1e6;
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %.3f %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", load.accepted,
           load.refused, load.unknown, load.unfinished, seconds, latency_at(&load.latency, 500),
           latency_at(&load.latency, 990), load.latency.worst);
    return load.accepted == load.messages ? 0 : 1;
}
