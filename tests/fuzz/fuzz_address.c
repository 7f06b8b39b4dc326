#include <stdlib.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "mail/address.h"

/* Whatever parses is within the limits, is printable ASCII, or UTF-8 if that was allowed, parses again to the same, and
 * as a path too. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct address *address)
{
    struct bytes local = address_local(address), domain = address_domain(address);
    EXPECT(local.length <= LIMIT_LOCAL_PART_BYTES && domain.length <= LIMIT_DOMAIN_BYTES);
    EXPECT(address->mailbox.length + 2 <= LIMIT_PATH_BYTES);
    bool high = false;
    for (size_t i = 0; i < address->mailbox.length; i++) {
        high |= (uint8_t)address->mailbox.data[i] > 127;
    }
    EXPECT(high == address->utf8 && utf8_printable(address->mailbox));
    enum address_kind kind;
    switch ((enum address_kind)address->kind) {
    case ADDRESS_NULL: EXPECT(address->mailbox.length == 0); return;
    case ADDRESS_POSTMASTER: EXPECT(domain.length == 0 && local.length == 10); break;
    case ADDRESS_DOMAIN: EXPECT(address->utf8 || address_is_domain(domain)); break;
    default: EXPECT(address_is_literal(domain, &kind) && kind == address->kind);
    }
    struct address again;
    EXPECT(address_parse_mailbox(address->mailbox, address->utf8, &again) == ADDRESS_OK);
    EXPECT(bytes_equal(again.mailbox, address->mailbox) && again.kind == address->kind);
    EXPECT(again.local_length == address->local_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of(data, size);
    struct address address;
    if (address_parse(text, &address) == ADDRESS_OK) {
        check(&address);
        EXPECT(address.mailbox.length == size && !address.utf8);
    }
    if (address_parse_mailbox(text, true, &address) == ADDRESS_OK) {
        check(&address);
    }
    struct bytes rest = text;
    bool utf8 = size % 2 != 0;
    if (address_parse_path(&rest, utf8, &address) == ADDRESS_OK) {
        EXPECT(utf8 || !address.utf8);
        check(&address);
        EXPECT(rest.length < size && rest.data[-1] == '>');
    } else {
        EXPECT(rest.length == size);
    }
    char space[LIMIT_PATH_BYTES];
    struct buffer out = buffer_of(space, sizeof(space));
    if (address_parse(text, &address) == ADDRESS_OK) {
        EXPECT(address_append_folded(&out, &address) && bytes_equal_nocase(buffer_bytes(&out), text));
    }
    return 0;
}
