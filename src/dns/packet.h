/* A position in a DNS message, and what can be read there (RFC 1035 4.1). Every byte is hostile: a read that would
 * leave the message gives 0 and marks the walk as bad, so that callers look once, at the end. */
#ifndef DNS_PACKET_H
#define DNS_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define PACKET_HEADER_BYTES 12
#define PACKET_NAME_BYTES 253 /* a name as text, without the final dot (RFC 1035 2.3.4 counts 255 on the wire) */
#define PACKET_CLASS_IN 1

/* Header flags (RFC 1035 4.1.1, 4035 3.2.3) */
#define PACKET_REPLY 0x8000
#define PACKET_OPCODE_MASK 0x7800
#define PACKET_AUTHORITATIVE 0x0400
#define PACKET_TRUNCATED 0x0200
#define PACKET_RECURSION_DESIRED 0x0100
#define PACKET_RECURSION_AVAILABLE 0x0080
#define PACKET_AUTHENTIC 0x0020
#define PACKET_RCODE_MASK 0x000f

/* Record types beyond enum answer_type */
#define PACKET_TYPE_SOA 6
#define PACKET_TYPE_OPT 41

struct packet_walk {
    const unsigned char *data;
    size_t length;
    size_t at;
    bool bad;
};

struct packet_name {
    size_t length; /* of the text; 0 is the root */
    bool host;     /* letters, digits, '-' and '_' only */
    char text[PACKET_NAME_BYTES + 1];
};

struct packet_record {
    struct packet_name owner;
    unsigned type;
    unsigned class;
    uint32_t ttl_s;
    size_t data; /* offset */
    size_t data_length;
};

unsigned packet_take8(struct packet_walk *walk);
unsigned packet_take16(struct packet_walk *walk);
uint32_t packet_take32(struct packet_walk *walk);
void packet_skip(struct packet_walk *walk, size_t length);

/* A name in lower case; the walk ends up behind it as it stands, wherever its pointers led. */
void packet_take_name(struct packet_walk *walk, struct packet_name *ret_name);

/* A record of the answer, authority or additional section; the walk ends up behind its data. */
void packet_take_record(struct packet_walk *walk, struct packet_record *ret_record);

/* A byte of a host name: letter, digit, '-', or '_' (which RFC 8552 names have). */
bool packet_host_byte(unsigned char byte);

#endif
