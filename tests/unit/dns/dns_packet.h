/* DNS messages put together by hand, for tests: right ones, and wrong ones on purpose. */
#ifndef TESTS_UNIT_DNS_PACKET_H
#define TESTS_UNIT_DNS_PACKET_H

#include <stdint.h>
#include <string.h>

#include "base/check.h"

#define DNS_PACKET_REPLY 0x8180 /* a reply of a resolver: QR RD RA */

enum { DNS_PACKET_ANSWER = 6, DNS_PACKET_AUTHORITY = 8, DNS_PACKET_ADDITIONAL = 10 };

struct dns_packet {
    size_t length;
    size_t data_length_at; /* of the record being written */
    uint8_t data[65536];
};

static inline void dns_packet_put(struct dns_packet *packet, const void *data, size_t length)
{
    CHECK(length <= sizeof packet->data - packet->length);
    memcpy(packet->data + packet->length, data, length);
    packet->length += length;
}

static inline void dns_packet_set16(struct dns_packet *packet, size_t at, unsigned value)
{
    packet->data[at] = (uint8_t)(value >> 8);
    packet->data[at + 1] = (uint8_t)value;
}

static inline unsigned dns_packet_get16(const struct dns_packet *packet, size_t at)
{
    return (unsigned)packet->data[at] << 8 | packet->data[at + 1];
}

static inline void dns_packet_put16(struct dns_packet *packet, unsigned value)
{
    CHECK(packet->length + 2 <= sizeof packet->data);
    dns_packet_set16(packet, packet->length, value);
    packet->length += 2;
}

static inline void dns_packet_put32(struct dns_packet *packet, uint32_t value)
{
    dns_packet_put16(packet, value >> 16);
    dns_packet_put16(packet, value & 0xffff);
}

/* "" is the root. */
static inline void dns_packet_put_name(struct dns_packet *packet, const char *name)
{
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        uint8_t head = (uint8_t)label;
        dns_packet_put(packet, &head, 1);
        dns_packet_put(packet, name, label);
        name += label + (name[label] == '.');
    }
    dns_packet_put(packet, "", 1);
}

/* Header and question; id 0x1234. */
static inline void dns_packet_begin(struct dns_packet *packet, unsigned flags, const char *name, unsigned type)
{
    packet->length = 0;
    dns_packet_put16(packet, 0x1234);
    dns_packet_put16(packet, flags);
    dns_packet_put16(packet, 1);
    dns_packet_put32(packet, 0);
    dns_packet_put16(packet, 0);
    dns_packet_put_name(packet, name);
    dns_packet_put16(packet, type);
    dns_packet_put16(packet, 1);
}

/* Opens a record of a section; what is put after it, up to dns_packet_end, is its data. */
static inline void dns_packet_record(struct dns_packet *packet, size_t section, const char *owner, unsigned type,
                                     uint32_t ttl_s)
{
    dns_packet_set16(packet, section, dns_packet_get16(packet, section) + 1);
    dns_packet_put_name(packet, owner);
    dns_packet_put16(packet, type);
    dns_packet_put16(packet, 1);
    dns_packet_put32(packet, ttl_s);
    packet->data_length_at = packet->length;
    dns_packet_put16(packet, 0);
}

static inline void dns_packet_end(struct dns_packet *packet)
{
    dns_packet_set16(packet, packet->data_length_at, (unsigned)(packet->length - packet->data_length_at - 2));
}

static inline void dns_packet_mx(struct dns_packet *packet, const char *owner, uint32_t ttl_s, unsigned preference,
                                 const char *host)
{
    dns_packet_record(packet, DNS_PACKET_ANSWER, owner, 15, ttl_s);
    dns_packet_put16(packet, preference);
    dns_packet_put_name(packet, host);
    dns_packet_end(packet);
}

static inline void dns_packet_cname(struct dns_packet *packet, const char *owner, uint32_t ttl_s, const char *target)
{
    dns_packet_record(packet, DNS_PACKET_ANSWER, owner, 5, ttl_s);
    dns_packet_put_name(packet, target);
    dns_packet_end(packet);
}

static inline void dns_packet_a(struct dns_packet *packet, const char *owner, uint32_t ttl_s, uint32_t address)
{
    dns_packet_record(packet, DNS_PACKET_ANSWER, owner, 1, ttl_s);
    dns_packet_put32(packet, address);
    dns_packet_end(packet);
}

static inline void dns_packet_soa(struct dns_packet *packet, const char *owner, uint32_t ttl_s, uint32_t minimum_s)
{
    dns_packet_record(packet, DNS_PACKET_AUTHORITY, owner, 6, ttl_s);
    dns_packet_put_name(packet, "ns.example");
    dns_packet_put_name(packet, "hostmaster.example");
    for (unsigned i = 0; i < 4; i++) {
        dns_packet_put32(packet, 1000 + i);
    }
    dns_packet_put32(packet, minimum_s);
    dns_packet_end(packet);
}

#endif
