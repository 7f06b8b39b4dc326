#include "mail/address.h"

#include <arpa/inet.h>

#include "base/limits.h"
#include "base/utf8.h"

/* The grammar below is RFC 5321 4.1.2, one function per production. Each take_ function reads its production at the
 * start of [p, end) and returns where it stops, or NULL. What comes next is the caller's business: "a@b_c" stops at
 * '_', where the caller wanted '>' or the end. */

#define ATEXT 1u
#define LET_DIG 2u
#define LDH 4u
#define DCONTENT 8u
#define HIGH 16u /* RFC 6531 3.3: UTF8-non-ascii stands wherever atext, qtext or a letter may; or nowhere (0) */

#define ALNUM (ATEXT | LET_DIG | LDH | DCONTENT)
static const uint8_t classes[256] = {
    ['!'] = ATEXT | DCONTENT,
    ['"'] = DCONTENT,
    ['#'] = ATEXT | DCONTENT,
    ['$'] = ATEXT | DCONTENT,
    ['%'] = ATEXT | DCONTENT,
    ['&'] = ATEXT | DCONTENT,
    ['\''] = ATEXT | DCONTENT,
    ['('] = DCONTENT,
    [')'] = DCONTENT,
    ['*'] = ATEXT | DCONTENT,
    ['+'] = ATEXT | DCONTENT,
    [','] = DCONTENT,
    ['-'] = ATEXT | LDH | DCONTENT,
    ['.'] = DCONTENT,
    ['/'] = ATEXT | DCONTENT,
    ['0' ... '9'] = ALNUM,
    [':'] = DCONTENT,
    [';'] = DCONTENT,
    ['<'] = DCONTENT,
    ['='] = ATEXT | DCONTENT,
    ['>'] = DCONTENT,
    ['?'] = ATEXT | DCONTENT,
    ['@'] = DCONTENT,
    ['A' ... 'Z'] = ALNUM,
    ['^'] = ATEXT | DCONTENT,
    ['_'] = ATEXT | DCONTENT,
    ['`'] = ATEXT | DCONTENT,
    ['a' ... 'z'] = ALNUM,
    ['{'] = ATEXT | DCONTENT,
    ['|'] = ATEXT | DCONTENT,
    ['}'] = ATEXT | DCONTENT,
    ['~'] = ATEXT | DCONTENT,
    [128 ... 255] = HIGH,
};

static bool is(char c, unsigned class)
{
    return (classes[(uint8_t)c] & class) != 0;
}

static const char *skip(const char *p, const char *end, unsigned class)
{
    while (p < end && is(*p, class)) {
        p++;
    }
    return p;
}

static bool at(const char *p, const char *end, char c)
{
    return p < end && *p == c;
}

static const char *take_dot_string(const char *p, const char *end, unsigned high)
{
    for (;;) {
        const char *after = skip(p, end, ATEXT | high);
        if (after == p) {
            return NULL;
        }
        if (!at(after, end, '.')) {
            return after;
        }
        p = after + 1;
    }
}

static const char *take_quoted_string(const char *p, const char *end, unsigned high)
{
    for (p++; p < end; p++) {
        if (*p == '"') {
            return p + 1;
        }
        bool quoted = *p == '\\';
        p += quoted;
        if (p >= end || !((*p >= ' ' && *p <= '~') || (!quoted && is(*p, high)))) {
            return NULL;
        }
    }
    return NULL;
}

static bool has_high(struct bytes text)
{
    for (size_t i = 0; i < text.length; i++) {
        if ((uint8_t)text.data[i] > 127) {
            return true;
        }
    }
    return false;
}

/* A label has 63 octets at most; a U-label is as long as its A-label, which is not known here. */
static bool is_long_label(const char *p, const char *end)
{
    return end - p > 63 && !has_high(bytes_of(p, (size_t)(end - p)));
}

static const char *take_domain(const char *p, const char *end, unsigned high)
{
    for (;;) {
        const char *after = skip(p, end, LDH | high);
        if (after == p || is_long_label(p, after) || *p == '-' || after[-1] == '-') {
            return NULL;
        }
        if (!at(after, end, '.')) {
            return after;
        }
        p = after + 1;
    }
}

/* text is dcontent: printable. inet_pton is a little stricter than the grammar: no leading zeros, which some software
 * would read as octal. */
static bool is_ip(int family, struct bytes text)
{
    char copy[INET6_ADDRSTRLEN];
    uint8_t address[16];
    if (text.length >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    return inet_pton(family, copy, address) == 1;
}

static bool parse_literal_content(struct bytes content, enum address_kind *ret_kind)
{
    if (is_ip(AF_INET, content)) {
        *ret_kind = ADDRESS_IPV4;
        return true;
    }
    const char *colon = memchr(content.data, ':', content.length);
    if (colon == NULL) {
        return false;
    }
    size_t tag = (size_t)(colon - content.data);
    struct bytes value = bytes_slice(content, tag + 1, content.length - tag - 1);
    if (bytes_equal_nocase(bytes_slice(content, 0, tag), BYTES("IPv6"))) {
        *ret_kind = ADDRESS_IPV6;
        return is_ip(AF_INET6, value);
    }
    *ret_kind = ADDRESS_TAGGED;
    return tag != 0 && skip(content.data, colon, LDH) == colon && colon[-1] != '-' && value.length != 0;
}

static const char *take_literal(const char *p, const char *end, enum address_kind *ret_kind)
{
    const char *content = p + 1;
    const char *after = skip(content, end, DCONTENT);
    if (after == content || !at(after, end, ']') ||
        !parse_literal_content(bytes_of(content, (size_t)(after - content)), ret_kind)) {
        return NULL;
    }
    return after + 1;
}

static const char *take_mailbox(const char *p, const char *end, unsigned high, struct address *ret_address)
{
    const char *start = p;
    const char *local_end = at(p, end, '"') ? take_quoted_string(p, end, high) : take_dot_string(p, end, high);
    if (local_end == NULL) {
        return NULL;
    }
    enum address_kind kind = ADDRESS_DOMAIN;
    if (!at(local_end, end, '@')) {
        if (!bytes_equal_nocase(bytes_of(start, (size_t)(local_end - start)), BYTES("postmaster"))) {
            return NULL;
        }
        kind = ADDRESS_POSTMASTER;
        p = local_end;
    } else {
        p = local_end + 1;
        p = at(p, end, '[') ? take_literal(p, end, &kind) : take_domain(p, end, high);
        if (p == NULL) {
            return NULL;
        }
    }
    size_t local_length = (size_t)(local_end - start);
    ret_address->mailbox = bytes_of(start, (size_t)(p - start));
    ret_address->local_length = (uint16_t)(local_length > UINT16_MAX ? UINT16_MAX : local_length);
    ret_address->kind = (uint8_t)kind;
    ret_address->utf8 = has_high(ret_address->mailbox);
    return p;
}

/* A-d-l ":" -- what a source route looked like. Read over and forgotten (RFC 5321 3.3, appendix C). */
static const char *take_source_route(const char *p, const char *end)
{
    for (;;) {
        if (!at(p, end, '@')) {
            return NULL;
        }
        p = take_domain(p + 1, end, 0);
        if (p == NULL) {
            return NULL;
        }
        if (at(p, end, ':')) {
            return p + 1;
        }
        if (!at(p, end, ',')) {
            return NULL;
        }
        p++;
    }
}

/* The dots of other scripts, which IDNA's mappings turn into a full stop: with one of them a name would have other
 * labels for who routes the mail than for who allowed it. */
static bool has_foreign_dot(struct bytes domain)
{
    while (domain.length != 0) {
        uint32_t code;
        size_t length = utf8_take(domain, &code);
        if (code == 0x3002 || code == 0xff0e || code == 0xff61) {
            return true;
        }
        bytes_advance(&domain, length);
    }
    return false;
}

static enum address_error check(const struct address *address)
{
    if (address->utf8 && (!utf8_printable(address->mailbox) || has_foreign_dot(address_domain(address)))) {
        return ADDRESS_SYNTAX;
    }
    if (address->local_length > LIMIT_LOCAL_PART_BYTES || address_domain(address).length > LIMIT_DOMAIN_BYTES ||
        address->mailbox.length + 2 > LIMIT_PATH_BYTES) {
        return ADDRESS_TOO_LONG;
    }
    return ADDRESS_OK;
}

/* Why text is not an address. Control octets come first: with them it is wrong under every extension. */
static enum address_error diagnose(struct bytes text, bool utf8)
{
    bool high = false;
    for (size_t i = 0; i < text.length; i++) {
        uint8_t octet = (uint8_t)text.data[i];
        if (octet < ' ' || octet == 0x7f) {
            return ADDRESS_SYNTAX;
        }
        high |= octet > 0x7f;
    }
    return high && !utf8 ? ADDRESS_EIGHT_BIT : ADDRESS_SYNTAX;
}

enum address_error address_parse_mailbox(struct bytes mailbox, bool utf8, struct address *ret_address)
{
    const char *end = mailbox.data + mailbox.length;
    struct address address;
    if (mailbox.length == 0 || take_mailbox(mailbox.data, end, utf8 ? HIGH : 0, &address) != end) {
        return diagnose(mailbox, utf8);
    }
    enum address_error error = check(&address);
    if (error == ADDRESS_OK) {
        *ret_address = address;
    }
    return error;
}

enum address_error address_parse(struct bytes mailbox, struct address *ret_address)
{
    return address_parse_mailbox(mailbox, false, ret_address);
}

enum address_error address_parse_path(struct bytes *text, bool utf8, struct address *ret_address)
{
    const char *p = text->data;
    const char *end = p + text->length;
    struct address address = {.mailbox = bytes_of(p, 0), .kind = ADDRESS_NULL};
    if (!at(p, end, '<')) {
        return diagnose(*text, utf8);
    }
    p++;
    if (!at(p, end, '>')) {
        if (at(p, end, '@')) {
            p = take_source_route(p, end);
        }
        p = p == NULL ? NULL : take_mailbox(p, end, utf8 ? HIGH : 0, &address);
        if (p == NULL || !at(p, end, '>')) {
            return diagnose(*text, utf8);
        }
        enum address_error error = check(&address);
        if (error != ADDRESS_OK) {
            return error;
        }
    }
    bytes_advance(text, (size_t)(p + 1 - text->data));
    *ret_address = address;
    return ADDRESS_OK;
}

bool address_is_domain(struct bytes text)
{
    return text.length != 0 && text.length <= LIMIT_DOMAIN_BYTES &&
           take_domain(text.data, text.data + text.length, 0) == text.data + text.length;
}

bool address_is_literal(struct bytes text, enum address_kind *ret_kind)
{
    enum address_kind kind;
    if (text.length > LIMIT_DOMAIN_BYTES || text.length == 0 || text.data[0] != '[' ||
        take_literal(text.data, text.data + text.length, &kind) != text.data + text.length) {
        return false;
    }
    *ret_kind = kind;
    return true;
}

bool address_append_folded(struct buffer *out, const struct address *address)
{
    size_t start = out->length;
    if (!buffer_append(out, address->mailbox)) {
        return false;
    }
    for (size_t i = start + address->local_length; i < out->length; i++) {
        out->data[i] = bytes_ascii_lower(out->data[i]);
    }
    return true;
}
