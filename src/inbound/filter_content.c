#include "inbound/filter_content.h"

#include <stdlib.h>

#include "base/check.h"

#define FINAL_DOT_BYTES 3
#define FIRST_LOOK_BYTES (16u * 1024)

/* --- beginning and end -------------------------------------------------------------------------------------------- */

static bool busy(const struct filter_content *content)
{
    return content->reader.warm.in_flight || body_store_in_flight(&content->replacement) ||
           body_store_in_flight(&content->result);
}

static void free_content(struct filter_content *content)
{
    struct inbound *inbound = content->inbound;
    body_store_free(&content->replacement);
    body_store_free(&content->result);
    free(content->header.text.data);
    body_pool_return(&inbound->bodies, content->reserved);
    inbound->question_count--;
    free(content);
    inbound_settle(inbound);
}

static void changed(struct filter_content *content)
{
    if (content->owner != NULL) {
        content->woken(content->owner);
    } else if (!busy(content)) {
        free_content(content);
    }
}

static void replacement_changed(struct body_store *store)
{
    changed(CONTAINER_OF(store, struct filter_content, replacement));
}

static void result_changed(struct body_store *store)
{
    changed(CONTAINER_OF(store, struct filter_content, result));
}

static void reader_ready(struct body_reader *reader)
{
    changed(CONTAINER_OF(reader, struct filter_content, reader));
}

struct filter_content *filter_content_new(struct inbound *inbound, struct profile *profile, struct reception *reception,
                                          uint64_t bytes, bool binary, void (*woken)(void *owner), void *owner)
{
    struct filter_content *content = calloc(1, sizeof *content);
    if (content == NULL) {
        return NULL;
    }
    content->inbound = inbound;
    content->profile = profile;
    content->reception = reception;
    content->woken = woken;
    content->owner = owner;
    content->reader_ready = changed;
    content->binary = binary;
    content->source = reception_store(reception);
    content->source_bytes = bytes;
    content->header.line_bytes_max = profile->smtp.text_line_bytes_max;
    content->id = reception_new_id(reception);
    body_store_init(&content->replacement, inbound, &content->id, replacement_changed);
    body_store_init(&content->result, inbound, &content->id, result_changed);
    inbound->question_count++;
    return content;
}

void filter_content_drop(struct filter_content *content)
{
    content->owner = NULL;
    body_store_fail(&content->replacement, ERR_CLOSED);
    body_store_fail(&content->result, ERR_CLOSED);
    if (!busy(content)) {
        free_content(content);
    }
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

static bool make_room(struct filter_content *content, size_t bytes)
{
    struct body_pool *pool = &content->inbound->bodies;
    size_t more = bytes - content->reserved;
    if (bytes <= content->reserved) {
        return true;
    }
    if (!body_pool_reserve(pool, more)) {
        return false;
    }
    char *data = realloc(content->header.text.data, bytes);
    if (data == NULL) {
        body_pool_return(pool, more);
        return false;
    }
    content->reserved = bytes;
    content->header.text.data = data;
    content->header.text.capacity = bytes;
    return true;
}

static enum filter_content_result of_read(enum body_read read)
{
    return read == BODY_READ_WAIT ? CONTENT_WAIT : CONTENT_FAILED;
}

/* Reads on until so much is there, or all. */
static enum filter_content_result fill(struct filter_content *content, size_t length)
{
    struct buffer *text = &content->header.text;
    enum body_read read;
    struct bytes run;
    while (text->length < length && (read = body_reader_next(&content->reader, &run)) != BODY_READ_END) {
        if (read != BODY_READ_RUN) {
            return of_read(read);
        }
        size_t room = length - text->length;
        run.length = run.length < room ? run.length : room;
        CHECK(buffer_append(text, run));
        body_reader_consume(&content->reader, run.length);
    }
    return CONTENT_OK;
}

/* Is the line there that ends the header? What is behind it is cut off. */
static bool find_end(struct filter_content *content, size_t prologue_bytes, bool *ret_large)
{
    struct buffer *text = &content->header.text;
    struct bytes rest = buffer_bytes(text);
    struct header_field field;
    bytes_advance(&rest, prologue_bytes);
    *ret_large = false;
    while (header_next(&rest, &field)) {
        *ret_large |= field.name.length + field.value.length > MILTER_FIELD_BYTES_MAX;
    }
    const char *end = rest.length != 0 ? memchr(rest.data, '\n', rest.length) : NULL;
    if (end == NULL) {
        return false;
    }
    content->blank = rest.data[0] == '\r';
    content->rest_at = text->length - rest.length - prologue_bytes;
    text->length -= rest.length;
    return true;
}

/* A field of ours comes first, and is not shown. To a message without any header the prologue gives an empty line,
 * which is no part of the header: one is put back where it is missing. */
static size_t front_of(struct filter_content *content, struct bytes prologue)
{
    struct bytes rest = prologue;
    struct header_field field;
    CHECK(header_next(&rest, &field));
    content->header.own_bytes = field.whole.length;
    while (header_next(&rest, &field)) {
    }
    return prologue.length - rest.length;
}

enum filter_content_result filter_content_load(struct filter_content *content, struct bytes prologue)
{
    size_t front = front_of(content, prologue);
    struct buffer *text = &content->header.text;
    bool large;
    if (body_store_in_flight(content->source)) {
        return CONTENT_WAIT;
    }
    for (content->window = content->window != 0 ? content->window : FIRST_LOOK_BYTES;; content->window *= 4) {
        if (!make_room(content, front + content->window + FILTER_CONTENT_ADDED_BYTES_MAX)) {
            return CONTENT_NO_MEMORY;
        }
        if (!content->reading) {
            text->length = 0;
            CHECK(buffer_append(text, bytes_slice(prologue, 0, front)));
            body_reader_begin(&content->reader, content->source, reader_ready);
            content->reading = true;
        }
        enum filter_content_result result = fill(content, front + content->window);
        if (result != CONTENT_OK) {
            return result;
        }
        content->reading = false;
        if (find_end(content, front, &large)) {
            text->capacity = text->length + FILTER_CONTENT_ADDED_BYTES_MAX;
            return large ? CONTENT_TOO_LARGE : CONTENT_OK;
        }
        if (content->window >= FILTER_CONTENT_HEADER_BYTES_MAX) {
            return CONTENT_TOO_LARGE;
        }
    }
}

/* --- showing ------------------------------------------------------------------------------------------------------ */

/* Puts the reader where the rest begins. */
static enum filter_content_result skip_to(struct filter_content *content, uint64_t at)
{
    struct bytes run;
    if (content->reader.warm.in_flight) {
        return CONTENT_WAIT; /* for the filter before, perhaps, which is lost */
    }
    if (!content->reading) {
        body_reader_begin(&content->reader, content->source, reader_ready);
        content->reading = true;
        content->skip = at;
    }
    while (content->skip != 0) {
        enum body_read read = body_reader_next(&content->reader, &run);
        if (read != BODY_READ_RUN) {
            return of_read(read);
        }
        size_t length = run.length < content->skip ? run.length : (size_t)content->skip;
        body_reader_consume(&content->reader, length);
        content->skip -= length;
    }
    return CONTENT_OK;
}

void filter_content_start(struct filter_content *content)
{
    content->phase = CONTENT_FIELDS;
    content->field_at = 0;
    content->unstuff = (struct unstuff){.inside = false};
    uint64_t from = content->rest_at + (content->blank ? 2 : 0);
    content->left = content->source_bytes - from - FINAL_DOT_BYTES;
    content->reading = false;
    content->replacing = false;
    content->edits = 0;
}

/* As many as there is room for, when they are not answered; else one. */
static bool say_fields(struct filter_content *content, struct filter *filter)
{
    struct header_field field;
    size_t at = content->field_at;
    bool answers = milter_answers(&filter->milter, MILTER_STEP_HEADER);
    while (milter_header_next(&content->header, &at, &field)) {
        if (!milter_wants(&filter->milter, MILTER_STEP_HEADER)) {
            break;
        }
        if (!milter_say_field(&filter->out, field.name, field.value, milter_keeps_space(&filter->milter))) {
            return true;
        }
        content->field_at = at;
        if (answers) {
            return true;
        }
    }
    content->phase = CONTENT_END_OF_HEADER;
    return filter->out.length != 0;
}

/* One piece of the body. */
static enum filter_content_result say_body(struct filter_content *content, struct filter *filter)
{
    struct bytes run;
    struct buffer *out = &filter->out;
    enum filter_content_result result = skip_to(content, content->rest_at + (content->blank ? 2 : 0));
    if (result != CONTENT_OK) {
        return result;
    }
    if (out->length == 0) {
        CHECK(milter_say_body(out, 0));
    }
    struct buffer piece = buffer_of(out->data + MILTER_HEAD_BYTES, MILTER_CHUNK_BYTES);
    piece.length = out->length - MILTER_HEAD_BYTES;
    while (content->left != 0 && buffer_room(&piece) != 0) {
        enum body_read read = body_reader_next(&content->reader, &run);
        if (read != BODY_READ_RUN) {
            out->length = MILTER_HEAD_BYTES + piece.length;
            return of_read(read);
        }
        run.length = run.length < content->left ? run.length : (size_t)content->left;
        size_t taken = unstuff_copy(&content->unstuff, run, &piece);
        body_reader_consume(&content->reader, taken);
        content->left -= taken;
    }
    out->length = 0;
    CHECK(milter_say_body(out, piece.length));
    out->length = piece.length == 0 ? 0 : out->length + piece.length;
    return CONTENT_OK;
}

static enum filter_content_result say_one(struct filter_content *content, struct filter *filter,
                                          const struct milter_macro *macros, enum milter_step *ret_step)
{
    struct milter *milter = &filter->milter;
    enum filter_content_result result = CONTENT_OK;
    switch ((enum filter_content_phase)content->phase) {
    case CONTENT_FIELDS: *ret_step = say_fields(content, filter) ? MILTER_STEP_HEADER : MILTER_STEP_NONE; break;
    case CONTENT_END_OF_HEADER:
        content->phase = CONTENT_BODY;
        if (milter_wants(milter, MILTER_STEP_END_OF_HEADER)) {
            CHECK(milter_say_macros(&filter->out, MILTER_STEP_END_OF_HEADER, macros) &&
                  milter_say_step(&filter->out, MILTER_STEP_END_OF_HEADER, NULL, 0));
            *ret_step = MILTER_STEP_END_OF_HEADER;
        }
        break;
    case CONTENT_BODY:
        if (content->left == 0 || !milter_wants(milter, MILTER_STEP_BODY)) {
            content->phase = CONTENT_END;
            break;
        }
        result = say_body(content, filter);
        *ret_step = filter->out.length != 0 ? MILTER_STEP_BODY : MILTER_STEP_NONE;
        break;
    case CONTENT_END:
        content->phase = CONTENT_TOLD;
        if (milter_wants(milter, MILTER_STEP_END)) {
            CHECK(milter_say_macros(&filter->out, MILTER_STEP_END, macros) &&
                  milter_say_step(&filter->out, MILTER_STEP_END, NULL, 0));
            *ret_step = MILTER_STEP_END;
        }
        break;
    case CONTENT_TOLD: break;
    }
    return result;
}

enum filter_content_result filter_content_say(struct filter_content *content, struct filter *filter,
                                              const struct milter_macro *macros, enum milter_step *ret_step)
{
    *ret_step = MILTER_STEP_NONE;
    while (*ret_step == MILTER_STEP_NONE && content->phase != CONTENT_TOLD) {
        enum filter_content_result result = say_one(content, filter, macros, ret_step);
        if (result != CONTENT_OK) {
            return result;
        }
    }
    return CONTENT_OK;
}
