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
#include <getopt.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

#define SCRIPT_BYTES 256
#define INPUT_BYTES 512

struct session {
    struct wire wire;
    unsigned replies; /* complete ones, the greeting included */
    unsigned number;
    bool open;
    bool accepted;
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

/* False: there is nothing more. */
static bool receive(struct session *session)
{
    size_t length;
    const char *data = wire_input(&session->wire, &length);
    if (data == NULL) {
        return false;
    }
    size_t room = INPUT_BYTES - session->input_length;
    length = length < room ? length : room;
    memcpy(session->input + session->input_length, data, length);
    wire_consume(&session->wire, length);
    session->input_length += length;
    char *end = NULL;
    while (session->open && (end = memmem(session->input, session->input_length, "\r\n", 2)) != NULL) {
        *end = '\0';
        if (end - session->input < 4 || session->input[3] != '-') {
            on_reply(session, session->input);
        }
        session->input_length -= (size_t)(end + 2 - session->input);
        memmove(session->input, end + 2, session->input_length);
    }
    if (length == 0) {
        die("a reply line that is too long");
    }
    return session->open;
}

static void receive_all(uint64_t timeout_us)
{
    struct link *link;
    link_wait(timeout_us);
    while ((link = link_next_ready()) != NULL) {
        struct session *session = (struct session *)link;
        while (session->open && receive(session)) {
        }
        if (wire_ended(&session->wire)) {
            end_session(session);
        }
    }
}

static void released(struct link *link)
{
    wire_free(&((struct session *)link)->wire);
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
    wire_open(&session->wire, fd);
    session->number = number;
    session->open = true;
    all.open++;
    if (all.trickle_ms != 0) {
        session->script_length = (size_t)snprintf(
            session->script, SCRIPT_BYTES,
            "EHLO sessions.test\r\nMAIL FROM:<slow@load.test>\r\nRCPT TO:<slow%u@slow.test>\r\nDATA\r\n"
            "Subject: slow\r\n\r\nslow %u\r\n.\r\n",
            number, number);
    } else {
        static const char hello[] = "EHLO sessions.test\r\n";
        wire_say(&session->wire, hello, sizeof hello - 1);
        wire_flush(&session->wire);
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
        wire_say(&session->wire, session->script + session->sent, 1);
        wire_flush(&session->wire);
        session->sent++;
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
            receive_all((turn_end - now) * 1000);
        }
    }
    printf("%u %u\n", all.accepted, all.failed);
    return all.failed == 0 ? 0 : 1;
}

static int idle(void)
{
    while (all.greeted < all.count && all.failed == 0) {
        receive_all(LINK_FOREVER);
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
    links.released = released;
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
