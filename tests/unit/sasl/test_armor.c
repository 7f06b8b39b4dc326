#include "unit/sasl/sasl_fixture.h"

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
        assert_true(armor_encode(&out, text_of(pairs[i][0])));
        assert_bytes_equal(buffer_bytes(&out), pairs[i][1]);
        out.length = 0;
        assert_true(armor_decode(&out, text_of(pairs[i][1])));
        assert_bytes_equal(buffer_bytes(&out), pairs[i][0]);
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
        struct buffer out = buffer_of(room, sizeof room);
        if (armor_decode(&out, text_of(bad[i]))) {
            fail_msg("%s", bad[i]);
        }
        assert_int_equal(out.length, 0);
    }
    char room[4];
    struct buffer out = buffer_of(room, sizeof room);
    assert_false(armor_decode(&out, BYTES("Zm9v\0m9v")));
}

static void test_no_room(void **state)
{
    char room[3];
    struct buffer out = buffer_of(room, sizeof room);
    (void)state;
    assert_false(armor_encode(&out, BYTES("f")));
    assert_false(armor_decode(&out, BYTES("Zm9vYg==")));
    assert_int_equal(out.length, 0);
    assert_true(armor_decode(&out, BYTES("Zm9v")));
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
