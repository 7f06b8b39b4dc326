/* Shared by all shards, like inbound/admission, and for the same reasons: a limit on guessing has to hold over all of
 * them, it is asked once per AUTH, and an uncontended lock is nothing beside the hashing that follows.
 *
 * The password file is read by the control thread, made into an immutable table there, and swapped in under the lock.
 * Who works with the old one holds a reference.
 *
 * Nobody asks for a look at the file, so it may come at any moment, also while somebody writes: an editor that writes
 * in place empties the file first. A file that took the other's place by a rename is whole. One that was changed in
 * place is read when it has stood still from one look to the next, and never when nothing is left of it: whoever wants
 * to be without accounts says so by a reload.
 */
#include "inbound/accounts.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/crypto.h"
#include "sasl/recent.h"

struct accounts {
    pthread_mutex_t lock;
    const struct credentials *credentials;
    struct lockout *lockout;
    struct recent recent;
    uint64_t recent_ms;
    struct worker_pool *workers;
    struct stat loaded; /* what the file was when it was read; of the control thread alone, as is the next one */
    struct stat seen;   /* ... when it was last looked at */
    uint8_t secret[SASL_DIGEST_BYTES];
};

const struct sasl_crypto accounts_crypto = {
    .sha256 = crypto_sha256,
    .hmac_sha256 = crypto_hmac_sha256,
    .pbkdf2_sha256 = crypto_pbkdf2_sha256,
    .random = crypto_random,
    .equal = crypto_equal,
    .wipe = crypto_wipe,
};

static void no_report(void *context, const char *line)
{
    (void)context;
    (void)line;
}

int accounts_new(const struct accounts_settings *settings, struct accounts **ret_accounts)
{
    struct accounts *accounts = calloc(1, sizeof *accounts);
    if (accounts == NULL) {
        return -ENOMEM;
    }
    pthread_mutex_init(&accounts->lock, NULL);
    crypto_random(accounts->secret, sizeof accounts->secret);
    accounts->recent_ms = settings->recent_ms;
    accounts->recent.count = ACCOUNTS_RECENT_ENTRIES;
    accounts->recent.entries = calloc(ACCOUNTS_RECENT_ENTRIES, sizeof *accounts->recent.entries);
    accounts->credentials = credentials_parse(bytes_of(NULL, 0), "", no_report, NULL);
    accounts->lockout = lockout_new(&settings->lockout, &accounts_crypto, accounts->secret);
    int error = accounts->recent.entries == NULL || accounts->credentials == NULL || accounts->lockout == NULL
                    ? -ENOMEM
                    : worker_pool_new(settings->threads, settings->queue_max, &accounts->workers);
    if (error != 0) {
        accounts_delete(accounts);
        return error;
    }
    *ret_accounts = accounts;
    return 0;
}

void accounts_stop(struct accounts *accounts)
{
    worker_pool_stop(accounts->workers);
}

void accounts_delete(struct accounts *accounts)
{
    if (accounts->workers != NULL) {
        worker_pool_delete(accounts->workers);
    }
    if (accounts->lockout != NULL) {
        lockout_delete(accounts->lockout);
    }
    if (accounts->credentials != NULL) {
        credentials_give(accounts->credentials);
    }
    free(accounts->recent.entries);
    pthread_mutex_destroy(&accounts->lock);
    crypto_wipe(accounts->secret, sizeof accounts->secret);
    free(accounts);
}

void accounts_set(struct accounts *accounts, const struct accounts_settings *settings)
{
    pthread_mutex_lock(&accounts->lock);
    lockout_set(accounts->lockout, &settings->lockout);
    accounts->recent_ms = settings->recent_ms;
    pthread_mutex_unlock(&accounts->lock);
}

/* --- the file ------------------------------------------------------------------------------------------------ */

static void report_errno(const char *path, const char *what, credentials_report *report, void *context)
{
    char line[512];
    snprintf(line, sizeof line, "%.300s: %s: %s, expected a password file", path, what, strerror(errno));
    report(context, line);
}

/* The whole file into memory of ours, to be wiped. NULL after a report. */
static char *read_all(int file, const char *path, size_t size, credentials_report *report, void *context)
{
    char *text = malloc(size + 1);
    size_t length = 0;
    ssize_t got = text != NULL ? 1 : -1;
    while (length < size && got > 0) {
        got = read(file, text + length, size - length);
        length += got > 0 ? (size_t)got : 0;
    }
    if (text != NULL && length < size) {
        errno = got < 0 ? errno : EAGAIN; /* it was cut while we read */
        free(text);
        text = NULL;
    }
    if (text == NULL) {
        report_errno(path, "cannot be read", report, context);
    }
    return text;
}

static struct credentials *read_file(const char *path, struct stat *ret_found, credentials_report *report,
                                     void *context)
{
    struct credentials *credentials = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file < 0) {
        report_errno(path, "cannot be opened", report, context);
        return NULL;
    }
    if (fstat(file, ret_found) != 0 || !S_ISREG(ret_found->st_mode) ||
        ret_found->st_size > CREDENTIALS_FILE_BYTES_MAX) {
        errno = S_ISREG(ret_found->st_mode) ? EFBIG : EINVAL;
        report_errno(path, "is no regular file of a sensible size", report, context);
    } else {
        size_t size = (size_t)ret_found->st_size;
        char *text = read_all(file, path, size, report, context);
        if (text != NULL) {
            credentials = credentials_parse(bytes_of(text, size), path, report, context);
            crypto_wipe(text, size);
            free(text);
        }
    }
    close(file);
    return credentials;
}

struct credentials *accounts_read(const char *path, credentials_report *report, void *context)
{
    struct stat found;
    return read_file(path, &found, report, context);
}

static bool load(struct accounts *accounts, const char *path, bool may_be_empty, credentials_report *report,
                 void *context)
{
    char line[512];
    struct stat found = {0};
    struct credentials *credentials = read_file(path, &found, report, context);
    accounts->loaded = found; /* a bad file is not read again before it changes */
    if (credentials == NULL) {
        return false;
    }
    uint32_t before = credentials_count(accounts->credentials); /* nobody else changes it */
    if (!may_be_empty && before != 0 && credentials_count(credentials) == 0) {
        snprintf(line, sizeof line, "%.300s: no account is left of %u, expected one at least, or a reload", path,
                 before);
        report(context, line);
        credentials_give(credentials);
        return false;
    }
    pthread_mutex_lock(&accounts->lock);
    const struct credentials *old = accounts->credentials;
    accounts->credentials = credentials;
    pthread_mutex_unlock(&accounts->lock);
    credentials_give(old);
    return true;
}

bool accounts_load(struct accounts *accounts, const char *path, credentials_report *report, void *context)
{
    return load(accounts, path, true, report, context);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

enum accounts_change accounts_load_if_changed(struct accounts *accounts, const char *path, credentials_report *report,
                                              void *context)
{
    struct stat found = {0};
    if (stat(path, &found) != 0) {
        found = (struct stat){0}; /* a missing file is reported once */
    }
    bool in_place = found.st_ino == accounts->loaded.st_ino && found.st_dev == accounts->loaded.st_dev;
    bool moving = !is_same(&found, &accounts->seen);
    accounts->seen = found;
    if (is_same(&found, &accounts->loaded) || (in_place && moving)) {
        return ACCOUNTS_SAME;
    }
    return load(accounts, path, false, report, context) ? ACCOUNTS_LOADED : ACCOUNTS_BAD;
}

const struct credentials *accounts_credentials(struct accounts *accounts)
{
    pthread_mutex_lock(&accounts->lock);
    const struct credentials *credentials = credentials_take(accounts->credentials);
    pthread_mutex_unlock(&accounts->lock);
    return credentials;
}

/* --- attempts ------------------------------------------------------------------------------------------------ */

unsigned accounts_locked(struct accounts *accounts)
{
    pthread_mutex_lock(&accounts->lock);
    unsigned locked = lockout_locked(accounts->lockout, clock_monotonic_ms());
    pthread_mutex_unlock(&accounts->lock);
    return locked;
}

unsigned accounts_waiting(struct accounts *accounts)
{
    return worker_waiting(accounts->workers);
}

const uint8_t *accounts_secret(const struct accounts *accounts)
{
    return accounts->secret;
}

struct worker_pool *accounts_workers(struct accounts *accounts)
{
    return accounts->workers;
}

enum lockout_verdict accounts_enter(struct accounts *accounts, struct bytes name, const uint8_t address[16],
                                    struct lockout_attempt *ret_attempt)
{
    pthread_mutex_lock(&accounts->lock);
    enum lockout_verdict verdict = lockout_enter(accounts->lockout, name, address, clock_monotonic_ms(), ret_attempt);
    pthread_mutex_unlock(&accounts->lock);
    return verdict;
}

uint64_t accounts_fail(struct accounts *accounts, struct lockout_attempt *attempt)
{
    pthread_mutex_lock(&accounts->lock);
    uint64_t delay_ms = lockout_fail(accounts->lockout, attempt, clock_monotonic_ms());
    pthread_mutex_unlock(&accounts->lock);
    return delay_ms;
}

void accounts_succeed(struct accounts *accounts, struct lockout_attempt *attempt)
{
    pthread_mutex_lock(&accounts->lock);
    lockout_succeed(accounts->lockout, attempt, clock_monotonic_ms());
    pthread_mutex_unlock(&accounts->lock);
}

void accounts_leave(struct accounts *accounts, struct lockout_attempt *attempt)
{
    pthread_mutex_lock(&accounts->lock);
    lockout_leave(accounts->lockout, attempt);
    pthread_mutex_unlock(&accounts->lock);
}

bool accounts_recent(struct accounts *accounts, const uint8_t key[SASL_DIGEST_BYTES])
{
    pthread_mutex_lock(&accounts->lock);
    bool found = recent_find(&accounts->recent, &accounts_crypto, key, clock_monotonic_ms());
    pthread_mutex_unlock(&accounts->lock);
    return found;
}

void accounts_remember(struct accounts *accounts, const uint8_t key[SASL_DIGEST_BYTES])
{
    pthread_mutex_lock(&accounts->lock);
    if (accounts->recent_ms != 0) {
        recent_add(&accounts->recent, key, clock_monotonic_ms() + accounts->recent_ms);
    }
    pthread_mutex_unlock(&accounts->lock);
}
