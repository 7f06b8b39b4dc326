/* Spare blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "inbound/block_pool.h"

static void test_take_and_give(void **state)
{
    (void)state;
    struct block_pool pool;
    block_pool_init(&pool, 64, 2);
    void *blocks[3];
    for (unsigned i = 0; i < 3; i++) {
        blocks[i] = block_pool_take(&pool);
        assert_non_null(blocks[i]);
    }
    assert_int_equal(pool.taken, 3);
    for (unsigned i = 0; i < 3; i++) {
        block_pool_give(&pool, blocks[i]);
    }
    assert_int_equal(pool.taken, 0);
    assert_int_equal(pool.spare, 2);                     /* the third went back */
    assert_ptr_equal(block_pool_take(&pool), blocks[1]); /* the one used last is the warm one */
    assert_ptr_equal(block_pool_take(&pool), blocks[0]);
    block_pool_give(&pool, blocks[0]);
    block_pool_give(&pool, blocks[1]);
    block_pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_take_and_give)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
