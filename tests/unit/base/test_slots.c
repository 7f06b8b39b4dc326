#include "base/slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/rng.h"

static void test_takes_up_to_the_limit_and_no_further(void **state)
{
    (void)state;
    const uint32_t max = SLOTS_CHUNK + 10; /* the second chunk is a short one */
    struct slots slots;
    assert_true(slots_init(&slots, 24, max, false));
    uint32_t index = 0;
    for (uint32_t i = 0; i < max; i++) {
        uint64_t *object = slots_take(&slots, &index);
        assert_non_null(object);
        assert_int_equal(index, i);
        assert_int_equal((uintptr_t)object % 8, 0);
        object[0] = object[2] = i;
    }
    index = 12345;
    assert_null(slots_take(&slots, &index));
    assert_int_equal(index, 12345);
    assert_int_equal(slots.used, max);
    for (uint32_t i = 0; i < max; i++) {
        const uint64_t *object = slots_at(&slots, i);
        assert_true(object[0] == i && object[2] == i);
    }
    slots_give(&slots, 77);
    assert_non_null(slots_take(&slots, &index));
    assert_int_equal(index, 77);
    slots_free(&slots);
}

/* Random takes and gives: no object is handed out twice, none moves, none is overwritten by the free list. */
static void test_random_use(void **state)
{
    (void)state;
    enum { MAX = 3 * SLOTS_CHUNK };
    static uint64_t *taken[MAX];
    struct slots slots;
    struct rng rng;
    uint32_t used = 0;
    memset(taken, 0, sizeof taken);
    rng_seed(&rng, 3);
    assert_true(slots_init(&slots, 32, MAX, true));
    for (unsigned step = 0; step < 100000; step++) {
        uint32_t index = (uint32_t)rng_below(&rng, MAX);
        if (taken[index]) {
            assert_ptr_equal(slots_at(&slots, index), taken[index]);
            for (unsigned word = 0; word < 4; word++) {
                assert_true(taken[index][word] == index);
            }
            slots_give(&slots, index);
            taken[index] = NULL;
            used--;
        } else {
            uint64_t *object = slots_take(&slots, &index);
            assert_non_null(object);
            assert_null(taken[index]);
            for (unsigned word = 0; word < 4; word++) {
                object[word] = index;
            }
            taken[index] = object;
            used++;
        }
        assert_int_equal(slots.used, used);
    }
    slots_free(&slots);
}

static void test_generations_recognise_what_is_gone(void **state)
{
    (void)state;
    struct slots slots;
    uint32_t first;
    uint32_t second;
    assert_true(slots_init(&slots, 8, 10, true));
    void *object = slots_take(&slots, &first);
    uint32_t generation = slots_generation(&slots, first);
    assert_ptr_equal(slots_find(&slots, first, generation), object);
    slots_give(&slots, first);
    assert_null(slots_find(&slots, first, generation));
    assert_null(slots_find(&slots, first, generation + 1)); /* free, whatever the name says */
    assert_ptr_equal(slots_take(&slots, &second), object);
    assert_int_equal(second, first);
    assert_null(slots_find(&slots, first, generation));
    assert_non_null(slots_find(&slots, first, slots_generation(&slots, first)));
    assert_null(slots_find(&slots, 9, 1)); /* never taken */
    assert_null(slots_find(&slots, SLOTS_NONE, 1));
    slots_free(&slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_up_to_the_limit_and_no_further),
        cmocka_unit_test(test_random_use),
        cmocka_unit_test(test_generations_recognise_what_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
