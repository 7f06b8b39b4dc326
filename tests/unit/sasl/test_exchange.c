/* What mechanisms have in common, PLAIN, LOGIN, EXTERNAL. */
#include "sasl/exchange.h"

#include <stdlib.h>

#include "unit/sasl/exchange_fixture.h"

#define MANY(c, n) memset(many, c, n)
static char many[EXCHANGE_INPUT_BYTES_MAX + 2];

/* RFC 4616 2: [authzid] NUL authcid NUL passwd. */
static void test_plain(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    assert_done(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("\0user\0pencil")), "user");
    assert_done(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("User\0uSER\0pencil")), "user");
    assert_string_equal(stage.entered_name, "user");
    assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("\0user\0pencil ")), EXCHANGE_REFUSED);
    assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("\0user\0Pencil")), EXCHANGE_REFUSED);
    assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("other\0user\0pencil")), EXCHANGE_REFUSED);
    assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("\0nobody\0pencil")), EXCHANGE_REFUSED);
    assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("\0gone\0pencil")), EXCHANGE_REFUSED);
    assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("\0robot\0pencil")), EXCHANGE_REFUSED);
    stage_close(&stage);
}

static void test_plain_that_is_malformed(void **state)
{
    static const struct bytes bad[] = {
        BYTES(""),
        BYTES("user"),
        BYTES("\0user"),
        BYTES("\0user\0"),
        BYTES("\0\0pencil"),
        BYTES("\0"),
        BYTES("\0\0"),
        BYTES("\0\0\0"),
        BYTES("\0user\0pencil\0"),
        BYTES("\0user\0pen\0cil"),
        BYTES("\0us\ner\0pencil"),
        BYTES("\0user\0pen\rcil"),
        BYTES("\0user\0pen\xff"),
        BYTES("\0us\xc3\0pencil"),
        BYTES("\x01\0user\0pencil"),
    };
    struct stage stage;
    (void)state;
    stage_open(&stage);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, bad[i]), EXCHANGE_MALFORMED);
    }
    assert_int_equal(stage.entered, 0); /* nobody is blamed */
    stage_close(&stage);
}

/* RFC 4616 2: each part may have 255 octets. Ours end there but for the password, and all that is longer is refused. */
static void test_plain_lengths(void **state)
{
    char text[2048];
    struct stage stage;
    (void)state;
    stage_open(&stage);
    for (size_t name = 254; name <= 257; name++) {
        for (size_t password = 511; password <= 513; password++) {
            memset(text, 'x', sizeof text);
            text[name] = '\0';
            text[name + 1 + name] = '\0';
            enum exchange_event event = stage_run(&stage, MECHANISM_PLAIN,
                                                  bytes_of(text, name + 1 + name + 1 + password));
            assert_failed(&stage, event, name <= 255 && password <= 512 ? EXCHANGE_REFUSED : EXCHANGE_MALFORMED);
        }
    }
    MANY('\0', sizeof many);
    assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, bytes_of(many, sizeof many)), EXCHANGE_MALFORMED);
    MANY('x', sizeof many);
    for (enum mechanism mechanism = 0; mechanism < MECHANISMS; mechanism++) {
        assert_failed(&stage, stage_run(&stage, mechanism, bytes_of(many, sizeof many)), EXCHANGE_MALFORMED);
    }
    stage_close(&stage);
}

static void test_login(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    assert_int_equal(exchange_begin(&stage.exchange, &stage.scene, MECHANISM_LOGIN, false, BYTES("")),
                     EXCHANGE_CHALLENGE);
    assert_bytes_equal(exchange_output(&stage.exchange), "Username:");
    assert_int_equal(exchange_step(&stage.exchange, BYTES("user")), EXCHANGE_CHALLENGE);
    assert_bytes_equal(exchange_output(&stage.exchange), "Password:");
    assert_int_equal(exchange_step(&stage.exchange, BYTES("pencil")), EXCHANGE_WORK);
    exchange_work(&stage.exchange);
    assert_done(&stage, exchange_worked(&stage.exchange), "user");
    /* An initial response is the name. */
    assert_int_equal(stage_begin(&stage, MECHANISM_LOGIN, BYTES("nobody")), EXCHANGE_CHALLENGE);
    assert_bytes_equal(exchange_output(&stage.exchange), "Password:");
    assert_int_equal(exchange_step(&stage.exchange, BYTES("pencil")), EXCHANGE_WORK);
    exchange_work(&stage.exchange);
    assert_failed(&stage, exchange_worked(&stage.exchange), EXCHANGE_REFUSED);
    assert_failed(&stage, stage_begin(&stage, MECHANISM_LOGIN, BYTES("")), EXCHANGE_MALFORMED);
    assert_failed(&stage, stage_begin(&stage, MECHANISM_LOGIN, BYTES("us\0er")), EXCHANGE_MALFORMED);
    assert_int_equal(stage_begin(&stage, MECHANISM_LOGIN, BYTES("user")), EXCHANGE_CHALLENGE);
    assert_failed(&stage, exchange_step(&stage.exchange, BYTES("")), EXCHANGE_MALFORMED);
    stage_close(&stage);
}

/* Known and unknown names ask for the same work, of the same size, and say the same. */
static void test_unknown_names_look_like_known_ones(void **state)
{
    static const char *const names[] = {"user", "nobody", "gone", "robot"};
    struct stage stage;
    (void)state;
    stage_open(&stage);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[64] = "";
        int length = snprintf(text + 1, sizeof text - 1, "%s%cwrong", names[i], 0);
        assert_int_equal(stage_begin(&stage, MECHANISM_PLAIN, bytes_of(text, (size_t)length + 1)), EXCHANGE_WORK);
        assert_int_equal(stage.exchange.verifier.iterations, 4096);
        assert_int_equal(stage.exchange.verifier.salt_length, 16);
        exchange_work(&stage.exchange);
        assert_failed(&stage, exchange_worked(&stage.exchange), EXCHANGE_REFUSED);
    }
    assert_int_equal(stage.remembered, 0);
    stage_close(&stage);
}

static void test_recent_passwords_skip_the_work(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    assert_done(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("\0user\0pencil")), "user");
    assert_int_equal(stage.remembered, 1);
    stage.recent_known = true;
    assert_done(&stage, stage_begin(&stage, MECHANISM_PLAIN, BYTES("\0user\0whatever the hook knows")), "user");
    /* Even then nobody becomes somebody. */
    assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("\0gone\0pencil")), EXCHANGE_REFUSED);
    assert_failed(&stage, stage_run(&stage, MECHANISM_PLAIN, BYTES("\0nobody\0pencil")), EXCHANGE_REFUSED);
    stage_close(&stage);
}

static void test_recent_keys_differ(void **state)
{
    static const struct bytes tries[] = {BYTES("\0user\0pencil"), BYTES("\0user\0pencil2"), BYTES("\0a,b=c\0pencil"),
                                         BYTES("\0nobody\0pencil")};
    uint8_t keys[4][EXCHANGE_KEY_BYTES];
    struct stage stage;
    (void)state;
    stage_open(&stage);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(stage_begin(&stage, MECHANISM_PLAIN, tries[i]), EXCHANGE_WORK);
        memcpy(keys[i], stage.exchange.recent_key, sizeof keys[i]);
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(keys[i], keys[j], sizeof keys[i]);
        }
    }
    /* Another verifier, the same password. */
    struct credentials *other = fixture_credentials("user:{SCRAM-SHA-256}4096,MTIzNDU2Nzg5MDEyMTIzNA==,"
                                                    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
                                                    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
    stage.scene.credentials = other;
    assert_int_equal(stage_begin(&stage, MECHANISM_PLAIN, tries[0]), EXCHANGE_WORK);
    assert_memory_not_equal(keys[0], stage.exchange.recent_key, sizeof keys[0]);
    credentials_give(other);
    stage_close(&stage);
}

static void test_locked(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    stage.locked = true;
    assert_failed(&stage, stage_begin(&stage, MECHANISM_PLAIN, BYTES("\0user\0pencil")), EXCHANGE_LOCKED);
    assert_failed(&stage, stage_begin(&stage, MECHANISM_LOGIN, BYTES("nobody")), EXCHANGE_LOCKED);
    assert_failed(&stage, stage_begin(&stage, MECHANISM_SCRAM_SHA_256, BYTES("n,,n=user,r=x")), EXCHANGE_LOCKED);
    assert_failed(&stage, stage_begin(&stage, MECHANISM_XOAUTH2, BYTES("user=user\1auth=Bearer x\1\1")),
                  EXCHANGE_LOCKED);
    assert_failed(&stage, stage_begin(&stage, MECHANISM_OAUTHBEARER, BYTES("n,,\1auth=Bearer x\1\1")), EXCHANGE_LOCKED);
    assert_string_equal(stage.entered_name, "");
    assert_failed(&stage, stage_begin(&stage, MECHANISM_EXTERNAL, BYTES("user")), EXCHANGE_LOCKED);
    assert_int_equal(stage.entered, 6);
    stage_close(&stage);
}

static void test_work_that_cannot_be_done(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    assert_int_equal(stage_begin(&stage, MECHANISM_PLAIN, BYTES("\0user\0pencil")), EXCHANGE_WORK);
    assert_failed(&stage, exchange_unworked(&stage.exchange), EXCHANGE_TEMPORARY);
    stage_close(&stage);
}

static bool holds(const struct exchange *exchange, const char *word)
{
    return memmem(exchange, sizeof *exchange, word, strlen(word)) != NULL;
}

static void test_secrets_are_wiped(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    assert_int_equal(stage_begin(&stage, MECHANISM_PLAIN, BYTES("\0user\0pencil")), EXCHANGE_WORK);
    assert_true(holds(&stage.exchange, "pencil"));
    exchange_work(&stage.exchange);
    assert_done(&stage, exchange_worked(&stage.exchange), "user");
    assert_false(holds(&stage.exchange, "pencil"));
    assert_int_equal(stage_begin(&stage, MECHANISM_LOGIN, BYTES("user")), EXCHANGE_CHALLENGE);
    assert_int_equal(exchange_step(&stage.exchange, BYTES("pencilcase")), EXCHANGE_WORK);
    assert_failed(&stage, exchange_unworked(&stage.exchange), EXCHANGE_TEMPORARY);
    assert_false(holds(&stage.exchange, "pencil"));
    assert_int_equal(stage_begin(&stage, MECHANISM_PLAIN, BYTES("\0user\0pencil")), EXCHANGE_WORK);
    exchange_end(&stage.exchange);
    static const struct exchange nothing;
    assert_memory_equal(&stage.exchange, &nothing, sizeof nothing);
    stage_close(&stage);
}

/* --- one mechanism after another (CVE-2011-1720) -------------------------------------------------------------- */

/* Leaves the exchange as a client could that gives up, or fails, in the middle of it. */
static void fail_somehow(struct stage *stage, enum mechanism mechanism, bool midway)
{
    static const struct bytes openings[MECHANISMS] = {
        [MECHANISM_SCRAM_SHA_256_PLUS] = BYTES("p=tls-exporter,,n=user,r=abc"),
        [MECHANISM_SCRAM_SHA_256] = BYTES("n,,n=user,r=abc"),
        [MECHANISM_OAUTHBEARER] = BYTES("n,a=user,\1auth=Bearer x\1\1"),
        [MECHANISM_XOAUTH2] = BYTES("user=user\1auth=Bearer x\1\1"),
        [MECHANISM_PLAIN] = BYTES("\0user\0wrong"),
        [MECHANISM_LOGIN] = BYTES("user"),
        [MECHANISM_EXTERNAL] = BYTES("user"),
    };
    enum exchange_event event = stage_run(stage, mechanism, openings[mechanism]);
    if (event == EXCHANGE_TOKEN && !midway) {
        event = exchange_answer(&stage->exchange, EXCHANGE_INVALID, BYTES(""));
    }
    for (unsigned i = 0; event == EXCHANGE_CHALLENGE && !midway; i++) {
        assert_true(i < 3);
        event = exchange_step(&stage->exchange, BYTES("wrong"));
        if (event == EXCHANGE_WORK) {
            exchange_work(&stage->exchange);
            event = exchange_worked(&stage->exchange);
        }
    }
    assert_int_not_equal(event, EXCHANGE_DONE);
}

static void succeed(struct stage *stage, enum mechanism mechanism)
{
    struct scram_client plus = {
        .header = "p=tls-exporter,,", .first = "n=user,r=abc", .password = "pencil", .binding = stage->scene.exporter};
    struct scram_client scram = {.header = "n,,", .first = "n=user,r=abc", .password = "pencil"};
    enum exchange_event event;
    switch (mechanism) {
    case MECHANISM_SCRAM_SHA_256_PLUS: event = scram_run(stage, mechanism, &plus); break;
    case MECHANISM_SCRAM_SHA_256: event = scram_run(stage, mechanism, &scram); break;
    case MECHANISM_PLAIN: event = stage_run(stage, mechanism, BYTES("\0user\0pencil")); break;
    case MECHANISM_LOGIN:
        assert_int_equal(stage_begin(stage, mechanism, BYTES("user")), EXCHANGE_CHALLENGE);
        assert_int_equal(exchange_step(&stage->exchange, BYTES("pencil")), EXCHANGE_WORK);
        exchange_work(&stage->exchange);
        event = exchange_worked(&stage->exchange);
        break;
    case MECHANISM_EXTERNAL: assert_done(stage, stage_begin(stage, mechanism, BYTES("")), "robot"); return;
    default:
        assert_int_equal(stage_begin(stage, mechanism,
                                     mechanism == MECHANISM_XOAUTH2 ? BYTES("user=user\1auth=Bearer x\1\1")
                                                                    : BYTES("n,,\1auth=Bearer x\1\1")),
                         EXCHANGE_TOKEN);
        event = exchange_answer(&stage->exchange, EXCHANGE_VALID, BYTES("user"));
    }
    assert_done(stage, event, "user");
}

static void test_all_pairs(void **state)
{
    (void)state;
    for (enum mechanism first = 0; first < MECHANISMS; first++) {
        for (enum mechanism second = 0; second < MECHANISMS; second++) {
            for (unsigned midway = 0; midway < 2; midway++) {
                struct stage stage;
                stage_open(&stage);
                stage.scene.fingerprint = text_of(FINGERPRINT);
                fail_somehow(&stage, first, midway);
                if (midway) {
                    exchange_end(&stage.exchange);
                }
                succeed(&stage, second);
                fail_somehow(&stage, second, false);
                assert_null(stage.exchange.account);
                stage_close(&stage);
            }
        }
    }
}

static void test_external(void **state)
{
    struct stage stage;
    struct bytes names[] = {BYTES("unknown.example"), BYTES("Robot.example")};
    (void)state;
    stage_open(&stage);
    assert_failed(&stage, stage_begin(&stage, MECHANISM_EXTERNAL, BYTES("")), EXCHANGE_REFUSED);
    stage.scene.certificate_names = names;
    stage.scene.certificate_names_count = 2;
    assert_failed(&stage, stage_begin(&stage, MECHANISM_EXTERNAL, BYTES("")), EXCHANGE_REFUSED); /* not verified */
    stage.scene.certificate_verified = true;
    assert_done(&stage, stage_begin(&stage, MECHANISM_EXTERNAL, BYTES("")), "robot");
    assert_done(&stage, stage_begin(&stage, MECHANISM_EXTERNAL, BYTES("ROBOT")), "robot");
    assert_string_equal(stage.entered_name, "robot");
    assert_failed(&stage, stage_begin(&stage, MECHANISM_EXTERNAL, BYTES("user")), EXCHANGE_REFUSED);
    assert_failed(&stage, stage_begin(&stage, MECHANISM_EXTERNAL, BYTES("ro\0bot")), EXCHANGE_MALFORMED);
    names[1] = BYTES("gone.example");
    assert_failed(&stage, stage_begin(&stage, MECHANISM_EXTERNAL, BYTES("")), EXCHANGE_REFUSED);
    stage.scene.certificate_verified = false;
    stage.scene.fingerprint = text_of(FINGERPRINT);
    assert_done(&stage, stage_begin(&stage, MECHANISM_EXTERNAL, BYTES("")), "robot");
    /* Without an initial response the server asks first (RFC 4422 5.). */
    assert_int_equal(exchange_begin(&stage.exchange, &stage.scene, MECHANISM_EXTERNAL, false, BYTES("")),
                     EXCHANGE_CHALLENGE);
    assert_bytes_equal(exchange_output(&stage.exchange), "");
    assert_done(&stage, exchange_step(&stage.exchange, BYTES("")), "robot");
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_plain_that_is_malformed),
        cmocka_unit_test(test_plain_lengths),
        cmocka_unit_test(test_login),
        cmocka_unit_test(test_unknown_names_look_like_known_ones),
        cmocka_unit_test(test_recent_passwords_skip_the_work),
        cmocka_unit_test(test_recent_keys_differ),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_work_that_cannot_be_done),
        cmocka_unit_test(test_secrets_are_wiped),
        cmocka_unit_test(test_all_pairs),
        cmocka_unit_test(test_external),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
