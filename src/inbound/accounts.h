/* Everything about accounts that all shards share: the password file as it is now, lockout, recent successes, the
 * workers. Thread-safe; behind inbound/login, which is all that a session needs. */
#ifndef INBOUND_ACCOUNTS_H
#define INBOUND_ACCOUNTS_H

#include "core/worker.h"
#include "sasl/credentials.h"
#include "sasl/lockout.h"

#define ACCOUNTS_RECENT_ENTRIES 4096                 /* 40 bytes each */
#define ACCOUNTS_RECENT_MS_DEFAULT (10 * 60 * 1000u) /* a right password is known again without its KDF */

struct accounts_settings {
    struct lockout_settings lockout; /* lockout_defaults() */
    unsigned threads;                /* workers */
    unsigned queue_max;              /* logins that wait for one; then 454 */
    uint64_t recent_ms;              /* 0: never remembered */
};

struct accounts;

/* 0 or -errno. Without accounts until accounts_load. */
int accounts_new(const struct accounts_settings *settings, struct accounts **ret_accounts);
/* Before the shards' loops end: logins under way end as temporarily failed. Then, after them: */
void accounts_stop(struct accounts *accounts);
void accounts_delete(struct accounts *accounts);

/* Other limits; threads, queue and entries stay. */
void accounts_set(struct accounts *accounts, const struct accounts_settings *settings);

/* Reads a password file: NULL and at least one line to `report` with any mistake. Blocks: not for a shard. */
struct credentials *accounts_read(const char *path, credentials_report *report, void *context);

/* Reads and takes over; false leaves those in force. accounts_load_if_changed looks at the file's inode, size and times
 * first: for a timer of the control thread. What was changed in place is taken over when two looks have seen the same,
 * and not without any account. */
enum accounts_change { ACCOUNTS_SAME, ACCOUNTS_LOADED, ACCOUNTS_BAD };
bool accounts_load(struct accounts *accounts, const char *path, credentials_report *report, void *context);
enum accounts_change accounts_load_if_changed(struct accounts *accounts, const char *path, credentials_report *report,
                                              void *context);

/* Those in force, never NULL; credentials_give when done. */
const struct credentials *accounts_credentials(struct accounts *accounts);

/* Gauges. */
unsigned accounts_locked(struct accounts *accounts);
unsigned accounts_waiting(struct accounts *accounts);

/* For inbound/login. */
extern const struct sasl_crypto accounts_crypto;
const uint8_t *accounts_secret(const struct accounts *accounts); /* SASL_DIGEST_BYTES, drawn at the start */
struct worker_pool *accounts_workers(struct accounts *accounts);
enum lockout_verdict accounts_enter(struct accounts *accounts, struct bytes name, const uint8_t address[16],
                                    struct lockout_attempt *ret_attempt);
uint64_t accounts_fail(struct accounts *accounts, struct lockout_attempt *attempt);
void accounts_succeed(struct accounts *accounts, struct lockout_attempt *attempt);
void accounts_leave(struct accounts *accounts, struct lockout_attempt *attempt);
bool accounts_recent(struct accounts *accounts, const uint8_t key[SASL_DIGEST_BYTES]);
void accounts_remember(struct accounts *accounts, const uint8_t key[SASL_DIGEST_BYTES]);

#endif
