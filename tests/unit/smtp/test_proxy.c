#include "smtp/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* The header in blocks of exactly its octets, from the first one on: nothing is read beyond, and nothing is decided
 * before all of it is there. What follows does not matter. */
static enum proxy_result parse(struct bytes text, struct proxy_header *header)
{
    for (size_t length = 0; length <= text.length; length++) {
        char *block = malloc(length + 1) /* malloc(0) may be NULL */;
        memcpy(block, text.data, length);
        enum proxy_result result = proxy_parse(bytes_of(block, length), header);
        free(block);
        if (result == PROXY_BAD) {
            return PROXY_BAD;
        }
        assert_true((result == PROXY_NEED_MORE) == (length < text.length));
        if (length == text.length) {
            char more[2048];
            struct proxy_header again;
            memcpy(more, text.data, length);
            memcpy(more + length, "\r\n\r\nQUIT\n", 9);
            assert_int_equal(proxy_parse(bytes_of(more, length + 9), &again), result);
            assert_int_equal(again.length, length);
            assert_int_equal(header->length, length);
            return result;
        }
    }
    fail_msg("the header is longer than its text");
    return PROXY_NEED_MORE;
}

#define FULL_V6 "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

static void test_v1(void **state)
{
    (void)state;
    struct proxy_header h;
    assert_int_equal(parse(BYTES("PROXY TCP4 255.255.255.255 192.0.2.1 65535 25\r\n"), &h), PROXY_DONE);
    assert_true(h.version == 1 && h.family == 4 && h.source.port == 65535 && h.destination.port == 25);
    assert_memory_equal(h.source.octets, "\xff\xff\xff\xff", 4);
    assert_memory_equal(h.destination.octets, "\xc0\x00\x02\x01", 4);
    assert_int_equal(parse(BYTES("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::1 0 587\r\n"), &h), PROXY_DONE);
    assert_true(h.family == 6 && h.source.port == 0 && h.destination.port == 587);
    assert_memory_equal(h.destination.octets, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    assert_int_equal(parse(BYTES("PROXY UNKNOWN\r\n"), &h), PROXY_UNKNOWN);
    assert_int_equal(parse(BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                                 "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
                           &h),
                     PROXY_UNKNOWN);
    assert_int_equal(h.length, PROXY_V1_BYTES_MAX);
    assert_int_equal(h.family, 0);
}

static void test_v1_bad(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "EHLO x\r\n",
        "PROXZ",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4\r\n",
        "PROXY TCP4\r\n",
        "PROXY \r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999999999999999999\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r \n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\rx",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN " FULL_V6 " " FULL_V6 " 65535 65535x\r\n",
        "\r\n\r\n",
    };
    for (size_t i = 0; i + 1 < sizeof(cases) / sizeof(cases[0]); i++) {
        struct proxy_header h = {.version = 77};
        if (parse(bytes_of_string(cases[i]), &h) != PROXY_BAD || h.version != 77) {
            fail_msg("\"%s\"", cases[i]);
        }
    }
    struct proxy_header h;
    assert_int_equal(parse(BYTES("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 1\r\n"), &h), PROXY_BAD);
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* Head, and so many octets of addresses and TLVs: 1, 2, 3, ... */
static struct bytes v2(char *space, uint8_t command, uint8_t family, uint16_t length)
{
    memcpy(space, SIGNATURE, 12);
    space[12] = (char)command;
    space[13] = (char)family;
    space[14] = (char)(length >> 8);
    space[15] = (char)length;
    for (unsigned i = 0; i < length; i++) {
        space[16 + i] = (char)(i + 1);
    }
    return bytes_of(space, 16u + length);
}

static void test_v2(void **state)
{
    (void)state;
    char space[70000];
    struct proxy_header h;
    assert_int_equal(parse(v2(space, 0x21, 0x11, 12), &h), PROXY_DONE);
    assert_true(h.version == 2 && h.family == 4 && h.source.port == 0x090a && h.destination.port == 0x0b0c);
    assert_memory_equal(h.source.octets, "\1\2\3\4", 4);
    assert_memory_equal(h.destination.octets, "\5\6\7\10", 4);
    assert_int_equal(parse(v2(space, 0x21, 0x21, 36), &h), PROXY_DONE);
    assert_true(h.family == 6 && h.source.port == 0x2122 && h.destination.port == 0x2324);
    assert_int_equal(parse(v2(space, 0x21, 0x11, 12 + 300), &h), PROXY_DONE); /* TLVs */
    assert_int_equal(parse(v2(space, 0x21, 0x11, PROXY_BYTES_MAX - 16), &h), PROXY_DONE);
    assert_int_equal(parse(v2(space, 0x20, 0x00, 0), &h), PROXY_LOCAL);
    assert_int_equal(h.family, 0);
    assert_int_equal(parse(v2(space, 0x20, 0x11, 12), &h), PROXY_LOCAL);
    assert_int_equal(parse(v2(space, 0x20, 0xff, 100), &h), PROXY_LOCAL); /* family and addresses are to be skipped */
    assert_int_equal(parse(v2(space, 0x21, 0x00, 0), &h), PROXY_UNKNOWN);
    assert_int_equal(parse(v2(space, 0x21, 0x00, 50), &h), PROXY_UNKNOWN);
    assert_int_equal(parse(v2(space, 0x21, 0x31, 216), &h), PROXY_UNKNOWN);
    assert_int_equal(parse(v2(space, 0x21, 0x12, 12), &h), PROXY_UNKNOWN); /* a datagram: nothing that SMTP runs over */
    assert_int_equal(h.family, 0);
}

static void test_v2_bad(void **state)
{
    (void)state;
    static const struct {
        uint8_t command, family;
        uint16_t length;
    } cases[] = {
        {0x11, 0x11, 12},
        {0x31, 0x11, 12},
        {0x01, 0x11, 12},
        {0x22, 0x11, 12},
        {0x2f, 0x11, 12},
        {0x21, 0x11, 11},
        {0x21, 0x11, 0},
        {0x21, 0x21, 35},
        {0x21, 0x21, 12},
        {0x21, 0x31, 215},
        {0x21, 0x41, 40},
        {0x21, 0xf1, 40},
        {0x21, 0x13, 12},
        {0x21, 0x11, PROXY_BYTES_MAX - 15},
        {0x20, 0x11, PROXY_BYTES_MAX - 15},
        {0x21, 0x11, 65535},
    };
    char space[70000];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct proxy_header h = {.version = 77};
        struct bytes text = v2(space, cases[i].command, cases[i].family, cases[i].length);
        if (parse(text, &h) != PROXY_BAD || h.version != 77) {
            fail_msg("case %zu", i);
        }
    }
    struct proxy_header h;
    for (size_t i = 0; i < 12; i++) { /* every octet of the signature counts */
        v2(space, 0x21, 0x11, 12);
        space[i] ^= 1;
        assert_int_equal(parse(bytes_of(space, 28), &h), PROXY_BAD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1),
        cmocka_unit_test(test_v1_bad),
        cmocka_unit_test(test_v2),
        cmocka_unit_test(test_v2_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
