#include "dns/question.h"

#include <assert.h>

#include "base/check.h"
#include "dns/packet.h"

#define OPT_BYTES 11

static struct bytes without_final_dot(struct bytes name)
{
    if (name.length > 0 && name.data[name.length - 1] == '.') {
        name.length--;
    }
    return name;
}

bool question_name_valid(struct bytes name)
{
    name = without_final_dot(name);
    if (name.length == 0 || name.length > PACKET_NAME_BYTES) {
        return false;
    }
    size_t label = 0;
    for (size_t i = 0; i < name.length; i++) {
        if (name.data[i] == '.') {
            if (label == 0) {
                return false;
            }
            label = 0;
        } else if (!packet_host_byte((unsigned char)name.data[i]) || ++label > 63) {
            return false;
        }
    }
    return label != 0;
}

static size_t put16(unsigned char *out, size_t at, unsigned value)
{
    out[at] = (unsigned char)(value >> 8);
    out[at + 1] = (unsigned char)value;
    return at + 2;
}

static size_t put_name(unsigned char *out, size_t at, struct bytes name)
{
    size_t label = at++; /* where the length of the label goes */
    for (size_t i = 0; i < name.length; i++) {
        if (name.data[i] == '.') {
            out[label] = (unsigned char)(at - label - 1);
            label = at++;
        } else {
            out[at++] = (unsigned char)name.data[i];
        }
    }
    out[label] = (unsigned char)(at - label - 1);
    out[at++] = 0;
    return at;
}

size_t question_write(struct bytes name, enum answer_type type, uint16_t id, unsigned char out[QUESTION_BYTES])
{
    static_assert(PACKET_HEADER_BYTES + PACKET_NAME_BYTES + 2 + 4 + OPT_BYTES <= QUESTION_BYTES,
                  "the longest question fits");
    CHECK(question_name_valid(name));
    size_t at = put16(out, 0, id);
    at = put16(out, at, PACKET_RECURSION_DESIRED | PACKET_AUTHENTIC);
    at = put16(out, at, 1); /* questions */
    at = put16(out, at, 0);
    at = put16(out, at, 0);
    at = put16(out, at, 1); /* OPT */
    at = put_name(out, at, without_final_dot(name));
    at = put16(out, at, type);
    at = put16(out, at, PACKET_CLASS_IN);
    out[at++] = 0; /* OPT belongs to the root */
    at = put16(out, at, PACKET_TYPE_OPT);
    at = put16(out, at, QUESTION_UDP_BYTES);
    at = put16(out, at, 0); /* extended rcode, version */
    at = put16(out, at, 0); /* flags */
    return put16(out, at, 0);
}
