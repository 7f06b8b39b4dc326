#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define text_of bytes_of_string

/* RFC 4648 10. */
static void test_vectors(void **state)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"},
                                           {"\xff\xfe\xfd", "//79"}};
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char room[16];
        struct buffer out = buffer_of(room, sizeof room);
        assert_true(base64_encode(&out, text_of(pairs[i][0])));
        assert_true(bytes_equal(buffer_bytes(&out), text_of(pairs[i][1])));
        assert_int_equal(out.length, BASE64_ENCODED_BYTES(strlen(pairs[i][0])));
        size_t length = 0;
        assert_true(base64_decode(text_of(pairs[i][1]), room, &length));
        assert_true(bytes_equal(bytes_of(room, length), text_of(pairs[i][0])));
    }
}

static void test_only_canonical_text(void **state)
{
    static const char *const bad[] = {"Z",     "Zg",   "Zg=",      "Zg===", "=",        "====",
                                      "Zh==",  "Zm9=", "Zg==Zg==", "Z===",  "Zm 9v",    "Zm9v\n",
                                      "Zm9v ", "Zm-_", "Zg=A",     "=Zg=",  "Zm9v====", "\x80m9v"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char room[16];
        size_t length = 99;
        if (base64_decode(text_of(bad[i]), room, &length)) {
            fail_msg("%s", bad[i]);
        }
    }
    char room[8];
    size_t length = 0;
    assert_false(base64_decode(BYTES("Zm9v\0m9v"), room, &length));
}

static void test_no_room(void **state)
{
    char room[3];
    struct buffer out = buffer_of(room, sizeof room);
    (void)state;
    assert_false(base64_encode(&out, BYTES("f")));
    assert_int_equal(out.length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_only_canonical_text),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
