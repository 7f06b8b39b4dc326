#include "smtp/server_private.h"
#include "smtp/unstuff.h"

/* BDAT (RFC 3030). A chunk is announced by its length, so nothing in it ends anything: no dot, no line end. What the
 * driver gets is nevertheless the wire form of DATA, because that is what is stored: a dot is put in front of each line
 * that begins with one, a last line without CRLF gets it, and ".CRLF" follows the last chunk.
 *
 *     BDAT 9        a CRLF . b CRLF . c            pieces    "aCRLF" "." ".bCRLF" "." ".c"
 *     BDAT 2 LAST   CRLF                                     "CRLF" ".CRLF"
 *
 * Every piece, ours included, passes through dot_scan on its way out. So the reader that finds the end of a DATA stream
 * has agreed, before END, that this message ends at its last octet and nowhere else: what was a chunk cannot become two
 * messages at the next hop.
 *
 * Where the count is not to be read, nobody knows how many octets follow, and commands could begin anywhere in them:
 * 501 and the connection closes. A chunk that is refused is read to its end first, and what is said comes behind it; it
 * ends the transaction, or a message without that chunk could be completed by the next ones. */

static enum reply_id objection(const struct smtp_server *s)
{
    const struct smtp_server_config *config = s->config;
    if (config->tls_required && !s->secure) {
        return REPLY_TLS_REQUIRED;
    }
    if (s->phase != PHASE_TRANSACTION && s->phase != PHASE_CHUNKS) {
        return REPLY_BAD_SEQUENCE;
    }
    if (s->recipients == 0) {
        return config->lmtp ? REPLY_BAD_SEQUENCE : REPLY_NO_RECIPIENTS;
    }
    uint64_t so_far = s->phase == PHASE_CHUNKS ? s->dot.bytes - s->dot.stuffed : 0;
    bool too_big = config->message_bytes_max != 0 && s->chunk_left + so_far > config->message_bytes_max;
    return too_big ? REPLY_TOO_BIG : REPLY_OK;
}

static void refuse_chunk(struct smtp_server *s, enum reply_id id)
{
    s->refusal = (uint8_t)id;
    s->chunk = CHUNK_REFUSED;
}

enum smtp_server_event server_bdat_command(struct smtp_server *s, struct bytes argument, struct buffer *out)
{
    if ((server_ehlo_offered(s) & SMTP_SERVER_CHUNKING) == 0) {
        return server_fail(s, out, REPLY_NOT_IMPLEMENTED);
    }
    if (!syntax_bdat(argument, &s->chunk_left, &s->chunk_is_last)) {
        server_say_and_close(s, out, REPLY_BAD_CHUNK);
        return NO_EVENT;
    }
    enum reply_id refusal = objection(s);
    if (refusal != REPLY_OK) {
        refuse_chunk(s, refusal);
        return NO_EVENT;
    }
    if (s->phase == PHASE_CHUNKS) {
        s->chunk = CHUNK_TAKE;
        return NO_EVENT;
    }
    s->chunked = true;
    return SMTP_SERVER_DATA;
}

static enum smtp_server_event give_piece(struct smtp_server *s, struct bytes piece)
{
    CHECK(dot_scan(&s->dot, piece) == piece.length);
    enum reply_id refusal = server_judge(s);
    if (refusal != REPLY_OK) {
        refuse_chunk(s, refusal);
        return NO_EVENT;
    }
    s->piece = piece;
    return SMTP_SERVER_BODY;
}

static enum smtp_server_event take_octets(struct smtp_server *s, struct bytes *input)
{
    struct bytes run = bytes_slice(*input, 0, s->chunk_left < input->length ? (size_t)s->chunk_left : input->length);
    if (s->chunk == CHUNK_TAKE && run.data[0] == '.' && dot_at_line_start(&s->dot)) {
        return give_piece(s, BYTES("."));
    }
    size_t length = s->chunk == CHUNK_TAKE ? unstuff_run(run) : run.length;
    bytes_advance(input, length);
    s->chunk_left -= length;
    return s->chunk == CHUNK_TAKE ? give_piece(s, bytes_slice(run, 0, length)) : NO_EVENT;
}

static enum smtp_server_event end_refused(struct smtp_server *s, struct buffer *out)
{
    bool expected = s->chunks_discarding; /* the client could not know yet */
    bool late = s->chunk == CHUNK_LATE;
    s->chunk = CHUNK_NONE;
    s->chunks_discarding = !s->chunk_is_last;
    if (late) {
        struct reply reply = s->late.reply; /* server_repeat keeps its own in the same place */
        server_say_reply(out, &reply);
        s->closing = reply.code == 421 || reply.code == 521;
        server_repeat(s, &reply, s->late.answers);
        return NO_EVENT;
    }
    if (smtp_server_in_transaction(s)) {
        return server_drop_content(s, out, (enum reply_id)s->refusal);
    }
    if (expected) {
        server_say(out, (enum reply_id)s->refusal);
        return NO_EVENT;
    }
    return server_fail(s, out, (enum reply_id)s->refusal);
}

static enum smtp_server_event end_chunk(struct smtp_server *s, struct buffer *out)
{
    if (s->chunk != CHUNK_TAKE) {
        return end_refused(s, out);
    }
    if (s->chunk_is_last && !s->dot.ended) {
        s->crlf_added = !dot_at_line_start(&s->dot);
        return give_piece(s, s->crlf_added ? BYTES("\r\n.\r\n") : BYTES(".\r\n"));
    }
    s->chunk = CHUNK_NONE;
    if (s->chunk_is_last) {
        return SMTP_SERVER_END;
    }
    server_say(out, REPLY_OK);
    return NO_EVENT;
}

enum smtp_server_event server_bdat_step(struct smtp_server *s, struct bytes *input, struct buffer *out)
{
    return s->chunk_left != 0 ? take_octets(s, input) : end_chunk(s, out);
}
