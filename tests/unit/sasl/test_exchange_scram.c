/* SCRAM-SHA-256 and -PLUS: RFC 5802, RFC 7677, RFC 9266. */
#include "sasl/exchange.h"

#include <stdlib.h>

#include "unit/sasl/exchange_fixture.h"

#define SCRAM MECHANISM_SCRAM_SHA_256
#define PLUS MECHANISM_SCRAM_SHA_256_PLUS

static void test_good(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    struct scram_client client = {.header = "n,,", .first = "n=user,r=fyko+d2lbbFgONRv9qkxdawL", .password = "pencil"};
    assert_done(&stage, scram_run(&stage, SCRAM, &client), "user");
    client.header = "n,a=USER,";
    client.first = "n=User,r=x";
    assert_done(&stage, scram_run(&stage, SCRAM, &client), "user");
    client.header = "n,,";
    client.first = "n=a=2Cb=3Dc,r=x";
    assert_done(&stage, scram_run(&stage, SCRAM, &client), "a,b=c");
    client.first = "n=user,r=x,x=an extension,y=another";
    client.extension = ",z=one more";
    assert_done(&stage, scram_run(&stage, SCRAM, &client), "user");
    stage_close(&stage);
}

static void test_without_initial_response(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    assert_int_equal(exchange_begin(&stage.exchange, &stage.scene, SCRAM, false, BYTES("")), EXCHANGE_CHALLENGE);
    assert_bytes_equal(exchange_output(&stage.exchange), "");
    assert_int_equal(exchange_step(&stage.exchange, BYTES("n,,n=user,r=abc")), EXCHANGE_CHALLENGE);
    struct bytes first = exchange_output(&stage.exchange);
    assert_bytes_equal(bytes_slice(first, 0, 5), "r=abc");
    assert_bytes_equal(bytes_slice(first, 5 + 24, first.length - 5 - 24), ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    stage_close(&stage);
}

static void test_nonces_differ(void **state)
{
    struct stage stage;
    char nonces[2][24];
    (void)state;
    stage_open(&stage);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(stage_begin(&stage, SCRAM, BYTES("n,,n=user,r=abc")), EXCHANGE_CHALLENGE);
        memcpy(nonces[i], exchange_output(&stage.exchange).data + 5, 24);
    }
    assert_memory_not_equal(nonces[0], nonces[1], 24);
    stage_close(&stage);
}

static void test_wrong(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    struct scram_client client = {.header = "n,,", .first = "n=user,r=abc", .password = "pencils"};
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    client.password = "pencil";
    client.first = "n=nobody,r=abc";
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    client.first = "n=gone,r=abc";
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    client.first = "n=robot,r=abc";
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    client.first = "n=user,r=abc";
    client.header = "n,a=somebody,";
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    client.header = "n,,";
    client.sent_nonce = "abc";
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    client.sent_nonce = NULL;
    client.sent_header = "y,,";
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    client.sent_header = "n,a=user,";
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    stage_close(&stage);
}

static void test_unknown_names_get_lasting_salts(void **state)
{
    struct stage stage;
    char first[2][128];
    (void)state;
    stage_open(&stage);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(stage_begin(&stage, SCRAM, BYTES("n,,n=nobody,r=abc")), EXCHANGE_CHALLENGE);
        struct bytes said = exchange_output(&stage.exchange);
        snprintf(first[i], sizeof first[i], "%.*s", (int)(said.length - 29), said.data + 29);
    }
    assert_string_equal(first[0], first[1]);
    assert_int_equal(strlen(first[0]), strlen(",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
    assert_non_null(strstr(first[0], ",i=4096"));
    stage_close(&stage);
}

static void test_channel_binding(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    struct scram_client client = {
        .header = "p=tls-exporter,,", .first = "n=user,r=abc", .password = "pencil", .binding = stage.scene.exporter};
    assert_done(&stage, scram_run(&stage, PLUS, &client), "user");
    client.binding = stage.scene.end_point;
    assert_failed(&stage, scram_run(&stage, PLUS, &client), EXCHANGE_REFUSED); /* somebody is between us */
    client.header = "p=tls-server-end-point,a=user,";
    assert_done(&stage, scram_run(&stage, PLUS, &client), "user");
    client.binding = BYTES("");
    assert_failed(&stage, scram_run(&stage, PLUS, &client), EXCHANGE_REFUSED);
    client.binding = stage.scene.end_point;
    client.header = "p=tls-unique,,";
    assert_failed(&stage, scram_run(&stage, PLUS, &client), EXCHANGE_REFUSED);
    client.header = "n,,";
    assert_failed(&stage, scram_run(&stage, PLUS, &client), EXCHANGE_REFUSED);
    client.header = "y,,";
    assert_failed(&stage, scram_run(&stage, PLUS, &client), EXCHANGE_REFUSED);
    /* A binding that this connection does not have, as a resumed TLS 1.2 session without extended master secret. */
    stage.scene.exporter = BYTES("");
    client.header = "p=tls-exporter,,";
    client.binding = BYTES("");
    assert_failed(&stage, scram_run(&stage, PLUS, &client), EXCHANGE_REFUSED);
    stage_close(&stage);
}

/* RFC 5802 6: 'y' where -PLUS was offered means that somebody took the offer away. */
static void test_downgrade(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage);
    struct scram_client client = {.header = "y,,", .first = "n=user,r=abc", .password = "pencil"};
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    stage.scene.offered &= ~MECHANISM_BIT(PLUS);
    assert_done(&stage, scram_run(&stage, SCRAM, &client), "user");
    client.header = "p=tls-exporter,,";
    client.binding = stage.scene.exporter;
    assert_failed(&stage, scram_run(&stage, SCRAM, &client), EXCHANGE_REFUSED);
    stage_close(&stage);
}

static void test_malformed_first(void **state)
{
    static const char *const bad[] = {"",
                                      ",",
                                      ",,",
                                      "n",
                                      "n,",
                                      "n,,",
                                      "n,,n=user",
                                      "n,,r=abc",
                                      "n,,n=user,r=",
                                      "n,,n=,r=abc",
                                      "n,,n=user,x=1,r=abc",
                                      "n,,m=ext,n=user,r=abc",
                                      "n,,r=abc,n=user",
                                      "n,,n=us=er,r=abc",
                                      "n,,n=us=2,r=abc",
                                      "n,,n=us=2c,r=abc",
                                      "n,,n=us=3C,r=abc",
                                      "n,,n=us=2D,r=abc",
                                      "n,user,n=user,r=abc",
                                      "n,a=,n=user,r=abc",
                                      "n,a==,n=user,r=abc",
                                      "x,,n=user,r=abc",
                                      "nn,,n=user,r=abc",
                                      "p,,n=user,r=abc",
                                      "p=,,n=user,r=abc",
                                      "p=a b,,n=user,r=abc",
                                      "n=x,,n=user,r=abc",
                                      "n,,n=user,r=a\x7f",
                                      "n,,n=user,r=a b",
                                      "n,,n=us\ner,r=abc",
                                      "n,,n=\xff,r=abc",
                                      "N,,n=user,r=abc",
                                      "n,,N=user,R=abc",
                                      "n,,n=user,r=\xc3\xa9"};
    struct stage stage;
    (void)state;
    stage_open(&stage);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        enum exchange_event event = stage_begin(&stage, SCRAM, text_of(bad[i]));
        if (event != EXCHANGE_FAILED || stage.exchange.failure != EXCHANGE_MALFORMED) {
            fail_msg("\"%s\"", bad[i]);
        }
    }
    assert_failed(&stage, stage_begin(&stage, SCRAM, BYTES("n,,n=us\0er,r=abc")), EXCHANGE_MALFORMED);
    assert_int_equal(stage.entered, 0);
    stage_close(&stage);
}

static void test_malformed_final(void **state)
{
    static const char *const bad[] = {"",
                                      "c=biws",
                                      "c=biws,r=abc",
                                      "c=biws,r=abc,p=",
                                      "c=biws,r=abc,p=AAAA",
                                      "r=abc,c=biws,p=V0VMTCBUSElTIElTIDMyIE9DVEVUUyBMT05HIE9LIQo=",
                                      "c=biws,p=V0VMTCBUSElTIElTIDMyIE9DVEVUUyBMT05HIE9LIQo=,r=abc",
                                      "c=biws,r=abc,p=V0VMTCBUSElTIElTIDMyIE9DVEVUUyBMT05HIE9LIQo",
                                      "p=V0VMTCBUSElTIElTIDMyIE9DVEVUUyBMT05HIE9LIQo="};
    struct stage stage;
    (void)state;
    stage_open(&stage);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(stage_begin(&stage, SCRAM, BYTES("n,,n=user,r=abc")), EXCHANGE_CHALLENGE);
        assert_failed(&stage, exchange_step(&stage.exchange, text_of(bad[i])), EXCHANGE_MALFORMED);
    }
    /* Grammatically right, and wrong. */
    assert_int_equal(stage_begin(&stage, SCRAM, BYTES("n,,n=user,r=abc")), EXCHANGE_CHALLENGE);
    assert_failed(&stage,
                  exchange_step(&stage.exchange, BYTES("c=!,r=abc,p=V0VMTCBUSElTIElTIDMyIE9DVEVUUyBMT05HIE9LIQo=")),
                  EXCHANGE_REFUSED);
    stage_close(&stage);
}

/* The last word of the client is empty (RFC 4954 4). */
static void test_goodbye(void **state)
{
    char room[256];
    struct stage stage;
    (void)state;
    stage_open(&stage);
    struct scram_client client = {.header = "n,,", .first = "n=user,r=abc", .password = "pencil"};
    assert_int_equal(stage_begin(&stage, SCRAM, scram_first(&client, room, sizeof room)), EXCHANGE_CHALLENGE);
    struct bytes final = scram_final(&client, exchange_output(&stage.exchange));
    assert_int_equal(exchange_step(&stage.exchange, final), EXCHANGE_CHALLENGE);
    assert_failed(&stage, exchange_step(&stage.exchange, BYTES("more")), EXCHANGE_MALFORMED);
    stage_close(&stage);
}

/* Whatever a client says, in the limits of a line, what we keep of it fits. */
static void test_sizes(void **state)
{
    static char text[EXCHANGE_INPUT_BYTES_MAX];
    struct stage stage;
    (void)state;
    stage_open(&stage);
    for (size_t nonce = 255; nonce <= 257; nonce++) {
        memset(text, 'x', sizeof text);
        memcpy(text, "n,,n=user,r=", 12);
        assert_int_equal(stage_begin(&stage, SCRAM, bytes_of(text, 12 + nonce)),
                         nonce <= 256 ? EXCHANGE_CHALLENGE : EXCHANGE_FAILED);
    }
    for (size_t bare = 1534; bare <= 1538; bare++) {
        memset(text, 'x', sizeof text);
        memcpy(text, "n,,n=user,r=abc,x=", 18);
        assert_int_equal(stage_begin(&stage, SCRAM, bytes_of(text, 3 + bare)),
                         bare <= 1536 ? EXCHANGE_CHALLENGE : EXCHANGE_FAILED);
    }
    memset(text, 'x', sizeof text);
    memcpy(text, "n,,n=user,r=abc", 15);
    assert_int_equal(stage_begin(&stage, SCRAM, bytes_of(text, 15)), EXCHANGE_CHALLENGE);
    memcpy(text, "c=biws,r=abc,x=", 15);
    memcpy(text + sizeof text - 47, ",p=V0VMTCBUSElTIElTIDMyIE9DVEVUUyBMT05HIE9LIQo=", 47);
    assert_failed(&stage, exchange_step(&stage.exchange, bytes_of(text, sizeof text)), EXCHANGE_MALFORMED);
    /* The largest name and authorization identity, every octet of them encoded. */
    struct buffer out = buffer_of(text, sizeof text);
    assert_true(buffer_append_string(&out, "p=tls-server-end-point,a="));
    for (unsigned i = 0; i < 255; i++) {
        assert_true(buffer_append_string(&out, "=2C"));
    }
    assert_true(buffer_append_string(&out, ",n="));
    for (unsigned i = 0; i < 255; i++) {
        assert_true(buffer_append_string(&out, "=3D"));
    }
    assert_true(buffer_append_string(&out, ",r=abc"));
    assert_failed(&stage, stage_begin(&stage, PLUS, buffer_bytes(&out)), EXCHANGE_REFUSED); /* two names */
    for (char *at = text; (at = memmem(at, out.length, "=3D", 3)) != NULL && at < text + out.length; at += 3) {
        memcpy(at, "=2C", 3);
    }
    assert_int_equal(stage_begin(&stage, PLUS, buffer_bytes(&out)), EXCHANGE_CHALLENGE);
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_without_initial_response),
        cmocka_unit_test(test_nonces_differ),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_unknown_names_get_lasting_salts),
        cmocka_unit_test(test_channel_binding),
        cmocka_unit_test(test_downgrade),
        cmocka_unit_test(test_malformed_first),
        cmocka_unit_test(test_malformed_final),
        cmocka_unit_test(test_goodbye),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
