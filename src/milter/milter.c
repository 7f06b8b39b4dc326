#include "milter/milter.h"

#include "milter/milter_wire.h"

static_assert(sizeof((struct milter_reply *)0)->room == MILTER_TEXT_BYTES_MAX, "room for a text");

/* --- packets ------------------------------------------------------------------------------------------------------ */

#define LENGTH_BYTES 4

void milter_reader_init(struct milter_reader *reader, void *block, size_t capacity)
{
    *reader = (struct milter_reader){.block = buffer_of(block, capacity)};
}

bool milter_reader_empty(const struct milter_reader *reader)
{
    return reader->head_bytes == 0;
}

enum milter_read milter_read(struct milter_reader *reader, struct bytes *input, struct milter_packet *ret_packet)
{
    while (reader->head_bytes < LENGTH_BYTES && input->length != 0) {
        reader->wanted = reader->wanted << 8 | (uint8_t)input->data[0];
        reader->head_bytes++;
        bytes_advance(input, 1);
    }
    if (reader->head_bytes < LENGTH_BYTES) {
        return MILTER_READ_MORE;
    }
    struct buffer *block = &reader->block;
    if (reader->wanted == 0 || reader->wanted > block->capacity) {
        return MILTER_READ_BROKEN;
    }
    size_t missing = reader->wanted - block->length;
    struct bytes piece = bytes_slice(*input, 0, missing < input->length ? missing : input->length);
    CHECK(buffer_append(block, piece));
    bytes_advance(input, piece.length);
    if (block->length < reader->wanted) {
        return MILTER_READ_MORE;
    }
    *ret_packet = (struct milter_packet){
        .letter = block->data[0],
        .data = bytes_of(block->data + 1, block->length - 1),
    };
    milter_reader_init(reader, block->data, block->capacity);
    return MILTER_READ_PACKET;
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

struct step_rule {
    uint32_t unwanted; /* MILTER_NO_... */
    uint32_t silent;   /* MILTER_SILENT_... */
    uint8_t version;   /* knows it from this one on */
};

static const struct step_rule rules[] = {
    [MILTER_STEP_NONE] = {0, 0, 0},
    [MILTER_STEP_OPTIONS] = {0, 0, 0},
    [MILTER_STEP_CONNECT] = {MILTER_NO_CONNECT, MILTER_SILENT_CONNECT, 2},
    [MILTER_STEP_HELO] = {MILTER_NO_HELO, MILTER_SILENT_HELO, 2},
    [MILTER_STEP_MAIL] = {MILTER_NO_MAIL, MILTER_SILENT_MAIL, 2},
    [MILTER_STEP_RCPT] = {MILTER_NO_RCPT, MILTER_SILENT_RCPT, 2},
    [MILTER_STEP_DATA] = {MILTER_NO_DATA, MILTER_SILENT_DATA, 4},
    [MILTER_STEP_HEADER] = {MILTER_NO_HEADERS, MILTER_SILENT_HEADER, 2},
    [MILTER_STEP_END_OF_HEADER] = {MILTER_NO_END_OF_HEADER, MILTER_SILENT_END_OF_HEADER, 2},
    [MILTER_STEP_BODY] = {MILTER_NO_BODY, MILTER_SILENT_BODY, 2},
    [MILTER_STEP_END] = {0, 0, 2},
};

bool milter_wants(struct milter *milter, enum milter_step step)
{
    if (milter->accepted_session || milter->accepted_message) {
        return false;
    }
    if (milter->skipped == step) {
        return false;
    }
    milter->skipped = MILTER_STEP_NONE;
    bool wanted = (milter->steps & rules[step].unwanted) == 0 && milter->version >= rules[step].version;
    milter->open |= wanted && step >= MILTER_STEP_MAIL;
    return wanted;
}

bool milter_answers(const struct milter *milter, enum milter_step step)
{
    return (milter->steps & rules[step].silent) == 0;
}

bool milter_keeps_space(const struct milter *milter)
{
    return (milter->steps & MILTER_LEADING_SPACE) != 0;
}

bool milter_end_transaction(struct milter *milter)
{
    bool tell = milter->open && !milter->accepted_session;
    milter->open = milter->accepted_message = false;
    milter->skipped = MILTER_STEP_NONE;
    return tell;
}

/* --- reading a packet --------------------------------------------------------------------------------------------- */

static bool take_number(struct bytes *data, uint32_t *ret_number)
{
    if (data->length < 4) {
        return false;
    }
    *ret_number = 0;
    for (unsigned i = 0; i < 4; i++) {
        *ret_number = *ret_number << 8 | (uint8_t)data->data[i];
    }
    bytes_advance(data, 4);
    return true;
}

static bool take_text(struct bytes *data, struct bytes *ret_text)
{
    const char *end = data->length != 0 ? memchr(data->data, '\0', data->length) : NULL;
    if (end == NULL) {
        return false;
    }
    *ret_text = bytes_of(data->data, (size_t)(end - data->data));
    bytes_advance(data, ret_text->length + 1);
    return true;
}

/* Options may be followed by the macros that the filter wants, by step. It gets all that there are, in any case. */
static bool take_macro_lists(struct bytes data)
{
    uint32_t step;
    struct bytes names;
    while (data.length != 0) {
        if (!take_number(&data, &step) || !take_text(&data, &names)) {
            return false;
        }
    }
    return true;
}

static enum milter_meaning take_options(struct milter *milter, struct bytes data)
{
    uint32_t version;
    uint32_t actions;
    uint32_t steps;
    if (!take_number(&data, &version) || !take_number(&data, &actions) || !take_number(&data, &steps) ||
        version < MILTER_VERSION_MIN || version > MILTER_VERSION || (actions & ~MILTER_MAY_ALL) != 0 ||
        !take_macro_lists(data)) {
        return MILTER_BROKEN;
    }
    milter->version = version;
    milter->actions = actions;
    milter->steps = steps;
    milter->ready = true;
    return MILTER_CONTINUE;
}

/* --- a reply's text ----------------------------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "5.7.1" and a space, of that class: taken off the line. */
static bool take_enhanced(struct bytes *line, char class, uint8_t ret_enhanced[3])
{
    unsigned part[3] = {0};
    size_t at = 0;
    for (unsigned i = 0; i < 3; i++) {
        size_t start = at;
        while (at < line->length && at < start + 3 && is_digit(line->data[at])) {
            part[i] = part[i] * 10 + (unsigned)(line->data[at++] - '0');
        }
        bool more = i < 2;
        if (at == start || part[i] > UINT8_MAX || (more && (at == line->length || line->data[at++] != '.'))) {
            return false;
        }
    }
    if (part[0] != (unsigned)(class - '0') || (at < line->length && line->data[at] != ' ')) {
        return false;
    }
    bytes_advance(line, at < line->length ? at + 1 : at);
    for (unsigned i = 0; i < 3; i++) {
        ret_enhanced[i] = (uint8_t)part[i];
    }
    return true;
}

/* sendmail takes the text for a format: "%%" stands for one, and another one is nothing. */
static void put_line(struct buffer *out, struct bytes line)
{
    for (size_t i = 0; i < line.length; i++) {
        char c = line.data[i];
        if (c == '%') {
            if (++i == line.length) {
                return;
            }
            c = line.data[i];
        }
        c = c >= ' ' && c <= '~' ? c : '?';
        buffer_append(out, bytes_of(&c, 1)); /* what is too long is cut */
    }
}

static struct bytes take_line(struct bytes *text)
{
    const char *end = memchr(text->data, '\n', text->length);
    size_t whole = end != NULL ? (size_t)(end - text->data) + 1 : text->length;
    size_t length = end != NULL ? whole - 1 : whole;
    length -= length != 0 && text->data[length - 1] == '\r';
    struct bytes line = bytes_slice(*text, 0, length);
    bytes_advance(text, whole);
    return line;
}

/* "550 5.7.1 text", or several lines "550-5.7.1 text" of one code. */
static bool take_reply_text(struct bytes text, struct milter_reply *reply)
{
    struct buffer out = buffer_of(reply->room, sizeof reply->room);
    const char *code = text.data;
    if (text.length < 3 || (code[0] != '4' && code[0] != '5') || !is_digit(code[1]) || !is_digit(code[2])) {
        return false;
    }
    reply->code = (uint16_t)((code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0'));
    reply->enhanced[0] = (uint8_t)(code[0] - '0');
    reply->enhanced[1] = 7;
    reply->enhanced[2] = 1;
    for (unsigned lines = 0; text.length != 0; lines++) {
        struct bytes line = take_line(&text);
        uint8_t enhanced[3];
        if (line.length < 3 || memcmp(line.data, code, 3) != 0 ||
            (line.length > 3 && line.data[3] != ' ' && line.data[3] != '-')) {
            return false;
        }
        bytes_advance(&line, line.length > 3 ? 4 : 3);
        if (take_enhanced(&line, code[0], enhanced) && lines == 0) {
            memcpy(reply->enhanced, enhanced, sizeof enhanced);
        }
        if (lines != 0) {
            buffer_append(&out, BYTES("\n"));
        }
        put_line(&out, line);
    }
    reply->text = buffer_bytes(&out);
    return true;
}

static enum milter_meaning refuse(struct milter_reply *reply, uint16_t code, struct bytes text)
{
    reply->code = code;
    reply->enhanced[0] = (uint8_t)(code / 100);
    reply->enhanced[1] = 7;
    reply->enhanced[2] = 1;
    reply->text = text;
    return MILTER_REFUSE;
}

/* --- edits -------------------------------------------------------------------------------------------------------- */

static bool may(const struct milter *milter, uint32_t action)
{
    return (milter->actions & action) != 0;
}

/* Some libmilters end the last text with a NUL and some callers leave the parameters out. */
static bool take_path(struct bytes data, bool parameters, struct milter_reply *reply)
{
    reply->value = BYTES("");
    return take_text(&data, &reply->name) && (!parameters || data.length == 0 || take_text(&data, &reply->value)) &&
           data.length == 0;
}

static bool take_field(struct bytes data, bool index, struct milter_reply *reply)
{
    reply->index = 0;
    return (!index || take_number(&data, &reply->index)) && take_text(&data, &reply->name) &&
           take_text(&data, &reply->value) && data.length == 0;
}

static bool take_edit(const struct milter *milter, const struct milter_packet *packet, struct milter_reply *reply)
{
    struct bytes data = packet->data;
    switch (packet->letter) {
    case MILTER_HEAR_ADD_HEADER:
        reply->edit = MILTER_ADD_HEADER;
        return may(milter, MILTER_MAY_ADD_HEADERS) && take_field(data, false, reply);
    case MILTER_HEAR_INSERT_HEADER:
        reply->edit = MILTER_INSERT_HEADER;
        return may(milter, MILTER_MAY_ADD_HEADERS) && take_field(data, true, reply);
    case MILTER_HEAR_CHANGE_HEADER:
        reply->edit = MILTER_CHANGE_HEADER;
        return may(milter, MILTER_MAY_CHANGE_HEADERS) && take_field(data, true, reply);
    case MILTER_HEAR_ADD_RCPT:
        reply->edit = MILTER_ADD_RCPT;
        return may(milter, MILTER_MAY_ADD_RCPT) && take_path(data, false, reply);
    case MILTER_HEAR_ADD_RCPT_PARAMETERS:
        reply->edit = MILTER_ADD_RCPT;
        return may(milter, MILTER_MAY_ADD_RCPT_PARAMETERS) && take_path(data, true, reply);
    case MILTER_HEAR_DELETE_RCPT:
        reply->edit = MILTER_DELETE_RCPT;
        return may(milter, MILTER_MAY_DELETE_RCPT) && take_path(data, false, reply);
    case MILTER_HEAR_CHANGE_FROM:
        reply->edit = MILTER_CHANGE_FROM;
        return may(milter, MILTER_MAY_CHANGE_FROM) && take_path(data, true, reply);
    case MILTER_HEAR_REPLACE_BODY:
        reply->edit = MILTER_REPLACE_BODY;
        reply->value = data;
        return may(milter, MILTER_MAY_CHANGE_BODY);
    case MILTER_HEAR_QUARANTINE:
        reply->edit = MILTER_QUARANTINE;
        return may(milter, MILTER_MAY_QUARANTINE) && take_text(&data, &reply->value) && data.length == 0;
    default: return false;
    }
}

/* --- the answer --------------------------------------------------------------------------------------------------- */

static bool of_session(enum milter_step step)
{
    return step == MILTER_STEP_CONNECT || step == MILTER_STEP_HELO;
}

static enum milter_meaning accept(struct milter *milter, enum milter_step step)
{
    if (of_session(step)) {
        milter->accepted_session = true;
    } else {
        milter->accepted_message = true;
    }
    return MILTER_ACCEPT;
}

/* The letters that stand alone. */
static enum milter_meaning take_word(struct milter *milter, enum milter_step step, char letter,
                                     struct milter_reply *reply)
{
    switch (letter) {
    case MILTER_HEAR_PROGRESS: return MILTER_PROGRESS;
    case MILTER_HEAR_CONTINUE: return MILTER_CONTINUE;
    case MILTER_HEAR_ACCEPT: return accept(milter, step);
    case MILTER_HEAR_DISCARD:
        if (of_session(step)) {
            return MILTER_BROKEN; /* there is no message yet */
        }
        milter->accepted_message = true;
        return MILTER_DISCARD;
    case MILTER_HEAR_REJECT: return refuse(reply, 550, BYTES("Command rejected"));
    case MILTER_HEAR_TEMPFAIL: return refuse(reply, 451, BYTES("Service unavailable - try again later"));
    case MILTER_HEAR_SHUTDOWN:
    case MILTER_HEAR_CONNECTION_FAILS: return refuse(reply, 421, BYTES("Service not available, closing connection"));
    case MILTER_HEAR_SKIP:
        milter->skipped = (uint8_t)step;
        return step == MILTER_STEP_END ? MILTER_BROKEN : MILTER_CONTINUE;
    default: return MILTER_BROKEN;
    }
}

static enum milter_meaning take_any(struct milter *milter, enum milter_step step, const struct milter_packet *packet,
                                    struct milter_reply *reply)
{
    if (packet->letter == MILTER_HEAR_REPLY) {
        struct bytes text = packet->data;
        if (text.length != 0 && text.data[text.length - 1] == '\0') {
            text.length--;
        }
        return take_reply_text(text, reply) ? MILTER_REFUSE : MILTER_BROKEN;
    }
    if (packet->data.length == 0) {
        enum milter_meaning meaning = take_word(milter, step, packet->letter, reply);
        if (meaning != MILTER_BROKEN) {
            return meaning;
        }
    }
    return step == MILTER_STEP_END && take_edit(milter, packet, reply) ? MILTER_EDIT : MILTER_BROKEN;
}

enum milter_meaning milter_take(struct milter *milter, enum milter_step step, const struct milter_packet *packet,
                                struct milter_reply *ret_reply)
{
    CHECK(step != MILTER_STEP_NONE);
    if (step == MILTER_STEP_OPTIONS) {
        return packet->letter == MILTER_HEAR_OPTIONS ? take_options(milter, packet->data) : MILTER_BROKEN;
    }
    enum milter_meaning meaning = take_any(milter, step, packet, ret_reply);
    if (step == MILTER_STEP_END && meaning != MILTER_PROGRESS && meaning != MILTER_EDIT) {
        milter->open = false; /* it knows that the message is over */
    }
    return meaning;
}
