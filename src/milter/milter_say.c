#include "milter/milter_say.h"

#include "milter/milter_wire.h"

static const char letters[] = {
    [MILTER_STEP_CONNECT] = MILTER_SAY_CONNECT,
    [MILTER_STEP_HELO] = MILTER_SAY_HELO,
    [MILTER_STEP_MAIL] = MILTER_SAY_MAIL,
    [MILTER_STEP_RCPT] = MILTER_SAY_RCPT,
    [MILTER_STEP_DATA] = MILTER_SAY_DATA,
    [MILTER_STEP_HEADER] = MILTER_SAY_HEADER,
    [MILTER_STEP_END_OF_HEADER] = MILTER_SAY_END_OF_HEADER,
    [MILTER_STEP_BODY] = MILTER_SAY_BODY,
    [MILTER_STEP_END] = MILTER_SAY_END,
};

static bool put_number(struct buffer *out, uint32_t number)
{
    const uint8_t octets[4] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                               (uint8_t)number};
    return buffer_append(out, bytes_of(octets, sizeof octets));
}

static bool put_head(struct buffer *out, char letter, size_t bytes)
{
    return put_number(out, (uint32_t)(bytes + 1)) && buffer_append(out, bytes_of(&letter, 1));
}

static bool put_text(struct buffer *out, struct bytes text)
{
    return buffer_append(out, text) && buffer_append(out, bytes_of("", 1));
}

static bool all_or_nothing(struct buffer *out, size_t before, bool ok)
{
    out->length = ok ? out->length : before;
    return ok;
}

bool milter_say_options(struct buffer *out)
{
    size_t before = out->length;
    return all_or_nothing(out, before,
                          put_head(out, MILTER_SAY_OPTIONS, 12) && put_number(out, MILTER_VERSION) &&
                              put_number(out, MILTER_MAY_ALL) && put_number(out, MILTER_STEPS_OFFERED));
}

bool milter_say_macros(struct buffer *out, enum milter_step step, const struct milter_macro *macros)
{
    size_t before = out->length;
    size_t bytes = 1;
    for (const struct milter_macro *macro = macros; macro->name != NULL; macro++) {
        bytes += macro->value.length != 0 ? strlen(macro->name) + macro->value.length + 2 : 0;
    }
    if (bytes == 1) {
        return true;
    }
    bool ok = put_head(out, MILTER_SAY_MACROS, bytes) && buffer_append(out, bytes_of(&letters[step], 1));
    for (const struct milter_macro *macro = macros; ok && macro->name != NULL; macro++) {
        if (macro->value.length != 0) {
            ok = put_text(out, bytes_of_string(macro->name)) && put_text(out, macro->value);
        }
    }
    return all_or_nothing(out, before, ok);
}

bool milter_say_connect(struct buffer *out, struct bytes name, char family, uint16_t port, struct bytes address)
{
    size_t before = out->length;
    const uint8_t octets[2] = {(uint8_t)(port >> 8), (uint8_t)port};
    bool unknown = family == 'U';
    size_t bytes = name.length + 2 + (unknown ? 0 : sizeof octets + address.length + 1);
    bool ok = put_head(out, MILTER_SAY_CONNECT, bytes) && put_text(out, name) &&
              buffer_append(out, bytes_of(&family, 1));
    if (!unknown) {
        ok = ok && buffer_append(out, bytes_of(octets, sizeof octets)) && put_text(out, address);
    }
    return all_or_nothing(out, before, ok);
}

bool milter_say_step(struct buffer *out, enum milter_step step, const struct bytes *texts, unsigned count)
{
    size_t before = out->length;
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        bytes += texts[i].length + 1;
    }
    bool ok = put_head(out, letters[step], bytes);
    for (unsigned i = 0; ok && i < count; i++) {
        ok = put_text(out, texts[i]);
    }
    return all_or_nothing(out, before, ok);
}

bool milter_say_field(struct buffer *out, struct bytes name, struct bytes value, bool space)
{
    size_t before = out->length;
    if (!space && value.length != 0 && value.data[0] == ' ') {
        bytes_advance(&value, 1);
    }
    bool ok = put_head(out, MILTER_SAY_HEADER, 0) && put_text(out, name);
    while (ok && value.length != 0) {
        const char *end = memchr(value.data, '\r', value.length);
        size_t length = end != NULL ? (size_t)(end - value.data) : value.length;
        ok = buffer_append(out, bytes_slice(value, 0, length));
        bytes_advance(&value, length + (end != NULL));
    }
    ok = ok && buffer_append(out, bytes_of("", 1));
    if (ok) { /* now it is known how long it is */
        struct buffer head = buffer_of(out->data + before, MILTER_HEAD_BYTES);
        CHECK(put_head(&head, MILTER_SAY_HEADER, out->length - before - MILTER_HEAD_BYTES));
    }
    return all_or_nothing(out, before, ok);
}

bool milter_say_body(struct buffer *out, size_t bytes)
{
    size_t before = out->length;
    CHECK(bytes <= MILTER_CHUNK_BYTES);
    return all_or_nothing(out, before, put_head(out, MILTER_SAY_BODY, bytes));
}

bool milter_say_abort(struct buffer *out)
{
    size_t before = out->length;
    return all_or_nothing(out, before, put_head(out, MILTER_SAY_ABORT, 0));
}

bool milter_say_quit(struct buffer *out)
{
    size_t before = out->length;
    return all_or_nothing(out, before, put_head(out, MILTER_SAY_QUIT, 0));
}
