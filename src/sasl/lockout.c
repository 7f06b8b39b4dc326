/* Counting failures in memory that an attacker cannot fill, and cannot use.
 *
 * There are three tables of one shape: accounts, addresses, and pairs of both that have been right before. An entry
 * lies in one of the eight places of its set; which set, a keyed digest of its name decides. A full set makes room by
 * dropping the entry that matters least: not locked before locked, then the fewest failures, then the oldest.
 *
 * Why an attacker cannot unlock himself. Entries are made by failing, so he can make many, from many addresses or with
 * many invented names. But a newcomer has one failure, and is itself what the next newcomer replaces: entries that have
 * more stay. To push out one with k failures he must bring the seven others of its set beyond k; he does not know which
 * names share the set, so he has to do it to most sets of the table: about k times the table's size of failures, for
 * k more guesses. Waiting is cheaper, and waiting is what we want of him. Locked entries outlast all that are not.
 * When even all eight are locked, the one whose lock ends first goes.
 *
 * Why an attacker cannot lock the owner out. Failures lock an account for everybody, or a botnet would have one guess
 * per host. Except: an address from which the account was right before (the third table) is not asked about the
 * account's lock, only about its own. Who guesses from there must be behind the owner's own address, and that one locks
 * too. A success takes nothing off the account's failures, nor off the address's: otherwise one who has an account of
 * his own would wash his address with it between guesses.
 *
 * Failures at once. Between the question and the verdict lie tens of milliseconds, enough for a thousand guesses side
 * by side that all ask before one has failed. So attempts under way are counted too: as long as an account or address
 * has failures, those under way plus those failed stay within what is allowed; without any failure LOCKOUT_PENDING_MAX
 * may be under way, so that a bulk sender may open many connections at once. A crowd at an address that is known for
 * the account is not limited.
 *
 * Time: a lock lasts time_ms, twice as long each further time, up to time_ms_max. During it nothing is counted, so
 * asking makes it no longer. After it, and after each failure, everything is forgotten when forget_ms pass without
 * another.
 */
#include "sasl/lockout.h"

#include <assert.h>
#include <stdlib.h>

#define WAYS 8

struct entry {
    uint64_t key; /* 0: empty */
    uint64_t locked_until_ms;
    uint64_t seen_ms;  /* the last failure (of a pair: the last success) */
    uint16_t failures; /* since the last lock */
    uint16_t locks;    /* in a row */
    uint32_t pending;
};
static_assert(sizeof(struct entry) == 32, "as lockout.h says");

struct table {
    struct entry *entries;
    uint32_t mask; /* of sets */
};

struct lockout {
    struct lockout_settings settings;
    const struct sasl_crypto *crypto;
    uint8_t secret[SASL_DIGEST_BYTES];
    struct table accounts;
    struct table addresses;
    struct table pairs;
};

struct lockout_settings lockout_defaults(void)
{
    return (struct lockout_settings){
        .entries = LOCKOUT_ENTRIES_DEFAULT,
        .account_failures_max = LOCKOUT_ACCOUNT_FAILURES_DEFAULT,
        .address_failures_max = LOCKOUT_ADDRESS_FAILURES_DEFAULT,
        .time_ms = LOCKOUT_TIME_MS_DEFAULT,
        .time_ms_max = LOCKOUT_TIME_MS_MAX_DEFAULT,
        .forget_ms = LOCKOUT_FORGET_MS_DEFAULT,
        .delay_ms = LOCKOUT_DELAY_MS_DEFAULT,
        .delay_ms_max = LOCKOUT_DELAY_MS_MAX_DEFAULT,
    };
}

static bool table_init(struct table *table, unsigned entries)
{
    uint32_t sets = 1;
    while (sets * WAYS < entries) {
        sets *= 2;
    }
    table->mask = sets - 1;
    table->entries = calloc((size_t)sets * WAYS, sizeof *table->entries);
    return table->entries != NULL;
}

struct lockout *lockout_new(const struct lockout_settings *settings, const struct sasl_crypto *crypto,
                            const uint8_t *secret)
{
    CHECK(settings->entries >= 1 && settings->entries <= LOCKOUT_ENTRIES_MAX);
    struct lockout *lockout = calloc(1, sizeof *lockout);
    if (lockout == NULL) {
        return NULL;
    }
    lockout_set(lockout, settings);
    lockout->crypto = crypto;
    memcpy(lockout->secret, secret, sizeof lockout->secret);
    if (!table_init(&lockout->accounts, settings->entries) || !table_init(&lockout->addresses, settings->entries) ||
        !table_init(&lockout->pairs, settings->entries)) {
        lockout_delete(lockout);
        return NULL;
    }
    return lockout;
}

void lockout_delete(struct lockout *lockout)
{
    free(lockout->accounts.entries);
    free(lockout->addresses.entries);
    free(lockout->pairs.entries);
    lockout->crypto->wipe(lockout->secret, sizeof lockout->secret);
    free(lockout);
}

void lockout_set(struct lockout *lockout, const struct lockout_settings *settings)
{
    CHECK(settings->account_failures_max >= 1 && settings->address_failures_max >= 1);
    CHECK(settings->account_failures_max <= LOCKOUT_FAILURES_MAX);
    CHECK(settings->address_failures_max <= LOCKOUT_FAILURES_MAX);
    lockout->settings = *settings;
}

/* --- one table ----------------------------------------------------------------------------------------------- */

static struct entry *find(const struct table *table, uint64_t key)
{
    struct entry *set = &table->entries[(size_t)(key & table->mask) * WAYS];
    for (unsigned i = 0; i < WAYS && key != 0; i++) {
        if (set[i].key == key) {
            return &set[i];
        }
    }
    return NULL;
}

static bool matters_less(const struct entry *a, const struct entry *b, uint64_t now_ms)
{
    bool a_locked = a->locked_until_ms > now_ms;
    bool b_locked = b->locked_until_ms > now_ms;
    if (a->key == 0 || b->key == 0) {
        return a->key == 0 && b->key != 0;
    }
    if (a_locked != b_locked) {
        return b_locked;
    }
    if (a_locked) {
        return a->locked_until_ms < b->locked_until_ms;
    }
    uint32_t a_weight = a->failures + (uint32_t)a->locks * LOCKOUT_FAILURES_MAX;
    uint32_t b_weight = b->failures + (uint32_t)b->locks * LOCKOUT_FAILURES_MAX;
    return a_weight != b_weight ? a_weight < b_weight : a->seen_ms < b->seen_ms;
}

static void forget_old(const struct lockout *lockout, struct entry *entry, uint64_t now_ms)
{
    uint64_t quiet_since_ms = entry->seen_ms > entry->locked_until_ms ? entry->seen_ms : entry->locked_until_ms;
    if (now_ms >= quiet_since_ms + lockout->settings.forget_ms) {
        entry->failures = 0;
        entry->locks = 0;
    }
}

/* Finds or makes it; NULL for the key 0. */
static struct entry *obtain(const struct lockout *lockout, const struct table *table, uint64_t key, uint64_t now_ms)
{
    struct entry *found = find(table, key);
    if (found != NULL || key == 0) {
        return found;
    }
    struct entry *set = &table->entries[(size_t)(key & table->mask) * WAYS];
    struct entry *least = set;
    for (unsigned i = 0; i < WAYS; i++) {
        forget_old(lockout, &set[i], now_ms);
        least = matters_less(&set[i], least, now_ms) ? &set[i] : least;
    }
    *least = (struct entry){.key = key, .seen_ms = now_ms};
    return least;
}

/* --- attempts ------------------------------------------------------------------------------------------------ */

static uint64_t key_of(const struct lockout *lockout, char kind, struct bytes name, struct bytes address)
{
    char room[1 + 16 + 512];
    struct buffer text = buffer_of(room, sizeof room);
    uint8_t digest[SASL_DIGEST_BYTES];
    CHECK(buffer_append(&text, bytes_of(&kind, 1)) && buffer_append(&text, address) && buffer_append(&text, name));
    lockout->crypto->hmac_sha256(bytes_of(lockout->secret, sizeof lockout->secret), buffer_bytes(&text), digest);
    uint64_t key;
    memcpy(&key, digest, sizeof key);
    return key != 0 ? key : 1;
}

/* IPv4 (mapped) counts whole, IPv6 by its /64: that is what one customer gets. */
static struct bytes prefix_of(const uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return bytes_of(address, memcmp(address, mapped, sizeof mapped) == 0 ? 16 : 8);
}

static bool may_enter(const struct lockout *lockout, const struct table *table, uint64_t key, unsigned failures_max,
                      uint64_t now_ms)
{
    struct entry *entry = find(table, key);
    if (entry == NULL) {
        return true;
    }
    forget_old(lockout, entry, now_ms);
    unsigned left = entry->failures < failures_max ? failures_max - entry->failures : 1; /* the limit may have sunk */
    unsigned pending_max = entry->failures == 0 && entry->locks == 0 ? LOCKOUT_PENDING_MAX : left;
    return entry->locked_until_ms <= now_ms && entry->pending < pending_max;
}

static void enter(const struct lockout *lockout, const struct table *table, uint64_t key, uint64_t now_ms)
{
    struct entry *entry = obtain(lockout, table, key, now_ms);
    if (entry != NULL) {
        entry->pending++;
    }
}

static void leave(const struct table *table, uint64_t key)
{
    struct entry *entry = find(table, key);
    if (entry != NULL && entry->pending != 0) { /* it may have been dropped and made again meanwhile */
        entry->pending--;
    }
}

enum lockout_verdict lockout_enter(struct lockout *lockout, struct bytes name, const uint8_t address[16],
                                   uint64_t now_ms, struct lockout_attempt *ret_attempt)
{
    const struct lockout_settings *settings = &lockout->settings;
    struct bytes prefix = prefix_of(address);
    struct lockout_attempt attempt = {.address = key_of(lockout, 'i', bytes_of(NULL, 0), prefix), .entered = true};
    bool known = false;
    if (name.length != 0) {
        attempt.account = key_of(lockout, 'a', name, bytes_of(NULL, 0));
        attempt.pair = key_of(lockout, 'p', name, prefix);
        const struct entry *pair = find(&lockout->pairs, attempt.pair);
        known = pair != NULL && now_ms - pair->seen_ms < LOCKOUT_KNOWN_MS;
    }
    if (known) {
        const struct entry *entry = find(&lockout->addresses, attempt.address);
        if (entry != NULL && entry->locked_until_ms > now_ms) {
            return LOCKOUT_ADDRESS;
        }
    } else if (!may_enter(lockout, &lockout->addresses, attempt.address, settings->address_failures_max, now_ms)) {
        return LOCKOUT_ADDRESS;
    } else if (!may_enter(lockout, &lockout->accounts, attempt.account, settings->account_failures_max, now_ms)) {
        return LOCKOUT_ACCOUNT;
    }
    if (!known) {
        enter(lockout, &lockout->accounts, attempt.account, now_ms);
        enter(lockout, &lockout->addresses, attempt.address, now_ms);
    }
    attempt.known = known;
    *ret_attempt = attempt;
    return LOCKOUT_OPEN;
}

void lockout_leave(struct lockout *lockout, struct lockout_attempt *attempt)
{
    CHECK(attempt->entered);
    attempt->entered = false;
    if (!attempt->known) {
        leave(&lockout->accounts, attempt->account);
        leave(&lockout->addresses, attempt->address);
    }
}

static uint64_t doubled(uint64_t value_ms, unsigned times, uint64_t max_ms)
{
    while (times-- > 0 && value_ms < max_ms) {
        value_ms *= 2;
    }
    return value_ms < max_ms ? value_ms : max_ms;
}

/* Returns how many failures it has, those before earlier locks included. */
static unsigned fail(const struct lockout *lockout, const struct table *table, uint64_t key, unsigned failures_max,
                     uint64_t now_ms)
{
    struct entry *entry = obtain(lockout, table, key, now_ms);
    if (entry == NULL) {
        return 0;
    }
    forget_old(lockout, entry, now_ms);
    if (entry->locked_until_ms <= now_ms) {
        entry->seen_ms = now_ms;
        entry->failures++;
    }
    if (entry->failures >= failures_max) {
        entry->locked_until_ms = now_ms +
                                 doubled(lockout->settings.time_ms, entry->locks, lockout->settings.time_ms_max);
        entry->failures = 0;
        if (entry->locks < LOCKOUT_FAILURES_MAX) {
            entry->locks++;
        }
    }
    return entry->failures + entry->locks * failures_max;
}

uint64_t lockout_fail(struct lockout *lockout, struct lockout_attempt *attempt, uint64_t now_ms)
{
    const struct lockout_settings *settings = &lockout->settings;
    lockout_leave(lockout, attempt);
    unsigned account = fail(lockout, &lockout->accounts, attempt->account, settings->account_failures_max, now_ms);
    unsigned address = fail(lockout, &lockout->addresses, attempt->address, settings->address_failures_max, now_ms);
    unsigned failures = account > address ? account : address;
    return doubled(settings->delay_ms, failures - 1, settings->delay_ms_max);
}

void lockout_succeed(struct lockout *lockout, struct lockout_attempt *attempt, uint64_t now_ms)
{
    lockout_leave(lockout, attempt);
    struct entry *pair = obtain(lockout, &lockout->pairs, attempt->pair, now_ms);
    if (pair != NULL) {
        pair->seen_ms = now_ms;
    }
}

unsigned lockout_locked(const struct lockout *lockout, uint64_t now_ms)
{
    unsigned locked = 0;
    for (size_t i = 0; i < ((size_t)lockout->accounts.mask + 1) * WAYS; i++) {
        locked += lockout->accounts.entries[i].locked_until_ms > now_ms;
        locked += lockout->addresses.entries[i].locked_until_ms > now_ms;
    }
    return locked;
}
