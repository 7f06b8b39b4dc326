/* Bodies in chunks, and the bound of their pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "inbound/body.h"

#include <stdlib.h>

#define FIRST (BODY_FIRST_BYTES - BODY_HEAD_BYTES)
#define CHUNK (BODY_CHUNK_BYTES - BODY_HEAD_BYTES)
#define EXTENT (FIRST + (BODY_EXTENT_CHUNKS - 1) * CHUNK)

static _Atomic uint64_t gauge;

static void append(struct body *body, struct body_pool *pool, char octet, size_t length)
{
    char *piece = malloc(length);
    memset(piece, octet, length);
    assert_true(body_append(body, pool, bytes_of(piece, length)));
    free(piece);
}

static void test_append_and_gather(void **state)
{
    (void)state;
    struct body_pool pool;
    struct body body = {0};
    struct iovec pieces[4];
    body_pool_init(&pool, 1 << 20, &gauge);
    append(&body, &pool, 'a', FIRST - 1);
    append(&body, &pool, 'b', 2);
    append(&body, &pool, 'c', 2 * CHUNK - 1);
    assert_int_equal(body.bytes, FIRST + 2 * CHUNK);
    assert_int_equal(body_gather(&body, pieces, 4), 3);
    assert_memory_equal((char *)pieces[0].iov_base + FIRST - 2, "ab", 2);
    assert_memory_equal(pieces[1].iov_base, "bc", 2);
    assert_int_equal(pieces[2].iov_len, CHUNK);
    assert_int_equal(gauge, BODY_FIRST_BYTES + 2 * BODY_CHUNK_BYTES);
    body_free(&body, &pool);
    assert_int_equal(gauge, 0);
    assert_null(body.first);
    body_pool_free(&pool);
}

static void test_cut_extent(void **state)
{
    (void)state;
    struct body_pool pool;
    struct body body = {0};
    struct body extent = {0};
    struct iovec pieces[BODY_EXTENT_CHUNKS];
    body_pool_init(&pool, 1 << 20, &gauge);
    append(&body, &pool, 'a', EXTENT);
    append(&body, &pool, 'b', 10);
    body_cut_extent(&body, &extent);
    assert_int_equal(extent.bytes, EXTENT);
    assert_int_equal(body_gather(&extent, pieces, BODY_EXTENT_CHUNKS), BODY_EXTENT_CHUNKS);
    assert_int_equal(body.bytes, 10);
    assert_int_equal(body_gather(&body, pieces, 1), 1);
    assert_memory_equal(pieces[0].iov_base, "bbbbbbbbbb", 10);
    append(&body, &pool, 'c', 10);
    assert_int_equal(body.chunks, 1);
    body_free(&extent, &pool);
    body_free(&body, &pool);
    body_pool_free(&pool);
}

static void test_bound(void **state)
{
    (void)state;
    struct body_pool pool;
    struct body body = {0};
    struct body other = {0};
    static char large[4 * BODY_CHUNK_BYTES];
    body_pool_init(&pool, BODY_FIRST_BYTES + 2 * BODY_CHUNK_BYTES, &gauge);
    append(&body, &pool, 'a', 1);
    assert_false(body_append(&other, &pool, bytes_of(large, sizeof large)));
    body_free(&other, &pool);
    assert_true(body_pool_reserve(&pool, BODY_CHUNK_BYTES));
    assert_false(body_pool_reserve(&pool, BODY_CHUNK_BYTES + 1));
    assert_true(body_pool_reserve(&pool, BODY_CHUNK_BYTES));
    assert_int_equal(gauge, pool.bytes_max);
    assert_false(body_append(&other, &pool, BYTES("x")));
    pool.bytes_max = 0; /* a reload may lower it below what is in use */
    assert_false(body_pool_reserve(&pool, 1));
    body_pool_return(&pool, 2 * BODY_CHUNK_BYTES);
    body_free(&body, &pool);
    assert_int_equal(gauge, 0);
    body_pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_gather),
        cmocka_unit_test(test_cut_extent),
        cmocka_unit_test(test_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
