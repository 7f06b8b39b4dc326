#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/rng.h"

#define NAMES 2000

static struct item {
    char name[24];
    bool in_map;
    bool seen;
} items[NAMES];

static struct bytes key_of(const struct item *item)
{
    return bytes_of_string(item->name);
}

/* The table of what the map should hold; nothing yet. */
static void forget_items(void)
{
    for (unsigned i = 0; i < NAMES; i++) {
        items[i].in_map = items[i].seen = false;
    }
}

static int make_items(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NAMES; i++) {
        snprintf(items[i].name, sizeof items[i].name, "host%u.example.org", i);
    }
    return 0;
}

static void test_finds_inserts_removes(void **state)
{
    (void)state;
    struct map map;
    map_init(&map, 100);
    assert_null(map_find(&map, BYTES("a")));
    assert_null(map_remove(&map, BYTES("a")));
    int one = 1;
    int two = 2;
    int empty = 3;
    assert_true(map_insert(&map, BYTES("a"), &one));
    assert_true(map_insert(&map, BYTES("a\0b"), &two));
    assert_true(map_insert(&map, bytes_of(NULL, 0), &empty));
    assert_ptr_equal(map_find(&map, BYTES("a")), &one);
    assert_ptr_equal(map_find(&map, BYTES("a\0b")), &two);
    assert_ptr_equal(map_find(&map, BYTES("")), &empty);
    assert_null(map_find(&map, BYTES("A")));
    assert_ptr_equal(map_remove(&map, BYTES("a")), &one);
    assert_null(map_find(&map, BYTES("a")));
    assert_int_equal(map.count, 2);
    map_free(&map);
}

static void test_refuses_more_than_its_limit(void **state)
{
    (void)state;
    struct map map;
    forget_items();
    map_init(&map, 50);
    for (unsigned i = 0; i < 50; i++) {
        assert_true(map_insert(&map, key_of(&items[i]), &items[i]));
    }
    assert_false(map_insert(&map, key_of(&items[50]), &items[50]));
    map_remove(&map, key_of(&items[7]));
    assert_true(map_insert(&map, key_of(&items[50]), &items[50]));
    map_free(&map);
}

static void random_step(struct map *map, struct rng *rng)
{
    struct item *item = &items[rng_below(rng, NAMES)];
    assert_ptr_equal(map_find(map, key_of(item)), item->in_map ? item : NULL);
    if (item->in_map) {
        assert_ptr_equal(map_remove(map, key_of(item)), item);
    } else {
        assert_true(map_insert(map, key_of(item), item));
    }
    item->in_map = !item->in_map;
}

static void check_all(const struct map *map)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < NAMES; i++) {
        assert_ptr_equal(map_find(map, key_of(&items[i])), items[i].in_map ? &items[i] : NULL);
        count += items[i].in_map;
    }
    assert_int_equal(map->count, count);
}

/* Walks, removing some on the way: everything is met once, and what was not removed is still there. */
static void walk_and_remove(struct map *map, struct rng *rng)
{
    struct map_cursor cursor = {0};
    struct item *item;
    uint32_t met = 0;
    uint32_t count = map->count;
    while ((item = map_next(map, &cursor))) {
        assert_true(item->in_map && !item->seen);
        item->seen = true;
        met++;
        if (rng_below(rng, 2) == 0) {
            assert_ptr_equal(map_remove(map, key_of(item)), item);
            item->in_map = false;
        }
    }
    assert_int_equal(met, count);
    assert_null(map_next(map, &cursor));
    for (unsigned i = 0; i < NAMES; i++) {
        items[i].seen = false;
    }
}

static void test_agrees_with_a_plain_table(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct map map;
        struct rng rng;
        rng_seed(&rng, seed);
        map_set_seed(seed);
        forget_items();
        map_init(&map, NAMES);
        for (unsigned round = 0; round < 10; round++) {
            for (uint64_t steps = rng_below(&rng, 2000); steps > 0; steps--) {
                random_step(&map, &rng);
            }
            check_all(&map);
            walk_and_remove(&map, &rng);
            check_all(&map);
        }
        map_free(&map);
    }
}

/* Full tables have runs that wrap around the end; a walk must not lose or repeat what a removal moves across it. */
static void test_walks_across_the_end(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct map map;
        struct rng rng;
        rng_seed(&rng, seed);
        map_set_seed(seed);
        forget_items();
        map_init(&map, 12);
        for (unsigned i = 0; i < 12; i++) {
            assert_true(map_insert(&map, key_of(&items[i]), &items[i]));
            items[i].in_map = true;
        }
        assert_int_equal(map.capacity, 16);
        walk_and_remove(&map, &rng);
        check_all(&map);
        map_free(&map);
    }
}

/* Among so many names several share their 32-bit hash; they are different names all the same. */
static void test_equal_hashes_are_not_equal_keys(void **state)
{
    (void)state;
    enum { COUNT = 300000 };
    static uint32_t names[COUNT];
    struct map map;
    map_set_seed(1);
    map_init(&map, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        names[i] = i;
        struct bytes key = bytes_of(&names[i], sizeof names[i]);
        assert_null(map_find(&map, key));
        assert_true(map_insert(&map, key, &names[i]));
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(map_find(&map, bytes_of(&names[i], sizeof names[i])), &names[i]);
    }
    map_free(&map);
}

static void test_an_empty_map_has_an_empty_walk(void **state)
{
    (void)state;
    struct map map;
    struct map_cursor cursor = {0};
    map_init(&map, 5);
    assert_null(map_next(&map, &cursor));
    map_free(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_inserts_removes),           cmocka_unit_test(test_refuses_more_than_its_limit),
        cmocka_unit_test(test_agrees_with_a_plain_table),       cmocka_unit_test(test_walks_across_the_end),
        cmocka_unit_test(test_equal_hashes_are_not_equal_keys), cmocka_unit_test(test_an_empty_map_has_an_empty_walk),
    };
    return cmocka_run_group_tests(tests, make_items, NULL);
}
