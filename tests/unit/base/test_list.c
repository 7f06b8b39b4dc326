#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int padding;
    struct list node;
    char name;
};

static struct item items[5] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}, {.name = 'd'}, {.name = 'e'}};

/* The names in order, after checking that the way back is the same. */
static void assert_list(struct list *list, const char *names)
{
    char forward[8] = {0};
    char backward[8] = {0};
    size_t count = 0;
    for (struct list *node = list->next; node != list; node = node->next) {
        assert_true(count < 5);
        assert_ptr_equal(node->next->prev, node);
        forward[count++] = LIST_OWNER(node, struct item, node)->name;
    }
    size_t at = count;
    for (struct list *node = list->prev; node != list; node = node->prev) {
        assert_true(at > 0);
        backward[--at] = LIST_OWNER(node, struct item, node)->name;
    }
    assert_string_equal(forward, names);
    assert_string_equal(backward, names);
    assert_int_equal(list_empty(list), names[0] == '\0');
}

static void test_pushing_and_popping(void **state)
{
    (void)state;
    struct list list;
    list_init(&list);
    assert_null(list_pop_front(&list));
    list_push_back(&list, &items[1].node);
    list_push_back(&list, &items[2].node);
    list_push_front(&list, &items[0].node);
    assert_list(&list, "abc");
    assert_ptr_equal(list_pop_front(&list), &items[0].node);
    assert_true(list_empty(&items[0].node));
    assert_list(&list, "bc");
}

static void test_removing(void **state)
{
    (void)state;
    struct list list;
    list_init(&list);
    for (unsigned i = 0; i < 3; i++) {
        list_push_back(&list, &items[i].node);
    }
    list_remove(&items[1].node);
    assert_list(&list, "ac");
    list_remove(&items[1].node); /* harmless */
    assert_list(&list, "ac");
    list_remove(&items[2].node);
    list_remove(&items[0].node);
    assert_list(&list, "");
}

static void test_splicing(void **state)
{
    (void)state;
    struct list to;
    struct list from;
    list_init(&to);
    list_init(&from);
    list_splice(&to, &from);
    assert_list(&to, "");
    list_push_back(&from, &items[0].node);
    list_push_back(&from, &items[1].node);
    list_splice(&to, &from);
    assert_list(&to, "ab");
    assert_list(&from, "");
    list_push_back(&from, &items[2].node);
    list_splice(&to, &from);
    list_splice(&to, &from);
    assert_list(&to, "abc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pushing_and_popping),
        cmocka_unit_test(test_removing),
        cmocka_unit_test(test_splicing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
