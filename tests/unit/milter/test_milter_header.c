#include "milter/milter_header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OWN "Received: ours\r\n"
#define SHOWN "From: a\r\nSubject: one\r\n two\r\nX: 1\r\n..Y: 2\r\nx: 3\r\n"

static char room[512];

static struct milter_header header_of(void)
{
    struct milter_header header = {
        .text = buffer_of(room, sizeof room), .own_bytes = strlen(OWN), .line_bytes_max = 40};
    assert_true(buffer_append_string(&header.text, OWN SHOWN));
    return header;
}

static void assert_text(const struct milter_header *header, const char *expected)
{
    struct bytes text = buffer_bytes(&header->text);
    assert_int_equal(text.length, strlen(expected));
    assert_memory_equal(text.data, expected, text.length);
    assert_memory_equal(text.data + header->own_at, OWN, header->own_bytes);
}

static void test_ours_is_not_shown(void **state)
{
    (void)state;
    struct milter_header header = header_of();
    assert_int_equal(milter_header_insert(&header, 0, BYTES("Top"), BYTES("t"), true), MILTER_HEADER_OK);
    struct header_field field;
    size_t at = 0;
    static const char *const names[] = {"Top", "From", "Subject", "X", ".Y", "x"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(milter_header_next(&header, &at, &field));
        assert_true(bytes_equal(field.name, bytes_of_string(names[i])));
    }
    assert_false(milter_header_next(&header, &at, &field));
}

static void test_places(void **state)
{
    (void)state;
    struct milter_header header = header_of();
    assert_int_equal(milter_header_insert(&header, 0, BYTES("A"), BYTES("0"), true), MILTER_HEADER_OK);
    assert_text(&header, "A: 0\r\n" OWN SHOWN);
    assert_int_equal(milter_header_insert(&header, 2, BYTES("B"), BYTES("0"), true), MILTER_HEADER_OK);
    assert_text(&header, "A: 0\r\n" OWN "B: 0\r\n" SHOWN);
    assert_int_equal(milter_header_insert(&header, UINT32_MAX, BYTES("C"), BYTES("0"), false), MILTER_HEADER_OK);
    assert_text(&header, "A: 0\r\n" OWN "B: 0\r\n" SHOWN "C:0\r\n");
    assert_int_equal(milter_header_add(&header, BYTES(".D"), BYTES(""), true), MILTER_HEADER_OK);
    assert_text(&header, "A: 0\r\n" OWN "B: 0\r\n" SHOWN "C:0\r\n..D: \r\n");
    assert_true(header.changed);
}

static void test_changes_count_what_is_shown(void **state)
{
    (void)state;
    struct milter_header header = header_of();
    assert_int_equal(milter_header_change(&header, 2, BYTES("X"), BYTES("three"), true), MILTER_HEADER_OK);
    assert_text(&header, OWN "From: a\r\nSubject: one\r\n two\r\nX: 1\r\n..Y: 2\r\nX: three\r\n");
    assert_int_equal(milter_header_change(&header, 0, BYTES("subject"), BYTES("s"), true), MILTER_HEADER_OK);
    assert_text(&header, OWN "From: a\r\nsubject: s\r\nX: 1\r\n..Y: 2\r\nX: three\r\n");
    assert_int_equal(milter_header_change(&header, 1, BYTES("x"), BYTES(""), true), MILTER_HEADER_OK);
    assert_text(&header, OWN "From: a\r\nsubject: s\r\n..Y: 2\r\nX: three\r\n");
    assert_int_equal(milter_header_change(&header, 1, BYTES("Received"), BYTES("forged"), true), MILTER_HEADER_OK);
    assert_text(&header, OWN "From: a\r\nsubject: s\r\n..Y: 2\r\nX: three\r\nReceived: forged\r\n");
    header.changed = false;
    assert_int_equal(milter_header_change(&header, 9, BYTES("X"), BYTES(""), true), MILTER_HEADER_OK);
    assert_false(header.changed); /* there is none to remove */
}

static void test_a_change_above_ours(void **state)
{
    (void)state;
    struct milter_header header = header_of();
    assert_int_equal(milter_header_insert(&header, 0, BYTES("A"), BYTES("0"), true), MILTER_HEADER_OK);
    assert_int_equal(milter_header_change(&header, 1, BYTES("A"), BYTES("longer"), true), MILTER_HEADER_OK);
    assert_text(&header, "A: longer\r\n" OWN SHOWN);
    assert_int_equal(milter_header_change(&header, 1, BYTES("A"), BYTES(""), true), MILTER_HEADER_OK);
    assert_text(&header, OWN SHOWN);
}

static void test_line_ends(void **state)
{
    (void)state;
    struct milter_header header = header_of();
    assert_int_equal(milter_header_add(&header, BYTES("L"), BYTES("a\n\tb\r\n c\r\n\n"), true), MILTER_HEADER_OK);
    assert_text(&header, OWN SHOWN "L: a\r\n\tb\r\n c\r\n");
}

static void test_what_is_no_field(void **state)
{
    (void)state;
    static const struct {
        struct bytes name;
        struct bytes value;
    } bad[] = {
        {BYTES(""), BYTES("v")},
        {BYTES("a b"), BYTES("v")},
        {BYTES("a:"), BYTES("v")},
        {BYTES("a\r\nb"), BYTES("v")},
        {BYTES("\x80"), BYTES("v")},
        {BYTES("a"), BYTES("v\nb: c")},
        {BYTES("a"), BYTES("v\r\n\r\nx")},
        {BYTES("a"), BYTES("v\n\n x")},
        {BYTES("a"), BYTES("v\n \t\n x")},
        {BYTES("a"), BYTES("v\rx")},
        {BYTES("a"), BYTES("v\r")},
        {BYTES("a"), BYTES("v\r\r\n x")},
        {BYTES("a"), BYTES("v\0x")},
        {BYTES("a"), BYTES("v\n.\r\nx")},
        {BYTES("a"), BYTES("v\n ")},
        {BYTES("a"), BYTES("0123456789012345678901234567890123456")}, /* 42 octets with what is around it */
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct milter_header header = header_of();
        assert_int_equal(milter_header_add(&header, bad[i].name, bad[i].value, true), MILTER_HEADER_BAD);
        assert_int_equal(milter_header_insert(&header, 1, bad[i].name, bad[i].value, true), MILTER_HEADER_BAD);
        assert_int_equal(milter_header_change(&header, 1, BYTES("X"), BYTES("a\nb"), true), MILTER_HEADER_BAD);
        assert_text(&header, OWN SHOWN);
        assert_false(header.changed);
    }
    struct milter_header header = header_of();
    assert_int_equal(milter_header_add(&header, BYTES("a"), BYTES("01234567890123456789012345678901234"), true),
                     MILTER_HEADER_OK); /* 40 */
}

static void test_no_room(void **state)
{
    (void)state;
    struct milter_header header = header_of();
    header.text.capacity = header.text.length + 4;
    assert_int_equal(milter_header_add(&header, BYTES("a"), BYTES("b"), true), MILTER_HEADER_FULL);
    assert_int_equal(milter_header_add(&header, BYTES("a"), BYTES("b"), false), MILTER_HEADER_FULL);
    assert_text(&header, OWN SHOWN);
    header.text.capacity += 2;
    assert_int_equal(milter_header_add(&header, BYTES("a"), BYTES("b"), true), MILTER_HEADER_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours_is_not_shown),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_changes_count_what_is_shown),
        cmocka_unit_test(test_a_change_above_ours),
        cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_what_is_no_field),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
