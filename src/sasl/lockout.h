/* Who guesses passwords waits: failures by account and by client address, in memory that never grows.
 *
 * Not thread-safe; inbound/accounts holds a lock around it. Times are monotonic milliseconds.
 */
#ifndef SASL_LOCKOUT_H
#define SASL_LOCKOUT_H

#include "base/bytes.h"
#include "sasl/sasl_crypto.h"

#define LOCKOUT_ENTRIES_DEFAULT 65536 /* of accounts, of addresses and of known pairs each; 32 bytes */
#define LOCKOUT_ENTRIES_MAX (1u << 24)
#define LOCKOUT_FAILURES_MAX 1000 /* the largest of the limits of failures */
#define LOCKOUT_ACCOUNT_FAILURES_DEFAULT 10
#define LOCKOUT_ADDRESS_FAILURES_DEFAULT 30
#define LOCKOUT_TIME_MS_DEFAULT (60 * 1000u)       /* of the first lock; doubles each time */
#define LOCKOUT_TIME_MS_MAX_DEFAULT (3600 * 1000u) /* and stays at this */
#define LOCKOUT_FORGET_MS_DEFAULT (3600 * 1000u)   /* without a failure, after the lock's end */
#define LOCKOUT_DELAY_MS_DEFAULT 500               /* before the first refusal is said; doubles each time */
#define LOCKOUT_DELAY_MS_MAX_DEFAULT 8000
#define LOCKOUT_PENDING_MAX 64 /* attempts under way at once, of one account or address that has failed before */
#define LOCKOUT_KNOWN_MS (7ull * 24 * 3600 * 1000) /* an address where the account was right is known so long */

struct lockout_settings {
    unsigned entries; /* rounded up to a power of two */
    unsigned account_failures_max;
    unsigned address_failures_max; /* of an IPv4 address or an IPv6 /64 */
    uint64_t time_ms;
    uint64_t time_ms_max;
    uint64_t forget_ms;
    uint64_t delay_ms;
    uint64_t delay_ms_max;
};

/* The fields above in order; `entries` etc. at their defaults. */
struct lockout_settings lockout_defaults(void);

enum lockout_verdict { LOCKOUT_OPEN, LOCKOUT_ACCOUNT, LOCKOUT_ADDRESS };

struct lockout;

/* NULL without memory. `secret`: SASL_DIGEST_BYTES that nobody outside knows. */
struct lockout *lockout_new(const struct lockout_settings *settings, const struct sasl_crypto *crypto,
                            const uint8_t *secret);
void lockout_delete(struct lockout *lockout);
/* Other limits from now on; `entries` does not change. */
void lockout_set(struct lockout *lockout, const struct lockout_settings *settings);

/* One attempt, from the moment that its name is known to its verdict. Plain data. */
struct lockout_attempt {
    uint64_t account;
    uint64_t address;
    uint64_t pair;
    bool entered;
    bool known; /* the pair was right before */
};

/* May somebody at the address (16 bytes, IPv4 mapped) try the name? With LOCKOUT_OPEN the attempt counts as under way
 * until exactly one of lockout_fail, lockout_succeed, lockout_leave (undecided). */
enum lockout_verdict lockout_enter(struct lockout *lockout, struct bytes name, const uint8_t address[16],
                                   uint64_t now_ms, struct lockout_attempt *ret_attempt);
/* Returns how long to wait before saying so, ms. */
uint64_t lockout_fail(struct lockout *lockout, struct lockout_attempt *attempt, uint64_t now_ms);
void lockout_succeed(struct lockout *lockout, struct lockout_attempt *attempt, uint64_t now_ms);
void lockout_leave(struct lockout *lockout, struct lockout_attempt *attempt);

/* How many are locked now: a gauge; walks the tables. */
unsigned lockout_locked(const struct lockout *lockout, uint64_t now_ms);

#endif
