#include "sim/names.h"

#include <stdio.h>
#include <string.h>

const struct domain names_domains[] = {
    {"senders.sim", DOMAIN_SENDERS, {1, 2, 0}}, {"alpha.sim", DOMAIN_PLAIN, {3, 4, 0}},
    {"beta.sim", DOMAIN_PLAIN, {3, 4, 0}},      {"gamma.sim", DOMAIN_PLAIN, {5, 0, 0}},
    {"delta.sim", DOMAIN_PLAIN, {6, 7, 8}},     {"direct.sim", DOMAIN_DIRECT, {9, 0, 0}},
    {"dead.sim", DOMAIN_DEAD, {10, 0, 0}},      {"none.sim", DOMAIN_NONE, {0, 0, 0}},
    {"null.sim", DOMAIN_NULL, {0, 0, 0}},       {"fails.sim", DOMAIN_FAILS, {0, 0, 0}},
};
const unsigned names_domain_count = sizeof names_domains / sizeof names_domains[0];

const struct domain *names_find(const char *name, unsigned length)
{
    for (unsigned i = 0; i < names_domain_count; i++) {
        if (strlen(names_domains[i].name) == length && memcmp(names_domains[i].name, name, length) == 0) {
            return &names_domains[i];
        }
    }
    return NULL;
}

unsigned names_host(const char *name, unsigned length)
{
    char text[64];
    unsigned number = 0;
    snprintf(text, sizeof text, "%.*s", (int)length, name);
    return sscanf(text, "mx%u.hosts.sim", &number) == 1 ? number : 0;
}

bool names_fails(const struct domain *domain)
{
    return domain->kind == DOMAIN_NONE || domain->kind == DOMAIN_NULL;
}
