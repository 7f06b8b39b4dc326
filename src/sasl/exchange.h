/* One AUTH exchange of a server: bytes in, challenges and a verdict out. No I/O, no clock, no allocation.
 *
 *   event = exchange_begin(...);
 *   for (;;) switch (event) {
 *   case EXCHANGE_CHALLENGE: 334 base64(exchange_output); read the answer; event = exchange_step(answer);
 *   case EXCHANGE_WORK:      on another thread exchange_work(); then here event = exchange_worked();
 *   case EXCHANGE_TOKEN:     ask the verifier about token and user; event = exchange_answer(verdict, name);
 *   case EXCHANGE_DONE:      235, exchange->account
 *   case EXCHANGE_FAILED:    by exchange->failure
 *   }
 *   exchange_end();
 *
 * Preparation of names and passwords (RFC 4616 2, RFC 5802 2.2). SASLprep is NFKC plus tables of Unicode 3.2; for ASCII
 * it is the identity, minus control characters. ringpost does neither of the two: it refuses control characters and
 * what is not UTF-8, folds ASCII case of names, and takes the rest octet for octet. `ringpost passwd` refuses passwords
 * outside ASCII, so that no client's preparation can matter; an entry that another program made of a prepared password
 * works with clients that prepare.
 *
 * inbound/login does all of this for the session.
 */
#ifndef SASL_EXCHANGE_H
#define SASL_EXCHANGE_H

#include "sasl/credentials.h"
#include "sasl/mechanism.h"
#include "sasl/sasl_crypto.h"

#define EXCHANGE_INPUT_BYTES_MAX 9216 /* a decoded response: a 12288-octet line of base64, RFC 4954 4 */
#define EXCHANGE_NONCE_BYTES_MAX 256  /* the client's */
#define EXCHANGE_BINDING_BYTES_MAX 64 /* channel binding data */
#define EXCHANGE_TOKEN_BYTES_MAX 8192 /* OAuth access token */
#define EXCHANGE_OUTPUT_BYTES 640     /* largest challenge */
#define EXCHANGE_HEADER_BYTES 1024
#define EXCHANGE_MESSAGE_BYTES 4096 /* SCRAM's AuthMessage */
#define EXCHANGE_KEY_BYTES SASL_DIGEST_BYTES
#define EXCHANGE_CERTIFICATE_NAMES_MAX 16

enum exchange_event {
    EXCHANGE_CHALLENGE,
    EXCHANGE_WORK,
    EXCHANGE_TOKEN,
    EXCHANGE_DONE,
    EXCHANGE_FAILED,
};

enum exchange_failure {
    EXCHANGE_NO_FAILURE,
    EXCHANGE_REFUSED,   /* wrong name, password, proof, token, certificate, binding, authorization: 535 5.7.8 */
    EXCHANGE_MALFORMED, /* not what the mechanism's grammar allows: 501 5.5.2 */
    EXCHANGE_LOCKED,    /* `enter` said no: 454 4.7.0 */
    EXCHANGE_TEMPORARY, /* the verifier or a worker did not answer: 454 4.7.0 */
};

enum exchange_verdict { EXCHANGE_VALID, EXCHANGE_INVALID, EXCHANGE_UNAVAILABLE };

/* Functions given by the driver; any may be NULL. `recent` and `remember` are also called inside exchange_work and so
 * must be thread-safe. */
struct exchange_hooks {
    void *context;
    /* The name is known, nothing of it has been checked: may it be tried? Called at most once, for unknown names too.
     */
    bool (*enter)(void *context, struct bytes name);
    /* Was this very combination of account, verifier and password (a keyed digest) right a short time ago? */
    bool (*recent)(void *context, const uint8_t key[EXCHANGE_KEY_BYTES]);
    void (*remember)(void *context, const uint8_t key[EXCHANGE_KEY_BYTES]);
};

/* What surrounds the exchange. Everything stays as it is until exchange_end. */
struct exchange_scene {
    const struct sasl_crypto *crypto;
    const struct credentials *credentials;
    const uint8_t *secret; /* of the process, SASL_DIGEST_BYTES */
    struct exchange_hooks hooks;
    unsigned offered;          /* MECHANISM_BITs that EHLO announced on this connection as it is now */
    struct bytes exporter;     /* tls-exporter channel binding (RFC 9266); empty: not available */
    struct bytes end_point;    /* tls-server-end-point (RFC 5929 4) */
    struct bytes fingerprint;  /* of the client's certificate: "sha256:<hex>"; empty: no certificate */
    bool certificate_verified; /* by a CA that we trust for clients; then also its names count: */
    const struct bytes *certificate_names;
    unsigned certificate_names_count;
};

struct exchange {
    const struct exchange_scene *scene;
    enum mechanism mechanism;
    unsigned state; /* enum exchange_state, exchange_private.h */
    enum exchange_failure failure;
    const struct credentials_account *account;   /* EXCHANGE_DONE: who it is */
    const struct credentials_account *candidate; /* who it will be if the proof is right; NULL: nobody */
    struct bytes token;                          /* EXCHANGE_TOKEN: within the response that was just given */
    bool entered;                                /* hooks.enter has said yes */
    bool worked_right;
    uint16_t name_length;
    uint16_t authorization_length;
    uint16_t password_length;
    uint16_t output_length;
    uint16_t header_length;
    uint16_t message_length;
    uint16_t nonce_offset; /* of both nonces together, in the message */
    uint16_t nonce_length;
    struct credentials_verifier verifier;   /* the account's, or a decoy */
    uint8_t recent_key[EXCHANGE_KEY_BYTES]; /* account, verifier and password */
    char name[CREDENTIALS_NAME_BYTES_MAX];
    char authorization[CREDENTIALS_NAME_BYTES_MAX];
    char password[CREDENTIALS_PASSWORD_BYTES_MAX];
    char output[EXCHANGE_OUTPUT_BYTES];
    char header[EXCHANGE_HEADER_BYTES]; /* SCRAM: gs2-header and channel binding data */
    char message[EXCHANGE_MESSAGE_BYTES];
};

/* The mechanism must be one that was offered (CHECK). `response`: the initial response, decoded ("=" is an empty one);
 * has_response false: none was given. */
enum exchange_event exchange_begin(struct exchange *exchange, const struct exchange_scene *scene,
                                   enum mechanism mechanism, bool has_response, struct bytes response);

/* After EXCHANGE_CHALLENGE. */
enum exchange_event exchange_step(struct exchange *exchange, struct bytes response);

/* After EXCHANGE_WORK: the slow part, which may run on any one thread while the owner leaves the exchange alone. */
void exchange_work(struct exchange *exchange);
enum exchange_event exchange_worked(struct exchange *exchange);
/* Instead of both, when the work cannot be done: fails as EXCHANGE_TEMPORARY. */
enum exchange_event exchange_unworked(struct exchange *exchange);

/* After EXCHANGE_TOKEN. `name`: whose token it is; must be an account, and the user that was claimed, if one was. */
enum exchange_event exchange_answer(struct exchange *exchange, enum exchange_verdict verdict, struct bytes name);

/* Wipes everything. Also before the end, and twice. */
void exchange_end(struct exchange *exchange);

/* The challenge of EXCHANGE_CHALLENGE, not encoded; valid until the next step. */
static inline struct bytes exchange_output(const struct exchange *exchange)
{
    return bytes_of(exchange->output, exchange->output_length);
}

/* The name that was tried, folded to lower case; empty while unknown. */
static inline struct bytes exchange_name(const struct exchange *exchange)
{
    return bytes_of(exchange->name, exchange->name_length);
}

#endif
