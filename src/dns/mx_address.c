#include "dns/mx_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/check.h"

bool mx_address_parse(struct bytes text, struct mx_address *ret_address)
{
    char terminated[MX_ADDRESS_TEXT_BYTES];
    struct mx_address address = {.family = AF_INET};
    if (text.length >= sizeof terminated || memchr(text.data, '\0', text.length) != NULL) {
        return false;
    }
    memcpy(terminated, text.data, text.length);
    terminated[text.length] = '\0';
    if (inet_pton(AF_INET, terminated, address.bytes) != 1) {
        address = (struct mx_address){.family = AF_INET6};
        if (inet_pton(AF_INET6, terminated, address.bytes) != 1) {
            return false;
        }
    }
    *ret_address = address;
    return true;
}

bool mx_address_parse_literal(struct bytes text, struct mx_address *ret_address)
{
    if (text.length < 2 || text.data[0] != '[' || text.data[text.length - 1] != ']') {
        return false;
    }
    struct bytes inner = bytes_slice(text, 1, text.length - 2);
    const struct bytes tag = BYTES("IPv6:");
    bool tagged = inner.length > tag.length && bytes_equal_nocase(bytes_slice(inner, 0, tag.length), tag);
    if (tagged) {
        bytes_advance(&inner, tag.length);
    }
    struct mx_address address;
    if (!mx_address_parse(inner, &address) || (tagged && address.family != AF_INET6)) {
        return false;
    }
    *ret_address = address;
    return true;
}

const char *mx_address_text(const struct mx_address *address, char out[MX_ADDRESS_TEXT_BYTES])
{
    CHECK(inet_ntop(address->family, address->bytes, out, MX_ADDRESS_TEXT_BYTES) != NULL);
    return out;
}

socklen_t mx_address_socket(const struct mx_address *address, uint16_t port, struct sockaddr_storage *ret_socket)
{
    memset(ret_socket, 0, sizeof *ret_socket);
    if (address->family == AF_INET6) {
        struct sockaddr_in6 *socket = (struct sockaddr_in6 *)ret_socket;
        socket->sin6_family = AF_INET6;
        socket->sin6_port = htons(port);
        memcpy(&socket->sin6_addr, address->bytes, 16);
        return sizeof *socket;
    }
    CHECK(address->family == AF_INET);
    struct sockaddr_in *socket = (struct sockaddr_in *)ret_socket;
    socket->sin_family = AF_INET;
    socket->sin_port = htons(port);
    memcpy(&socket->sin_addr, address->bytes, 4);
    return sizeof *socket;
}

/* An IPv6-mapped IPv4 address as what it is. */
static struct mx_address plain(const struct mx_address *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct mx_address result = *address;
    if (address->family == AF_INET6 && memcmp(address->bytes, mapped, sizeof mapped) == 0) {
        result = (struct mx_address){.family = AF_INET};
        memcpy(result.bytes, address->bytes + sizeof mapped, 4);
    }
    return result;
}

bool mx_address_equal(const struct mx_address *a, const struct mx_address *b)
{
    struct mx_address left = plain(a);
    struct mx_address right = plain(b);
    return left.family == right.family && memcmp(left.bytes, right.bytes, sizeof left.bytes) == 0;
}

bool mx_address_loopback(const struct mx_address *address)
{
    static const uint8_t zero[16];
    struct mx_address it = plain(address);
    if (it.family == AF_INET) {
        return it.bytes[0] == 127 || memcmp(it.bytes, zero, 4) == 0;
    }
    return memcmp(it.bytes, zero, 15) == 0 && it.bytes[15] <= 1;
}
