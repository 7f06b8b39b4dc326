/* The walk over a DNS reply.
 *
 * c-ares could parse replies, but 1.18 knows no TLSA, hides the AD bit and the TTL of some types, and stops at a CNAME
 * in its own ways. What mail routing needs is small: the records of one type that a name, or the end of its CNAME
 * chain, owns, and how long that holds. So the reply is walked here, by rules that keep a hostile one cheap:
 *
 *   - a compression pointer must point before the start of the piece of name that holds it, so that names end; and only
 *     so many are followed, because a packet of 64 kB could chain thirty thousand of them for every record;
 *   - record counts are promises of the sender: the walk ends with the bytes, or after RECORDS_WALKED_MAX records;
 *   - the answer section is walked once per CNAME that is followed, ANSWER_ALIASES_MAX times at most: order does not matter
 *     and a loop of CNAMEs runs into that bound;
 *   - a name with bytes that no host name has never leaves this file as text; it becomes an empty target, which callers
 *     count as unusable. It is kept, because "MX exists but is unusable" and "no MX" lead to different places.
 *
 * The one mistake that would lose mail is to take an error for "no such record", because that means an implicit MX or a
 * bounce. Therefore everything doubtful is ANSWER_TEMPORARY: truncation, referrals, extended errors, wrong questions.
 */
#include "dns/answer.h"

#include <assert.h>
#include <stdlib.h>

#define HEADER_BYTES 12
#define POINTERS_MAX 64
#define RECORDS_WALKED_MAX 1024
#define CLASS_IN 1
#define TYPE_SOA 6
#define TYPE_OPT 41
#define OPT_BYTES 11

#define FLAG_REPLY 0x8000
#define FLAG_OPCODE 0x7800
#define FLAG_AUTHORITATIVE 0x0400
#define FLAG_TRUNCATED 0x0200
#define FLAG_RECURSION_DESIRED 0x0100
#define FLAG_RECURSION_AVAILABLE 0x0080
#define FLAG_AUTHENTIC 0x0020
#define RCODE_MASK 0x000f
#define RCODE_NO_ERROR 0
#define RCODE_NO_DOMAIN 3

/* A position in the packet that cannot leave it: a read past the end gives 0 and sets `bad`. */
struct walk {
    const unsigned char *data;
    size_t length;
    size_t at;
    bool bad;
};

struct name {
    size_t length; /* of the text; 0 is the root */
    bool host;     /* letters, digits, '-' and '_' only */
    char text[ANSWER_NAME_BYTES + 1];
};

struct record {
    struct name owner;
    unsigned type;
    unsigned class;
    uint32_t ttl_s;
    size_t data; /* offset */
    size_t data_length;
};

struct header {
    unsigned flags;
    unsigned answers;
    unsigned authorities;
    unsigned additionals;
};

struct reader {
    struct walk start; /* at the answer section */
    struct header header;
    enum answer_type type;
    struct answer_store *store;
    struct answer *answer;
    bool soa;
};

static unsigned take8(struct walk *walk)
{
    if (walk->bad || walk->at >= walk->length) {
        walk->bad = true;
        return 0;
    }
    return walk->data[walk->at++];
}

static unsigned take16(struct walk *walk)
{
    unsigned high = take8(walk);
    return high << 8 | take8(walk);
}

static uint32_t take32(struct walk *walk)
{
    uint32_t high = take16(walk);
    return high << 16 | take16(walk);
}

static void skip(struct walk *walk, size_t length)
{
    if (walk->bad || length > walk->length - walk->at) {
        walk->bad = true;
        return;
    }
    walk->at += length;
}

static bool host_byte(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '-' || byte == '_';
}

/* Appends a label of `length` bytes at the walk's position. */
static void take_label(struct walk *walk, size_t length, struct name *name)
{
    size_t dot = name->length != 0;
    if (length > walk->length - walk->at || name->length + dot + length > ANSWER_NAME_BYTES) {
        walk->bad = true;
        return;
    }
    if (dot) {
        name->text[name->length++] = '.';
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = walk->data[walk->at++];
        name->host = name->host && host_byte(byte);
        name->text[name->length++] = bytes_ascii_lower((char)byte);
    }
}

/* RFC 1035 4.1.4. Leaves the walk behind the name as it stands in the record. */
static void take_name(struct walk *walk, struct name *name)
{
    size_t behind = 0; /* where the record goes on, once a pointer was followed */
    size_t piece = walk->at;
    name->length = 0;
    name->host = true;
    for (unsigned pointers = 0; !walk->bad;) {
        unsigned head = take8(walk);
        if (head == 0) {
            break;
        }
        if (head < 64) {
            take_label(walk, head, name);
            continue;
        }
        size_t target = (head & 0x3f) << 8 | take8(walk);
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

static bool name_is(const struct name *name, struct bytes text)
{
    return bytes_equal_nocase(bytes_of(name->text, name->length), text);
}

static struct bytes without_final_dot(struct bytes name)
{
    if (name.length > 0 && name.data[name.length - 1] == '.') {
        name.length--;
    }
    return name;
}

static void take_record(struct walk *walk, struct record *record)
{
    take_name(walk, &record->owner);
    record->type = take16(walk);
    record->class = take16(walk);
    record->ttl_s = take32(walk);
    record->data_length = take16(walk);
    record->data = walk->at;
    skip(walk, record->data_length);
}

/* RFC 2181 8: a TTL with the highest bit set counts as 0. */
static uint32_t ttl_of(const struct record *record)
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
static struct walk data_walk(const struct reader *reader, const struct record *record)
{
    struct walk walk = reader->start;
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
static bool keep_target(struct answer_store *store, const struct name *name, struct bytes *ret_data)
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
static bool keep_strings(struct answer_store *store, struct walk *walk, struct bytes *ret_data)
{
    char *text = store_text(store, walk->length - walk->at);
    if (text == NULL) {
        return false;
    }
    size_t length = 0;
    while (!walk->bad && walk->at < walk->length) {
        size_t piece = take8(walk);
        size_t from = walk->at;
        skip(walk, piece);
        if (!walk->bad) {
            memcpy(text + length, walk->data + from, piece);
            length += piece;
        }
    }
    *ret_data = bytes_of(text, length);
    return true;
}

static bool keep_raw(struct answer_store *store, struct walk *walk, size_t least, size_t most, struct bytes *ret_data)
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
static bool keep_record(struct reader *reader, const struct record *record)
{
    struct answer_store *store = reader->store;
    struct answer *answer = reader->answer;
    if (answer->count == ANSWER_RECORDS_MAX) {
        return true;
    }
    struct walk walk = data_walk(reader, record);
    struct answer_record *kept = &store->records[answer->count];
    struct name target;
    bool room = true;
    *kept = (struct answer_record){0};
    switch (reader->type) {
    case ANSWER_A: room = keep_raw(store, &walk, 4, 4, &kept->data); break;
    case ANSWER_AAAA: room = keep_raw(store, &walk, 16, 16, &kept->data); break;
    case ANSWER_TLSA: room = keep_raw(store, &walk, 3, UINT16_MAX, &kept->data); break;
    case ANSWER_TXT: room = keep_strings(store, &walk, &kept->data); break;
    case ANSWER_MX: kept->preference = (uint16_t)take16(&walk); /* fall through */
    case ANSWER_CNAME:
        take_name(&walk, &target);
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

/* One pass over the answer section for the records of the canonical name. With CNAMEs instead, *ret_alias is the first. */
static const char *collect(struct reader *reader, struct name *ret_alias, bool *ret_aliased)
{
    struct answer *answer = reader->answer;
    struct walk walk = reader->start;
    struct record record;
    *ret_aliased = false;
    for (unsigned i = 0; i < reader->header.answers; i++) {
        take_record(&walk, &record);
        if (walk.bad) {
            return "malformed reply";
        }
        if (record.class != CLASS_IN || !name_is(&record.owner, answer->canonical)) {
            continue;
        }
        if (record.type == (unsigned)reader->type) {
            if (!keep_record(reader, &record)) {
                return "malformed record";
            }
        } else if (record.type == ANSWER_CNAME && !*ret_aliased) {
            struct walk data = data_walk(reader, &record);
            take_name(&data, ret_alias);
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
        struct name alias;
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
static bool take_soa(struct reader *reader, const struct record *record)
{
    struct walk walk = data_walk(reader, record);
    struct name ignored;
    take_name(&walk, &ignored);
    take_name(&walk, &ignored);
    skip(&walk, 16);
    uint32_t minimum = take32(&walk);
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
    struct walk walk = reader->start;
    const struct header *header = &reader->header;
    unsigned authority_end = header->answers + header->authorities;
    struct record record;
    for (unsigned i = 0; i < authority_end + header->additionals; i++) {
        take_record(&walk, &record);
        if (walk.bad) {
            return "malformed reply";
        }
        bool authority = i >= header->answers && i < authority_end;
        if (authority && record.type == TYPE_SOA && !take_soa(reader, &record)) {
            return "malformed record";
        }
        if (i >= authority_end && record.type == TYPE_OPT && record.ttl_s >> 24 != 0) {
            return "extended error";
        }
    }
    return NULL;
}

static const char *read_header(struct walk *walk, struct bytes name, enum answer_type type, struct header *ret_header)
{
    static const char *const refusals[RCODE_MASK + 1] = {
        [1] = "FORMERR",
        [2] = "SERVFAIL",
        [4] = "NOTIMP",
        [5] = "REFUSED",
    };
    take16(walk); /* id: the channel matched it */
    unsigned flags = take16(walk);
    unsigned questions = take16(walk);
    *ret_header = (struct header){.flags = flags};
    ret_header->answers = take16(walk);
    ret_header->authorities = take16(walk);
    ret_header->additionals = take16(walk);
    if (walk->bad || (flags & FLAG_REPLY) == 0 || (flags & FLAG_OPCODE) != 0) {
        return "malformed reply";
    }
    unsigned rcode = flags & RCODE_MASK;
    if (rcode != RCODE_NO_ERROR && rcode != RCODE_NO_DOMAIN) {
        return refusals[rcode] != NULL ? refusals[rcode] : "error reply";
    }
    if ((flags & FLAG_TRUNCATED) != 0) {
        return "truncated reply";
    }
    if (ret_header->answers + ret_header->authorities + ret_header->additionals > RECORDS_WALKED_MAX) {
        return "too many records";
    }
    struct name asked;
    take_name(walk, &asked);
    unsigned asked_type = take16(walk);
    unsigned asked_class = take16(walk);
    if (walk->bad || questions != 1 || asked_type != (unsigned)type || asked_class != CLASS_IN ||
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
    if ((flags & RCODE_MASK) == RCODE_NO_DOMAIN) {
        answer->status = ANSWER_NO_DOMAIN;
    } else if (answer->aliases != 0 && !reader->soa) {
        answer->status = ANSWER_ALIAS;
    } else if ((flags & (FLAG_AUTHORITATIVE | FLAG_RECURSION_AVAILABLE)) == 0) {
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
    answer->authentic = (reader->header.flags & FLAG_AUTHENTIC) != 0;
    cause = follow(reader);
    cause = cause != NULL ? cause : read_rest(reader);
    if (cause != NULL) {
        return cause;
    }
    if (answer->count == 0) {
        return conclude_negative(reader);
    }
    if ((reader->header.flags & RCODE_MASK) == RCODE_NO_DOMAIN) {
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

struct answer *answer_copy(const struct answer *answer)
{
    size_t records = answer->count * sizeof(struct answer_record);
    size_t text = answer->canonical.length;
    for (unsigned i = 0; i < answer->count; i++) {
        text += answer->records[i].data.length;
    }
    struct answer *copy = malloc(sizeof *copy + records + text);
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

/* --- questions -------------------------------------------------------------------------------------------------- */

bool answer_name_valid(struct bytes name)
{
    name = without_final_dot(name);
    if (name.length == 0 || name.length > ANSWER_NAME_BYTES) {
        return false;
    }
    size_t label = 0;
    for (size_t i = 0; i < name.length; i++) {
        if (name.data[i] == '.') {
            if (label == 0) {
                return false;
            }
            label = 0;
        } else if (!host_byte((unsigned char)name.data[i]) || ++label > 63) {
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

size_t answer_query(struct bytes name, enum answer_type type, uint16_t id, unsigned char out[ANSWER_QUERY_BYTES])
{
    static_assert(HEADER_BYTES + ANSWER_NAME_BYTES + 2 + 4 + OPT_BYTES <= ANSWER_QUERY_BYTES,
                  "the longest question fits");
    CHECK(answer_name_valid(name));
    size_t at = put16(out, 0, id);
    at = put16(out, at, FLAG_RECURSION_DESIRED | FLAG_AUTHENTIC);
    at = put16(out, at, 1); /* questions */
    at = put16(out, at, 0);
    at = put16(out, at, 0);
    at = put16(out, at, 1); /* OPT */
    at = put_name(out, at, without_final_dot(name));
    at = put16(out, at, type);
    at = put16(out, at, CLASS_IN);
    out[at++] = 0; /* OPT belongs to the root */
    at = put16(out, at, TYPE_OPT);
    at = put16(out, at, ANSWER_UDP_BYTES);
    at = put16(out, at, 0); /* extended rcode, version */
    at = put16(out, at, 0); /* flags */
    return put16(out, at, 0);
}
