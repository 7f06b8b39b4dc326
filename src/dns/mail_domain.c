#include "dns/mail_domain.h"

#include <string.h>

#include "base/check.h"
#include "dns/question.h"

/* "." among real hosts is void, as in dns/mx. */
static enum mail_domain_answer judge_records(const struct answer *answer)
{
    for (unsigned i = 0; i < answer->count; i++) {
        if (!bytes_equal(answer->records[i].data, BYTES("."))) {
            return MAIL_DOMAIN_OPEN;
        }
    }
    return MAIL_DOMAIN_NULL_MX;
}

static enum mail_domain_answer judge(const struct answer *answer)
{
    switch (answer->status) {
    case ANSWER_RECORDS: return judge_records(answer);
    case ANSWER_NO_DATA: return MAIL_DOMAIN_OPEN;
    case ANSWER_NO_DOMAIN: return MAIL_DOMAIN_MISSING;
    case ANSWER_ALIAS:
    case ANSWER_TEMPORARY: break;
    }
    return MAIL_DOMAIN_UNKNOWN;
}

/* With what the resolver gave: asks on to the end of a chain of aliases. True when there is an answer. */
static bool follow(struct mail_domain *domain, const struct answer *answer, enum mail_domain_answer *ret_answer)
{
    while (answer != NULL && answer->status == ANSWER_ALIAS) {
        char name[ANSWER_NAME_BYTES]; /* the answer may go when the next one is asked for */
        size_t length = answer->canonical.length;
        unsigned aliases = domain->aliases + answer->aliases;
        if (aliases > ANSWER_ALIASES_MAX || !question_name_valid(answer->canonical)) {
            break;
        }
        domain->aliases = (uint8_t)aliases;
        memcpy(name, answer->canonical.data, length);
        answer = resolver_ask_spare(domain->resolver, &domain->ask, bytes_of(name, length), ANSWER_MX);
    }
    if (answer != NULL) {
        *ret_answer = judge(answer);
    }
    return answer != NULL;
}

static void answered(struct resolver_ask *ask, const struct answer *answer)
{
    struct mail_domain *domain = CONTAINER_OF(ask, struct mail_domain, ask);
    enum mail_domain_answer result;
    if (follow(domain, answer, &result)) {
        domain->done(domain, result);
    }
}

void mail_domain_init(struct mail_domain *domain, void (*done)(struct mail_domain *, enum mail_domain_answer))
{
    *domain = (struct mail_domain){.done = done};
    resolver_ask_init(&domain->ask, answered);
}

bool mail_domain_ask(struct mail_domain *domain, struct resolver *resolver, struct bytes name,
                     enum mail_domain_answer *ret_answer)
{
    if (!question_name_valid(name)) {
        *ret_answer = MAIL_DOMAIN_UNKNOWN; /* nobody has said that it does not exist */
        return true;
    }
    domain->resolver = resolver;
    domain->aliases = 0;
    return follow(domain, resolver_ask_spare(resolver, &domain->ask, name, ANSWER_MX), ret_answer);
}

void mail_domain_cancel(struct mail_domain *domain)
{
    resolver_ask_cancel(&domain->ask);
}
