#include "sim/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sim/names.h"
#include "sim/net.h"
#include "sim/oracle.h"
#include "sim/real.h"
#include "sim/world.h"

#define LINE_BYTES 1024
#define DEAD_HOST 10
#define SENDERS_HOSTS 2 /* hosts 1 and 2 never refuse for good */

struct session {
    struct party peer;
    unsigned host;
    unsigned number; /* for the trace */
    char line[LINE_BYTES];
    size_t line_length;
    bool in_data;
    bool over;
    bool extended;     /* it offers PIPELINING */
    uint64_t ready_ns; /* when the last reply will have been sent */
    char sender[ORACLE_ADDRESS_BYTES];
    bool has_sender;
    char recipients[ORACLE_RECIPIENTS_MAX * 4][ORACLE_ADDRESS_BYTES];
    unsigned recipient_count;
    char *content; /* unstuffed */
    size_t content_length;
    size_t content_capacity;
};

/* Something that a session says, or does, later. */
struct saying {
    struct session *session;
    char text[320];
    bool closes;
    bool resets;
    bool takes; /* the message, as it was at the dot */
    char sender[ORACLE_ADDRESS_BYTES];
    char (*recipients)[ORACLE_ADDRESS_BYTES];
    unsigned recipient_count;
    char *content;
    size_t content_length;
};

/* A 250 to a message that the server may not have read. */
struct promise {
    struct promise *next;
    const struct party *peer;
    uint64_t end;
    char (*recipients)[ORACLE_ADDRESS_BYTES];
    unsigned recipient_count;
};

static struct promise *promises;

void remote_settle(void)
{
    struct promise **link = &promises;
    while (*link != NULL) {
        struct promise *promise = *link;
        if (net_taken(promise->peer) >= promise->end) {
            *link = promise->next;
        } else if (net_over(promise->peer)) {
            oracle_reply_lost(promise->recipients, promise->recipient_count);
            *link = promise->next;
        } else {
            link = &promise->next;
        }
    }
}

/* --- replies --- */

static void take(struct saying *saying)
{
    struct session *session = saying->session;
    remote_settle();
    world_trace("remote %u.%u: takes %u recipients, first %s", session->host, session->number, saying->recipient_count,
                saying->recipients[0]);
    oracle_taken(saying->sender, saying->recipients, saying->recipient_count, saying->content, saying->content_length);
    world_mix_bytes(saying->content, saying->content_length);
}

static void promise(const struct saying *saying, uint64_t end)
{
    struct promise *made = world_new(sizeof *made);
    *made = (struct promise){promises, &saying->session->peer, end, saying->recipients, saying->recipient_count};
    promises = made;
}

static void say_now(void *context, uint64_t argument)
{
    struct saying *saying = context;
    struct session *session = saying->session;
    (void)argument;
    if (session->peer.socket == NULL || session->over) {
        return;
    }
    if (saying->takes) {
        take(saying);
    }
    if (saying->text[0] != '\0') {
        world_trace("remote %u.%u: %.60s", session->host, session->number, saying->text);
        net_send(&session->peer, saying->text, strlen(saying->text));
    }
    if (saying->takes) {
        promise(saying, saying->text[0] != '\0' && strstr(saying->text, "\r\n") != NULL ? net_sent(&session->peer)
                                                                                        : UINT64_MAX);
    }
    if (saying->resets) {
        session->over = true;
        net_reset(&session->peer);
    } else if (saying->closes) {
        session->over = true;
        net_close(&session->peer);
    }
}

static struct saying *say(struct session *session, const char *text)
{
    struct saying *saying = world_new(sizeof *saying);
    saying->session = session;
    snprintf(saying->text, sizeof saying->text, "%s", text);
    uint64_t delay_ns = world_fault(80) ? world_below(900 * WORLD_S) : world_latency_ns(2 * WORLD_MS);
    uint64_t at_ns = world.now_ns + delay_ns;
    session->ready_ns = at_ns > session->ready_ns ? at_ns : session->ready_ns + 1;
    world_after(session->ready_ns - world.now_ns, say_now, saying, 0);
    return saying;
}

/* Breaks off in one of many ways; true when it did. */
static bool fails(struct session *session)
{
    if (world_fault(60)) {
        say(session, "")->resets = true;
    } else if (world_fault(40)) {
        say(session, world_chance(5000) ? "" : "25")->closes = true;
    } else if (world_fault(60)) {
        say(session, "421 4.3.2 shutting down\r\n")->closes = true;
    } else if (world_fault(40)) {
        say(session, "\x01\xff what?\r\n");
    } else {
        return false;
    }
    return true;
}

static bool may_refuse(const struct session *session)
{
    return session->host > SENDERS_HOSTS;
}

/* --- commands --- */

static void on_hello(struct session *session, bool extended)
{
    if (world_fault(100)) {
        say(session, "450 4.3.0 not now\r\n");
    } else if (extended && world_fault(50)) {
        say(session, "502 5.5.1 what is that\r\n");
    } else if (extended && session->extended) {
        say(session,
            "250-mx.hosts.sim\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n");
    } else {
        say(session, extended ? "250-mx.hosts.sim\r\n250 8BITMIME\r\n" : "250 mx.hosts.sim\r\n");
    }
}

static bool parse_path(const char *line, char ret_address[ORACLE_ADDRESS_BYTES])
{
    const char *begin = strchr(line, '<');
    const char *end = begin != NULL ? strchr(begin, '>') : NULL;
    if (end == NULL || end - begin > ORACLE_ADDRESS_BYTES) {
        return false;
    }
    snprintf(ret_address, ORACLE_ADDRESS_BYTES, "%.*s", (int)(end - begin - 1), begin + 1);
    return true;
}

static void clear(struct session *session)
{
    session->has_sender = false;
    session->recipient_count = 0;
    session->content_length = 0;
}

static void refuse_letter(const char *sender)
{
    unsigned token = 0;
    struct letter *letter = sscanf(sender, "s%u@", &token) == 1 ? oracle_letter(token) : NULL;
    for (unsigned i = 0; letter != NULL && i < letter->recipient_count; i++) {
        oracle_refused(letter->recipients[i].address);
    }
}

static void on_mail(struct session *session)
{
    char sender[ORACLE_ADDRESS_BYTES];
    if (session->has_sender || !parse_path(session->line, sender)) {
        world_fail("remote host %u got %s", session->host, session->line);
    }
    if (world_fault(100)) {
        say(session, "450 4.7.1 come back later\r\n");
    } else if (sender[0] != '\0' && may_refuse(session) && world_fault(60)) {
        refuse_letter(sender);
        say(session, "550 5.7.1 not from you\r\n");
    } else {
        snprintf(session->sender, sizeof session->sender, "%s", sender);
        session->has_sender = true;
        say(session, "250 2.1.0 fine\r\n");
    }
}

static void on_recipient(struct session *session)
{
    char address[ORACLE_ADDRESS_BYTES];
    struct letter *letter = NULL;
    if (!session->has_sender || !parse_path(session->line, address)) {
        say(session, "503 5.5.1 MAIL first\r\n");
        return;
    }
    struct recipient *recipient = oracle_recipient(address, &letter);
    if (recipient != NULL) {
        recipient->tries++;
    }
    bool refuses = recipient != NULL &&
                   (recipient->kind == ORACLE_REFUSES || (may_refuse(session) && world_fault(150)));
    bool defers = (recipient != NULL && recipient->kind == ORACLE_DEFERS_ONCE && recipient->tries == 1) ||
                  world_fault(150);
    if (refuses) {
        oracle_refused(address);
        say(session, "550 5.1.1 no such user\r\n");
    } else if (defers || session->recipient_count == sizeof session->recipients / sizeof session->recipients[0]) {
        say(session, "450 4.2.1 try later\r\n");
    } else {
        snprintf(session->recipients[session->recipient_count++], ORACLE_ADDRESS_BYTES, "%s", address);
        say(session, "250 2.1.5 fine\r\n");
    }
}

static void refuse_all(const struct session *session)
{
    for (unsigned i = 0; i < session->recipient_count; i++) {
        oracle_refused(session->recipients[i]);
    }
}

static void on_data(struct session *session)
{
    if (!session->has_sender || session->recipient_count == 0) {
        say(session, "503 5.5.1 RCPT first\r\n");
    } else if (world_fault(80)) {
        say(session, "451 4.3.0 not now\r\n");
    } else if (may_refuse(session) && world_fault(60)) {
        refuse_all(session);
        say(session, "554 5.6.0 never\r\n");
    } else {
        session->in_data = true;
        session->content_length = 0;
        say(session, "354 go on\r\n");
    }
}

/* The final dot. */
static void on_message(struct session *session)
{
    session->in_data = false;
    if (fails(session)) {
        /* not taken */
    } else if (world_fault(250)) {
        say(session, "452 4.3.1 no room\r\n");
    } else if (may_refuse(session) && world_fault(100)) {
        refuse_all(session);
        say(session, "554 5.6.0 I do not like it\r\n");
    } else {
        bool silent = world_fault(150);
        struct saying *saying = say(session, silent ? (world_chance(5000) ? "" : "250 2.0") : "250 2.0.0 taken\r\n");
        saying->takes = true;
        saying->resets = silent || world_fault(50);
        memcpy(saying->sender, session->sender, sizeof saying->sender);
        saying->recipient_count = session->recipient_count;
        saying->recipients = world_new(session->recipient_count * sizeof saying->recipients[0]);
        memcpy(saying->recipients, session->recipients, session->recipient_count * sizeof saying->recipients[0]);
        saying->content = session->content;
        saying->content_length = session->content_length;
        session->content = NULL;
        session->content_capacity = 0;
        if (world_fault(300)) {
            struct saying *bye = world_new(sizeof *bye);
            bye->session = session;
            bye->closes = true;
            world_after(world_below(12 * WORLD_S), say_now, bye, 0); /* while idle, or in the next transaction */
        }
    }
    clear(session);
}

static void on_command(struct session *session)
{
    const char *line = session->line;
    world_trace("remote %u.%u: gets %.70s", session->host, session->number, line);
    if (strcmp(line, "RSET") == 0 || strncmp(line, "EHLO ", 5) == 0 || strncmp(line, "HELO ", 5) == 0) {
        clear(session); /* whatever is answered */
    }
    if (fails(session)) {
        return;
    }
    if (strncmp(line, "EHLO ", 5) == 0 || strncmp(line, "HELO ", 5) == 0) {
        on_hello(session, line[0] == 'E');
    } else if (strncmp(line, "MAIL FROM:", 10) == 0) {
        on_mail(session);
    } else if (strncmp(line, "RCPT TO:", 8) == 0) {
        on_recipient(session);
    } else if (strcmp(line, "DATA") == 0) {
        on_data(session);
    } else if (strcmp(line, "RSET") == 0) {
        say(session, "250 2.0.0 fine\r\n");
    } else if (strcmp(line, "QUIT") == 0) {
        say(session, "221 2.0.0 bye\r\n")->closes = true;
    } else if (strcmp(line, "NOOP") == 0) {
        say(session, "250 2.0.0 fine\r\n");
    } else {
        world_fail("remote host %u got the command %.60s", session->host, line);
    }
}

/* --- bytes --- */

static void append_content(struct session *session, const char *data, size_t length)
{
    if (session->content_length + length > session->content_capacity) {
        session->content_capacity = (session->content_length + length) * 2;
        session->content = real_realloc(session->content, session->content_capacity);
        CHECK(session->content != NULL);
    }
    memcpy(session->content + session->content_length, data, length);
    session->content_length += length;
}

/* A line with its CRLF; only CRLF ends one. */
static void on_line(struct session *session, size_t length)
{
    if (!session->in_data) {
        session->line[length - 2] = '\0';
        on_command(session);
    } else if (length == 3 && session->line[0] == '.') {
        on_message(session);
    } else {
        size_t skip = session->line[0] == '.';
        append_content(session, session->line + skip, length - skip);
    }
}

static void on_bytes(struct party *peer, const char *data, size_t length)
{
    struct session *session = CONTAINER_OF(peer, struct session, peer);
    for (size_t i = 0; i < length && !session->over; i++) {
        if (session->line_length == LINE_BYTES) {
            world_fail("remote host %u got an endless line", session->host);
        }
        session->line[session->line_length++] = data[i];
        size_t n = session->line_length;
        if (n >= 2 && session->line[n - 2] == '\r' && session->line[n - 1] == '\n') {
            session->line_length = 0;
            on_line(session, n);
        }
    }
}

static void on_connected(struct party *peer)
{
    struct session *session = CONTAINER_OF(peer, struct session, peer);
    if (fails(session)) {
        return;
    }
    if (world_fault(80)) {
        say(session, "450 4.3.2 busy\r\n");
    } else if (world_fault(40)) {
        return; /* never a word */
    } else {
        say(session, world_chance(1000) ? "220-welcome\r\n220 mx ESMTP\r\n" : "220 mx ESMTP\r\n");
    }
}

static void on_ended(struct party *peer, bool reset)
{
    struct session *session = CONTAINER_OF(peer, struct session, peer);
    session->over = true;
    world_trace("remote %u.%u: the server has gone%s", session->host, session->number, reset ? ", by reset" : "");
}

static const struct party_ops ops = {.connected = on_connected, .data = on_bytes, .ended = on_ended};

struct party *net_remote(uint32_t ipv4, unsigned port, int *ret_error)
{
    unsigned host = ipv4 - NAMES_HOST_ADDRESS;
    if (port != 25 || host == 0 || host > DEAD_HOST) {
        world_fail("the server connects to %08x:%u", ipv4, port);
    }
    *ret_error = -ECONNREFUSED;
    if (host == DEAD_HOST || world_fault(250)) {
        return NULL;
    }
    if (world_fault(150)) {
        static const int errors[] = {0, -ETIMEDOUT, -EHOSTUNREACH, -ENETUNREACH};
        *ret_error = errors[world_below(4)];
        return NULL;
    }
    *ret_error = 0;
    struct session *session = world_new(sizeof *session);
    session->peer = (struct party){.ops = &ops, .ipv4 = ipv4, .latency_ns = 2 * WORLD_MS};
    static unsigned count;
    session->host = host;
    session->number = ++count;
    session->extended = host % 3 != 0;
    session->peer.bytes_max = world_fault(100) ? 7 : 0;
    session->peer.deaf = world_fault(30);
    /* Slower than a message is left with its segment, and some are given up on. */
    if (world_fault(600)) {
        session->peer.reads_max = 20 + (unsigned)world_below(300);
        session->peer.latency_ns = WORLD_S / 2;
    }
    world_trace("remote %u.%u: accepts a connection", host, session->number);
    return &session->peer;
}
