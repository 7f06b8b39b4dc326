/* load_source: sends many messages over many sessions and knows of each what became of it. Unlike smtp-source it
 * pipelines where that is announced (a body and the next transaction's commands go in one write), gives every recipient
 * a name of its own, and goes on when the server dies.
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
 * handing over of the final dot to its 250, in microseconds. Exit status 0 when every message was accepted, 1
 * otherwise.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "latency.h"
#include "wire.h"

#define INPUT_BYTES 4096u
#define LINE_BYTES 78u /* with CRLF */
#define POOL_LINES 4096u
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
    bool plain;           /* one command at a time */
    bool upgrade;         /* TLS begins when what was said in clear is consumed */
    bool next_commands;   /* behind the body stand the commands of the next message */
    uint64_t message;     /* being sent; NONE: none */
    uint64_t hash, bytes; /* of its body */
    uint64_t body_end;    /* of all octets said on this connection, where its body ends; 0: the body is not there yet */
    uint64_t dot_us;      /* when the final dot was handed to the kernel; 0: not yet */
    uint64_t next_message;
    uint64_t taken; /* messages, on this connection */
    struct session *next_parked;
    size_t input_length;
    char input[INPUT_BYTES]; /* a reply that is not complete */
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
    size_t prefix_length;
    struct sockaddr_in to;
    FILE *log;
    char *pool; /* lines for bodies */
    size_t pool_lines;
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

/* --- text --------------------------------------------------------------------------------------------------------- */

struct text {
    char data[512];
    size_t length;
};

static void put(struct text *text, const char *data, size_t length)
{
    if (length > sizeof text->data - text->length) {
        errno = EMSGSIZE;
        die("--prefix");
    }
    memcpy(text->data + text->length, data, length);
    text->length += length;
}

#define PUT(text, literal) put(text, literal, sizeof(literal) - 1)

static void put_number(struct text *text, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    put(text, digits + at, sizeof digits - at);
}

static void say(struct session *session, const struct text *text)
{
    wire_say(&session->wire, text->data, text->length);
}

static void say_line(struct session *session, const char *line)
{
    wire_say(&session->wire, line, strlen(line));
}

static void put_recipient(struct text *text, uint64_t message, uint64_t recipient)
{
    PUT(text, "RCPT TO:<");
    put(text, load.prefix, load.prefix_length);
    put_number(text, message);
    PUT(text, ".");
    put_number(text, recipient);
    PUT(text, "@d");
    put_number(text, message % load.domains);
    PUT(text, ".test>\r\n");
}

static void say_recipient(struct session *session, uint64_t message, uint64_t recipient)
{
    struct text text = {.length = 0};
    put_recipient(&text, message, recipient);
    say(session, &text);
}

static void say_commands(struct session *session, uint64_t message)
{
    say_line(session, "MAIL FROM:<sender@load.test>\r\n");
    for (uint64_t i = 0; i < load.recipients && !session->plain; i++) {
        say_recipient(session, message, i);
    }
    if (!session->plain) {
        say_line(session, "DATA\r\n");
    }
}

/* --- bodies ------------------------------------------------------------------------------------------------------- */

/* Lines of letters; one in eight begins with a dot, and has the second one that it needs on the wire. */
static void make_pool(void)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -";
    uint64_t state = 1;
    load.pool_lines = POOL_LINES + load.length / LINE_BYTES + 1;
    load.pool = malloc(load.pool_lines * LINE_BYTES);
    if (load.pool == NULL) {
        die("malloc");
    }
    for (size_t line = 0; line < load.pool_lines; line++) {
        char *at = load.pool + line * LINE_BYTES;
        for (unsigned i = 0; i < LINE_BYTES - 2; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            at[i] = letters[state >> 58];
        }
        if (line % 8 == 7) {
            memcpy(at, "..", 2);
        }
        memcpy(at + LINE_BYTES - 2, "\r\n", 2);
    }
}

static void hash_body(struct session *session, const char *data, size_t length)
{
    session->bytes += length;
    for (size_t i = 0; load.log != NULL && i < length; i++) {
        session->hash = (session->hash ^ (unsigned char)data[i]) * FNV_PRIME;
    }
}

static void say_hashed(struct session *session, const char *data, size_t length)
{
    hash_body(session, data, length);
    wire_say(&session->wire, data, length);
}

/* A header of its own, and lines of the pool from another place for every message. load_sink hashes from X-Load on. */
static void say_body(struct session *session)
{
    struct text header = {.length = 0};
    PUT(&header, "X-Sent: ");
    put_number(&header, latency_now_us());
    PUT(&header, "\r\n");
    say(session, &header);
    size_t said = header.length;
    header.length = 0;
    PUT(&header, "X-Load: ");
    put(&header, load.prefix, load.prefix_length);
    put_number(&header, session->message);
    PUT(&header, "\r\nSubject: load\r\nFrom: <sender@load.test>\r\n\r\n");
    said += header.length;
    session->bytes = 0;
    session->hash = FNV_OFFSET;
    say_hashed(session, header.data, header.length);
    const char *lines = load.pool + session->message * 37 % POOL_LINES * LINE_BYTES;
    size_t left = load.length > said ? load.length - said : 0;
    size_t rest = left % LINE_BYTES;
    say_hashed(session, lines, left - rest);
    if (rest > 2) {
        say_hashed(session, load.pool + LINE_BYTES - rest, rest); /* the end of a line */
    }
    say_hashed(session, ".\r\n", 3);
    wire_flush(&session->wire);
    session->body_end = session->wire.link.said;
    session->dot_us = 0;
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

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
    session->body_end = 0;
    session->step = message == NONE ? QUIT : MAIL;
}

static void open_session(void);

static bool dot_was_sent(const struct session *session)
{
    return session->body_end != 0 && session->wire.link.sent >= session->body_end;
}

/* Nothing is in flight any more: what was handed to the kernel is known. */
static void release_session(struct link *link)
{
    struct session *session = (struct session *)link;
    bool again = load.per_session != 0 && session->step == QUIT && load.next < load.messages;
    if (session->message != NONE) {
        bool unknown = session->step == DOT && dot_was_sent(session);
        unknown ? load.unknown++ : load.unfinished++;
        note(unknown ? 'U' : 'N', session, session->message);
    }
    if (session->next_commands && session->next_message != NONE) {
        load.unfinished++;
        note('N', session, session->next_message);
    }
    wire_free(&session->wire);
    free(session);
    load.open--;
    if (again) {
        open_session();
    }
}

static void hang_up(struct session *session)
{
    for (struct session **parked = &load.parked; *parked != NULL; parked = &(*parked)->next_parked) {
        if (*parked == session) {
            *parked = session->next_parked;
            break;
        }
    }
    wire_close(&session->wire);
}

static void send_body(struct session *session)
{
    say_body(session);
    session->step = DOT;
    session->next_commands = !session->plain;
    if (session->next_commands) {
        session->next_message = take_message(session);
        session->next_commands = session->next_message != NOT_YET;
        if (session->next_message == NOT_YET) { /* transaction_done asks again */
            session->next_message = NONE;
        } else if (session->next_message != NONE) {
            say_commands(session, session->next_message);
        } else {
            say_line(session, "QUIT\r\n");
        }
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

/* Begins the next message when the rate allows one, or ends. */
static void go_on(struct session *session)
{
    uint64_t message = take_message(session);
    if (message == NOT_YET) {
        session->message = NONE;
        session->next_parked = load.parked;
        load.parked = session;
        return;
    }
    begin(session, message);
    if (message == NONE) {
        say_line(session, "QUIT\r\n");
    } else {
        say_commands(session, message);
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
        say_line(session, ".\r\n");
        session->step = DOT;
    } else { /* a server that refuses DATA keeps the transaction */
        settle(session, false);
        say_line(session, "RSET\r\n");
        session->step = RESET;
    }
}

static bool after_mail(struct session *session, bool good)
{
    session->refused = !good;
    session->step = RCPT;
    if (session->plain && !good) {
        transaction_done(session, false);
    } else if (session->plain) {
        say_recipient(session, session->message, 0);
    }
    return true;
}

static void after_recipient(struct session *session, bool good)
{
    session->refused |= !good;
    session->recipient++;
    if (session->recipient == load.recipients) {
        session->step = DATA;
        if (session->plain) {
            say_line(session, "DATA\r\n");
        }
    } else if (session->plain) {
        say_recipient(session, session->message, session->recipient);
    }
}

static bool after_hello(struct session *session, bool good)
{
    if (good && wire_upgrades(&session->wire)) {
        say_line(session, "STARTTLS\r\n");
        session->step = UPGRADE;
    } else if (good) {
        go_on(session);
    }
    return good;
}

static bool greet(struct session *session, bool good)
{
    session->plain = true; /* until EHLO's reply says otherwise */
    say_line(session, "EHLO source.test\r\n");
    session->step = HELLO;
    return good;
}

/* False: the session ends. */
static bool on_reply(struct session *session, int code)
{
    bool good = code / 100 == 2;
    if (session->message == NONE && session->step > UPGRADE && session->step != RESET) {
        return false; /* the reply to QUIT, or a 421 while nothing is under way */
    }
    switch (session->step) {
    case GREETING: return greet(session, good);
    case HELLO: return after_hello(session, good);
    case UPGRADE: session->upgrade = good; return good;
    case RESET: go_on(session); return good;
    case MAIL: after_mail(session, good); break;
    case RCPT: after_recipient(session, good); break;
    case DATA: after_data(session, code); break;
    case DOT: transaction_done(session, good && !session->refused); break;
    case QUIT: return false;
    }
    return code != 421;
}

/* --- sessions ----------------------------------------------------------------------------------------------------- */

/* Takes the whole lines; returns their length, or SIZE_MAX when the session ends. */
static size_t take_lines(struct session *session, const char *data, size_t length)
{
    size_t at = 0;
    const char *end;
    while ((end = memchr(data + at, '\n', length - at)) != NULL) {
        const char *line = data + at;
        at = (size_t)(end - data) + 1;
        if (session->step == HELLO && end - line >= 14 && memcmp(line + 4, "PIPELINING", 10) == 0) {
            session->plain = load.plain;
        }
        if ((end - line < 4 || line[3] != '-') && !on_reply(session, (int)strtol(line, NULL, 10))) {
            return SIZE_MAX;
        }
    }
    return at;
}

/* False: the session ends. */
static bool take_piece(struct session *session, const char *data, size_t length)
{
    size_t done = 0;
    if (session->input_length == 0) {
        done = take_lines(session, data, length);
    }
    if (done == SIZE_MAX || length - done > INPUT_BYTES - session->input_length) {
        return false;
    }
    memcpy(session->input + session->input_length, data + done, length - done);
    session->input_length += length - done;
    if (done == 0) {
        done = take_lines(session, session->input, session->input_length);
        if (done == SIZE_MAX) {
            return false;
        }
        memmove(session->input, session->input + done, session->input_length - done);
        session->input_length -= done;
    }
    return true;
}

static void serve(struct session *session)
{
    size_t length;
    const char *data;
    if (session->dot_us == 0 && dot_was_sent(session)) {
        session->dot_us = session->wire.link.sent_us;
    }
    while ((data = wire_input(&session->wire, &length)) != NULL) {
        bool open = take_piece(session, data, length);
        wire_consume(&session->wire, length);
        if (!open) {
            hang_up(session);
            return;
        }
        if (session->upgrade) {
            session->upgrade = false;
            wire_secure(&session->wire);
            greet(session, true);
        }
    }
    wire_flush(&session->wire);
    if (wire_ended(&session->wire)) {
        hang_up(session);
    }
}

static void open_session(void)
{
    struct session *session = calloc(1, sizeof *session);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (session == NULL || connect(fd, (struct sockaddr *)&load.to, sizeof load.to) != 0) {
        die("connect");
    }
    session->message = NONE;
    wire_open(&session->wire, fd);
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
        wire_flush(&session->wire);
    }
}

static void run(void)
{
    while (load.open > 0) {
        struct link *link;
        unpark();
        link_wait(load.parked != NULL ? 1000 : LINK_FOREVER);
        while ((link = link_next_ready()) != NULL) {
            serve((struct session *)link);
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

static void open_log(const char *path)
{
    load.log = fopen(path, "we");
    if (load.log == NULL) {
        die(path);
    }
    setvbuf(load.log, NULL, _IOLBF, 0); /* a test may look while it grows */
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
        case 'f': open_log(optarg); break;
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
    links.released = release_session;
    load.prefix_length = strlen(load.prefix);
    make_pool();
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
