/* How the load tools' octets travel inside TLS 1.3, by OpenSSL: another library than the one that is measured, with the
 * cipher and the group that both prefer. Options of every tool that includes it:
 *
 *     --tls              from the first octet, instead of after STARTTLS
 *     --no-resumption    a full handshake for each connection; otherwise with the last ticket that came
 *     --certificate FILE, --key FILE    of a server, PEM
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define WIRE_OPTIONS                                                            \
    {"tls", no_argument, NULL, 'T'}, {"no-resumption", no_argument, NULL, 'N'}, \
        {"certificate", required_argument, NULL, 'C'}, {"key", required_argument, NULL, 'K'},

struct wire {
    int fd;
    bool wants_input;
    SSL *tls; /* NULL: not yet */
};

static struct {
    SSL_CTX *context;
    SSL_SESSION *ticket; /* the last one */
    const char *certificate, *key;
    bool implicit, full, server;
} wires;

static inline bool wire_option(int letter, const char *argument)
{
    switch (letter) {
    case 'T': wires.implicit = true; return true;
    case 'N': wires.full = true; return true;
    case 'C': wires.certificate = argument; return true;
    case 'K': wires.key = argument; return true;
    default: return false;
    }
}

static inline int wire_keep_ticket(SSL *tls, SSL_SESSION *session)
{
    (void)tls;
    SSL_SESSION_free(wires.ticket);
    wires.ticket = session;
    return 1;
}

static inline void wire_die(void)
{
    ERR_print_errors_fp(stderr);
    exit(2);
}

static inline void wire_begin(bool server)
{
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    wires.server = server;
    wires.context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    SSL_CTX *library = wires.context;
    SSL_CTX_set_mode(library, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(library, 1);
    if (!SSL_CTX_set_min_proto_version(library, TLS1_3_VERSION) || !SSL_CTX_set1_groups_list(library, "X25519") ||
        !SSL_CTX_set_ciphersuites(library, "TLS_AES_128_GCM_SHA256")) {
        wire_die();
    }
    if (server && (wires.certificate == NULL || wires.key == NULL ||
                   SSL_CTX_use_certificate_chain_file(library, wires.certificate) != 1 ||
                   SSL_CTX_use_PrivateKey_file(library, wires.key, SSL_FILETYPE_PEM) != 1)) {
        wire_die();
    }
    if (!server && !wires.full) {
        SSL_CTX_set_session_cache_mode(library, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(library, wire_keep_ticket);
    }
}

static inline void wire_secure(struct wire *wire)
{
    fcntl(wire->fd, F_SETFL, fcntl(wire->fd, F_GETFL) | O_NONBLOCK);
    wire->tls = SSL_new(wires.context);
    if (wire->tls == NULL || SSL_set_fd(wire->tls, wire->fd) != 1) {
        wire_die();
    }
    if (wires.server) {
        SSL_set_accept_state(wire->tls);
        return;
    }
    if (wires.ticket != NULL) { /* a copy, because OpenSSL uses each only once */
        SSL_SESSION *session = SSL_SESSION_dup(wires.ticket);
        SSL_set_session(wire->tls, session);
        SSL_SESSION_free(session);
    }
    SSL_set_connect_state(wire->tls);
    SSL_do_handshake(wire->tls); /* sends the ClientHello; whoever receives or sends next goes on with it */
}

static inline void wire_open(struct wire *wire, int fd)
{
    *wire = (struct wire){.fd = fd};
    if (wires.implicit) {
        wire_secure(wire);
    }
}

static inline bool wire_upgrades(const struct wire *wire)
{
    return wire->tls == NULL;
}

static inline ssize_t wire_result(struct wire *wire, int result)
{
    if (result > 0) {
        return result;
    }
    int error = SSL_get_error(wire->tls, result);
    wire->wants_input = error == SSL_ERROR_WANT_READ;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }
    errno = error == SSL_ERROR_ZERO_RETURN ? 0 : EPROTO;
    ERR_clear_error();
    return error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static inline ssize_t wire_send(struct wire *wire, const void *data, size_t length)
{
    wire->wants_input = false;
    return wire->tls == NULL ? send(wire->fd, data, length, MSG_NOSIGNAL)
                             : wire_result(wire, SSL_write(wire->tls, data, (int)length));
}

static inline ssize_t wire_receive(struct wire *wire, void *data, size_t size)
{
    return wire->tls == NULL ? recv(wire->fd, data, size, 0) : wire_result(wire, SSL_read(wire->tls, data, (int)size));
}

static inline bool wire_more(const struct wire *wire)
{
    return wire->tls != NULL && SSL_has_pending(wire->tls);
}

static inline bool wire_wants_input(const struct wire *wire)
{
    return wire->wants_input;
}

static inline void wire_close(struct wire *wire)
{
    if (wire->tls != NULL) {
        SSL_shutdown(wire->tls);
        ERR_clear_error();
        SSL_free(wire->tls);
    }
    close(wire->fd);
}

#endif
