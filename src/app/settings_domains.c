#include "app/settings_domains.h"

#include <stdlib.h>

#include "app/settings_check.h"
#include "app/settings_table.h"

#define TIB (1024 * GIB)
#define MAILDIR "maildir:"
#define LMTP "lmtp:"

static const char *const over_quota[] = {"defer", "refuse", NULL};

/* An absolute path with %u somewhere behind its beginning, so that every user has a directory of her own. */
static bool valid_template(const char *path)
{
    bool user = false;
    for (const char *c = path; *c != '\0'; c++) {
        if (*c == '%') {
            c++;
            if (*c != 'd' && *c != 'u') {
                return false;
            }
            user |= *c == 'u';
        }
    }
    size_t length = strlen(path);
    bool climbs = length >= 3 && strcmp(path + length - 3, "/..") == 0;
    return user && length < SETTINGS_MAILDIR_BYTES && settings_check_path(path) && !climbs;
}

static bool valid_deliver(const char *text)
{
    if (strncmp(text, MAILDIR, strlen(MAILDIR)) == 0) {
        return valid_template(text + strlen(MAILDIR));
    }
    return strcmp(text, "route") == 0 || (strncmp(text, LMTP, strlen(LMTP)) == 0 && settings_check_next_hop(text));
}

static bool valid_subaddress(const char *text)
{
    return text[0] == '\0' || (text[1] == '\0' && strchr("+-_=#~", text[0]) != NULL);
}

static bool valid_file(const char *text)
{
    return text[0] == '\0' || settings_check_path(text);
}

static void complete_domain(struct settings *settings, unsigned i)
{
    struct settings_domain *domain = &settings->domains[i];
    char path[64];
    if (domain->name == NULL) {
        domain->name = "";
        return; /* reported already */
    }
    char *name = config_copy(settings->config, bytes_of_string(domain->name));
    for (char *c = name; *c != '\0'; c++) {
        *c = bytes_ascii_lower(*c);
    }
    domain->name = name;
    domain->maildir = strncmp(domain->deliver, MAILDIR, strlen(MAILDIR)) == 0 ? domain->deliver + strlen(MAILDIR) : "";
    if (domain->maildir[0] != '\0' && domain->mailboxes[0] == '\0') {
        snprintf(path, sizeof path, "domains[%u].mailboxes", i);
        config_error(settings->config, path,
                     "%s is not given, expected the file that names the mailboxes to deliver to", path);
    }
    if (domain->maildir[0] == '\0' && (domain->quota_bytes != 0 || domain->quota_messages != 0)) {
        snprintf(path, sizeof path, "domains[%u].%s", i, domain->quota_bytes != 0 ? "quota" : "quota_messages");
        config_error(settings->config, path, "%s is given, expected none unless mail is delivered into Maildirs", path);
    }
}

static int compare_names(const void *a, const void *b)
{
    const struct settings_domain *const *left = a;
    const struct settings_domain *const *right = b;
    int order = strcmp((*left)->name, (*right)->name);
    return order != 0 ? order : (*left > *right) - (*left < *right);
}

static void check_duplicates(struct settings *settings)
{
    unsigned count = settings->domains_count;
    const struct settings_domain **places = calloc(count + 1, sizeof *places);
    CHECK(places != NULL);
    for (unsigned i = 0; i < count; i++) {
        places[i] = &settings->domains[i];
    }
    qsort(places, count, sizeof *places, compare_names);
    for (unsigned i = 1; i < count; i++) {
        if (places[i]->name[0] != '\0' && strcmp(places[i - 1]->name, places[i]->name) == 0) {
            char path[64];
            snprintf(path, sizeof path, "domains[%td].name", places[i] - settings->domains);
            config_error(settings->config, path, "%s is \"%s\" as that of domains[%td], expected each domain once",
                         path, places[i]->name, places[i - 1] - settings->domains);
        }
    }
    free(places);
}

void settings_domains_complete(struct settings *settings, config_report *report, void *context)
{
    for (unsigned i = 0; i < settings->domains_count; i++) {
        complete_domain(settings, i);
    }
    check_duplicates(settings);
    if (config_errors(settings->config) != 0) {
        return;
    }
    struct recipients_domain *domains = calloc(settings->domains_count + 1, sizeof *domains);
    CHECK(domains != NULL);
    for (unsigned i = 0; i < settings->domains_count; i++) {
        const struct settings_domain *from = &settings->domains[i];
        domains[i] = (struct recipients_domain){
            .name = bytes_of_string(from->name),
            .mailboxes = from->mailboxes,
            .aliases = from->aliases,
            .subaddress = from->subaddress[0],
        };
    }
    settings->recipients = recipients_load(domains, settings->domains_count, bytes_of_string(settings->hostname),
                                           report, context);
    free(domains);
}

const struct config_key settings_domains_keys[] = {
    {"name", CONFIG_TEXT, CONFIG_NAME, AT(settings_domain, name), RANGE(1, LIMIT_DOMAIN_BYTES), HOSTNAME},
    {"mailboxes", CONFIG_TEXT, 0, AT(settings_domain, mailboxes), RANGE(0, 200), DEFAULT("\"\""), .valid = valid_file,
     .expected = "the absolute path of a file, or \"\""},
    {"aliases", CONFIG_TEXT, 0, AT(settings_domain, aliases), RANGE(0, 200), DEFAULT("\"\""), .valid = valid_file,
     .expected = "the absolute path of a file, or \"\""},
    {"subaddress", CONFIG_TEXT, 0, AT(settings_domain, subaddress), RANGE(0, 1), DEFAULT("\"+\""),
     .valid = valid_subaddress, .expected = "one of + - _ = # ~, or \"\""},
    {"deliver", CONFIG_TEXT, 0, AT(settings_domain, deliver), RANGE(1, SETTINGS_MAILDIR_BYTES), DEFAULT("\"route\""),
     .valid = valid_deliver,
     .expected = "\"route\", \"lmtp:host:port\", \"lmtp:unix:/path\" or \"maildir:/path/%d/%u\""},
    {"quota", CONFIG_SIZE, 0, AT(settings_domain, quota_bytes), RANGE(0, 1024 * TIB), DEFAULT("0")},
    {"quota_messages", CONFIG_COUNT, 0, AT(settings_domain, quota_messages), RANGE(0, 1000 * MILLION), DEFAULT("0")},
    {"over_quota", CONFIG_CHOICE, 0, AT(settings_domain, over_quota), .choices = over_quota, DEFAULT("\"defer\"")},
    END,
};
