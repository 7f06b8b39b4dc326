#include "inbound/filter_edit.h"

#include "base/check.h"

/* Into a store, under the eye of the reader of wire form. */
static void feed(struct body_store *store, struct dot *dot, struct bytes run)
{
    if (!dot->ended && dot_scan(dot, run) == run.length) {
        body_store_append(store, run);
    } else {
        dot->seen |= DOT_NUL; /* more behind its end: no message */
    }
}

/* What may not be in it. */
static bool is_bad(const struct filter_content *content, const struct dot *dot)
{
    return !dot->ended || (!content->binary && (dot->seen & DOT_BAD) != 0);
}

/* --- a new body --------------------------------------------------------------------------------------------------- */

static enum filter_content_result of_store(const struct body_store *store)
{
    return store->err == ERR_OK ? CONTENT_OK : store->err == ERR_NO_MEMORY ? CONTENT_NO_MEMORY : CONTENT_FAILED;
}

static bool is_too_large(const struct filter_content *content, const struct dot *dot)
{
    uint64_t most = content->profile->smtp.message_bytes_max;
    return most != 0 && dot->bytes - dot->stuffed > most + sizeof ".\r\n" - 1;
}

/* The next piece, as it is to be read: dots are put in front of those that begin a line. */
static enum filter_content_result replace_body(struct filter_content *content, struct bytes piece)
{
    struct body_store *store = &content->replacement;
    struct dot *dot = &content->replacement_dot;
    if (!content->replacing) {
        body_store_free(store); /* of a filter before: this one has seen it all */
        content->source = NULL;
        dot_init(dot, content->header.line_bytes_max);
        dot->in_header = false;
        content->replacing = true;
    }
    while (piece.length != 0) {
        if (piece.data[0] == '.' && dot_at_line_start(dot)) {
            feed(store, dot, BYTES("."));
        }
        size_t length = unstuff_run(piece);
        feed(store, dot, bytes_slice(piece, 0, length));
        bytes_advance(&piece, length);
    }
    return is_too_large(content, dot) ? CONTENT_TOO_LARGE : of_store(store);
}

enum filter_content_result filter_edit_settle(struct filter_content *content)
{
    struct body_store *store = &content->replacement;
    struct dot *dot = &content->replacement_dot;
    if (!content->replacing) {
        return CONTENT_OK;
    }
    if (!dot->ended) {
        feed(store, dot, dot_at_line_start(dot) ? BYTES(".\r\n") : BYTES("\r\n.\r\n"));
    }
    if (is_bad(content, dot)) {
        return CONTENT_BAD;
    }
    if (!body_store_settled(store)) {
        return CONTENT_WAIT;
    }
    content->source = store;
    content->source_bytes = dot->bytes;
    content->rest_at = 0;
    content->blank = false;
    content->replacing = false;
    content->replaced = true;
    return of_store(store);
}

bool filter_edit_stalled(const struct filter_content *content)
{
    return body_store_stalled(&content->replacement);
}

/* --- edits -------------------------------------------------------------------------------------------------------- */

static enum filter_content_result of_header(enum milter_header_result result)
{
    return result == MILTER_HEADER_OK ? CONTENT_OK : result == MILTER_HEADER_FULL ? CONTENT_TOO_LARGE : CONTENT_BAD;
}

enum filter_content_result filter_edit_take(struct filter_content *content, const struct filter *filter)
{
    const struct milter_reply *reply = &filter->reply;
    struct milter_header *header = &content->header;
    bool space = !milter_keeps_space(&filter->milter);
    if (++content->edits > MILTER_EDITS_MAX && reply->edit != MILTER_REPLACE_BODY) {
        return CONTENT_BAD;
    }
    switch (reply->edit) {
    case MILTER_ADD_HEADER: return of_header(milter_header_add(header, reply->name, reply->value, space));
    case MILTER_INSERT_HEADER:
        return of_header(milter_header_insert(header, reply->index, reply->name, reply->value, space));
    case MILTER_CHANGE_HEADER:
        return of_header(milter_header_change(header, reply->index, reply->name, reply->value, space));
    case MILTER_REPLACE_BODY: content->edits--; return replace_body(content, reply->value);
    default: return CONTENT_OK;
    }
}

/* --- the result --------------------------------------------------------------------------------------------------- */

static void reader_ready(struct body_reader *reader)
{
    struct filter_content *content = CONTAINER_OF(reader, struct filter_content, reader);
    content->reader_ready(content);
}

static void begin_restore(struct filter_content *content)
{
    content->restoring = true;
    dot_init(&content->dot, content->header.line_bytes_max);
    struct bytes text = buffer_bytes(&content->header.text);
    while (text.length != 0) { /* no store takes more at once than its extents in flight */
        struct bytes piece = bytes_slice(text, 0, text.length < LIMIT_EXTENT_BYTES ? text.length : LIMIT_EXTENT_BYTES);
        feed(&content->result, &content->dot, piece);
        bytes_advance(&text, piece.length);
    }
    bool only_dot = content->source_bytes - content->rest_at == 3;
    if (!content->blank && !only_dot) {
        feed(&content->result, &content->dot, BYTES("\r\n"));
    }
    body_reader_begin(&content->reader, content->source, reader_ready);
    content->skip = content->rest_at;
}

static enum filter_content_result copy_rest(struct filter_content *content)
{
    struct bytes run;
    enum body_read read;
    while ((read = body_reader_next(&content->reader, &run)) != BODY_READ_END) {
        if (read != BODY_READ_RUN) {
            return read == BODY_READ_WAIT ? CONTENT_WAIT : CONTENT_FAILED;
        }
        size_t length = run.length;
        if (content->skip != 0) {
            length = run.length < content->skip ? run.length : (size_t)content->skip;
            content->skip -= length;
        } else if (body_store_stalled(&content->result)) {
            return CONTENT_WAIT;
        } else {
            length = length < BODY_CHUNK_BYTES ? length : BODY_CHUNK_BYTES;
            feed(&content->result, &content->dot, bytes_slice(run, 0, length));
        }
        body_reader_consume(&content->reader, length);
    }
    return CONTENT_OK;
}

enum filter_content_result filter_edit_restore(struct filter_content *content)
{
    struct dot *dot = &content->dot;
    if (!content->header.changed && !content->replaced) {
        return CONTENT_OK;
    }
    if (content->reader.warm.in_flight) {
        return CONTENT_WAIT;
    }
    if (!content->restoring) {
        begin_restore(content);
    }
    enum filter_content_result result = copy_rest(content);
    if (result != CONTENT_OK) {
        return result;
    }
    if (is_bad(content, dot)) {
        return CONTENT_BAD;
    }
    if (is_too_large(content, dot)) {
        return CONTENT_TOO_LARGE;
    }
    if (!body_store_settled(&content->result)) {
        return CONTENT_WAIT;
    }
    result = of_store(&content->result);
    if (result == CONTENT_OK) {
        reception_replace(content->reception, &content->result, dot, content->replaced);
        content->header.changed = content->replaced = false;
    }
    return result;
}
