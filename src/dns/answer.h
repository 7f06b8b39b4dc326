/* What one DNS reply says, taken from its bytes. Pure: bytes in, records out; every byte of a reply is hostile. */
#ifndef DNS_ANSWER_H
#define DNS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "dns/packet.h"

#define ANSWER_NAME_BYTES PACKET_NAME_BYTES
#define ANSWER_RECORDS_MAX 64   /* records kept of one reply; more are ignored */
#define ANSWER_TEXT_BYTES 17408 /* bytes kept of one reply: 64 MX with the longest names, or that much TXT */
#define ANSWER_ALIASES_MAX 8    /* CNAMEs followed from one name */

/* Record types we ask for (RFC 1035 3.2.2, 3596, 6698). */
enum answer_type {
    ANSWER_A = 1,
    ANSWER_CNAME = 5,
    ANSWER_MX = 15,
    ANSWER_TXT = 16,
    ANSWER_AAAA = 28,
    ANSWER_TLSA = 52,
};

enum answer_status {
    ANSWER_RECORDS,   /* at least one record of the type that was asked for */
    ANSWER_NO_DATA,   /* the name exists without such a record (RFC 2308 2.2) */
    ANSWER_NO_DOMAIN, /* NXDOMAIN: the name, or what its CNAMEs lead to, does not exist (RFC 6604) */
    ANSWER_ALIAS,     /* CNAMEs only, and the reply does not tell about their end: ask again for `canonical` */
    ANSWER_TEMPORARY, /* SERVFAIL, timeout, a malformed reply...: `cause` says which */
};

struct answer_record {
    uint16_t preference; /* MX only */
    /* A: 4 bytes. AAAA: 16. MX, CNAME: the target as lower-case text without final dot; "." for the root (null MX,
     * RFC 7505); empty when it is no host name at all (a byte that is not a letter, digit, '-' or '_').
     * TXT: its strings joined. TLSA: the RDATA as it is. */
    struct bytes data;
};

struct answer {
    enum answer_status status;
    bool authentic;      /* the resolver says it validated (AD); whether that is worth anything, resolver.c decides */
    uint8_t aliases;     /* CNAMEs followed to `canonical` */
    uint32_t ttl_s;      /* the least of all records used; of negatives RFC 2308 5; 0 when nothing says */
    uint64_t expires_ms; /* shard time; set by the cache */
    const char *cause;   /* ANSWER_TEMPORARY: static text ("SERVFAIL", "timeout"); else NULL */
    struct bytes canonical; /* the name that owns the records, lower case */
    unsigned count;         /* of records; 0 unless ANSWER_RECORDS */
    const struct answer_record *records;
};

/* Room for one answer while it is being read; the answer points into it. */
struct answer_store {
    struct answer_record records[ANSWER_RECORDS_MAX];
    char canonical[ANSWER_NAME_BYTES + 1];
    size_t text_length;
    char text[ANSWER_TEXT_BYTES];
};

/* Reads the reply to that question. Whatever the bytes are, *ret_answer is set; a reply that does not parse, is
 * truncated or answers something else is ANSWER_TEMPORARY. Its spans point into `store`. The transaction id is not
 * looked at. */
void answer_read(const void *packet, size_t length, struct bytes name, enum answer_type type,
                 struct answer_store *store, struct answer *ret_answer);

/* An answer without a reply: ANSWER_TEMPORARY for the given cause (static text). */
struct answer answer_failed(const char *cause);

/* One malloc'ed block with everything the answer points to; NULL without memory. free() it. */
struct answer *answer_copy(const struct answer *answer);
/* How large that block is. */
size_t answer_bytes(const struct answer *answer);

#endif
