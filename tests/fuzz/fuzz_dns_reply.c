/* Hostile DNS replies. Byte 0 chooses the type that was asked for; with its highest bit the rest goes behind a
 * well-formed question (flags and counts first), else it is the whole packet. Whatever comes, the answer keeps its
 * promises. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "dns/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum answer_type types[] = {ANSWER_A, ANSWER_CNAME, ANSWER_MX, ANSWER_TXT, ANSWER_AAAA, ANSWER_TLSA};

static bool inside(const struct answer_store *store, struct bytes span)
{
    const char *begin = (const char *)store;
    return span.length == 0 || (span.data >= begin && span.data + span.length <= begin + sizeof *store);
}

static bool is_host(struct bytes name)
{
    for (size_t i = 0; i < name.length; i++) {
        if (name.data[i] != '.' && !packet_host_byte((unsigned char)name.data[i])) {
            return false;
        }
    }
    return name.length <= ANSWER_NAME_BYTES;
}

static void check_record(const struct answer_store *store, enum answer_type type, const struct answer_record *record)
{
    CHECK(inside(store, record->data));
    switch (type) {
    case ANSWER_A: CHECK(record->data.length == 4); break;
    case ANSWER_AAAA: CHECK(record->data.length == 16); break;
    case ANSWER_MX:
    case ANSWER_CNAME: CHECK(is_host(record->data)); break;
    case ANSWER_TLSA: CHECK(record->data.length >= 3); break;
    case ANSWER_TXT: break;
    }
}

static void check(const struct answer_store *store, enum answer_type type, const struct answer *answer)
{
    CHECK((answer->status == ANSWER_RECORDS) == (answer->count != 0));
    CHECK((answer->status == ANSWER_TEMPORARY) == (answer->cause != NULL));
    CHECK(answer->status != ANSWER_ALIAS || answer->aliases != 0);
    CHECK(answer->count <= ANSWER_RECORDS_MAX && answer->aliases <= ANSWER_ALIASES_MAX);
    CHECK(answer->ttl_s <= INT32_MAX);
    CHECK(inside(store, answer->canonical) && is_host(answer->canonical));
    for (unsigned i = 0; i < answer->count; i++) {
        check_record(store, type, &answer->records[i]);
    }
}

/* id, flags, one question, three counts; the question: a.example, type, IN. */
static size_t put_question(uint8_t *packet, enum answer_type type, const uint8_t *data)
{
    memcpy(packet, "\0\0", 2);
    memcpy(packet + 2, data, 2);
    packet[2] |= 0x80;
    memcpy(packet + 4, "\0\1", 2);
    memcpy(packet + 6, data + 2, 6);
    memcpy(packet + 12, "\1a\7example\0\0\0\0\1", 15);
    packet[24] = (uint8_t)type;
    return 27;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct answer_store store;
    struct answer answer;
    if (size < 9) {
        return 0;
    }
    enum answer_type type = types[(data[0] & 0x7f) % (sizeof types / sizeof types[0])];
    bool question = (data[0] & 0x80) != 0;
    size_t length = question ? 27 + (size - 9) : size - 1;
    uint8_t *packet = malloc(length); /* exactly: a byte too many is seen */
    CHECK(packet != NULL);
    if (question) {
        memcpy(packet + put_question(packet, type, data + 1), data + 9, size - 9);
    } else {
        memcpy(packet, data + 1, size - 1);
    }
    answer_read(packet, length, BYTES("a.example"), type, &store, &answer);
    free(packet);
    check(&store, type, &answer);
    struct answer *copy = answer_copy(&answer);
    CHECK(copy != NULL && copy->count == answer.count && bytes_equal(copy->canonical, answer.canonical));
    free(copy);
    return 0;
}
