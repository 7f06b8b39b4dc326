#include "delivery/maildir_path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

static const char *directory(struct bytes local, char separator)
{
    static char room[MAILDIR_PATH_BYTES];
    struct buffer out = buffer_of(room, sizeof room);
    assert_true(maildir_path_directory("/m/%d/%u/", BYTES("own.test"), local, separator, &out));
    assert_int_equal(strlen(room), out.length - 1);
    return room;
}

static void test_users(void **state)
{
    static const struct {
        const char *local;
        const char *path;
    } cases[] = {
        {"anna", "/m/own.test/anna"},       {"Anna.B+lists", "/m/own.test/anna.b"},
        {"\"Anna\"", "/m/own.test/anna"},   {"..", "/m/own.test/%2E."},
        {".", "/m/own.test/%2E"},           {"../../x", "/m/own.test/%2E.%2F..%2Fx"},
        {"/etc", "/m/own.test/%2Fetc"},     {"\"\"", "/m/own.test/%"},
        {"a%2fb", "/m/own.test/a%252fb"},   {"\xc3\xa4", "/m/own.test/\xc3\xa4"},
        {"\xc3", "/m/own.test/%C3"},        {"\xc0\xaf", "/m/own.test/%C0%AF"},
        {"\xc2\x85", "/m/own.test/%C2%85"}, {"\xed\xa0\x80", "/m/own.test/%ED%A0%80"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(directory(bytes_of_string(cases[i].local), '+'), cases[i].path);
    }
    assert_string_equal(directory(BYTES("a\0b\n"), '+'), "/m/own.test/a%00b%0A");
    assert_string_equal(directory(BYTES("a+b"), '\0'), "/m/own.test/a+b");
}

/* Whatever the octets are, it is one name, and tells what it was made of. */
static void test_any_octets_are_one_name(void **state)
{
    struct rng rng;
    (void)state;
    rng_seed(&rng, 7);
    for (unsigned round = 0; round < 20000; round++) {
        char local[64];
        size_t length = rng_below(&rng, sizeof local) + 1;
        for (size_t i = 0; i < length; i++) {
            local[i] = (char)(rng_below(&rng, 3) == 0 ? "./%\"\\"[rng_below(&rng, 5)] : (char)rng_below(&rng, 256));
        }
        const char *user = directory(bytes_of(local, length), '\0') + strlen("/m/own.test/");
        assert_null(strchr(user, '/'));
        assert_true(user[0] != '.' && user[0] != '\0' && strlen(user) <= 255);
        for (const char *c = user; *c != '\0'; c++) {
            assert_true((unsigned char)*c > ' ' && *c != 0x7f);
        }
    }
}

static void test_room(void **state)
{
    char room[24];
    (void)state;
    for (size_t size = 0; size <= sizeof room; size++) {
        struct buffer out = buffer_of(room, size);
        bool fits = maildir_path_directory("/m/%d/%u", BYTES("own.test"), BYTES("anna"), '+', &out);
        assert_int_equal(fits, size >= sizeof "/m/own.test/anna");
    }
}

static void test_name(void **state)
{
    char room[256];
    struct buffer out = buffer_of(room, sizeof room);
    (void)state;
    assert_true(maildir_path_name(1700000000123, 0x0100000000000abc, 7, BYTES("mx.a/b:c"), &out));
    assert_string_equal(room, "1700000000.M0100000000000abcR7.mx.a_b_c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_any_octets_are_one_name),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
