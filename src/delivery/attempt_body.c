/* By DATA a body goes as it lies in the map: as it came, dots stuffed and the final one included. By BDAT (only binary
 * ones, smtp/client.c says why) it must be without both. Mostly no line begins with a dot, and the same pieces of the
 * map do, cut off at the end. Otherwise it passes through a block of memory. */
#include "delivery/attempt_body.h"

#include <stdlib.h>

#include "mail/mime.h"
#include "ringpost/spool_format.h"

static unsigned pieces_of(const struct attempt *attempt)
{
    return attempt->converted != NULL ? 1 : 1 + spool_view_spans(&attempt->view);
}

static struct bytes piece_of(const struct attempt *attempt, unsigned i)
{
    if (attempt->converted != NULL) {
        return attempt->body;
    }
    return i == 0 ? attempt->view.prologue : spool_view_body(&attempt->view, i - 1);
}

/* Octets of the pieces that belong to a chunk; the final dot does not. */
static uint64_t chunk_end(const struct attempt *attempt)
{
    uint64_t tail = sizeof(".\r\n") - 1 + ((attempt->view.flags & SPOOL_FORMAT_CRLF_ADDED) != 0 ? 2 : 0);
    uint64_t all = attempt->view.prologue.length + attempt->view.body_bytes;
    return all > tail ? all - tail : 0;
}

static bool has_stuffed(const struct attempt *attempt)
{
    return (attempt->view.flags & SPOOL_FORMAT_DOT_FREE) == 0;
}

uint64_t attempt_body_chunk(const struct attempt *attempt)
{
    uint64_t left = chunk_end(attempt);
    uint64_t chunk = left;
    struct unstuff unstuff = {0};
    for (unsigned i = 0; has_stuffed(attempt) && i < pieces_of(attempt); i++) {
        struct bytes piece = piece_of(attempt, i);
        size_t length = piece.length < left ? piece.length : (size_t)left;
        chunk -= unstuff_count(&unstuff, bytes_slice(piece, 0, length));
        left -= length;
    }
    return chunk;
}

enum err attempt_body_rewind(struct attempt *attempt)
{
    bool chunked = attempt->transaction.chunked;
    attempt->piece = 0;
    attempt->piece_done = 0;
    attempt->left = attempt->converted != NULL ? attempt->body.length
                    : chunked                  ? chunk_end(attempt)
                                               : attempt->view.prologue.length + attempt->view.body_bytes;
    attempt->unstuff = (struct unstuff){0};
    if (chunked && has_stuffed(attempt) && attempt->unstuffed.data == NULL) {
        attempt->unstuffed = buffer_of(malloc(ATTEMPT_BODY_BLOCK_BYTES), ATTEMPT_BODY_BLOCK_BYTES);
        return attempt->unstuffed.data != NULL ? ERR_OK : ERR_NO_MEMORY;
    }
    return ERR_OK;
}

bool attempt_body_ended(const struct attempt *attempt)
{
    return attempt->left == 0;
}

/* The rest of the current piece; empty at the end. */
static struct bytes here(struct attempt *attempt)
{
    while (attempt->piece < pieces_of(attempt)) {
        struct bytes piece = piece_of(attempt, attempt->piece);
        if (attempt->piece_done < piece.length) {
            bytes_advance(&piece, attempt->piece_done);
            return bytes_slice(piece, 0, piece.length < attempt->left ? piece.length : (size_t)attempt->left);
        }
        attempt->piece++;
        attempt->piece_done = 0;
    }
    CHECK(attempt->left == 0);
    return bytes_of("", 0);
}

static void advance(struct attempt *attempt, size_t n)
{
    attempt->piece_done += n;
    attempt->left -= n;
}

static unsigned next_block(struct attempt *attempt, struct iovec *piece)
{
    attempt->unstuffed.length = 0;
    while (attempt->left != 0 && buffer_room(&attempt->unstuffed) != 0) {
        advance(attempt, unstuff_copy(&attempt->unstuff, here(attempt), &attempt->unstuffed));
    }
    *piece = (struct iovec){.iov_base = attempt->unstuffed.data, .iov_len = attempt->unstuffed.length};
    return attempt->unstuffed.length != 0 ? 1 : 0;
}

unsigned attempt_body_next(struct attempt *attempt, struct iovec *pieces, unsigned max)
{
    unsigned count = 0;
    if (attempt->transaction.chunked && has_stuffed(attempt)) {
        return next_block(attempt, pieces);
    }
    while (count < max && attempt->left != 0) {
        struct bytes piece = here(attempt);
        pieces[count++] = (struct iovec){.iov_base = (char *)(uintptr_t)piece.data, .iov_len = piece.length};
        advance(attempt, piece.length);
    }
    return count;
}

/* --- conversion ----------------------------------------------------------------------------------------------------
 */

static enum err convert(const struct attempt *attempt, struct buffer *whole, struct buffer *out)
{
    const struct spool_view *view = &attempt->view;
    if (whole->data == NULL || out->data == NULL) {
        return ERR_NO_MEMORY;
    }
    CHECK(buffer_append(whole, view->prologue));
    for (unsigned i = 0; i < spool_view_spans(view); i++) {
        CHECK(buffer_append(whole, spool_view_body(view, i)));
    }
    struct bytes wire = buffer_bytes(whole);
    enum mime_result result = attempt->transaction.binary
                                  ? mime_binary_to_7bit(bytes_slice(wire, 0, (size_t)chunk_end(attempt)), out)
                                  : mime_to_7bit(wire, out);
    return result == MIME_CONVERTED ? ERR_OK : ERR_PERMANENT;
}

enum err attempt_body_convert(struct attempt *attempt)
{
    size_t bytes = attempt->view.prologue.length + (size_t)attempt->view.body_bytes;
    if (bytes > ATTEMPT_BODY_CONVERT_BYTES_MAX) {
        return ERR_PERMANENT;
    }
    struct buffer whole = buffer_of(malloc(bytes), bytes);
    struct buffer out = buffer_of(malloc(mime_capacity(bytes)), mime_capacity(bytes));
    enum err err = convert(attempt, &whole, &out);
    free(whole.data);
    if (err != ERR_OK) {
        free(out.data);
        return err;
    }
    attempt->converted = realloc(out.data, out.length);
    attempt->converted = attempt->converted != NULL ? attempt->converted : out.data;
    attempt->body = bytes_of(attempt->converted, out.length);
    attempt->transaction.has_8bit = false;
    attempt->transaction.binary = false;
    attempt->transaction.size_bytes = out.length;
    return ERR_OK;
}
