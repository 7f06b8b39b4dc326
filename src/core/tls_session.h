/* One connection's TLS between memory and memory: what comes in is pulled from whoever feeds it, what goes out stands
 * in a block until somebody has sent it. It knows no ring; core/stream_tls puts it on one, and a fuzzer feeds it as it
 * is.
 *
 * Memory is bounded whatever the peer does: at most one block in (a ClientHello, then plaintext that nobody has read
 * yet), one block out (what the peer has not taken yet), and what the library needs for one record or for one message
 * of the handshake. With nothing unread and nothing unsent there is no block.
 */
#ifndef CORE_TLS_SESSION_H
#define CORE_TLS_SESSION_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "core/tls.h"

#define TLS_BLOCK_BYTES 20480 /* holds a full record; the allocator has this size */

struct WOLFSSL;
struct WOLFSSL_CTX;
struct WOLFSSL_X509_STORE_CTX;
struct tls_leaf;

#define TLS_BLOCK_RECORDS 7

struct tls_block {
    uint32_t begin;
    uint32_t end;
    /* Going out: the records that hold what tls_session_write was given. */
    uint32_t record_count;
    struct {
        uint16_t end;         /* of the record in `data` */
        uint16_t plain_bytes; /* in it, and behind the one before */
    } records[TLS_BLOCK_RECORDS];
    uint8_t data[TLS_BLOCK_BYTES - 12 - 4 * TLS_BLOCK_RECORDS];
};

static_assert(sizeof(struct tls_block) == TLS_BLOCK_BYTES, "no padding");

enum tls_phase {
    TLS_PHASE_HELLO,     /* server: the ClientHello is not all there */
    TLS_PHASE_HANDSHAKE, /* the library works on it */
    TLS_PHASE_OPEN,
    TLS_PHASE_ENDED, /* the peer has said close_notify: no more input */
    TLS_PHASE_FAILED,
};

struct tls_session {
    struct tls_context *context;
    const struct tls_leaf *leaf; /* server: the certificate it serves */
    struct WOLFSSL *engine;
    /* Gives up to `length` octets of what has been received; 0 when there is nothing. */
    size_t (*pull)(struct tls_session *session, void *data, size_t length);
    struct tls_block *input;
    struct tls_block *output;
    enum tls_phase phase;
    int error;          /* of FAILED, as -errno */
    uint32_t fruitless; /* octets since the last one of plaintext, or since the start */
    uint32_t hello_need;
    bool refused : 1; /* we refused the peer's certificate */
    bool extended_master : 1;
    bool said_goodbye : 1;
    enum tls_verify verify;
    char *reason;
    struct tls_facts facts;
};

/* In a zeroed session that stays where it is. 0, -EBUSY when there are too many, or -ENOMEM; then there is nothing to
 * free. A client's first words are there after the first tls_session_advance. */
int tls_session_init_server(struct tls_session *session, struct tls_context *context,
                            size_t (*pull)(struct tls_session *session, void *data, size_t length));
int tls_session_init_client(struct tls_session *session, struct tls_context *context, const char *name,
                            enum tls_verify verify,
                            size_t (*pull)(struct tls_session *session, void *data, size_t length));
void tls_session_free(struct tls_session *session);

/* Goes on with the handshake and with decryption, as far as input and room go. What changed is to be seen in `phase`,
 * tls_session_input and tls_session_output. */
void tls_session_advance(struct tls_session *session);

/* Plaintext, one run. When all of it is consumed, there may be more after tls_session_advance. */
struct bytes tls_session_input(const struct tls_session *session);
void tls_session_consume(struct tls_session *session, size_t n);

/* Encrypts from the front of the pieces as much as there is room for and takes it off them. When everything has been
 * taken *count is 0. 0 or -EPIPE. OPEN or ENDED only. */
int tls_session_write(struct tls_session *session, struct iovec **pieces, size_t *count);

/* What is to be sent, and what of it has been. Its place does not change while more is added behind it. */
struct bytes tls_session_output(const struct tls_session *session);
void tls_session_sent(struct tls_session *session, size_t n);
/* Octets that tls_session_write took and whose records have not been sent wholly: nobody can have read them yet. */
size_t tls_session_unsent(const struct tls_session *session);

/* True when there is no room for what the library may have to answer, so that it gets no more input. */
bool tls_session_choked(const struct tls_session *session);
/* Ends an open session because of the peer: FAILED, for that reason. */
void tls_session_give_up(struct tls_session *session, const char *reason);

/* Adds close_notify to the output, if there is a session to close and room for it. Nothing may be written any more. */
void tls_session_goodbye(struct tls_session *session);

/* For tls_context: hangs our callbacks into a library context; the library's callback for certificates. */
void tls_session_prepare(struct WOLFSSL_CTX *library);
int tls_session_judge(int good, struct WOLFSSL_X509_STORE_CTX *store);

#endif
