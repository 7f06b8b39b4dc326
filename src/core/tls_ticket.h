/* The keys under which a server context's session tickets are sealed (RFC 5077 4, RFC 8446 4.6.1).
 *
 * They belong to one context, are made from fresh random octets, are never written anywhere and never shared: a ticket
 * of one listener is worthless at another. A key seals for one period and opens for two; then it is overwritten, so
 * that who steals the process's memory later cannot read what was resumed with it.
 */
#ifndef CORE_TLS_TICKET_H
#define CORE_TLS_TICKET_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_TICKET_NAME_BYTES 16
#define TLS_TICKET_KEY_BYTES 32
#define TLS_TICKET_NONCE_BYTES 12
#define TLS_TICKET_TAG_BYTES 16

struct tls_ticket_key {
    uint8_t name[TLS_TICKET_NAME_BYTES];
    uint8_t key[TLS_TICKET_KEY_BYTES];
    uint64_t made_ms;
    bool valid;
};

/* Used by all threads. */
struct tls_ticket_keys {
    pthread_mutex_t mutex;
    uint64_t period_ms;
    struct tls_ticket_key current;
    struct tls_ticket_key previous;
};

void tls_ticket_init(struct tls_ticket_keys *keys, unsigned period_s);
void tls_ticket_free(struct tls_ticket_keys *keys);

/* Seals `length` octets in place. */
void tls_ticket_seal(struct tls_ticket_keys *keys, uint64_t now_ms, uint8_t ret_name[TLS_TICKET_NAME_BYTES],
                     uint8_t ret_nonce[TLS_TICKET_NONCE_BYTES], uint8_t ret_tag[TLS_TICKET_TAG_BYTES], uint8_t *data,
                     size_t length);

enum tls_ticket_opened {
    TLS_TICKET_BAD,   /* another's, forged, or of a key that is gone */
    TLS_TICKET_GOOD,  /* opened in place */
    TLS_TICKET_AGING, /* the same, but sealed with the previous key: time for a new one */
};
enum tls_ticket_opened tls_ticket_open(struct tls_ticket_keys *keys, uint64_t now_ms,
                                       const uint8_t name[TLS_TICKET_NAME_BYTES],
                                       const uint8_t nonce[TLS_TICKET_NONCE_BYTES],
                                       const uint8_t tag[TLS_TICKET_TAG_BYTES], uint8_t *data, size_t length);

#endif
