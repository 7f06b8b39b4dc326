#include "sasl/verifier.h"

#include "base/utf8.h"

static bool is_plain(char c)
{
    char lower = bytes_ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("-._~+/=@:", c) != NULL);
}

static bool append_value(struct buffer *out, const char *name, struct bytes value)
{
    bool fits = buffer_append_string(out, " ") && buffer_append_string(out, name) && buffer_append_string(out, "=");
    for (size_t i = 0; i < value.length && fits; i++) {
        char c = value.data[i];
        fits = is_plain(c) ? buffer_append(out, bytes_of(&c, 1)) : buffer_append_format(out, "%%%02X", (uint8_t)c);
    }
    return fits;
}

bool verifier_append_request(struct buffer *out, const struct verifier_request *request)
{
    size_t before = out->length;
    bool fits = buffer_append_string(out, "verify") &&
                append_value(out, "mechanism", bytes_of_string(mechanism_name(request->mechanism))) &&
                append_value(out, "user", request->user) && append_value(out, "address", request->address) &&
                append_value(out, "token", request->token) && buffer_append_string(out, "\n");
    out->length = fits ? out->length : before;
    return fits;
}

static int hex(char c)
{
    char lower = bytes_ascii_lower(c);
    return c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool decode_value(struct bytes text, char *ret_value, size_t capacity, size_t *ret_length)
{
    struct buffer out = buffer_of(ret_value, capacity);
    while (text.length != 0) {
        char c = text.data[0];
        size_t taken = 1;
        if (c == '%') {
            int high = text.length > 2 ? hex(text.data[1]) : -1;
            int low = text.length > 2 ? hex(text.data[2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            taken = 3;
        } else if (!is_plain(c)) {
            return false;
        }
        if (!buffer_append(&out, bytes_of(&c, 1))) {
            return false;
        }
        bytes_advance(&text, taken);
    }
    *ret_length = out.length;
    return true;
}

/* The word, alone or with a space and more behind it. */
static bool begins_with_word(struct bytes line, struct bytes word)
{
    return line.length >= word.length && bytes_equal(bytes_slice(line, 0, word.length), word) &&
           (line.length == word.length || line.data[word.length] == ' ');
}

enum exchange_verdict verifier_parse_answer(struct bytes line, char *name_space, struct bytes *ret_name)
{
    const struct bytes good = BYTES("ok user=");
    size_t length = 0;
    if (line.length >= VERIFIER_ANSWER_BYTES_MAX) {
        return EXCHANGE_UNAVAILABLE;
    }
    if (begins_with_word(line, BYTES("invalid"))) {
        return EXCHANGE_INVALID;
    }
    if (line.length <= good.length || !bytes_equal(bytes_slice(line, 0, good.length), good)) {
        return EXCHANGE_UNAVAILABLE;
    }
    bytes_advance(&line, good.length);
    if (!decode_value(line, name_space, CREDENTIALS_NAME_BYTES_MAX, &length) ||
        !utf8_printable(bytes_of(name_space, length))) {
        return EXCHANGE_UNAVAILABLE;
    }
    *ret_name = bytes_of(name_space, length);
    return EXCHANGE_VALID;
}
