/* Answers by name and type, until their time is up, and the questions in flight with those who wait for them.
 *
 * A bounded table of entries. An entry is either a question (it has askers and no answer, and stays until it is
 * answered) or an answer. When the table is full the answer that was used longest ago makes room, and also when answers
 * are larger than usual: a zone may have names without end, each with a list of hosts that fills ANSWER_TEXT_BYTES. So
 * however many names peers make us look up, and whatever is said of them, memory has its bound.
 */
#ifndef DNS_CACHE_H
#define DNS_CACHE_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "dns/answer.h"

/* Bounds on how long an answer is kept, whatever it says. */
#define CACHE_TTL_MIN_S 5
#define CACHE_TTL_MAX_S 86400
#define CACHE_NEGATIVE_TTL_MAX_S 10800 /* RFC 2308 5 */
#define CACHE_NEGATIVE_TTL_S 60        /* of a negative answer without SOA */
#define CACHE_FAILURE_TTL_S 10         /* SERVFAIL and the like (RFC 2308 7: at most five minutes) */

/* What an entry may have in the mean: with its answer it takes some 300 bytes mostly. */
#define CACHE_ENTRY_BYTES_MEAN 512

struct cache_entry {
    struct list used;      /* answers: order of use */
    struct list askers;    /* questions: who waits, by the nodes of their asks */
    struct answer *answer; /* NULL: a question in flight */
    uint16_t key_length;
    char key[]; /* type (2 bytes), name in lower case */
};

struct cache;

struct cache *cache_new(unsigned entries_max);
/* Frees everything; nobody may still wait. */
void cache_delete(struct cache *cache);
unsigned cache_count(const struct cache *cache);
/* Of entries and answers; at most CACHE_ENTRY_BYTES_MEAN for each of entries_max, but one answer always has room. */
size_t cache_bytes(const struct cache *cache);

/* The entry for a valid name, or NULL; an answer past its time is removed, not found. */
struct cache_entry *cache_find(struct cache *cache, struct bytes name, enum answer_type type, uint64_t now_ms);

/* Adds a question that was not found. NULL when the table is full of questions or memory is out. */
struct cache_entry *cache_add(struct cache *cache, struct bytes name, enum answer_type type);

/* Without the type; valid as long as the entry. */
struct bytes cache_entry_name(const struct cache_entry *entry);
enum answer_type cache_entry_type(const struct cache_entry *entry);

/* Turns a question into an answer: bounds its ttl_s, sets its expires_ms, and keeps a copy. Take the askers out first.
 * Without memory the entry is removed. */
void cache_store(struct cache *cache, struct cache_entry *entry, struct answer *answer, uint64_t now_ms);

/* Removes a question that nobody waits for and that will not be answered. */
void cache_drop(struct cache *cache, struct cache_entry *entry);

#endif
