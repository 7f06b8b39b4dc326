#include "sasl/verifier.h"

#include "unit/sasl/sasl_fixture.h"

static void test_request(void **state)
{
    char room[VERIFIER_REQUEST_BYTES_MAX];
    struct buffer out = buffer_of(room, sizeof room);
    (void)state;
    struct verifier_request request = {.mechanism = MECHANISM_XOAUTH2,
                                       .user = BYTES("a b%\n\0=\xc3\xa9@x"),
                                       .address = BYTES("2001:db8::1"),
                                       .token = BYTES("aA0-._~+/==")};
    assert_true(verifier_append_request(&out, &request));
    assert_bytes_equal(buffer_bytes(&out), "verify mechanism=XOAUTH2 user=a%20b%25%0A%00=%C3%A9@x address=2001:db8::1 "
                                           "token=aA0-._~+/==\n");
    struct buffer narrow = buffer_of(room, out.length - 1);
    assert_false(verifier_append_request(&narrow, &request));
    assert_int_equal(narrow.length, 0);
}

/* Every octet in a value: one line, the same fields. */
static void test_nothing_breaks_out(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        char value[3] = {'x', (char)c, 'y'};
        char room[256];
        struct buffer out = buffer_of(room, sizeof room);
        struct verifier_request request = {
            .mechanism = MECHANISM_OAUTHBEARER, .user = bytes_of(value, 3), .token = bytes_of(value, 3)};
        assert_true(verifier_append_request(&out, &request));
        unsigned spaces = 0;
        for (size_t i = 0; i + 1 < out.length; i++) {
            assert_true(room[i] >= ' ' && room[i] <= '~');
            spaces += room[i] == ' ';
        }
        assert_int_equal(room[out.length - 1], '\n');
        assert_int_equal(spaces, 4);
    }
}

static void test_largest_request(void **state)
{
    static char token[EXCHANGE_TOKEN_BYTES_MAX];
    static char room[VERIFIER_REQUEST_BYTES_MAX];
    char user[CREDENTIALS_NAME_BYTES_MAX];
    struct buffer out = buffer_of(room, sizeof room);
    (void)state;
    memset(token, 't', sizeof token);
    memset(user, ' ', sizeof user);
    struct verifier_request request = {.mechanism = MECHANISM_OAUTHBEARER,
                                       .user = bytes_of(user, sizeof user),
                                       .address = BYTES("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"),
                                       .token = bytes_of(token, sizeof token)};
    assert_true(verifier_append_request(&out, &request));
}

static void test_answers(void **state)
{
    static const struct {
        const char *line;
        enum exchange_verdict verdict;
        const char *name;
    } cases[] = {
        {"ok user=alice@example.com", EXCHANGE_VALID, "alice@example.com"},
        {"ok user=a%20b", EXCHANGE_VALID, "a b"},
        {"ok user=a%2fB", EXCHANGE_VALID, "a/B"},
        {"invalid", EXCHANGE_INVALID, ""},
        {"invalid expired yesterday", EXCHANGE_INVALID, ""},
        {"invalids", EXCHANGE_UNAVAILABLE, ""},
        {"unavailable", EXCHANGE_UNAVAILABLE, ""},
        {"", EXCHANGE_UNAVAILABLE, ""},
        {"ok", EXCHANGE_UNAVAILABLE, ""},
        {"ok user=", EXCHANGE_UNAVAILABLE, ""},
        {"OK user=a", EXCHANGE_UNAVAILABLE, ""},
        {"ok user=a b", EXCHANGE_UNAVAILABLE, ""},
        {"ok user=a ", EXCHANGE_UNAVAILABLE, ""},
        {"ok user=a%", EXCHANGE_UNAVAILABLE, ""},
        {"ok user=a%4", EXCHANGE_UNAVAILABLE, ""},
        {"ok user=a%4g", EXCHANGE_UNAVAILABLE, ""},
        {"ok user=a%00", EXCHANGE_UNAVAILABLE, ""},
        {"ok user=a%0a", EXCHANGE_UNAVAILABLE, ""},
        {"ok user=a\r", EXCHANGE_UNAVAILABLE, ""},
        {"ok  user=a", EXCHANGE_UNAVAILABLE, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char space[CREDENTIALS_NAME_BYTES_MAX];
        struct bytes name = BYTES("");
        if (verifier_parse_answer(text_of(cases[i].line), space, &name) != cases[i].verdict) {
            fail_msg("%s", cases[i].line);
        }
        assert_bytes_equal(name, cases[i].name);
    }
}

static void test_long_answers(void **state)
{
    static char line[VERIFIER_ANSWER_BYTES_MAX];
    char space[CREDENTIALS_NAME_BYTES_MAX];
    struct bytes name;
    (void)state;
    memset(line, 'x', sizeof line);
    memcpy(line, "ok user=", 8);
    assert_int_equal(verifier_parse_answer(bytes_of(line, 8 + 255), space, &name), EXCHANGE_VALID);
    assert_int_equal(verifier_parse_answer(bytes_of(line, 8 + 256), space, &name), EXCHANGE_UNAVAILABLE);
    memcpy(line, "invalid ", 8);
    assert_int_equal(verifier_parse_answer(bytes_of(line, sizeof line - 1), space, &name), EXCHANGE_INVALID);
    assert_int_equal(verifier_parse_answer(bytes_of(line, sizeof line), space, &name), EXCHANGE_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),         cmocka_unit_test(test_nothing_breaks_out),
        cmocka_unit_test(test_largest_request), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_long_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
