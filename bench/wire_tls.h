/* What the load tools say and hear inside TLS 1.3, by OpenSSL: another library than the one that is measured, with the
 * cipher and the group that both prefer. Options of every tool that includes it:
 *
 *     --tls              from the first octet, instead of after STARTTLS
 *     --no-resumption    a full handshake for each connection; otherwise with the last ticket that came
 *     --certificate FILE, --key FILE    of a server, PEM
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include "link.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#define WIRE_OPTIONS                                                            \
    {"tls", no_argument, NULL, 'T'}, {"no-resumption", no_argument, NULL, 'N'}, \
        {"certificate", required_argument, NULL, 'C'}, {"key", required_argument, NULL, 'K'},

struct wire {
    struct link link;
    SSL *tls;                  /* NULL: not yet */
    struct link_output unsaid; /* until wire_flush, and the end of the handshake */
    size_t clear_offset, clear_length;
    bool broken;
    char clear[16384];
};

static struct {
    SSL_CTX *context;
    BIO_METHOD *bio;
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

/* --- between OpenSSL and the link --- */

static inline int wire_bio_write(BIO *bio, const char *data, int length)
{
    link_say(BIO_get_data(bio), data, (size_t)length);
    return length;
}

static inline int wire_bio_read(BIO *bio, char *data, int length)
{
    struct link *link = BIO_get_data(bio);
    size_t there;
    const char *input = link_input(link, &there);
    BIO_clear_retry_flags(bio);
    if (input == NULL) {
        if (!link->ended) {
            BIO_set_retry_read(bio);
        }
        return link->ended ? 0 : -1;
    }
    size_t taken = there < (size_t)length ? there : (size_t)length;
    memcpy(data, input, taken);
    link_consume(link, taken);
    return (int)taken;
}

static inline long wire_bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static inline void wire_begin(bool server)
{
    link_begin();
    wires.server = server;
    wires.bio = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "link");
    BIO_meth_set_write(wires.bio, wire_bio_write);
    BIO_meth_set_read(wires.bio, wire_bio_read);
    BIO_meth_set_ctrl(wires.bio, wire_bio_control);
    wires.context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    SSL_CTX *library = wires.context;
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
    BIO *bio = BIO_new(wires.bio);
    wire->tls = SSL_new(wires.context);
    if (wire->tls == NULL || bio == NULL) {
        wire_die();
    }
    BIO_set_data(bio, &wire->link);
    BIO_set_init(bio, 1);
    SSL_set_bio(wire->tls, bio, bio);
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
    SSL_do_handshake(wire->tls); /* says the ClientHello; wire_input goes on with it */
}

static inline void wire_open(struct wire *wire, int fd)
{
    link_open(&wire->link, fd);
    wire->tls = NULL;
    wire->unsaid = (struct link_output){0};
    wire->clear_offset = wire->clear_length = 0;
    wire->broken = false;
    if (wires.implicit) {
        wire_secure(wire);
    }
}

static inline bool wire_upgrades(const struct wire *wire)
{
    return wire->tls == NULL;
}

static inline void wire_say(struct wire *wire, const void *data, size_t length)
{
    struct link_output *unsaid = &wire->unsaid;
    if (wire->tls == NULL) {
        link_say(&wire->link, data, length);
        return;
    }
    if (unsaid->room - unsaid->length < length) {
        unsaid->room = 2 * (unsaid->length + length);
        unsaid->data = realloc(unsaid->data, unsaid->room);
        if (unsaid->data == NULL) {
            link_die("realloc", ENOMEM);
        }
    }
    memcpy(unsaid->data + unsaid->length, data, length);
    unsaid->length += length;
}

static inline void wire_flush(struct wire *wire)
{
    size_t written;
    if (wire->tls == NULL || wire->unsaid.length == 0 || !SSL_is_init_finished(wire->tls)) {
        return;
    }
    if (SSL_write_ex(wire->tls, wire->unsaid.data, wire->unsaid.length, &written) != 1) {
        wire->broken = true;
        ERR_clear_error();
    }
    wire->unsaid.length = 0;
}

static inline void wire_read(struct wire *wire)
{
    wire->clear_offset = 0;
    int result = SSL_read_ex(wire->tls, wire->clear, sizeof wire->clear, &wire->clear_length);
    if (result != 1) {
        wire->clear_length = 0;
        int error = SSL_get_error(wire->tls, result);
        wire->broken |= error != SSL_ERROR_WANT_READ;
        ERR_clear_error();
    }
    wire_flush(wire);
}

static inline const char *wire_input(struct wire *wire, size_t *ret_length)
{
    if (wire->tls == NULL) {
        return link_input(&wire->link, ret_length);
    }
    if (wire->clear_length == 0 && !wire->broken) {
        wire_read(wire);
    }
    *ret_length = wire->clear_length;
    return wire->clear_length == 0 ? NULL : wire->clear + wire->clear_offset;
}

static inline void wire_consume(struct wire *wire, size_t length)
{
    if (wire->tls == NULL) {
        link_consume(&wire->link, length);
        return;
    }
    wire->clear_offset += length;
    wire->clear_length -= length;
}

static inline bool wire_ended(const struct wire *wire)
{
    return wire->broken || wire->link.ended;
}

static inline void wire_close(struct wire *wire)
{
    if (wire->tls != NULL) {
        wire_flush(wire);
        SSL_shutdown(wire->tls);
        ERR_clear_error();
    }
    link_close(&wire->link);
}

static inline void wire_free(struct wire *wire)
{
    SSL_free(wire->tls);
    free(wire->unsaid.data);
}

#endif
