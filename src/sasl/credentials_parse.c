/* The password file's text into a table, with every mistake named by its line. No message ever quotes a verifier. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "sasl/credentials_private.h"

#define SHAPES 16
#define QUOTED_BYTES_MAX 80

/* How many accounts have these iterations and this length of salt. */
struct shape {
    uint32_t iterations;
    uint32_t count;
    uint8_t salt_length;
};

struct parser {
    struct credentials *into;
    const char *path;
    credentials_report *report;
    void *context;
    unsigned line;
    unsigned errors;
    struct shape shapes[SHAPES];
};

static bool complain(struct parser *parser, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool complain(struct parser *parser, const char *format, ...)
{
    char text[768];
    va_list arguments;
    int used = snprintf(text, sizeof text, "%.200s:%u: ", parser->path, parser->line);
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - (size_t)used, format, arguments);
    va_end(arguments);
    if (parser->errors < CREDENTIALS_ERRORS_MAX) {
        parser->report(parser->context, text);
    }
    parser->errors++;
    return false;
}

/* So much of a text as a message quotes; never a part of a character. */
static struct bytes clip(struct bytes text)
{
    size_t length = text.length < QUOTED_BYTES_MAX ? text.length : QUOTED_BYTES_MAX;
    while (length < text.length && length != 0 && ((uint8_t)text.data[length] & 0xc0) == 0x80) {
        length--;
    }
    return bytes_of(text.data, length);
}

/* What comes before the first `end`, or all; the rest is what follows. */
static struct bytes split(struct bytes *rest, char end)
{
    const char *found = rest->length != 0 ? memchr(rest->data, end, rest->length) : NULL;
    struct bytes part = *rest;
    if (found == NULL) {
        *rest = bytes_of(NULL, 0);
        return part;
    }
    part.length = (size_t)(found - rest->data);
    bytes_advance(rest, part.length + 1);
    return part;
}

static void fold(struct bytes text)
{
    CHECK(text.data != NULL || text.length == 0);
    credentials_fold((char *)(uintptr_t)text.data, text.length); /* our own copy of the file */
}

static bool starts_with(struct bytes text, struct bytes prefix)
{
    return text.length >= prefix.length && bytes_equal(bytes_slice(text, 0, prefix.length), prefix);
}

static bool decode(struct bytes text, uint8_t *ret_octets, size_t length_min, size_t length_max, size_t *ret_length)
{
    char room[BASE64_ENCODED_BYTES(CREDENTIALS_SALT_BYTES_MAX)];
    size_t length = 0;
    if (text.length > sizeof room || !base64_decode(text, room, &length) || length < length_min ||
        length > length_max) {
        return false;
    }
    memcpy(ret_octets, room, length);
    *ret_length = length;
    return true;
}

static void count_shape(struct parser *parser, const struct credentials_verifier *verifier)
{
    for (unsigned i = 0; i < SHAPES; i++) {
        struct shape *shape = &parser->shapes[i];
        if (shape->count == 0) {
            *shape = (struct shape){.iterations = verifier->iterations, .salt_length = verifier->salt_length};
        }
        if (shape->iterations == verifier->iterations && shape->salt_length == verifier->salt_length) {
            shape->count++;
            return;
        }
    }
}

static void choose_usual(const struct parser *parser)
{
    struct shape usual = {.iterations = CREDENTIALS_ITERATIONS_DEFAULT, .salt_length = CREDENTIALS_SALT_BYTES_DEFAULT};
    for (unsigned i = 0; i < SHAPES; i++) {
        usual = parser->shapes[i].count > usual.count ? parser->shapes[i] : usual;
    }
    parser->into->usual_iterations = usual.iterations;
    parser->into->usual_salt_length = usual.salt_length;
}

static bool parse_verifier(struct parser *parser, struct bytes text, struct credentials_verifier *ret_verifier)
{
    uint64_t iterations = 0;
    size_t length = 0;
    if (bytes_equal(text, BYTES("-"))) {
        return true;
    }
    if (!starts_with(text, BYTES("{SCRAM-SHA-256}"))) {
        return complain(parser, "the verifier is of an unknown kind, expected {SCRAM-SHA-256}... or -");
    }
    bytes_advance(&text, strlen("{SCRAM-SHA-256}"));
    if (!bytes_parse_number(split(&text, ','), &iterations) || iterations < CREDENTIALS_ITERATIONS_MIN ||
        iterations > CREDENTIALS_ITERATIONS_MAX) {
        return complain(parser, "the verifier's iterations are wrong, expected %u to %u", CREDENTIALS_ITERATIONS_MIN,
                        CREDENTIALS_ITERATIONS_MAX);
    }
    ret_verifier->iterations = (uint32_t)iterations;
    if (!decode(split(&text, ','), ret_verifier->salt, CREDENTIALS_SALT_BYTES_MIN, CREDENTIALS_SALT_BYTES_MAX,
                &length)) {
        return complain(parser, "the verifier's salt is wrong, expected %u to %u octets in base64",
                        CREDENTIALS_SALT_BYTES_MIN, CREDENTIALS_SALT_BYTES_MAX);
    }
    ret_verifier->salt_length = (uint8_t)length;
    if (!decode(split(&text, ','), ret_verifier->stored_key, SASL_DIGEST_BYTES, SASL_DIGEST_BYTES, &length) ||
        !decode(text, ret_verifier->server_key, SASL_DIGEST_BYTES, SASL_DIGEST_BYTES, &length)) {
        return complain(parser, "the verifier's keys are wrong, expected two of %u octets in base64",
                        SASL_DIGEST_BYTES);
    }
    count_shape(parser, ret_verifier);
    return true;
}

static bool add_sender(struct parser *parser, struct credentials_account *account, struct bytes value)
{
    struct credentials *into = parser->into;
    const char *at = value.length != 0 ? memrchr(value.data, '@', value.length) : NULL;
    size_t domain = at != NULL ? (size_t)(value.data + value.length - at - 1) : 0;
    bool star = bytes_equal(value, BYTES("*"));
    if (!star && (domain == 0 || bytes_equal(value, BYTES("@.")) || value.length > LIMIT_ADDRESS_BYTES)) {
        return complain(parser, "sender is \"%.*s\", expected an address, @domain, @.domain or *",
                        (int)clip(value).length, value.data);
    }
    if (account->senders_count == CREDENTIALS_SENDERS_MAX) {
        return complain(parser, "more senders than %u, expected fewer, or @domain", CREDENTIALS_SENDERS_MAX);
    }
    if (into->senders_count == into->senders_room) {
        uint32_t room = into->senders_room != 0 ? into->senders_room * 2 : 64;
        struct bytes *larger = realloc(into->senders, room * sizeof *larger);
        if (larger == NULL) {
            return complain(parser, "no memory");
        }
        into->senders = larger;
        into->senders_room = room;
    }
    into->senders[into->senders_count++] = value;
    account->senders_count++;
    return true;
}

static bool is_fingerprint(struct bytes value)
{
    bytes_advance(&value, strlen("sha256:"));
    for (size_t i = 0; i < value.length; i++) {
        char c = value.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return value.length == (size_t)2 * SASL_DIGEST_BYTES;
}

static bool add_certificate(struct parser *parser, struct credentials_account *account, struct bytes value)
{
    fold(value);
    if (value.length == 0 || (starts_with(value, BYTES("sha256:")) && !is_fingerprint(value))) {
        return complain(parser, "certificate is \"%.*s\", expected sha256: and 64 hexadecimal digits, or a name",
                        (int)clip(value).length, value.data);
    }
    const struct credentials_account *other = map_find(&parser->into->certificates, value);
    if (other != NULL) {
        return complain(parser, "certificate is that of line %u, expected one account for each", other->line);
    }
    if (account->certificates_count == CREDENTIALS_CERTIFICATES_MAX) {
        return complain(parser, "more certificates than %u, expected fewer", CREDENTIALS_CERTIFICATES_MAX);
    }
    account->certificates_count++;
    return map_insert(&parser->into->certificates, value, account) || complain(parser, "no memory");
}

static bool parse_option(struct parser *parser, struct credentials_account *account, struct bytes option)
{
    struct bytes value = option;
    struct bytes name = split(&value, '=');
    if (bytes_equal(option, BYTES("disabled"))) {
        account->disabled = true;
        return true;
    }
    if (bytes_equal(name, BYTES("sender"))) {
        fold(value);
        return add_sender(parser, account, value);
    }
    if (bytes_equal(name, BYTES("certificate"))) {
        return add_certificate(parser, account, value);
    }
    if (!bytes_equal(name, BYTES("tenant"))) {
        return complain(parser, "\"%.*s\" is not a known option, expected sender=, tenant=, certificate= or disabled",
                        (int)clip(name).length, name.data);
    }
    if (account->tenant.length != 0 || value.length == 0 || value.length > CREDENTIALS_TENANT_BYTES_MAX) {
        return complain(parser, "tenant is wrong, expected one name of 1 to %u octets", CREDENTIALS_TENANT_BYTES_MAX);
    }
    account->tenant = value;
    return true;
}

static bool parse_account(struct parser *parser, struct bytes line, struct bytes name)
{
    struct credentials *into = parser->into;
    struct credentials_account account = {.name = name, .line = parser->line, .senders_first = into->senders_count};
    if (name.length == 0 || name.length > CREDENTIALS_NAME_BYTES_MAX || memchr(name.data, ' ', name.length) != NULL) {
        return complain(parser, "the account's name is wrong, expected 1 to %u octets without space, then ':'",
                        CREDENTIALS_NAME_BYTES_MAX);
    }
    fold(name);
    const struct credentials_account *other = map_find(&into->names, name);
    if (other != NULL) {
        return complain(parser, "account \"%.*s\" is in line %u too, expected it once", (int)clip(name).length,
                        name.data, other->line);
    }
    if (into->accounts_count == CREDENTIALS_ACCOUNTS_MAX) {
        return complain(parser, "more accounts than %u, expected fewer", CREDENTIALS_ACCOUNTS_MAX);
    }
    struct credentials_account *place = &into->accounts[into->accounts_count++];
    *place = account;
    if (!map_insert(&into->names, name, place)) {
        return complain(parser, "no memory");
    }
    bool good = parse_verifier(parser, split(&line, ' '), &place->verifier);
    while (good && line.length != 0) {
        struct bytes option = split(&line, ' ');
        good = option.length == 0 || parse_option(parser, place, option);
    }
    return good;
}

static bool parse_line(struct parser *parser, struct bytes line)
{
    if (line.length > CREDENTIALS_LINE_BYTES_MAX) {
        return complain(parser, "the line has %zu octets, expected at most %u", line.length,
                        CREDENTIALS_LINE_BYTES_MAX);
    }
    if (!utf8_printable(line)) {
        return complain(parser, "the line holds an octet that is no printable UTF-8, expected none (tabs and carriage "
                                "returns neither)");
    }
    if (memchr(line.data, ':', line.length) == NULL) {
        return complain(parser, "there is no ':', expected NAME:VERIFIER");
    }
    struct bytes name = split(&line, ':');
    if (!bytes_equal(name, BYTES("!decoy"))) {
        return parse_account(parser, line, name);
    }
    size_t length = 0;
    if (parser->into->has_decoy_key ||
        !decode(line, parser->into->decoy_key, SASL_DIGEST_BYTES, SASL_DIGEST_BYTES, &length)) {
        return complain(parser, "!decoy is wrong, expected one, of %u octets in base64", SASL_DIGEST_BYTES);
    }
    parser->into->has_decoy_key = true;
    return true;
}

/* As many accounts as lines, at most. */
static size_t count_lines(struct bytes text)
{
    size_t lines = 1;
    for (size_t i = 0; i < text.length; i++) {
        lines += text.data[i] == '\n' && i + 1 < text.length && text.data[i + 1] != '\n';
    }
    return lines < CREDENTIALS_ACCOUNTS_MAX ? lines : CREDENTIALS_ACCOUNTS_MAX;
}

static struct credentials *make(struct bytes text)
{
    struct credentials *into = calloc(1, sizeof *into);
    if (into == NULL) {
        return NULL;
    }
    map_init(&into->names, CREDENTIALS_ACCOUNTS_MAX);
    map_init(&into->certificates, CREDENTIALS_ACCOUNTS_MAX);
    into->references = malloc(sizeof *into->references);
    into->text = malloc(text.length + 1);
    into->accounts = calloc(count_lines(text), sizeof *into->accounts);
    if (into->references == NULL || into->text == NULL || into->accounts == NULL) {
        credentials_free(into);
        return NULL;
    }
    atomic_init(into->references, 1);
    if (text.length != 0) {
        memcpy(into->text, text.data, text.length);
    }
    return into;
}

struct credentials *credentials_parse(struct bytes text, const char *path, credentials_report *report, void *context)
{
    struct parser parser = {.path = path, .report = report, .context = context};
    if (text.length > CREDENTIALS_FILE_BYTES_MAX) {
        complain(&parser, "the file has %zu octets, expected at most %u", text.length, CREDENTIALS_FILE_BYTES_MAX);
        return NULL;
    }
    parser.into = make(text);
    if (parser.into == NULL) {
        complain(&parser, "no memory");
        return NULL;
    }
    struct bytes rest = bytes_of(parser.into->text, text.length);
    while (rest.length != 0) {
        parser.line++;
        struct bytes line = split(&rest, '\n');
        if (line.length != 0 && line.data[0] != '#') {
            parse_line(&parser, line);
        }
    }
    choose_usual(&parser);
    if (parser.errors != 0) {
        credentials_free(parser.into);
        return NULL;
    }
    return parser.into;
}
