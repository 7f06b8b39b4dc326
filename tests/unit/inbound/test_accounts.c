/* What all shards share of accounts, used by many threads at once while the password file is read again: what the
 * thread sanitizer is for. */
#include "inbound/accounts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sasl/recent.h"

#define THREADS 4
#define ROUNDS 2000
#define RELOADS 100

struct user {
    struct accounts *accounts;
    unsigned number;
    unsigned forgotten; /* keys that were not known right after they were remembered */
};

static void no_report(void *context, const char *line)
{
    (void)context;
    (void)line;
}

/* Logs in, every other time with success. Each thread has a name, an address and keys of its own. */
static void *use(void *context)
{
    struct user *user = context;
    uint8_t address[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)user->number};
    uint8_t key[SASL_DIGEST_BYTES] = {0};
    char name[] = "user0";
    name[4] = (char)('0' + user->number);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct lockout_attempt attempt;
        const struct credentials *credentials = accounts_credentials(user->accounts);
        if (accounts_enter(user->accounts, bytes_of(name, 5), address, &attempt) == LOCKOUT_OPEN) {
            switch (i % 3) {
            case 0: accounts_fail(user->accounts, &attempt); break;
            case 1: accounts_leave(user->accounts, &attempt); break;
            default: accounts_succeed(user->accounts, &attempt);
            }
        }
        unsigned mine = (i * THREADS + user->number) * RECENT_WAYS; /* no two threads meet in one place of the table */
        memcpy(key, &mine, sizeof mine);
        accounts_remember(user->accounts, key);
        user->forgotten += !accounts_recent(user->accounts, key);
        mine ^= RECENT_WAYS; /* another's, known or not */
        memcpy(key, &mine, sizeof mine);
        accounts_recent(user->accounts, key);
        credentials_give(credentials);
    }
    return NULL;
}

static void test_many_threads_and_a_file_that_changes(void **state)
{
    struct accounts_settings settings = {
        .lockout = lockout_defaults(), .threads = 1, .queue_max = 8, .recent_ms = ACCOUNTS_RECENT_MS_DEFAULT};
    struct accounts *accounts = NULL;
    struct user users[THREADS];
    pthread_t threads[THREADS];
    char path[] = "/tmp/test_accounts.XXXXXX";
    int file = mkstemp(path);
    (void)state;
    assert_true(file >= 0);
    assert_int_equal(write(file, "# nobody\n", 9), 9);
    close(file);
    assert_int_equal(accounts_new(&settings, &accounts), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        users[i] = (struct user){.accounts = accounts, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, use, &users[i]), 0);
    }
    for (unsigned i = 0; i < RELOADS; i++) {
        assert_true(accounts_load(accounts, path, no_report, NULL));
        accounts_set(accounts, &settings);
        assert_true(accounts_locked(accounts) <= 2 * THREADS);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(users[i].forgotten, 0);
    }
    accounts_stop(accounts);
    accounts_delete(accounts);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_many_threads_and_a_file_that_changes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
