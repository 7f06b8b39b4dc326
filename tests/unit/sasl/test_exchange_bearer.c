/* OAUTHBEARER (RFC 7628) and XOAUTH2. */
#include "unit/sasl/exchange_fixture.h"

static void test_good(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    struct bytes full = BYTES(
        "n,a=user,\1host=mx.example\1port=587\1auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGE=\1\1");
    assert_int_equal(stage_begin(&stage, MECHANISM_OAUTHBEARER, full), EXCHANGE_TOKEN);
    assert_bytes_equal(stage.exchange.token, "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGE=");
    assert_bytes_equal(exchange_name(&stage.exchange), "user");
    assert_done(&stage, exchange_answer(&stage.exchange, EXCHANGE_VALID, BYTES("USER")), "user");
    assert_int_equal(stage_begin(&stage, MECHANISM_OAUTHBEARER, BYTES("y,,\1auth=bearer   x.y\1\1")), EXCHANGE_TOKEN);
    assert_bytes_equal(stage.exchange.token, "x.y");
    assert_done(&stage, exchange_answer(&stage.exchange, EXCHANGE_VALID, BYTES("robot")), "robot");
    assert_int_equal(stage_begin(&stage, MECHANISM_XOAUTH2, BYTES("user=user\1auth=Bearer ya29.x\1\1")),
                     EXCHANGE_TOKEN);
    assert_bytes_equal(stage.exchange.token, "ya29.x");
    assert_done(&stage, exchange_answer(&stage.exchange, EXCHANGE_VALID, BYTES("user")), "user");
    stage_close(&stage);
}

static void test_whose_token(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    static const char *const not_user[] = {"robot", "", "users", "gone", "nobody"};
    for (size_t i = 0; i < sizeof not_user / sizeof *not_user; i++) {
        assert_int_equal(stage_begin(&stage, MECHANISM_XOAUTH2, BYTES("user=user\1auth=Bearer x\1\1")), EXCHANGE_TOKEN);
        assert_int_equal(exchange_answer(&stage.exchange, EXCHANGE_VALID, text_of(not_user[i])), EXCHANGE_CHALLENGE);
        assert_failed(&stage, exchange_step(&stage.exchange, BYTES("")), EXCHANGE_REFUSED);
    }
    assert_int_equal(stage_begin(&stage, MECHANISM_OAUTHBEARER, BYTES("n,,\1auth=Bearer x\1\1")), EXCHANGE_TOKEN);
    assert_int_equal(exchange_answer(&stage.exchange, EXCHANGE_VALID, BYTES("gone")), EXCHANGE_CHALLENGE);
    assert_failed(&stage, exchange_step(&stage.exchange, BYTES("\1")), EXCHANGE_REFUSED);
    stage_close(&stage);
}

/* RFC 7628 3.2.2, 3.2.3: the reason in JSON, an answer without meaning, then failure. */
static void test_refused(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    assert_int_equal(stage_begin(&stage, MECHANISM_OAUTHBEARER, BYTES("n,,\1auth=Bearer x\1\1")), EXCHANGE_TOKEN);
    assert_int_equal(exchange_answer(&stage.exchange, EXCHANGE_INVALID, BYTES("")), EXCHANGE_CHALLENGE);
    assert_bytes_equal(exchange_output(&stage.exchange), "{\"status\":\"invalid_token\"}");
    assert_failed(&stage, exchange_step(&stage.exchange, BYTES("n,a=user,\1auth=Bearer good\1\1")), EXCHANGE_REFUSED);
    assert_int_equal(stage_begin(&stage, MECHANISM_XOAUTH2, BYTES("user=user\1auth=Bearer x\1\1")), EXCHANGE_TOKEN);
    assert_int_equal(exchange_answer(&stage.exchange, EXCHANGE_INVALID, BYTES("user")), EXCHANGE_CHALLENGE);
    assert_bytes_equal(exchange_output(&stage.exchange),
                       "{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"mail\"}");
    assert_failed(&stage, exchange_step(&stage.exchange, BYTES("")), EXCHANGE_REFUSED);
    assert_int_equal(stage_begin(&stage, MECHANISM_XOAUTH2, BYTES("user=user\1auth=Bearer x\1\1")), EXCHANGE_TOKEN);
    assert_failed(&stage, exchange_answer(&stage.exchange, EXCHANGE_UNAVAILABLE, BYTES("")), EXCHANGE_TEMPORARY);
    stage_close(&stage);
}

static void test_malformed(void **state)
{
    static const struct {
        enum mechanism mechanism;
        const char *text;
    } bad[] = {
        {MECHANISM_OAUTHBEARER, ""},
        {MECHANISM_OAUTHBEARER, "\1"},
        {MECHANISM_OAUTHBEARER, "n,,"},
        {MECHANISM_OAUTHBEARER, "n,,\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer x"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer x\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer x\1\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer x\1\1more"},
        {MECHANISM_OAUTHBEARER, "n,,auth=Bearer x\1\1"},
        {MECHANISM_OAUTHBEARER, "\1auth=Bearer x\1\1"},
        {MECHANISM_OAUTHBEARER, "p=tls-exporter,,\1auth=Bearer x\1\1"},
        {MECHANISM_OAUTHBEARER, "n,user,\1auth=Bearer x\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer x\1auth=Bearer y\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Basic x\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer \1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearerx\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer x y\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer x\n\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer =\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer a=b\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1auth=Bearer x%0a\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1=x\1auth=Bearer x\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1host\1auth=Bearer x\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1ho st=x\1auth=Bearer x\1\1"},
        {MECHANISM_OAUTHBEARER, "n,,\1host=\xc3\xa9\1auth=Bearer x\1\1"},
        {MECHANISM_XOAUTH2, ""},
        {MECHANISM_XOAUTH2, "user=\1auth=Bearer x\1\1"},
        {MECHANISM_XOAUTH2, "user=user"},
        {MECHANISM_XOAUTH2, "user=user\1"},
        {MECHANISM_XOAUTH2, "user=user\1\1"},
        {MECHANISM_XOAUTH2, "usr=user\1auth=Bearer x\1\1"},
        {MECHANISM_XOAUTH2, "auth=Bearer x\1user=user\1\1"},
        {MECHANISM_XOAUTH2, "user=us\ner\1auth=Bearer x\1\1"},
        {MECHANISM_XOAUTH2, "user=user\1auth=Bearer x\1"},
    };
    struct stage stage;
    (void)state;
    stage_open(&stage);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        enum exchange_event event = stage_begin(&stage, bad[i].mechanism, text_of(bad[i].text));
        if (event != EXCHANGE_FAILED || stage.exchange.failure != EXCHANGE_MALFORMED) {
            fail_msg("bad[%zu] %s", i, bad[i].text);
        }
    }
    assert_failed(&stage, stage_begin(&stage, MECHANISM_XOAUTH2, BYTES("user=us\0er\1auth=Bearer x\1\1")),
                  EXCHANGE_MALFORMED);
    assert_failed(&stage, stage_begin(&stage, MECHANISM_XOAUTH2, BYTES("user=user\1auth=Bearer x\0\1\1")),
                  EXCHANGE_MALFORMED);
    assert_int_equal(stage.entered, 0);
    stage_close(&stage);
}

static void test_token_length(void **state)
{
    static char text[EXCHANGE_INPUT_BYTES_MAX];
    struct stage stage;
    (void)state;
    stage_open(&stage);
    for (size_t length = EXCHANGE_TOKEN_BYTES_MAX; length <= EXCHANGE_TOKEN_BYTES_MAX + 1; length++) {
        struct buffer out = buffer_of(text, sizeof text);
        assert_true(buffer_append_string(&out, "user=user\1auth=Bearer "));
        memset(text + out.length, 'x', length);
        out.length += length;
        assert_true(buffer_append_string(&out, "\1\1"));
        assert_int_equal(stage_begin(&stage, MECHANISM_XOAUTH2, buffer_bytes(&out)),
                         length == EXCHANGE_TOKEN_BYTES_MAX ? EXCHANGE_TOKEN : EXCHANGE_FAILED);
    }
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),      cmocka_unit_test(test_whose_token),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_token_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
