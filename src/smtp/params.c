#include "smtp/params.h"

#define SIZE_DIGITS_MAX 20 /* RFC 1870 */

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_keyword(struct bytes text)
{
    if (text.length == 0 || !is_alphanumeric(text.data[0])) {
        return false;
    }
    for (size_t i = 1; i < text.length; i++) {
        if (!is_alphanumeric(text.data[i]) && text.data[i] != '-') {
            return false;
        }
    }
    return true;
}

static bool is_value(struct bytes text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] <= ' ' || text.data[i] > '~' || text.data[i] == '=') {
            return false;
        }
    }
    return text.length != 0;
}

struct param {
    struct bytes keyword;
    struct bytes value; /* data is NULL when there was no '=' */
};

/* Takes one " KEYWORD[=value]" off *text, which is not empty. */
static bool take(struct bytes *text, struct param *ret_param)
{
    if (text->data[0] != ' ') {
        return false;
    }
    while (text->length != 0 && text->data[0] == ' ') {
        bytes_advance(text, 1);
    }
    size_t length = 0;
    while (length < text->length && text->data[length] != ' ') {
        length++;
    }
    struct bytes word = bytes_slice(*text, 0, length);
    const char *equals = length == 0 ? NULL : memchr(word.data, '=', length);
    struct param param = {.keyword = word};
    if (equals != NULL) {
        size_t keyword_length = (size_t)(equals - word.data);
        param.keyword = bytes_slice(word, 0, keyword_length);
        param.value = bytes_slice(word, keyword_length + 1, length - keyword_length - 1);
    }
    if (!is_keyword(param.keyword) || (equals != NULL && !is_value(param.value))) {
        return false;
    }
    bytes_advance(text, length);
    *ret_param = param;
    return true;
}

/* Up to 20 digits; a number that 64 bits cannot hold is larger than any limit of ours. */
static bool parse_size(struct bytes value, uint64_t *ret_size)
{
    if (value.length == 0 || value.length > SIZE_DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return false;
        }
    }
    if (!bytes_parse_number(value, ret_size)) {
        *ret_size = UINT64_MAX;
    }
    return true;
}

static bool parse_body(struct bytes value, uint8_t *ret_body)
{
    if (bytes_equal_nocase(value, BYTES("8BITMIME"))) {
        *ret_body = PARAMS_BODY_8BITMIME;
        return true;
    }
    *ret_body = PARAMS_BODY_7BIT;
    return bytes_equal_nocase(value, BYTES("7BIT"));
}

enum params_error params_parse_mail(struct bytes text, struct params_mail *ret_params)
{
    struct params_mail params = {0};
    enum params_error result = PARAMS_OK;
    while (text.length != 0) {
        struct param param;
        uint8_t given;
        bool ok;
        if (!take(&text, &param)) {
            return PARAMS_SYNTAX;
        }
        if (bytes_equal_nocase(param.keyword, BYTES("SIZE"))) {
            given = PARAMS_GIVEN_SIZE;
            ok = parse_size(param.value, &params.size);
        } else if (bytes_equal_nocase(param.keyword, BYTES("BODY"))) {
            given = PARAMS_GIVEN_BODY;
            ok = parse_body(param.value, &params.body);
        } else {
            result = PARAMS_UNKNOWN;
            continue;
        }
        if (!ok || (params.given & given) != 0) {
            return PARAMS_SYNTAX;
        }
        params.given |= given;
    }
    if (result == PARAMS_OK) {
        *ret_params = params;
    }
    return result;
}

enum params_error params_parse_rcpt(struct bytes text)
{
    enum params_error result = PARAMS_OK;
    while (text.length != 0) {
        struct param param;
        if (!take(&text, &param)) {
            return PARAMS_SYNTAX;
        }
        result = PARAMS_UNKNOWN;
    }
    return result;
}
