/* The walk over a DNS reply.
 *
 * c-ares could parse replies, but 1.18 knows no TLSA, hides the AD bit and the TTL of some types, and stops at a CNAME
 * in its own ways. What mail routing needs is small: the records of one type that a name, or the end of its CNAME
 * chain, owns, and how long that holds. So the reply is walked here, by rules that keep a hostile one cheap:
 *
 *   - a compression pointer must point before the start of the piece of name that holds it, so that names end; and only
 *     so many are followed, because a packet of 64 kB could chain thirty thousand of them for every record;
 *   - record counts are promises of the sender: the walk ends with the bytes, or after RECORDS_WALKED_MAX records;
 *   - the answer section is walked once per CNAME that is followed, ANSWER_ALIASES_MAX times at most: order does not
 *     matter, and a loop of CNAMEs runs into that bound;
 *   - a name with bytes that no host name has never leaves this file as text; it becomes an empty target, which callers
 *     count as unusable. It is kept, because "MX exists but is unusable" and "no MX" lead to different places.
 *
 * The one mistake that would lose mail is to take an error for "no such record", because that means an implicit MX or a
 * bounce. Therefore everything doubtful is ANSWER_TEMPORARY: truncation, referrals, extended errors, wrong questions.
 */
#include "dns/answer.h"

#include <stdlib.h>

#include "dns/packet.h"

#define RECORDS_WALKED_MAX 1024
#define RCODE_NO_ERROR 0
#define RCODE_NO_DOMAIN 3

struct header {
    unsigned flags;
    unsigned answers;
    unsigned authorities;
    unsigned additionals;
};

struct reader {
    struct packet_walk start; /* at the answer section */
    struct header header;
    enum answer_type type;
    struct answer_store *store;
    struct answer *answer;
    bool soa;
};

static bool name_is(const struct packet_name *name, struct bytes text)
{
    return name->host && bytes_equal_nocase(bytes_of(name->text, name->length), text);
}

static struct bytes without_final_dot(struct bytes name)
{
    if (name.length > 0 && name.data[name.length - 1] == '.') {
        name.length--;
    }
    return name;
}

/* RFC 2181 8: a TTL with the highest bit set counts as 0. */
static uint32_t ttl_of(const struct packet_record *record)
{
    return record->ttl_s > INT32_MAX ? 0 : record->ttl_s;
}

static void limit_ttl(struct answer *answer, uint32_t ttl_s)
{
    if (ttl_s < answer->ttl_s) {
        answer->ttl_s = ttl_s;
    }
}

/* --- record data ------------------------------------------------------------------------------------------------ */

/* The part of the packet that a record's data may use: names in it may point back, nothing may go on behind it. */
static struct packet_walk data_walk(const struct reader *reader, const struct packet_record *record)
{
    struct packet_walk walk = reader->start;
    walk.at = record->data;
    walk.length = record->data + record->data_length;
    return walk;
}

/* Room for `length` bytes of text; NULL when the store is full. */
static char *store_text(struct answer_store *store, size_t length)
{
    if (length > sizeof store->text - store->text_length) {
        return NULL;
    }
    char *text = store->text + store->text_length;
    store->text_length += length;
    return text;
}

/* A host name as callers see it: text, "." for the root, empty for what is no host name. */
static bool keep_target(struct answer_store *store, const struct packet_name *name, struct bytes *ret_data)
{
    struct bytes target = bytes_of(name->text, name->host ? name->length : 0);
    if (name->length == 0) {
        target = BYTES(".");
    }
    char *text = store_text(store, target.length);
    if (text == NULL) {
        return false;
    }
    memcpy(text, target.data, target.length);
    *ret_data = bytes_of(text, target.length);
    return true;
}

/* The strings of a TXT record, joined (RFC 7208 3.3 and 6376 3.6.2.2 want them so). */
static bool keep_strings(struct answer_store *store, struct packet_walk *walk, struct bytes *ret_data)
{
    char *text = store_text(store, walk->length - walk->at);
    if (text == NULL) {
        return false;
    }
    size_t length = 0;
    while (!walk->bad && walk->at < walk->length) {
        size_t piece = packet_take8(walk);
        size_t from = walk->at;
        packet_skip(walk, piece);
        if (!walk->bad) {
            memcpy(text + length, walk->data + from, piece);
            length += piece;
        }
    }
    *ret_data = bytes_of(text, length);
    return true;
}

static bool keep_raw(struct answer_store *store, struct packet_walk *walk, size_t least, size_t most,
                     struct bytes *ret_data)
{
    size_t length = walk->length - walk->at;
    if (length < least || length > most) {
        walk->bad = true;
        return true;
    }
    char *text = store_text(store, length);
    if (text == NULL) {
        return false;
    }
    memcpy(text, walk->data + walk->at, length);
    walk->at += length;
    *ret_data = bytes_of(text, length);
    return true;
}

/* Adds one record of the wanted type. False when its data is not what the type demands. */
static bool keep_record(struct reader *reader, const struct packet_record *record)
{
    struct answer_store *store = reader->store;
    struct answer *answer = reader->answer;
    if (answer->count == ANSWER_RECORDS_MAX) {
        return true;
    }
    struct packet_walk walk = data_walk(reader, record);
    struct answer_record *kept = &store->records[answer->count];
    struct packet_name target;
    bool room = true;
    *kept = (struct answer_record){0};
    switch (reader->type) {
    case ANSWER_A: room = keep_raw(store, &walk, 4, 4, &kept->data); break;
    case ANSWER_AAAA: room = keep_raw(store, &walk, 16, 16, &kept->data); break;
    case ANSWER_TLSA: room = keep_raw(store, &walk, 3, UINT16_MAX, &kept->data); break;
    case ANSWER_TXT: room = keep_strings(store, &walk, &kept->data); break;
    case ANSWER_MX: kept->preference = (uint16_t)packet_take16(&walk); /* fall through */
    case ANSWER_CNAME:
        packet_take_name(&walk, &target);
        room = walk.bad || keep_target(store, &target, &kept->data);
        break;
    }
    if (walk.bad || (room && walk.at != walk.length)) {
        return false;
    }
    if (room) {
        answer->count++;
        limit_ttl(answer, ttl_of(record));
    }
    return true;
}

/* --- sections --------------------------------------------------------------------------------------------------- */

/* One pass over the answer section for the records of the canonical name. With CNAMEs instead, *ret_alias is the first.
 */
static const char *collect(struct reader *reader, struct packet_name *ret_alias, bool *ret_aliased)
{
    struct answer *answer = reader->answer;
    struct packet_walk walk = reader->start;
    struct packet_record record;
    *ret_aliased = false;
    for (unsigned i = 0; i < reader->header.answers; i++) {
        packet_take_record(&walk, &record);
        if (walk.bad) {
            return "malformed reply";
        }
        if (record.class != PACKET_CLASS_IN || !name_is(&record.owner, answer->canonical)) {
            continue;
        }
        if (record.type == (unsigned)reader->type) {
            if (!keep_record(reader, &record)) {
                return "malformed record";
            }
        } else if (record.type == ANSWER_CNAME && !*ret_aliased) {
            struct packet_walk data = data_walk(reader, &record);
            packet_take_name(&data, ret_alias);
            if (data.bad || data.at != data.length) {
                return "malformed record";
            }
            if (!ret_alias->host || ret_alias->length == 0) {
                return "CNAME to no host name";
            }
            limit_ttl(answer, ttl_of(&record));
            *ret_aliased = true;
        }
    }
    return NULL;
}

static const char *follow(struct reader *reader)
{
    struct answer *answer = reader->answer;
    for (;;) {
        struct packet_name alias;
        bool aliased;
        const char *cause = collect(reader, &alias, &aliased);
        if (cause != NULL || answer->count != 0 || !aliased) {
            return cause;
        }
        if (answer->aliases == ANSWER_ALIASES_MAX) {
            return "CNAME chain too long";
        }
        answer->aliases++;
        memcpy(reader->store->canonical, alias.text, alias.length);
        answer->canonical = bytes_of(reader->store->canonical, alias.length);
    }
}

/* RFC 2308 5: a negative answer lives for the lesser of the SOA record's own TTL and its MINIMUM field. */
static bool take_soa(struct reader *reader, const struct packet_record *record)
{
    struct packet_walk walk = data_walk(reader, record);
    struct packet_name ignored;
    packet_take_name(&walk, &ignored);
    packet_take_name(&walk, &ignored);
    packet_skip(&walk, 16);
    uint32_t minimum = packet_take32(&walk);
    if (walk.bad || walk.at != walk.length) {
        return false;
    }
    if (reader->answer->count == 0) {
        limit_ttl(reader->answer, ttl_of(record));
        limit_ttl(reader->answer, minimum);
        reader->soa = true;
    }
    return true;
}

/* Authority and additional sections: the SOA of negatives, and OPT for the upper bits of the rcode (RFC 6891 6.1.3). */
static const char *read_rest(struct reader *reader)
{
    struct packet_walk walk = reader->start;
    const struct header *header = &reader->header;
    unsigned authority_end = header->answers + header->authorities;
    struct packet_record record;
    for (unsigned i = 0; i < authority_end + header->additionals; i++) {
        packet_take_record(&walk, &record);
        if (walk.bad) {
            return "malformed reply";
        }
        bool authority = i >= header->answers && i < authority_end;
        if (authority && record.type == PACKET_TYPE_SOA && !take_soa(reader, &record)) {
            return "malformed record";
        }
        if (i >= authority_end && record.type == PACKET_TYPE_OPT && record.ttl_s >> 24 != 0) {
            return "extended error";
        }
    }
    return NULL;
}

static const char *read_header(struct packet_walk *walk, struct bytes name, enum answer_type type,
                               struct header *ret_header)
{
    static const char *const refusals[PACKET_RCODE_MASK + 1] = {
        [1] = "FORMERR",
        [2] = "SERVFAIL",
        [4] = "NOTIMP",
        [5] = "REFUSED",
    };
    packet_take16(walk); /* id: the channel matched it */
    unsigned flags = packet_take16(walk);
    unsigned questions = packet_take16(walk);
    *ret_header = (struct header){.flags = flags};
    ret_header->answers = packet_take16(walk);
    ret_header->authorities = packet_take16(walk);
    ret_header->additionals = packet_take16(walk);
    if (walk->bad || (flags & PACKET_REPLY) == 0 || (flags & PACKET_OPCODE_MASK) != 0) {
        return "malformed reply";
    }
    unsigned rcode = flags & PACKET_RCODE_MASK;
    if (rcode != RCODE_NO_ERROR && rcode != RCODE_NO_DOMAIN) {
        return refusals[rcode] != NULL ? refusals[rcode] : "error reply";
    }
    if ((flags & PACKET_TRUNCATED) != 0) {
        return "truncated reply";
    }
    if (ret_header->answers + ret_header->authorities + ret_header->additionals > RECORDS_WALKED_MAX) {
        return "too many records";
    }
    struct packet_name asked;
    packet_take_name(walk, &asked);
    unsigned asked_type = packet_take16(walk);
    unsigned asked_class = packet_take16(walk);
    if (walk->bad || questions != 1 || asked_type != (unsigned)type || asked_class != PACKET_CLASS_IN ||
        !name_is(&asked, name)) {
        return "reply to another question";
    }
    return NULL;
}

/* What a reply without a record of the wanted type means. */
static const char *conclude_negative(struct reader *reader)
{
    struct answer *answer = reader->answer;
    unsigned flags = reader->header.flags;
    if (!reader->soa) {
        answer->ttl_s = answer->aliases != 0 ? answer->ttl_s : 0;
    }
    if ((flags & PACKET_RCODE_MASK) == RCODE_NO_DOMAIN) {
        answer->status = ANSWER_NO_DOMAIN;
    } else if (answer->aliases != 0 && !reader->soa) {
        answer->status = ANSWER_ALIAS;
    } else if ((flags & (PACKET_AUTHORITATIVE | PACKET_RECURSION_AVAILABLE)) == 0) {
        return "referral from a server that does not resolve";
    } else {
        answer->status = ANSWER_NO_DATA;
    }
    return NULL;
}

static const char *read_reply(struct reader *reader, struct bytes name)
{
    struct answer *answer = reader->answer;
    const char *cause = read_header(&reader->start, name, reader->type, &reader->header);
    if (cause != NULL) {
        return cause;
    }
    for (size_t i = 0; i < name.length; i++) {
        reader->store->canonical[i] = bytes_ascii_lower(name.data[i]);
    }
    answer->canonical = bytes_of(reader->store->canonical, name.length);
    answer->authentic = (reader->header.flags & PACKET_AUTHENTIC) != 0;
    cause = follow(reader);
    cause = cause != NULL ? cause : read_rest(reader);
    if (cause != NULL) {
        return cause;
    }
    if (answer->count == 0) {
        return conclude_negative(reader);
    }
    if ((reader->header.flags & PACKET_RCODE_MASK) == RCODE_NO_DOMAIN) {
        return "NXDOMAIN with records";
    }
    answer->status = ANSWER_RECORDS;
    return NULL;
}

void answer_read(const void *packet, size_t length, struct bytes name, enum answer_type type,
                 struct answer_store *store, struct answer *ret_answer)
{
    *ret_answer = (struct answer){.ttl_s = INT32_MAX, .records = store->records};
    store->text_length = 0;
    struct reader reader = {
        .start = {.data = (const unsigned char *)packet, .length = length},
        .type = type,
        .store = store,
        .answer = ret_answer,
    };
    const char *cause = read_reply(&reader, without_final_dot(name));
    if (cause != NULL) {
        *ret_answer = answer_failed(cause);
    }
}

struct answer answer_failed(const char *cause)
{
    return (struct answer){.status = ANSWER_TEMPORARY, .cause = cause};
}

static size_t text_bytes(const struct answer *answer)
{
    size_t text = answer->canonical.length;
    for (unsigned i = 0; i < answer->count; i++) {
        text += answer->records[i].data.length;
    }
    return text;
}

size_t answer_bytes(const struct answer *answer)
{
    return sizeof *answer + answer->count * sizeof(struct answer_record) + text_bytes(answer);
}

struct answer *answer_copy(const struct answer *answer)
{
    size_t text = text_bytes(answer);
    struct answer *copy = malloc(answer_bytes(answer));
    if (copy == NULL) {
        return NULL;
    }
    struct answer_record *copied = (struct answer_record *)(copy + 1);
    struct buffer texts = buffer_of((char *)(copied + answer->count), text);
    *copy = *answer;
    copy->records = copied;
    copy->canonical.data = texts.data;
    CHECK(buffer_append(&texts, answer->canonical));
    for (unsigned i = 0; i < answer->count; i++) {
        struct bytes data = answer->records[i].data;
        copied[i].preference = answer->records[i].preference;
        copied[i].data = bytes_of(texts.data + texts.length, data.length);
        CHECK(buffer_append(&texts, data));
    }
    return copy;
}
