#include "mail/received.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "mail/header.h"

static struct received example(void)
{
    return (struct received){
        .helo = BYTES("client.example"),
        .peer_address = BYTES("192.0.2.1"),
        .host = BYTES("mx.example"),
        .protocol = BYTES("ESMTP"),
        .id = BYTES("4fZk2p"),
        .recipient = BYTES("user@example.net"),
        .time_unix_s = 0,
    };
}

static void assert_received(const struct received *received, const char *expected)
{
    char space[RECEIVED_BYTES_MAX + 1] = {0};
    struct buffer out = buffer_of(space, RECEIVED_BYTES_MAX);
    assert_true(received_append(&out, received));
    assert_int_equal(out.length, strlen(expected));
    assert_string_equal(space, expected);
}

static void test_full(void **state)
{
    (void)state;
    struct received received = example();
    assert_received(&received, "Received: from client.example ([192.0.2.1])\r\n"
                               "\tby mx.example with ESMTP id 4fZk2p\r\n"
                               "\tfor <user@example.net>;\r\n"
                               "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
}

static void test_variants(void **state)
{
    (void)state;
    struct received received = example();
    received.helo = BYTES("[IPv6:2001:db8::2]");
    received.peer_address = BYTES("2001:db8::1");
    received.recipient = BYTES("");
    assert_received(&received, "Received: from [IPv6:2001:db8::2] ([IPv6:2001:db8::1])\r\n"
                               "\tby mx.example with ESMTP id 4fZk2p;\r\n"
                               "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
    received.peer_address = BYTES("");
    assert_received(&received, "Received: from [IPv6:2001:db8::2]\r\n"
                               "\tby mx.example with ESMTP id 4fZk2p;\r\n"
                               "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
}

static void test_tls_is_a_comment(void **state)
{
    (void)state;
    struct received received = example();
    received.tls = BYTES("TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128 bits)");
    assert_received(&received, "Received: from client.example ([192.0.2.1])\r\n"
                               "\t(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128 bits))\r\n"
                               "\tby mx.example with ESMTP id 4fZk2p\r\n"
                               "\tfor <user@example.net>;\r\n"
                               "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
}

/* RFC 6710 7: after all other clauses, when one was given. */
static void test_priority(void **state)
{
    (void)state;
    struct received received = example();
    received.has_priority = true;
    static const struct {
        int8_t priority;
        const char *line;
    } cases[] = {{-9, "\tPRIORITY -9;\r\n"}, {0, "\tPRIORITY 0;\r\n"}, {9, "\tPRIORITY 9;\r\n"}};
    for (unsigned i = 0; i < 3; i++) {
        char expected[300];
        received.priority = cases[i].priority;
        snprintf(expected, sizeof expected,
                 "Received: from client.example ([192.0.2.1])\r\n"
                 "\tby mx.example with ESMTP id 4fZk2p\r\n"
                 "\tfor <user@example.net>\r\n%s"
                 "\tThu, 01 Jan 1970 00:00:00 +0000\r\n",
                 cases[i].line);
        assert_received(&received, expected);
    }
}

/* RFC 3848, RFC 6531 4.3: lmtp, utf8, secure, authenticated. */
static void test_protocols(void **state)
{
    (void)state;
    static const char *const names[] = {
        "ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA", "UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA",
        "LMTP",  "LMTPA",  "LMTPS",  "LMTPSA",  "UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA",
    };
    for (unsigned i = 0; i < 16; i++) {
        struct received_session session = {.extended = true,
                                           .lmtp = (i & 8) != 0,
                                           .utf8 = (i & 4) != 0,
                                           .secure = (i & 2) != 0,
                                           .authenticated = (i & 1) != 0};
        assert_true(bytes_equal(received_protocol(&session), bytes_of_string(names[i])));
        session.extended = false;
        assert_true(bytes_equal(received_protocol(&session), BYTES("SMTP")));
    }
}

static void test_longest(void **state)
{
    (void)state;
    char name[256], space[RECEIVED_BYTES_MAX];
    memset(name, 'a', sizeof(name));
    struct received received = example();
    received.helo = received.host = bytes_of(name, 255);
    received.recipient = bytes_of(name, 254);
    received.peer_address = BYTES("2001:0db8:0000:0000:0000:0000:255.255.255.255");
    received.id = bytes_of(name, 64);
    received.has_priority = true;
    received.priority = -9;
    struct buffer out = buffer_of(space, sizeof(space));
    assert_true(received_append(&out, &received));
    struct bytes rest = buffer_bytes(&out);
    struct header_field field;
    assert_true(header_next(&rest, &field));
    assert_int_equal(rest.length, 0); /* one field, folds and all */
    size_t line = 0;
    for (size_t i = 0; i < out.length; i++) {
        line = out.data[i] == '\n' ? 0 : line + 1;
        assert_true(line <= 998);
    }
}

static void test_all_or_nothing(void **state)
{
    (void)state;
    char space[RECEIVED_BYTES_MAX];
    struct received received = example();
    struct buffer whole = buffer_of(space, sizeof(space));
    assert_true(received_append(&whole, &received));
    for (size_t room = 0; room < whole.length; room++) {
        struct buffer out = buffer_of(space, room);
        assert_false(received_append(&out, &received));
        assert_int_equal(out.length, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_tls_is_a_comment),
        cmocka_unit_test(test_priority),
        cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
