/* Mail addresses as RFC 5321 4.1.2 and 4.1.3 write them, and with RFC 6531 3.3 on request. Parsing copies nothing:
 * results point into the caller's text. Nothing is ever expanded or evaluated; a local part is opaque and keeps its
 * case. */
#ifndef MAIL_ADDRESS_H
#define MAIL_ADDRESS_H

#include "base/bytes.h"

enum address_error {
    ADDRESS_OK = 0,
    ADDRESS_SYNTAX,    /* not RFC 5321; control octets included */
    ADDRESS_TOO_LONG,  /* local part > 64, domain > 255 or path > 256 octets */
    ADDRESS_EIGHT_BIT, /* octets above 127 where UTF-8 was not asked for: needs SMTPUTF8 */
};

enum address_kind {
    ADDRESS_NULL,       /* "<>" */
    ADDRESS_POSTMASTER, /* "<Postmaster>": the one mailbox that needs no domain (4.1.1.3) */
    ADDRESS_DOMAIN,
    ADDRESS_IPV4,  /* local@[192.0.2.1] */
    ADDRESS_IPV6,  /* local@[IPv6:2001:db8::1] */
    ADDRESS_TAGGED /* local@[tag:content], a General-address-literal */
};

/* One mailbox, without angle brackets and without source route. */
struct address {
    struct bytes mailbox;  /* "local@domain", as given; empty for ADDRESS_NULL */
    uint16_t local_length; /* octets of the local part, with its quotes */
    uint8_t kind;          /* enum address_kind */
    bool utf8;             /* has characters beyond ASCII: well-formed UTF-8, none of them a control */
};

/* The local part as given, quotes included. */
static inline struct bytes address_local(const struct address *address)
{
    return bytes_slice(address->mailbox, 0, address->local_length);
}

/* What follows the '@', brackets of a literal included; empty for ADDRESS_NULL and ADDRESS_POSTMASTER. */
static inline struct bytes address_domain(const struct address *address)
{
    if (address->mailbox.length <= address->local_length) {
        return (struct bytes){0};
    }
    size_t start = (size_t)address->local_length + 1;
    return bytes_slice(address->mailbox, start, address->mailbox.length - start);
}

/* Parses a whole mailbox: local@domain, local@[literal] or Postmaster. With `utf8` as RFC 6531 writes it: characters
 * beyond ASCII in the local part, and in the domain's labels (U-labels; whether IDNA knows them is not looked at). */
enum address_error address_parse_mailbox(struct bytes mailbox, bool utf8, struct address *ret_address);

/* The same in ASCII. */
enum address_error address_parse(struct bytes mailbox, struct address *ret_address);

/* Parses a path ("<...>", source route parsed and ignored, or "<>") at the start of *text and advances *text behind its
 * '>'. *text is unchanged on failure. */
enum address_error address_parse_path(struct bytes *text, bool utf8, struct address *ret_address);

/* Domain of RFC 5321 (letters, digits, hyphens; labels <= 63, total <= 255). No trailing dot, no underscore. */
bool address_is_domain(struct bytes text);

/* address-literal, brackets included. False, or true and its kind. */
bool address_is_literal(struct bytes text, enum address_kind *ret_kind);

/* Appends the mailbox with its domain in lower case: the form in which addresses are compared, routed and stored. */
bool address_append_folded(struct buffer *out, const struct address *address);

#endif
