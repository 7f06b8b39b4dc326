#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "dns/cache.h"

#define SECOND 1000

static struct answer no_data(uint32_t ttl_s)
{
    return (struct answer){.status = ANSWER_NO_DATA, .ttl_s = ttl_s};
}

static void add_answer(struct cache *cache, const char *name, struct answer answer, uint64_t now_ms)
{
    struct cache_entry *entry = cache_add(cache, bytes_of_string(name), ANSWER_MX);
    assert_non_null(entry);
    cache_store(cache, entry, &answer, now_ms);
}

static bool knows(struct cache *cache, const char *name, uint64_t now_ms)
{
    struct cache_entry *entry = cache_find(cache, bytes_of_string(name), ANSWER_MX, now_ms);
    assert_true(entry == NULL || entry->answer != NULL);
    return entry != NULL;
}

static void time_to_live(void **state)
{
    static const struct {
        enum answer_status status;
        uint32_t ttl_s;
        uint32_t kept_s;
    } cases[] = {
        {ANSWER_RECORDS, 300, 300},
        {ANSWER_RECORDS, 0, CACHE_TTL_MIN_S},
        {ANSWER_RECORDS, 0x7fffffff, CACHE_TTL_MAX_S},
        {ANSWER_ALIAS, 30, 30},
        {ANSWER_NO_DATA, 30, 30},
        {ANSWER_NO_DATA, 1, CACHE_TTL_MIN_S},
        {ANSWER_NO_DATA, 0, CACHE_NEGATIVE_TTL_S},
        {ANSWER_NO_DOMAIN, 0, CACHE_NEGATIVE_TTL_S},
        {ANSWER_NO_DOMAIN, 86400, CACHE_NEGATIVE_TTL_MAX_S},
        {ANSWER_TEMPORARY, 0, CACHE_FAILURE_TTL_S},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cache *cache = cache_new(4);
        uint64_t end_ms = 777 + (uint64_t)cases[i].kept_s * SECOND;
        add_answer(cache, "a.example", (struct answer){.status = cases[i].status, .ttl_s = cases[i].ttl_s}, 777);
        assert_true(knows(cache, "a.example", end_ms - 1));
        assert_false(knows(cache, "a.example", end_ms));
        assert_int_equal(cache_count(cache), 0);
        cache_delete(cache);
    }
}

static void names_and_types(void **state)
{
    (void)state;
    struct cache *cache = cache_new(4);
    struct cache_entry *question = cache_add(cache, BYTES("Example.ORG."), ANSWER_A);
    assert_true(bytes_equal(cache_entry_name(question), BYTES("example.org")));
    assert_int_equal(cache_entry_type(question), ANSWER_A);
    assert_ptr_equal(cache_find(cache, BYTES("EXAMPLE.org"), ANSWER_A, 0), question);
    assert_null(cache_find(cache, BYTES("example.org"), ANSWER_AAAA, 0));
    assert_null(question->answer);
    struct answer_record record = {.preference = 3, .data = BYTES("mx.example")};
    struct answer answer = {.status = ANSWER_RECORDS, .ttl_s = 60, .count = 1, .records = &record};
    cache_store(cache, question, &answer, 1000);
    assert_int_equal(answer.expires_ms, 61 * SECOND);
    const struct answer *kept = cache_find(cache, BYTES("example.org"), ANSWER_A, 1000)->answer;
    assert_int_equal(kept->expires_ms, 61 * SECOND);
    assert_ptr_not_equal(kept->records, &record);
    assert_true(bytes_equal(kept->records[0].data, BYTES("mx.example")));
    cache_delete(cache);
}

static void the_one_used_longest_ago_goes(void **state)
{
    (void)state;
    struct cache *cache = cache_new(3);
    add_answer(cache, "a.example", no_data(60), 0);
    add_answer(cache, "b.example", no_data(60), 0);
    add_answer(cache, "c.example", no_data(60), 0);
    assert_true(knows(cache, "a.example", 0));
    add_answer(cache, "d.example", no_data(60), 0);
    assert_int_equal(cache_count(cache), 3);
    assert_true(knows(cache, "a.example", 0));
    assert_false(knows(cache, "b.example", 0));
    assert_true(knows(cache, "c.example", 0));
    assert_true(knows(cache, "d.example", 0));
    cache_delete(cache);
}

static void questions_stay(void **state)
{
    (void)state;
    struct cache *cache = cache_new(2);
    struct cache_entry *first = cache_add(cache, BYTES("a.example"), ANSWER_MX);
    add_answer(cache, "b.example", no_data(60), 0);
    struct cache_entry *second = cache_add(cache, BYTES("c.example"), ANSWER_MX); /* b goes */
    assert_non_null(second);
    assert_null(cache_add(cache, BYTES("d.example"), ANSWER_MX));
    assert_ptr_equal(cache_find(cache, BYTES("a.example"), ANSWER_MX, UINT64_MAX), first);
    cache_drop(cache, first);
    cache_drop(cache, second);
    assert_int_equal(cache_count(cache), 0);
    cache_delete(cache);
}

static void many(void **state)
{
    (void)state;
    char name[32];
    struct cache *cache = cache_new(1000);
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "d%u.example", i);
        add_answer(cache, name, no_data(60), i);
        assert_in_range(cache_count(cache), 1, 1000);
    }
    assert_true(knows(cache, "d9999.example", 10000));
    assert_true(knows(cache, "d9000.example", 10000));
    assert_false(knows(cache, "d8999.example", 10000));
    cache_delete(cache);
}

/* A zone with names without end, each with the longest list of hosts that is kept. */
static void large_answers(void **state)
{
    (void)state;
    char name[32];
    char host[ANSWER_NAME_BYTES];
    struct answer_record records[ANSWER_RECORDS_MAX];
    memset(host, 'x', sizeof host);
    for (unsigned i = 0; i < ANSWER_RECORDS_MAX; i++) {
        records[i] = (struct answer_record){.data = bytes_of(host, sizeof host)};
    }
    struct answer answer = {.status = ANSWER_RECORDS, .ttl_s = 60, .count = ANSWER_RECORDS_MAX, .records = records};
    assert_true(answer_bytes(&answer) > ANSWER_RECORDS_MAX * sizeof host);
    struct cache *cache = cache_new(1000);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "d%u.example", i);
        add_answer(cache, name, answer, i);
        assert_true(knows(cache, name, i));
        assert_in_range(cache_bytes(cache), 1, 1000 * CACHE_ENTRY_BYTES_MEAN);
    }
    assert_in_range(cache_count(cache), 20, 40);
    for (unsigned i = 0; i < 1000; i++) { /* usual ones come into their own again */
        snprintf(name, sizeof name, "u%u.example", i);
        add_answer(cache, name, no_data(60), 2000);
    }
    assert_int_equal(cache_count(cache), 1000);
    cache_delete(cache);
    cache = cache_new(1); /* one always has room */
    add_answer(cache, "a.example", answer, 0);
    assert_true(knows(cache, "a.example", 0));
    cache_delete(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_to_live),
        cmocka_unit_test(names_and_types),
        cmocka_unit_test(the_one_used_longest_ago_goes),
        cmocka_unit_test(questions_stay),
        cmocka_unit_test(many),
        cmocka_unit_test(large_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
