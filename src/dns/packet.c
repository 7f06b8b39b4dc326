/* Names are where a reply attacks: a compression pointer must point before the start of the piece of name that holds
 * it, so that every name ends; and only POINTERS_MAX are followed, because a message of 64 kB could chain thirty
 * thousand of them for every record. */
#include "dns/packet.h"

#define POINTERS_MAX 64

unsigned packet_take8(struct packet_walk *walk)
{
    if (walk->bad || walk->at >= walk->length) {
        walk->bad = true;
        return 0;
    }
    return walk->data[walk->at++];
}

unsigned packet_take16(struct packet_walk *walk)
{
    unsigned high = packet_take8(walk);
    return high << 8 | packet_take8(walk);
}

uint32_t packet_take32(struct packet_walk *walk)
{
    uint32_t high = packet_take16(walk);
    return high << 16 | packet_take16(walk);
}

void packet_skip(struct packet_walk *walk, size_t length)
{
    if (walk->bad || length > walk->length - walk->at) {
        walk->bad = true;
        return;
    }
    walk->at += length;
}

bool packet_host_byte(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '-' || byte == '_';
}

/* Appends a label of `length` bytes at the walk's position. */
static void take_label(struct packet_walk *walk, size_t length, struct packet_name *name)
{
    size_t dot = name->length != 0;
    if (length > walk->length - walk->at || name->length + dot + length > PACKET_NAME_BYTES) {
        walk->bad = true;
        return;
    }
    if (dot) {
        name->text[name->length++] = '.';
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = walk->data[walk->at++];
        name->host = name->host && packet_host_byte(byte);
        name->text[name->length++] = bytes_ascii_lower((char)byte);
    }
}

/* RFC 1035 4.1.4. Leaves the walk behind the name as it stands in the record. */
void packet_take_name(struct packet_walk *walk, struct packet_name *name)
{
    size_t behind = 0; /* where the record goes on, once a pointer was followed */
    size_t piece = walk->at;
    name->length = 0;
    name->host = true;
    for (unsigned pointers = 0; !walk->bad;) {
        unsigned head = packet_take8(walk);
        if (head == 0) {
            break;
        }
        if (head < 64) {
            take_label(walk, head, name);
            continue;
        }
        size_t target = (head & 0x3f) << 8 | packet_take8(walk);
        if (head < 0xc0 || target >= piece || ++pointers > POINTERS_MAX) {
            walk->bad = true;
            break;
        }
        behind = behind != 0 ? behind : walk->at;
        walk->at = piece = target;
    }
    if (behind != 0) {
        walk->at = behind;
    }
}

void packet_take_record(struct packet_walk *walk, struct packet_record *record)
{
    packet_take_name(walk, &record->owner);
    record->type = packet_take16(walk);
    record->class = packet_take16(walk);
    record->ttl_s = packet_take32(walk);
    record->data_length = packet_take16(walk);
    record->data = walk->at;
    packet_skip(walk, record->data_length);
}
