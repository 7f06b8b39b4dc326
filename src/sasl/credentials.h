/* The password file in memory: accounts, how each proves who it is, and what it may do then.
 *
 * Immutable once made, shared by all threads, counted references; a reload makes a new one and whoever still works with
 * the old one keeps it. The text format (docs/operations.md, "Accounts"), one account per line:
 *
 *   alice@example.com:{SCRAM-SHA-256}100000,SALT,STOREDKEY,SERVERKEY sender=@example.com tenant=shop
 *   robot:- certificate=sha256:0123...ef sender=robot@example.com
 *   !decoy:BASE64
 *
 * SALT, STOREDKEY and SERVERKEY are base64 (RFC 5803's values). `-` is an account without password: only for EXTERNAL
 * and OAuth. Empty lines and lines that begin with '#' are skipped. Names are compared without regard to ASCII case.
 * Options, separated by spaces, `sender` and `certificate` repeatable:
 *   sender=ADDRESS | @DOMAIN | @.DOMAIN (subdomains) | *    default: the account's name when it is an address
 *   tenant=NAME
 *   certificate=sha256:HEX (a certificate, whoever signed it) | certificate=NAME (in a verified certificate)
 *   disabled
 * The `!decoy` line is the key under which unknown names get salts that stay the same over restarts.
 */
#ifndef SASL_CREDENTIALS_H
#define SASL_CREDENTIALS_H

#include "base/bytes.h"
#include "sasl/sasl_crypto.h"

#define CREDENTIALS_FILE_BYTES_MAX (256u << 20)
#define CREDENTIALS_LINE_BYTES_MAX 4096
#define CREDENTIALS_ACCOUNTS_MAX 1000000
#define CREDENTIALS_NAME_BYTES_MAX 255 /* RFC 4616 2 */
#define CREDENTIALS_PASSWORD_BYTES_MAX 512
#define CREDENTIALS_TENANT_BYTES_MAX 63
#define CREDENTIALS_SENDERS_MAX 64      /* of one account */
#define CREDENTIALS_CERTIFICATES_MAX 16 /* of one account */
#define CREDENTIALS_SALT_BYTES_MIN 8
#define CREDENTIALS_SALT_BYTES_MAX 64
#define CREDENTIALS_SALT_BYTES_DEFAULT 16
#define CREDENTIALS_ITERATIONS_MIN 4096 /* RFC 7677 4 */
#define CREDENTIALS_ITERATIONS_MAX 10000000
#define CREDENTIALS_ITERATIONS_DEFAULT 100000
#define CREDENTIALS_ERRORS_MAX 20 /* reported of one file */

/* RFC 5802 3: what is kept instead of a password. */
struct credentials_verifier {
    uint32_t iterations; /* 0: no password */
    uint8_t salt_length;
    uint8_t salt[CREDENTIALS_SALT_BYTES_MAX];
    uint8_t stored_key[SASL_DIGEST_BYTES];
    uint8_t server_key[SASL_DIGEST_BYTES];
};

struct credentials_account {
    struct bytes name; /* lower case */
    struct credentials_verifier verifier;
    struct bytes tenant; /* or empty */
    bool disabled;
    uint32_t senders_first; /* into the table's list */
    uint32_t senders_count;
    uint32_t certificates_count;
    unsigned line; /* of the file */
};

struct credentials;

typedef void credentials_report(void *context, const char *line);

/* Reads the text of a password file. Every mistake is reported as `path:line: what is wrong, expected what`, at most
 * CREDENTIALS_ERRORS_MAX of them. NULL with any mistake or without memory. `text` is copied. */
struct credentials *credentials_parse(struct bytes text, const char *path, credentials_report *report, void *context);

/* One more owner; one less, the last of which frees it. Thread-safe. */
const struct credentials *credentials_take(const struct credentials *credentials);
void credentials_give(const struct credentials *credentials);

/* NULL: no such account. Disabled ones are found. */
const struct credentials_account *credentials_find(const struct credentials *credentials, struct bytes name);

/* By client certificate: "sha256:<64 lower-case hex digits>" or a name in it. */
const struct credentials_account *credentials_find_certificate(const struct credentials *credentials,
                                                               struct bytes identity);

uint32_t credentials_count(const struct credentials *credentials);
const struct credentials_account *credentials_at(const struct credentials *credentials, uint32_t index);
struct bytes credentials_sender(const struct credentials *credentials, const struct credentials_account *account,
                                uint32_t index);

/* May the account send as this address (without <>)? The null reverse-path (empty) it always may: notifications. */
bool credentials_may_send(const struct credentials *credentials, const struct credentials_account *account,
                          struct bytes address);

/* What stands in for an account that does not exist: a salt derived from the name under the file's decoy key (under
 * `secret` when it has none), iterations and salt length as most accounts have, keys that nothing matches. */
void credentials_decoy(const struct credentials *credentials, const struct sasl_crypto *crypto,
                       const uint8_t secret[SASL_DIGEST_BYTES], struct bytes name,
                       struct credentials_verifier *ret_verifier);

/* The verifier of a password. `salt` has CREDENTIALS_SALT_BYTES_DEFAULT bytes. Slow, by `iterations`. */
void credentials_derive(const struct sasl_crypto *crypto, struct bytes password, struct bytes salt, uint32_t iterations,
                        struct credentials_verifier *ret_verifier);

/* Is it the password? Slow. */
bool credentials_verify(const struct sasl_crypto *crypto, const struct credentials_verifier *verifier,
                        struct bytes password);

/* The verifier as the file writes it. False: no room. */
#define CREDENTIALS_VERIFIER_TEXT_BYTES 320
bool credentials_append_verifier(struct buffer *out, const struct credentials_verifier *verifier);

#endif
