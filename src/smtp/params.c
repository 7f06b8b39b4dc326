#include "smtp/params.h"

#include "smtp/datetime.h"
#include "smtp/orcpt.h"
#include "smtp/xtext.h"

#define SIZE_DIGITS_MAX 20 /* RFC 1870 */
#define TIME_DIGITS_MAX 9  /* RFC 4865, RFC 2852 */
#define ENVID_BYTES_MAX 100
#define AUTH_BYTES_MAX 500

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

static bool is_value(struct bytes text, bool utf8)
{
    for (size_t i = 0; i < text.length; i++) {
        uint8_t octet = (uint8_t)text.data[i];
        if (octet <= ' ' || octet == '=' || octet == 0x7f || (octet > 0x7f && !utf8)) {
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
static bool take(struct bytes *text, bool utf8, struct param *ret_param)
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
    if (!is_keyword(param.keyword) || (equals != NULL && !is_value(param.value, utf8))) {
        return false;
    }
    bytes_advance(text, length);
    *ret_param = param;
    return true;
}

static bool is_number(struct bytes value, size_t digits_max)
{
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return false;
        }
    }
    return value.length != 0 && value.length <= digits_max;
}

/* Up to 20 digits; a number that 64 bits cannot hold is larger than any limit of ours. */
static enum params_error parse_size(struct bytes value, const struct params_rules *rules, struct params_mail *params)
{
    (void)rules;
    if (!is_number(value, SIZE_DIGITS_MAX)) {
        return PARAMS_SYNTAX;
    }
    if (!bytes_parse_number(value, &params->size)) {
        params->size = UINT64_MAX;
    }
    return PARAMS_OK;
}

static enum params_error parse_body(struct bytes value, const struct params_rules *rules, struct params_mail *params)
{
    if (bytes_equal_nocase(value, BYTES("8BITMIME"))) {
        params->body = PARAMS_BODY_8BITMIME;
    } else if (bytes_equal_nocase(value, BYTES("BINARYMIME"))) {
        params->body = PARAMS_BODY_BINARYMIME;
        return rules->offered & PARAMS_OFFERED_BINARY ? PARAMS_OK : PARAMS_UNKNOWN;
    } else if (!bytes_equal_nocase(value, BYTES("7BIT"))) {
        return PARAMS_SYNTAX;
    }
    return PARAMS_OK;
}

/* SMTPUTF8 and REQUIRETLS take no value. */
static enum params_error parse_nothing(struct bytes value, const struct params_rules *rules, struct params_mail *params)
{
    (void)rules, (void)params;
    return value.data == NULL ? PARAMS_OK : PARAMS_SYNTAX;
}

static enum params_error parse_ret(struct bytes value, const struct params_rules *rules, struct params_mail *params)
{
    (void)rules;
    params->ret = bytes_equal_nocase(value, BYTES("FULL")) ? 'F' : 'H';
    return params->ret == 'F' || bytes_equal_nocase(value, BYTES("HDRS")) ? PARAMS_OK : PARAMS_SYNTAX;
}

static enum params_error parse_envid(struct bytes value, const struct params_rules *rules, struct params_mail *params)
{
    (void)rules;
    params->envid = value;
    bool good = value.length != 0 && value.length <= ENVID_BYTES_MAX && xtext_printable(value, false);
    return good ? PARAMS_OK : PARAMS_SYNTAX;
}

static enum params_error parse_auth(struct bytes value, const struct params_rules *rules, struct params_mail *params)
{
    (void)rules;
    params->auth = value;
    bool good = value.length != 0 && value.length <= AUTH_BYTES_MAX && xtext_printable(value, true);
    return good ? PARAMS_OK : PARAMS_SYNTAX;
}

/* RFC 6710: (["-"] NZDIGIT) / "0". */
static enum params_error parse_priority(struct bytes value, const struct params_rules *rules,
                                        struct params_mail *params)
{
    (void)rules;
    bool negative = value.length == 2 && value.data[0] == '-';
    char digit = value.length == 0 ? ' ' : value.data[value.length - 1];
    if ((value.length != 1 && !negative) || digit < '0' || digit > '9' || (negative && digit == '0')) {
        return PARAMS_SYNTAX;
    }
    params->priority = (int8_t)(negative ? '0' - digit : digit - '0');
    return PARAMS_OK;
}

static enum params_error parse_hold_for(struct bytes value, const struct params_rules *rules,
                                        struct params_mail *params)
{
    uint64_t seconds;
    if (!is_number(value, TIME_DIGITS_MAX) || value.data[0] == '0' || !bytes_parse_number(value, &seconds) ||
        seconds > rules->hold_s_max) {
        return PARAMS_SYNTAX;
    }
    params->hold_for_s = (uint32_t)seconds;
    return PARAMS_OK;
}

static enum params_error parse_hold_until(struct bytes value, const struct params_rules *rules,
                                          struct params_mail *params)
{
    bool good = datetime_parse(value, &params->hold_until_s);
    return good && params->hold_until_s <= rules->now_s + rules->hold_s_max ? PARAMS_OK : PARAMS_SYNTAX;
}

/* by-time ";" by-mode [by-trace] */
static enum params_error parse_by(struct bytes value, const struct params_rules *rules, struct params_mail *params)
{
    const char *semicolon = value.length == 0 ? NULL : memchr(value.data, ';', value.length);
    if (semicolon == NULL) {
        return PARAMS_SYNTAX;
    }
    struct bytes time = bytes_slice(value, 0, (size_t)(semicolon - value.data));
    struct bytes mode = bytes_slice(value, time.length + 1, value.length - time.length - 1);
    bool negative = time.length != 0 && time.data[0] == '-';
    if (time.length != 0 && (negative || time.data[0] == '+')) {
        bytes_advance(&time, 1);
    }
    uint64_t seconds;
    params->by_trace = mode.length == 2 && bytes_ascii_lower(mode.data[1]) == 't';
    params->by_mode = mode.length == 0 ? ' ' : (char)(bytes_ascii_lower(mode.data[0]) - ('a' - 'A'));
    if (!is_number(time, TIME_DIGITS_MAX) || !bytes_parse_number(time, &seconds) ||
        mode.length != (params->by_trace ? 2u : 1u) || (params->by_mode != 'N' && params->by_mode != 'R')) {
        return PARAMS_SYNTAX;
    }
    params->by_s = negative ? -(int32_t)seconds : (int32_t)seconds;
    if (params->by_mode == 'N') {
        return PARAMS_OK;
    }
    return params->by_s <= 0 ? PARAMS_SYNTAX : seconds < rules->deliver_by_min ? PARAMS_TOO_EARLY : PARAMS_OK;
}

static const struct {
    struct bytes keyword;
    uint16_t given;
    uint16_t excludes; /* may not stand beside it */
    enum params_error (*parse)(struct bytes value, const struct params_rules *rules, struct params_mail *params);
} mail_params[] = {
    {BYTES("SIZE"), PARAMS_GIVEN_SIZE, 0, parse_size},
    {BYTES("BODY"), PARAMS_GIVEN_BODY, 0, parse_body},
    {BYTES("SMTPUTF8"), PARAMS_GIVEN_SMTPUTF8, 0, parse_nothing},
    {BYTES("RET"), PARAMS_GIVEN_RET, 0, parse_ret},
    {BYTES("ENVID"), PARAMS_GIVEN_ENVID, 0, parse_envid},
    {BYTES("AUTH"), PARAMS_GIVEN_AUTH, 0, parse_auth},
    {BYTES("REQUIRETLS"), PARAMS_GIVEN_REQUIRETLS, 0, parse_nothing},
    {BYTES("MT-PRIORITY"), PARAMS_GIVEN_PRIORITY, 0, parse_priority},
    {BYTES("HOLDFOR"), PARAMS_GIVEN_HOLD_FOR, PARAMS_GIVEN_HOLD_UNTIL, parse_hold_for},
    {BYTES("HOLDUNTIL"), PARAMS_GIVEN_HOLD_UNTIL, PARAMS_GIVEN_HOLD_FOR, parse_hold_until},
    {BYTES("BY"), PARAMS_GIVEN_BY, 0, parse_by},
};

static enum params_error take_mail(const struct param *param, const struct params_rules *rules,
                                   struct params_mail *params)
{
    for (size_t i = 0; i < sizeof(mail_params) / sizeof(mail_params[0]); i++) {
        uint16_t given = mail_params[i].given;
        if ((rules->offered & given) == 0 || !bytes_equal_nocase(param->keyword, mail_params[i].keyword)) {
            continue;
        }
        if ((params->given & (given | mail_params[i].excludes)) != 0) {
            return PARAMS_SYNTAX;
        }
        params->given |= given;
        return mail_params[i].parse(param->value, rules, params);
    }
    return PARAMS_UNKNOWN;
}

/* A wrong parameter outweighs an unknown one, wherever they stand. */
static enum params_error worse(enum params_error a, enum params_error b)
{
    return a == PARAMS_SYNTAX || b == PARAMS_OK ? a : b;
}

enum params_error params_parse_mail(struct bytes text, const struct params_rules *rules, struct params_mail *ret_params)
{
    struct params_mail params = {0};
    enum params_error result = PARAMS_OK;
    while (text.length != 0 && result != PARAMS_SYNTAX) {
        struct param param;
        result = take(&text, rules->utf8, &param) ? worse(result, take_mail(&param, rules, &params)) : PARAMS_SYNTAX;
    }
    if (result == PARAMS_OK) {
        *ret_params = params;
    }
    return result;
}

/* "NEVER", or any of the others with commas between them. */
static bool parse_notify(struct bytes value, uint8_t *ret_notify)
{
    static const struct {
        struct bytes name;
        uint8_t bit;
    } conditions[] = {{BYTES("NEVER"), PARAMS_NOTIFY_NEVER},
                      {BYTES("SUCCESS"), PARAMS_NOTIFY_SUCCESS},
                      {BYTES("FAILURE"), PARAMS_NOTIFY_FAILURE},
                      {BYTES("DELAY"), PARAMS_NOTIFY_DELAY}};
    uint8_t notify = 0;
    for (;;) {
        const char *comma = value.length == 0 ? NULL : memchr(value.data, ',', value.length);
        size_t length = comma == NULL ? value.length : (size_t)(comma - value.data);
        uint8_t bit = 0;
        for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++) {
            bit |= bytes_equal_nocase(bytes_slice(value, 0, length), conditions[i].name) ? conditions[i].bit : 0;
        }
        if (bit == 0 || (notify & bit) != 0) {
            return false;
        }
        notify |= bit;
        if (comma == NULL) {
            *ret_notify = notify;
            return notify == PARAMS_NOTIFY_NEVER || (notify & PARAMS_NOTIFY_NEVER) == 0;
        }
        bytes_advance(&value, length + 1);
    }
}

static enum params_error take_rcpt(const struct param *param, const struct params_rules *rules,
                                   struct params_rcpt *params)
{
    uint16_t given = bytes_equal_nocase(param->keyword, BYTES("NOTIFY"))  ? PARAMS_GIVEN_NOTIFY
                     : bytes_equal_nocase(param->keyword, BYTES("ORCPT")) ? PARAMS_GIVEN_ORCPT
                                                                          : 0;
    if ((rules->offered & given) == 0) {
        return PARAMS_UNKNOWN;
    }
    if ((params->given & given) != 0) {
        return PARAMS_SYNTAX;
    }
    params->given |= given;
    if (given == PARAMS_GIVEN_NOTIFY) {
        return parse_notify(param->value, &params->notify) ? PARAMS_OK : PARAMS_SYNTAX;
    }
    params->orcpt = param->value;
    return orcpt_valid(param->value, rules->utf8) ? PARAMS_OK : PARAMS_SYNTAX;
}

enum params_error params_parse_rcpt(struct bytes text, const struct params_rules *rules, struct params_rcpt *ret_params)
{
    struct params_rcpt params = {0};
    enum params_error result = PARAMS_OK;
    while (text.length != 0 && result != PARAMS_SYNTAX) {
        struct param param;
        result = take(&text, rules->utf8, &param) ? worse(result, take_rcpt(&param, rules, &params)) : PARAMS_SYNTAX;
    }
    if (result == PARAMS_OK) {
        *ret_params = params;
    }
    return result;
}
