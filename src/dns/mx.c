/* From a domain to its hosts; mx_work.c goes on from there.
 *
 * An implicit MX is made in one place only, where the answer was "the name exists and has no MX record": whoever has MX
 * records that are of no use must not be found at another address (RFC 5321 5.1).
 */
#include "dns/mx.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "core/shard.h"
#include "dns/mx_work.h"
#include "dns/question.h"

#define LITERAL_TTL_MS 86400000

static const struct {
    const char *name;
    const char *enhanced; /* RFC 3463, 7505 4.2 */
    unsigned reply;
    bool permanent;
} classes[] = {
    [MX_HOSTS] = {"hosts", "2.0.0", 250, false},        [MX_NULL] = {"null-mx", "5.1.10", 556, true},
    [MX_NO_DOMAIN] = {"no-domain", "5.1.2", 550, true}, [MX_NO_ROUTE] = {"no-route", "5.4.4", 550, true},
    [MX_LOOP] = {"loop", "5.4.6", 554, true},           [MX_TEMPORARY] = {"temporary", "4.4.3", 451, false},
};

bool mx_permanent(enum mx_class class)
{
    return classes[class].permanent;
}

const char *mx_class_name(enum mx_class class)
{
    return classes[class].name;
}

const char *mx_enhanced_code(enum mx_class class)
{
    return classes[class].enhanced;
}

unsigned mx_reply_code(enum mx_class class)
{
    return classes[class].reply;
}

/* --- the list --------------------------------------------------------------------------------------------------- */

struct candidate {
    uint16_t preference;
    struct bytes name;
};

static void shuffle(struct candidate *list, unsigned count, struct rng *rng)
{
    for (unsigned i = count; i > 1; i--) {
        unsigned other = (unsigned)rng_below(rng, i);
        struct candidate last = list[i - 1];
        list[i - 1] = list[other];
        list[other] = last;
    }
}

/* Stable, so that a shuffle before it orders equal preferences. */
static void sort(struct candidate *list, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        struct candidate moved = list[i];
        unsigned at = i;
        for (; at > 0 && list[at - 1].preference > moved.preference; at--) {
            list[at] = list[at - 1];
        }
        list[at] = moved;
    }
}

/* Keeps the first of each name: the one of best preference. Returns the new count. */
static unsigned drop_repeated(struct candidate *list, unsigned count)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        bool repeated = false;
        for (unsigned j = 0; j < kept; j++) {
            repeated = repeated || bytes_equal(list[j].name, list[i].name);
        }
        if (!repeated) {
            list[kept++] = list[i];
        }
    }
    return kept;
}

static void set_targets(struct mx_work *work, struct candidate *list, unsigned count)
{
    struct bytes names[ANSWER_RECORDS_MAX];
    for (unsigned i = 0; i < count; i++) {
        names[i] = list[i].name;
    }
    work->site_length = mx_site_key(names, count, work->site);
    shuffle(list, count, &resolver_shard(work->resolver)->rng);
    sort(list, count);
    count = drop_repeated(list, count);
    mx_work_targets(work, count < MX_HOSTS_MAX ? count : MX_HOSTS_MAX);
    for (unsigned i = 0; i < work->target_count; i++) {
        mx_work_target_set(work, i, list[i].preference, list[i].name);
    }
}

/* "." among real hosts is void (RFC 7505 3 forbids it, and mail is better delivered than bounced); alone it says no. */
static void take_list(struct mx_work *work, const struct answer *answer)
{
    struct candidate list[ANSWER_RECORDS_MAX];
    unsigned count = 0;
    unsigned nulls = 0;
    for (unsigned i = 0; i < answer->count; i++) {
        const struct answer_record *record = &answer->records[i];
        if (bytes_equal(record->data, BYTES("."))) {
            nulls++;
        } else if (record->data.length != 0) {
            list[count++] = (struct candidate){.preference = record->preference, .name = record->data};
        }
    }
    if (count != 0) {
        set_targets(work, list, count);
        mx_work_addresses(work);
    } else if (nulls == answer->count) {
        mx_work_fail(work, MX_NULL, NULL, "% accepts no mail (null MX)");
    } else {
        mx_work_fail(work, MX_NO_ROUTE, NULL, "the MX records of % name no host");
    }
}

/* With what resolver_ask or `done` gave. */
static void mx_step(struct mx_work *work, const struct answer *answer)
{
    answer = mx_work_follow(work, &work->ask, answer, ANSWER_MX, &work->aliases);
    if (answer == NULL) {
        return;
    }
    mx_work_limit_expiry(work, answer->expires_ms);
    bool direct = work->aliases == 0; /* else this answer is sure of the end of a chain that nobody has vouched for */
    work->sure = direct && answer->authentic;
    switch (answer->status) {
    case ANSWER_RECORDS: take_list(work, answer); break;
    case ANSWER_NO_DATA:
        work->sure = work->sure || (direct && answer->aliases == 0);
        work->implicit = true; /* RFC 5321 5.1; what a CNAME leads to "is processed as if it were the initial name" */
        set_targets(work, &(struct candidate){.name = answer->canonical}, 1);
        mx_work_addresses(work);
        break;
    case ANSWER_NO_DOMAIN: mx_work_fail(work, MX_NO_DOMAIN, NULL, "% does not exist"); break;
    case ANSWER_ALIAS:
    case ANSWER_TEMPORARY: mx_work_fail(work, MX_TEMPORARY, answer->cause, "for MX of %"); break;
    }
}

static void mx_answered(struct resolver_ask *ask, const struct answer *answer)
{
    struct mx_work *work = CONTAINER_OF(ask, struct mx_work, ask);
    struct mx_lookup *lookup = work->lookup;
    mx_step(work, answer);
    if (lookup->result != NULL) {
        lookup->done(lookup);
    }
}

/* --- lookups ---------------------------------------------------------------------------------------------------- */

void mx_lookup_init(struct mx_lookup *lookup, void (*done)(struct mx_lookup *lookup))
{
    *lookup = (struct mx_lookup){.done = done};
}

void mx_lookup_release(struct mx_lookup *lookup)
{
    if (lookup->work != NULL) {
        mx_work_delete(lookup->work);
        lookup->work = NULL;
    }
    mx_result_release(lookup->result);
    lookup->result = NULL;
}

/* `name` is kept in lower case, without final dot. */
static struct mx_work *work_new(struct mx_lookup *lookup, struct resolver *resolver, const struct mx_settings *settings,
                                struct bytes name)
{
    CHECK(lookup->work == NULL && lookup->result == NULL);
    struct mx_work *work = calloc(1, sizeof *work);
    CHECK(work != NULL);
    work->lookup = lookup;
    work->resolver = resolver;
    work->settings = settings;
    work->expires_ms = resolver_shard(resolver)->now_ms + LITERAL_TTL_MS;
    resolver_ask_init(&work->ask, mx_answered);
    if (name.length > 0 && name.data[name.length - 1] == '.') {
        name.length--;
    }
    CHECK(name.length <= sizeof work->name);
    for (size_t i = 0; i < name.length; i++) {
        work->name[i] = bytes_ascii_lower(name.data[i]);
    }
    work->name_length = name.length;
    lookup->work = work;
    return work;
}

/* One host with known addresses, all of one preference. */
static void take_known(struct mx_work *work, const struct mx_address *addresses, unsigned count)
{
    struct candidate only = {.name = bytes_of(work->name, work->name_length)};
    set_targets(work, &only, 1);
    for (unsigned i = 0; i < count; i++) {
        mx_work_target_address(work, 0, &addresses[i]);
    }
    mx_work_conclude(work);
}

static struct bytes literal_text(const struct mx_address *address, char out[MX_ADDRESS_TEXT_BYTES + 8])
{
    char text[MX_ADDRESS_TEXT_BYTES];
    struct buffer literal = buffer_of(out, MX_ADDRESS_TEXT_BYTES + 8);
    CHECK(buffer_append_format(&literal, "[%s%s]", address->family == AF_INET6 ? "IPv6:" : "",
                               mx_address_text(address, text)));
    return buffer_bytes(&literal);
}

bool mx_lookup_start(struct mx_lookup *lookup, struct resolver *resolver, const struct mx_settings *settings,
                     struct bytes domain)
{
    char literal[MX_ADDRESS_TEXT_BYTES + 8];
    struct mx_address address;
    if (mx_address_parse_literal(domain, &address)) {
        struct mx_work *work = work_new(lookup, resolver, settings, literal_text(&address, literal));
        take_known(work, &address, 1);
    } else if (!question_name_valid(domain)) {
        mx_work_fail(work_new(lookup, resolver, settings, BYTES("")), MX_NO_DOMAIN, NULL, "not a domain name%");
    } else {
        struct mx_work *work = work_new(lookup, resolver, settings, domain);
        mx_step(work, resolver_ask(resolver, &work->ask, domain, ANSWER_MX));
    }
    return lookup->result != NULL;
}

static void take_named(struct mx_work *work)
{
    static const struct mx_address loopback[] = {
        {.family = AF_INET6, .bytes = {[15] = 1}},
        {.family = AF_INET, .bytes = {127, 0, 0, 1}},
    };
    struct bytes name = bytes_of(work->name, work->name_length);
    enum mx_family family = work->settings->family;
    if (bytes_equal(name, BYTES("localhost"))) { /* RFC 6761 6.3: never a question */
        take_known(work, loopback + (family == MX_IPV4_ONLY), family == MX_IPV4_ONLY || family == MX_IPV6_ONLY ? 1 : 2);
        return;
    }
    set_targets(work, &(struct candidate){.name = name}, 1);
    mx_work_addresses(work);
}

bool mx_lookup_host(struct mx_lookup *lookup, struct resolver *resolver, const struct mx_settings *settings,
                    struct bytes host)
{
    char literal[MX_ADDRESS_TEXT_BYTES + 8];
    struct mx_address address;
    struct mx_work *work;
    if (mx_address_parse_literal(host, &address) || mx_address_parse(host, &address)) {
        work = work_new(lookup, resolver, settings, literal_text(&address, literal));
        work->named = true;
        take_known(work, &address, 1);
    } else if (!question_name_valid(host)) {
        work = work_new(lookup, resolver, settings, BYTES(""));
        work->named = true;
        mx_work_fail(work, MX_NO_DOMAIN, NULL, "not a host name%");
    } else {
        work = work_new(lookup, resolver, settings, host);
        work->named = true;
        take_named(work);
    }
    return lookup->result != NULL;
}
