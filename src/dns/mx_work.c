/* From hosts to a verdict.
 *
 * The addresses of all hosts are asked for at once and the verdict waits for all of them, because "are we one of these
 * hosts" (RFC 5321 5.1: by name or by address) must be known before the first of them is tried. With a warm cache no
 * question goes out and the whole lookup is one call.
 *
 * The mistake that would cost mail here is to bounce on what was only a temporary failure. So every failed question
 * leaves its cause on its host, and a verdict without any usable host looks for one. And what an administrator named (a
 * smart host) never fails for good: a typo in a configuration must not bounce the queue.
 */
#include "dns/mx_work.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "core/shard.h"

#define RETRY_MS 5000 /* when nothing says when to ask again */

static void address_answered(struct resolver_ask *ask, const struct answer *answer);

void mx_work_limit_expiry(struct mx_work *work, uint64_t expires_ms)
{
    if (expires_ms < work->expires_ms) {
        work->expires_ms = expires_ms;
    }
}

/* --- targets ---------------------------------------------------------------------------------------------------- */

void mx_work_delete(struct mx_work *work)
{
    resolver_ask_cancel(&work->ask);
    for (unsigned i = 0; i < work->target_count; i++) {
        for (unsigned family = 0; family < MX_WORK_FAMILIES; family++) {
            resolver_ask_cancel(&work->targets[i].families[family].ask);
        }
    }
    free(work->targets);
    free(work);
}

void mx_work_targets(struct mx_work *work, unsigned count)
{
    CHECK(work->targets == NULL && count > 0 && count <= MX_HOSTS_MAX);
    work->targets = calloc(count, sizeof *work->targets);
    CHECK(work->targets != NULL);
    work->target_count = count;
    for (unsigned i = 0; i < count; i++) {
        struct mx_work_target *target = &work->targets[i];
        target->work = work;
        target->authentic = true;
        for (unsigned family = 0; family < MX_WORK_FAMILIES; family++) {
            target->families[family].target = target;
            resolver_ask_init(&target->families[family].ask, address_answered);
        }
    }
}

static bool own_name(const struct mx_work *work, struct bytes name)
{
    for (unsigned i = 0; i < work->settings->own_name_count && !work->named; i++) {
        if (bytes_equal_nocase(work->settings->own_names[i], name)) {
            return true;
        }
    }
    return false;
}

static bool own_address(const struct mx_work *work, const struct mx_address *address)
{
    const struct mx_settings *settings = work->settings;
    if (work->named) {
        return false;
    }
    for (unsigned i = 0; i < settings->own_address_count; i++) {
        if (mx_address_equal(&settings->own_addresses[i], address)) {
            return true;
        }
    }
    return !settings->loopback_is_remote && mx_address_loopback(address);
}

void mx_work_target_set(struct mx_work *work, unsigned index, uint16_t preference, struct bytes name)
{
    struct mx_work_target *target = &work->targets[index];
    CHECK(name.length <= sizeof target->name);
    target->preference = preference;
    target->name_length = (uint8_t)name.length;
    memcpy(target->name, name.data, name.length);
    target->own = own_name(work, name);
}

static void add_address(struct mx_work_target *target, const struct mx_address *address)
{
    struct mx_work_family *family = &target->families[address->family == AF_INET ? MX_WORK_IPV4 : MX_WORK_IPV6];
    target->own = target->own || own_address(target->work, address);
    if (family->count < MX_HOST_ADDRESSES_MAX) {
        family->addresses[family->count++] = *address;
    }
}

void mx_work_target_address(struct mx_work *work, unsigned index, const struct mx_address *address)
{
    add_address(&work->targets[index], address);
}

/* --- the end ---------------------------------------------------------------------------------------------------- */

static void finish(struct mx_work *work, struct mx_result *draft)
{
    uint64_t now_ms = resolver_shard(work->resolver)->now_ms;
    struct mx_lookup *lookup = work->lookup;
    draft->sure = work->sure;
    draft->expires_ms = work->expires_ms > now_ms ? work->expires_ms : now_ms + RETRY_MS;
    lookup->result = mx_result_new(draft);
    lookup->work = NULL;
    mx_work_delete(work);
}

void mx_work_fail(struct mx_work *work, enum mx_class class, const char *cause, const char *text)
{
    char room[MX_REASON_BYTES];
    struct buffer reason = buffer_of(room, sizeof room);
    const char *mark = strchr(text, '%');
    CHECK(mark != NULL);
    CHECK(cause == NULL || (buffer_append_string(&reason, cause) && buffer_append_string(&reason, " ")));
    CHECK(buffer_append(&reason, bytes_of(text, (size_t)(mark - text))) &&
          buffer_append(&reason, bytes_of(work->name, work->name_length)) && buffer_append_string(&reason, mark + 1));
    finish(work, &(struct mx_result){
                     .class = work->named ? MX_TEMPORARY : class,
                     .reason = buffer_bytes(&reason),
                 });
}

/* --- the verdict ------------------------------------------------------------------------------------------------ */

/* How many targets remain when we, and all that are no better than we, are dropped (RFC 5321 5.1). */
static unsigned better_than_us(const struct mx_work *work)
{
    const struct mx_work_target *targets = work->targets;
    unsigned remaining = 0;
    while (remaining < work->target_count && !targets[remaining].own) {
        remaining++;
    }
    if (remaining < work->target_count) {
        uint16_t ours = targets[remaining].preference;
        while (remaining > 0 && targets[remaining - 1].preference == ours) {
            remaining--;
        }
    }
    return remaining;
}

/* Families take turns, so that an unreachable one costs one attempt, not all. */
static unsigned interleave(const struct mx_work_target *target, struct mx_address *out)
{
    enum mx_family order = target->work->settings->family;
    unsigned first = order == MX_IPV4_FIRST || order == MX_IPV4_ONLY ? MX_WORK_IPV4 : MX_WORK_IPV6;
    unsigned count = 0;
    for (unsigned i = 0; i < MX_HOST_ADDRESSES_MAX; i++) {
        for (unsigned turn = 0; turn < MX_WORK_FAMILIES; turn++) {
            const struct mx_work_family *family = &target->families[first ^ turn];
            if (i < family->count && count < MX_HOST_ADDRESSES_MAX) {
                out[count++] = family->addresses[i];
            }
        }
    }
    return count;
}

/* None of the remaining targets has an address. */
static void conclude_nothing(struct mx_work *work, unsigned remaining)
{
    bool single = work->implicit || work->named;
    bool missing = true;
    for (unsigned i = 0; i < remaining; i++) {
        if (work->targets[i].cause != NULL) {
            mx_work_fail(work, MX_TEMPORARY, work->targets[i].cause,
                         single ? "for the address of %" : "for the address of an MX host of %");
            return;
        }
        missing = missing && work->targets[i].missing;
    }
    if (!single) {
        mx_work_fail(work, MX_NO_ROUTE, NULL, "no MX host of % has an address");
    } else if (missing) {
        mx_work_fail(work, MX_NO_DOMAIN, NULL, "% does not exist");
    } else {
        mx_work_fail(work, MX_NO_ROUTE, NULL,
                     work->named ? "% has no address" : "% has neither MX nor address records");
    }
}

void mx_work_conclude(struct mx_work *work)
{
    struct mx_host hosts[MX_HOSTS_MAX];
    struct mx_address addresses[MX_HOSTS_MAX][MX_HOST_ADDRESSES_MAX];
    unsigned remaining = better_than_us(work);
    unsigned count = 0;
    if (remaining == 0) {
        mx_work_fail(work, MX_LOOP, NULL, "mail for % loops back to this host");
        return;
    }
    for (unsigned i = 0; i < remaining; i++) {
        const struct mx_work_target *target = &work->targets[i];
        unsigned found = interleave(target, addresses[count]);
        if (found == 0) {
            continue;
        }
        hosts[count] = (struct mx_host){
            .name = bytes_of(target->name, target->name_length),
            .preference = target->preference,
            .authentic = target->authentic,
            .address_count = found,
            .addresses = addresses[count],
        };
        count++;
    }
    if (count == 0) {
        conclude_nothing(work, remaining);
        return;
    }
    finish(work, &(struct mx_result){
                     .class = MX_HOSTS,
                     .site = bytes_of(work->site, work->site_length),
                     .hosts = hosts,
                     .host_count = count,
                 });
}

/* --- address questions ------------------------------------------------------------------------------------------ */

const struct answer *mx_work_follow(struct mx_work *work, struct resolver_ask *ask, const struct answer *answer,
                                    enum answer_type type, uint8_t *aliases)
{
    static const struct answer too_long = {.status = ANSWER_TEMPORARY, .cause = "CNAME chain too long"};
    while (answer != NULL && answer->status == ANSWER_ALIAS) {
        char name[ANSWER_NAME_BYTES]; /* the answer may go when the next one is asked for */
        size_t length = answer->canonical.length;
        mx_work_limit_expiry(work, answer->expires_ms);
        *aliases = (uint8_t)(*aliases + answer->aliases);
        if (*aliases > ANSWER_ALIASES_MAX) {
            return &too_long;
        }
        memcpy(name, answer->canonical.data, length);
        answer = resolver_ask(work->resolver, ask, bytes_of(name, length), type);
    }
    return answer;
}

/* Beginning at a random one: to spread load over the addresses of a host is upon the resolver, and that is us. */
static void take_records(struct mx_work_family *family, const struct answer *answer, enum answer_type type)
{
    struct rng *rng = &resolver_shard(family->target->work->resolver)->rng;
    unsigned start = (unsigned)rng_below(rng, answer->count);
    for (unsigned i = 0; i < answer->count; i++) {
        struct bytes data = answer->records[(start + i) % answer->count].data;
        struct mx_address address = {.family = type == ANSWER_A ? AF_INET : AF_INET6};
        CHECK(data.length == (type == ANSWER_A ? 4 : 16));
        memcpy(address.bytes, data.data, data.length);
        add_address(family->target, &address);
    }
}

/* With what resolver_ask or `done` gave. */
static void address_step(struct mx_work_family *family, const struct answer *answer)
{
    struct mx_work_target *target = family->target;
    struct mx_work *work = target->work;
    enum answer_type type = family == &target->families[MX_WORK_IPV4] ? ANSWER_A : ANSWER_AAAA;
    answer = mx_work_follow(work, &family->ask, answer, type, &family->aliases);
    if (answer == NULL) {
        work->pending++;
        return;
    }
    mx_work_limit_expiry(work, answer->expires_ms);
    target->authentic = target->authentic && answer->authentic;
    switch (answer->status) {
    case ANSWER_RECORDS:
        target->own = target->own || own_name(work, answer->canonical);
        take_records(family, answer, type);
        break;
    case ANSWER_NO_DATA:
    case ANSWER_ALIAS: break;
    case ANSWER_NO_DOMAIN: target->missing = true; break;
    case ANSWER_TEMPORARY: target->cause = answer->cause; break;
    }
}

static void address_answered(struct resolver_ask *ask, const struct answer *answer)
{
    struct mx_work_family *family = CONTAINER_OF(ask, struct mx_work_family, ask);
    struct mx_work *work = family->target->work;
    struct mx_lookup *lookup = work->lookup;
    work->pending--;
    address_step(family, answer);
    if (work->pending == 0) {
        mx_work_conclude(work);
        lookup->done(lookup);
    }
}

static void ask_addresses(struct mx_work *work, struct mx_work_target *target)
{
    enum mx_family wanted = work->settings->family;
    struct bytes name = bytes_of(target->name, target->name_length);
    struct mx_work_family *ipv6 = &target->families[MX_WORK_IPV6];
    struct mx_work_family *ipv4 = &target->families[MX_WORK_IPV4];
    if (wanted != MX_IPV4_ONLY) {
        address_step(ipv6, resolver_ask(work->resolver, &ipv6->ask, name, ANSWER_AAAA));
    }
    if (wanted != MX_IPV6_ONLY) {
        address_step(ipv4, resolver_ask(work->resolver, &ipv4->ask, name, ANSWER_A));
    }
}

void mx_work_addresses(struct mx_work *work)
{
    unsigned worth_asking = better_than_us(work); /* as far as names tell */
    for (unsigned i = 0; i < worth_asking; i++) {
        ask_addresses(work, &work->targets[i]);
    }
    if (work->pending == 0) {
        mx_work_conclude(work);
    }
}
