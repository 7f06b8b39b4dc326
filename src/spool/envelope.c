#include "spool/envelope.h"

bool envelope_add(struct buffer *envelope, enum envelope_tag tag, uint8_t flags, struct bytes value)
{
    if (value.length > UINT16_MAX || buffer_room(envelope) < ENVELOPE_ITEM_BYTES + value.length) {
        return false;
    }
    const unsigned char head[ENVELOPE_ITEM_BYTES] = {(unsigned char)tag, flags, (unsigned char)(value.length & 255),
                                                     (unsigned char)(value.length >> 8)};
    return buffer_append(envelope, bytes_of(head, sizeof head)) && buffer_append(envelope, value);
}

struct envelope_iterator envelope_iterate(struct bytes envelope)
{
    return (struct envelope_iterator){.rest = envelope};
}

bool envelope_next(struct envelope_iterator *iterator, struct envelope_item *ret_item)
{
    if (iterator->rest.length == 0) {
        return false;
    }
    unsigned char head[ENVELOPE_ITEM_BYTES];
    if (iterator->rest.length < sizeof head) {
        iterator->bad = true;
        return false;
    }
    memcpy(head, iterator->rest.data, sizeof head);
    size_t length = (size_t)(head[2] | head[3] << 8);
    if (length > iterator->rest.length - sizeof head) {
        iterator->bad = true;
        return false;
    }
    *ret_item = (struct envelope_item){
        .tag = head[0], .flags = head[1], .value = bytes_slice(iterator->rest, sizeof head, length)};
    bytes_advance(&iterator->rest, sizeof head + length);
    return true;
}

bool envelope_next_recipient(struct envelope_iterator *iterator, struct envelope_item *ret_item)
{
    struct envelope_item item;
    while (envelope_next(iterator, &item)) {
        if (item.tag == ENVELOPE_RECIPIENT) {
            *ret_item = item;
            return true;
        }
    }
    return false;
}

enum err envelope_check(struct bytes envelope, uint32_t *ret_recipients)
{
    struct envelope_iterator iterator = envelope_iterate(envelope);
    struct envelope_item item;
    uint32_t senders = 0;
    uint32_t recipients = 0;
    while (envelope_next(&iterator, &item)) {
        if (item.tag == ENVELOPE_SENDER) {
            senders++;
        } else if (item.tag == ENVELOPE_RECIPIENT) {
            recipients++;
        }
        if (senders > 1 || (recipients > 0 && senders == 0)) {
            return ERR_CORRUPT;
        }
    }
    if (iterator.bad || senders == 0) {
        return ERR_CORRUPT;
    }
    *ret_recipients = recipients;
    return ERR_OK;
}

struct bytes envelope_find(struct bytes envelope, enum envelope_tag tag)
{
    struct envelope_iterator iterator = envelope_iterate(envelope);
    struct envelope_item item;
    while (envelope_next(&iterator, &item)) {
        if (item.tag == tag) {
            return item.value;
        }
    }
    return (struct bytes){0};
}

bool envelope_recipient(struct bytes envelope, uint32_t index, struct envelope_item *ret_item)
{
    struct envelope_iterator iterator = envelope_iterate(envelope);
    struct envelope_item item;
    while (envelope_next_recipient(&iterator, &item)) {
        if (index-- == 0) {
            *ret_item = item;
            return true;
        }
    }
    return false;
}
