/* sessions: holds many connections open, or drips mail through them one byte at a time.
 *
 *     sessions --to ADDRESS:PORT --count N [--sources N]                 idle after EHLO
 *     sessions --to ADDRESS:PORT --count N --trickle MS [--sources N]    one byte per session every MS milliseconds
 *
 * --sources spreads the connections over 127.0.1.1, 127.0.1.2, ... so that limits per address are not met. Idle: prints
 * `open N` when every session has its reply to EHLO, and stays until standard input ends. Trickling: each session says
 * one whole transaction, pipelined as far as it goes without waiting, to <slowN@slow.test>; the program ends when every
 * message was accepted, and prints `accepted failed`. Exit status 0 when nothing failed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

#define EVENTS 256
#define SCRIPT_BYTES 256
#define INPUT_BYTES 512

struct session {
    struct wire wire;
    unsigned replies; /* complete ones, the greeting included */
    unsigned number;
    bool open;
    bool accepted;
    bool greeted; /* we said EHLO */
    size_t sent;
    size_t script_length;
    size_t input_length;
    char script[SCRIPT_BYTES];
    char input[INPUT_BYTES];
};

static struct {
    struct sockaddr_in to;
    unsigned count, sources, trickle_ms;
    unsigned open, greeted, accepted, failed;
    struct session *sessions;
    int epoll;
} all = {.count = 1000, .sources = 1};

static void die(const char *what)
{
    fprintf(stderr, "sessions: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void end_session(struct session *session)
{
    if (session->open) {
        wire_close(&session->wire);
        session->open = false;
        all.open--;
        all.failed += !session->accepted;
    }
}

static void on_reply(struct session *session, const char *line)
{
    session->replies++;
    all.greeted += session->replies == 2;
    if (line[0] > '3') {
        if (all.failed == 0) {
            fprintf(stderr, "sessions: refused: %.80s\n", line);
        }
        end_session(session);
    } else if (session->replies == 6) { /* greeting, EHLO, MAIL, RCPT, DATA, dot */
        session->accepted = true;
        all.accepted++;
        end_session(session);
    }
}

static void greet(struct session *session)
{
    static const char hello[] = "EHLO sessions.test\r\n";
    if (all.trickle_ms == 0 && !session->greeted) {
        ssize_t n = wire_send(&session->wire, hello, sizeof hello - 1);
        session->greeted = n > 0;
        if (n < 0 && errno != EAGAIN) {
            die("send");
        }
    }
}

/* True when there may be more at once. */
static bool receive(struct session *session)
{
    greet(session);
    ssize_t n = wire_receive(&session->wire, session->input + session->input_length,
                             INPUT_BYTES - session->input_length);
    if (n < 0 && errno == EAGAIN) {
        return false;
    }
    if (n <= 0) {
        end_session(session);
        return false;
    }
    session->input_length += (size_t)n;
    char *end = NULL;
    while (session->open && (end = memmem(session->input, session->input_length, "\r\n", 2)) != NULL) {
        *end = '\0';
        if (end - session->input < 4 || session->input[3] != '-') {
            on_reply(session, session->input);
        }
        session->input_length -= (size_t)(end + 2 - session->input);
        memmove(session->input, end + 2, session->input_length);
    }
    return session->open && wire_more(&session->wire);
}

static void receive_all(int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(all.epoll, events, EVENTS, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct session *session = events[i].data.ptr;
        while (session->open && receive(session)) {
        }
    }
}

static void open_session(unsigned number)
{
    struct session *session = &all.sessions[number];
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000101 + number % all.sources)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof from) != 0 ||
        connect(fd, (struct sockaddr *)&all.to, sizeof all.to) != 0) {
        die("connect");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    wire_open(&session->wire, fd);
    session->number = number;
    session->open = true;
    all.open++;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};
    epoll_ctl(all.epoll, EPOLL_CTL_ADD, fd, &event);
    if (all.trickle_ms != 0) {
        session->script_length = (size_t)snprintf(
            session->script, SCRIPT_BYTES,
            "EHLO sessions.test\r\nMAIL FROM:<slow@load.test>\r\nRCPT TO:<slow%u@slow.test>\r\nDATA\r\n"
            "Subject: slow\r\n\r\nslow %u\r\n.\r\n",
            number, number);
    } else {
        greet(session);
    }
}

/* What may be said now: EHLO's reply and DATA's are waited for, as they end a group. */
static size_t allowed(const struct session *session)
{
    const char *body = strstr(session->script, "DATA\r\n");
    const char *mail = strstr(session->script, "MAIL");
    return session->replies < 2   ? (size_t)(mail - session->script)
           : session->replies < 5 ? (size_t)(body - session->script) + 6
                                  : session->script_length;
}

static void drip(struct session *session)
{
    if (session->open && session->replies > 0 && session->sent < allowed(session)) {
        if (wire_send(&session->wire, session->script + session->sent, 1) == 1) {
            session->sent++;
        } else if (errno != EAGAIN) {
            end_session(session);
        }
    }
}

static int trickle(void)
{
    while (all.open > 0) {
        uint64_t turn_end = now_ms() + all.trickle_ms;
        for (unsigned i = 0; i < all.count; i++) {
            drip(&all.sessions[i]);
        }
        for (uint64_t now = now_ms(); now < turn_end && all.open > 0; now = now_ms()) {
            receive_all((int)(turn_end - now));
        }
    }
    printf("%u %u\n", all.accepted, all.failed);
    return all.failed == 0 ? 0 : 1;
}

static int idle(void)
{
    while (all.greeted < all.count && all.failed == 0) {
        receive_all(-1);
    }
    if (all.failed > 0) {
        return 1;
    }
    printf("open %u\n", all.open);
    fflush(stdout);
    char byte = 0;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    return 0;
}

static void set_target(char *endpoint)
{
    char *colon = strrchr(endpoint, ':');
    all.to.sin_family = AF_INET;
    if (colon != NULL) {
        *colon = '\0';
        all.to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    }
    if (colon == NULL || inet_pton(AF_INET, endpoint, &all.to.sin_addr) != 1) {
        errno = EINVAL;
        die(endpoint);
    }
}

static void options(int argc, char **argv)
{
    static const struct option names[] = {
        {"to", required_argument, NULL, 't'},
        {"count", required_argument, NULL, 'c'},
        {"sources", required_argument, NULL, 's'},
        {"trickle", required_argument, NULL, 'd'},
        WIRE_OPTIONS{NULL, 0, NULL, 0},
    };
    int letter = 0;
    while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (letter) {
        case 't': set_target(optarg); break;
        case 'c': all.count = (unsigned)strtoul(optarg, NULL, 10); break;
        case 's': all.sources = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'd': all.trickle_ms = (unsigned)strtoul(optarg, NULL, 10); break;
        default:
            if (!wire_option(letter, optarg)) {
                exit(64);
            }
        }
    }
    if (all.to.sin_port == 0 || all.count == 0 || all.sources == 0) {
        fprintf(stderr, "sessions: --to ADDRESS:PORT is missing, or a count is 0\n");
        exit(64);
    }
}

int main(int argc, char **argv)
{
    options(argc, argv);
    wire_begin(false);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    all.epoll = epoll_create1(EPOLL_CLOEXEC);
    all.sessions = calloc(all.count, sizeof *all.sessions);
    if (all.sessions == NULL) {
        die("calloc");
    }
    for (unsigned i = 0; i < all.count; i++) {
        open_session(i);
        receive_all(0);
    }
    return all.trickle_ms != 0 ? trickle() : idle();
}
