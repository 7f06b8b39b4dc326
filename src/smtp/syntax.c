#include "smtp/syntax.h"

#include "base/limits.h"
#include "base/utf8.h"

static const struct {
    struct bytes name;
    enum syntax_verb verb;
} verbs[] = {
    {BYTES("MAIL"), SYNTAX_MAIL},         {BYTES("RCPT"), SYNTAX_RCPT},    {BYTES("DATA"), SYNTAX_DATA},
    {BYTES("EHLO"), SYNTAX_EHLO},         {BYTES("HELO"), SYNTAX_HELO},    {BYTES("RSET"), SYNTAX_RSET},
    {BYTES("NOOP"), SYNTAX_NOOP},         {BYTES("QUIT"), SYNTAX_QUIT},    {BYTES("VRFY"), SYNTAX_VRFY},
    {BYTES("HELP"), SYNTAX_HELP},         {BYTES("EXPN"), SYNTAX_ABSENT},  {BYTES("STARTTLS"), SYNTAX_STARTTLS},
    {BYTES("AUTH"), SYNTAX_AUTH},         {BYTES("BDAT"), SYNTAX_BDAT},    {BYTES("ETRN"), SYNTAX_ABSENT},
    {BYTES("TURN"), SYNTAX_ABSENT},       {BYTES("ATRN"), SYNTAX_ABSENT},  {BYTES("SEND"), SYNTAX_ABSENT},
    {BYTES("SOML"), SYNTAX_ABSENT},       {BYTES("SAML"), SYNTAX_ABSENT},  {BYTES("XCLIENT"), SYNTAX_XCLIENT},
    {BYTES("XFORWARD"), SYNTAX_XFORWARD}, {BYTES("LHLO"), SYNTAX_LHLO},

    {BYTES("GET"), SYNTAX_HTTP},          {BYTES("POST"), SYNTAX_HTTP},    {BYTES("PUT"), SYNTAX_HTTP},
    {BYTES("HEAD"), SYNTAX_HTTP},         {BYTES("CONNECT"), SYNTAX_HTTP}, {BYTES("OPTIONS"), SYNTAX_HTTP},
    {BYTES("DELETE"), SYNTAX_HTTP},       {BYTES("PATCH"), SYNTAX_HTTP},   {BYTES("TRACE"), SYNTAX_HTTP},
    {BYTES("PRI"), SYNTAX_HTTP},
};

enum syntax_verb syntax_split(struct bytes command, struct bytes *ret_argument)
{
    while (command.length != 0 &&
           (command.data[command.length - 1] == ' ' || command.data[command.length - 1] == '\t')) {
        command.length--;
    }
    size_t length = 0;
    while (length < command.length && command.data[length] != ' ') {
        length++;
    }
    struct bytes verb = bytes_slice(command, 0, length);
    while (length < command.length && command.data[length] == ' ') {
        length++;
    }
    *ret_argument = bytes_slice(command, length, command.length - length);
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (bytes_equal_nocase(verb, verbs[i].name)) {
            return verbs[i].verb;
        }
    }
    return SYNTAX_UNKNOWN;
}

/* A domain whose labels may have underscores. RFC 5321 has none, but machines and containers are named with them, and
 * the name only goes into the Received field: a stranger's habit is no reason to refuse mail. */
static bool is_host_name(struct bytes name)
{
    char plain[LIMIT_DOMAIN_BYTES];
    if (name.length > sizeof plain) {
        return false;
    }
    for (size_t i = 0; i < name.length; i++) {
        plain[i] = (char)(name.data[i] == '_' ? 'x' : name.data[i]);
    }
    return address_is_domain(bytes_of(plain, name.length));
}

enum reply_id syntax_helo(struct bytes argument)
{
    enum address_kind kind;
    bool good = is_host_name(argument) || address_is_literal(argument, &kind);
    return good ? REPLY_OK : REPLY_BAD_ARGUMENT;
}

/* "FROM:" or "TO:". RFC 5321 4.1.1.2 forbids spaces on either side of the colon. */
static bool take_keyword(struct bytes *text, struct bytes keyword)
{
    if (text->length < keyword.length || !bytes_equal_nocase(bytes_slice(*text, 0, keyword.length), keyword)) {
        return false;
    }
    bytes_advance(text, keyword.length);
    return true;
}

static enum reply_id reply_to_params(enum params_error error)
{
    static const enum reply_id replies[] = {
        [PARAMS_OK] = REPLY_OK,
        [PARAMS_SYNTAX] = REPLY_BAD_ARGUMENT,
        [PARAMS_UNKNOWN] = REPLY_UNKNOWN_PARAMETER,
        [PARAMS_TOO_EARLY] = REPLY_DELIVER_BY,
    };
    return replies[error];
}

enum reply_id syntax_mail(struct bytes argument, const struct params_rules *rules, struct address *ret_path,
                          struct params_mail *ret_params)
{
    struct address path;
    struct params_mail params;
    if (!take_keyword(&argument, BYTES("FROM:"))) {
        return REPLY_BAD_ARGUMENT;
    }
    enum address_error error = address_parse_path(&argument, rules->utf8, &path);
    if (error == ADDRESS_EIGHT_BIT) {
        return REPLY_NO_UTF8;
    }
    if (error != ADDRESS_OK || path.kind == ADDRESS_POSTMASTER) {
        return REPLY_BAD_SENDER;
    }
    enum reply_id reply = reply_to_params(params_parse_mail(argument, rules, &params));
    if (reply == REPLY_OK && path.utf8 && (params.given & PARAMS_GIVEN_SMTPUTF8) == 0) {
        return REPLY_NO_UTF8;
    }
    if (reply == REPLY_OK) {
        *ret_path = path;
        *ret_params = params;
    }
    return reply;
}

enum reply_id syntax_rcpt(struct bytes argument, const struct params_rules *rules, struct address *ret_path,
                          struct params_rcpt *ret_params)
{
    struct address path;
    if (!take_keyword(&argument, BYTES("TO:"))) {
        return REPLY_BAD_ARGUMENT;
    }
    enum address_error error = address_parse_path(&argument, rules->utf8, &path);
    if (error == ADDRESS_EIGHT_BIT) {
        return REPLY_NO_UTF8;
    }
    if (error != ADDRESS_OK || path.kind == ADDRESS_NULL) {
        return REPLY_BAD_RECIPIENT;
    }
    enum reply_id reply = reply_to_params(params_parse_rcpt(argument, rules, ret_params));
    if (reply == REPLY_OK) {
        *ret_path = path;
    }
    return reply;
}

enum reply_id syntax_vrfy(struct bytes argument, bool utf8)
{
    struct bytes keyword = BYTES(" SMTPUTF8");
    bool high = false;
    for (size_t i = 0; i < argument.length; i++) {
        uint8_t octet = (uint8_t)argument.data[i];
        if (octet < ' ' || octet == 0x7f) {
            return REPLY_BAD_ARGUMENT;
        }
        high |= octet > 0x7f;
    }
    if (argument.length == 0) {
        return REPLY_BAD_ARGUMENT;
    }
    bool asked = utf8 && argument.length > keyword.length &&
                 bytes_equal_nocase(bytes_slice(argument, argument.length - keyword.length, keyword.length), keyword);
    return high && !(asked && utf8_printable(argument)) ? REPLY_NO_UTF8 : REPLY_OK;
}

bool syntax_bdat(struct bytes argument, uint64_t *ret_bytes, bool *ret_last)
{
    struct bytes last = BYTES(" LAST");
    bool is_last = argument.length > last.length &&
                   bytes_equal_nocase(bytes_slice(argument, argument.length - last.length, last.length), last);
    uint64_t bytes;
    if (is_last) {
        argument.length -= last.length;
    }
    while (argument.length != 0 && argument.data[argument.length - 1] == ' ') {
        argument.length--;
    }
    if (!bytes_parse_number(argument, &bytes) || bytes > INT64_MAX) {
        return false;
    }
    *ret_bytes = bytes;
    *ret_last = is_last;
    return true;
}
