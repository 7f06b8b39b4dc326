#include "inbound/throttle.h"

#include "inbound/guard.h"

#define TEXT(text)               \
    {                            \
        (text), sizeof(text) - 1 \
    }

/* The scope is told: a client cannot act on "too fast" alone. By enum rate_scope. */
static const struct reply connection_refusals[RATE_SCOPES] = {
    {421, {4, 7, 0}, TEXT("Too many connections or errors from your address, try again later")},
    {421, {4, 7, 0}, TEXT("Too many connections or errors from your network, try again later")},
    {421, {4, 7, 0}, TEXT("Too many errors of your account, try again later")},
    {421, {4, 3, 2}, TEXT("Too many connections in a short time, try again later")},
};
static const struct reply message_refusals[RATE_SCOPES] = {
    {450, {4, 7, 1}, TEXT("Your address has sent too much in a short time, try again later")},
    {450, {4, 7, 1}, TEXT("Your network has sent too much in a short time, try again later")},
    {450, {4, 7, 1}, TEXT("Your account has sent too much in a short time, try again later")},
    {450, {4, 3, 2}, TEXT("Too much mail in a short time, try again later")},
};
static const struct reply recipient_refusals[RATE_SCOPES] = {
    {450, {4, 7, 1}, TEXT("Too many recipients from your address in a short time, try again later")},
    {450, {4, 7, 1}, TEXT("Too many recipients from your network in a short time, try again later")},
    {450, {4, 7, 1}, TEXT("Too many recipients of your account in a short time, try again later")},
    {450, {4, 3, 2}, TEXT("Too many recipients in a short time, try again later")},
};
static const struct reply no_memory = {452, {4, 3, 1}, TEXT("This host is short of memory, try again later")};

static struct rate_subject subject_of(const struct inbound *inbound, const struct throttle_client *client)
{
    return (struct rate_subject){
        .peer = client->peer,
        .account = client->account,
        .listener = client->listener,
        .metrics = inbound->shard->metrics,
    };
}

const struct reply *throttle_connection(const struct inbound *inbound, const struct profile *profile,
                                        const struct throttle_client *client)
{
    struct rate_table *table = admission_rates(inbound->admission);
    struct rate_subject subject = subject_of(inbound, client);
    struct rate_refusal refusal;
    if (table == NULL || (rate_left(table, &profile->rates, RATE_ERRORS, &subject, &refusal) &&
                          rate_take(table, &profile->rates, RATE_CONNECTIONS, &subject, 1, &refusal))) {
        return NULL;
    }
    return &connection_refusals[refusal.scope];
}

const struct reply *throttle_message(const struct inbound *inbound, const struct profile *profile,
                                     const struct throttle_client *client)
{
    struct rate_table *table = admission_rates(inbound->admission);
    struct guard *guard = admission_guard(inbound->admission);
    struct rate_subject subject = subject_of(inbound, client);
    struct rate_refusal refusal;
    if (guard != NULL && guard_short(guard, inbound->shard->now_ms)) {
        metric_add(&inbound->shard->metrics->memory_refusals, 1);
        return &no_memory;
    }
    if (table == NULL || (rate_left(table, &profile->rates, RATE_BYTES, &subject, &refusal) &&
                          rate_take(table, &profile->rates, RATE_MESSAGES, &subject, 1, &refusal))) {
        return NULL;
    }
    return &message_refusals[refusal.scope];
}

const struct reply *throttle_recipient(const struct inbound *inbound, const struct profile *profile,
                                       const struct throttle_client *client)
{
    struct rate_table *table = admission_rates(inbound->admission);
    struct rate_subject subject = subject_of(inbound, client);
    struct rate_refusal refusal;
    if (table == NULL || rate_take(table, &profile->rates, RATE_RECIPIENTS, &subject, 1, &refusal)) {
        return NULL;
    }
    return &recipient_refusals[refusal.scope];
}

void throttle_bytes(const struct inbound *inbound, const struct profile *profile, const struct throttle_client *client,
                    uint64_t bytes)
{
    struct rate_table *table = admission_rates(inbound->admission);
    struct rate_subject subject = subject_of(inbound, client);
    if (table != NULL) {
        rate_charge(table, &profile->rates, RATE_BYTES, &subject, bytes);
    }
}

const struct reply *throttle_error(const struct inbound *inbound, const struct profile *profile,
                                   const struct throttle_client *client)
{
    struct rate_table *table = admission_rates(inbound->admission);
    struct rate_subject subject = subject_of(inbound, client);
    struct rate_refusal refusal;
    if (table == NULL) {
        return NULL;
    }
    rate_charge(table, &profile->rates, RATE_ERRORS, &subject, 1);
    return rate_left(table, &profile->rates, RATE_ERRORS, &subject, &refusal) ? NULL
                                                                              : &connection_refusals[refusal.scope];
}
