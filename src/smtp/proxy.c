#include "smtp/proxy.h"

#include <arpa/inet.h>

#define SIGNATURE_BYTES 12
static const char signature[SIGNATURE_BYTES + 1] = "\r\n\r\n\0\r\nQUIT\n";

#define V2_VERSION 0x20
#define V2_LOCAL 0
#define V2_PROXY 1
#define V2_FAMILY_INET 1
#define V2_FAMILY_INET6 2
#define V2_FAMILY_UNIX 3
#define V2_STREAM 1

static bool is_beginning(struct bytes input, const char *whole, size_t length)
{
    return memcmp(input.data, whole, input.length < length ? input.length : length) == 0;
}

/* --- version 1: "PROXY TCP4 192.0.2.1 198.51.100.1 56324 25" CRLF --- */

/* Takes what stands before the next space, or the rest. False when it is empty. */
static bool take_word(struct bytes *line, struct bytes *ret_word)
{
    const char *space = line->length == 0 ? NULL : memchr(line->data, ' ', line->length);
    size_t length = space == NULL ? line->length : (size_t)(space - line->data);
    *ret_word = bytes_slice(*line, 0, length);
    bytes_advance(line, space == NULL ? length : length + 1);
    return length != 0;
}

static bool parse_v1_address(struct bytes word, int family, uint8_t *ret_octets)
{
    char text[INET6_ADDRSTRLEN];
    if (word.length >= sizeof(text) || memchr(word.data, '\0', word.length) != NULL) {
        return false;
    }
    memcpy(text, word.data, word.length);
    text[word.length] = '\0';
    return inet_pton(family, text, ret_octets) == 1;
}

/* 0 to 65535, without a leading zero. */
static bool parse_v1_port(struct bytes word, uint16_t *ret_port)
{
    uint64_t port;
    if (!bytes_parse_number(word, &port) || port > 65535 || (word.length > 1 && word.data[0] == '0')) {
        return false;
    }
    *ret_port = (uint16_t)port;
    return true;
}

static enum proxy_result parse_v1_line(struct bytes line, struct proxy_header *header)
{
    struct bytes word, source, destination, source_port, destination_port;
    bool spaced = line.data[line.length - 1] != ' ';
    if (!take_word(&line, &word) || !take_word(&line, &word)) {
        return PROXY_BAD;
    }
    if (bytes_equal(word, BYTES("UNKNOWN"))) {
        return PROXY_UNKNOWN; /* the rest must be ignored */
    }
    int family = bytes_equal(word, BYTES("TCP4")) ? AF_INET : bytes_equal(word, BYTES("TCP6")) ? AF_INET6 : 0;
    if (family == 0 || !spaced || !take_word(&line, &source) || !take_word(&line, &destination) ||
        !take_word(&line, &source_port) || !take_word(&line, &destination_port) || line.length != 0 ||
        !parse_v1_address(source, family, header->source.octets) ||
        !parse_v1_address(destination, family, header->destination.octets) ||
        !parse_v1_port(source_port, &header->source.port) ||
        !parse_v1_port(destination_port, &header->destination.port)) {
        return PROXY_BAD;
    }
    header->family = family == AF_INET ? 4 : 6;
    return PROXY_DONE;
}

static enum proxy_result parse_v1(struct bytes input, struct proxy_header *header)
{
    size_t room = input.length < PROXY_V1_BYTES_MAX ? input.length : PROXY_V1_BYTES_MAX;
    const char *lf = memchr(input.data, '\n', room);
    const char *cr = memchr(input.data, '\r', room);
    if (lf == NULL) {
        bool open = input.length < PROXY_V1_BYTES_MAX && (cr == NULL || cr == input.data + input.length - 1);
        return open ? PROXY_NEED_MORE : PROXY_BAD;
    }
    if (cr != lf - 1) {
        return PROXY_BAD;
    }
    header->version = 1;
    header->length = (size_t)(lf - input.data) + 1;
    return parse_v1_line(bytes_slice(input, 0, header->length - 2), header);
}

/* --- version 2: signature, version and command, family and protocol, length, addresses, TLVs --- */

static uint16_t number_at(struct bytes input, size_t at)
{
    return (uint16_t)((uint8_t)input.data[at] << 8 | (uint8_t)input.data[at + 1]);
}

static enum proxy_result parse_v2_addresses(struct bytes input, struct proxy_header *header)
{
    uint8_t family = (uint8_t)input.data[13] >> 4, protocol = input.data[13] & 15;
    size_t octets = family == V2_FAMILY_INET ? 4 : family == V2_FAMILY_INET6 ? 16 : 0;
    size_t needed = family == V2_FAMILY_UNIX ? 216 : octets == 0 ? 0 : 2 * octets + 4;
    if (family > V2_FAMILY_UNIX || protocol > 2 || header->length - PROXY_V2_HEAD_BYTES < needed) {
        return PROXY_BAD;
    }
    if (octets == 0 || protocol != V2_STREAM) {
        return PROXY_UNKNOWN;
    }
    memcpy(header->source.octets, input.data + PROXY_V2_HEAD_BYTES, octets);
    memcpy(header->destination.octets, input.data + PROXY_V2_HEAD_BYTES + octets, octets);
    header->source.port = number_at(input, PROXY_V2_HEAD_BYTES + 2 * octets);
    header->destination.port = number_at(input, PROXY_V2_HEAD_BYTES + 2 * octets + 2);
    header->family = family == V2_FAMILY_INET ? 4 : 6;
    return PROXY_DONE;
}

static enum proxy_result parse_v2(struct bytes input, struct proxy_header *header)
{
    if (input.length > 12 && ((input.data[12] & 0xf0) != V2_VERSION || (input.data[12] & 15) > V2_PROXY)) {
        return PROXY_BAD;
    }
    if (input.length < PROXY_V2_HEAD_BYTES) {
        return PROXY_NEED_MORE;
    }
    header->version = 2;
    header->length = PROXY_V2_HEAD_BYTES + (size_t)number_at(input, 14);
    if (header->length > PROXY_BYTES_MAX) {
        return PROXY_BAD;
    }
    if (input.length < header->length) {
        return PROXY_NEED_MORE;
    }
    return (input.data[12] & 15) == V2_LOCAL ? PROXY_LOCAL : parse_v2_addresses(input, header);
}

enum proxy_result proxy_parse(struct bytes input, struct proxy_header *ret_header)
{
    struct proxy_header header = {0};
    enum proxy_result result = PROXY_BAD;
    if (input.length == 0) {
        return PROXY_NEED_MORE;
    }
    if (is_beginning(input, signature, SIGNATURE_BYTES)) {
        result = parse_v2(input, &header);
    } else if (is_beginning(input, "PROXY ", 6)) {
        result = parse_v1(input, &header);
    }
    if (result == PROXY_DONE || result == PROXY_LOCAL || result == PROXY_UNKNOWN) {
        *ret_header = header;
    }
    return result;
}
