#include <stdlib.h>
#include <string.h>

#include "core/tls_hello.h"
#include "core/tls_session.h"
#include "support/tls_files.h"

/* TLS between memory and memory, with somebody in between. The first octet says what he does; the second, how much he
 * lets through at once.
 *   first & 3   0 what follows is what the server gets; 1 and 2 a handshake and some content, in which the octets to
 * the server (1) or to the client (2) are changed: what follows is {offset, offset, xor} ...; 3 both Whatever he does:
 * both sides come to rest, no more than a block stands anywhere, and what one side reads as content is how the other's
 * content begins. Without a change, all of it arrives. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

#define CONTENT_BYTES 3000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct change {
    const uint8_t *data; /* {offset, offset, xor} ... */
    size_t size;
};

struct end {
    struct tls_session session;
    struct end *other;
    struct change change; /* of what it gets */
    const uint8_t *raw;   /* instead of what the other says */
    size_t raw_bytes;
    size_t piece;
    size_t pulled;
    uint8_t content[CONTENT_BYTES];
    size_t content_bytes;
    bool written;
    bool changed;
};

static struct tls_context *server_context;
static struct tls_context *client_context;

static void make_contexts(void)
{
    char reason[256];
    struct tls_certificate certificates[] = {
        {.chain_file = tls_files_path("ecdsa.pem"), .key_file = tls_files_path("ecdsa.key")},
        {.chain_file = tls_files_path("other.pem"), .key_file = tls_files_path("other.key")},
    };
    struct tls_server_settings server = {
        .certificates = certificates, .certificates_count = 2, .ticket_key_seconds = 3600, .exporter = true};
    struct tls_client_settings client = {.trust = true, .ca_file = tls_files_path("authority.pem")};
    EXPECT(tls_context_new_server(&server, &server_context, reason, sizeof reason) == 0);
    EXPECT(tls_context_new_client(&client, &client_context, reason, sizeof reason) == 0);
}

static void change_octets(struct end *end, uint8_t *data, size_t length)
{
    for (size_t i = 0; i + 3 <= end->change.size; i += 3) {
        size_t offset = (size_t)(end->change.data[i] << 8 | end->change.data[i + 1]);
        if (offset >= end->pulled && offset < end->pulled + length && end->change.data[i + 2] != 0) {
            data[offset - end->pulled] ^= end->change.data[i + 2];
            end->changed = true;
        }
    }
}

static size_t pull(struct tls_session *session, void *data, size_t length)
{
    struct end *end = CONTAINER_OF(session, struct end, session);
    struct bytes from = end->raw != NULL ? bytes_of(end->raw + end->pulled, end->raw_bytes - end->pulled)
                                         : tls_session_output(&end->other->session);
    size_t n = from.length < length ? from.length : length;
    n = n < end->piece ? n : end->piece;
    if (n == 0) {
        return 0;
    }
    memcpy(data, from.data, n);
    change_octets(end, data, n);
    end->pulled += n;
    if (end->raw == NULL) {
        tls_session_sent(&end->other->session, n);
    }
    return n;
}

static const uint8_t said[CONTENT_BYTES] = "What one says";

static void work(struct end *end)
{
    struct tls_session *session = &end->session;
    tls_session_advance(session);
    struct bytes input;
    while ((input = tls_session_input(session)).length != 0) {
        EXPECT(end->content_bytes + input.length <= CONTENT_BYTES);
        memcpy(end->content + end->content_bytes, input.data, input.length);
        end->content_bytes += input.length;
        tls_session_consume(session, input.length);
        tls_session_advance(session);
    }
    if (session->phase == TLS_PHASE_OPEN && !end->written) {
        uint8_t copy[CONTENT_BYTES];
        memcpy(copy, said, sizeof copy);
        struct iovec pieces[] = {{.iov_base = copy, .iov_len = 100}, {.iov_base = copy + 100, .iov_len = 2900}};
        struct iovec *next = pieces;
        size_t count = 2;
        end->written = true;
        EXPECT(tls_session_write(session, &next, &count) == 0 && count == 0);
    }
    EXPECT((session->phase == TLS_PHASE_FAILED) == (session->error != 0));
    EXPECT(session->phase != TLS_PHASE_FAILED || session->reason != NULL);
    EXPECT(memcmp(end->content, said, end->content_bytes) == 0);
}

static void converse(struct end *server, struct end *client)
{
    for (size_t before = SIZE_MAX; before != server->pulled + client->pulled;) {
        before = server->pulled + client->pulled;
        if (client->other != NULL) {
            work(client);
        }
        work(server);
    }
    if (client->other != NULL && !server->changed && !client->changed) {
        EXPECT(server->content_bytes == CONTENT_BYTES && client->content_bytes == CONTENT_BYTES);
    }
}

static void scan(const uint8_t *data, size_t size)
{
    struct tls_hello hello;
    enum tls_hello_state state = tls_hello_scan(data, size, &hello);
    EXPECT(state != TLS_HELLO_MORE || hello.need > size);
    EXPECT(state != TLS_HELLO_BAD || hello.problem != NULL);
    for (const char *c = hello.server_name; *c != '\0'; c++) {
        EXPECT((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || strchr("-_.", *c) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct end server;
    static struct end client;
    if (server_context == NULL) {
        make_contexts();
    }
    if (size < 2) {
        return 0;
    }
    unsigned mode = data[0] & 3u;
    struct change change = {.data = data + 2, .size = size - 2};
    server = (struct end){.piece = data[1] * 16u + 1, .other = &client};
    client = (struct end){.piece = server.piece, .other = &server};
    EXPECT(tls_session_init_server(&server.session, server_context, pull) == 0);
    if (mode == 0) {
        server.raw = data + 2;
        server.raw_bytes = size - 2;
        client.other = NULL;
        scan(data + 2, size - 2);
    } else {
        server.change = mode != 2 ? change : server.change;
        client.change = mode != 1 ? change : client.change;
        EXPECT(tls_session_init_client(&client.session, client_context, "mx.example.org", TLS_VERIFY_NAME, pull) == 0);
    }
    converse(&server, &client);
    tls_session_goodbye(&server.session);
    tls_session_free(&server.session);
    if (client.other != NULL) {
        tls_session_free(&client.session);
    }
    return 0;
}
