#include <stdlib.h>

#include "base/limits.h"
#include "mail/address.h"

/* Whatever parses is within the limits, is printable ASCII, parses again to the same, and as a path too. */

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
    for (size_t i = 0; i < address->mailbox.length; i++) {
        EXPECT(address->mailbox.data[i] >= ' ' && address->mailbox.data[i] <= '~');
    }
    enum address_kind kind;
    switch ((enum address_kind)address->kind) {
    case ADDRESS_NULL: EXPECT(address->mailbox.length == 0); return;
    case ADDRESS_POSTMASTER: EXPECT(domain.length == 0 && local.length == 10); break;
    case ADDRESS_DOMAIN: EXPECT(address_is_domain(domain)); break;
    default: EXPECT(address_is_literal(domain, &kind) && kind == address->kind);
    }
    struct address again;
    EXPECT(address_parse(address->mailbox, &again) == ADDRESS_OK);
    EXPECT(bytes_equal(again.mailbox, address->mailbox) && again.kind == address->kind);
    EXPECT(again.local_length == address->local_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of(data, size);
    struct address address;
    if (address_parse(text, &address) == ADDRESS_OK) {
        check(&address);
        EXPECT(address.mailbox.length == size);
    }
    struct bytes rest = text;
    if (address_parse_path(&rest, false, &address) == ADDRESS_OK) {
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
