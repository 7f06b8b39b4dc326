/* Two ends of a TLS connection under test, both driven by one shard, and what may lie between them. */
#ifndef TEST_TLS_PARTIES_H
#define TEST_TLS_PARTIES_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/stream_tls.h"
#include "support/loopback.h"
#include "support/tls_files.h"
#include "unit/core/one_shard.h"

#define PARTY_REPLY_BYTES 6000

/* What a party does: a server sends back what it gets (ECHO) or lets it lie (IGNORE); a client says what it has to say
 * as soon as it is secure and keeps what it gets. */
enum manner { ECHO, IGNORE, CLIENT };

struct party {
    struct stream stream;
    enum manner manner;
    int fd;
    bool after_plaintext; /* server: as after STARTTLS, not implicit */
    struct tls_context *context;
    const char *name; /* client */
    enum tls_verify verify;
    const char *say; /* client */
    size_t say_bytes;
    bool said;
    char *got; /* client: room for say_bytes */
    size_t got_bytes;
    char reply[PARTY_REPLY_BYTES];
    unsigned wakes;
    unsigned closings;
    int start_result;
    bool wrong;
};

static inline struct party *party_of(struct stream *stream)
{
    return CONTAINER_OF(stream, struct party, stream);
}

static inline void party_echo(struct party *party)
{
    size_t length = 0;
    struct bytes input;
    if (stream_sending(&party->stream)) {
        return;
    }
    while ((input = stream_input(&party->stream)).length != 0 && length < sizeof party->reply) {
        size_t n = input.length < sizeof party->reply - length ? input.length : sizeof party->reply - length;
        memcpy(party->reply + length, input.data, n);
        length += n;
        stream_consume(&party->stream, n);
    }
    if (length != 0 && party->stream.error == 0) {
        struct iovec pieces[] = {{.iov_base = party->reply, .iov_len = length / 3},
                                 {.iov_base = party->reply + length / 3, .iov_len = length - length / 3}};
        stream_send(&party->stream, pieces, 2);
    }
}

static inline void party_converse(struct party *party)
{
    struct bytes input;
    while ((input = stream_input(&party->stream)).length != 0) {
        size_t n = input.length < 777 ? input.length : 777;
        party->wrong |= party->got_bytes + n > party->say_bytes;
        if (party->wrong) {
            return;
        }
        memcpy(party->got + party->got_bytes, input.data, n);
        party->got_bytes += n;
        stream_consume(&party->stream, n);
    }
    if (!party->said && party->say_bytes != 0 && party->stream.error == 0) {
        union {
            const char *constant;
            void *variable;
        } pointer = {.constant = party->say};
        struct iovec piece = {.iov_base = pointer.variable, .iov_len = party->say_bytes};
        party->said = true;
        stream_send(&party->stream, &piece, 1);
    }
}

static inline void party_woken(struct stream *stream)
{
    struct party *party = party_of(stream);
    party->wakes++;
    party->wrong |= stream->closing;
    if (stream->secured && party->manner == ECHO) {
        party_echo(party);
    } else if (stream->secured && party->manner == CLIENT) {
        party_converse(party);
    }
}

static inline void party_closed(struct stream *stream)
{
    party_of(stream)->closings++;
}

/* --- in the shard ------------------------------------------------------------------------------------------------ */

static inline void party_open(struct shard *shard, void *context)
{
    struct party *party = context;
    stream_open(&party->stream, shard, party->fd, party_woken);
}

static inline void party_start(struct shard *shard, void *context)
{
    struct party *party = context;
    (void)shard;
    if (party->manner == CLIENT) {
        party->start_result = stream_tls_start_client(&party->stream, party->context, party->name, party->verify);
    } else if (party->after_plaintext) {
        party->start_result = stream_tls_start_server(&party->stream, party->context);
    } else {
        party->start_result = stream_tls_start_implicit(&party->stream, party->context);
    }
}

static inline void party_open_and_start(struct shard *shard, void *context)
{
    party_open(shard, context);
    party_start(shard, context);
}

static inline void party_close_now(struct shard *shard, void *context)
{
    (void)shard;
    stream_close(&((struct party *)context)->stream, false, party_closed);
}

static inline void party_abort_now(struct shard *shard, void *context)
{
    (void)shard;
    stream_close(&((struct party *)context)->stream, true, party_closed);
}

static inline bool party_is_closed(struct shard *shard, void *context)
{
    (void)shard;
    return ((struct party *)context)->closings == 1;
}

static inline bool party_is_secured(struct shard *shard, void *context)
{
    const struct stream *stream = &((struct party *)context)->stream;
    (void)shard;
    return stream->secured || stream->error != 0 || stream->eof;
}

static inline bool party_is_over(struct shard *shard, void *context)
{
    const struct stream *stream = &((struct party *)context)->stream;
    (void)shard;
    return stream->error != 0 || stream->eof;
}

static inline bool party_got_all(struct shard *shard, void *context)
{
    const struct party *party = context;
    return party->got_bytes == party->say_bytes || party_is_over(shard, context);
}

static inline void party_finish(struct shard_group *group, struct party *party, bool abort)
{
    on_shard(group, abort ? party_abort_now : party_close_now, party);
    assert_true(comes_true(group, party_is_closed, party));
    assert_false(party->wrong);
}

/* --- contexts -------------------------------------------------------------------------------------------------------
 */

static inline struct tls_context *server_context(const struct tls_server_settings *settings)
{
    struct tls_context *context = NULL;
    char reason[256] = "";
    if (tls_context_new_server(settings, &context, reason, sizeof reason) != 0) {
        fail_msg("%s", reason);
    }
    return context;
}

static inline struct tls_context *client_context(const char *ca_file)
{
    struct tls_client_settings settings = {.trust = ca_file != NULL, .ca_file = ca_file};
    struct tls_context *context = NULL;
    char reason[256] = "";
    if (tls_context_new_client(&settings, &context, reason, sizeof reason) != 0) {
        fail_msg("%s", reason);
    }
    return context;
}

#define PAIR(name)                                                                          \
    {                                                                                       \
        .chain_file = tls_files_path(name ".pem"), .key_file = tls_files_path(name ".key"), \
    }

/* ECDSA and RSA, with tickets and channel binding. */
static inline struct tls_context *usual_server_context(void)
{
    struct tls_certificate certificates[] = {PAIR("rsa"), PAIR("ecdsa")};
    struct tls_server_settings settings = {
        .certificates = certificates, .certificates_count = 2, .ticket_key_seconds = 3600, .exporter = true};
    return server_context(&settings);
}

/* --- a wire that cuts -----------------------------------------------------------------------------------------------
 */

struct wire {
    int client; /* our ends; the parties have the others */
    int server;
    size_t piece;  /* forwarded at once, at most */
    size_t cut[2]; /* after so many octets from client, from server; 0 = never */
    bool reset;    /* cut by RST, not by FIN */
    size_t carried[2];
    unsigned char *record; /* what went from the server, when asked for */
    pthread_t thread;
};

static inline void wire_end(int fd, bool reset)
{
    if (reset) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
}

static inline bool wire_carry(struct wire *wire, int direction, int from, int to)
{
    char data[65536];
    size_t most = wire->piece < sizeof data ? wire->piece : sizeof data;
    if (wire->cut[direction] != 0 && wire->cut[direction] - wire->carried[direction] < most) {
        most = wire->cut[direction] - wire->carried[direction];
    }
    ssize_t got = recv(from, data, most, 0);
    if (got <= 0 || !loopback_write(to, data, (size_t)got)) {
        return false;
    }
    wire->carried[direction] += (size_t)got;
    return wire->carried[direction] != wire->cut[direction];
}

static inline void *wire_run(void *argument)
{
    struct wire *wire = argument;
    struct pollfd ends[] = {{.fd = wire->client, .events = POLLIN}, {.fd = wire->server, .events = POLLIN}};
    bool open = true;
    while (open && poll(ends, 2, PATIENCE_MS) > 0) {
        for (int i = 0; i < 2 && open; i++) {
            open = ends[i].revents == 0 || wire_carry(wire, i, ends[i].fd, ends[1 - i].fd);
        }
    }
    wire_end(wire->client, wire->reset);
    wire_end(wire->server, wire->reset);
    close(wire->client);
    close(wire->server);
    return NULL;
}

static inline void wire_start(struct wire *wire, struct party *client, struct party *server)
{
    int ends[2];
    loopback_pair(ends);
    wire->client = ends[0];
    client->fd = ends[1];
    loopback_pair(ends);
    wire->server = ends[0];
    server->fd = ends[1];
    assert_int_equal(pthread_create(&wire->thread, NULL, wire_run, wire), 0);
}

#endif
