/* TLS 1.2 and 1.3, through wolfSSL: what a listener or a route offers (struct tls_context), and what came of a
 * handshake (struct tls_facts). A stream is made secure by core/stream.h; core/tls_session.h is between the two.
 *
 * All text here that comes from a peer is bounded, free of NUL, and has every octet that is not printable ASCII, every
 * backslash and every quote replaced by `?`: it can be logged as it is.
 */
#ifndef CORE_TLS_H
#define CORE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* The version of the library that is linked in ("5.5.4"); static memory. */
const char *tls_library_version(void);

/* Prepares the library for use by all threads; call once, before shards start. Draws from the random generator, because
 * every later handshake trusts it: a machine without entropy refuses to start instead of serving with weak keys.
 * 0, or -EIO when the library refuses to initialise, or -ENODATA when the generator gives nothing usable. */
int tls_library_init(void);

/* --- contexts --------------------------------------------------------------------------------------------------- */

#define TLS_CERTIFICATES 64 /* per server context */
#define TLS_NAME_BYTES 256  /* names and other texts of a peer, with NUL */
#define TLS_REASON_BYTES 128
#define TLS_EXPORTER_BYTES 32
#define TLS_DIGEST_BYTES 64 /* room for the longest: SHA-512 */

enum tls_version { TLS_VERSION_1_2, TLS_VERSION_1_3 };

enum tls_client_certificate {
    TLS_CLIENT_CERTIFICATE_IGNORE,  /* never asked for */
    TLS_CLIENT_CERTIFICATE_ASK,     /* a missing or unknown one is no failure: facts.verified stays false */
    TLS_CLIENT_CERTIFICATE_REQUIRE, /* no session without a good one */
};

struct tls_certificate {
    const char *chain_file;          /* PEM: leaf first, then what leads to the root */
    const char *key_file;            /* PEM, without password */
    const char *const *server_names; /* "mx.example.org", "*.example.org"; without any it serves all other names */
    unsigned server_names_count;
};

struct tls_server_settings {
    const struct tls_certificate *certificates; /* ECDSA and RSA side by side: the client's abilities choose */
    unsigned certificates_count;                /* 1 to TLS_CERTIFICATES; at least one without names */
    enum tls_version version_min;
    enum tls_client_certificate client_certificate;
    const char *client_ca_file; /* PEM; needed for ASK and REQUIRE */
    /* Tickets: a key signs for this long and is accepted for as long again; 0 = no resumption. A context that asks for
     * client certificates never resumes, because what a ticket brings back is not a certificate. */
    unsigned ticket_key_seconds;
    bool exporter; /* facts.exporter is wanted (SCRAM-SHA-256-PLUS); costs two hashes per handshake */
};

struct tls_client_settings {
    enum tls_version version_min;
    bool trust;          /* false: verifies nothing, for opportunistic use only */
    const char *ca_file; /* PEM; NULL = the system's store */
};

/* Immutable once made; shared by all threads; sessions hold a reference, so that a new one can replace it while old
 * sessions go on with theirs. */
struct tls_context;

/* 0; or -EINVAL, -ENOENT, -ENOMEM ... with one line of text that names the file. The caller owns one reference. Ticket
 * keys are made here and are nobody else's: a ticket of one context is worthless at another. Not for a shard's loop. */
int tls_context_new_server(const struct tls_server_settings *settings, struct tls_context **ret_context, char *reason,
                           size_t reason_size);
int tls_context_new_client(const struct tls_client_settings *settings, struct tls_context **ret_context, char *reason,
                           size_t reason_size);
struct tls_context *tls_context_take(struct tls_context *context); /* one more reference */
void tls_context_give(struct tls_context *context);                /* NULL is nothing to give */

/* The earliest end of validity of the server context's certificates, in seconds since 1970: for a gauge and a warning.
 * 0 for a client context. */
int64_t tls_context_expires(const struct tls_context *context);

/* --- sessions --------------------------------------------------------------------------------------------------- */

/* A session holds 5 KiB when idle and up to 60 when its peer makes the most of it, so the process has a maximum (0 =
 * none; the default). A stream that starts TLS takes a place by itself; a server asks before it promises: a reply of
 * `454 4.7.0 TLS not available` is kinder than to hang up. */
void tls_session_limit(unsigned sessions_max);
bool tls_session_room(void);

/* What the client makes of the server's certificate. */
enum tls_verify {
    TLS_VERIFY_NONE, /* goes on whatever it is; nothing is verified */
    TLS_VERIFY_NAME, /* chain, validity and host name must be right, or the handshake fails */
};

struct tls_facts {
    const char *version; /* "TLSv1.3" */
    const char *cipher;  /* "TLS_AES_128_GCM_SHA256", IANA names */
    unsigned bits;       /* of the cipher's key */
    bool resumed;
    bool peer_certificate; /* there was one, and it was looked at */
    bool verified;         /* and it is good (client side: and of the right name) */
    const char
        *server_name; /* server side: SNI that the client gave, lower case; "" without, "?" if it was no host name */
    const char *peer_subject; /* "/C=DE/O=Example/CN=mx.example.org"; "" without a certificate */
    /* The first e-mail address of the peer certificate's alternative names, else its first DNS name, else its common
     * name; "" when it has none, or one with strange octets. */
    const char *peer_name;
    const char *peer_problem;     /* why it is not verified; "" when it is, or none was looked at */
    uint8_t peer_fingerprint[32]; /* SHA-256 of the peer's certificate */
    /* Channel bindings (RFC 9266, RFC 5929), for the server as asked in its settings; length 0 = not available. */
    uint8_t exporter[TLS_EXPORTER_BYTES];
    unsigned exporter_bytes;
    uint8_t server_end_point[TLS_DIGEST_BYTES];
    unsigned server_end_point_bytes;
};

#endif
