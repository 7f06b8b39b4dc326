#include "sim/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sim/life.h"
#include "sim/names.h"
#include "sim/net.h"
#include "sim/oracle.h"
#include "sim/real.h"
#include "sim/world.h"

#define LETTERS_MAX 4 /* of one session */
#define STEPS_MAX 300
#define CHUNKS_MAX 12
#define PATIENCE_NS (900 * WORLD_S)

enum step_kind {
    STEP_GREETING,
    STEP_HELLO,
    STEP_MAIL,
    STEP_RECIPIENT,
    STEP_DATA,
    STEP_BODY,
    STEP_CHUNK,
    STEP_LAST_CHUNK,
    STEP_RESET,
    STEP_QUIT,
};

/* Something to say and the reply to it. */
struct step {
    enum step_kind kind;
    struct letter *letter;
    unsigned recipient;
    size_t from; /* of a chunk: where in the body it begins */
    size_t length;
};

struct client {
    struct party peer;
    const struct client_settings *settings;
    unsigned port;
    bool pipelines;
    bool over;
    bool silent;       /* it broke off, and will hang up */
    unsigned break_at; /* after so many replies it hangs up; 0: never */
    struct step steps[STEPS_MAX];
    unsigned step_count;
    unsigned said;
    unsigned answered;
    bool transaction; /* MAIL was accepted, and a recipient */
    bool go_on;       /* DATA was answered with 354 */
    bool incomplete;  /* a chunk of the message was refused */
    char line[1024];
    size_t line_length;
    uint64_t moved_ns; /* last progress */
};

static unsigned sessions;

unsigned client_sessions(void)
{
    return sessions;
}

/* --- letters --- */

static void choose_recipients(struct letter *letter)
{
    unsigned count = world_chance(7000) ? 1 + (unsigned)world_below(3)
                                        : 1 + (unsigned)world_below(ORACLE_RECIPIENTS_MAX);
    for (unsigned i = 0; i < count; i++) {
        struct recipient *recipient = &letter->recipients[i];
        unsigned which = world_chance(8500) ? 1 + (unsigned)world_below(5)
                                            : 1 + (unsigned)world_below(names_domain_count - 1);
        const struct domain *domain = &names_domains[which];
        recipient->kind = world_chance(8500) ? ORACLE_TAKES : (enum oracle_kind)world_below(ORACLE_KINDS);
        recipient->may_fail = names_fails(domain);
        snprintf(recipient->address, sizeof recipient->address, "r%u.m%u.k%d@%s", i, letter->token,
                 (int)recipient->kind, domain->name);
        recipient->never_notify = world_chance(400);
    }
    letter->recipient_count = count;
}

static void append(struct letter *letter, const char *text, size_t length)
{
    if (letter->length + length > letter->capacity) {
        letter->capacity = (letter->length + length) * 2;
        letter->body = real_realloc(letter->body, letter->capacity);
        CHECK(letter->body != NULL);
    }
    memcpy(letter->body + letter->length, text, length);
    letter->length += length;
}

/* Lines that look like the end, like commands, like nothing. */
static void write_body(struct letter *letter, size_t bytes_max)
{
    static const char *const odd[] = {"",   ".",        "..",  ".dot", "QUIT", "RSET", "MAIL FROM:<x@y>",
                                      "\t", "250 fine", "DATA"};
    char line[512];
    uint64_t shape = world_below(10);
    size_t wanted = shape < 7   ? (size_t)world_below(2000)
                    : shape < 9 ? (size_t)world_below(bytes_max / 8)
                                : (size_t)world_below(bytes_max);
    int n = snprintf(line, sizeof line, "X-Sim: %u\r\nSubject: simulated\r\n\r\n", letter->token);
    append(letter, line, (size_t)n);
    while (letter->length < wanted) {
        if (world_chance(2000)) {
            n = snprintf(line, sizeof line, "%s\r\n", odd[world_below(sizeof odd / sizeof odd[0])]);
        } else {
            uint64_t tag = rng_next(&world.rng);
            n = 0;
            unsigned words = 1 + (unsigned)(tag % 24);
            for (unsigned i = 0; i < words; i++) {
                n += snprintf(line + n, sizeof line - (size_t)n, "%llx ",
                              (unsigned long long)(tag * (i + 1)) & 0xffffffff);
            }
            n += snprintf(line + n, sizeof line - (size_t)n, "\r\n");
        }
        append(letter, line, (size_t)n);
    }
}

static struct letter *new_letter(const struct client *client)
{
    struct letter *letter = oracle_letter_new();
    letter->relaxed = client->port == LIFE_PORT_RELAXED;
    if (!world_chance(800)) {
        snprintf(letter->sender, sizeof letter->sender, "s%u@senders.sim", letter->token);
        letter->has_envelope_id = world_chance(1000);
    }
    choose_recipients(letter);
    write_body(letter, client->settings->body_bytes_max);
    return letter;
}

/* --- the script --- */

static void add_step(struct client *client, enum step_kind kind, struct letter *letter, unsigned recipient)
{
    CHECK(client->step_count < STEPS_MAX);
    client->steps[client->step_count++] = (struct step){.kind = kind, .letter = letter, .recipient = recipient};
}

/* What begins a message that is hidden inside of another one. */
static int write_hidden(const struct client *client, char *out, size_t size)
{
    const struct letter *hidden = new_letter(client);
    return snprintf(out, size, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\nX-Sim: %u\r\n", hidden->sender,
                    hidden->recipients[0].address, hidden->token);
}

/* The body in chunks (RFC 3030), cut anywhere. A line with a dot is only text in them. */
static void add_chunks(struct client *client, struct letter *letter)
{
    if (world_chance(1000)) {
        char text[256];
        append(letter, ".\r\n", 3);
        append(letter, text, (size_t)write_hidden(client, text, sizeof text));
    }
    unsigned count = world_chance(4000) ? 1 : 1 + (unsigned)world_below(CHUNKS_MAX);
    size_t from = 0;
    for (unsigned i = 1; i <= count; i++) {
        size_t rest = letter->length - from;
        size_t length = i == count           ? rest
                        : world_chance(2000) ? (size_t)world_below(3)
                        : world_chance(1000) ? rest
                                             : (size_t)world_below(2 * rest / (count - i + 1) + 1);
        length = length < rest ? length : rest;
        add_step(client, i == count ? STEP_LAST_CHUNK : STEP_CHUNK, letter, 0);
        client->steps[client->step_count - 1].from = from;
        client->steps[client->step_count - 1].length = length;
        from += length;
    }
}

static void write_script(struct client *client)
{
    add_step(client, STEP_GREETING, NULL, 0);
    add_step(client, STEP_HELLO, NULL, 0);
    unsigned letters = 1 + (unsigned)world_below(LETTERS_MAX);
    for (unsigned i = 0; i < letters; i++) {
        struct letter *letter = new_letter(client);
        add_step(client, STEP_MAIL, letter, 0);
        for (unsigned j = 0; j < letter->recipient_count; j++) {
            add_step(client, STEP_RECIPIENT, letter, j);
        }
        if (world_chance(300)) {
            add_step(client, STEP_RESET, letter, 0);
        } else if (world_chance(2500)) {
            add_chunks(client, letter);
        } else {
            add_step(client, STEP_DATA, letter, 0);
            add_step(client, STEP_BODY, letter, 0);
        }
    }
    add_step(client, STEP_QUIT, NULL, 0);
}

/* --- saying --- */

static void end(struct client *client)
{
    if (!client->over) {
        client->over = true;
        sessions--;
    }
}

static void hang_up(void *context, uint64_t argument)
{
    struct client *client = context;
    (void)argument;
    if (world_chance(5000)) {
        net_reset(&client->peer);
    } else {
        net_close(&client->peer);
    }
    end(client);
}

static void break_off(struct client *client)
{
    client->silent = true;
    world_after(world_below(WORLD_S), hang_up, client, 0);
}

/* How a message may be wrong: bare line feeds that somebody may take for its end. A second message hides behind. */
static const char *const smuggling[] = {"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r"};

static void put(char **out, const char *data, size_t length)
{
    memcpy(*out, data, length);
    *out += length;
}

static void send_body(struct client *client, struct letter *letter)
{
    char *wire = world_new(letter->length * 2 + 1000);
    char *out = wire;
    bool begins = true;
    for (size_t i = 0; i < letter->length; i++) {
        if (begins && letter->body[i] == '.') {
            put(&out, ".", 1);
        }
        put(&out, letter->body + i, 1);
        begins = letter->body[i] == '\n';
    }
    bool smuggles = world_chance(300);
    bool aborted = world_fault(400);
    if (smuggles) {
        const char *end = smuggling[world_below(5)];
        out -= 2; /* the last line's end belongs to it */
        put(&out, end, strlen(end));
        out += write_hidden(client, out, 256);
    }
    if (aborted) {
        size_t length = (size_t)world_below((uint64_t)(out - wire) + 1);
        net_send(&client->peer, wire, length);
        break_off(client);
        world_trace("client: letter %u is broken off", letter->token);
        return;
    }
    put(&out, ".\r\n", 3);
    letter->state = LETTER_SENT;
    world_trace("client: letter %u is sent, %u bytes%s", letter->token, (unsigned)(out - wire),
                smuggles ? ", with another one inside" : "");
    net_send(&client->peer, wire, (size_t)(out - wire));
}

/* One chunk; seldom with a line feed in it that no carriage return is in front of, so that it must be refused. */
static void send_chunk(struct client *client, const struct step *step)
{
    struct letter *letter = step->letter;
    char command[64];
    bool last = step->kind == STEP_LAST_CHUNK;
    size_t length = step->length;
    char *octets = world_new(length + 1);
    memcpy(octets, letter->body + step->from, length);
    if (length != 0 && world_chance(200)) {
        octets[world_below(length)] = '\n';
    }
    snprintf(command, sizeof command, "BDAT %zu%s\r\n", length, last ? " LAST" : "");
    net_send(&client->peer, command, strlen(command));
    if (world_fault(100)) {
        length = (size_t)world_below(length + 1);
        net_send(&client->peer, octets, length);
        break_off(client);
        world_trace("client: letter %u is broken off in a chunk", letter->token);
        if (last && length == step->length) {
            letter->state = LETTER_SENT;
        }
        return;
    }
    net_send(&client->peer, octets, length);
    world_trace("client: letter %u, %zu bytes from %zu%s", letter->token, length, step->from, last ? ", the last" : "");
    if (last) {
        letter->state = LETTER_SENT;
    }
}

/* MAIL and RCPT with what RFC 3461 adds. */
static void write_mail(const struct letter *letter, char *out, size_t size)
{
    char id[32] = "";
    if (letter->has_envelope_id) {
        snprintf(id, sizeof id, " ENVID=e%u RET=%s", letter->token, letter->token % 2 != 0 ? "HDRS" : "FULL");
    }
    snprintf(out, size, "MAIL FROM:<%s>%s\r\n", letter->sender, id);
}

static void write_recipient(const struct recipient *recipient, char *out, size_t size)
{
    snprintf(out, size, "RCPT TO:<%s>%s\r\n", recipient->address, recipient->never_notify ? " NOTIFY=NEVER" : "");
}

static void say(struct client *client, const struct step *step)
{
    char text[ORACLE_ADDRESS_BYTES + 64] = "";
    switch (step->kind) {
    case STEP_GREETING: return;
    case STEP_HELLO: snprintf(text, sizeof text, "EHLO client.sim\r\n"); break;
    case STEP_MAIL: write_mail(step->letter, text, sizeof text); break;
    case STEP_RECIPIENT: write_recipient(&step->letter->recipients[step->recipient], text, sizeof text); break;
    case STEP_DATA: snprintf(text, sizeof text, "DATA\r\n"); break;
    case STEP_BODY: send_body(client, step->letter); return;
    case STEP_CHUNK:
    case STEP_LAST_CHUNK: send_chunk(client, step); return;
    case STEP_RESET: snprintf(text, sizeof text, "RSET\r\n"); break;
    case STEP_QUIT: snprintf(text, sizeof text, "QUIT\r\n"); break;
    }
    world_trace("client: %.60s", text);
    net_send(&client->peer, text, strlen(text));
}

/* May the next step be said before all earlier replies are there? (RFC 2920 3.1) */
static bool may_say(const struct client *client)
{
    if (client->said == client->answered) {
        return true;
    }
    enum step_kind before = client->steps[client->said - 1].kind;
    return client->pipelines && before != STEP_GREETING && before != STEP_HELLO && before != STEP_DATA &&
           before != STEP_QUIT;
}

static void go_on(struct client *client)
{
    while (client->said < client->step_count && may_say(client) && client->peer.socket != NULL && !client->over &&
           !client->silent) {
        const struct step *step = &client->steps[client->said++];
        if (step->kind == STEP_BODY && !client->go_on) {
            CHECK(client->said == client->answered + 1);
            client->answered++; /* there was no 354 */
            continue;
        }
        say(client, step);
    }
}

/* --- replies --- */

static void on_reply(struct client *client, unsigned code)
{
    if (client->answered == client->said) {
        if (code != 421) {
            world_fail("a client got %s without having asked", client->line);
        }
        return;
    }
    const struct step *step = &client->steps[client->answered++];
    struct letter *letter = step->letter;
    switch (step->kind) {
    case STEP_MAIL: client->transaction = client->incomplete = false; break;
    case STEP_RECIPIENT:
        letter->recipients[step->recipient].accepted = code == 250;
        letter->recipients[step->recipient].refused = code != 250;
        client->transaction |= code == 250;
        break;
    case STEP_DATA:
        client->go_on = code == 354;
        if (client->go_on && !client->transaction) {
            world_fail("354 without a recipient");
        }
        break;
    case STEP_CHUNK: client->incomplete |= code != 250; break;
    case STEP_LAST_CHUNK:
        if (code == 250 && (client->incomplete || !client->transaction)) {
            world_fail("letter %u was accepted without a %s", letter->token,
                       client->incomplete ? "part of it" : "recipient");
        }
        oracle_answered(letter, code);
        break;
    case STEP_BODY: oracle_answered(letter, code); break;
    default: break;
    }
    if (client->break_at != 0 && client->answered >= client->break_at) {
        hang_up(client, 0);
    } else if (step->kind == STEP_QUIT) {
        net_close(&client->peer);
        end(client);
    }
}

static void on_bytes(struct party *peer, const char *data, size_t length)
{
    struct client *client = CONTAINER_OF(peer, struct client, peer);
    client->moved_ns = world.now_ns;
    for (size_t i = 0; i < length && !client->over; i++) {
        CHECK(client->line_length < sizeof client->line - 1);
        client->line[client->line_length++] = data[i];
        if (data[i] == '\n') {
            client->line[client->line_length] = '\0';
            if (client->line[3] == ' ') {
                on_reply(client, (unsigned)strtoul(client->line, NULL, 10));
            }
            client->line_length = 0;
        }
    }
    go_on(client);
    if (!client->over && world_fault(20)) {
        net_reset(peer);
        end(client);
    }
}

static void on_ended(struct party *peer, bool reset)
{
    struct client *client = CONTAINER_OF(peer, struct client, peer);
    world_trace("client: the server has hung up%s", reset ? ", by reset" : "");
    end(client);
}

static void on_connected(struct party *peer)
{
    struct client *client = CONTAINER_OF(peer, struct client, peer);
    client->moved_ns = world.now_ns;
}

static const struct party_ops ops = {.connected = on_connected, .data = on_bytes, .ended = on_ended};

/* --- sessions --- */

static void lose_patience(void *context, uint64_t argument)
{
    struct client *client = context;
    (void)argument;
    if (client->over) {
        return;
    }
    if (client->peer.socket == NULL || world.now_ns - client->moved_ns >= PATIENCE_NS) {
        net_reset(&client->peer);
        end(client);
        return;
    }
    world_after(PATIENCE_NS, lose_patience, client, 0);
}

static void connect_client(void *context, uint64_t argument)
{
    struct client *client = context;
    (void)argument;
    if (net_connect(&client->peer, client->port)) {
        client->said = 1; /* the greeting comes by itself */
        client->moved_ns = world.now_ns;
        world_after(PATIENCE_NS, lose_patience, client, 0);
    } else {
        world_after(WORLD_S + world_below(10 * WORLD_S), connect_client, client, 0);
    }
}

void client_start(const struct client_settings *settings)
{
    struct client *client = world_new(sizeof *client);
    client->settings = settings;
    client->peer = (struct party){
        .ops = &ops,
        .ipv4 = 0x0a000000u + 1 + (uint32_t)world_below(60),
        .latency_ns = world_chance(500) ? 200 * WORLD_MS : WORLD_MS,
    };
    client->port = settings->relaxed_listener && world_chance(2500) ? LIFE_PORT_RELAXED : LIFE_PORT;
    client->pipelines = world_chance(5000);
    client->peer.bytes_max = world_fault(100) ? 5 : 0;
    client->peer.deaf = world_fault(50);
    client->break_at = world_fault(600) ? 1 + (unsigned)world_below(12) : 0;
    write_script(client);
    sessions++;
    connect_client(client, 0);
}
