#include "smtp/xclient.h"

#include <arpa/inet.h>

#include "smtp/xtext.h"

#define BOTH 3u
#define ONLY_XCLIENT 1u
#define ONLY_XFORWARD 2u

static const struct {
    struct bytes name;
    unsigned commands;
} names[XCLIENT_NAME_COUNT] = {
    [XCLIENT_NAME] = {BYTES("NAME"), BOTH},
    [XCLIENT_ADDR] = {BYTES("ADDR"), BOTH},
    [XCLIENT_PORT] = {BYTES("PORT"), BOTH},
    [XCLIENT_PROTO] = {BYTES("PROTO"), BOTH},
    [XCLIENT_HELO] = {BYTES("HELO"), BOTH},
    [XCLIENT_LOGIN] = {BYTES("LOGIN"), ONLY_XCLIENT},
    [XCLIENT_DESTADDR] = {BYTES("DESTADDR"), ONLY_XCLIENT},
    [XCLIENT_DESTPORT] = {BYTES("DESTPORT"), ONLY_XCLIENT},
    [XCLIENT_IDENT] = {BYTES("IDENT"), ONLY_XFORWARD},
    [XCLIENT_SOURCE] = {BYTES("SOURCE"), ONLY_XFORWARD},
};

int xclient_address(struct bytes raw, uint8_t ret_address[16])
{
    struct bytes tag = BYTES("IPV6:");
    char text[INET6_ADDRSTRLEN];
    int family = AF_INET;
    if (raw.length > tag.length && bytes_equal_nocase(bytes_slice(raw, 0, tag.length), tag)) {
        bytes_advance(&raw, tag.length);
        family = AF_INET6;
    }
    if (raw.length >= sizeof(text) || raw.length == 0) {
        return 0;
    }
    memcpy(text, raw.data, raw.length);
    text[raw.length] = '\0';
    if (strlen(text) != raw.length || inet_pton(family, text, ret_address) != 1) {
        return 0;
    }
    return family;
}

static bool is_port(struct bytes raw)
{
    uint64_t port;
    return raw.length <= 5 && bytes_parse_number(raw, &port) && port <= 65535;
}

static bool is_value(const struct xclient_attribute *attribute)
{
    struct bytes raw = attribute->raw;
    uint8_t address[16];
    char decoded[XCLIENT_VALUE_BYTES_MAX];
    struct buffer out = buffer_of(decoded, sizeof(decoded));
    if (attribute->unavailable) {
        return true;
    }
    switch ((enum xclient_name)attribute->name) {
    case XCLIENT_ADDR:
    case XCLIENT_DESTADDR: return xclient_address(raw, address) != 0;
    case XCLIENT_PORT:
    case XCLIENT_DESTPORT: return is_port(raw);
    case XCLIENT_PROTO:
        return bytes_equal_nocase(raw, BYTES("SMTP")) || bytes_equal_nocase(raw, BYTES("ESMTP")) ||
               bytes_equal_nocase(raw, BYTES("LMTP"));
    case XCLIENT_SOURCE: return bytes_equal_nocase(raw, BYTES("LOCAL")) || bytes_equal_nocase(raw, BYTES("REMOTE"));
    default: return xtext_printable(raw, false) && xtext_decode(&out, raw);
    }
}

/* Takes one "name=value". False at the end or, with *rest not empty, when that is not what it begins with. */
static bool take(struct bytes *rest, struct xclient_attribute *ret_attribute)
{
    while (rest->length != 0 && rest->data[0] == ' ') {
        bytes_advance(rest, 1);
    }
    const char *space = rest->length == 0 ? NULL : memchr(rest->data, ' ', rest->length);
    struct bytes word = bytes_slice(*rest, 0, space == NULL ? rest->length : (size_t)(space - rest->data));
    const char *equals = word.length == 0 ? NULL : memchr(word.data, '=', word.length);
    if (equals == NULL) {
        return false;
    }
    size_t length = (size_t)(equals - word.data);
    struct bytes value = bytes_slice(word, length + 1, word.length - length - 1);
    for (unsigned i = 0; i < XCLIENT_NAME_COUNT; i++) {
        if (!bytes_equal_nocase(bytes_slice(word, 0, length), names[i].name)) {
            continue;
        }
        bool unavailable = bytes_equal_nocase(value, BYTES("[UNAVAILABLE]")) ||
                           bytes_equal_nocase(value, BYTES("[TEMPUNAVAIL]"));
        *ret_attribute = (struct xclient_attribute){
            .name = (uint8_t)i, .unavailable = unavailable, .raw = unavailable ? bytes_slice(value, 0, 0) : value};
        bytes_advance(rest, word.length);
        return true;
    }
    return false;
}

bool xclient_valid(struct bytes argument, bool forward)
{
    unsigned seen = 0;
    struct xclient_attribute attribute;
    while (take(&argument, &attribute)) {
        unsigned bit = 1u << attribute.name;
        if ((names[attribute.name].commands & (forward ? ONLY_XFORWARD : ONLY_XCLIENT)) == 0 || (seen & bit) != 0 ||
            !is_value(&attribute)) {
            return false;
        }
        seen |= bit;
    }
    return argument.length == 0 && seen != 0;
}

bool xclient_next(struct bytes *rest, struct xclient_attribute *ret_attribute)
{
    bool found = take(rest, ret_attribute);
    CHECK(found || rest->length == 0);
    return found;
}
