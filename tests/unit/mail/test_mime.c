#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "mail/mime.h"
#include "mail/mime_encode.h"
#include "mail/mime_type.h"

static char room[256 * 1024];

static void expect(enum mime_result result, const char *message, const char *converted)
{
    struct buffer out = buffer_of(room, sizeof(room));
    buffer_append_string(&out, "before");
    assert_int_equal(mime_to_7bit(bytes_of_string(message), &out), result);
    assert_memory_equal(out.data, "before", 6);
    out.data[out.length] = '\0';
    assert_string_equal(out.data + 6, result == MIME_CONVERTED ? converted : "");
}

static void expect_cannot(const char *message)
{
    expect(MIME_CANNOT, message, NULL);
}

static void seven_bit_is_untouched(void **state)
{
    (void)state;
    const char *odd = "Content-Transfer-Encoding: 8bit\r\n\r\n..x \r\nno structure\r\n.\r\n";
    expect(MIME_CONVERTED, odd, odd);
    expect(MIME_CONVERTED, ".\r\n", ".\r\n");
}

static void text_becomes_quoted_printable(void **state)
{
    (void)state;
    expect(MIME_CONVERTED,
           "From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
           "Content-Transfer-Encoding: 8bit\r\nSubject: x\r\n\r\n"
           "caf\xc3\xa9 a=b \r\n\r\n..dot\r\ntab\t\r\n\tx\r\n.\r\n",
           "From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
           "Content-Transfer-Encoding: quoted-printable\r\nSubject: x\r\n\r\n"
           "caf=C3=A9 a=3Db=20\r\n\r\n=2Edot\r\ntab=09\r\n\tx\r\n.\r\n");
}

static void what_is_missing_is_added(void **state)
{
    (void)state;
    expect(MIME_CONVERTED, "Subject: x\r\n\r\n\xff\r\n.\r\n",
           "Subject: x\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=FF\r\n.\r\n");
    expect(MIME_CONVERTED, "\r\n\xff\r\n.\r\n",
           "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=FF\r\n.\r\n");
}

static void other_types_become_base64(void **state)
{
    (void)state;
    expect(MIME_CONVERTED,
           "MIME-Version: 1.0\r\nContent-Type: image/x-thing\r\nContent-Transfer-Encoding: binary\r\n\r\n"
           "..\xff\r\nx\r\n.\r\n",
           "MIME-Version: 1.0\r\nContent-Type: image/x-thing\r\nContent-Transfer-Encoding: base64\r\n\r\n"
           "Lv8NCngNCg==\r\n.\r\n");
}

static void lines_are_broken_softly(void **state)
{
    (void)state;
    char message[400] = "MIME-Version: 1.0\r\n\r\n\xe9";
    size_t head = strlen(message) - 1;
    memset(message + head + 1, 'x', 72);
    memcpy(message + head + 71, "--.y\r\n.\r\n", 10);
    char expected[600] = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=E9";
    size_t n = strlen(expected);
    memset(expected + n, 'x', 70);
    memcpy(expected + n + 70, "=\r\n=2D-.y\r\n.\r\n", 15);
    expect(MIME_CONVERTED, message, expected);
}

static void multipart_parts_are_converted_alone(void **state)
{
    (void)state;
    expect(MIME_CONVERTED,
           "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"out er\"\r\n"
           "Content-Transfer-Encoding: 8bit\r\n\r\n"
           "preamble\r\n--out er\r\nContent-Type: multipart/alternative; (c) boundary=in\r\n\r\n"
           "--in\r\n\r\n=plain \r\n..\r\n--in  \r\nContent-Type: text/html\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
           "\xc3\xa9\r\n--inx\r\n--in--\r\n\r\n--out er\r\nContent-Type: application/pdf\r\n\r\n\xfe\r\n"
           "--out er\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n7 \r\n--s--\r\n"
           "--out er--\r\nepilogue\r\n.\r\n",
           "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"out er\"\r\n"
           "Content-Transfer-Encoding: 7bit\r\n\r\n"
           "preamble\r\n--out er\r\nContent-Type: multipart/alternative; (c) boundary=in\r\n\r\n"
           "--in\r\n\r\n=plain \r\n..\r\n--in  \r\nContent-Type: text/html\r\n"
           "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
           "=C3=A9\r\n--inx\r\n--in--\r\n\r\n--out er\r\nContent-Type: application/pdf\r\n"
           "Content-Transfer-Encoding: base64\r\n\r\n/g==\r\n"
           "--out er\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n7 \r\n--s--\r\n"
           "--out er--\r\nepilogue\r\n.\r\n");
}

static void the_outer_boundary_wins(void **state)
{
    (void)state;
    expect_cannot("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n"
                  "\r\n--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n"
                  "--i\r\n\r\n\xff\r\n--o--\r\n--i--\r\n.\r\n");
}

static void messages_inside_are_messages(void **state)
{
    (void)state;
    expect(MIME_CONVERTED,
           "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=d\r\n"
           "\r\n--d\r\n\r\nSubject: in\r\n\r\n\xff\r\n--d\r\n"
           "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
           "MIME-Version: 1.0\r\nContent-Type: audio/x\r\n"
           "\r\n\xff\r\n--d--\r\n.\r\n",
           "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=d\r\n"
           "\r\n--d\r\n\r\nSubject: in\r\nMIME-Version: 1.0\r\n"
           "Content-Transfer-Encoding: quoted-printable\r\n\r\n=FF\r\n--d\r\n"
           "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
           "MIME-Version: 1.0\r\nContent-Type: audio/x\r\n"
           "Content-Transfer-Encoding: base64\r\n\r\n/w==\r\n--d--\r\n.\r\n");
}

static void what_must_not_change_is_refused(void **state)
{
    (void)state;
    static const char *const messages[] = {
        "Subject: caf\xc3\xa9\r\n\r\nx\r\n.\r\n",
        "not a header\r\n\r\n\xff\r\n.\r\n",
        "Subject: x\r\n\xff\r\n\r\nx\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n\xff\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
        "Content-Transfer-Encoding: x-uuencode\r\n\r\n\xff\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
        "Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xff\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
        "Content-Type: text/html\r\n\r\n\xff\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text\r\n"
        "\r\n\xff\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n"
        "\r\n--b\r\n\r\n\xff\r\n--b--\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: Multipart/Encrypted; boundary=b\r\n"
        "\r\n--b\r\n\r\n\xff\r\n--b--\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n"
        "\r\n--b\r\n\r\n\xff\r\n--b--\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b; boundary=c\r\n"
        "\r\n--b\r\n\r\n\xff\r\n--b--\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b c\r\n"
        "\r\n--b\r\n\r\n\xff\r\n--b--\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\r\n"
        "\r\n--b\r\n\r\n\xff\r\n--b--\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
        "\r\n--b\r\n\r\n\xff\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
        "\r\npre\xff\r\n--b\r\n\r\nx\r\n--b--\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
        "\r\n--b\r\n\r\nx\r\n--b--\r\nepi\xff\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
        "\r\n--b\r\nA: \xff\r\n\r\nx\r\n--b--\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n--b\r\n\r\n\xff\r\n--b--\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: message/delivery-status\r\n"
        "\r\nA: \xff\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: message/partial\r\n"
        "\r\n\xff\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
        "\r\n\xff\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
        "\r\n\xff\n\r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
        "\r\n\xff\rx\r\n.\r\n",
    };
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        struct buffer out = buffer_of(room, sizeof(room));
        if (mime_to_7bit(bytes_of_string(messages[i]), &out) != MIME_CANNOT || out.length != 0) {
            fail_msg("converted, message %zu: %s", i, messages[i]);
        }
    }
    struct buffer out = buffer_of(room, sizeof(room));
    assert_int_equal(mime_to_7bit(BYTES("A: b\r\n\r\n\xff\0\r\n.\r\n"), &out), MIME_CANNOT);
}

/* `depth` multiparts inside each other; each is a part of the one around it. */
static enum mime_result convert_nested(unsigned depth)
{
    static char message[16 * 1024];
    struct buffer m = buffer_of(message, sizeof(message));
    for (unsigned i = 0; i < depth; i++) {
        assert_true(buffer_append_format(&m, "Content-Type: multipart/mixed; boundary=b%u\r\n\r\n--b%u\r\n", i, i));
    }
    buffer_append_string(&m, "\r\n\xff\r\n");
    for (unsigned i = depth; i-- != 0;) {
        assert_true(buffer_append_format(&m, "--b%u--\r\n", i));
    }
    buffer_append_string(&m, ".\r\n");
    struct buffer out = buffer_of(room, sizeof(room));
    return mime_to_7bit(buffer_bytes(&m), &out);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(convert_nested(MIME_DEPTH_MAX), MIME_CONVERTED);
    assert_int_equal(convert_nested(MIME_DEPTH_MAX + 1), MIME_CANNOT);
}

static void a_full_buffer_is_told_and_untouched(void **state)
{
    (void)state;
    struct bytes message = BYTES("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
                                 "\r\n--b\r\n\r\n\xff\r\n--b\r\n"
                                 "Content-Type: a/b\r\n\r\n\xff\r\n--b--\r\n.\r\n");
    struct buffer whole = buffer_of(room, sizeof(room));
    assert_int_equal(mime_to_7bit(message, &whole), MIME_CONVERTED);
    for (size_t capacity = 0; capacity < whole.length; capacity++) {
        char *exact = malloc(capacity + 1);
        struct buffer out = buffer_of(exact, capacity);
        assert_int_equal(mime_to_7bit(message, &out), MIME_FULL);
        assert_int_equal(out.length, 0);
        free(exact);
    }
}

/* --- encodings, read back by a decoder of our own ------------------------------------------------------------------
 */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void decode_quoted_printable(struct bytes in, struct buffer *out)
{
    for (size_t i = 0; i < in.length; i++) {
        char c = in.data[i];
        if (c == '=' && in.data[i + 1] == '\r') {
            assert_int_equal(in.data[i + 2], '\n');
            i += 2;
            continue;
        }
        if (c == '=') {
            c = (char)(hex(in.data[i + 1]) << 4 | hex(in.data[i + 2]));
            i += 2;
        }
        assert_true(buffer_append(out, bytes_of(&c, 1)));
    }
}

static void decode_base64(struct bytes in, struct buffer *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned count = 0;
    for (size_t i = 0; i < in.length; i++) {
        const char *digit = strchr(digits, in.data[i]);
        if (digit == NULL) {
            continue;
        }
        bits = bits << 6 | (uint32_t)(digit - digits);
        count += 6;
        if (count >= 8) {
            count -= 8;
            char c = (char)(bits >> count);
            assert_true(buffer_append(out, bytes_of(&c, 1)));
        }
    }
}

static void check_lines(struct bytes encoded)
{
    size_t column = 0;
    for (size_t i = 0; i < encoded.length; i++) {
        assert_true((encoded.data[i] & 0x80) == 0);
        assert_false(column == 0 && encoded.data[i] == '.');
        column = encoded.data[i] == '\n' ? 0 : column + 1;
        assert_true(column <= 77); /* with the CR */
    }
}

/* Octets that matter, CRLF line ends; `stuffed` as it is on the wire. */
static void make_data(struct rng *rng, struct buffer *plain, struct buffer *stuffed)
{
    static const char octets[] = "aZ=-. \t\xff\x80\x01\x7f_\xc3";
    plain->length = stuffed->length = 0;
    size_t n = (size_t)rng_below(rng, 700);
    bool line_start = true;
    for (size_t i = 0; i < n; i++) {
        bool end = rng_below(rng, 60) == 0;
        struct bytes piece = end ? BYTES("\r\n") : bytes_of(&octets[rng_below(rng, sizeof(octets) - 1)], 1);
        buffer_append(plain, piece);
        if (line_start && piece.data[0] == '.') {
            buffer_append_string(stuffed, ".");
        }
        buffer_append(stuffed, piece);
        line_start = end;
    }
}

static void encodings_read_back(void **state)
{
    (void)state;
    static char plain_bytes[2048], stuffed_bytes[2048], encoded_bytes[8192], decoded_bytes[8192];
    struct buffer plain = buffer_of(plain_bytes, sizeof(plain_bytes));
    struct buffer stuffed = buffer_of(stuffed_bytes, sizeof(stuffed_bytes));
    struct rng rng;
    rng_seed(&rng, 20);
    for (int round = 0; round < 4000; round++) {
        make_data(&rng, &plain, &stuffed);
        for (int base64 = 0; base64 < 2; base64++) {
            struct buffer encoded = buffer_of(encoded_bytes, sizeof(encoded_bytes));
            struct buffer decoded = buffer_of(decoded_bytes, sizeof(decoded_bytes));
            assert_true(base64 ? mime_encode_base64(buffer_bytes(&stuffed), &encoded)
                               : mime_encode_quoted_printable(buffer_bytes(&stuffed), &encoded));
            check_lines(buffer_bytes(&encoded));
            if (base64) {
                decode_base64(buffer_bytes(&encoded), &decoded);
            } else {
                decode_quoted_printable(buffer_bytes(&encoded), &decoded);
            }
            assert_true(bytes_equal(buffer_bytes(&decoded), buffer_bytes(&plain)));
        }
    }
}

static void content_types_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *value, *type, *subtype, *boundary; /* type NULL: not readable */
    } rows[] = {
        {" text/plain", "text", "plain", ""},
        {" multipart/mixed; boundary=abc", "multipart", "mixed", "abc"},
        {"multipart/mixed; boundary=abc; boundary=def", "multipart", "mixed", ""},
        {"multipart / mixed ; BOUNDARY = \"a \\\"c\" ; x=y;", "multipart", "mixed", "a \"c"},
        {" (c (d) \\) e) multipart(x)/(y)mixed(z);(z)boundary(z)=(z)abc(z)", "multipart", "mixed", "abc"},
        {"multipart/mixed;\r\n\tcharset=x;\r\n boundary=\"a\r\n b\"", "multipart", "mixed", "a b"},
        {"multipart/mixed; boundary=", "multipart", "mixed", ""},
        {"multipart/mixed; boundary=\"\"", "multipart", "mixed", ""},
        {"multipart/mixed boundary=abc", "multipart", "mixed", ""},
        {"multipart/mixed; boundary=abc (", "multipart", "mixed", ""},
        {"multipart/mixed; boundary=\"abc\\", "multipart", "mixed", ""},
        {"multipart/mixed; boundary*0=abc", "multipart", "mixed", ""},
        {"multipart/mixed; boundary=1234567890123456789012345678901234567890123456789012345678901234567890",
         "multipart", "mixed", "1234567890123456789012345678901234567890123456789012345678901234567890"},
        {"multipart/mixed; boundary=12345678901234567890123456789012345678901234567890123456789012345678901",
         "multipart", "mixed", ""},
        {"multipart/mixed; boundary=\"12345678901234567890123456789012345678901234567890123456789012345678901234\"",
         "multipart", "mixed", ""},
        {"", NULL, NULL, NULL},
        {"text", NULL, NULL, NULL},
        {"text/", NULL, NULL, NULL},
        {"/plain", NULL, NULL, NULL},
        {"(text/plain", NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mime_type type;
        bool ok = mime_type_parse(bytes_of_string(rows[i].value), &type);
        assert_int_equal(ok, rows[i].type != NULL);
        if (ok) {
            assert_true(bytes_equal(type.type, bytes_of_string(rows[i].type)));
            assert_true(bytes_equal(type.subtype, bytes_of_string(rows[i].subtype)));
            assert_true(bytes_equal(bytes_of(type.boundary, type.boundary_length), bytes_of_string(rows[i].boundary)));
        }
    }
}

/* CR, LF and NUL are octets like others, and only CRLF ends a line, also where dots are stuffed and parts are cut. */
static void binary_bodies_are_converted(void **state)
{
    (void)state;
    static const struct {
        struct bytes text;
        struct bytes converted; /* empty: it cannot be */
    } rows[] = {
        {BYTES("A: b\r\n\r\nplain"), BYTES("A: b\r\n\r\nplain\r\n.\r\n")},
        {BYTES("MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\n"
               "a\rb\nc\n.d\r\n..e"),
         BYTES("MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
               "a=0Db=0Ac=0A.d\r\n=2Ee\r\n.\r\n")},
        {BYTES("MIME-Version: 1.0\r\nContent-Type: image/x\r\n\r\n..\0\n.\r\n..\r"),
         BYTES("MIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\n"
               "LgAKLg0KLg0=\r\n.\r\n")},
        {BYTES("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: a/b\r\n\r\n"
               "\0\n--x\r\n--x--\r\n"),
         BYTES("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: a/b\r\n"
               "Content-Transfer-Encoding: base64\r\n\r\nAAotLXg=\r\n--x--\r\n.\r\n")},
        {BYTES("A: \0\r\n\r\n"), BYTES("")},
        {BYTES("A: b\r\n\r\n\0"),
         BYTES("A: b\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=00\r\n.\r\n")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char bytes[2000];
        struct buffer out = buffer_of(bytes, sizeof bytes);
        enum mime_result result = mime_binary_to_7bit(rows[i].text, &out);
        if (result != (rows[i].converted.length != 0 ? MIME_CONVERTED : MIME_CANNOT) ||
            !bytes_equal(buffer_bytes(&out), rows[i].converted)) {
            fail_msg("row %zu: %d, %.*s", i, result, (int)out.length, out.data);
        }
    }
}

static void long_lines_of_a_binary_body_are_broken(void **state)
{
    (void)state;
    char text[3000] = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: binary\r\n\r\n";
    size_t head = strlen(text);
    char bytes[9000];
    struct buffer out = buffer_of(bytes, sizeof bytes);
    memset(text + head, 'x', sizeof text - head);
    assert_int_equal(mime_binary_to_7bit(bytes_of(text, sizeof text), &out), MIME_CONVERTED);
    check_lines(bytes_slice(buffer_bytes(&out), 0, out.length - 3)); /* without the final dot */
    out.length = 0;
    assert_int_equal(mime_binary_to_7bit(bytes_of(text, head + 999), &out), MIME_CONVERTED);
    assert_int_equal(out.length, head + 999 + 5); /* no longer than it may be */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seven_bit_is_untouched),
        cmocka_unit_test(text_becomes_quoted_printable),
        cmocka_unit_test(what_is_missing_is_added),
        cmocka_unit_test(other_types_become_base64),
        cmocka_unit_test(lines_are_broken_softly),
        cmocka_unit_test(multipart_parts_are_converted_alone),
        cmocka_unit_test(the_outer_boundary_wins),
        cmocka_unit_test(messages_inside_are_messages),
        cmocka_unit_test(what_must_not_change_is_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(a_full_buffer_is_told_and_untouched),
        cmocka_unit_test(encodings_read_back),
        cmocka_unit_test(content_types_are_read),
        cmocka_unit_test(binary_bodies_are_converted),
        cmocka_unit_test(long_lines_of_a_binary_body_are_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
