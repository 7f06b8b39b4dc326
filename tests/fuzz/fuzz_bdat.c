#include <stdlib.h>

#include "smtp/server.h"

/* A message by BDAT, cut into chunks and inputs as the first two octets say, against a plain reading of RFC 3030 and
 * RFC 5321 4.5.2: what is stored, with its stuffed dots and the final dot taken off, is what was sent; and it is taken
 * if and only if it is text of lines, or is declared to be binary. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

#define LINE_BYTES_MAX 100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct stored {
    char *data;
    size_t length;
};

static const struct smtp_server_config config = {
    .hostname = {"mx.example", 10},
    .extensions = SMTP_SERVER_EXTENSIONS_BASIC | SMTP_SERVER_CHUNKING | SMTP_SERVER_BINARYMIME,
    .recipients_max = 3,
    .command_bytes_max = 512,
    .text_line_bytes_max = LINE_BYTES_MAX,
    .received_max = UINT32_MAX,
};

/* Gives the machine text in pieces. False when the message was refused. */
static bool say(struct smtp_server *s, struct bytes text, size_t piece_max, struct stored *stored)
{
    char output[SMTP_SERVER_OUTPUT_BYTES];
    bool good = true;
    while (text.length != 0) {
        struct bytes input = bytes_slice(text, 0, text.length < piece_max ? text.length : piece_max);
        bytes_advance(&text, input.length);
        enum smtp_server_event event;
        struct buffer out = buffer_of(output, sizeof(output));
        while ((event = smtp_server_next(s, &input, &out)) != SMTP_SERVER_WANT_INPUT) {
            EXPECT(event != SMTP_SERVER_CLOSE);
            if (event == SMTP_SERVER_WANT_LINE) {
                s->line = malloc(s->line_bytes);
            } else if (event == SMTP_SERVER_BODY) {
                memcpy(stored->data + stored->length, s->piece.data, s->piece.length);
                stored->length += s->piece.length;
            } else if (event == SMTP_SERVER_DROPPED) {
                good = false;
            } else if (s->awaiting != 0) {
                smtp_server_accept(s, &out);
            }
            out.length = 0;
        }
    }
    return good;
}

/* Whether the octets, with a CRLF behind them if they do not end in one, are lines of text. */
static bool is_text(const uint8_t *data, size_t size)
{
    size_t line = 0;
    bool whole = size == 0 || (size >= 2 && data[size - 2] == '\r' && data[size - 1] == '\n');
    for (size_t i = 0; i < size + (whole ? 0 : 2); i++) {
        uint8_t c = i < size ? data[i] : i == size ? '\r' : '\n';
        uint8_t next = i + 1 < size ? data[i + 1] : i + 1 == size ? '\r' : '\n';
        uint8_t before = i == 0 ? 0 : i <= size ? data[i - 1] : '\r';
        bool cr_good = next == '\n' && (i + 1 < size || !whole) && i + 1 != size;
        if (c == 0 || (c == '\r' && !cr_good) || (c == '\n' && before != '\r')) {
            return false;
        }
        line = c == '\n' ? 0 : line + 1;
        if (line + 1 > LINE_BYTES_MAX) {
            return false;
        }
    }
    return true;
}

/* Takes the wire form apart. */
static void check_stored(const struct stored *stored, const uint8_t *data, size_t size, bool crlf_added)
{
    size_t at = 0;
    bool line_start = true;
    EXPECT(stored->length >= 3);
    for (size_t i = 0; i < stored->length - 3; i++) {
        char c = stored->data[i];
        if (line_start && c == '.') {
            c = stored->data[++i];
            EXPECT(c == '.' && i < stored->length - 3);
        }
        if (at < size) {
            EXPECT(data[at] == (uint8_t)c);
        } else {
            EXPECT(crlf_added && c == "\r\n"[at - size]);
        }
        at++;
        line_start = c == '\n' && i > 0 && stored->data[i - 1] == '\r';
    }
    EXPECT(line_start && at == size + (crlf_added ? 2 : 0));
    EXPECT(memcmp(stored->data + stored->length - 3, ".\r\n", 3) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 4000) {
        return 0;
    }
    size_t chunk_max = 1 + data[0] % 64, piece_max = data[1] % 64 == 0 ? SIZE_MAX : data[1] % 64;
    bool binary = (data[1] & 128) != 0;
    data += 2;
    size -= 2;
    struct stored stored = {.data = malloc(3 * size + 16)};
    struct smtp_server s;
    smtp_server_init(&s, &config);
    say(&s, BYTES("EHLO a\r\n"), SIZE_MAX, &stored);
    say(&s, binary ? BYTES("MAIL FROM:<> BODY=BINARYMIME\r\n") : BYTES("MAIL FROM:<>\r\n"), SIZE_MAX, &stored);
    say(&s, BYTES("RCPT TO:<a@b>\r\n"), SIZE_MAX, &stored);
    bool good = true, last = false;
    for (size_t at = 0; good && !last;) {
        char text[200];
        size_t length = size - at < chunk_max ? size - at : chunk_max;
        last = at + length == size;
        struct buffer chunk = buffer_of(text, sizeof(text));
        EXPECT(buffer_append_format(&chunk, "BDAT %zu%s\r\n", length, last ? " LAST" : ""));
        EXPECT(buffer_append(&chunk, bytes_of(data + at, length)));
        good = say(&s, buffer_bytes(&chunk), piece_max, &stored);
        at += length;
    }
    EXPECT(good == (binary || is_text(data, size)));
    EXPECT(!smtp_server_in_transaction(&s) && s.chunk_left == 0);
    if (good) {
        check_stored(&stored, data, size, s.crlf_added);
    }
    free(s.line);
    free(stored.data);
    return 0;
}
