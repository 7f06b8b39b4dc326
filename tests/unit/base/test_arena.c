#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_pieces_are_apart_and_aligned(void **state)
{
    (void)state;
    struct arena arena;
    char *pieces[100];
    arena_init(&arena, 256, 100);
    for (size_t i = 0; i < 100; i++) {
        pieces[i] = arena_take(&arena, i);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 8, 0);
        memset(pieces[i], (int)i, i);
    }
    for (size_t i = 0; i < 100; i++) {
        for (size_t at = 0; at < i; at++) {
            assert_int_equal(pieces[i][at], i);
        }
    }
    arena_free(&arena);
    assert_int_equal(arena.block_count, 0);
}

static void test_stops_at_its_limit(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 64, 3);
    assert_null(arena_take(&arena, 65));
    for (unsigned i = 0; i < 3; i++) {
        assert_non_null(arena_take(&arena, 64));
    }
    assert_null(arena_take(&arena, 1));
    struct bytes copy = BYTES("untouched");
    assert_false(arena_copy(&arena, BYTES("x"), &copy));
    assert_true(bytes_equal(copy, BYTES("untouched")));
    arena_reset(&arena);
    assert_int_equal(arena.block_count, 1);
    assert_non_null(arena_take(&arena, 64));
    arena_free(&arena);
}

static void test_copies(void **state)
{
    (void)state;
    struct arena arena;
    struct bytes copy;
    char text[] = "user@example.org";
    arena_init(&arena, 64, 1);
    assert_true(arena_copy(&arena, bytes_of_string(text), &copy));
    text[0] = 'X';
    assert_true(bytes_equal(copy, BYTES("user@example.org")));
    assert_true(arena_copy(&arena, bytes_of(NULL, 0), &copy));
    assert_int_equal(copy.length, 0);
    arena_free(&arena);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_apart_and_aligned),
        cmocka_unit_test(test_stops_at_its_limit),
        cmocka_unit_test(test_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
